//! A registry as the place that is written to.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};

use super::call::{Access, Call, Payload, Target};
use super::catalog::{document_digest, document_path, said_digest};
use super::download::{self, Holder, not_its_word};
use super::endpoint::Endpoint;
use super::fresh::{self, Fresh};
use super::limits::Turn;
use super::lists::Lists;
use super::news::News;
use super::retry::Failure;
use super::sessions::Sessions;
use super::subjects::Subjects;
use super::upload::Upload;
use super::{Client, fault};
use crate::error::{self, Error, Kind, Result};
use crate::oci::{Digest, Document, DocumentKind, Host, MediaType, Name, Repository, Selector};
use crate::place::{
    Blob, BlobId, Body, Catalog, Chunks, Contents, Destination, LandingId, Linked, Order, Presence, ScopeId, Stored,
};

/// A registry, or a part of one below a prefix, that is written to.
pub struct RegistryDestination {
    pub(super) endpoint: Arc<Endpoint>,
    prefix: Option<Repository>,
    pub(super) client: Client,
    pub(super) subjects: Subjects,
    sessions: Arc<Sessions>,
    existing: ExistingTags,
    /// Whether an image that fails ends nothing.
    keep_going: bool,
    pub(super) lists: Lists,
    fresh: Fresh,
    news: News,
}

/// What is done about a tag that is there with other content. One with the same content is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExistingTags {
    /// It is moved, if the registry lets it.
    #[default]
    Move,
    /// It stays, and nothing is pushed (`--no-clobber`).
    Keep,
}

impl RegistryDestination {
    /// Everything lands in `host`, its scopes below `prefix`.
    pub fn new(client: &Client, host: &Host, prefix: Option<Repository>) -> Self {
        RegistryDestination {
            endpoint: client.endpoint(host),
            prefix,
            client: client.clone(),
            subjects: Subjects::default(),
            sessions: Arc::default(),
            existing: ExistingTags::default(),
            keep_going: false,
            lists: Lists::default(),
            fresh: Fresh::default(),
            news: News::default(),
        }
    }

    /// What is done about tags that are there with other content.
    #[must_use]
    pub fn existing_tags(self, existing: ExistingTags) -> Self {
        RegistryDestination { existing, ..self }
    }

    /// A tag that cannot be looked at before the first push is looked at again when it is pushed, and fails alone then.
    #[must_use]
    pub fn keep_going(self, keep_going: bool) -> Self {
        RegistryDestination { keep_going, ..self }
    }

    /// The repository in which a scope lands.
    pub fn repository(&self, contents: &Contents, scope: ScopeId) -> Result<Repository> {
        self.below_prefix(contents.scope(scope))
    }

    /// What is under a name now, if anything is: one request. A registry has what its manifests refer to.
    ///
    /// # Errors
    /// `Registry` when it cannot be asked.
    pub async fn landed(&self, name: &Name) -> Result<Option<Digest>> {
        let repository = self.below_prefix(name.repository())?;
        let selector = match name {
            Name::Tagged(_, tag) => Selector::Tag(tag.clone()),
            Name::Digested(_, digest) => Selector::Digest(*digest),
        };
        let place = Place { repository: &repository, selector };
        self.endpoint.budget().run(|| self.now(&place)).await
    }

    pub(super) fn below_prefix(&self, scope: &Repository) -> Result<Repository> {
        match &self.prefix {
            None => Ok(scope.clone()),
            Some(prefix) => scope.below(prefix).map_err(|e| {
                Error::usage(format!("{scope} cannot land below {prefix}")).caused_by(e).hint("use a shorter prefix")
            }),
        }
    }

    fn upload(&self, contents: &Contents, blob: BlobId, scope: ScopeId) -> Result<Upload> {
        let blob = contents.blob(blob);
        Ok(Upload {
            endpoint: self.endpoint.clone(),
            repository: self.repository(contents, scope)?,
            digest: blob.digest,
            size: blob.size,
            sessions: self.sessions.clone(),
            waiting: None,
        })
    }

