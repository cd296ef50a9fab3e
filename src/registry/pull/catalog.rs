//! What planning asks of a registry: tags, manifests and indexes, referrers.

use async_trait::async_trait;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};

use super::documents::{document_call, document_path, fetch, read_document, said_digest};
use super::referrers::list_referrers;
use super::tags;
use crate::content::{Catalog, ResolvedTag, Tags};
use crate::error::Result;
use crate::oci::{Descriptor, Digest, Document, Host, MediaType, Repository, Selector, Tag};
use crate::registry::client::Client;
use crate::registry::client::endpoint::Endpoint;
use crate::registry::client::places::{Place, Wanted};
use crate::registry::http::call::{Access, Call, CallTarget, Payload};
use crate::registry::http::retry::AttemptError;

#[async_trait]
impl Catalog for Client {
    async fn tags(&self, host: &Host, repository: &Repository) -> Result<Tags> {
        let (tags, skipped) = tags::list(&*self.listing(host, repository)?, repository).await?;
        self.warned().warn(host, repository, &skipped, &*self.settings().progress);
        Ok(tags)
    }

    async fn document(&self, host: &Host, repository: &Repository, selector: &Selector) -> Result<Document> {
        self.read_at((host, repository), Wanted::of(selector), |place, _| document(place, selector)).await
    }

    async fn resolve(&self, host: &Host, repository: &Repository, tag: &Tag) -> Result<Option<ResolvedTag>> {
        self.read_at((host, repository), Wanted::Tag, |place, is_only| current_at(place, tag, is_only)).await
    }

    async fn referrers(&self, host: &Host, repository: &Repository, digest: Digest) -> Result<Option<Vec<Descriptor>>> {
        let read = async |place: Place| list_referrers(&place.endpoint, &place.repository, digest).await;
        self.read_at((host, repository), Wanted::Below, |place, _| read(place)).await
    }

    async fn has_blob(&self, host: &Host, repository: &Repository, digest: Digest) -> Result<bool> {
        self.read_at((host, repository), Wanted::Below, |place, _| has_blob(place, digest)).await
    }
}

async fn document(place: Place, selector: &Selector) -> Result<Document> {
    let Place { endpoint, repository, .. } = &place;
    let call = document_call(endpoint, repository, selector);
    let served = endpoint.budget().run(|| fetch(endpoint, &call)).await?;
    read_document(endpoint.host(), repository, selector, served)
}

/// What a tag points to. Where another location may have it, HEAD must say, or the manifest is read: nothing would
/// mean that it is elsewhere.
async fn current_at(place: Place, tag: &Tag, is_only: bool) -> Result<Option<ResolvedTag>> {
    let endpoint = &place.endpoint;
    let found = endpoint.budget().run(|| current(endpoint, &place.repository, tag)).await?;
    if found.is_some() || is_only {
        return Ok(found);
    }
    let document = document(place.clone(), &Selector::Tag(tag.clone())).await?;
    Ok(Some(ResolvedTag { digest: document.digest(), media_type: document.media_type().clone() }))
}

async fn has_blob(place: Place, digest: Digest) -> Result<bool> {
    let Place { endpoint, repository, .. } = &place;
    let what = format!("ask {}/{repository} for blob {digest}", endpoint.host());
    let target = CallTarget::Path(format!("{repository}/blobs/{digest}"));
    let call = Call::new(Method::HEAD, target, Access::Pull(repository.clone()), what);
    let by_get = Call { method: Method::GET, ..call.clone() };
    endpoint
        .budget()
        .run(async || {
            let mut response = endpoint.send(&call, Payload::Nothing).await?;
            if response.head_unsupported() {
                // Only its head is read.
                response = endpoint.send(&by_get, Payload::Nothing).await?;
            }
            match response.status() {
                StatusCode::OK if response.is_web_page() => Err(AttemptError::permanent(response.web_page())),
                StatusCode::OK => Ok(true),
                StatusCode::NOT_FOUND => Ok(false),
                _ => Err(response.refusal().await),
            }
        })
        .await
}

/// HEAD of what a tag points to. Nothing where it is not there, or where HEAD tells nothing.
async fn current(endpoint: &Endpoint, repository: &Repository, tag: &Tag) -> Result<Option<ResolvedTag>, AttemptError> {
    let host = endpoint.host();
    let target = CallTarget::Path(document_path(repository, &Selector::Tag(tag.clone())));
    let what = format!("look at {host}/{repository}:{tag}");
    let call = Call::new(Method::HEAD, target, Access::Pull(repository.clone()), what).accept_documents();
    let response = endpoint.send(&call, Payload::Nothing).await?;
    match response.status() {
        StatusCode::OK => {
            let said = said_digest(&response, host).map_err(AttemptError::permanent)?;
            let media_type = MediaType::new(response.header(CONTENT_TYPE).unwrap_or_default());
            Ok(said.map(|digest| ResolvedTag { digest, media_type }))
        }
        // Where HEAD is unknown it may be answered so, too.
        StatusCode::NOT_FOUND => Ok(None),
        _ if response.head_unsupported() => Ok(None),
        _ => Err(response.refusal().await),
    }
}
