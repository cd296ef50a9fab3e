//! A referrer, as messages name it.

use super::Subject;
use crate::content::{Allowance, SourceRepository};
use crate::error::{Error, Failure};
use crate::oci::{Descriptor, Digest, Selector};
use std::fmt;
use std::sync::Arc;

/// A referrer, as messages name it.
#[derive(Debug)]
pub(super) struct Referrer {
    /// The reference of the image that it refers to.
    image: Arc<str>,
    pub(super) origin: SourceRepository,
    pub(super) selector: Selector,
    /// Its artifact type, or else its media type, where a list tells it.
    media_type: Option<String>,
    /// Whether it was listed; otherwise it is asked for because it may be there.
    pub(super) listed: bool,
    pub(super) allowance: Arc<Allowance>,
}

impl Referrer {
    pub(super) fn new(subject: &Subject, selector: Selector, listed: bool) -> Self {
        let (image, origin, allowance) = (subject.image.clone(), subject.origin.clone(), subject.allowance.clone());
        Referrer { image, origin, selector, media_type: None, listed, allowance }
    }

    pub(super) fn of_type(self, descriptor: Descriptor) -> Self {
        let media_type = descriptor.artifact_type.unwrap_or_else(|| descriptor.media_type.to_string());
        Referrer { media_type: Some(media_type), ..self }
    }

    /// Whether `document` is what the tag of this referrer is about.
    pub(super) fn is_itself(&self, document: Digest) -> bool {
        match &self.selector {
            Selector::Tag(tag) => tag.as_str().strip_prefix("sha256-").and_then(Digest::from_hex) == Some(document),
            _ => false,
        }
    }

    /// That it cannot be carried.
    pub(super) fn failure(&self, error: &Error) -> Failure {
        Failure { image: self.to_string(), error: error.flattened().hint(WITHOUT) }
    }
}

impl fmt::Display for Referrer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SourceRepository { host, repository } = &self.origin;
        write!(f, "a referrer of {} (", self.image)?;
        if let Some(media_type) = &self.media_type {
            write!(f, "{media_type}, ")?;
        }
        write!(f, "{host}/{repository}{})", self.selector)
    }
}

/// What to do about a referrer that cannot be had.
pub(super) const WITHOUT: &str = "carry the image without it: --keep-going leaves out what cannot be read, and --no-referrers (sync: \
leave --referrers out) leaves out all signatures, SBOMs and attestations";