    /// Returns whether the registry says that it took notice of the document's subject. `there` is what its tag points to
    /// so far.
    pub(super) async fn put_document(
        &self,
        call: &Call,
        bytes: &Bytes,
        place: &Place<'_>,
        digest: Digest,
        there: Option<Digest>,
    ) -> Result<bool, Failure> {
        let response = self.endpoint.send(call, Payload::Bytes(bytes.clone())).await?;
        let status = response.status();
        if !matches!(status, StatusCode::CREATED | StatusCode::OK | StatusCode::ACCEPTED) {
            let failure = response.refusal().await;
            let of_docker = call.headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(DOCKER));
            let failure = match status {
                StatusCode::BAD_REQUEST | StatusCode::UNSUPPORTED_MEDIA_TYPE if of_docker => failure.hint(NO_DOCKER),
                _ => failure,
            };
            return Err(match there {
                Some(there) if keeps_tags(status, &failure) => Failure::lasting(
                    Error::registry(format!(
                        "{} does not let {place} be moved from {there} to {digest}",
                        self.endpoint.host()
                    ))
                    .caused_by(failure.into_error())
                    .hint("tags are immutable there: delete that tag, or import below another prefix"),
                ),
                _ => failure,
            });
        }
        let host = self.endpoint.host();
        match said_digest(&response, host).map_err(Failure::lasting)? {
            Some(said) if said != digest => {
                Err(Failure::lasting(fault::protocol(host, format!("it took manifest {digest} for {said}"))))
            }
            _ => Ok(response.header("oci-subject").is_some()),
        }
    }

    pub(super) fn put_call(&self, place: &Place<'_>, media_type: &str) -> Call {
        let target = Target::Path(document_path(place.repository, &place.selector));
        let what = format!("push {}/{place}", self.endpoint.host());
        Call::new(Method::PUT, target, Access::Push(place.repository.clone()), what)
            .header(CONTENT_TYPE, media_type)
            .patience(self.endpoint.settings().commit_timeout)
    }

    /// What was there already is listed among the referrers of its subject, too: the run that pushed it may have been
    /// killed before that.
    async fn keep_listed(
        &self,
        repository: &Repository,
        bytes: Bytes,
        media_type: &MediaType,
        digest: Digest,
    ) -> Result<()> {
        let document = Document::parse_known(bytes, media_type, digest)?;
        let Some(subject) = document.subject().map(|subject| subject.digest) else { return Ok(()) };
        if self.client.referrers(self.endpoint.host(), repository, subject).await?.is_none() {
            self.subjects.note(repository, subject, &document);
        }
        Ok(())
    }

    /// Whether the repository has the blob.
    async fn held(&self, blob: &Blob, repository: &Repository, turn: Turn) -> Result<Presence> {
        let (host, digest) = (self.endpoint.host(), blob.digest);
        let what = format!("ask {host}/{repository} for blob {digest}");
        let target = Target::Path(format!("{repository}/blobs/{digest}"));
        // With the right to push, as everything here: one token does for all, and a repository that is still to be made
        // may be hidden from who wants only to read.
        let call = Call::new(Method::HEAD, target, Access::Push(repository.clone()), what).turn(turn);
        self.endpoint
            .budget()
            .run(async || {
                let response = self.endpoint.send(&call, Payload::Nothing).await?;
                match response.status() {
                    StatusCode::NOT_FOUND => Ok(Presence::Absent),
                    _ if response.knows_no_head() => Ok(Presence::Unknown),
                    StatusCode::OK => match response.content_length() {
                        Some(found) if found != blob.size => Err(Failure::lasting(not_its_word(
                            &format!("{host}/{repository}"),
                            digest,
                            &format!("it has {found} bytes there, not {}", blob.size),
                        ))),
                        _ => Ok(Presence::Here),
                    },
                    _ => Err(response.refusal().await),
                }
            })
            .await
    }

    /// Whether an interrupted run has left the blob in a new repository, about which nobody has asked yet.
    async fn was_left(&self, blob: &Blob, scope: ScopeId, upload: &mut Upload) -> Result<bool> {
        if !self.fresh.spares(blob, scope, &upload.repository) {
            return Ok(false);
        }
        // Its body may hold a place among those who read from here.
        let repository = upload.repository.clone();
        let held = self.held(blob, &repository, Turn::GoesOn);
        match fresh::is_small(blob) {
            // What the answer says is looked at: whoever mounts may not have looked himself.
            true => Ok(upload.is_there().await? && held.await? != Presence::Absent),
            false => Ok(held.await? == Presence::Here),
        }
    }

    /// What is there: what the tag points to, or the digest itself.
    async fn now(&self, place: &Place<'_>) -> Result<Option<Digest>, Failure> {
        let host = self.endpoint.host();
        let target = Target::Path(document_path(place.repository, &place.selector));
        let access = Access::Push(place.repository.clone());
        let call = Call::new(Method::HEAD, target, access, format!("look at {host}/{place}")).accept_documents();
        let response = self.endpoint.send(&call, Payload::Nothing).await?;
        let said = match response.status() {
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::OK => said_digest(&response, host).map_err(Failure::lasting)?,
            _ if response.knows_no_head() => None,
            _ => return Err(response.refusal().await),
        };
        match said {
            Some(said) => Ok(Some(said)),
            None => self.now_by_get(place).await,
        }
    }

    async fn now_by_get(&self, place: &Place<'_>) -> Result<Option<Digest>, Failure> {
        match document_digest(&self.endpoint, place.repository, &place.selector).await {
            Ok(digest) => Ok(Some(digest)),
            Err(failure) if failure.is_not_found() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Whether the tag points to `digest` now.
    async fn check_tag(&self, place: &Place<'_>, digest: Digest) -> Result<(), Failure> {
        let host = self.endpoint.host();
        let found = match self.now(place).await? {
            // Where HEAD is unknown it may be answered so, too.
            None => self.now_by_get(place).await?,
            found => found,
        };
        match found {
            Some(found) if found == digest => Ok(()),
            // Just written, it may take a moment to be seen.
            None => Err(Failure::passing(
                Error::registry(format!("{host}/{place} is not there after {digest} was pushed there"))
                    .hint("the registry may need a moment: run the same command again"),
            )),
            Some(found) => Err(Failure::passing(
                Error::registry(format!("{host}/{place} is {found} after {digest} was pushed there")).hint(
                    "someone else pushes to the same tag, or the registry converts images: digests must not change",
                ),
            )),
        }
    }

    /// Every tag that is there with other content, as it is written.
    async fn clobbered(&self, contents: &Contents) -> Result<Vec<String>> {
        let asked: Vec<_> = contents.landing_ids().map(|id| self.clobbered_by(contents, id).boxed()).collect();
        let jobs = self.endpoint.settings().jobs.max(1);
        let found: Vec<Option<String>> = stream::iter(asked).buffered(jobs).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn clobbered_by(&self, contents: &Contents, landing: LandingId) -> Result<Option<String>> {
        let landing = contents.landing(landing);
        let Some(tag) = &landing.tag else { return Ok(None) };
        let (_, media_type) = contents.documents.get(landing.document)?;
        if tag.referrers_of(landing.document).is_some() && media_type.document_kind() == Some(DocumentKind::Index) {
            // It is added to what is there.
            return Ok(None);
        }
        let repository = self.repository(contents, landing.scope)?;
        let place = Place { repository: &repository, selector: Selector::Tag(tag.clone()) };
        let found = match self.endpoint.budget().run(|| self.now(&place)).await {
            Err(error) if self.keep_going && error.kind() != Kind::Interrupted => return Ok(None),
            found => found?,
        };
        let other = found.filter(|found| *found != landing.document);
        Ok(other.map(|found| format!("{}/{place} is {found}", self.endpoint.host())))
    }
}

/// A repository and what is named in it; shown as `path:tag` or `path@digest`.
pub(super) struct Place<'a> {
    pub(super) repository: &'a Repository,
    pub(super) selector: Selector,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.repository, self.selector)
    }
}

