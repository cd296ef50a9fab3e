//! JSON read strictly: what two readers could understand in two ways is refused.
//!
//! Registries and engines written in Go match keys without regard to case (also by Unicode folding: `ſ` for `s`,
//! the Kelvin sign for `k`) and let the last of several equal keys win. A document that uses this shows one
//! content to one reader and another to the next, so it is neither sealed nor imported.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// Deepest nesting of objects and arrays.
pub const MAX_DEPTH: usize = 32;
/// Most keys in one object.
pub const MAX_KEYS: usize = 4096;
/// The longest key, in bytes.
pub const MAX_KEY: usize = 1024;
/// Most values (objects, lists, texts, numbers and so on) in one text: what is read stays a small multiple of it.
pub const MAX_VALUES: usize = 650_000;
/// The longest text in a value, in bytes: 4 MiB, a whole document.
pub const MAX_TEXT: usize = 4 << 20;

/// Why a text is not JSON that is read here; says what and, where known, line and column.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct JsonFault(String);

impl From<serde_json::Error> for JsonFault {
    fn from(error: serde_json::Error) -> Self {
        let text = error.to_string();
        // A message repeats what it found, however long that is.
        JsonFault(match text.char_indices().nth(LONGEST_MESSAGE) {
            Some((end, _)) => format!("{}... at line {} column {}", &text[..end], error.line(), error.column()),
            None => text,
        })
    }
}

/// Checks `bytes` as described above, then reads a `T` from them. Where an object belongs, a list is refused: serde reads
/// it as the object's fields in their order, and nobody else does.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonFault> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    Strict { depth: 0, shape: Shape::Object, values: &Cell::new(0) }.deserialize(&mut reader)?;
    reader.end()?;
    from_checked(bytes)
}

/// As [`from_slice`], for bytes that went through it before, for another type.
pub fn from_checked<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonFault> {
    Ok(serde_json::from_slice(bytes)?)
}

/// Walks any value and keeps nothing but the keys of the objects it is inside of.
#[derive(Clone, Copy)]
struct Strict<'a> {
    depth: usize,
    /// How many there were so far.
    values: &'a Cell<usize>,
    shape: Shape,
}

/// What a value is known to be by the key it stands under.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Any,
    Object,
    /// Of `annotations`, where keys are the author's and their case means something.
    Annotations,
    Objects,
}

impl Shape {
    fn under(key: &str) -> Shape {
        match key {
            "config" | "subject" | "platform" => Shape::Object,
            "annotations" => Shape::Annotations,
            "manifests" | "layers" | "absent" => Shape::Objects,
            _ => Shape::Any,
        }
    }
}

