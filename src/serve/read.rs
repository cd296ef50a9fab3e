//! The endpoints that only read.

use std::io;

use axum::body::Body;
use axum::extract::Query;
use axum::http::header;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Service;
use super::answer::{
    Code, DOCKER_CONTENT_DIGEST, Fault, Headers, JSON, OCI_FILTERS_APPLIED, Reply, json_response, response,
};
use super::catalog::RepositoryCatalog;
use super::path::ManifestRef;
use super::range::{self, RangeRequest};
use super::store::StoredBlob;
use crate::error::Kind;
use crate::oci::{Digest, Document, Hasher, MediaType, Repository, View};

pub(super) fn base() -> Reply {
    Ok(json_response(StatusCode::OK, JSON, &json!({}), Vec::new()))
}

impl Service {
    pub(super) fn manifest(&self, repository: &Repository, reference: &ManifestRef) -> Reply {
        let catalog = self.library.catalog(&*self.store)?;
        let holdings = catalog.get(repository).ok_or_else(|| unknown_name(repository))?;
        let unknown = || Fault::not_found(Code::ManifestUnknown, format!("{repository} has no such manifest"));
        let digest = match reference {
            ManifestRef::Tag(tag) => *holdings.tags.get(tag).ok_or_else(unknown)?,
            ManifestRef::Digest(digest) => *digest,
        };
        let declared = self.library.holds(&*self.store, holdings, digest)?.ok_or_else(unknown)?;
        let document = match self.store.document(digest, &declared) {
            Ok(document) => document,
            Err(e) if e.kind() == Kind::NotFound => return Err(unknown()),
            Err(e) => return Err(e.into()),
        };
        let headers = vec![
            (header::CONTENT_TYPE, document.media_type().to_string()),
            (header::CONTENT_LENGTH, document.size().to_string()),
            (header::ETAG, format!("\"{digest}\"")),
            (DOCKER_CONTENT_DIGEST, digest.to_string()),
        ];
        Ok(response(StatusCode::OK, headers, Body::from(document.bytes().clone())))
    }

    pub(super) fn blob(&self, digest: Digest, head: &Parts) -> Reply {
        let content = match self.store.blob(digest) {
            Ok(content) => content,
            Err(e) if e.kind() == Kind::NotFound => {
                return Err(Fault::not_found(Code::BlobUnknown, format!("there is no blob {digest}")));
            }
            Err(e) => return Err(e.into()),
        };
        let size = content.size;
        let etag = format!("\"{digest}\"");
        let mut headers = vec![
            (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
            (header::ACCEPT_RANGES, "bytes".to_owned()),
            (header::ETAG, etag.clone()),
            (DOCKER_CONTENT_DIGEST, digest.to_string()),
        ];
        let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        // RFC 9110: Range means something on GET only, and not if If-Range names another version.
        let asked = text(header::RANGE)
            .filter(|_| head.method == Method::GET && text(header::IF_RANGE).is_none_or(|condition| condition == etag));
        let (status, first, end) = match range::wanted(asked, size) {
            RangeRequest::Whole => (StatusCode::OK, 0, size),
            RangeRequest::Part(first, last) => {
                headers.push((header::CONTENT_RANGE, format!("bytes {first}-{last}/{size}")));
                (StatusCode::PARTIAL_CONTENT, first, last + 1)
            }
            RangeRequest::Unsatisfiable => {
                return Err(Fault::new(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    Code::RangeInvalid,
                    format!("the blob has {size} bytes"),
                )
                .header(header::CONTENT_RANGE, format!("bytes */{size}")));
            }
        };
        headers.push((header::CONTENT_LENGTH, (end - first).to_string()));
        let body = if head.method == Method::HEAD { Body::empty() } else { stream_part(content, digest, first, end) };
        Ok(response(status, headers, body))
    }

    pub(super) fn tags(&self, repository: &Repository, head: &Parts) -> Reply {
        let catalog = self.library.catalog(&*self.store)?;
        let holdings = catalog.get(repository).ok_or_else(|| unknown_name(repository))?;
        let (tags, headers) =
            page(holdings.tags.keys().map(|tag| tag.as_str()), head, &format!("/v2/{repository}/tags/list"))?;
        Ok(json_response(StatusCode::OK, JSON, &json!({"name": repository.as_str(), "tags": tags}), headers))
    }

    pub(super) fn repositories(&self, head: &Parts) -> Reply {
        let catalog = self.library.catalog(&*self.store)?;
        let (repositories, headers) = page(RepositoryCatalog::repositories(&catalog), head, "/v2/_catalog")?;
        Ok(json_response(StatusCode::OK, JSON, &json!({"repositories": repositories}), headers))
    }

    /// distribution-spec, "Listing Referrers": never 404, which would send the client to the tag schema.
    pub(super) fn referrers(&self, repository: &Repository, subject: Digest, head: &Parts) -> Reply {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Filter {
            artifact_type: Option<String>,
        }
        let filter: Filter = query(head)?;
        let catalog = self.library.catalog(&*self.store)?;
        let mut found = Vec::new();
        if let Some(holdings) = catalog.get(repository) {
            let mut digests: Vec<Digest> = self
                .library
                .reachable(&*self.store, holdings)?
                .into_iter()
                .filter(|(_, node)| node.subject == Some(subject))
                .map(|(digest, _)| digest)
                .collect();
            digests.sort_unstable();
            for digest in digests {
                let declared = holdings.documents.get(&digest).map(|held| held.media_type.clone());
                let document = self.store.document(digest, &declared.unwrap_or_else(|| MediaType::new("")))?;
                let artifact_type = artifact_type(&document);
                if filter.artifact_type.is_none() || filter.artifact_type.as_deref() == artifact_type {
                    found.push(referrer(&document, artifact_type));
                }
            }
        }
        let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": found});
        let headers = match filter.artifact_type {
            Some(_) => vec![(OCI_FILTERS_APPLIED, "artifactType".to_owned())],
            None => Vec::new(),
        };
        Ok(json_response(StatusCode::OK, MediaType::OCI_INDEX, &index, headers))
    }
}

pub(super) fn query<T: serde::de::DeserializeOwned>(head: &Parts) -> Result<T, Fault> {
    Query::try_from_uri(&head.uri)
        .map(|Query(query)| query)
        .map_err(|_| Fault::bad(Code::Unsupported, "the query cannot be read"))
}

pub(super) fn unknown_name(repository: &Repository) -> Fault {
    Fault::not_found(Code::NameUnknown, format!("there is no repository {repository}"))
}

/// One page of sorted `items`, with the `Link` to the next (distribution-spec, "Listing Tags").
fn page<'a>(items: impl Iterator<Item = &'a str>, head: &Parts, path: &str) -> Result<(Vec<&'a str>, Headers), Fault> {
    #[derive(Deserialize)]
    struct Page {
        n: Option<String>,
        last: Option<String>,
    }
    let Page { n, last } = query(head)?;
    let n = match n {
        None => usize::MAX,
        Some(text) => {
            text.parse::<usize>().map_err(|_| Fault::bad(Code::PaginationInvalid, "n is not a number of entries"))?
        }
    };
    let mut rest = items.skip_while(|item| last.as_deref().is_some_and(|last| *item <= last));
    let page: Vec<&str> = rest.by_ref().take(n).collect();
    let headers = match page.last() {
        // Names and tags hold nothing that a query would have to escape.
        Some(last) if rest.next().is_some() => {
            vec![(header::LINK, format!("<{path}?n={n}&last={last}>; rel=\"next\""))]
        }
        _ => Vec::new(),
    };
    Ok((page, headers))
}

