//! Whether a registry has the referrers API, as far as its answers in this run tell.

use std::collections::HashSet;

use crate::oci::Repository;

/// What is known of one registry.
#[derive(Default)]
pub(crate) enum ReferrersSupport {
    /// Nobody has asked yet.
    #[default]
    Unknown,
    /// It has returned a list.
    Yes,
    /// It has said plainly that it has no such list.
    No,
    /// These repositories returned something unusual instead of a list; nothing else is known.
    Doubtful(HashSet<Repository>),
}

/// One answer of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReferrersAnswer {
    /// A list.
    List,
    /// A status that means nothing else than that there is no such list.
    PlainNo,
    /// Another status, or a body that is no list.
    UnusualNo,
}

impl ReferrersSupport {
    /// Adds what an answer of `repository` tells.
    pub(crate) fn learn(&mut self, repository: &Repository, answer: ReferrersAnswer) {
        match (answer, &mut *self) {
            (ReferrersAnswer::List, _) => *self = ReferrersSupport::Yes,
            (_, ReferrersSupport::Yes) => {}
            (ReferrersAnswer::PlainNo, _) => *self = ReferrersSupport::No,
            (ReferrersAnswer::UnusualNo, ReferrersSupport::Doubtful(repositories)) => {
                repositories.insert(repository.clone());
            }
            (ReferrersAnswer::UnusualNo, ReferrersSupport::Unknown | ReferrersSupport::No) => {
                *self = ReferrersSupport::Doubtful(HashSet::from([repository.clone()]));
            }
        }
    }

    /// What is known without another question to `repository`: `Some` says whether it lists referrers.
    pub(crate) fn of(&self, repository: &Repository) -> Option<bool> {
        match self {
            ReferrersSupport::Unknown => None,
            ReferrersSupport::Yes => Some(true),
            ReferrersSupport::No => Some(false),
            ReferrersSupport::Doubtful(repositories) => repositories.contains(repository).then_some(false),
        }
    }
}