/// Whether a manifest was refused because its tag may not be moved. There is no code for it in the specification: Harbor
/// answers 412, quay 409, ECR 400 and others 403 with words of their own.
fn keeps_tags(status: StatusCode, failure: &Failure) -> bool {
    match status.as_u16() {
        409 | 412 => true,
        400 | 403 | 405 => {
            ["mmutable", "MMUTABLE", "cannot be overwritten", "already exists"].iter().any(|word| failure.says(word))
        }
        _ => false,
    }
}

#[async_trait]
impl Destination for RegistryDestination {
    fn order(&self) -> Order {
        Order::Any
    }

    async fn prepare(&self, contents: &Contents) -> Result<HashSet<BlobId>> {
        for (number, _) in contents.scopes.iter().enumerate() {
            self.repository(contents, ScopeId(number as u32))?;
        }
        let host = self.endpoint.host();
        let call = Call::get(String::new(), Access::None, format!("use {host} as a registry"));
        self.endpoint
            .budget()
            .run(async || {
                let response = self.endpoint.send(&call, Payload::Nothing).await?;
                match response.status() {
                    StatusCode::NOT_FOUND => Err(Failure::lasting(
                        Error::registry(format!("{host} answers, but not as a registry does: there is no /v2/"))
                            .hint("check host and port"),
                    )),
                    _ => response.expect(&[StatusCode::OK]).await.map(drop),
                }
            })
            .await?;
        if self.existing == ExistingTags::Keep {
            let clobbered = self.clobbered(contents).await?;
            if !clobbered.is_empty() {
                return Err(Error::registry("tags that are there already would be moved (--no-clobber):")
                    .list(clobbered)
                    .hint("nothing was pushed: import below another prefix, or without --no-clobber"));
            }
        }
        self.fresh.ask(&self.endpoint, contents, |scope| self.repository(contents, scope)).await?;
        Ok(HashSet::new())
    }

    async fn presence(&self, contents: &Contents, blob: BlobId, scope: ScopeId) -> Result<Presence> {
        let (blob, repository) = (contents.blob(blob), self.repository(contents, scope)?);
        match self.fresh.spares(blob, scope, &repository) {
            true => Ok(Presence::Unknown),
            false => self.held(blob, &repository, Turn::Waits).await,
        }
    }

