//! `bundle.json`: which format it is, when and by what it was made, and what is left out on purpose.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{DESCRIPTOR, FORMAT_VERSION, limits, quoted};
use crate::content::{Absent, Reason};
use crate::error::{Error, Result};
use crate::oci::{Digest, Name, json};

/// A place in a series of bundles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// Its name: up to 128 letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// This bundle's number in it, from 1.
    pub sequence: u64,
}

/// What `bundle.json` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BundleJson {
    /// Whole seconds.
    pub(crate) created: Timestamp,
    /// The program and its version: printable ASCII.
    pub(crate) tool: String,
    pub(crate) series: Option<Series>,
    /// The identities of the bundles in which content with the reason `base` is; sorted.
    pub(crate) base: Vec<Digest>,
    /// Sorted by digest.
    pub(crate) absent: Vec<Absent>,
}

impl BundleJson {
    /// The descriptor of a new bundle. `absent` is put in order.
    pub(crate) fn new(created: Timestamp, absent: &[Absent]) -> BundleJson {
        let mut absent = absent.to_vec();
        absent.sort_by_key(|item| item.digest);
        for item in &mut absent {
            item.names.sort();
            item.names.dedup();
        }
        let tool = concat!("sealift/", env!("CARGO_PKG_VERSION")).to_owned();
        let created = Timestamp::from_second(created.as_second()).unwrap_or(created);
        BundleJson { created, tool, series: None, base: Vec::new(), absent }
    }