/// image-spec: that of the manifest, else its config's media type.
fn artifact_type(document: &Document) -> Option<&str> {
    document.artifact_type().filter(|text| !text.is_empty()).or(match document.view() {
        View::Manifest { config, .. } => Some(config.media_type.as_str()),
        View::Index { .. } => None,
    })
}

fn referrer(document: &Document, artifact_type: Option<&str>) -> Value {
    #[derive(Deserialize)]
    struct Annotated {
        annotations: Option<Map<String, Value>>,
    }
    let mut value = json!({
        "mediaType": document.media_type(),
        "digest": document.digest(),
        "size": document.size(),
    });
    if let Some(text) = artifact_type {
        value["artifactType"] = text.into();
    }
    if let Ok(Annotated { annotations: Some(annotations) }) = serde_json::from_slice(document.bytes()) {
        value["annotations"] = annotations.into();
    }
    value
}

/// Bytes `first..end` of a blob. The whole blob is read and hashed, also for a part of it, and the last chunk of the part
/// is sent only after the digest is verified: a client never gets a complete answer from a blob that is damaged.
/// Read inline: handing each chunk to a blocking thread costs more than the read.
fn stream_part(content: StoredBlob, digest: Digest, first: u64, end: u64) -> Body {
    let part = Part { content, digest, first, end, at: 0, hasher: Hasher::default(), withheld: None };
    Body::from_stream(stream::try_unfold(Some(part), |part| async move {
        match part {
            Some(part) => part.next().await,
            None => Ok(None),
        }
    }))
}

/// A part of a blob on its way to a client.
struct Part {
    content: StoredBlob,
    digest: Digest,
    /// The part's first byte.
    first: u64,
    /// The byte after its last.
    end: u64,
    /// Bytes of the blob that were read and hashed.
    at: u64,
    hasher: Hasher,
    /// The part's last chunk.
    withheld: Option<Bytes>,
}

impl Part {
    /// The next chunk of the part, and what is left.
    async fn next(mut self) -> io::Result<Option<(Bytes, Option<Part>)>> {
        while self.at < self.content.size {
            let border = [self.first, self.end, self.content.size].into_iter().find(|border| *border > self.at);
            let chunk = read_chunk(&self.content, self.at, border.unwrap_or(self.content.size))?;
            let is_in_part = (self.first..self.end).contains(&self.at);
            self.at += chunk.len() as u64;
            self.hasher.update(&chunk);
            if !is_in_part {
                // Bytes that are only hashed would keep this thread from every other request.
                tokio::task::yield_now().await;
            } else if self.at < self.end {
                return Ok(Some((chunk, Some(self))));
            } else {
                self.withheld = Some(chunk);
            }
        }
        if self.hasher.finish() != self.digest {
            tracing::error!(digest = %self.digest, "the blob's bytes are not what its name says");
            return Err(io::Error::other("the blob is damaged"));
        }
        Ok(self.withheld.map(|chunk| (chunk, None)))
    }
}

fn read_chunk(content: &StoredBlob, at: u64, end: u64) -> io::Result<Bytes> {
    let length = CHUNK.min(end - at) as usize;
    let mut buffer = BytesMut::zeroed(length);
    let mut filled = 0;
    while filled < length {
        match content.bytes.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => {
                tracing::warn!("cannot read a blob: {e}");
                return Err(e);
            }
        }
    }
    Ok(buffer.freeze())
}

/// Of a download in flight, 256 KiB.
const CHUNK: u64 = 256 << 10;