    async fn put(&self, contents: &Contents, blob: BlobId, scope: ScopeId, body: &mut Body) -> Result<Stored> {
        let mut upload = self.upload(contents, blob, scope)?;
        if self.was_left(contents.blob(blob), scope, &mut upload).await? {
            return Ok(Stored::WasThere);
        }
        upload.send(body).await?;
        self.news.note(&upload.repository, upload.digest);
        Ok(Stored::Sent)
    }

    async fn link(&self, contents: &Contents, blob: BlobId, from: ScopeId, to: ScopeId) -> Result<Linked> {
        self.upload(contents, blob, to)?.mount(&self.repository(contents, from)?).await
    }

    async fn read_back(&self, contents: &Contents, blob: BlobId, scope: ScopeId) -> Result<Chunks> {
        let (blob, repository) = (contents.blob(blob), self.repository(contents, scope)?);
        let holder = Holder { endpoint: self.endpoint.clone(), repository };
        download::open(vec![holder], blob.digest, blob.size, 0).await
    }

    async fn land(&self, contents: &Contents, landing: LandingId) -> Result<()> {
        let landing = contents.landing(landing);
        let repository = self.repository(contents, landing.scope)?;
        let (bytes, media_type) = contents.documents.get(landing.document)?;
        let selector = match &landing.tag {
            Some(tag) => Selector::Tag(tag.clone()),
            None => Selector::Digest(landing.document),
        };
        let (host, place) = (self.endpoint.host(), Place { repository: &repository, selector });
        let listed = landing.tag.as_ref().and_then(|tag| tag.referrers_of(landing.document));
        if let (Some(subject), Some(DocumentKind::Index)) = (listed, media_type.document_kind()) {
            let list = Document::parse_known(bytes, media_type, landing.document)?;
            return self.put_list(&repository, subject, &list).await;
        }
        let mut budget = self.endpoint.budget();
        // A new repository has no tags; what an interrupted run has left in it is manifests.
        let is_new = self.fresh.has(&repository) && self.existing == ExistingTags::Move;
        let cannot_be_there = match &landing.tag {
            // Others may have begun a list of referrers since, which must not be replaced.
            Some(_) => is_new && listed.is_none(),
            None => self.news.is_below(contents, landing, &repository),
        };
        let there = match cannot_be_there {
            true => None,
            false => budget.run(|| self.now(&place)).await?,
        };
        match there {
            // Left alone: a tag may be immutable, and an interrupted run sends nothing twice.
            Some(found) if found == landing.document => {
                return self.keep_listed(&repository, bytes, media_type, landing.document).await;
            }
            Some(found) if self.existing == ExistingTags::Keep => {
                return Err(Error::registry(format!("{host}/{place} is {found} since a moment (--no-clobber)"))
                    .hint("someone else pushes there: the tag was left as it is"));
            }
            // The registry's own list would be lost.
            Some(found) if listed.is_some_and(|subject| subject != found) && self.is_list(&place, found).await? => {
                return Err(Error::registry(format!(
                    "{host}/{place} is a list of referrers, and {} is none",
                    landing.document
                ))
                .hint("look at that tag: delete it there, or import without this name (--only)"));
            }
            _ => {}
        }
        let call = self.put_call(&place, media_type.as_str());
        let noticed = budget.run(|| self.put_document(&call, &bytes, &place, landing.document, there)).await?;
        self.news.note(&repository, landing.document);
        if !noticed {
            let document = Document::parse_known(bytes, media_type, landing.document)?;
            if let Some(subject) = document.subject() {
                self.subjects.note(&repository, subject.digest, &document);
            }
        }
        if landing.tag.is_some() {
            budget.run(|| self.check_tag(&place, landing.document)).await?;
        }
        Ok(())
    }

    async fn confirm(&self, contents: &Contents) -> Result<Vec<error::Failure>> {
        self.confirm_lists(contents).await
    }

    async fn commit(&self, _: &Contents) -> Result<()> {
        Ok(())
    }

    async fn abandon(&self) {
        let jobs = self.endpoint.settings().jobs.max(1);
        let calls = stream::iter(self.sessions.take());
        let all = calls.for_each_concurrent(jobs, async |call| drop(self.endpoint.send(&call, Payload::Nothing).await));
        // Someone is waiting for the prompt; what is left the registry clears away in its own time.
        let _ = tokio::time::timeout(ABANDON, all).await;
    }
}

/// How Docker's media types begin.
const DOCKER: &[u8] = b"application/vnd.docker.";
/// What may be behind a refusal of such an image.
const NO_DOCKER: &str = "this image has Docker's media types, which some registries take only when they are told to (zot: \
http, compat: [\"docker2s2\"]); it is never converted, so that its digest stays";
/// How long is spent on taking back what was begun.
const ABANDON: Duration = Duration::from_secs(3);
