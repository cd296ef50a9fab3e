//! Lists of referrers (`sha256-<hex>`) at a destination: added to, never replaced, and read again after they are written.
//!
//! No registry has to offer a conditional PUT, so two clients that add to one list at the same time can each write it
//! without the entry of the other (google/go-containerregistry#2205). So all lists that were written are read again after
//! a pause that is longer than the time between reading and writing one, and are written again where an entry is missing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt, stream};

use super::list_state::Wanted;
use super::put_manifest::{Manifest, ManifestTarget};
use super::referrers_tag::{ListEntry, entries, merged};
use super::registry::RegistryDestination;
use crate::content::{Catalog, Contents};
use crate::error::{Error, Failure, Kind, Result};
use crate::oci::{Digest, Document, Repository, Selector, View};
use crate::registry::pull::referrers::TagList;
use crate::registry::pull::referrers::fallback_tag;

/// What is found under the tag of a list.
enum At {
    List(Box<Document>),
    Nothing,
    /// In a repository that was empty before this run: the registry does not show it.
    Hidden,
}

/// Whether a list was written before by this run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Never,
    Before,
}

impl Wanted {
    fn list(&self, contents: &Contents) -> Result<Option<Document>> {
        self.list.map(|digest| document(contents, digest)).transpose()
    }

    fn entries(&self, contents: &Contents, list: Option<&Document>) -> Result<Vec<ListEntry>> {
        let mut all = list.map(entries).transpose()?.unwrap_or_default();
        for referrer in &self.referrers {
            all.push(ListEntry::of(&document(contents, *referrer)?)?);
        }
        Ok(all)
    }
}

fn document(contents: &Contents, digest: Digest) -> Result<Document> {
    let (bytes, media_type) = contents.documents.get(digest)?;
    Document::parse_known(bytes, media_type, digest)
}

impl RegistryDestination {
    /// Adds the entries of a list that was carried. Its bytes are kept where nothing is listed there that it lacks.
    pub(crate) async fn put_list(
        &self,
        contents: &Contents,
        repository: &Repository,
        subject: Digest,
        list: Digest,
    ) -> Result<()> {
        let wanted = Wanted { list: Some(list), ..Wanted::default() };
        self.add_to_list(contents, repository, subject, wanted, Written::Never).await
    }

    async fn add_to_list(
        &self,
        contents: &Contents,
        repository: &Repository,
        subject: Digest,
        wanted: Wanted,
        written: Written,
    ) -> Result<()> {
        let (host, key) = (self.endpoint.host(), (repository.clone(), subject));
        let place = ManifestTarget { repository, selector: Selector::Tag(fallback_tag(subject)) };
        let begun = Instant::now();
        let (there, is_hidden) = match (self.list_at(&place, subject).await?, written) {
            (At::List(document), _) => (Some(*document), false),
            (At::Nothing, Written::Never) => (None, false),
            (At::Hidden, Written::Never) => (None, true),
            // Just written, it may take a moment to be seen.
            (At::Nothing, Written::Before) => {
                self.lists.state().note_written(key, wanted);
                return Ok(());
            }
            (At::Hidden, Written::Before) => return Ok(()),
        };
        let listed = there.as_ref().map(Document::digest);
        let carried = wanted.list(contents)?;
        let size: u64 = there.iter().chain(&carried).map(Document::size).sum();
        let _turn = match size > LARGE {
            true => Some(self.lists.large.acquire().await.expect("never closed")),
            false => None,
        };
        let entries = wanted.entries(contents, carried.as_ref())?;
        let only_carried = carried.as_ref().filter(|_| wanted.referrers.is_empty());
        let list = merged(there.as_ref(), only_carried, entries)
            .map_err(|e| e.context(format!("cannot list referrers under {host}/{place}")))?;
        let now_there = match list {
            None => listed,
            Some(list) => {
                let digest = Digest::of(&list.bytes);
                let manifest = Manifest::new(&list.bytes, &list.media_type, digest, &place, listed);
                self.endpoint.budget().run(|| self.endpoint.put_manifest(&manifest)).await?;
                let mut state = self.lists.state();
                state.slowest = state.slowest.max(begun.elapsed());
                if !is_hidden {
                    state.note_written(key.clone(), wanted.clone());
                }
                Some(digest)
            }
        };
        if wanted.list.is_some() && now_there == wanted.list {
            self.lists.state().as_carried.insert(key);
        }
        Ok(())
    }

