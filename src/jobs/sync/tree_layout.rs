//! Where images go below a directory, and what goes with them there.

use std::collections::HashMap;

use crate::content::{Contents, NamedImage};
use crate::dir::{ImageSignatures, Placement, Tree};
use crate::error::Result;
use crate::oci::{Name, Reference};
use crate::select::naming::{NamePolicy, Names};

/// How images are laid out below a directory: as skopeo sync does it.
#[derive(Debug, Clone, Default)]
pub struct TreeLayout {
    names: Names,
    /// What comes from a tree keeps its path below it as it is written: [`NamedImage::source`] to that path.
    in_tree: HashMap<String, String>,
}

impl TreeLayout {
    /// Of images that come from registries and bundles.
    pub fn new(names: Names) -> TreeLayout {
        TreeLayout { names, in_tree: HashMap::new() }
    }

    /// Of images that come from `tree`.
    pub fn of_tree(names: Names, tree: &Tree) -> TreeLayout {
        let in_tree = tree.images().iter().map(|image| (image.shown.clone(), image.suffix.clone())).collect();
        TreeLayout { names, in_tree }
    }

    /// The directory of an image.
    pub fn directory(&self, image: &NamedImage) -> String {
        if let Some(path) = self.in_tree.get(&image.source) {
            let name = image.name.to_string();
            let last = name.rsplit('/').next().unwrap_or(&name).to_owned() + self.names.behind_digest(&image.name);
            return match path.rsplit_once('/').filter(|_| self.names.policy != NamePolicy::Base) {
                Some((folders, _)) => format!("{folders}/{last}"),
                None => last,
            };
        }
        match image.source.parse::<Reference>() {
            Ok(reference) => self.names.directory(&reference, &image.name),
            Err(_) => image.name.to_string(),
        }
    }

    /// Where every image of `contents` goes, with its signatures.
    pub(crate) fn placements(&self, contents: &Contents, mut signatures: KeptSignatures) -> Vec<Placement> {
        let placement = |image: &NamedImage| Placement {
            image: image.name.clone(),
            directory: self.directory(image),
            signatures: signatures.remove(&image.name).unwrap_or_default(),
        };
        contents.images.iter().map(placement).collect()
    }
}

/// Signatures that come along, by the name of their image.
pub type KeptSignatures = HashMap<Name, ImageSignatures>;

/// The signatures of the images of `contents`, which come from `tree`. Where one platform takes the place of an index,
/// those of that platform are its own.
pub fn signatures(tree: &Tree, contents: &Contents) -> Result<KeptSignatures> {
    let images: HashMap<&str, &NamedImage> =
        contents.images.iter().map(|image| (image.source.as_str(), image)).collect();
    let mut kept = KeptSignatures::new();
    for image in tree.images() {
        let Some(named) = images.get(image.shown.as_str()) else { continue };
        let all = tree.signatures(image)?;
        if all.is_empty() {
            continue;
        }
        let whole = tree.document(image)?.digest() == named.document;
        kept.insert(named.name.clone(), if whole { all } else { all.of(Some(named.document)) });
    }
    Ok(kept)
}
