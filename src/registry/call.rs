//! A request as it is asked for: what, where, with which rights; not yet how it gets there.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::limits::Turn;
use super::redirect::Zone;
use crate::oci::{MediaType, Repository};
use crate::place::Chunks;

/// A request, except for its payload. It can be sent many times.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) target: Target,
    pub(super) access: Access,
    pub(super) what: String,
    pub(super) headers: HeaderMap,
    /// How long the answer may take once everything is sent; nothing means the read timeout.
    pub(super) patience: Option<Duration>,
    pub(super) turn: Turn,
    /// Public if a public server, other than the registry, has sent it on.
    pub(super) through: Zone,
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// Below `/v2/` of this host.
    Path(String),
    /// Where the registry said: perhaps another host.
    Url(Url),
}

/// What a request needs to be allowed to do, for the tokens that are asked for.
#[derive(Debug, Clone)]
pub(super) enum Access {
    /// Nothing: the registry itself.
    None,
    /// Read in a repository.
    Pull(Repository),
    /// Read and write in a repository.
    Push(Repository),
    /// Write in one repository what is read in another.
    Mount {
        /// Written to.
        to: Repository,
        /// Read from.
        from: Repository,
    },
}

/// The body of a request.
pub(super) enum Payload {
    /// No body and no length: GET, HEAD, DELETE.
    Nothing,
    /// Bytes in memory; empty ones are sent as `Content-Length: 0`, which some registries demand.
    Bytes(Bytes),
    /// A stream of exactly `size` bytes. A redirect of it is handed back, not followed.
    Stream {
        /// The bytes.
        chunks: Chunks,
        /// How many.
        size: u64,
    },
}

impl Call {
    /// A request; `what` says what it is for, so that it can stand after `cannot `.
    pub(super) fn new(method: Method, target: Target, access: Access, what: impl Into<String>) -> Self {
        Call {
            method,
            target,
            access,
            what: what.into(),
            headers: HeaderMap::new(),
            patience: None,
            turn: Turn::Waits,
            through: Zone::Private,
        }
    }

    /// GET below `/v2/`.
    pub(super) fn get(path: String, access: Access, what: impl Into<String>) -> Self {
        Call::new(Method::GET, Target::Path(path), access, what)
    }

    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        // Everything that is put here is made of digests, numbers and media types.
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Asks for manifests and indexes; schema 1 too, so that it is refused by name and not as missing.
    pub(super) fn accept_documents(self) -> Self {
        let types: Vec<&str> = MediaType::DOCUMENTS.into_iter().chain(MediaType::DOCKER_SCHEMA1).collect();
        self.header(ACCEPT, &types.join(", "))
    }

    /// How long the answer may take once everything is sent.
    pub(super) fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// The same request with what the registry wants to see.
    pub(super) fn showing(&self, authorization: Option<HeaderValue>) -> Self {
        let mut call = self.clone();
        if let Some(authorization) = authorization {
            call.headers.insert(AUTHORIZATION, authorization);
        }
        call
    }

    /// Whether it waits for others: not when it goes on with a body of which a part has been handed on.
    pub(super) fn turn(mut self, turn: Turn) -> Self {
        self.turn = turn;
        self
    }

    /// The same request to where a redirect points.
    pub(super) fn redirected(&self, url: Url) -> Self {
        Call { target: Target::Url(url), ..self.clone() }
    }

    /// The same after a server in this zone has sent it on.
    pub(super) fn sent_through(self, zone: Zone) -> Self {
        Call { through: self.through.and(zone), ..self }
    }

    /// The repository whose upload this request is about, if it goes to where the registry said.
    pub(super) fn upload_to(&self) -> Option<&Repository> {
        match (&self.target, &self.access) {
            (Target::Url(_), Access::Push(repository)) => Some(repository),
            _ => None,
        }
    }
}

impl Access {
    /// Whose credentials are shown: those of the repository that is written to, or read.
    pub(super) fn repository(&self) -> Option<&Repository> {
        match self {
            Access::None => None,
            Access::Pull(repository) | Access::Push(repository) | Access::Mount { to: repository, .. } => {
                Some(repository)
            }
        }
    }

    /// The scopes of a token for it (distribution's token specification).
    pub(super) fn scopes(&self) -> Vec<String> {
        let scope = |repository: &Repository, actions: &str| format!("repository:{repository}:{actions}");
        match self {
            Access::None => vec![],
            Access::Pull(repository) => vec![scope(repository, "pull")],
            Access::Push(repository) => vec![scope(repository, "pull,push")],
            Access::Mount { to, from } => vec![scope(to, "pull,push"), scope(from, "pull")],
        }
    }
}

impl Payload {
    /// In bytes.
    pub(super) fn size(&self) -> u64 {
        match self {
            Payload::Nothing => 0,
            Payload::Bytes(bytes) => bytes.len() as u64,
            Payload::Stream { size, .. } => *size,
        }
    }

    /// The same once more; nothing for a stream, which can be sent once.
    pub(super) fn copy(&self) -> Option<Payload> {
        match self {
            Payload::Nothing => Some(Payload::Nothing),
            Payload::Bytes(bytes) => Some(Payload::Bytes(bytes.clone())),
            Payload::Stream { .. } => None,
        }
    }
}