    /// The list under a tag.
    ///
    /// # Errors
    /// `Registry` if there may be a list that cannot be read: it is never replaced.
    async fn list_at(&self, place: &ManifestTarget<'_>, subject: Digest) -> Result<At> {
        match self.client.referrers_tag(self.endpoint.host(), place.repository, subject).await? {
            TagList::Found(document) => Ok(At::List(document)),
            TagList::Absent => Ok(At::Nothing),
            // Before this run there was no tag in it.
            TagList::Denied(_) if self.fresh.has(place.repository) => Ok(At::Hidden),
            TagList::Denied(error) => Err(self.unreadable_list(place, error)),
            TagList::Subject => Err(Error::registry(format!(
                "{}/{place} is the image itself, so no list of referrers can be kept there",
                self.endpoint.host()
            ))
            .hint("delete that tag if someone made it; GitLab takes it for the digest, and shows no such lists")),
        }
    }

    /// Whether what was found under a tag is an index.
    pub(crate) async fn is_list(&self, place: &ManifestTarget<'_>, found: Digest) -> Result<bool> {
        let selector = Selector::Digest(found);
        let document = self.client.document(self.endpoint.host(), place.repository, &selector).await?;
        Ok(matches!(document.view(), View::Index { .. }))
    }

    /// Lists what the registry took no notice of, then reads every list that was written until all entries are there.
    /// Returns the images whose entries are not.
    pub(crate) async fn confirm_lists(&self, contents: &Contents) -> Result<Vec<Failure>> {
        let mut noted = self.subjects.take();
        // A name that was carried is not changed: it holds the list as it was sealed.
        noted.retain(|key, _| !self.lists.state().as_carried.contains(key));
        let noted =
            noted.into_iter().map(|(key, referrers)| (key, Wanted { referrers, ..Wanted::default() })).collect();
        let mut failures = self.add_to_lists(contents, noted, Written::Never).await?;
        for _ in 0..MOST_PASSES {
            let (written, pause) = {
                let mut state = self.lists.state();
                let pause = (state.slowest * LONGER).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
                (std::mem::take(&mut state.written), pause)
            };
            if written.is_empty() {
                return Ok(failures);
            }
            tokio::time::sleep(pause).await;
            failures.extend(self.add_to_lists(contents, written, Written::Before).await?);
        }
        let written = std::mem::take(&mut self.lists.state().written);
        for ((repository, subject), wanted) in written {
            let place = ManifestTarget { repository: &repository, selector: Selector::Tag(fallback_tag(subject)) };
            let error = Error::registry(format!(
                "the list of referrers {}/{place} lacked entries each time it was read, {MOST_PASSES} times",
                self.endpoint.host()
            ))
            .hint("someone else writes that list, or the registry does not keep it: run the same command again");
            failures.extend(self.failures_of(contents, &repository, subject, &wanted, &error));
        }
        Ok(failures)
    }

    async fn add_to_lists(
        &self,
        contents: &Contents,
        lists: BTreeMap<(Repository, Digest), Wanted>,
        written: Written,
    ) -> Result<Vec<Failure>> {
        let add = |((repository, subject), wanted): ((Repository, Digest), Wanted)| async move {
            let added = self.add_to_list(contents, &repository, subject, wanted.clone(), written).await;
            (repository, subject, wanted, added)
        };
        let adding: Vec<_> = lists.into_iter().map(|list| add(list).boxed()).collect();
        let mut adding = stream::iter(adding).buffer_unordered(self.endpoint.settings().jobs.max(1));
        let mut failures = Vec::new();
        while let Some((repository, subject, wanted, added)) = adding.next().await {
            match added {
                Ok(()) => {}
                Err(error) if error.kind() == Kind::Interrupted => return Err(error),
                Err(error) => failures.extend(self.failures_of(contents, &repository, subject, &wanted, &error)),
            }
        }
        Ok(failures)
    }

    /// The images that are to be listed, or that are the list.
    fn failures_of(
        &self,
        contents: &Contents,
        repository: &Repository,
        subject: Digest,
        wanted: &Wanted,
        error: &Error,
    ) -> Vec<Failure> {
        let tag = fallback_tag(subject);
        let names = contents.images.iter().filter(|image| {
            let is_named = image.name.tag() == Some(&tag) || wanted.referrers.contains(&image.document);
            is_named && self.below_prefix(image.name.repository()).is_ok_and(|place| place == *repository)
        });
        let mut names: Vec<String> = names.map(|image| image.name.to_string()).collect();
        if names.is_empty() {
            names.push(format!("{repository}:{tag}"));
        }
        names.into_iter().map(|image| Failure { image, error: error.flattened() }).collect()
    }
}

/// In bytes, 256 KiB: larger lists are merged one at a time.
const LARGE: u64 = 256 << 10;
/// How often lists are read again at most: with each pass the entries of at least one writer are there to stay.
const MOST_PASSES: usize = 10;
/// How many times longer the pause is than the time from reading a list until it was written.
const LONGER: u32 = 8;
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