impl Strict<'_> {
    fn below<E: serde::de::Error>(self, shape: Shape) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(Strict { depth: self.depth + 1, shape, values: self.values })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.values.set(self.values.get() + 1);
        if self.values.get() > MAX_VALUES {
            return Err(D::Error::custom(format!("more than {MAX_VALUES} values in all")));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let free_keys = self.shape == Shape::Annotations;
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if key.len() > MAX_KEY {
                return Err(A::Error::custom(format!("a key has {} bytes, more than {MAX_KEY}", key.len())));
            }
            let folded = if free_keys { key.clone() } else { fold(&key) };
            if !free_keys
                && folded != key
                && let Some(known) =
                    KNOWN_FIELDS.iter().find(|known| known.eq_ignore_ascii_case(&folded) && **known != key)
            {
                return Err(A::Error::custom(format!(
                    "key {key:?} is a misspelling of {known:?} that some readers accept"
                )));
            }
            let below = if free_keys { Shape::Any } else { Shape::under(&key) };
            if !seen.insert(folded) {
                return Err(A::Error::custom(format!("key {key:?} is there twice (case does not count)")));
            }
            if seen.len() > MAX_KEYS {
                return Err(A::Error::custom(format!("more than {MAX_KEYS} keys in one object")));
            }
            map.next_value_seed(self.below(below)?)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let shape = match self.shape {
            Shape::Any => Shape::Any,
            Shape::Objects => Shape::Object,
            Shape::Object | Shape::Annotations => return Err(A::Error::custom("a list where an object belongs")),
        };
        let below = self.below(shape)?;
        while seq.next_element_seed(below)?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        if text.len() > MAX_TEXT {
            return Err(E::custom(format!("a text has {} bytes, more than {MAX_TEXT}", text.len())));
        }
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Go's `encoding/json` folds keys with `unicode.SimpleFold`; beyond ASCII only these two letters fold into it.
fn fold(key: &str) -> String {
    key.chars()
        .map(|c| match c {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            _ => c.to_ascii_lowercase(),
        })
        .collect()
}

/// How much of a message is kept, in characters.
const LONGEST_MESSAGE: usize = 300;

/// The fields of image-spec and Docker documents that decide what is read.
const KNOWN_FIELDS: [&str; 24] = [
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "manifests",
    "blobs",
    "subject",
    "annotations",
    "digest",
    "size",
    "urls",
    "data",
    "platform",
    "os",
    "os.version",
    "os.features",
    "architecture",
    "variant",
    "features",
    "fsLayers",
    "history",
    "signatures",
    "imageLayoutVersion",
];

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn read(text: &str) -> Result<serde_json::Value, String> {
        from_slice(text.as_bytes()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn plain_json_is_read() {
        assert!(read(r#"{"layers": [{"size": 1, "annotations": {"A": "1", "a": "2"}}], "x": null, "y": 1.5}"#).is_ok());
    }

    #[rstest]
    #[case(r#"{"layers": [], "layers": []}"#, "twice")]
    #[case(r#"{"x": 1, "X": 2}"#, "twice")]
    #[case(r#"{"LAYERS": []}"#, "misspelling")]
    #[case("{\"layer\u{17f}\": []}", "misspelling")]
    #[case(r#"{"a": {"b": [{"c": 1, "c": 1}]}}"#, "twice")]
    #[case(r#"{"annotations": {"a": "1", "a": "2"}}"#, "twice")]
    #[case(r#"{"a": 1} {"b": 2}"#, "trailing")]
    #[case("[2]", "a list where an object")]
    #[case(r#"{"config": ["x"]}"#, "a list where an object")]
    #[case(r#"{"layers": [{}, ["x"]]}"#, "a list where an object")]
    #[case(r#"{"manifests": [{"platform": ["linux", "amd64"]}]}"#, "a list where an object")]
    #[case(r#"{"a": 1"#, "EOF")]
    #[case("\u{feff}{}", "expected value")]
    fn what_two_readers_could_read_differently_is_refused(#[case] text: &str, #[case] reason: &str) {
        let error = read(text).expect_err(text);
        assert!(error.contains(reason), "{error}");
    }

    #[test]
    fn deep_nesting_and_many_keys_are_refused() {
        assert!(read(&"[".repeat(100_000)).is_err());
        assert!(read(&format!("{}{}", "[".repeat(MAX_DEPTH + 1), "]".repeat(MAX_DEPTH + 1))).is_err());
        let keys: Vec<String> = (0..=MAX_KEYS).map(|n| format!("\"k{n}\":0")).collect();
        assert!(read(&format!("{{{}}}", keys.join(","))).is_err());
        assert!(read(&format!("{{\"{}\":0}}", "k".repeat(MAX_KEY + 1))).is_err());
    }

    #[test]
    fn many_values_are_refused_and_messages_stay_short() {
        let error = read(&format!("{{\"x\":[{}0]}}", "0,".repeat(MAX_VALUES))).expect_err("one value too many");
        assert!(error.contains("values"), "{error}");
        let error = from_slice::<u64>(format!("\"{}\"", "x".repeat(1 << 20)).as_bytes()).expect_err("a text");
        assert!(error.to_string().len() < 400, "{error}");
    }
}
