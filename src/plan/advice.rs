//! What errors say of images that cannot be carried as they are published, and what can be carried of them instead.

use super::{CallingCommand, Draft, PlannedImage, Platforms, platform};
use crate::content::{Misfit, SourceRepository};
use crate::error::{Error, Kind};
use crate::oci::{Descriptor, Digest, View};

impl Draft<'_> {
    /// The error for an image: `child`, which `parent` refers to, could not be read.
    pub(super) fn unread(&self, parent: Digest, child: Digest) -> Error {
        let error = self.broken[&child].flattened();
        let children = self.children(parent);
        if children.is_empty() {
            return error;
        }
        let missing = matches!(error.kind(), Kind::NotFound | Kind::Refused);
        let error = error.context(format!("its index lists {}", shown(&children, child)));
        let others: Vec<&Descriptor> =
            children.iter().filter(|child| !self.broken.contains_key(&child.digest)).collect();
        match platform::listed(others.iter().copied()) {
            Some(others) if missing => error.hint(match (self.wishes.command, &self.wishes.platforms) {
                (CallingCommand::Export, Platforms::All) => {
                    format!("carry the other platforms: --platform {}", others.replace(", ", " --platform "))
                }
                (CallingCommand::Sync, Platforms::All) => {
                    format!("leave out --all to copy one platform without the index; there are {others}")
                }
                _ => format!("ask only for platforms that are there: {others}"),
            }),
            _ => error,
        }
    }

    /// The error for an image that is not whole, or contradicts itself or another one of `images`.
    pub(super) fn misfit(&self, images: &[PlannedImage], position: usize, misfit: &Misfit) -> Error {
        let (parent, child, what) = match misfit {
            Misfit::Size { parent, child, said, found } => {
                (parent, child, format!("the index says {said} bytes, the manifest has {found}"))
            }
            Misfit::Type { parent, child, said, found } => {
                (parent, child, format!("the index says {said}, its registry says {found}"))
            }
            _ => return conflict(|at| &images[at].image.source, position, misfit, self.wishes.command),
        };
        let children = self.children(*parent);
        let error = Error::refused(format!("{}: {what}: the publisher's mistake", shown(&children, *child)));
        let SourceRepository { host, repository } = &images[position].origin;
        self.without_index(error, &children)
            .hint(format!("or name the manifest by its digest: {host}/{repository}@{child}"))
    }

    /// Adds how one platform's manifest is carried without its index.
    fn without_index(&self, error: Error, children: &[Descriptor]) -> Error {
        let Some(platforms) = platform::listed(children) else { return error };
        error.hint(match (self.wishes.command, &self.wishes.platforms) {
            (CallingCommand::Export, Platforms::Index(wishes)) if wishes.len() == 1 => {
                format!(
                    "leave out --platform-as index: then the manifest of {} is carried without the index",
                    wishes[0]
                )
            }
            (CallingCommand::Export, Platforms::Index(_)) => {
                format!("ask for one platform, whose manifest is carried without the index: one of {platforms}")
            }
            (CallingCommand::Export, _) => {
                format!("carry one platform's manifest without the index: --platform with one of {platforms}")
            }
            (CallingCommand::Sync, Platforms::All) => {
                "leave out --all: then the manifest of one platform is copied without the index".to_owned()
            }
            (CallingCommand::Sync, _) => {
                format!("choose another platform with --override-os and --override-arch: {platforms}")
            }
        })
    }

    /// What an index lists; nothing for a manifest.
    fn children(&self, document: Digest) -> Vec<Descriptor> {
        match self.builder.read(document).map(|document| document.view().clone()) {
            Ok(View::Index { children }) => children,
            _ => Vec::new(),
        }
    }
}

/// The digest, and the platform that the index gives it.
fn shown(children: &[Descriptor], digest: Digest) -> String {
    let platform = children.iter().find(|child| child.digest == digest).and_then(|child| child.platform.as_ref());
    platform.map_or_else(|| digest.to_string(), |platform| format!("{digest} ({})", platform.quoted()))
}

/// The error for an image that contradicts itself or another one; `source` gives what an image was asked for as.
pub(super) fn conflict<'a>(
    source: impl Fn(usize) -> &'a str,
    position: usize,
    misfit: &Misfit,
    command: CallingCommand,
) -> Error {
    let (other, what) = match misfit {
        Misfit::TwoSizes { digest, here, there, other } if *other != position => {
            (other, format!("{digest} has {here} bytes by this image and {there} by {}", source(*other)))
        }
        Misfit::TwoRoles { digest, other } if *other != position => {
            (other, format!("{digest} is a layer or config of this image and a manifest of {}", source(*other)))
        }
        misfit => {
            return Error::refused(format!("{misfit}: the publisher's mistake"))
                .hint("leave it out, or have it pushed anew by a current tool");
        }
    };
    let (one, other) = (source(position), source(*other));
    match command {
        CallingCommand::Export => {
            Error::refused(format!("{what}: one bundle cannot hold both (bundle-spec, section 7.3)"))
                .hint(format!("export two bundles, one with {one} and one with {other}"))
        }
        CallingCommand::Sync => Error::refused(format!("{what}: one run cannot carry both"))
            .hint(format!("sync {one} and {other} in two runs")),
    }
}
