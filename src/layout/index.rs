//! `index.json` as bytes: what it names, and how it is changed without losing what is not understood.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::oci::{Descriptor, Name, json};

/// A named document of a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutImage {
    /// Where it lands.
    pub name: Name,
    /// Of its manifest or index.
    pub descriptor: Descriptor,
}

/// What an `index.json` names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// In the order of the file, each name once.
    pub images: Vec<LayoutImage>,
    /// What is left out of `images`, and why.
    pub notes: Vec<String>,
}

/// One change to an `index.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The name means this, whatever it meant before.
    Set(Name, Descriptor),
    /// The name means nothing.
    Remove(Name),
}

/// Of a layout without images.
pub(super) const EMPTY: &[u8] =
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

/// What the file `oci-layout` holds.
pub(super) const VERSION: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

pub(super) fn check_version(bytes: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Raw {
        image_layout_version: String,
    }
    let raw: Raw = json::from_slice(bytes).map_err(|e| Error::damaged(format!("oci-layout: {e}")))?;
    if raw.image_layout_version != "1.0.0" {
        return Err(Error::damaged(format!(
            "oci-layout has the version {:?}, not 1.0.0",
            clip(&raw.image_layout_version)
        )));
    }
    Ok(())
}

pub(super) fn parse(bytes: &[u8]) -> Result<Listing> {
    #[derive(Deserialize)]
    struct Raw {
        manifests: Vec<Value>,
    }
    let raw: Raw = json::from_slice(bytes).map_err(damaged)?;
    let mut listing = Listing::default();
    let mut seen = std::collections::HashSet::new();
    for value in raw.manifests {
        let Some(text) = ref_name(&value) else {
            listing.notes.push(format!("a descriptor without {REF_NAME} is left out"));
            continue;
        };
        let name = match text.parse::<Name>() {
            Ok(name) => name,
            Err(e) => {
                listing.notes.push(format!("{e}; it is left out"));
                continue;
            }
        };
        let descriptor: Descriptor = match Deserialize::deserialize(&value) {
            Ok(descriptor) => descriptor,
            Err(e) => {
                listing.notes.push(format!("the descriptor of {name} is left out: {e}"));
                continue;
            }
        };
        if !seen.insert(name.clone()) {
            listing.notes.push(format!("{name} is there twice; the first is taken"));
            continue;
        }
        listing.images.push(LayoutImage { name, descriptor });
    }
    Ok(listing)
}

pub(super) fn edit(bytes: &[u8], changes: &[Change]) -> Result<Vec<u8>> {
    let mut index: Value = json::from_slice(bytes).map_err(damaged)?;
    let manifests = index
        .get_mut("manifests")
        .and_then(Value::as_array_mut)
        .ok_or_else(|| Error::damaged("index.json has no list of manifests"))?;
    for change in changes {
        let (name, value) = match change {
            Change::Set(name, descriptor) => (name.to_string(), Some(to_value(name, descriptor))),
            Change::Remove(name) => (name.to_string(), None),
        };
        let place = manifests.iter().position(|m| ref_name(m) == Some(&name));
        manifests.retain(|m| ref_name(m) != Some(&name));
        if let Some(value) = value {
            manifests.insert(place.unwrap_or(manifests.len()), value);
        }
    }
    serde_json::to_vec(&index).map_err(|e| Error::damaged("cannot write index.json").caused_by(e))
}

fn to_value(name: &Name, descriptor: &Descriptor) -> Value {
    let mut annotations: Map<String, Value> =
        descriptor.annotations.iter().flatten().map(|(key, text)| (key.clone(), text.clone().into())).collect();
    annotations.insert(REF_NAME.into(), name.to_string().into());
    let mut value = json!({
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
        "annotations": annotations,
    });
    if let Some(platform) = &descriptor.platform {
        value["platform"] = json!(platform);
    }
    if let Some(artifact_type) = &descriptor.artifact_type {
        value["artifactType"] = json!(artifact_type);
    }
    value
}

fn ref_name(descriptor: &Value) -> Option<&str> {
    descriptor.get("annotations")?.get(REF_NAME)?.as_str()
}

fn damaged(fault: json::JsonFault) -> Error {
    Error::damaged("index.json cannot be read").caused_by(fault)
}

fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

const REF_NAME: &str = "org.opencontainers.image.ref.name";

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn index(entries: &[(&str, &str)]) -> Vec<u8> {
        let manifests: Vec<Value> = entries
            .iter()
            .map(|(name, digest)| json!({"mediaType":"m","digest":digest,"size":1,"annotations":{REF_NAME:name}}))
            .collect();
        serde_json::to_vec(&json!({"schemaVersion":2,"manifests":manifests})).unwrap()
    }

    #[test]
    fn what_is_no_name_is_noted_and_the_rest_is_listed() {
        let at_digest = format!("ns/app@{D}");
        let bytes =
            index(&[("a:1", D), ("latest", D), ("../x:1", D), ("b:1", "sha512:00"), ("a:1", D), (&at_digest, D)]);
        let listing = parse(&bytes).unwrap();
        let names: Vec<String> = listing.images.iter().map(|image| image.name.to_string()).collect();
        assert_eq!(names, ["a:1", at_digest.as_str()]);
        assert_eq!(listing.notes.len(), 4, "{:#?}", listing.notes);
    }

    #[test]
    fn a_name_that_is_set_keeps_its_place_and_is_there_once() {
        let bytes = index(&[("a:1", D), ("b:1", D), ("a:1", D), ("c:1", D)]);
        let mut descriptor = parse(&bytes).unwrap().images.remove(0).descriptor;
        descriptor.size = 7;
        let changes = [Change::Set("a:1".parse().unwrap(), descriptor), Change::Remove("b:1".parse().unwrap())];
        let listing = parse(&edit(&bytes, &changes).unwrap()).unwrap();
        let found: Vec<(String, u64)> =
            listing.images.iter().map(|i| (i.name.to_string(), i.descriptor.size)).collect();
        assert_eq!(found, [("a:1".into(), 7), ("c:1".into(), 1)]);
        assert!(listing.notes.is_empty());
    }

    #[test]
    fn an_index_that_two_readers_could_read_differently_is_refused() {
        assert!(parse(br#"{"manifests":[],"Manifests":[]}"#).is_err());
        assert!(edit(br#"{"schemaVersion":2}"#, &[]).is_err());
    }
}
