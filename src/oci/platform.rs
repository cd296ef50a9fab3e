//! Platforms, as an index gives them (image-spec, image-index.md).

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Operating system, architecture, variant, and what else tells children of an index apart; shown as
/// `os/architecture[/variant][:os.version][+os.feature...]`. Registries hold indexes with `"platform": {}` or only half of
/// it: what is missing is empty here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
pub struct Platform {
    /// `linux`, `windows`, ... ; buildkit writes `unknown` for attestations. Empty if it is missing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub os: String,
    /// `amd64`, `arm64`, ... Empty if it is missing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub architecture: String,
    /// `v7`, `v8`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The build of Windows that the image is made for, such as `10.0.20348.1`.
    #[serde(default, rename = "os.version", deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// What the operating system must have, such as `win32k` or `nydus.remoteimage.v1`.
    #[serde(default, rename = "os.features", deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
}

impl Platform {
    /// The platform of this operating system and architecture.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
            ..Platform::default()
        }
    }

    /// Whether operating system, architecture and variant are the same; no variant and an empty one are.
    pub fn is(&self, other: &Platform) -> bool {
        let variant = |platform: &Platform| platform.variant.clone().unwrap_or_default();
        self.os == other.os && self.architecture == other.architecture && variant(self) == variant(other)
    }

    /// It as a message repeats it: in quotes, unless it is made of plain words only. An index may say anything.
    pub fn quoted(&self) -> String {
        if self.is_plain() { self.to_string() } else { format!("{:?}", self.to_string()) }
    }

    /// Whether it is made of letters, digits, `.`, `_` and `-`, a few dozen of them, as every known platform is.
    pub fn is_plain(&self) -> bool {
        let plain = |text: &str| {
            text.len() <= LONGEST_WORD && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c))
        };
        let words = [&self.os, &self.architecture].into_iter().chain(&self.variant).chain(&self.os_version);
        words.chain(&self.os_features).all(|word| plain(word))
    }

    /// Whether it has both an operating system and an architecture: without, nobody can be meant.
    pub fn is_complete(&self) -> bool {
        !self.os.is_empty() && !self.architecture.is_empty()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |text: &str| if text.is_empty() { "unknown".to_owned() } else { text.to_owned() };
        write!(f, "{}/{}", known(&self.os), known(&self.architecture))?;
        if let Some(variant) = self.variant.as_ref().filter(|variant| !variant.is_empty()) {
            write!(f, "/{variant}")?;
        }
        if let Some(version) = self.os_version.as_ref().filter(|version| !version.is_empty()) {
            write!(f, ":{version}")?;
        }
        self.os_features.iter().try_for_each(|feature| write!(f, "+{feature}"))
    }
}

/// A text; anything else counts as none. Nothing but messages and choices depends on these fields, so a document in which
/// they have another shape is read as before they were known.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(deserializer.deserialize_any(Texts)?.into_iter().next())
}

/// The texts of a list, likewise.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_any(Texts)
}

/// Of a word of a known platform, in characters.
const LONGEST_WORD: usize = 64;

/// Takes any value: a text or a list with texts, or else nothing.
struct Texts;

impl<'de> Visitor<'de> for Texts {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Vec<String>, E> {
        Ok(vec![text.to_owned()])
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<String>, A::Error> {
        let mut texts = Vec::new();
        while let Some(OneText(text)) = items.next_element()? {
            texts.extend(text);
        }
        Ok(texts)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<String>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Vec::new())
    }
    fn visit_bool<E>(self, _: bool) -> Result<Vec<String>, E> {
        Ok(Vec::new())
    }
    fn visit_i64<E>(self, _: i64) -> Result<Vec<String>, E> {
        Ok(Vec::new())
    }
    fn visit_u64<E>(self, _: u64) -> Result<Vec<String>, E> {
        Ok(Vec::new())
    }
    fn visit_f64<E>(self, _: f64) -> Result<Vec<String>, E> {
        Ok(Vec::new())
    }
    fn visit_unit<E>(self) -> Result<Vec<String>, E> {
        Ok(Vec::new())
    }
}

struct OneText(Option<String>);

impl<'de> Deserialize<'de> for OneText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer).map(OneText)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(r#"{"os":"linux","architecture":"arm","variant":"v7"}"#, "linux/arm/v7")]
    #[case(r#"{"os":"windows","architecture":"amd64","os.version":"10.0.1"}"#, "windows/amd64:10.0.1")]
    #[case(r#"{"os":"linux","architecture":"amd64","os.features":["a.v1","b"]}"#, "linux/amd64+a.v1+b")]
    #[case(r#"{"os":"linux","architecture":"amd64","variant":"","os.version":""}"#, "linux/amd64")]
    #[case("{}", "unknown/unknown")]
    #[case(r#"{"architecture":"amd64"}"#, "unknown/amd64")]
    #[case(r#"{"os":"linux","features":["sse4"]}"#, "linux/unknown")]
    // Before these fields were read, documents with any value in them were accepted.
    #[case(r#"{"os":"l","architecture":"a","os.version":5,"os.features":[1,"x",["y"],{"z":1}]}"#, "l/a+x+y")]
    #[case(r#"{"os":"l","architecture":"a","os.version":{"a":[null,true]},"os.features":1.5}"#, "l/a")]
    fn a_platform_is_shown_with_all_that_tells_it_apart(#[case] json: &str, #[case] shown: &str) {
        assert_eq!(serde_json::from_str::<Platform>(json).unwrap().to_string(), shown);
    }
}
