//! A registry as the place that is written to.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::catalog::{document_digest, document_path, said_digest};
use super::download::{self, Holder, not_its_word};
use super::endpoint::{Access, Call, Endpoint, Payload, Target};
use super::retry::Failure;
use super::subjects::{Subjects, fallback_tag, merged};
use super::upload::Upload;
use super::{Client, fault};
use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Document, Host, MediaType, Repository, Selector, Tag};
use crate::place::{BlobId, Body, Catalog, Chunks, Contents, Destination, LandingId, Linked, Order, Presence, ScopeId};

/// A registry, or a part of one below a prefix, that is written to.
pub struct RegistryDestination {
    endpoint: Arc<Endpoint>,
    prefix: Option<Repository>,
    client: Client,
    subjects: Subjects,
}

impl RegistryDestination {
    /// Everything lands in `host`, its scopes below `prefix`.
    pub fn new(client: &Client, host: &Host, prefix: Option<Repository>) -> Self {
        RegistryDestination {
            endpoint: client.endpoint(host),
            prefix,
            client: client.clone(),
            subjects: Subjects::default(),
        }
    }

    /// The repository in which a scope lands.
    pub fn repository(&self, contents: &Contents, scope: ScopeId) -> Result<Repository> {
        let scope = contents.scope(scope);
        match &self.prefix {
            None => Ok(scope.clone()),
            Some(prefix) => scope.below(prefix).map_err(|e| {
                Error::usage(format!("{scope} cannot land below {prefix}")).caused_by(e).hint("use a shorter prefix")
            }),
        }
    }

    fn upload(&self, contents: &Contents, blob: BlobId, scope: ScopeId) -> Result<Upload> {
        let blob = contents.blob(blob);
        Ok(Upload {
            endpoint: self.endpoint.clone(),
            repository: self.repository(contents, scope)?,
            digest: blob.digest,
            size: blob.size,
        })
    }

    /// Returns whether the registry says that it took notice of the document's subject.
    async fn put_document(&self, call: &Call, bytes: &Bytes, digest: Digest) -> Result<bool, Failure> {
        let response = self.endpoint.send(call, Payload::Bytes(bytes.clone())).await?;
        let response = response.expect(&[StatusCode::CREATED, StatusCode::OK, StatusCode::ACCEPTED]).await?;
        let host = self.endpoint.host();
        match said_digest(&response, host).map_err(Failure::lasting)? {
            Some(said) if said != digest => {
                Err(Failure::lasting(fault::protocol(host, format!("it took manifest {digest} for {said}"))))
            }
            _ => Ok(response.header("oci-subject").is_some()),
        }
    }

    fn put_call(&self, repository: &Repository, selector: &Selector, media_type: &str) -> Call {
        let what = format!("push {}/{repository}{selector}", self.endpoint.host());
        let target = Target::Path(document_path(repository, selector));
        Call::new(Method::PUT, target, Access::Push(repository.clone()), what)
            .header(CONTENT_TYPE, media_type)
            .patience(self.endpoint.settings().commit_timeout)
    }

    /// Adds what was pushed to the index of referrers that clients look for where there is no API.
    async fn keep_fallback(&self, repository: &Repository, subject: Digest, entries: Vec<Value>) -> Result<()> {
        let selector = Selector::Tag(fallback_tag(subject));
        let there = match self.client.document(self.endpoint.host(), repository, &selector).await {
            Ok(document) => Some(document),
            Err(error) if error.kind() == Kind::NotFound => None,
            Err(error) => return Err(error),
        };
        let merged = merged(there.as_ref(), entries).map_err(|e| {
            e.context(format!("cannot list referrers under {}/{repository}{selector}", self.endpoint.host()))
        })?;
        if let Some(bytes) = merged {
            let call = self.put_call(repository, &selector, MediaType::OCI_INDEX);
            self.endpoint.budget().run(|| self.put_document(&call, &bytes, Digest::of(&bytes))).await?;
        }
        Ok(())
    }

    /// Whether the tag points to `digest` now.
    async fn check_tag(&self, repository: &Repository, tag: &Tag, digest: Digest) -> Result<(), Failure> {
        let host = self.endpoint.host();
        let selector = Selector::Tag(tag.clone());
        let what = format!("read back {host}/{repository}{selector}");
        let target = Target::Path(document_path(repository, &selector));
        let call = Call::new(Method::HEAD, target, Access::Pull(repository.clone()), what).accept_documents();
        let response = self.endpoint.send(&call, Payload::Nothing).await?;
        let found = match response.status() {
            // Just written, it may take a moment to be seen.
            StatusCode::NOT_FOUND => return Err(Failure::passing(response.refusal().await.into_error())),
            StatusCode::OK => said_digest(&response, host).map_err(Failure::lasting)?,
            StatusCode::METHOD_NOT_ALLOWED => None,
            _ => return Err(response.refusal().await),
        };
        let found = match found {
            Some(found) => found,
            None => document_digest(&self.endpoint, repository, &selector).await?,
        };
        if found == digest {
            return Ok(());
        }
        Err(Failure::passing(
            Error::registry(format!("{host}/{repository}{selector} is {found} after {digest} was pushed there"))
                .hint("someone else pushes to the same tag, or the registry converts images: digests must not change"),
        ))
    }
}

