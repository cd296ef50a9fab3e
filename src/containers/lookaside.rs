//! `registries.d`: where signatures of images lie beside their registry (containers-registries.d(5)).
//!
//! Such signatures are not read here; what is known is for which images they are configured, so that it can be said that
//! they stay behind.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::scopes;
use crate::error::{Error, Result};
use crate::oci::{Digest, Reference};
use crate::text::{secrets, without_login};

/// What the files of one directory say together.
#[derive(Debug, Clone, Default)]
pub struct SignatureStores {
    default: Option<Section>,
    /// Where signatures are if nothing is said, as a URL.
    built_in: Option<String>,
    sections: BTreeMap<String, Section>,
}

/// What stays behind of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behind {
    /// Signatures in a lookaside store at this URL.
    Lookaside(String),
    /// Sigstore attachments, which are tags `sha256-<hex>.sig` beside the image.
    Attachments,
}

/// A configuration section; keys that concern writing are not kept.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Section {
    lookaside: Option<String>,
    /// The key of old versions.
    sigstore: Option<String>,
    use_sigstore_attachments: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct RawFile {
    default_docker: Option<Section>,
    docker: Option<BTreeMap<String, Option<Section>>>,
}

impl SignatureStores {
    /// Reads the files of a directory, each with its name for messages; their order does not matter.
    ///
    /// # Errors
    /// `Usage` for a file that is not such YAML, and for a section that two files have.
    pub fn read<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<SignatureStores> {
        let mut merged = SignatureStores::default();
        for (name, text) in files {
            let fault = |what: &str| {
                Error::usage(format!("{name} is not what containers-registries.d(5) describes: {what}"))
                    .hint("correct that file, or name another directory: --registries.d DIR")
            };
            secrets::remember_logins_in(text);
            let raw: Option<RawFile> = serde_saphyr::from_str_with_options(text, options())
                .map_err(|e| fault(&e.without_snippet().to_string()))?;
            let raw = raw.unwrap_or_default();
            if raw.default_docker.is_some() && merged.default.is_some() {
                return Err(fault("another file has default-docker, too"));
            }
            merged.default = merged.default.or(raw.default_docker);
            for (scope, section) in raw.docker.unwrap_or_default() {
                if merged.sections.insert(scope.clone(), section.unwrap_or_default()).is_some() {
                    return Err(fault(&format!("another file has {scope:?}, too")));
                }
            }
        }
        Ok(merged)
    }

    /// The same with the store that is used where no file names one.
    #[must_use]
    pub fn with_built_in(self, url: Option<String>) -> SignatureStores {
        SignatureStores { built_in: url, ..self }
    }

    /// Whether no image can have signatures.
    pub fn is_empty(&self) -> bool {
        self.default.is_none() && self.built_in.is_none() && self.sections.is_empty()
    }

    /// The kinds of signatures that skopeo would look for beside this image. Each key is taken from the most specific
    /// section that has it, which is what skopeo does; the manual page says that only one section counts.
    pub fn behind(&self, image: &Reference) -> Vec<Behind> {
        let scopes = scopes::of_image(&image.host, &image.repository, image.selector.as_ref());
        let sections = || scopes.iter().filter_map(|scope| self.sections.get(scope)).chain(&self.default);
        let filled = |url: &Option<String>| url.clone().filter(|url| !url.is_empty());
        let store = sections().find_map(|section| filled(&section.lookaside).or_else(|| filled(&section.sigstore)));
        let store = store.or_else(|| self.built_in.clone());
        let attachments = sections().find_map(|section| section.use_sigstore_attachments).unwrap_or_default();
        store.map(Behind::Lookaside).into_iter().chain(attachments.then_some(Behind::Attachments)).collect()
    }
}

impl Behind {
    /// What stays behind, for a person. `manifests` are those that land, the image's own first. Nothing if a store on this
    /// machine holds nothing for any of them.
    pub fn shown(&self, image: &Reference, manifests: &[Digest]) -> Option<String> {
        let Behind::Lookaside(url) = self else {
            let Reference { host, repository, .. } = image;
            let own = manifests.first()?.hex();
            return Some(format!("sigstore attachments, which are the tag sha256-{own}.sig in {host}/{repository}"));
        };
        // signature-protocols.md of containers/container-libs, "Path structure".
        let path = |manifest: &Digest| format!("{}@sha256={}/signature-1", image.repository, manifest.hex());
        let file = url::Url::parse(url).ok().filter(|url| url.scheme() == "file");
        let store = file.and_then(|url| url.to_file_path().ok());
        let is_empty = store.is_some_and(|store| !manifests.iter().any(|manifest| store.join(path(manifest)).exists()));
        (!is_empty).then(|| format!("what {} holds", without_login(url)))
    }
}

fn options() -> serde_saphyr::options::Options {
    serde_saphyr::options! {
        // Snippets would show what is in the file, and a URL may hold a password.
        with_snippet: false,
        budget: serde_saphyr::budget! { max_aliases: 1_000, max_anchors: 1_000, max_depth: 8, max_nodes: 100_000 },
    }
}

#[cfg(test)]
mod tests;
