//! Registries without the referrers API: whoever pushes a manifest with a `subject` keeps an index of such manifests
//! under the tag `sha256-<hex>` (distribution-spec, "Pushing Manifests with Subject" and "Referrers Tag Schema").

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::oci::{Digest, Document, MediaType, Repository, Tag, View};

/// What was pushed and has a subject that the registry took no notice of.
#[derive(Default)]
pub(super) struct Subjects(Mutex<BTreeMap<(Repository, Digest), Vec<Value>>>);

impl Subjects {
    /// Notes a document with a subject.
    pub(super) fn note(&self, repository: &Repository, subject: Digest, document: &Document) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.entry((repository.clone(), subject)).or_default().push(entry(document));
    }

    /// Notes everything that a list of referrers names which was carried as a tag of its own. Says whether it is a list.
    pub(super) fn note_list(&self, repository: &Repository, subject: Digest, list: &Bytes) -> bool {
        let entries = serde_json::from_slice(list)
            .ok()
            .and_then(|mut list: Value| list.get_mut("manifests").and_then(Value::as_array_mut).map(std::mem::take));
        let Some(mut entries) = entries else { return false };
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.entry((repository.clone(), subject)).or_default().append(&mut entries);
        true
    }

    /// Everything noted, by repository and subject, and forgets it.
    pub(super) fn take(&self) -> BTreeMap<(Repository, Digest), Vec<Value>> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The tag under which clients look for the referrers of `subject`.
pub(super) fn fallback_tag(subject: Digest) -> Tag {
    format!("sha256-{}", subject.hex()).parse().expect("hex digits are a tag")
}

/// Whose referrers are listed under the tag, if it is such a one.
pub(super) fn subject_of(tag: &Tag) -> Option<Digest> {
    tag.as_str().strip_prefix("sha256-").and_then(Digest::from_hex)
}

/// The index under the fallback tag with `entries` added to what is there; nothing if all of them are there already.
///
/// # Errors
/// `Registry` when what is under the tag is not an index.
pub(super) fn merged(there: Option<&Document>, mut entries: Vec<Value>) -> Result<Option<Bytes>> {
    let mut index = match there {
        None => json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": []}),
        Some(document) => serde_json::from_slice(document.bytes())
            .map_err(|e| Error::registry("the index of referrers is not JSON").caused_by(e))?,
    };
    let Some(manifests) = index.get_mut("manifests").and_then(Value::as_array_mut) else {
        return Err(Error::registry("what is under the tag for referrers is not an index")
            .hint("look at that tag: delete it there, or keep it under another name, and run the same command again"));
    };
    entries.retain(|entry| manifests.iter().all(|known| known["digest"] != entry["digest"]));
    if entries.is_empty() {
        return Ok(None);
    }
    // The same import makes the same index.
    entries.sort_by_key(|entry| entry["digest"].to_string());
    entries.dedup_by(|entry, before| entry["digest"] == before["digest"]);
    manifests.append(&mut entries);
    Ok(Some(Bytes::from(index.to_string())))
}

/// The descriptor of a referrer, with its artifact type and annotations.
fn entry(document: &Document) -> Value {
    let mut entry = json!({
        "mediaType": document.media_type(),
        "digest": document.digest(),
        "size": document.size(),
    });
    let config_type = match document.view() {
        View::Manifest { config, .. } => Some(config.media_type.as_str()),
        View::Index { .. } => None,
    };
    if let Some(artifact_type) = document.artifact_type().or(config_type) {
        entry["artifactType"] = json!(artifact_type);
    }
    if let Ok(Value::Object(mut fields)) = serde_json::from_slice(document.bytes())
        && let Some(annotations) = fields.remove("annotations")
    {
        entry["annotations"] = annotations;
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    fn referrer(seed: u8) -> Document {
        let digest = Digest::of(&[seed]);
        let text = format!(
            r#"{{"schemaVersion":2,"artifactType":"application/x","config":{{"mediaType":"c","digest":"{digest}","size":1}},"layers":[],"subject":{{"mediaType":"m","digest":"{digest}","size":1}},"annotations":{{"a":"b"}}}}"#
        );
        Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_MANIFEST)).unwrap()
    }

    #[test]
    fn what_is_under_the_tag_is_kept_and_nothing_is_added_twice() {
        let first = merged(None, vec![entry(&referrer(1))]).unwrap().unwrap();
        let there = Document::parse(first, &MediaType::new(MediaType::OCI_INDEX)).unwrap();
        assert_eq!(merged(Some(&there), vec![entry(&referrer(1))]).unwrap(), None);
        let more = [1, 2, 2].map(|seed| entry(&referrer(seed)));
        let both = merged(Some(&there), more.to_vec()).unwrap().unwrap();
        let both: Value = serde_json::from_slice(&both).unwrap();
        assert_eq!(both["manifests"].as_array().unwrap().len(), 2);
        assert_eq!(both["manifests"][1]["artifactType"], "application/x");
        assert_eq!(both["manifests"][1]["annotations"]["a"], "b");
    }
}