#[async_trait]
impl Destination for RegistryDestination {
    fn order(&self) -> Order {
        Order::Any
    }

    async fn prepare(&self, contents: &Contents) -> Result<HashSet<BlobId>> {
        for (number, _) in contents.scopes.iter().enumerate() {
            self.repository(contents, ScopeId(number as u32))?;
        }
        let host = self.endpoint.host();
        let call = Call::get(String::new(), Access::None, format!("use {host} as a registry"));
        self.endpoint
            .budget()
            .run(async || {
                let response = self.endpoint.send(&call, Payload::Nothing).await?;
                match response.status() {
                    StatusCode::NOT_FOUND => Err(Failure::lasting(
                        Error::registry(format!("{host} answers, but not as a registry does: there is no /v2/"))
                            .hint("check host and port"),
                    )),
                    _ => response.expect(&[StatusCode::OK]).await.map(drop),
                }
            })
            .await?;
        Ok(HashSet::new())
    }

    async fn presence(&self, contents: &Contents, blob: BlobId, scope: ScopeId) -> Result<Presence> {
        let (blob, repository) = (contents.blob(blob), self.repository(contents, scope)?);
        let (host, digest) = (self.endpoint.host(), blob.digest);
        let what = format!("ask {host}/{repository} for blob {digest}");
        let target = Target::Path(format!("{repository}/blobs/{digest}"));
        let call = Call::new(Method::HEAD, target, Access::Pull(repository.clone()), what);
        self.endpoint
            .budget()
            .run(async || {
                let response = self.endpoint.send(&call, Payload::Nothing).await?;
                match response.status() {
                    StatusCode::NOT_FOUND => Ok(Presence::Absent),
                    StatusCode::OK => match response.content_length() {
                        Some(found) if found != blob.size => Err(Failure::lasting(not_its_word(
                            &format!("{host}/{repository}"),
                            digest,
                            &format!("it has {found} bytes there, not {}", blob.size),
                        ))),
                        _ => Ok(Presence::Here),
                    },
                    _ => Err(response.refusal().await),
                }
            })
            .await
    }

    async fn put(&self, contents: &Contents, blob: BlobId, scope: ScopeId, body: &mut Body) -> Result<()> {
        let upload = self.upload(contents, blob, scope)?;
        match body.replayable() {
            true => upload.stream(body).await,
            false => upload.pieces(body).await,
        }
    }

    async fn link(&self, contents: &Contents, blob: BlobId, from: ScopeId, to: ScopeId) -> Result<Linked> {
        self.upload(contents, blob, to)?.mount(&self.repository(contents, from)?).await
    }

    async fn read_back(&self, contents: &Contents, blob: BlobId, scope: ScopeId) -> Result<Chunks> {
        let (blob, repository) = (contents.blob(blob), self.repository(contents, scope)?);
        let holder = Holder { endpoint: self.endpoint.clone(), repository };
        download::open(vec![holder], blob.digest, blob.size, 0).await
    }

    async fn land(&self, contents: &Contents, landing: LandingId) -> Result<()> {
        let landing = contents.landing(landing);
        let repository = self.repository(contents, landing.scope)?;
        let (bytes, media_type) = contents.documents.get(landing.document)?;
        let selector = match &landing.tag {
            Some(tag) => Selector::Tag(tag.clone()),
            None => Selector::Digest(landing.document),
        };
        let call = self.put_call(&repository, &selector, media_type.as_str());
        let mut budget = self.endpoint.budget();
        let noticed = budget.run(|| self.put_document(&call, &bytes, landing.document)).await?;
        if !noticed {
            let document = Document::parse_known(bytes, media_type, landing.document)?;
            if let Some(subject) = document.subject() {
                self.subjects.note(&repository, subject.digest, &document);
            }
        }
        if let Some(tag) = &landing.tag {
            budget.run(|| self.check_tag(&repository, tag, landing.document)).await?;
        }
        Ok(())
    }

    async fn commit(&self, contents: &Contents) -> Result<()> {
        for ((repository, subject), entries) in self.subjects.take() {
            let tag = fallback_tag(subject);
            // A name that was carried is never changed: it holds the list as it was sealed.
            let carried = contents.landing_ids().map(|id| contents.landing(id)).any(|landing| {
                landing.tag.as_ref() == Some(&tag)
                    && self.repository(contents, landing.scope).is_ok_and(|r| r == repository)
            });
            if !carried {
                self.keep_fallback(&repository, subject, entries).await?;
            }
        }
        Ok(())
    }
}
