//! Blobs out of a registry: a stream that mends its own interruptions.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_RANGE, RANGE};

use crate::content::{Blob, BlobId, Chunks, Contents, Source, SourceRepository};
use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Host, MAX_DOCUMENT, Repository, embedded};
use crate::registry::client::Client;
use crate::registry::client::endpoint::Endpoint;
use crate::registry::client::places::{Place, Wanted};
use crate::registry::http::call::{Access, Call, Payload};
use crate::registry::http::error;
use crate::registry::http::header::{self, ContentRange};
use crate::registry::http::limits::Priority;
use crate::registry::http::response::Response;
use crate::registry::http::retry::{AttemptError, Budget};

#[async_trait]
impl Source for Client {
    async fn open(&self, contents: &Contents, blob: BlobId, offset: u64) -> Result<Chunks> {
        let wanted = contents.blob(blob);
        match open(self.holders(contents, wanted)?, wanted.digest, wanted.size, offset).await {
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Registry) => {
                // Some registries do not serve what a manifest embeds (project-zot/zot issue 2977).
                let Some(bytes) = embedded_in_plan(contents, blob)? else { return Err(error) };
                let rest = bytes.slice(bytes.len().min(usize::try_from(offset).unwrap_or(usize::MAX))..);
                Ok(stream::iter([Ok(rest)]).boxed())
            }
            opened => opened,
        }
    }

    fn mismatch(&self, contents: &Contents, blob: BlobId, what: &str) -> Error {
        let wanted = contents.blob(blob);
        let origins: Vec<String> = wanted
            .origins
            .iter()
            .take(3)
            .map(|id| contents.origin(*id))
            .map(|origin| format!("{}/{}", origin.host, origin.repository))
            .collect();
        content_mismatch(&origins.join(", "), wanted.digest, what)
    }
}

impl Client {
    /// Every location of every repository in which a blob is expected.
    ///
    /// # Errors
    /// When all of them are blocked.
    fn holders(&self, contents: &Contents, blob: &Blob) -> Result<Vec<Holder>> {
        let (mut holders, mut blocked) = (Vec::new(), None);
        for id in &blob.origins {
            let SourceRepository { host, repository } = contents.origin(*id);
            match self.places(host, repository, Wanted::Below) {
                Ok(places) => {
                    let holder = |Place { endpoint, repository, .. }| Holder { endpoint, repository };
                    holders.extend(places.into_iter().map(holder));
                }
                Err(error) => blocked = Some(error),
            }
        }
        match blocked {
            Some(error) if holders.is_empty() => Err(error),
            _ => Ok(holders),
        }
    }
}

/// A repository in which a blob is expected.
pub(crate) struct Holder {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) repository: Repository,
}

/// The bytes of a blob from `offset` on, from the first of `holders` that has it.
pub(crate) async fn open(holders: Vec<Holder>, digest: Digest, size: u64, offset: u64) -> Result<Chunks> {
    // A manifest may give a size of 0 to a blob that has bytes: then the registry is asked how many.
    if offset >= size && (size > 0 || digest == Digest::of(b"")) {
        return Ok(stream::empty().boxed());
    }
    let Some(holder) = holders.first() else {
        return Err(Error::not_found(format!("no registry is known to hold blob {digest}")));
    };
    let budget = holder.endpoint.budget();
    let mut download =
        Download { holders, current: 0, digest, size, position: offset, response: None, skip: 0, budget, begun: false };
    download.connect().await?;
    download.begun = true;
    Ok(stream::try_unfold(
        download,
        |mut download| async move { Ok(download.next().await?.map(|chunk| (chunk, download))) },
    )
    .boxed())
}

/// A registry that hands out other bytes than its manifests promise.
pub(crate) fn content_mismatch(place: &str, digest: Digest, what: &str) -> Error {
    Error::registry(format!("{place} does not keep its word about blob {digest}: {what}"))
        .hint("its storage is damaged, or a proxy alters what it hands on: push the image there again, or take it from another registry")
}

