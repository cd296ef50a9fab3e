//! Manifests and indexes: how they are asked for, and what an answer must be.

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;

use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, DigestFault, Document, Host, MAX_DOCUMENT, MediaType, Repository, Selector};
use crate::registry::client::endpoint::Endpoint;
use crate::registry::http::call::{Access, Call, Payload};
use crate::registry::http::error::{self, Unreadable};
use crate::registry::http::response::Response;
use crate::registry::http::retry::AttemptError;

/// GET of a manifest or an index.
pub(crate) fn document_call(endpoint: &Endpoint, repository: &Repository, selector: &Selector) -> Call {
    let what = format!("read {}/{repository}{selector}", endpoint.host());
    Call::get(document_path(repository, selector), Access::Pull(repository.clone()), what).accept_documents()
}

/// Below `/v2/`; by digest where one is known.
pub(crate) fn document_path(repository: &Repository, selector: &Selector) -> String {
    match selector {
        Selector::Tag(tag) => format!("{repository}/manifests/{tag}"),
        Selector::Digest(digest) | Selector::Pinned(_, digest) => format!("{repository}/manifests/{digest}"),
    }
}

/// What `Docker-Content-Digest` says, if it says something about SHA-256.
pub(crate) fn said_digest(response: &Response, host: &Host) -> Result<Option<Digest>> {
    match response.header("docker-content-digest").map(str::trim).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(digest) => Ok(Some(digest)),
            Err(DigestFault::Unsupported(_)) => Ok(None),
            Err(fault) => Err(error::protocol(host, "its Docker-Content-Digest is not a digest").caused_by(fault)),
        },
    }
}

/// A document as it was served.
pub(crate) struct Served {
    media_type: MediaType,
    said: Option<Digest>,
    bytes: Bytes,
}

/// One GET of a document, its bytes read within their limit.
pub(crate) async fn fetch(endpoint: &Endpoint, call: &Call) -> Result<Served, AttemptError> {
    let response = endpoint.send(call, Payload::Nothing).await?.expect(&[StatusCode::OK]).await?;
    let media_type = MediaType::new(response.header(CONTENT_TYPE).unwrap_or_default());
    let said = said_digest(&response, endpoint.host()).map_err(AttemptError::permanent)?;
    let (peer, packing) = (response.peer().clone(), response.packing().map(str::to_owned));
    let announced = response.content_length();
    let Some(bytes) = response.body_within(MAX_DOCUMENT).await? else {
        return Err(AttemptError::permanent(too_large(call, announced)));
    };
    match Unreadable::of(&call.what, &peer, packing.as_deref(), &bytes) {
        Some(unreadable) => Err(AttemptError::permanent(unreadable.into_error())),
        None => Ok(Served { media_type, said, bytes }),
    }
}

/// The document in an answer to [`document_call`].
///
/// # Errors
/// `Registry` when the bytes are not those of the digest; `Refused` for what is not carried.
pub(crate) fn read_document(
    host: &Host,
    repository: &Repository,
    selector: &Selector,
    served: Served,
) -> Result<Document> {
    let Served { media_type, said, bytes } = served;
    let found = Digest::of(&bytes);
    // A schema 1 manifest's digest is not that of its bytes; it is refused by name below.
    if !media_type.is_schema1() {
        for expected in [selector.digest(), said].into_iter().flatten() {
            if expected != found {
                return Err(Error::registry(format!(
                    "{host} answered for {repository}{selector} with bytes whose digest is {found}, not {expected}"
                ))
                .hint("the registry's storage is damaged, or a proxy alters what it hands on"));
            }
        }
    }
    Document::parse_served(bytes, &media_type, found)
        .map_err(|error| cannot_carry(error).context(format!("cannot carry {host}/{repository}{selector}")))
}

/// The digest of a document's bytes, for a comparison at a destination: with the right to push, as every other request there.
pub(crate) async fn document_digest(
    endpoint: &Endpoint,
    repository: &Repository,
    selector: &Selector,
) -> Result<Digest, AttemptError> {
    let access = Access::Push(repository.clone());
    let call = Call { access, ..document_call(endpoint, repository, selector) };
    let served = fetch(endpoint, &call).await?;
    Ok(Digest::of(&served.bytes))
}

/// What would be damage in a bundle is, in a registry, an image that is not carried: nothing is wrong with a bundle.
fn cannot_carry(error: Error) -> Error {
    match error.kind() {
        Kind::Damaged => Error::refused(error.chain()).hint("leave it out, or have it pushed anew by a current tool"),
        _ => error,
    }
}

fn too_large(call: &Call, announced: Option<u64>) -> Error {
    let size = announced.filter(|size| *size > MAX_DOCUMENT).map(|size| format!(" ({size} bytes)")).unwrap_or_default();
    Error::refused(format!("cannot {}: the manifest has more than {MAX_DOCUMENT} bytes{size}", call.what)).hint(
        "sealift carries manifests of up to 4 MiB, as registries do: leave the image out (--keep-going), or build it \
         with fewer layers or annotations and push it again",
    )
}
