//! A registry as the place that is written to.

use std::collections::HashSet;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use super::new_repositories::{self};
use super::put_manifest::{Manifest, ManifestTarget, Pushed};
use super::registry::{ExistingTags, RegistryDestination};
use super::upload::Upload;
use crate::content::{
    Blob, BlobId, BlobStatus, Body, Chunks, Contents, Destination, ManifestId, MountOutcome, Order, PutBlob,
    PutManifest, RepositoryId,
};
use crate::error::{self, Error, Kind, Result};
use crate::oci::{Digest, Document, DocumentKind, MediaType, Name, Repository, Selector};
use crate::registry::http::call::Access;
use crate::registry::http::limits::Priority;
use crate::registry::http::retry::AttemptError;
use crate::registry::pull::download::{self, Holder};
use crate::registry::pull::resolve::{Resolved, resolve, resolve_by_get};

impl RegistryDestination {
    /// What is under a name now, if anything is and the registry tells: one request. A registry has what its manifests
    /// refer to.
    ///
    /// # Errors
    /// `Registry` when it cannot be asked.
    pub async fn landed(&self, name: &Name) -> Result<Option<Digest>> {
        let repository = self.below_prefix(name.repository())?;
        let selector = match name {
            Name::Tagged(_, tag) => Selector::Tag(tag.clone()),
            Name::Digested(_, digest) => Selector::Digest(*digest),
        };
        let place = ManifestTarget { repository: &repository, selector };
        Ok(self.endpoint.budget().run(|| self.now(&place)).await?.digest())
    }

    fn upload(&self, contents: &Contents, blob: BlobId, scope: RepositoryId) -> Result<Upload> {
        let blob = contents.blob(blob);
        let repository = self.repository(contents, scope)?;
        Ok(Upload::new(self.endpoint.clone(), repository, blob.digest, blob.size, self.sessions.clone()))
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
        if !self.lists_referrers {
            return Ok(());
        }
        let document = Document::parse_known(bytes, media_type, digest)?;
        let Some(subject) = document.subject().map(|subject| subject.digest) else { return Ok(()) };
        if !self.client.has_referrers_api(self.endpoint.host(), repository, subject).await? {
            self.subjects.note(repository, subject, digest);
        }
        Ok(())
    }

    /// A list of referrers that cannot be read is never replaced: it may hold what this run does not know.
    pub(crate) fn unreadable_list(&self, place: &ManifestTarget<'_>, error: Error) -> Error {
        let host = self.endpoint.host();
        error
            .context(format!("cannot add to the list of referrers {host}/{place}, which cannot be read"))
            .hint("give the login the right to read that tag, or import into an empty repository, below another prefix")
    }

    /// Whether an interrupted run has left the blob in a new repository, about which nobody has asked yet.
    async fn was_left(&self, blob: &Blob, scope: RepositoryId, upload: &mut Upload) -> Result<bool> {
        if !self.fresh.skip_exists_check(blob, scope, &upload.repository) {
            return Ok(false);
        }
        // Its body may hold a place among those who read from here.
        let repository = upload.repository.clone();
        let held = self.endpoint.blob_status(&repository, blob.digest, blob.size, Priority::GoesOn);
        match new_repositories::is_small(blob) {
            // What the answer says is looked at: whoever mounts may not have looked himself.
            true => Ok(upload.is_there().await? && held.await? != BlobStatus::Absent),
            false => Ok(held.await? == BlobStatus::Present),
        }
    }

    /// What is there: what the tag points to, or the digest itself.
    pub(crate) async fn now(&self, place: &ManifestTarget<'_>) -> Result<Resolved, AttemptError> {
        resolve(&self.endpoint, place.repository, &place.selector).await
    }

    /// Whether the manifest at `place` is `digest` now: its bytes are fetched, as the answer to HEAD only repeats what was
    /// pushed.
    async fn check_manifest(&self, place: &ManifestTarget<'_>, digest: Digest) -> Result<(), AttemptError> {
        let host = self.endpoint.host();
        match resolve_by_get(&self.endpoint, place.repository, &place.selector).await? {
            Resolved::At(found) if found == digest => Ok(()),
            Resolved::Denied(error) => Err(AttemptError::permanent(error)),
            // Just written, it may take a moment to be seen.
            Resolved::Absent => Err(AttemptError::temporary(
                Error::registry(format!("{host}/{place} is not there after {digest} was pushed there"))
                    .hint("the registry may need a moment: run the same command again"),
            )),
            Resolved::At(found) => Err(AttemptError::temporary(
                Error::registry(format!("{host}/{place} is {found} after {digest} was pushed there")).hint(
                    "someone else pushes to the same tag, or the registry converts images: digests must not change",
                ),
            )),
        }
    }

