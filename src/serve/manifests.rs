//! Pushing and deleting manifests.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;

use super::Service;
use super::answer::{Code, DOCKER_CONTENT_DIGEST, Fault, OCI_SUBJECT, Reply, empty};
use super::catalog::Holdings;
use super::path::ManifestRef;
use super::read::unknown_name;
use super::store::WritableStore;
use crate::error::{Error, Kind, Result};
use crate::layout::Change;
use crate::oci::{Descriptor, Digest, Document, MAX_DOCUMENT, MediaType, Name, Repository, View};

impl Service {
    /// `PUT` and `DELETE`.
    pub(super) async fn change_manifest(
        &self,
        writer: Arc<dyn WritableStore>,
        repository: Repository,
        reference: ManifestRef,
        head: &Parts,
        body: &mut Option<Body>,
    ) -> Reply {
        match head.method {
            Method::PUT => self.put_manifest(writer, repository, reference, head, body).await,
            Method::DELETE => self.delete_manifest(writer, repository, reference).await,
            _ => Err(Fault::method("GET, HEAD, PUT, DELETE")),
        }
    }

    async fn put_manifest(
        &self,
        writer: Arc<dyn WritableStore>,
        repository: Repository,
        reference: ManifestRef,
        head: &Parts,
        body: &mut Option<Body>,
    ) -> Reply {
        let length = head.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > MAX_DOCUMENT) {
            return Err(too_large());
        }
        let _turn = match length {
            Some(length) if length <= SMALL => None,
            _ => self.large_manifests.acquire().await.ok(),
        };
        let bytes = read_document(body.take().unwrap_or_default()).await?;
        let declared = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let document = Document::parse(bytes, &MediaType::new(declared))
            .map_err(|e| Fault::bad(Code::ManifestInvalid, e.chain()))?;
        let digest = document.digest();
        if let ManifestRef::Digest(asked) = &reference
            && *asked != digest
        {
            return Err(Fault::bad(Code::DigestInvalid, format!("the manifest has the digest {digest}, not {asked}")));
        }
        self.check_references(&repository, &document)?;

