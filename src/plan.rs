//! From single images to everything that must be carried for them: every document and blob once, with sizes.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::error::{Error, Result};
use crate::naming::{Naming, check_collisions};
use crate::oci::{Digest, Document, Reference, Selector, View};
use crate::place::{Builder, Catalog, Contents, Named, Origin};

/// Reads every manifest and index of `images`, up to `jobs` at once, and works out the [`Contents`].
///
/// # Errors
/// `Usage` when two images would land on one name, before anything is fetched. When images cannot be read, one
/// error that names all of them.
pub async fn plan(catalog: &dyn Catalog, images: &[Reference], naming: Naming, jobs: usize) -> Result<Contents> {
    check_names(images, naming)?;
    let mut builder = Builder::default();
    let mut failures: Vec<(String, Error)> = Vec::new();
    let mut queued: HashSet<Digest> = HashSet::new();
    let mut waiting: Vec<Wanted> = images
        .iter()
        .rev()
        .map(|reference| Wanted { origin: origin(reference), fetch: Fetch::Image(reference.clone()) })
        .collect();
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < jobs.max(1)
            && let Some(wanted) = waiting.pop()
        {
            running.push(fetch(catalog, wanted));
        }
        let Some((wanted, fetched)) = running.next().await else { break };
        let document = match fetched {
            Ok(document) => document,
            Err(error) => {
                failures.push((wanted.image().to_string(), error));
                continue;
            }
        };
        if let Fetch::Image(reference) = &wanted.fetch {
            let name = naming.name(reference, document.digest())?;
            let source = reference.to_string();
            builder.image(Named { name, source, document: document.digest() }, Some(wanted.origin.clone()));
        }
        if let View::Index { children } = document.view() {
            let image = Arc::new(wanted.image().clone());
            for child in children.iter().filter(|child| child.media_type.document_kind().is_some()) {
                if queued.insert(child.digest) && !builder.has(child.digest) {
                    let fetch = Fetch::Child { digest: child.digest, image: image.clone() };
                    waiting.push(Wanted { origin: wanted.origin.clone(), fetch });
                }
            }
        }
        builder.document(&document).map_err(|e| e.context(format!("{} cannot be carried", wanted.image())))?;
    }
    match failures.is_empty() {
        true => builder.finish(),
        false => Err(report(failures, images.len())),
    }
}

/// A document to fetch.
struct Wanted {
    origin: Origin,
    fetch: Fetch,
}

enum Fetch {
    Image(Reference),
    Child {
        digest: Digest,
        /// On whose behalf.
        image: Arc<Reference>,
    },
}

impl Wanted {
    fn image(&self) -> &Reference {
        match &self.fetch {
            Fetch::Image(reference) => reference,
            Fetch::Child { image, .. } => image,
        }
    }
}

async fn fetch(catalog: &dyn Catalog, wanted: Wanted) -> (Wanted, Result<Document>) {
    let Origin { host, repository } = &wanted.origin;
    let fetched = match &wanted.fetch {
        Fetch::Image(Reference { selector: Some(selector), .. }) => catalog.document(host, repository, selector).await,
        Fetch::Image(_) => Err(Error::usage("it names a repository, not an image")),
        Fetch::Child { digest, .. } => catalog.document(host, repository, &Selector::Digest(*digest)).await,
    };
    (wanted, fetched)
}

fn origin(reference: &Reference) -> Origin {
    Origin { host: reference.host.clone(), repository: reference.repository.clone() }
}

/// What can be told before anything is fetched; digests named by tag and by digest cannot collide.
fn check_names(images: &[Reference], naming: Naming) -> Result<()> {
    let mut named = Vec::with_capacity(images.len());
    for reference in images {
        let digest = reference.selector.as_ref().and_then(Selector::digest);
        // A tag's name does not depend on the digest.
        named.push((naming.name(reference, digest.unwrap_or_else(|| Digest::of(b"")))?, reference));
    }
    check_collisions(named.iter().map(|(name, reference)| (name, *reference)))
}

