//! A request as it is asked for: what, where, with which rights; not yet how it gets there.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::limits::Priority;
use super::redirect::Zone;
use crate::content::Chunks;
use crate::oci::{MediaType, Repository};

/// A request, except for its payload. It can be sent many times.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) target: CallTarget,
    pub(crate) access: Access,
    pub(crate) what: String,
    pub(crate) headers: HeaderMap,
    /// How long the answer may take once everything is sent; nothing means the read timeout.
    pub(crate) patience: Option<Duration>,
    pub(crate) turn: Priority,
    /// Public if a public server, other than the registry, has sent it on.
    pub(crate) through: Zone,
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub(crate) enum CallTarget {
    /// Below `/v2/` of this host.
    Path(String),
    /// Where the registry said: perhaps another host.
    Url(Url),
}

/// What a request needs to be allowed to do, for the tokens that are asked for.
#[derive(Debug, Clone)]
pub(crate) enum Access {
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
pub(crate) enum Payload {
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
    pub(crate) fn new(method: Method, target: CallTarget, access: Access, what: impl Into<String>) -> Self {
        Call {
            method,
            target,
            access,
            what: what.into(),
            headers: HeaderMap::new(),
            patience: None,
            turn: Priority::Waits,
            through: Zone::Private,
        }
    }

    /// GET below `/v2/`.
    pub(crate) fn get(path: String, access: Access, what: impl Into<String>) -> Self {
        Call::new(Method::GET, CallTarget::Path(path), access, what)
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        // Everything that is put here is made of digests, numbers and media types.
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Asks for manifests and indexes; schema 1 too, so that it is refused by name and not as missing.
    pub(crate) fn accept_documents(self) -> Self {
        let types: Vec<&str> = MediaType::DOCUMENTS.into_iter().chain(MediaType::DOCKER_SCHEMA1).collect();
        self.header(ACCEPT, &types.join(", "))
    }

    /// How long the answer may take once everything is sent.
    pub(crate) fn response_timeout(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// The same request with what the registry wants to see.
    pub(crate) fn with_authorization(&self, authorization: Option<HeaderValue>) -> Self {
        let mut call = self.clone();
        if let Some(authorization) = authorization {
            call.headers.insert(AUTHORIZATION, authorization);
        }
        call
    }

    /// Whether it waits for others: not when it goes on with a body of which a part has been handed on.
    pub(crate) fn turn(mut self, turn: Priority) -> Self {
        self.turn = turn;
        self
    }

    /// The same request to where a redirect points.
    pub(crate) fn redirected(&self, url: Url) -> Self {
        Call { target: CallTarget::Url(url), ..self.clone() }
    }

    /// The same after a server in this zone has sent it on.
    pub(crate) fn sent_through(self, zone: Zone) -> Self {
        Call { through: self.through.and(zone), ..self }
    }

    /// The repository whose upload this request is about, if it goes to where the registry said.
    pub(crate) fn upload_to(&self) -> Option<&Repository> {
        match (&self.target, &self.access) {
            (CallTarget::Url(_), Access::Push(repository)) => Some(repository),
            _ => None,
        }
    }
}

impl Access {
    /// Whose credentials are shown: those of the repository that is written to, or read.
    pub(crate) fn repository(&self) -> Option<&Repository> {
        match self {
            Access::None => None,
            Access::Pull(repository) | Access::Push(repository) | Access::Mount { to: repository, .. } => {
                Some(repository)
            }
        }
    }

    /// The scopes of a token for it (distribution's token specification).
    pub(crate) fn scopes(&self) -> Vec<String> {
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
    pub(crate) fn size(&self) -> u64 {
        match self {
            Payload::Nothing => 0,
            Payload::Bytes(bytes) => bytes.len() as u64,
            Payload::Stream { size, .. } => *size,
        }
    }

    /// The same once more; nothing for a stream, which can be sent once.
    pub(crate) fn copy(&self) -> Option<Payload> {
        match self {
            Payload::Nothing => Some(Payload::Nothing),
            Payload::Bytes(bytes) => Some(Payload::Bytes(bytes.clone())),
            Payload::Stream { .. } => None,
        }
    }
}
