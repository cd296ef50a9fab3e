//! What is checked of every image that is asked for, before its manifest is read, and what is said of it afterwards.

use std::path::Path;
use std::sync::Arc;

use super::{Policy, SignatureStores};
use crate::error::{Failure, Result};
use crate::oci::{Digest, Reference};

/// The rules for the images of one run. The default allows everything.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Which images may be carried.
    pub policy: Option<Arc<Policy>>,
    /// Which images have signatures beside their registry.
    pub stores: Arc<SignatureStores>,
}

impl Rules {
    /// Returns the images that the policy allows; the others become `failures`.
    pub fn admit(&self, images: Vec<Reference>, failures: &mut Vec<Failure>) -> Vec<Reference> {
        let Some(policy) = &self.policy else { return images };
        let mut allowed = Vec::with_capacity(images.len());
        for image in images {
            match policy.check_image(&image) {
                Ok(()) => allowed.push(image),
                Err(error) => failures.push(Failure { image: image.to_string(), error }),
            }
        }
        allowed
    }

    /// Whether every image that was read from `source`, a reference, may be carried.
    pub fn allow_all<'a>(&self, sources: impl IntoIterator<Item = &'a str>) -> bool {
        let Some(policy) = &self.policy else { return true };
        let allows = |source: &str| source.parse().is_ok_and(|image| policy.check_image(&image).is_ok());
        sources.into_iter().all(allows)
    }

    /// Whether the image in a directory may be carried; see [`Policy::check_directory`].
    ///
    /// # Errors
    /// `Untrusted` where the policy asks for anything of the image.
    pub fn check_directory(&self, path: &Path, shown: &str) -> Result<()> {
        self.policy.as_ref().map_or(Ok(()), |policy| policy.check_directory(path, shown))
    }

    /// One warning for each image whose signatures stay behind, each with the manifests that land, its own
    /// first; the last one counts those beyond `MAX_WARNINGS`.
    pub fn left_behind<'a>(&self, images: impl IntoIterator<Item = (&'a Reference, Vec<Digest>)>) -> Vec<String> {
        if self.stores.is_empty() {
            return Vec::new();
        }
        let mut warnings: Vec<String> = Vec::new();
        let mut more = 0;
        for (image, manifests) in images {
            let behind = self.stores.behind(image);
            let kinds: Vec<String> = behind.iter().filter_map(|behind| behind.shown(image, &manifests)).collect();
            match kinds.is_empty() {
                true => {}
                false if warnings.len() < MAX_WARNINGS => {
                    warnings.push(format!("signatures of {image} stay behind: {}", kinds.join("; ")));
                }
                false => more += 1,
            }
        }
        if more > 0 {
            warnings.push(format!("signatures of {more} more images stay behind (registries.d)"));
        }
        warnings
    }
}

/// How many images are named.
const MAX_WARNINGS: usize = 20;
