//! Whether a repository has a blob.

use reqwest::{Method, StatusCode};

use super::call::{Access, Call, Payload, Target};
use super::download::wrong_size;
use super::endpoint::Endpoint;
use super::limits::Turn;
use super::retry::Failure;
use crate::error::Result;
use crate::oci::{Digest, Repository};
use crate::place::Presence;

impl Endpoint {
    /// Whether `repository` has the blob, which has `size` bytes.
    ///
    /// # Errors
    /// `Registry` when the registry cannot be asked, or has another size.
    pub(super) async fn blob_status(
        &self,
        repository: &Repository,
        digest: Digest,
        size: u64,
        turn: Turn,
    ) -> Result<Presence> {
        self.budget().run(|| self.blob_status_once(repository, digest, size, turn)).await
    }

    /// The same by one request.
    pub(super) async fn blob_status_once(
        &self,
        repository: &Repository,
        digest: Digest,
        size: u64,
        turn: Turn,
    ) -> Result<Presence, Failure> {
        let host = self.host();
        let what = format!("ask {host}/{repository} for blob {digest}");
        let target = Target::Path(format!("{repository}/blobs/{digest}"));
        // With the right to push, as everything here: one token does for all, and a repository that is still to be made
        // may be hidden from who wants only to read.
        let call = Call::new(Method::HEAD, target, Access::Push(repository.clone()), what).turn(turn);
        let response = self.send(&call, Payload::Nothing).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(Presence::Absent),
            _ if response.knows_no_head() => Ok(Presence::Unknown),
            // An error page is no blob, and uploading it once more does no harm.
            StatusCode::OK if response.is_web_page() => Ok(Presence::Unknown),
            StatusCode::OK => match response.content_length() {
                // Some caches announce 0 for every HEAD (varnishcache/varnish-cache issue 4245).
                Some(found) if found != size && found != 0 => {
                    Err(Failure::lasting(wrong_size(&format!("{host}/{repository}"), digest, size, found)))
                }
                _ => Ok(Presence::Here),
            },
            _ => Err(response.refusal().await),
        }
    }
}
