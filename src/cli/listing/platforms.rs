//! Which platform a single image is for: its config says so, as an index says it of its children.
//!
//! For people only: nothing is decided by what a config says, and one that cannot be read says nothing.

use std::collections::{HashMap, HashSet};

use crate::content::{BlobId, BlobKind, Contents};
use crate::oci::{Digest, Document, Platform, View};

/// What configs say, by their digests.
#[derive(Debug, Default)]
pub(crate) struct ConfigPlatforms(HashMap<Digest, String>);

impl ConfigPlatforms {
    /// Takes note of a config's bytes.
    pub(crate) fn add(&mut self, config: Digest, bytes: &[u8]) {
        if let Ok(platform) = serde_json::from_slice::<Platform>(bytes)
            && !platform.os.is_empty()
        {
            self.0.insert(config, super::limited(&platform.to_string()));
        }
    }

    pub(super) fn of(&self, document: &Document) -> Option<&String> {
        self.0.get(&config(document)?)
    }
}

/// The configs of the images that are no index, each once.
pub(crate) fn configs(contents: &Contents) -> Vec<BlobId> {
    let known: HashMap<Digest, BlobId> = contents
        .blob_ids()
        .filter(|id| contents.blob(*id).kind == BlobKind::Config)
        .map(|id| (contents.blob(id).digest, id))
        .collect();
    let tops: HashSet<Digest> = contents.images.iter().map(|image| image.document).collect();
    let mut configs: Vec<BlobId> = tops
        .into_iter()
        .filter_map(|top| {
            let (bytes, media_type) = contents.documents.get(top).ok()?;
            known.get(&config(&Document::parse_known(bytes, media_type, top).ok()?)?).copied()
        })
        .collect();
    configs.sort_unstable();
    configs.dedup();
    configs
}

/// Of an image; an artifact's config has nothing to say.
fn config(document: &Document) -> Option<Digest> {
    match document.view() {
        View::Manifest { config, .. } if IMAGE_CONFIGS.contains(&config.media_type.as_str()) => Some(config.digest),
        _ => None,
    }
}

const IMAGE_CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
