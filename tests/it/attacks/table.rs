//! The attacks: one entry each, by the part of the format that they are against.

mod archives;
mod closed;
mod descriptor;
mod documents;
mod images;
mod json;
mod signatures;
mod sums;

pub(crate) use archives::archive_attacks;

use super::draft::Draft;

/// Who does it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum By {
    /// Someone without a trusted key: the seal stays as it was.
    Stranger,
    /// Someone whose key is trusted: the bundle is sealed again after the change.
    Signer,
}

/// The classes of bundle-spec, section 10; exit code 3 all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    Damaged,
    Untrusted,
    Refused,
}

/// When it is noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// Before any writing request.
    Head,
    /// As layers stream: blobs may have been sent, and no manifest and no tag.
    Layers,
}

pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) by: By,
    pub(crate) class: Class,
    pub(crate) found: Found,
    /// The paragraph of bundle-spec that refuses it.
    pub(crate) rule: &'static str,
    /// Part of what sealift says.
    pub(crate) reason: &'static str,
    /// What it tries.
    pub(crate) why: &'static str,
    base: fn() -> Draft,
    change: fn(&mut Draft),
}

impl Attack {
    pub(crate) fn make(&self) -> Draft {
        let mut draft = (self.base)();
        (self.change)(&mut draft);
        if self.by == By::Signer {
            draft.seal();
        }
        draft
    }
}

pub(crate) fn attacks() -> Vec<Attack> {
    [
        closed::attacks(),
        signatures::attacks(),
        sums::attacks(),
        descriptor::attacks(),
        images::attacks(),
        documents::attacks(),
        json::attacks(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A change after sealing.
fn stranger(
    name: &'static str,
    (rule, reason): (&'static str, &'static str),
    why: &'static str,
    base: fn() -> Draft,
    change: fn(&mut Draft),
) -> Attack {
    Attack { name, by: By::Stranger, class: Class::Damaged, found: Found::Head, rule, reason, why, base, change }
}

/// A change that is sealed.
fn signer(
    name: &'static str,
    rule: (&'static str, &'static str),
    why: &'static str,
    base: fn() -> Draft,
    change: fn(&mut Draft),
) -> Attack {
    Attack { by: By::Signer, ..stranger(name, rule, why, base, change) }
}

fn untrusted(attack: Attack) -> Attack {
    Attack { class: Class::Untrusted, ..attack }
}

fn refused(attack: Attack) -> Attack {
    Attack { class: Class::Refused, ..attack }
}

fn in_layers(attack: Attack) -> Attack {
    Attack { found: Found::Layers, ..attack }
}
