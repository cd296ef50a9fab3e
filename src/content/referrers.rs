//! Which images are about which others: signatures, SBOMs and attestations belong to what they are about.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::contents::{Contents, ManifestId, NamedImage};
use crate::error::Result;
use crate::oci::{Digest, Document, Name};

/// What the images of [`Contents`] have to do with each other. Images are given by their index there.
pub struct Referrers<'a> {
    contents: &'a Contents,
    /// For each image: the document that it is about.
    about: Vec<Option<Digest>>,
    /// For each image: its landing. What is below it is walked when it is asked for: kept for all images together it
    /// could be very much.
    tops: Vec<Option<ManifestId>>,
    /// The images that are about a document, by the repository in which they land.
    referrers: HashMap<(String, Digest), Vec<u32>>,
    repositories: Vec<String>,
}

impl<'a> Referrers<'a> {
    /// Reads every image's document once.
    ///
    /// # Errors
    /// `Io` when a document cannot be read.
    pub fn of(contents: &'a Contents) -> Result<Self> {
        let mut tops = vec![None; contents.images.len()];
        for id in contents.manifest_ids() {
            if let Some(image) = contents.manifest(id).image {
                tops[image as usize] = Some(id);
            }
        }
        let about = subjects(contents)?;
        let repositories: Vec<String> =
            contents.images.iter().map(|image| image.name.repository().to_string()).collect();
        let mut referrers: HashMap<(String, Digest), Vec<u32>> = HashMap::new();
        for (number, subject) in about.iter().enumerate() {
            if let Some(subject) = subject {
                referrers.entry((repositories[number].clone(), *subject)).or_default().push(number as u32);
            }
        }
        Ok(Referrers { contents, about, tops, referrers, repositories })
    }

    /// The document that an image is about, by its `subject` or by the tag under which it is kept.
    pub fn subject(&self, image: u32) -> Option<Digest> {
        self.about[image as usize]
    }

    /// The images that are about one of an image's documents and land beside it, in the order of their names.
    pub fn referrers(&self, image: u32) -> Vec<u32> {
        if self.referrers.is_empty() {
            return Vec::new();
        }
        let repository = &self.repositories[image as usize];
        let documents = self.tops[image as usize].map(|top| documents_below(self.contents, top)).unwrap_or_default();
        let found: BTreeSet<u32> = documents
            .iter()
            .filter_map(|digest| self.referrers.get(&(repository.clone(), *digest)))
            .flatten()
            .copied()
            .filter(|referrer| *referrer != image)
            .collect();
        found.into_iter().collect()
    }

    /// `images` with their referrers, the referrers of these, and so on.
    pub fn with_referrers(&self, images: impl IntoIterator<Item = u32>) -> BTreeSet<u32> {
        let mut stack: Vec<u32> = images.into_iter().collect();
        let mut all = BTreeSet::new();
        while let Some(image) = stack.pop() {
            if all.insert(image) {
                stack.extend(self.referrers(image));
            }
        }
        all
    }

    /// Every image once with its depth, those that are about another one (deeper) right after the first such one.
    pub fn in_order(&self) -> Vec<(u32, usize)> {
        let all = 0..self.about.len() as u32;
        let below: HashSet<u32> = all.clone().flat_map(|image| self.referrers(image)).collect();
        let mut order = Vec::with_capacity(self.about.len());
        let mut seen = HashSet::new();
        // Tags can be about each other in a circle: what no root leads to is a root itself.
        for root in all.clone().filter(|image| !below.contains(image)).chain(all) {
            let mut stack = vec![(root, 0)];
            while let Some((image, depth)) = stack.pop() {
                if seen.insert(image) {
                    order.push((image, depth));
                    stack.extend(self.referrers(image).into_iter().rev().map(|referrer| (referrer, depth + 1)));
                }
            }
        }
        order
    }
}

/// For each image of `contents`: the document that it is about, by its `subject` or by the tag under which it is kept.
/// Every image's document is read once.
///
/// # Errors
/// `Io` when a document cannot be read.
pub fn subjects(contents: &Contents) -> Result<Vec<Option<Digest>>> {
    // Many names may stand for one large document.
    let mut known: HashMap<Digest, Option<Digest>> = HashMap::new();
    let subject = |image: &NamedImage| {
        if let Some(subject) = by_tag(&image.name) {
            return Ok(Some(subject));
        }
        if let Some(subject) = known.get(&image.document) {
            return Ok(*subject);
        }
        let (bytes, media_type) = contents.documents.get(image.document)?;
        let document = Document::parse_known(bytes, media_type, image.document)?;
        let subject = document.subject().map(|subject| subject.digest);
        known.insert(image.document, subject);
        Ok(subject)
    };
    contents.images.iter().map(subject).collect()
}