        let _naming = self.naming.lock().await;
        let store = writer.clone();
        let to_store = document.clone();
        blocking(move || {
            let mut ingest = store.ingest()?;
            ingest.write(to_store.bytes())?;
            store.commit(ingest, digest)
        })
        .await?;
        let changes = self.landing(&repository, &reference, &document)?;
        if !changes.is_empty() {
            blocking(move || writer.apply(&changes)).await?;
        }
        let mut headers = vec![
            (header::LOCATION, format!("/v2/{repository}/manifests/{digest}")),
            (DOCKER_CONTENT_DIGEST, digest.to_string()),
        ];
        if let Some(subject) = document.subject() {
            headers.push((OCI_SUBJECT, subject.digest.to_string()));
        }
        Ok(empty(StatusCode::CREATED, headers))
    }

    /// Everything that a manifest refers to must be in the store with the size that it says; the subject need not.
    fn check_references(&self, repository: &Repository, document: &Document) -> Result<(), Fault> {
        match document.view() {
            View::Manifest { config, layers } => {
                for blob in std::iter::once(config).chain(layers) {
                    if !is_foreign(&blob.media_type) {
                        self.check_blob(blob)?;
                    }
                }
            }
            View::Index { .. } if self.sparse_indexes => {}
            View::Index { children } => {
                let catalog = self.library.catalog(&*self.store)?;
                let holdings = catalog.get(repository);
                for child in children {
                    if child.media_type.document_kind().is_none() {
                        self.check_blob(child)?;
                        continue;
                    }
                    let held = match holdings {
                        Some(holdings) => self.library.holds(&*self.store, holdings, child.digest)?.is_some(),
                        None => false,
                    };
                    // An earlier sparse index may reach what is not here.
                    if !held || self.store.size(child.digest).is_err() {
                        let what = format!("{repository} has no manifest {}", child.digest);
                        return Err(Fault::bad(Code::ManifestUnknown, what));
                    }
                }
            }
        }
        Ok(())
    }

    fn check_blob(&self, blob: &Descriptor) -> Result<(), Fault> {
        match self.store.size(blob.digest) {
            Ok(size) if size == blob.size => Ok(()),
            Ok(size) => Err(Fault::bad(
                Code::ManifestInvalid,
                format!("blob {} has {size} bytes, not {}", blob.digest, blob.size),
            )),
            Err(e) if e.kind() == Kind::NotFound => {
                Err(Fault::bad(Code::ManifestBlobUnknown, format!("there is no blob {}", blob.digest)))
            }
            Err(e) => Err(e.into()),
        }
    }

    /// The changes of names that make `document` be in the repository.
    fn landing(&self, repository: &Repository, reference: &ManifestRef, document: &Document) -> Result<Vec<Change>> {
        let catalog = self.library.catalog(&*self.store)?;
        let none = Holdings::default();
        let holdings = catalog.get(repository).unwrap_or(&none);
        let digest = document.digest();
        let descriptor = describe(document);
        let mut changes = Vec::new();
        match reference {
            ManifestRef::Tag(tag) => {
                let before = holdings.tags.get(tag).copied();
                if before == Some(digest) {
                    return Ok(changes);
                }
                changes.push(Change::Set(Name::Tagged(repository.clone(), tag.clone()), descriptor));
                if let Some(before) = before
                    && !named_otherwise(holdings, before, tag.as_str())
                    && !self.library.reaches(&*self.store, digest, before)?
                {
                    changes.extend(self.keep(repository, holdings, before)?);
                }
            }
            ManifestRef::Digest(_) => {
                if self.library.holds(&*self.store, holdings, digest)?.is_some() {
                    return Ok(changes);
                }
                changes.push(Change::Set(Name::Digested(repository.clone(), digest), descriptor));
            }
        }
        if let View::Index { .. } = document.view() {
            // Its children were pushed by digest first. They are reached now: a layout lists the image and not its parts.
            for (child, held) in &holdings.documents {
                if held.by_digest && self.library.reaches(&*self.store, digest, *child)? {
                    changes.push(Change::Remove(Name::Digested(repository.clone(), *child)));
                }
            }
        }
        if let ManifestRef::Tag(_) = reference
            && holdings.documents.get(&digest).is_some_and(|held| held.by_digest)
        {
            changes.push(Change::Remove(Name::Digested(repository.clone(), digest)));
        }
        Ok(changes)
    }

    async fn delete_manifest(
        &self,
        writer: Arc<dyn WritableStore>,
        repository: Repository,
        reference: ManifestRef,
    ) -> Reply {
        let _naming = self.naming.lock().await;
        let catalog = self.library.catalog(&*self.store)?;
        let holdings = catalog.get(&repository).ok_or_else(|| unknown_name(&repository))?;
        let unknown = || Fault::not_found(Code::ManifestUnknown, format!("{repository} has no such manifest"));
        let mut changes = Vec::new();
        match reference {
            ManifestRef::Tag(tag) => {
                let digest = *holdings.tags.get(&tag).ok_or_else(unknown)?;
                if !named_otherwise(holdings, digest, tag.as_str()) {
                    changes.extend(self.keep(&repository, holdings, digest)?);
                }
                changes.push(Change::Remove(Name::Tagged(repository, tag)));
            }
            ManifestRef::Digest(digest) => {
                if !holdings.documents.contains_key(&digest) {
                    return Err(match self.library.holds(&*self.store, holdings, digest)? {
                        None => unknown(),
                        Some(_) => Fault::new(
                            StatusCode::METHOD_NOT_ALLOWED,
                            Code::Unsupported,
                            "an index of this repository refers to it: delete that first",
                        ),
                    });
                }
                let tags = holdings.tags.iter().filter(|(_, tagged)| **tagged == digest);
                changes.extend(tags.map(|(tag, _)| Change::Remove(Name::Tagged(repository.clone(), tag.clone()))));
                changes.push(Change::Remove(Name::Digested(repository, digest)));
            }
        }
        blocking(move || writer.apply(&changes)).await?;
        Ok(empty(StatusCode::ACCEPTED, Vec::new()))
    }

    /// Keeps a document that loses its last tag, by its digest.
    fn keep(&self, repository: &Repository, holdings: &Holdings, digest: Digest) -> Result<Option<Change>> {
        let Some(held) = holdings.documents.get(&digest) else { return Ok(None) };
        let document = match self.store.document(digest, &held.media_type) {
            Ok(document) => document,
            // A layout by other hands may name what is not there; then there is nothing to keep.
            Err(e) if matches!(e.kind(), Kind::NotFound | Kind::Damaged | Kind::Refused) => return Ok(None),
            Err(e) => return Err(e),
        };
        Ok(Some(Change::Set(Name::Digested(repository.clone(), digest), describe(&document))))
    }
}

/// Whether the repository names the document by its digest or by a tag other than `tag`.
fn named_otherwise(holdings: &Holdings, digest: Digest, tag: &str) -> bool {
    holdings.documents.get(&digest).is_some_and(|held| held.by_digest)
        || holdings.tags.iter().any(|(other, tagged)| *tagged == digest && other.as_str() != tag)
}

async fn read_document(body: Body) -> Result<Bytes, Fault> {
    let mut stream = body.into_data_stream();
    let mut bytes = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| Fault::bad(Code::ManifestInvalid, "the body was cut off"))?;
        if (bytes.len() + chunk.len()) as u64 > MAX_DOCUMENT {
            return Err(too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

fn describe(document: &Document) -> Descriptor {
    Descriptor {
        media_type: document.media_type().clone(),
        digest: document.digest(),
        size: document.size(),
        platform: None,
        artifact_type: document.artifact_type().map(str::to_owned),
        annotations: None,
    }
}

/// Layers that no registry holds (image-spec, layer.md, "Non-Distributable Layers"; Docker's foreign layers).
fn is_foreign(media_type: &MediaType) -> bool {
    media_type.as_str().contains("nondistributable") || media_type.as_str().contains("foreign")
}

fn too_large() -> Fault {
    Fault::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        Code::ManifestInvalid,
        format!("a manifest has at most {MAX_DOCUMENT} bytes"),
    )
}

/// Writing syncs, which takes its time: not on a thread that serves others.
async fn blocking(work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::new(Kind::Io, "the store could not be written to").caused_by(e))?
}

/// Manifests up to 64 KiB are received any number at a time.
const SMALL: u64 = 64 << 10;
