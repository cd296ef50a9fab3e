//! As what content is referred to, and for which reasons it may be left out (bundle-spec, section 4).

use std::fmt;

use crate::oci::{Descriptor, Document, View};
use crate::place::Reason;

/// What a document refers to, and as what.
pub(super) fn children(document: &Document) -> impl Iterator<Item = (Role, &Descriptor)> {
    let (config, list) = match document.view() {
        View::Index { children } => (None, children),
        View::Manifest { config, layers } => (Some(config), layers),
    };
    let in_index = config.is_none();
    let role = move |child: &Descriptor| match (in_index, child.media_type.document_kind()) {
        (true, Some(_)) => Role::Document,
        (true, None) => Role::Member,
        (false, _) => Role::Layer,
    };
    config.into_iter().map(|config| (Role::Config, config)).chain(list.iter().map(move |child| (role(child), child)))
}

/// As what something is referred to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A manifest or index in an index.
    Document,
    /// Something else in an index.
    Member,
    Config,
    Layer,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Document => "a manifest",
            Role::Member => "a part",
            Role::Config => "the config",
            Role::Layer => "a layer",
        })
    }
}

/// Which reasons go with which role (bundle-spec, section 4).
pub(super) fn may_be_absent(role: Role, reason: Reason) -> bool {
    match reason {
        Reason::Platform => matches!(role, Role::Document | Role::Member),
        Reason::Foreign => role == Role::Layer,
        // Manifests and indexes are always carried: what is below them would be unknown otherwise.
        Reason::Base => role != Role::Document,
    }
}