/// What the tags `sha256-<hex>` (distribution-spec's fallback) and `sha256-<hex>.sig` and its like (cosign's) are about.
fn by_tag(name: &Name) -> Option<Digest> {
    let rest = name.tag()?.as_str().strip_prefix("sha256-")?;
    let (hex, suffix) = rest.split_once('.').unwrap_or((rest, ""));
    ["", "sig", "att", "sbom"].contains(&suffix).then(|| Digest::from_hex(hex))?
}

/// The document of a landing and every one below it. Each landing is visited once, in however many ways it is reached.
fn documents_below(contents: &Contents, top: ManifestId) -> HashSet<Digest> {
    let (mut documents, mut seen, mut stack) = (HashSet::new(), HashSet::from([top]), vec![top]);
    while let Some(id) = stack.pop() {
        let landing = contents.manifest(id);
        documents.insert(landing.document);
        stack.extend(landing.after.iter().filter(|below| seen.insert(**below)));
    }
    documents
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::builder::Builder;
    use crate::oci::MediaType;
    use bytes::Bytes;

    fn manifest(seed: &str, subject: Option<&Document>) -> Document {
        let subject = subject.map_or(String::new(), |s| {
            format!(r#","subject":{{"mediaType":"{}","digest":"{}","size":{}}}"#, s.media_type(), s.digest(), s.size())
        });
        let config = Digest::of(seed.as_bytes());
        let size = seed.len();
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{config}","size":{size}}},"layers":[]{subject}}}"#
        );
        Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_MANIFEST)).unwrap()
    }

    fn contents(images: &[(&str, &Document)]) -> Contents {
        let mut builder = Builder::default();
        for (name, document) in images {
            builder.document(document).unwrap();
            let image = NamedImage { name: name.parse().unwrap(), source: String::new(), document: document.digest() };
            builder.image(image, None);
        }
        builder.finish().unwrap()
    }

    fn names(contents: &Contents, images: impl IntoIterator<Item = u32>) -> Vec<String> {
        images.into_iter().map(|image| contents.images[image as usize].name.to_string()).collect()
    }

    #[test]
    fn referrers_come_with_what_they_are_about_and_only_in_its_repository() {
        let app = manifest("app", None);
        let sbom = manifest("sbom", Some(&app));
        let signature = manifest("signature", None);
        let by_digest = format!("x@{}", sbom.digest());
        let by_tag = format!("x:sha256-{}.sig", sbom.digest().hex());
        let contents =
            contents(&[("x:1", &app), ("x:2", &signature), (&by_digest, &sbom), (&by_tag, &signature), ("y:1", &app)]);
        let relations = Referrers::of(&contents).unwrap();
        let position =
            |name: &str| contents.images.iter().position(|image| image.name.to_string() == name).unwrap() as u32;
        assert_eq!(names(&contents, relations.referrers(position("x:1"))), [by_digest.as_str()]);
        assert!(relations.referrers(position("y:1")).is_empty());
        let chosen = names(&contents, relations.with_referrers([position("x:1")]));
        assert_eq!(chosen, ["x:1", by_tag.as_str(), by_digest.as_str()]);
        let order = relations.in_order();
        let depths: Vec<usize> = order.iter().map(|(_, depth)| *depth).collect();
        assert_eq!(names(&contents, order.iter().map(|(image, _)| *image)), ["x:1", &by_digest, &by_tag, "x:2", "y:1"]);
        assert_eq!(depths, [0, 1, 2, 0, 0]);
    }

    #[test]
    fn images_that_are_about_each_other_are_all_listed() {
        let (a, b) = (manifest("a", None), manifest("b", None));
        let about = |document: &Document| format!("x:sha256-{}.sig", document.digest().hex());
        let contents = contents(&[(&about(&a), &b), (&about(&b), &a)]);
        assert_eq!(Referrers::of(&contents).unwrap().in_order().len(), 2);
    }
}
