//! Whether a repository has a blob.

use reqwest::{Method, StatusCode};

use crate::content::BlobStatus;
use crate::error::Result;
use crate::oci::{Digest, Repository};
use crate::registry::client::endpoint::Endpoint;
use crate::registry::http::call::{Access, Call, CallTarget, Payload};
use crate::registry::http::limits::Priority;
use crate::registry::http::retry::AttemptError;
use crate::registry::pull::download::wrong_size;

impl Endpoint {
    /// Whether `repository` has the blob, which has `size` bytes.
    ///
    /// # Errors
    /// `Registry` when the registry cannot be asked, or has another size.
    pub(crate) async fn blob_status(
        &self,
        repository: &Repository,
        digest: Digest,
        size: u64,
        turn: Priority,
    ) -> Result<BlobStatus> {
        self.budget().run(|| self.blob_status_once(repository, digest, size, turn)).await
    }

    /// The same by one request.
    pub(crate) async fn blob_status_once(
        &self,
        repository: &Repository,
        digest: Digest,
        size: u64,
        turn: Priority,
    ) -> Result<BlobStatus, AttemptError> {
        let host = self.host();
        let what = format!("ask {host}/{repository} for blob {digest}");
        let target = CallTarget::Path(format!("{repository}/blobs/{digest}"));
        // With the right to push, as everything here: one token does for all, and a repository that is still to be made
        // may be hidden from who wants only to read.
        let call = Call::new(Method::HEAD, target, Access::Push(repository.clone()), what).turn(turn);
        let response = self.send(&call, Payload::Nothing).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(BlobStatus::Absent),
            _ if response.head_unsupported() => Ok(BlobStatus::Unknown),
            // An error page is no blob, and uploading it once more does no harm.
            StatusCode::OK if response.is_web_page() => Ok(BlobStatus::Unknown),
            StatusCode::OK => match response.content_length() {
                // Some caches announce 0 for every HEAD (varnishcache/varnish-cache issue 4245).
                Some(found) if found != size && found != 0 => {
                    Err(AttemptError::permanent(wrong_size(&format!("{host}/{repository}"), digest, size, found)))
                }
                _ => Ok(BlobStatus::Present),
            },
            _ => Err(response.refusal().await),
        }
    }
}
