//! A registry as the place that is written to.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};

use super::catalog::{document_digest, document_path, said_digest};
use super::download::{self, Holder, not_its_word};
use super::endpoint::{Access, Call, Endpoint, Payload, Target};
use super::retry::Failure;
use super::upload::Upload;
use super::{Client, fault};
use crate::error::{Error, Result};
use crate::oci::{Digest, Host, Repository, Selector, Tag};
use crate::place::{BlobId, Body, Chunks, Contents, Destination, LandingId, Linked, Order, Presence, ScopeId};

/// A registry, or a part of one below a prefix, that is written to.
pub struct RegistryDestination {
    endpoint: Arc<Endpoint>,
    prefix: Option<Repository>,
}

impl RegistryDestination {
    /// Everything lands in `host`, its scopes below `prefix`.
    pub fn new(client: &Client, host: &Host, prefix: Option<Repository>) -> Self {
        RegistryDestination { endpoint: client.endpoint(host), prefix }
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

    async fn put_document(&self, call: &Call, bytes: &Bytes, digest: Digest) -> Result<(), Failure> {
        let response = self.endpoint.send(call, Payload::Bytes(bytes.clone())).await?;
        let response = response.expect(&[StatusCode::CREATED, StatusCode::OK, StatusCode::ACCEPTED]).await?;
        let host = self.endpoint.host();
        match said_digest(&response, host).map_err(Failure::lasting)? {
            Some(said) if said != digest => {
                Err(Failure::lasting(fault::protocol(host, format!("it took manifest {digest} for {said}"))))
            }
            _ => Ok(()),
        }
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
        let what = format!("push {}/{repository}{selector}", self.endpoint.host());
        let target = Target::Path(document_path(&repository, &selector));
        let call = Call::new(Method::PUT, target, Access::Push(repository.clone()), what)
            .header(CONTENT_TYPE, media_type.as_str())
            .patience(self.endpoint.settings().commit_timeout);
        let mut budget = self.endpoint.budget();
        budget.run(|| self.put_document(&call, &bytes, landing.document)).await?;
        if let Some(tag) = &landing.tag {
            budget.run(|| self.check_tag(&repository, tag, landing.document)).await?;
        }
        Ok(())
    }

    async fn commit(&self, _: &Contents) -> Result<()> {
        Ok(())
    }
}
