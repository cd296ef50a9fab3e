//! What tags point to now, and which images are at their destination already: before a manifest is read.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt, stream};
use tokio::sync::OnceCell;

use super::{SyncOptions, SyncTarget};
use crate::content::{Catalog, Contents, MAX_NESTING, NamedImage, ResolvedTag, SourceRepository};
use crate::error::{Error, Failure, Kind, Result};
use crate::oci::{Digest, Document, DocumentKind, Name, Reference, Selector, View};
use crate::plan::{self, Platforms, RequestedImage};

/// What came of looking.
#[derive(Default)]
pub(crate) struct UpToDate {
    /// What is to be planned, each pinned to what is to land where that is known.
    pub(crate) images: Vec<RequestedImage>,
    /// What is there already.
    pub(crate) there: Vec<NamedImage>,
    /// What cannot be found out.
    pub(crate) failures: Vec<Failure>,
    /// What a person should know.
    pub(crate) warnings: Vec<String>,
}

/// Looks at every image, here and there, many at once. The order stays.
///
/// # Errors
/// Only when the run is stopped.
pub(crate) async fn check(
    catalog: &dyn Catalog,
    references: Vec<Reference>,
    wishes: &SyncOptions,
    onto: &SyncTarget,
) -> Result<UpToDate> {
    // In a tree skopeo chooses from lists as well, and trees are equal to those of skopeo.
    let chooses_from_lists = matches!(onto, SyncTarget::Directory(_)) && !wishes.plan.referrers;
    let platforms = &wishes.plan.platforms;
    let looker =
        StatusCheck { catalog, platforms, chooses_from_lists, chosen: Mutex::default(), zstd: Mutex::default() };
    let mut looking = stream::iter(references)
        .map(async |reference| {
            let seen = looker.image_status(&reference, wishes, onto).await;
            (reference, seen)
        })
        .buffered(wishes.plan.jobs.max(1));
    let mut looked = UpToDate::default();
    while let Some((reference, seen)) = looking.next().await {
        match seen {
            Ok(ImageStatus::There(image)) => looked.there.push(image),
            Ok(ImageStatus::Pinned(digest)) => {
                looked.images.push(RequestedImage { pinned: Some(digest), ..reference.into() })
            }
            Ok(ImageStatus::Unknown) => looked.images.push(reference.into()),
            Err(error) if error.kind() == Kind::Interrupted => return Err(error),
            Err(error) => looked.failures.push(Failure { image: reference.to_string(), error }),
        }
    }
    drop(looking);
    let zstd: Vec<String> = looker.zstd.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().collect();
    looked.warnings.extend(plan::zstd(&zstd));
    Ok(looked)
}

/// Takes out of contents what is at its destination already, and with `keep_going` what the destination does not answer
/// about.
///
/// # Errors
/// `Registry` when the destination cannot be asked.
pub(crate) async fn without_there(contents: Contents, wishes: &SyncOptions, onto: &SyncTarget) -> Result<Remaining> {
    let SyncTarget::Registry(registry) = onto else { return Ok(Remaining { contents, ..Remaining::default() }) };
    let mut asking = stream::iter(contents.images.clone())
        .map(async |image: NamedImage| (registry.landed(&image.name).await, image))
        .buffered(wishes.plan.jobs.max(1));
    let mut remaining = Remaining::default();
    let mut names: HashSet<Name> = HashSet::new();
    while let Some((landed, image)) = asking.next().await {
        match landed {
            Ok(found) if found != Some(image.document) => continue,
            Ok(_) => {
                names.insert(image.name.clone());
                remaining.there.push(image);
            }
            Err(error) if wishes.plan.keep_going && error.kind() != Kind::Interrupted => {
                names.insert(image.name);
                remaining.failures.push(Failure { image: image.source, error });
            }
            Err(error) => return Err(error),
        }
    }
    drop(asking);
    remaining.contents = match names.is_empty() {
        true => contents,
        false => contents.only(|image| !names.contains(&image.name))?,
    };
    Ok(remaining)
}

/// What a look at the destination leaves of planned contents.
#[derive(Default)]
pub(crate) struct Remaining {
    /// What is to be moved.
    pub(crate) contents: Contents,
    /// What is there already.
    pub(crate) there: Vec<NamedImage>,
    /// What the destination does not answer about.
    pub(crate) failures: Vec<Failure>,
}