    /// Every tag that is there with other content, as it is written.
    async fn clobbered(&self, contents: &Contents) -> Result<Vec<String>> {
        let asked: Vec<_> = contents.manifest_ids().map(|id| self.clobbered_by(contents, id).boxed()).collect();
        let jobs = self.endpoint.settings().jobs.max(1);
        let found: Vec<Option<String>> = stream::iter(asked).buffered(jobs).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn clobbered_by(&self, contents: &Contents, landing: ManifestId) -> Result<Option<String>> {
        let landing = contents.manifest(landing);
        let Some(tag) = &landing.tag else { return Ok(None) };
        let (_, media_type) = contents.documents.get(landing.document)?;
        if tag.referrers_of(landing.document).is_some() && media_type.document_kind() == Some(DocumentKind::Index) {
            // It is added to what is there.
            return Ok(None);
        }
        let repository = self.repository(contents, landing.scope)?;
        let place = ManifestTarget { repository: &repository, selector: Selector::Tag(tag.clone()) };
        let found = match self.endpoint.budget().run(|| self.now(&place)).await {
            // Putting it tells.
            Err(error) if self.keep_going && error.kind() != Kind::Interrupted => return Ok(None),
            Ok(Resolved::Denied(_)) if self.keep_going => return Ok(None),
            Ok(Resolved::Denied(error)) => return Err(cannot_keep(error)),
            found => found?.digest(),
        };
        let other = found.filter(|found| *found != landing.document);
        Ok(other.map(|found| format!("{}/{place} is {found}", self.endpoint.host())))
    }
}

/// With `--no-clobber` nothing is pushed to a tag that may be there.
fn cannot_keep(error: Error) -> Error {
    error.hint("--no-clobber needs to see every tag: give the login the right to read, or import without --no-clobber")
}

#[async_trait]
impl Destination for RegistryDestination {
    fn order(&self) -> Order {
        Order::Any
    }

