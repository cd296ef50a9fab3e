//! Blobs out of a registry: a stream that mends its own interruptions.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_RANGE, RANGE};

use super::Client;
use super::call::{Access, Call, Payload};
use super::endpoint::Endpoint;
use super::fault;
use super::header::ContentRange;
use super::limits::Turn;
use super::response::Response;
use super::retry::{Budget, Failure};
use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Host, Repository};
use crate::place::{BlobId, Chunks, Contents, Source};

#[async_trait]
impl Source for Client {
    async fn open(&self, contents: &Contents, blob: BlobId, offset: u64) -> Result<Chunks> {
        let wanted = contents.blob(blob);
        let holders = wanted.origins.iter().map(|id| {
            let origin = contents.origin(*id);
            Holder { endpoint: self.endpoint(&origin.host), repository: origin.repository.clone() }
        });
        open(holders.collect(), wanted.digest, wanted.size, offset).await
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
        not_its_word(&origins.join(", "), wanted.digest, what)
    }
}

/// A repository in which a blob is expected.
pub(super) struct Holder {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) repository: Repository,
}

/// The bytes of a blob from `offset` on, from the first of `holders` that has it.
pub(super) async fn open(holders: Vec<Holder>, digest: Digest, size: u64, offset: u64) -> Result<Chunks> {
    if offset >= size {
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
pub(super) fn not_its_word(place: &str, digest: Digest, what: &str) -> Error {
    Error::registry(format!("{place} does not keep its word about blob {digest}: {what}"))
        .hint("its storage is damaged, or a proxy alters what it hands on: push the image there again, or take it from another registry")
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
                        return Err(self.lie("it sends more bytes than that"));
                    }
                    self.budget.gain(chunk.len() as u64);
                    return Ok(Some(chunk));
                }
                Ok(None) => Failure::passing(Error::registry(format!(
                    "the answer of {} ended after {} of {} bytes of blob {}",
                    self.host(),
                    self.position,
                    self.size,
                    self.digest
                ))),
                Err(failure) => failure,
            };
            self.response = None;
            self.budget.spend(failure).await?;
        }
    }

    /// After the last byte: a body without a length may go on.
    async fn finish(&mut self) -> Result<Option<Bytes>> {
        let Some(mut response) = self.response.take() else { return Ok(None) };
        match response.chunk().await {
            Ok(Some(more)) if !more.is_empty() => Err(self.lie("it sends more bytes than that")),
            // What fails after the last byte does not matter.
            _ => Ok(None),
        }
    }

    async fn connect(&mut self) -> Result<()> {
        let mut absent: Option<Error> = None;
        while self.current < self.holders.len() {
            match self.ask().await {
                Ok(response) => {
                    self.response = Some(response);
                    return Ok(());
                }
                // Not here: the blob may be in another repository.
                Err(failure) if !failure.may_pass() => {
                    let error = failure.into_error();
                    if error.kind() != Kind::NotFound {
                        return Err(error);
                    }
                    absent.get_or_insert(error);
                    self.current += 1;
                }
                Err(failure) => self.budget.spend(failure).await?,
            }
        }
        let absent = absent.unwrap_or_else(|| Error::not_found(format!("blob {} is gone", self.digest)));
        Err(absent
            .hint("a manifest names it: the image was deleted or pushed anew meanwhile, or the registry is damaged"))
    }

    /// One request for the bytes from `position` on, its head checked.
    async fn ask(&mut self) -> Result<Response, Failure> {
        let holder = &self.holders[self.current];
        let (host, repository, digest) = (holder.endpoint.host(), &holder.repository, self.digest);
        let what = format!("read blob {digest} of {host}/{repository}");
        let path = format!("{repository}/blobs/{digest}");
        let mut call = Call::get(path, Access::Pull(repository.clone()), what);
        if self.position > 0 {
            call = call.header(RANGE, &format!("bytes={}-", self.position));
        }
        if self.begun {
            call = call.turn(Turn::GoesOn);
        }
        let response = holder.endpoint.send(&call, Payload::Nothing).await?;
        let lie = |what: String| Failure::lasting(self.lie(&what));
        if let Some(how) = response.packing().filter(|_| response.status().is_success()) {
            return Err(lie(format!("it sends the blob packed ({}) though it was asked not to", fault::clip(how))));
        }
        let (skip, length) = match response.status() {
            StatusCode::OK => (self.position, self.size),
            StatusCode::PARTIAL_CONTENT if self.position > 0 => {
                let range = response.header(CONTENT_RANGE).and_then(ContentRange::parse);
                let range = range.ok_or_else(|| lie("it sends a part without saying which".into()))?;
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
                return Err(lie(format!("it has no byte {} of {}", self.position, self.size)));
            }
            _ => return Err(response.refusal().await),
        };
        if let Some(found) = response.content_length().filter(|found| *found != length) {
            return Err(lie(format!("it announces {found} bytes where {length} should come")));
        }
        self.skip = skip;
        Ok(response)
    }

    fn host(&self) -> &Host {
        self.holders[self.current].endpoint.host()
    }

    fn lie(&self, what: &str) -> Error {
        let holder = &self.holders[self.current];
        let place = format!("{}/{}", holder.endpoint.host(), holder.repository);
        not_its_word(&place, self.digest, &format!("{what} ({} bytes by its manifest)", self.size))
    }
}
