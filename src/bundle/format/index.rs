//! `index.json`: which images there are, and where each lands.
//!
//! An OCI image index with one descriptor an image or referrer and landing place, as layout readers expect it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{INDEX, limits, quoted};
use crate::content::{Contents, NamedImage};
use crate::error::{Error, Result};
use crate::oci::{Digest, MAX_DOCUMENT, MediaType, json};

/// One line of the table of contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) image: NamedImage,
    /// That of the document.
    pub(crate) media_type: MediaType,
    /// Of the document, in bytes.
    pub(crate) size: u64,
}

/// The items of `contents`, in its order.
pub(crate) fn items(contents: &Contents) -> Result<Vec<Item>> {
    contents
        .images
        .iter()
        .map(|image| {
            let (bytes, media_type) = contents.documents.get(image.document)?;
            Ok(Item { image: image.clone(), media_type: media_type.clone(), size: bytes.len() as u64 })
        })
        .collect()
}

/// The bytes of `index.json`: compact JSON, fields in a fixed order, a line end.
pub(crate) fn to_bytes(items: &[Item]) -> Vec<u8> {
    let manifests = items
        .iter()
        .map(|item| RawItem {
            media_type: item.media_type.clone(),
            digest: item.image.document,
            size: item.size,
            annotations: Annotations { source: item.image.source.clone(), name: item.image.name.to_string() },
        })
        .collect();
    let raw = Raw { schema_version: 2, media_type: MediaType::new(MediaType::OCI_INDEX), manifests };
    let mut bytes = serde_json::to_vec(&raw).expect("texts, numbers and lists are always JSON");
    bytes.push(b'\n');
    bytes
}

/// Reads the bytes of `index.json`.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<Item>> {
    let fault = |what: String| Error::damaged(format!("{INDEX}: {what}"));
    let raw: Raw = json::from_slice(bytes).map_err(|e| fault(e.to_string()))?;
    if raw.schema_version != 2 || raw.media_type.as_str() != MediaType::OCI_INDEX {
        return Err(fault(format!("it is not an {} of schema version 2", MediaType::OCI_INDEX)));
    }
    if raw.manifests.len() > limits::IMAGES {
        return Err(fault(format!("it has more than {} images", limits::IMAGES)));
    }
    if raw.manifests.is_empty() {
        return Err(fault("it names no image".into()));
    }
    let mut previous: Option<&str> = None;
    let mut sizes = BTreeMap::new();
    let mut items = Vec::with_capacity(raw.manifests.len());
    for item in &raw.manifests {
        let name = item.annotations.name.as_str();
        if previous >= Some(name) {
            let what = if previous == Some(name) { "is there twice" } else { "is not sorted by name" };
            return Err(fault(format!("{} {what}", quoted(name))));
        }
        previous = Some(name);
        items.push(read_item(item).map_err(|what| fault(format!("{}: {what}", quoted(name))))?);
        let known = sizes.entry(item.digest).or_insert((item.size, &item.media_type));
        if *known != (item.size, &item.media_type) {
            return Err(fault(format!("{} has two sizes or two media types", item.digest)));
        }
    }
    Ok(items)
}

fn read_item(item: &RawItem) -> Result<Item, String> {
    let name = item.annotations.name.parse().map_err(|e| format!("{e}"))?;
    if item.media_type.document_kind().is_none() {
        return Err(format!("{} is not the media type of a manifest or index", quoted(item.media_type.as_str())));
    }
    if item.size > MAX_DOCUMENT {
        return Err(format!("its manifest has {} bytes, more than {MAX_DOCUMENT}", item.size));
    }
    let source = &item.annotations.source;
    if !(1..=limits::SOURCE_BYTES).contains(&source.len()) || source.contains(char::is_control) {
        return Err(format!("its source is not 1 to {} bytes without control characters", limits::SOURCE_BYTES));
    }
    Ok(Item {
        image: NamedImage { name, source: source.clone(), document: item.digest },
        media_type: item.media_type.clone(),
        size: item.size,
    })
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Raw {
    schema_version: u32,
    media_type: MediaType,
    manifests: Vec<RawItem>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawItem {
    media_type: MediaType,
    digest: Digest,
    size: u64,
    annotations: Annotations,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Annotations {
    #[serde(rename = "io.containerd.image.name")]
    source: String,
    #[serde(rename = "org.opencontainers.image.ref.name")]
    name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str) -> Item {
        Item {
            image: NamedImage {
                name: name.parse().unwrap(),
                source: format!("h.io/{name}"),
                document: Digest::of(b"x"),
            },
            media_type: MediaType::new(MediaType::DOCKER_LIST),
            size: 7,
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let items = [item("ns/a:1"), item("ns/b:1")];
        assert_eq!(parse(&to_bytes(&items)).unwrap(), items);
    }

    #[test]
    fn order_names_and_annotations_are_checked() {
        let text = String::from_utf8(to_bytes(&[item("ns/a:1"), item("ns/b:1")])).unwrap();
        let cases = [
            (text.replace("ns/b:1", "ns/a:1"), "twice"),
            (text.replace("ns/b:1", "ns/A:1"), "not sorted"),
            (text.replace("ns/b:1", "ns/c:\\u001b[2J"), "not a tag"),
            (text.replace("ns/b:1", "ns/c"), "name"),
            (text.replace("h.io/ns/b:1", ""), "source"),
            (text.replace("h.io/ns/b:1", "h.io\\u0007"), "source"),
            (text.replace("\"io.containerd", "\"x\":\"y\",\"io.containerd"), "unknown field"),
            (text.replace("\"io.containerd.image.name\"", "\"io.containerd.image.nama\""), "unknown field"),
            (text.replacen("\"size\":7", "\"size\":8", 1), "two sizes"),
            (text.replacen("\"size\":7", "\"size\":7,\"urls\":[]", 1), "unknown field"),
            (text.replacen("\"size\":7", "\"size\":5000000", 1), "more than"),
            (text.replace(MediaType::DOCKER_LIST, "application/json"), "media type"),
            (text.replace("\"schemaVersion\":2", "\"schemaVersion\":1"), "schema version"),
            (text.replace("\"manifests\"", "\"Manifests\""), "misspelling"),
            (text.replace("{\"schema", "{\"config\":{},\"schema"), "unknown field"),
            (String::from_utf8(to_bytes(&[])).unwrap(), "no image"),
        ];
        for (text, reason) in cases {
            let error = parse(text.as_bytes()).expect_err(&text);
            assert!(error.chain().contains(reason), "{text}: {error:?}");
        }
    }
}