/// One error for all images that cannot be read; the worst decides the exit code, its hints are kept.
fn report(mut failures: Vec<(String, Error)>, asked: usize) -> Error {
    failures.sort_by(|(a, _), (b, _)| a.cmp(b));
    failures.dedup_by(|(a, _), (b, _)| a == b);
    let count = failures.len();
    let tell = |(image, error): &(String, Error)| {
        let chain = error.chain();
        if chain.contains(image) { format!("\n  {chain}") } else { format!("\n  {image}: {chain}") }
    };
    let list: Vec<String> = failures.iter().take(SHOWN).map(tell).collect();
    let more = if count > SHOWN { format!("\n  and {} more", count - SHOWN) } else { String::new() };
    let worst = failures.into_iter().map(|(_, error)| error).reduce(Error::worst).expect("called with failures");
    let message = match count {
        1 => list.concat().trim_start().to_owned(),
        _ => format!("cannot read {count} of {asked} images{}{more}", list.concat()),
    };
    worst.hints().iter().fold(Error::new(worst.kind(), message), |error, hint| error.hint(hint.clone()))
}

/// How many failures are told one by one.
const SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::oci::{Descriptor, Host, MediaType, Repository, Tag};
    use async_trait::async_trait;
    use bytes::Bytes;
    use std::collections::HashMap;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Memory {
        by_selector: HashMap<String, Document>,
        asked: Mutex<Vec<String>>,
    }

    impl Memory {
        fn with(mut self, repository: &str, selector: &str, document: &Document) -> Self {
            self.by_selector.insert(format!("{repository}{selector}"), document.clone());
            self.by_selector.insert(format!("{repository}@{}", document.digest()), document.clone());
            self
        }
    }

    #[async_trait]
    impl Catalog for Memory {
        async fn tags(&self, _: &Host, _: &Repository) -> Result<Vec<Tag>> {
            unreachable!("planning lists no tags")
        }
        async fn document(&self, _: &Host, repository: &Repository, selector: &Selector) -> Result<Document> {
            let key = format!("{repository}{selector}");
            self.asked.lock().unwrap().push(key.clone());
            self.by_selector.get(&key).cloned().ok_or_else(|| Error::not_found(format!("{key} is not there")))
        }
        async fn referrers(&self, _: &Host, _: &Repository, _: Digest) -> Result<Vec<Descriptor>> {
            unreachable!("not asked for")
        }
    }

    fn manifest(seed: &str) -> Document {
        let digest = Digest::of(seed.as_bytes());
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{digest}","size":{}}},"layers":[]}}"#,
            seed.len()
        );
        Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_MANIFEST)).unwrap()
    }

    fn index(child: &Document) -> Document {
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{}","digest":"{}","size":{}}}]}}"#,
            child.media_type(),
            child.digest(),
            child.size()
        );
        Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_INDEX)).unwrap()
    }

    fn references(texts: &[&str]) -> Vec<Reference> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn every_document_is_asked_for_once() {
        let (a, b) = (manifest("a"), manifest("b"));
        let list = index(&a);
        let memory =
            Memory::default().with("x", ":1", &list).with("x", "", &a).with("x", ":2", &list).with("x", ":3", &b);
        let contents =
            plan(&memory, &references(&["h.io/x:1", "h.io/x:2", "h.io/x:3"]), Naming::Path, 2).await.unwrap();
        assert_eq!((contents.images.len(), contents.documents.len(), contents.blobs.len()), (3, 3, 2));
        let asked = memory.asked.lock().unwrap();
        assert_eq!(asked.iter().filter(|key| **key == format!("x@{}", a.digest())).count(), 1, "{asked:?}");
    }

    #[tokio::test]
    async fn all_images_that_cannot_be_read_are_named() {
        let memory = Memory::default().with("x", ":1", &manifest("a"));
        let error = plan(&memory, &references(&["h.io/x:1", "h.io/x:2", "h.io/y:1"]), Naming::Path, 2)
            .await
            .expect_err("two fail");
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.chain().contains("2 of 3"), "{}", error.chain());
        assert!(error.chain().contains("h.io/x:2") && error.chain().contains("h.io/y:1"));
    }

    #[tokio::test]
    async fn a_collision_is_refused_before_anything_is_fetched() {
        let memory = Memory::default();
        let error =
            plan(&memory, &references(&["a.io/x:1", "b.io/x:1"]), Naming::Path, 2).await.expect_err("collision");
        assert_eq!(error.kind(), Kind::Usage);
        assert!(memory.asked.lock().unwrap().is_empty());
    }
}