/// A blob whose size is not that of its descriptor. `served` says how much there is: `7` or `more than 6`.
pub(crate) fn wrong_size(place: &str, digest: Digest, size: u64, served: impl fmt::Display) -> Error {
    let found = format!("the manifest says that blob {digest} has {size} bytes, and {place} serves {served} bytes");
    Error::registry(found).hint(
        "if the blob has this size at its publisher's registry, too, the manifest is wrong and the publisher must push \
         the image again; otherwise this copy is damaged: push the image here again, or take it from another registry",
    )
}

/// What a manifest of the plan embeds of a blob.
fn embedded_in_plan(contents: &Contents, blob: BlobId) -> Result<Option<Bytes>> {
    let Blob { digest, size, .. } = *contents.blob(blob);
    if size > MAX_DOCUMENT {
        return Ok(None);
    }
    let with_blob = contents.landings.iter().filter(|landing| landing.blobs.contains(&blob));
    let documents: BTreeSet<Digest> = with_blob.map(|landing| landing.document).collect();
    for document in documents {
        let (bytes, _) = contents.documents.get(document)?;
        if let Some((_, found)) = embedded(&bytes, |wanted| wanted == digest).pop() {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

struct Download {
    holders: Vec<Holder>,
    current: usize,
    digest: Digest,
    size: u64,
    /// Of the next byte to hand on.
    position: u64,
    response: Option<Response>,
    /// Bytes of the response that come before `position`.
    skip: u64,
    budget: Budget,
    /// Somebody has begun to read it.
    begun: bool,
}

impl Download {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.position == self.size {
                return self.finish().await;
            }
            if self.response.is_none() {
                self.connect().await?;
            }
            let response = self.response.as_mut().expect("connected above");
            let failure = match response.chunk().await {
                Ok(Some(mut chunk)) => {
                    let skipped = self.skip.min(chunk.len() as u64);
                    self.skip -= skipped;
                    let chunk = chunk.split_off(skipped as usize);
                    if chunk.is_empty() {
                        continue;
                    }
                    self.position += chunk.len() as u64;
                    if self.position > self.size {
                        return Err(self.too_long());
                    }
                    self.budget.gain(chunk.len() as u64);
                    return Ok(Some(chunk));
                }
                Ok(None) if response.is_web_page() => return Err(response.web_page()),
                Ok(None) => AttemptError::temporary(Error::registry(format!(
                    "the answer of {} ended after {} of {} bytes of blob {}",
                    self.host(),
                    self.position,
                    self.size,
                    self.digest
                ))),
                Err(failure) => failure,
            };
            self.response = None;
            if let Err(error) = self.budget.spend(failure).await {
                self.next_holder(true);
                if self.current == self.holders.len() {
                    return Err(error);
                }
            }
        }
    }

    /// After the last byte: a body without a length may go on.
    async fn finish(&mut self) -> Result<Option<Bytes>> {
        let Some(mut response) = self.response.take() else { return Ok(None) };
        match response.chunk().await {
            Ok(Some(more)) if !more.is_empty() => Err(self.too_long()),
            // What fails after the last byte does not matter.
            _ => Ok(None),
        }
    }

    /// An answer from the first holder, from the present one on, that has the blob.
    async fn connect(&mut self) -> Result<()> {
        let mut first: Option<Error> = None;
        while self.current < self.holders.len() {
            let failure = match self.ask().await {
                Ok(response) => {
                    self.response = Some(response);
                    return Ok(());
                }
                Err(failure) => failure,
            };
            let is_host = failure.is_temporary();
            let Err(error) = self.budget.spend(failure).await else { continue };
            // That it is missing says less than any other failure.
            first = match first {
                Some(known) if known.kind() != Kind::NotFound || error.kind() == Kind::NotFound => Some(known),
                _ => Some(error),
            };
            self.next_holder(is_host);
        }
        let error = first.unwrap_or_else(|| Error::not_found(format!("blob {} is gone", self.digest)));
        Err(match error.kind() {
            Kind::NotFound => error.hint(
                "a manifest names it: the image was deleted or pushed anew meanwhile, or the registry is damaged",
            ),
            _ => error,
        })
    }

    /// Goes on with the next holder, or with the next one at another host.
    fn next_holder(&mut self, at_another_host: bool) {
        let failed = self.host().clone();
        let is_next = |holder: &Holder| !at_another_host || *holder.endpoint.host() != failed;
        let rest = &self.holders[self.current + 1..];
        let skipped = rest.iter().position(is_next).unwrap_or(rest.len());
        self.current += 1 + skipped;
        if let Some(holder) = self.holders.get(self.current) {
            self.budget = holder.endpoint.budget();
        }
    }

    /// One request for the bytes from `position` on, its head checked.
    async fn ask(&mut self) -> Result<Response, AttemptError> {
        let holder = &self.holders[self.current];
        let (host, repository, digest) = (holder.endpoint.host(), &holder.repository, self.digest);
        let what = format!("read blob {digest} of {host}/{repository}");
        let path = format!("{repository}/blobs/{digest}");
        let mut call = Call::get(path, Access::Pull(repository.clone()), what);
        if self.position > 0 {
            call = call.header(RANGE, &format!("bytes={}-", self.position));
        }
        if self.begun {
            call = call.turn(Priority::GoesOn);
        }
        let response = holder.endpoint.send(&call, Payload::Nothing).await?;
        let lie = |what: String| AttemptError::permanent(self.protocol_violation(&what));
        if let Some(how) = response.packing().filter(|_| response.status().is_success()) {
            return Err(lie(format!("it sends the blob packed ({}) though it was asked not to", error::clip(how))));
        }
        let wrong = |served: u64| AttemptError::permanent(wrong_size(&self.place(), digest, self.size, served));
        let (skip, length) = match response.status() {
            StatusCode::OK => (self.position, self.size),
            StatusCode::PARTIAL_CONTENT if self.position > 0 => {
                let range = response.header(CONTENT_RANGE).and_then(ContentRange::parse);
                let range = range.ok_or_else(|| lie("it sends a part without saying which".into()))?;
                if let Some(total) = range.total.filter(|total| *total != self.size) {
                    return Err(wrong(total));
                }
                if range.start != self.position || range.total.unwrap_or(range.end + 1) != self.size {
                    return Err(lie(format!(
                        "asked for the bytes from {} of {}, it sends those from {} of {}",
                        self.position,
                        self.size,
                        range.start,
                        range.total.unwrap_or(range.end + 1)
                    )));
                }
                (0, range.end + 1 - range.start)
            }
            StatusCode::PARTIAL_CONTENT => return Err(lie("it sends a part when asked for all".into())),
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let total = response.header(CONTENT_RANGE).and_then(header::total);
                return Err(match total.filter(|total| *total != self.size) {
                    Some(total) => wrong(total),
                    None => lie(format!("it has no byte {} of {}", self.position, self.size)),
                });
            }
            _ => return Err(response.refusal().await),
        };
        if let Some(found) = response.content_length().filter(|found| *found != length) {
            return Err(match response.status() {
                StatusCode::OK if response.is_web_page() => AttemptError::permanent(response.web_page()),
                StatusCode::OK => wrong(found),
                _ => lie(format!("it announces {found} bytes where {length} should come")),
            });
        }
        self.skip = skip;
        Ok(response)
    }

    fn host(&self) -> &Host {
        self.holders[self.current].endpoint.host()
    }

    /// `HOST/REPOSITORY`
    fn place(&self) -> String {
        let holder = &self.holders[self.current];
        format!("{}/{}", holder.endpoint.host(), holder.repository)
    }

    fn protocol_violation(&self, what: &str) -> Error {
        content_mismatch(&self.place(), self.digest, &format!("{what} ({} bytes by its manifest)", self.size))
    }

    /// The answer goes on after the last byte.
    fn too_long(&self) -> Error {
        match &self.response {
            Some(response) if response.is_web_page() => response.web_page(),
            _ => wrong_size(&self.place(), self.digest, self.size, format!("more than {}", self.size)),
        }
    }
}
