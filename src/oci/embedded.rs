//! Content that a document carries itself: the `data` of its descriptors (image-spec, descriptor.md, "Embedded Content").

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Digest;

/// Returns what descriptors in a manifest or index embed of the content that is `wanted`. What does not have the size and
/// the digest of its descriptor is left out. `document` must have been parsed before.
pub fn embedded(document: &[u8], wanted: impl Fn(Digest) -> bool) -> Vec<(Digest, Bytes)> {
    if !document.windows(KEY.len()).any(|window| window == KEY) {
        return Vec::new();
    }
    let Ok(Lists { config, layers, manifests }) = serde_json::from_slice(document) else { return Vec::new() };
    let all = config.into_iter().chain(layers.unwrap_or_default()).chain(manifests.unwrap_or_default());
    let found = all.filter(|entry| wanted(entry.digest)).filter_map(|Entry { digest, size, data }| {
        let bytes = STANDARD.decode(data.0?).ok()?;
        (bytes.len() as u64 == size && Digest::of(&bytes) == digest).then(|| (digest, Bytes::from(bytes)))
    });
    found.collect()
}

/// Without it a document embeds nothing, and need not be read once more.
const KEY: &[u8] = b"\"data\"";

#[derive(Deserialize)]
struct Lists {
    #[serde(default)]
    config: Option<Entry>,
    #[serde(default)]
    layers: Option<Vec<Entry>>,
    #[serde(default)]
    manifests: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    digest: Digest,
    size: u64,
    #[serde(default)]
    data: Data,
}

/// A text; whatever else stands there is no content and no fault.
#[derive(Default)]
struct Data(Option<String>);

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DataVisitor)
    }
}

struct DataVisitor;

impl<'de> Visitor<'de> for DataVisitor {
    type Value = Data;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Data, E> {
        Ok(Data(Some(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Data, E> {
        Ok(Data(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Data, E> {
        Ok(Data(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Data, E> {
        Ok(Data(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Data, E> {
        Ok(Data(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Data, E> {
        Ok(Data(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Data, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Data(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Data, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Data(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn manifest(data: &str) -> String {
        let digest = Digest::of(b"{}");
        let other = Digest::of(b"x");
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{digest}","size":2{data}}},
            "layers":[{{"mediaType":"l","digest":"{other}","size":1,"data":[1,{{}}]}}]}}"#
        )
    }

    #[rstest]
    #[case::right(r#","data":"e30=""#, true)]
    #[case::none("", false)]
    #[case::null(r#","data":null"#, false)]
    #[case::another_type(r#","data":{"e30=":1}"#, false)]
    #[case::not_base64(r#","data":"e30""#, false)]
    #[case::other_bytes(r#","data":"e31=""#, false)]
    #[case::another_size(r#","data":"e30gIA==""#, false)]
    fn embedded_content_must_be_what_its_descriptor_says(#[case] data: &str, #[case] found: bool) {
        let expected = found.then(|| (Digest::of(b"{}"), Bytes::from_static(b"{}")));
        assert_eq!(embedded(manifest(data).as_bytes(), |_| true), Vec::from_iter(expected));
    }

    #[test]
    fn an_index_can_embed_a_manifest() {
        let digest = Digest::of(b"{}");
        let index = format!(r#"{{"manifests":[{{"mediaType":"m","digest":"{digest}","size":2,"data":"e30="}}]}}"#);
        assert_eq!(embedded(index.as_bytes(), |wanted| wanted == digest), [(digest, Bytes::from_static(b"{}"))]);
        assert_eq!(embedded(index.as_bytes(), |_| false), []);
    }
}
