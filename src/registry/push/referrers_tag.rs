//! Registries without the referrers API: whoever pushes a manifest with a `subject` keeps an index of such manifests
//! under the tag `sha256-<hex>` (distribution-spec, "Pushing Manifests with Subject" and "Referrers Tag Schema").
//!
//! Entries stay the text that they are: parsed, a list of 4 MiB could take fifty times as much memory.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::error::{Error, Result};
use crate::oci::json::from_checked;
use crate::oci::{Digest, Document, MAX_DOCUMENT, MediaType, Repository, View};

/// What was pushed and has a subject that the registry took no notice of, by repository and subject.
#[derive(Default)]
pub(crate) struct UnlistedReferrers(Mutex<BTreeMap<(Repository, Digest), Vec<Digest>>>);

impl UnlistedReferrers {
    /// Notes a manifest with a subject.
    pub(crate) fn note(&self, repository: &Repository, subject: Digest, referrer: Digest) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.entry((repository.clone(), subject)).or_default().push(referrer);
    }

    /// Everything noted, by repository and subject, and forgets it.
    pub(crate) fn take(&self) -> BTreeMap<(Repository, Digest), Vec<Digest>> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A descriptor in a list.
#[derive(Debug, Clone)]
pub(crate) struct ListEntry {
    digest: String,
    json: Box<RawValue>,
}

impl ListEntry {
    /// The descriptor of a referrer, with its artifact type and annotations.
    pub(crate) fn of(referrer: &Document) -> Result<Self> {
        #[derive(Deserialize)]
        struct Annotated {
            annotations: Option<Box<RawValue>>,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Descriptor<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            annotations: Option<Box<RawValue>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            artifact_type: Option<&'a str>,
            digest: &'a str,
            media_type: &'a str,
            size: u64,
        }
        let config_type = match referrer.view() {
            View::Manifest { config, .. } => Some(config.media_type.as_str()),
            View::Index { .. } => None,
        };
        let Annotated { annotations } = from_checked(referrer.bytes()).map_err(no_json)?;
        let digest = referrer.digest().to_string();
        let json = to_raw_value(&Descriptor {
            annotations,
            artifact_type: referrer.artifact_type().or(config_type),
            digest: &digest,
            media_type: referrer.media_type().as_str(),
            size: referrer.size(),
        });
        Ok(ListEntry { json: json.map_err(no_json)?, digest })
    }

    fn parse(json: Box<RawValue>) -> Result<Self> {
        #[derive(Deserialize)]
        struct Named {
            digest: String,
        }
        let Named { digest } = from_checked(json.get().as_bytes()).map_err(no_json)?;
        Ok(ListEntry { digest, json })
    }
}

/// The bytes and the media type of a list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct List {
    pub(crate) bytes: Bytes,
    pub(crate) media_type: String,
}