    async fn prepare(&self, contents: &Contents) -> Result<HashSet<BlobId>> {
        for (number, _) in contents.scopes.iter().enumerate() {
            self.repository(contents, RepositoryId(number as u32))?;
        }
        let access = match contents.scopes.is_empty() {
            true => Access::None,
            false => Access::Push(self.repository(contents, RepositoryId(0))?),
        };
        self.endpoint.check_registry(access).await?;
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

    async fn blob_status(&self, contents: &Contents, blob: BlobId, scope: RepositoryId) -> Result<BlobStatus> {
        let (blob, repository) = (contents.blob(blob), self.repository(contents, scope)?);
        match self.fresh.skip_exists_check(blob, scope, &repository) {
            true => Ok(BlobStatus::Unknown),
            false => self.endpoint.blob_status(&repository, blob.digest, blob.size, Priority::Waits).await,
        }
    }

    async fn put_blob(
        &self,
        contents: &Contents,
        blob: BlobId,
        scope: RepositoryId,
        body: &mut Body,
    ) -> Result<PutBlob> {
        let mut upload = self.upload(contents, blob, scope)?;
        let is_missing = self.mounted.is_missing(&upload.repository, upload.digest);
        if !is_missing && self.was_left(contents.blob(blob), scope, &mut upload).await? {
            // By a mount from itself, which need not be true either.
            self.mounted.note(&upload.repository, upload.digest);
            return Ok(PutBlob::AlreadyThere);
        }
        upload.send(body).await?;
        self.news.note(&upload.repository, upload.digest);
        self.mounted.note_sent(&upload.repository, upload.digest);
        Ok(PutBlob::Uploaded)
    }

    async fn mount_blob(
        &self,
        contents: &Contents,
        blob: BlobId,
        from: RepositoryId,
        to: RepositoryId,
    ) -> Result<MountOutcome> {
        let upload = self.upload(contents, blob, to)?;
        let linked = upload.mount(&self.repository(contents, from)?).await?;
        if linked == MountOutcome::Done {
            self.mounted.note(&upload.repository, upload.digest);
        }
        Ok(linked)
    }

    async fn read_back(&self, contents: &Contents, blob: BlobId, scope: RepositoryId) -> Result<Chunks> {
        let (blob, repository) = (contents.blob(blob), self.repository(contents, scope)?);
        let holder = Holder { endpoint: self.endpoint.clone(), repository };
        download::open(vec![holder], blob.digest, blob.size, 0).await
    }

    async fn put_manifest(&self, contents: &Contents, landing: ManifestId) -> Result<PutManifest> {
        let landing = contents.manifest(landing);
        let repository = self.repository(contents, landing.scope)?;
        let (bytes, media_type) = contents.documents.get(landing.document)?;
        let selector = match &landing.tag {
            Some(tag) => Selector::Tag(tag.clone()),
            None => Selector::Digest(landing.document),
        };
        let (host, place) = (self.endpoint.host(), ManifestTarget { repository: &repository, selector });
        let listed = landing.tag.as_ref().and_then(|tag| tag.referrers_of(landing.document));
        if let (Some(subject), Some(DocumentKind::Index)) = (listed, media_type.document_kind()) {
            self.put_list(contents, &repository, subject, landing.document).await?;
            return Ok(PutManifest::Done);
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
            false => match budget.run(|| self.now(&place)).await? {
                Resolved::Denied(error) if self.existing == ExistingTags::Keep => return Err(cannot_keep(error)),
                Resolved::Denied(error) => {
                    if listed.is_some() && !self.fresh.has(&repository) {
                        return Err(self.unreadable_list(&place, error));
                    }
                    None
                }
                there => there.digest(),
            },
        };
        match there {
            // Left alone: a tag may be immutable, and an interrupted run sends nothing twice.
            Some(found) if found == landing.document => {
                self.keep_listed(&repository, bytes, media_type, landing.document).await?;
                return Ok(PutManifest::Done);
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
        let manifest = Manifest::new(&bytes, media_type.as_str(), landing.document, &place, there);
        let noticed = match self.put_until_taken(contents, landing, &manifest, &mut budget).await? {
            Pushed::Taken { noticed } => noticed,
            Pushed::IsThere => {
                self.keep_listed(&repository, bytes, media_type, landing.document).await?;
                return Ok(PutManifest::Done);
            }
            Pushed::BlobsMissing(missing) => return Ok(PutManifest::BlobsMissing(missing)),
        };
        self.news.note(&repository, landing.document);
        if !noticed && self.lists_referrers {
            let document = Document::parse_known(bytes, media_type, landing.document)?;
            if let Some(subject) = document.subject() {
                self.subjects.note(&repository, subject.digest, landing.document);
            }
        }
        if landing.tag.is_some() {
            budget.run(|| self.check_manifest(&place, landing.document)).await?;
        }
        Ok(PutManifest::Done)
    }

    async fn check_landed(&self, contents: &Contents, landing: ManifestId) -> Result<()> {
        let landing = contents.manifest(landing);
        let repository = self.repository(contents, landing.scope)?;
        let (_, media_type) = contents.documents.get(landing.document)?;
        let listed = landing.tag.as_ref().and_then(|tag| tag.referrers_of(landing.document));
        if listed.is_some() && media_type.document_kind() == Some(DocumentKind::Index) {
            // It was added to what is there, and `confirm` has read that.
            return Ok(());
        }
        let selector = match &landing.tag {
            Some(tag) => Selector::Tag(tag.clone()),
            None => Selector::Digest(landing.document),
        };
        let place = ManifestTarget { repository: &repository, selector };
        self.endpoint.budget().run(|| self.check_manifest(&place, landing.document)).await
    }

    async fn confirm(&self, contents: &Contents) -> Result<Vec<error::Failure>> {
        self.confirm_lists(contents).await
    }

    async fn commit(&self, _: &Contents) -> Result<()> {
        // Sessions whose last response was lost.
        self.endpoint.cancel_all(&self.sessions).await;
        Ok(())
    }

    async fn abort(&self) {
        self.endpoint.cancel_all(&self.sessions).await;
    }
}
