//! Puts manifests, and retries what a registry refuses for its blobs.

use std::fmt;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};

use super::registry::RegistryDestination;
use crate::content::{BlobId, BlobStatus, Contents, MissingBlobs, PlannedManifest};
use crate::error::{Error, Result};
use crate::oci::{Digest, Repository, Selector};
use crate::registry::client::endpoint::Endpoint;
use crate::registry::http::call::{Access, Call, CallTarget, Payload};
use crate::registry::http::error;
use crate::registry::http::limits::Priority;
use crate::registry::http::retry::{AttemptError, Budget, Known};
use crate::registry::pull::documents::{document_path, said_digest};

/// A repository and what is named in it; shown as `path:tag` or `path@digest`.
pub(crate) struct ManifestTarget<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) selector: Selector,
}

impl fmt::Display for ManifestTarget<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.repository, self.selector)
    }
}

/// A manifest to be put in its place.
pub(crate) struct Manifest<'a> {
    bytes: &'a Bytes,
    media_type: &'a str,
    digest: Digest,
    place: &'a ManifestTarget<'a>,
    /// What its tag points to so far.
    there: Option<Digest>,
}

impl<'a> Manifest<'a> {
    pub(crate) fn new(
        bytes: &'a Bytes,
        media_type: &'a str,
        digest: Digest,
        place: &'a ManifestTarget<'a>,
        there: Option<Digest>,
    ) -> Self {
        Manifest { bytes, media_type, digest, place, there }
    }
}

/// The result of putting a manifest, as often as need be.
pub(crate) enum Pushed {
    /// The registry accepted it; `noticed` is whether it returned `OCI-Subject`.
    Taken { noticed: bool },
    /// The registry has it, and its response was lost.
    IsThere,
    /// The registry does not have blobs of it, or not as it said.
    BlobsMissing(MissingBlobs),
}

impl RegistryDestination {
    /// Puts a manifest until the registry accepts it or lacks blobs that have to be uploaded again.
    pub(crate) async fn put_until_taken(
        &self,
        contents: &Contents,
        landing: &PlannedManifest,
        manifest: &Manifest<'_>,
        budget: &mut Budget,
    ) -> Result<Pushed> {
        let mut is_first = true;
        loop {
            let failure = match self.endpoint.put_manifest(manifest).await {
                Ok(noticed) => return Ok(Pushed::Taken { noticed }),
                Err(failure) => failure,
            };
            if is_about_blobs(&failure) {
                let blobs = self.missing_blobs(contents, landing, manifest.place.repository, is_first).await?;
                if !blobs.is_empty() {
                    return Ok(Pushed::BlobsMissing(MissingBlobs { blobs, error: failure.into_error() }));
                }
                // The storage may not show yet what it has just stored (openshift/image-registry#220).
                let failure = failure
                    .into_temporary()
                    .hint("the registry returns 200 for each of these blobs: its storage may be slow or damaged");
                budget.spend(failure).await?;
            } else {
                let may_be_there = !is_first || failure.is_temporary();
                let spent = budget.spend(failure).await;
                // The response may be lost, and an immutable tag cannot be written twice.
                if may_be_there && self.now(manifest.place).await.is_ok_and(|now| now.digest() == Some(manifest.digest))
                {
                    return Ok(Pushed::IsThere);
                }
                spent?;
            }
            is_first = false;
        }
    }

    /// Returns the blobs of a refused manifest to upload again, each once in a run. After the first refusal these are the
    /// missing blobs that this run did not upload: an uploaded one may be visible after a pause. After further refusals they
    /// are all missing blobs and all that were mounted.
    async fn missing_blobs(
        &self,
        contents: &Contents,
        landing: &PlannedManifest,
        repository: &Repository,
        is_first: bool,
    ) -> Result<Vec<BlobId>> {
        let ask = |id: BlobId| async move {
            let blob = contents.blob(id);
            let status = self.endpoint.blob_status(repository, blob.digest, blob.size, Priority::GoesOn).await?;
            Ok((id, status == BlobStatus::Absent))
        };
        let asked: Vec<_> = landing.blobs.iter().map(|id| ask(*id).boxed()).collect();
        let jobs = self.endpoint.settings().jobs.max(1);
        let statuses: Vec<(BlobId, bool)> = stream::iter(asked).buffered(jobs).try_collect().await?;
        let missing = statuses.into_iter().filter(|(id, is_absent)| {
            let digest = contents.blob(*id).digest;
            let wanted = match is_first {
                true => *is_absent && !self.news.has(repository, digest),
                false => *is_absent || self.mounted.is_mounted(repository, digest),
            };
            wanted && self.mounted.note_missing(repository, digest)
        });
        Ok(missing.map(|(id, _)| id).collect())
    }
}