/// The list that holds what is `there` and `entries`; nothing if all of them are there already. `carried` is a list that
/// holds all of `entries`: its bytes are kept where nothing is there that it lacks.
///
/// # Errors
/// `Registry` when what is under the tag is not an index. `Refused` when the list becomes longer than a manifest may be.
pub(crate) fn merged(
    there: Option<&Document>,
    carried: Option<&Document>,
    mut entries: Vec<ListEntry>,
) -> Result<Option<List>> {
    let mut listed = there.map(self::entries).transpose()?.unwrap_or_default();
    if let Some(carried) = carried {
        let own: HashSet<&str> = entries.iter().map(|entry| &*entry.digest).collect();
        let holds_all = listed.iter().all(|entry| own.contains(&*entry.digest));
        if holds_all && (there.is_none() || listed.len() < own.len()) {
            let (bytes, media_type) = (carried.bytes().clone(), carried.media_type().to_string());
            return Ok(Some(List { bytes, media_type }));
        }
    }
    let mut known: HashSet<String> = listed.iter().map(|entry| entry.digest.clone()).collect();
    // The same import makes the same list.
    entries.sort_by(|a, b| a.digest.cmp(&b.digest));
    entries.retain(|entry| known.insert(entry.digest.clone()));
    if entries.is_empty() && there.is_some() {
        return Ok(None);
    }
    listed.append(&mut entries);
    let media_type = there.map_or(MediaType::OCI_INDEX.to_owned(), |document| document.media_type().to_string());
    let mut index = match there {
        Some(document) => fields(document)?,
        None => BTreeMap::from([
            ("schemaVersion".to_owned(), to_raw_value(&2).map_err(no_json)?),
            ("mediaType".to_owned(), to_raw_value(&media_type).map_err(no_json)?),
        ]),
    };
    let manifests: Vec<&RawValue> = listed.iter().map(|entry| &*entry.json).collect();
    index.insert("manifests".to_owned(), to_raw_value(&manifests).map_err(no_json)?);
    let bytes = Bytes::from(serde_json::to_vec(&index).map_err(no_json)?);
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
pub(crate) fn entries(list: &Document) -> Result<Vec<ListEntry>> {
    let no_list = || {
        Error::registry("what is under the tag for referrers is not an index")
            .hint("look at that tag: delete it there, or keep it under another name, and run the same command again")
    };
    let manifests = fields(list)?.remove("manifests").ok_or_else(no_list)?;
    let manifests: Vec<Box<RawValue>> = from_checked(manifests.get().as_bytes()).map_err(|_| no_list())?;
    manifests.into_iter().map(ListEntry::parse).collect()
}

fn fields(list: &Document) -> Result<BTreeMap<String, Box<RawValue>>> {
    from_checked(list.bytes()).map_err(no_json)
}

fn no_json(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::registry("a list of referrers cannot be read or made").caused_by(error)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn referrer(seed: u8) -> Document {
        let digest = Digest::of(&[seed]);
        let text = format!(
            r#"{{"schemaVersion":2,"artifactType":"application/x","config":{{"mediaType":"c","digest":"{digest}","size":1}},"layers":[],"subject":{{"mediaType":"m","digest":"{digest}","size":1}},"annotations":{{"a":"b"}}}}"#
        );
        Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_MANIFEST)).unwrap()
    }

    fn entry(seed: u8) -> ListEntry {
        ListEntry::of(&referrer(seed)).unwrap()
    }

    fn list(of: &[u8]) -> Document {
        let entries = of.iter().copied().map(entry).collect();
        let list = merged(None, None, entries).unwrap().expect("nothing is there");
        Document::parse(list.bytes, &MediaType::new(MediaType::OCI_INDEX)).unwrap()
    }

    fn digests(list: &List) -> Vec<String> {
        let document = Document::parse(list.bytes.clone(), &MediaType::new(&list.media_type)).unwrap();
        entries(&document).unwrap().into_iter().map(|entry| entry.digest).collect()
    }

    #[test]
    fn what_is_under_the_tag_is_kept_and_nothing_is_added_twice() {
        let there = list(&[1]);
        assert_eq!(merged(Some(&there), None, vec![entry(1)]).unwrap(), None);
        let both = merged(Some(&there), None, [1, 2, 2].map(entry).to_vec()).unwrap().unwrap();
        assert_eq!(digests(&both), [1, 2].map(|seed| referrer(seed).digest().to_string()));
        let both: Value = serde_json::from_slice(&both.bytes).unwrap();
        let expected = referrer(2);
        assert_eq!(both["manifests"][1]["mediaType"], MediaType::OCI_MANIFEST);
        assert_eq!(both["manifests"][1]["size"], expected.size());
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
        assert_eq!(merge(Some(&list(&[2, 1]))), None, "the same entries in another order");
        let all = [3, 1, 2].map(|seed| referrer(seed).digest().to_string());
        let mut merged = digests(&merge(Some(&list(&[3]))).unwrap());
        assert_eq!(merged.remove(0), all[0], "what is there stays in front");
        assert!(all[1..].iter().all(|digest| merged.contains(digest)));
    }

    #[test]
    fn fields_and_entries_that_are_not_known_here_stay_as_they_are() {
        let entry = format!(r#"{{"mediaType":"m","digest":"{}","size":1,"x":[ 1.50, {{}}]}}"#, Digest::of(b"x"));
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","x":[ 2.50 ],"manifests":[{}]}}"#,
            MediaType::OCI_INDEX,
            entry
        );
        let there = Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_INDEX)).unwrap();
        let merged = merged(Some(&there), None, vec![self::entry(1)]).unwrap().unwrap();
        let merged = String::from_utf8(merged.bytes.to_vec()).unwrap();
        assert!(merged.contains(r#""x":[ 2.50 ]"#) && merged.contains(r#""x":[ 1.50, {}]"#), "{merged}");
    }

    #[test]
    fn an_image_under_the_tag_is_no_list() {
        let error = merged(Some(&referrer(1)), None, vec![entry(2)]).unwrap_err();
        assert!(error.chain().contains("is not an index"), "{error:?}");
    }
}
