//! From a tree of image directories to everything that must be carried: what [`super::plan`] is for registries.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::advice::conflict;
use super::{Plan, PlanOptions, zstd};
use crate::content::{Absent, Builder, MAX_NESTING, Misfit, NamedImage, Reason};
use crate::dir::{Image, Tree};
use crate::error::{Error, Failure, Kind, Result};
use crate::oci::{Descriptor, Digest, Document, Name, View};
use crate::select::naming::{NamePolicy, collision};

/// What is done about the signatures in a tree, which nothing but another tree can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignaturePolicy {
    /// An image that has some is refused.
    Refuse,
    /// They stay behind.
    Drop,
    /// They go to another tree.
    Keep,
}

/// Reads every document of `tree` and works out what to carry. Of `wishes`, names, platforms and `keep_going` count.
///
/// # Errors
/// `Usage` when two directories would land on one name. When images cannot be carried, one error that names all of them;
/// with `keep_going` they are failures of the plan.
pub fn from_tree(tree: &Tree, wishes: &PlanOptions, signatures: SignaturePolicy) -> Result<Plan> {
    let mut draft = Draft { tree, wishes, builder: Builder::default(), left_out: HashMap::new(), zstd: Vec::new() };
    let mut names: BTreeMap<Name, (Digest, &Image)> = BTreeMap::new();
    let mut failures: Vec<Failure> = Vec::new();
    for image in tree.images() {
        match draft.image(image, signatures) {
            Ok((name, document)) => match names.get(&name) {
                // As far as names go, nothing has been moved yet: so it is here as it is for registries.
                // Where the destination is a tree, too, they are two directories.
                Some((known, _)) if *known == document && signatures != SignaturePolicy::Keep => {}
                Some((_, other)) => return Err(collision(&name, &other.shown, &image.shown).hint(apart(wishes))),
                None => drop(names.insert(name, (document, image))),
            },
            Err(error) if error.kind() == Kind::Interrupted => return Err(error),
            Err(error) => failures.push(Failure { image: image.shown.clone(), error }),
        }
    }
    failures.extend(draft.without_misfits(&mut names));
    if !failures.is_empty() && !wishes.keep_going {
        return Err(Failure::report(failures, tree.images().len()));
    }
    let absent = draft.absent(names.iter().map(|(name, (document, _))| (name, *document)));
    for absent in absent {
        draft.builder.absent(absent);
    }
    for (name, (document, image)) in names {
        draft.builder.image(NamedImage { name, source: image.shown.clone(), document }, None);
    }
    let warnings = zstd(&draft.zstd).into_iter().collect();
    Ok(Plan { contents: draft.builder.finish()?, failures, warnings })
}

struct Draft<'a> {
    tree: &'a Tree,
    wishes: &'a PlanOptions,
    builder: Builder,
    /// Layers that the tree need not hold and does not, by what refers to them.
    left_out: HashMap<Digest, Vec<Descriptor>>,
    /// Images of which the variant with zstd layers takes the place of their index.
    zstd: Vec<String>,
}

