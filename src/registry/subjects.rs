//! Registries without the referrers API: whoever pushes a manifest with a `subject` keeps an index of such manifests
//! under the tag `sha256-<hex>` (distribution-spec, "Pushing Manifests with Subject" and "Referrers Tag Schema").

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::oci::{Digest, Document, MAX_DOCUMENT, MediaType, Repository, Tag, View};

/// What was pushed and has a subject that the registry took no notice of.
#[derive(Default)]
pub(super) struct Subjects(Mutex<BTreeMap<(Repository, Digest), Vec<Value>>>);

impl Subjects {
    /// Notes a document with a subject.
    pub(super) fn note(&self, repository: &Repository, subject: Digest, document: &Document) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.entry((repository.clone(), subject)).or_default().push(entry(document));
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

/// The bytes and the media type of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct List {
    pub(super) bytes: Bytes,
    pub(super) media_type: String,
}

/// The list that holds what is `there` and `entries`; nothing if all of them are there already. `carried` is a list that
/// holds all of `entries`: its bytes are kept where nothing is there that it lacks.
///
/// # Errors
/// `Registry` when what is under the tag is not an index. `Refused` when the list becomes longer than a manifest may be.
pub(super) fn merged(
    there: Option<&Document>,
    carried: Option<&Document>,
    mut entries: Vec<Value>,
) -> Result<Option<List>> {
    let listed = there.map(self::entries).transpose()?.unwrap_or_default();
    entries.retain(|entry| !holds(&listed, entry));
    if entries.is_empty() && there.is_some() {
        return Ok(None);
    }
    if let Some(carried) = carried {
        let own = self::entries(carried)?;
        if listed.iter().all(|entry| holds(&own, entry)) {
            let (bytes, media_type) = (carried.bytes().clone(), carried.media_type().to_string());
            return Ok(Some(List { bytes, media_type }));
        }
    }
    let media_type = there.map_or(MediaType::OCI_INDEX.to_owned(), |document| document.media_type().to_string());
    let mut index = match there {
        None => json!({"schemaVersion": 2, "mediaType": media_type}),
        Some(document) => parsed(document)?,
    };
    // The same import makes the same list.
    entries.sort_by_key(|entry| entry["digest"].to_string());
    entries.dedup_by(|entry, before| entry["digest"] == before["digest"]);
    index["manifests"] = Value::Array(listed.into_iter().chain(entries).collect());
    let bytes = Bytes::from(index.to_string());
    if bytes.len() as u64 > MAX_DOCUMENT {
        return Err(Error::refused(format!("the list of referrers would be longer than {MAX_DOCUMENT} bytes"))
            .hint("delete referrers that nobody needs, then their entries in that list"));
    }
    Ok(Some(List { bytes, media_type }))
}

/// What a list names.
///
/// # Errors
/// `Registry` when it is not a list.
pub(super) fn entries(list: &Document) -> Result<Vec<Value>> {
    match parsed(list)?.get_mut("manifests").map(Value::take) {
        Some(Value::Array(entries)) => Ok(entries),
        _ => Err(Error::registry("what is under the tag for referrers is not an index")
            .hint("look at that tag: delete it there, or keep it under another name, and run the same command again")),
    }
}

fn parsed(list: &Document) -> Result<Value> {
    serde_json::from_slice(list.bytes()).map_err(|e| Error::registry("the list of referrers is not JSON").caused_by(e))
}

/// Whether an entry for the same manifest is among these.
fn holds(entries: &[Value], entry: &Value) -> bool {
    entries.iter().any(|known| known["digest"] == entry["digest"])
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

    fn list(of: &[u8]) -> Document {
        let entries = of.iter().map(|seed| entry(&referrer(*seed))).collect();
        let list = merged(None, None, entries).unwrap().expect("nothing is there");
        Document::parse(list.bytes, &MediaType::new(MediaType::OCI_INDEX)).unwrap()
    }

    fn digests(list: &List) -> Vec<String> {
        let document = Document::parse(list.bytes.clone(), &MediaType::new(&list.media_type)).unwrap();
        let digest = |entry: &Value| entry["digest"].as_str().unwrap().to_owned();
        entries(&document).unwrap().iter().map(digest).collect()
    }

    #[test]
    fn what_is_under_the_tag_is_kept_and_nothing_is_added_twice() {
        let there = list(&[1]);
        assert_eq!(merged(Some(&there), None, vec![entry(&referrer(1))]).unwrap(), None);
        let more = [1, 2, 2].map(|seed| entry(&referrer(seed)));
        let both = merged(Some(&there), None, more.to_vec()).unwrap().unwrap();
        assert_eq!(digests(&both), [1, 2].map(|seed| referrer(seed).digest().to_string()));
        let both: Value = serde_json::from_slice(&both.bytes).unwrap();
        assert_eq!(both["manifests"][1]["artifactType"], "application/x");
        assert_eq!(both["manifests"][1]["annotations"]["a"], "b");
    }

    #[test]
    fn a_carried_list_keeps_its_bytes_where_it_holds_all_that_is_there() {
        let carried = list(&[1, 2]);
        let merge = |there: Option<&Document>| merged(there, Some(&carried), entries(&carried).unwrap()).unwrap();
        for there in [None, Some(list(&[1]))] {
            assert_eq!(merge(there.as_ref()).unwrap().bytes, carried.bytes());
        }
        assert_eq!(merge(Some(&list(&[3, 2, 1]))), None);
        let all = [3, 1, 2].map(|seed| referrer(seed).digest().to_string());
        let mut merged = digests(&merge(Some(&list(&[3]))).unwrap());
        assert_eq!(merged.remove(0), all[0], "what is there stays in front");
        assert!(all[1..].iter().all(|digest| merged.contains(digest)));
    }

    #[test]
    fn an_image_under_the_tag_is_no_list() {
        let error = merged(Some(&referrer(1)), None, vec![entry(&referrer(2))]).unwrap_err();
        assert!(error.chain().contains("is not an index"), "{error:?}");
    }
}
