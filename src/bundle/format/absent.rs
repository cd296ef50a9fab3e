//! As what content is referred to, and for which reasons it may be left out (bundle-spec, section 4).

use std::fmt;

use crate::content::Reason;
use crate::oci::{Descriptor, Document, View};

/// What a document refers to, and as what.
pub(crate) fn children(document: &Document) -> impl Iterator<Item = (ReferenceRole, &Descriptor)> {
    let (config, list) = match document.view() {
        View::Index { children } => (None, children),
        View::Manifest { config, layers } => (Some(config), layers),
    };
    let in_index = config.is_none();
    let role = move |child: &Descriptor| match (in_index, child.media_type.document_kind()) {
        (true, Some(_)) => ReferenceRole::Document,
        (true, None) => ReferenceRole::Member,
        (false, _) => ReferenceRole::Layer,
    };
    config
        .into_iter()
        .map(|config| (ReferenceRole::Config, config))
        .chain(list.iter().map(move |child| (role(child), child)))
}

/// As what something is referred to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReferenceRole {
    /// A manifest or index in an index.
    Document,
    /// Something else in an index.
    Member,
    Config,
    Layer,
}

impl fmt::Display for ReferenceRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReferenceRole::Document => "a manifest",
            ReferenceRole::Member => "a part",
            ReferenceRole::Config => "the config",
            ReferenceRole::Layer => "a layer",
        })
    }
}

/// Which reasons go with which role (bundle-spec, section 4).
pub(crate) fn may_be_absent(role: ReferenceRole, reason: Reason) -> bool {
    match reason {
        Reason::Platform => matches!(role, ReferenceRole::Document | ReferenceRole::Member),
        Reason::Foreign => role == ReferenceRole::Layer,
        // Manifests and indexes are always carried: what is below them would be unknown otherwise.
        Reason::Base => role != ReferenceRole::Document,
    }
}