impl Draft<'_> {
    /// Takes what one directory holds. Nothing of it is taken unless all of it can be.
    fn image(&mut self, image: &Image, signatures: SignaturePolicy) -> Result<(Name, Digest)> {
        if self.wishes.rules.policy.is_some() {
            self.wishes.rules.check_directory(&self.tree.path(image)?, &image.shown)?;
        }
        let name = self.wishes.names.in_tree(&image.suffix)?;
        if signatures == SignaturePolicy::Refuse && !self.tree.signatures(image)?.is_empty() {
            return Err(Error::refused(format!(
                "{} has signatures, which only a tree of directories can hold",
                image.shown
            ))
            .hint("leave them behind with --remove-signatures"));
        }
        let top = self.tree.document(image)?;
        check_name(&name, &top, image)?;
        let is_list = name.tag().is_some_and(|tag| tag.referrers_of(top.digest()).is_some());
        let landed = if is_list { top } else { self.chosen(image, top)? };
        let name = match name {
            Name::Digested(repository, _) => Name::Digested(repository, landed.digest()),
            tagged @ Name::Tagged(..) => tagged,
        };
        let digest = landed.digest();
        let mut documents = Vec::new();
        self.below(image, landed, 0, &mut documents)?;
        for document in documents {
            self.take(&document)?;
        }
        Ok((name, digest))
    }

    /// Takes out the images that contradict each other; returns them with the reason.
    fn without_misfits(&self, images: &mut BTreeMap<Name, (Digest, &Image)>) -> Vec<Failure> {
        let documents: Vec<Digest> = images.values().map(|(document, _)| *document).collect();
        let left_out: HashSet<Digest> = self.left_out.values().flatten().map(|layer| layer.digest).collect();
        let fit = self.builder.fit(&documents, |digest| left_out.contains(&digest));
        let listed: Vec<(Name, &str)> =
            images.iter().map(|(name, (_, image))| (name.clone(), image.shown.as_str())).collect();
        let failure = |(position, misfit): (usize, Misfit)| {
            let (name, shown) = &listed[position];
            images.remove(name);
            let error = conflict(|at| listed[at].1, position, &misfit, self.wishes.command);
            Failure { image: (*shown).to_owned(), error }
        };
        fit.misfits.into_iter().map(failure).collect()
    }

    /// The platform's manifest, where one is to take the index's place.
    fn chosen(&mut self, image: &Image, mut document: Document) -> Result<Document> {
        for _ in 0..MAX_NESTING {
            let View::Index { children } = document.view() else { break };
            let Some(child) = self.wishes.platforms.choose_one(children)? else { break };
            if self.wishes.platforms.prefers_zstd(children, child) {
                self.zstd.push(image.shown.clone());
            }
            if child.media_type.document_kind().is_none() {
                return Err(Error::refused(format!(
                    "{}: what its index has for the platform is no image",
                    image.shown
                )));
            }
            document = self.tree.child(image, child)?;
        }
        Ok(document)
    }

    fn below(&self, image: &Image, document: Document, depth: usize, documents: &mut Vec<Document>) -> Result<()> {
        if depth > MAX_NESTING {
            return Err(Error::damaged(format!("{}: indexes are nested deeper than {MAX_NESTING}", image.shown)));
        }
        if let View::Index { children } = document.view() {
            for child in children.iter().filter(|child| child.media_type.document_kind().is_some()) {
                let child = self.tree.child(image, child)?;
                self.below(image, child, depth + 1, documents)?;
            }
        }
        documents.push(document);
        Ok(())
    }

    fn take(&mut self, document: &Document) -> Result<()> {
        if let View::Manifest { layers, .. } = document.view() {
            let foreign = layers.iter().filter(|layer| layer.media_type.is_foreign() && !self.tree.has_blob(layer));
            let foreign: Vec<Descriptor> = foreign.cloned().collect();
            if !foreign.is_empty() {
                self.left_out.insert(document.digest(), foreign);
            }
        }
        self.builder.document(document)
    }

    /// What is left out of the images, with their names.
    fn absent<'n>(&self, images: impl Iterator<Item = (&'n Name, Digest)>) -> Vec<Absent> {
        if self.left_out.is_empty() {
            return Vec::new();
        }
        let mut names: BTreeMap<Digest, (u64, BTreeSet<String>)> = BTreeMap::new();
        for (name, document) in images {
            for digest in self.builder.reached(document) {
                for layer in self.left_out.get(&digest).into_iter().flatten() {
                    names.entry(layer.digest).or_insert((layer.size, BTreeSet::new())).1.insert(name.to_string());
                }
            }
        }
        let absent = names.into_iter().map(|(digest, (size, names))| Absent {
            digest,
            size,
            reason: Reason::Foreign,
            names: names.into_iter().collect(),
        });
        absent.collect()
    }
}

/// What keeps directories apart that have one name.
fn apart(wishes: &PlanOptions) -> &'static str {
    match wishes.names.policy {
        NamePolicy::Base => {
            "use --names path, which keeps the folders in the name, or move one of them out of the tree"
        }
        NamePolicy::Path | NamePolicy::Scoped => "rename one of them, or move it out of the tree",
    }
}

/// A directory that is named by a digest vouches for what is in it.
fn check_name(name: &Name, top: &Document, image: &Image) -> Result<()> {
    match name {
        Name::Digested(_, digest) if *digest != top.digest() => Err(Error::damaged(format!(
            "{} is named by a digest, and the manifest.json in it is {}",
            image.shown,
            top.digest()
        ))
        .hint(
            "either it was changed, or it is one platform of that index, as skopeo sync writes it without --all: then \
             rename the directory to PATH:TAG",
        )),
        _ => Ok(()),
    }
}