enum ImageStatus {
    There(NamedImage),
    Pinned(Digest),
    /// It has to be read.
    Unknown,
}

struct StatusCheck<'a> {
    catalog: &'a dyn Catalog,
    platforms: &'a Platforms,
    /// Whether a list of referrers is taken for an index of platforms.
    chooses_from_lists: bool,
    /// What takes an index's place; found out once, however many tags point to it.
    chosen: Mutex<HashMap<(SourceRepository, Digest), Choice>>,
    /// Images of which the variant with zstd layers takes the place of their index; one of its tags for each index.
    zstd: Mutex<BTreeSet<String>>,
}

/// A platform's manifest, once it is known.
type Choice = Arc<OnceCell<Digest>>;

impl StatusCheck<'_> {
    async fn image_status(
        &self,
        reference: &Reference,
        wishes: &SyncOptions,
        onto: &SyncTarget,
    ) -> Result<ImageStatus> {
        let Some(digest) = self.landing(reference).await? else { return Ok(ImageStatus::Unknown) };
        let name = wishes.plan.names.name(reference, digest)?;
        match onto {
            // What refers to an image that is there need not be there.
            SyncTarget::Registry(registry)
                if !wishes.plan.referrers && registry.landed(&name).await? == Some(digest) =>
            {
                Ok(ImageStatus::There(NamedImage { name, source: reference.to_string(), document: digest }))
            }
            _ => Ok(ImageStatus::Pinned(digest)),
        }
    }

    /// The manifest or index that is to land.
    async fn landing(&self, reference: &Reference) -> Result<Option<Digest>> {
        let Reference { host, repository, selector } = reference;
        let digest = match selector {
            None => return Ok(None),
            Some(Selector::Digest(digest) | Selector::Pinned(_, digest)) => *digest,
            Some(Selector::Tag(tag)) => match self.catalog.resolve(host, repository, tag).await? {
                None if *self.platforms == Platforms::All => return Ok(None),
                None => {
                    let document = self.catalog.document(host, repository, &Selector::Tag(tag.clone())).await?;
                    return self.choose(reference, document).await.map(Some);
                }
                Some(ResolvedTag { digest, media_type }) => match media_type.document_kind() {
                    Some(DocumentKind::Manifest) => return Ok(Some(digest)),
                    _ => digest,
                },
            },
        };
        if *self.platforms == Platforms::All || self.is_whole_list(reference, digest) {
            return Ok(Some(digest));
        }
        let origin = SourceRepository { host: host.clone(), repository: repository.clone() };
        let cell = {
            let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
            chosen.entry((origin, digest)).or_default().clone()
        };
        let choose = async || {
            let document = self.catalog.document(host, repository, &Selector::Digest(digest)).await?;
            self.choose(reference, document).await
        };
        cell.get_or_try_init(choose).await.copied().map(Some)
    }

    /// Whether an index is a list of referrers, and lands as it is.
    fn is_whole_list(&self, reference: &Reference, index: Digest) -> bool {
        !self.chooses_from_lists && reference.lists_referrers(index)
    }

    /// What takes the place of `document`, if it is an index.
    async fn choose(&self, reference: &Reference, mut document: Document) -> Result<Digest> {
        if self.is_whole_list(reference, document.digest()) {
            return Ok(document.digest());
        }
        for _ in 0..MAX_NESTING {
            let View::Index { children } = document.view() else { break };
            let fault = |e: Error| e.context(format!("cannot choose a platform of {reference}"));
            let Some(child) = self.platforms.choose_one(children).map_err(fault)? else { break };
            if self.platforms.prefers_zstd(children, child) {
                let mut zstd = self.zstd.lock().unwrap_or_else(PoisonError::into_inner);
                zstd.insert(reference.to_string());
            }
            if child.media_type.document_kind() != Some(DocumentKind::Index) {
                // Where it is no manifest either, reading it will say so.
                return Ok(child.digest);
            }
            let selector = Selector::Digest(child.digest);
            document = self.catalog.document(&reference.host, &reference.repository, &selector).await?;
        }
        Ok(document.digest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Descriptor, Host, MediaType, Platform, Repository, Tag};
    use async_trait::async_trait;
    use bytes::Bytes;

    /// One index for two platforms under two tags, at a place that knows HEAD or does not.
    struct Memory {
        heads: bool,
        documents: Vec<Document>,
        asked: Mutex<Vec<String>>,
    }

    impl Memory {
        fn new(heads: bool) -> Self {
            let manifest = |seed: &str| {
                let digest = Digest::of(seed.as_bytes());
                let config = format!(r#"{{"mediaType":"c","digest":"{digest}","size":1}}"#);
                let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
                Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_MANIFEST)).unwrap()
            };
            let (amd64, arm64) = (manifest("amd64"), manifest("arm64"));
            let child = |document: &Document, architecture: &str| {
                let (media_type, digest, size) = (document.media_type(), document.digest(), document.size());
                let platform = format!(r#"{{"os":"linux","architecture":"{architecture}"}}"#);
                format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size},"platform":{platform}}}"#)
            };
            let children = [child(&amd64, "amd64"), child(&arm64, "arm64")].join(",");
            let text = format!(r#"{{"schemaVersion":2,"manifests":[{children}]}}"#);
            let index = Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_INDEX)).unwrap();
            Memory { heads, documents: vec![index, amd64, arm64], asked: Mutex::default() }
        }

        fn note(&self, what: String) {
            self.asked.lock().unwrap().push(what);
        }
    }

    #[async_trait]
    impl Catalog for Memory {
        async fn tags(&self, _: &Host, _: &Repository) -> Result<crate::content::Tags> {
            unreachable!("what is looked at is listed already")
        }
        async fn document(&self, _: &Host, _: &Repository, selector: &Selector) -> Result<Document> {
            self.note(format!("GET {selector}"));
            let wanted = selector.digest().unwrap_or(self.documents[0].digest());
            Ok(self.documents.iter().find(|document| document.digest() == wanted).unwrap().clone())
        }
        async fn resolve(&self, _: &Host, _: &Repository, tag: &Tag) -> Result<Option<ResolvedTag>> {
            self.note(format!("HEAD :{tag}"));
            let index = &self.documents[0];
            Ok(self.heads.then(|| ResolvedTag { digest: index.digest(), media_type: index.media_type().clone() }))
        }
        async fn referrers(&self, _: &Host, _: &Repository, _: Digest) -> Result<Option<Vec<Descriptor>>> {
            unreachable!("not asked for")
        }
        async fn has_blob(&self, _: &Host, _: &Repository, _: Digest) -> Result<bool> {
            unreachable!("not asked for")
        }
    }

    async fn look_at(memory: &Memory, architecture: Option<&str>) -> (Vec<Option<Digest>>, Vec<String>) {
        let platform = |text: &str| Platform::new("linux", text, None);
        let platforms = architecture.map_or(Platforms::All, |text| Platforms::Best(vec![platform(text)]));
        let wishes =
            SyncOptions { plan: plan::PlanOptions { platforms, ..plan::PlanOptions::default() }, format: None };
        let references = ["h.io/x:1", "h.io/x:2"].map(|text| text.parse().unwrap()).to_vec();
        let looked = check(memory, references, &wishes, &SyncTarget::Bundle).await.unwrap();
        assert!(looked.failures.is_empty() && looked.there.is_empty());
        let mut asked = std::mem::take(&mut *memory.asked.lock().unwrap());
        asked.sort();
        (looked.images.into_iter().map(|image| image.pinned).collect(), asked)
    }

    #[tokio::test]
    async fn a_tag_costs_one_head_and_an_index_is_read_once_to_choose() {
        let memory = Memory::new(true);
        let [index, _, arm64] = [0, 1, 2].map(|at| memory.documents[at].digest());
        let (pinned, asked) = look_at(&memory, None).await;
        assert_eq!(pinned, [Some(index); 2]);
        assert_eq!(asked, ["HEAD :1", "HEAD :2"]);
        let (pinned, asked) = look_at(&memory, Some("arm64")).await;
        assert_eq!(pinned, [Some(arm64); 2]);
        assert_eq!(asked, [format!("GET @{index}"), "HEAD :1".into(), "HEAD :2".into()]);
    }

    #[tokio::test]
    async fn where_head_says_nothing_tags_are_read() {
        let memory = Memory::new(false);
        let amd64 = memory.documents[1].digest();
        assert_eq!(look_at(&memory, None).await.0, [None; 2], "planning reads them");
        let (pinned, asked) = look_at(&memory, Some("amd64")).await;
        assert_eq!(pinned, [Some(amd64); 2]);
        assert_eq!(asked, ["GET :1", "GET :2", "HEAD :1", "HEAD :2"]);
    }
}