impl Endpoint {
    /// Returns whether the registry processed the manifest's subject (`OCI-Subject`).
    pub(crate) async fn put_manifest(&self, manifest: &Manifest<'_>) -> Result<bool, AttemptError> {
        let Manifest { bytes, media_type, digest, place, there } = manifest;
        let host = self.host();
        let target = CallTarget::Path(document_path(place.repository, &place.selector));
        let access = Access::Push(place.repository.clone());
        let call = Call::new(Method::PUT, target, access, format!("push {host}/{place}"))
            .header(CONTENT_TYPE, media_type)
            .response_timeout(self.settings().commit_timeout);
        let response = self.send(&call, Payload::Bytes((*bytes).clone())).await?;
        let status = response.status();
        if !matches!(status, StatusCode::CREATED | StatusCode::OK | StatusCode::ACCEPTED) {
            let failure = response.refusal().await;
            let failure = match status {
                StatusCode::BAD_REQUEST | StatusCode::UNSUPPORTED_MEDIA_TYPE if media_type.starts_with(DOCKER) => {
                    failure.hint(NO_DOCKER)
                }
                _ => failure,
            };
            let Some(there) = there else { return Err(failure) };
            let Some(hint) = hint_on_kept_tag(status, &failure) else { return Err(failure) };
            let kept = Error::registry(format!("{host} does not let {place} be moved from {there} to {digest}"));
            return Err(AttemptError::permanent(kept.caused_by(failure.into_error()).hint(hint)).with_status(status));
        }
        match said_digest(&response, host).map_err(AttemptError::permanent)? {
            Some(said) if said != *digest => {
                Err(AttemptError::permanent(error::protocol(host, format!("it took manifest {digest} for {said}"))))
            }
            _ => Ok(response.header("oci-subject").is_some()),
        }
    }
}

/// Whether the registry refused a manifest because of its blobs (distribution-spec, "Error Codes").
fn is_about_blobs(failure: &AttemptError) -> bool {
    failure.status().is_some_and(|status| status.is_client_error()) && failure.says("BLOB_UNKNOWN")
}

/// The hint if a manifest was refused because its tag is immutable, or may be. The specification has no code for that:
/// Harbor returns 412, Quay 409, others 400, 403, 404, 405 or 500 with words of their own, or without
/// (Artifactory, GoogleContainerTools/kaniko#1095).
fn hint_on_kept_tag(status: StatusCode, failure: &AttemptError) -> Option<&'static str> {
    match (failure.known(), status.as_u16()) {
        (Some(Known::Immutable), _) | (None, 409 | 412) => Some(IMMUTABLE),
        (None, 400 | 403 | 405) if failure.says("already exists") => Some(IMMUTABLE),
        (None, 403 | 404) => Some(PERHAPS_IMMUTABLE),
        _ => None,
    }
}

const IMMUTABLE: &str = "tags are immutable there: delete that tag, or import below another prefix";
const PERHAPS_IMMUTABLE: &str = "tags may be immutable there, or the login has no right to overwrite: delete that tag, get \
that right, or import below another prefix";
/// How Docker's media types begin.
const DOCKER: &str = "application/vnd.docker.";
/// What may be behind a refusal of such an image.
const NO_DOCKER: &str = "this image has Docker's media types, which some registries take only when they are told to (zot: \
http, compat: [\"docker2s2\"]); it is never converted, so that its digest stays";
