//! What is written to a registry: blobs, manifests, lists of referrers.

pub(crate) mod blob_status;
pub(crate) mod cancel;
pub(crate) mod chunked_upload;
pub(crate) mod destination;
pub(crate) mod list_state;
pub(crate) mod mount;
pub(crate) mod mounted;
pub(crate) mod new_repositories;
pub(crate) mod pushed;
pub(crate) mod put_manifest;
pub(crate) mod referrers_lists;
pub(crate) mod referrers_tag;
pub(crate) mod registry;
pub(crate) mod send;
pub(crate) mod upload;
pub(crate) mod upload_sessions;