    /// The bytes of `bundle.json`: compact JSON, fields in a fixed order, a line end.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let raw = Raw {
            format_version: FORMAT_VERSION,
            requires: Vec::new(),
            created: self.created.to_string(),
            tool: self.tool.clone(),
            series: self.series.as_ref().map(|series| series.name.clone()),
            sequence: self.series.as_ref().map(|series| series.sequence),
            base: self.base.clone(),
            absent: self.absent.clone(),
        };
        let mut bytes = serde_json::to_vec(&raw).expect("texts, numbers and lists are always JSON");
        bytes.push(b'\n');
        bytes
    }

    /// Reads the bytes of `bundle.json`.
    ///
    /// # Errors
    /// `Refused` for another format version, unknown fields and requirements; `Damaged` for everything else.
    pub(crate) fn parse(bytes: &[u8]) -> Result<BundleJson> {
        let fault = |what: String| Error::damaged(format!("{DESCRIPTOR}: {what}"));
        // The version comes first: a later one may say everything else in another way. Then what the bundle requires,
        // which may come with fields of its own.
        let version: Version = json::from_slice(bytes).map_err(|e| fault(e.to_string()))?;
        match version.format_version {
            FORMAT_VERSION => {}
            0 => {
                return Err(Error::refused(format!("the bundle has format 0, a draft of format {FORMAT_VERSION}"))
                    .hint("it was made by a sealift of before the first release: ask its sender to export it again"));
            }
            other => return Err(newer(format!("the bundle has format {other}, not {FORMAT_VERSION}"))),
        }
        let needs: Needs = json::from_checked(bytes).map_err(|e| fault(e.to_string()))?;
        if let Some(unknown) = needs.requires.first() {
            return Err(newer(format!("the bundle requires {}, which is unknown", quoted(unknown))));
        }
        let fields: BTreeMap<String, serde::de::IgnoredAny> =
            json::from_checked(bytes).map_err(|e| fault(e.to_string()))?;
        if let Some(unknown) = fields.keys().find(|field| !FIELDS.contains(&field.as_str())) {
            return Err(newer(format!("{DESCRIPTOR} has the unknown field {unknown:?}")));
        }
        let raw: Raw = json::from_checked(bytes).map_err(|e| fault(e.to_string()))?;
        let created = parse_time(&raw.created).ok_or_else(|| {
            fault(format!("created is {}, not a time such as 2026-01-31T12:00:00Z", quoted(&raw.created)))
        })?;
        if !is_word(&raw.tool, |c| c.is_ascii_graphic()) {
            return Err(fault("tool is not a word of 1 to 128 printable characters".into()));
        }
        let series = match (raw.series, raw.sequence) {
            (None, None) => None,
            (Some(name), Some(sequence @ 1..=limits::SEQUENCE)) if is_word(&name, is_series_char) => {
                Some(Series { name, sequence })
            }
            (Some(_), Some(_)) => {
                return Err(fault(
                    "series is not a word of letters, digits, '.', '_' and '-', or sequence no number from 1".into(),
                ));
            }
            _ => return Err(fault("it has only one of series and sequence".into())),
        };
        if raw.base.len() > limits::BASES || !raw.base.is_sorted_by(|a, b| a < b) {
            return Err(fault(format!("base is not sorted, has something twice or has more than {}", limits::BASES)));
        }
        let has_base = !raw.base.is_empty();
        check_absent(&raw.absent, has_base).map_err(fault)?;
        Ok(BundleJson { created, tool: raw.tool, series, base: raw.base, absent: raw.absent })
    }

    /// Checks that `absent` names images of this bundle only.
    pub(crate) fn check_names(&self, names: &HashSet<String>) -> Result<()> {
        for item in &self.absent {
            if let Some(name) = item.names.iter().find(|name| !names.contains(*name)) {
                return Err(Error::damaged(format!(
                    "{DESCRIPTOR}: {} is absent from {}, which is not in the bundle",
                    item.digest,
                    quoted(name)
                )));
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Version {
    #[serde(rename = "formatVersion")]
    format_version: u64,
}

#[derive(Deserialize)]
struct Needs {
    requires: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Raw {
    format_version: u64,
    requires: Vec<String>,
    created: String,
    tool: String,
    #[serde(deserialize_with = "present")]
    series: Option<String>,
    #[serde(deserialize_with = "present")]
    sequence: Option<u64>,
    base: Vec<Digest>,
    absent: Vec<Absent>,
}

/// With a function of its own, serde wants the field to be there, if only as null.
fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

fn check_absent(absent: &[Absent], has_base: bool) -> Result<(), String> {
    if absent.len() > limits::ABSENT {
        return Err(format!("absent has more than {} entries", limits::ABSENT));
    }
    if !absent.is_sorted_by(|a, b| a.digest < b.digest) {
        return Err("absent is not sorted by digest, or has something twice".into());
    }
    for item in absent {
        if item.size > limits::BLOB_BYTES {
            return Err(format!("absent {} has {} bytes, more than {}", item.digest, item.size, limits::BLOB_BYTES));
        }
        if item.names.is_empty() || !item.names.is_sorted_by(|a, b| a < b) {
            return Err(format!("the names of absent {} are none, not sorted, or the same twice", item.digest));
        }
        if let Some(fault) = item.names.iter().find_map(|name| name.parse::<Name>().err()) {
            return Err(format!("absent {}: {fault}", item.digest));
        }
        if item.reason == Reason::Base && !has_base {
            return Err(format!("{} is absent as part of a base, and there is no base", item.digest));
        }
    }
    Ok(())
}

fn parse_time(text: &str) -> Option<Timestamp> {
    let time: Timestamp = text.parse().ok()?;
    // Years have four digits, and one way to be written.
    (text.len() == TIME && time.to_string() == text).then_some(time)
}

fn is_word(text: &str, allowed: impl Fn(char) -> bool) -> bool {
    (1..=limits::WORD_BYTES).contains(&text.len()) && text.chars().all(allowed)
}

fn is_series_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

fn newer(what: String) -> Error {
    Error::refused(what).hint("it was made by another version of sealift: use that version, or a later one")
}

/// The length of a time such as 2026-01-31T12:00:00Z.
const TIME: usize = 20;
const FIELDS: [&str; 8] = ["formatVersion", "requires", "created", "tool", "series", "sequence", "base", "absent"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn good() -> BundleJson {
        let absent = [b"b", b"a"].map(|bytes| Absent {
            digest: Digest::of(bytes),
            size: 1,
            reason: Reason::Foreign,
            names: vec!["ns/b:1".into(), "ns/a:1".into(), "ns/b:1".into()],
        });
        BundleJson::new("2026-11-23T12:00:00.75Z".parse().unwrap(), &absent)
    }

    #[test]
    fn what_is_written_is_read_back_in_whole_seconds() {
        let descriptor = good();
        assert_eq!(BundleJson::parse(&descriptor.to_bytes()).unwrap(), descriptor);
        assert_eq!(descriptor.created.to_string(), "2026-11-23T12:00:00Z");
        let text = String::from_utf8(BundleJson::new(descriptor.created, &[]).to_bytes()).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"formatVersion":1,"requires":[],"created":"2026-11-23T12:00:00Z","tool":"sealift/"#,
                env!("CARGO_PKG_VERSION"),
                r#"","series":null,"sequence":null,"base":[],"absent":[]}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_series_has_a_number() {
        let mut descriptor = good();
        descriptor.series = Some(Series { name: "weekly".into(), sequence: 7 });
        assert_eq!(BundleJson::parse(&descriptor.to_bytes()).unwrap(), descriptor);
    }

    #[test]
    fn what_is_not_known_or_not_in_form_is_refused() {
        let text = String::from_utf8(good().to_bytes()).unwrap();
        let edit = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        };
        let cases = [
            (edit("\"formatVersion\":1", "\"formatVersion\":2"), Kind::Refused, "format 2, not 1"),
            (edit("\"formatVersion\":1", "\"formatVersion\":0"), Kind::Refused, "a draft of format 1"),
            (edit("\"formatVersion\":1,", ""), Kind::Damaged, "formatVersion"),
            (edit("{\"formatVersion\":1", "{\"formatVersion\":1,\"extra\":1"), Kind::Refused, "unknown field"),
            (edit("{\"formatVersion\":1", "{\"formatVersion\":1,\"FormatVersion\":1"), Kind::Damaged, "twice"),
            (edit("\"requires\":[]", "\"requires\":[\"volumes\"]"), Kind::Refused, "requires"),
            (edit("\"requires\":[]", "\"extra\":{},\"requires\":[\"extra\"]"), Kind::Refused, "requires"),
            (edit("2026-11-23T", "-002026-11-23T"), Kind::Damaged, "created"),
            (edit("12:00:00Z", "12:00:00+00:00"), Kind::Damaged, "created"),
            (edit("12:00:00Z", "12:00:00.5Z"), Kind::Damaged, "created"),
            (edit("\"tool\":\"sealift", "\"tool\":\"\\u001bsealift"), Kind::Damaged, "tool"),
            (edit("\"series\":null", "\"series\":\"x\""), Kind::Damaged, "only one"),
            (edit("\"series\":null,", ""), Kind::Damaged, "series"),
            (edit("\"foreign\"", "\"base\""), Kind::Damaged, "no base"),
            (edit("\"foreign\"", "\"whim\""), Kind::Damaged, "whim"),
            (edit("ns/a:1", "NS/a:1"), Kind::Damaged, "lower case"),
            (edit("ns/a:1", "ns/c:1"), Kind::Damaged, "sorted"),
            (edit("\"absent\":[", "\"absent\":null,\"x\":["), Kind::Refused, "unknown"),
        ];
        for (text, kind, reason) in cases {
            let error = BundleJson::parse(text.as_bytes()).expect_err(&text);
            assert_eq!(error.kind(), kind, "{text}: {error:?}");
            assert!(error.chain().contains(reason), "{text}: {error:?}");
        }
    }
}
