//! The tags of a repository, as a registry lists them. Some lists hold entries that are no tags; these are skipped.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::pages::{Listed, Pages};
use crate::content::Tags;
use crate::error::{Error, Result};
use crate::oci::{Repository, Tag};
use crate::registry::client::endpoint::Endpoint;
use crate::registry::client::skipped_tags::Skipped;
use crate::registry::http::call::{Access, Call};
use crate::text;

/// Returns the tags of `repository` in server order, without duplicates, and what else its list holds.
///
/// # Errors
/// `NotFound` and `Registry` when the list cannot be read to its end; `Refused` for more than [`MAX_TAGS`] entries, or
/// more than [`MAX_BYTES`].
pub(crate) async fn list(endpoint: &Endpoint, repository: &Repository) -> Result<(Tags, Skipped)> {
    let host = endpoint.host();
    let what = format!("read the tags of {host}/{repository}");
    let path = format!("{repository}/tags/list?n={}", endpoint.settings().page_size);
    let mut pages = Pages::new(endpoint, Call::get(path, Access::Pull(repository.clone()), &what));
    let mut read = Read { tags: Tags::default(), skipped: Skipped::default(), is_over: false };
    while let Listed::Page(page) = pages.next().await? {
        read.page(&page.readable()?).map_err(|e| {
            Error::registry(format!("cannot {what}: the answer is not a list of tags"))
                .caused_by(e)
                .hint("a proxy in between may alter answers; the registry's log may say more")
        })?;
        if read.is_over {
            let most = format!("{MAX_TAGS} tags or {} MiB of them", MAX_BYTES >> 20);
            return Err(Error::refused(format!("{host}/{repository} has more than {most}"))
                .hint("name the tags that are wanted"));
        }
    }
    Ok((read.tags.dedup(), read.skipped))
}

/// What was read of a list so far. Entries go straight there: a page of 4 MiB may have a million of them.
struct Read {
    tags: Tags,
    skipped: Skipped,
    /// Whether there are too many; the rest of the page is not looked at then.
    is_over: bool,
}

impl Read {
    /// Adds the entries of a page.
    fn page(&mut self, bytes: &[u8]) -> serde_json::Result<()> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        deserializer.deserialize_map(PageVisitor(self))?;
        deserializer.end()
    }

    fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Tag(tag) => self.tags.push(&tag),
            Entry::Other(shown) => self.skipped.add(shown),
        }
        self.is_over |= self.tags.len() > MAX_TAGS || self.tags.bytes() > MAX_BYTES;
    }
}

struct PageVisitor<'r>(&'r mut Read);

impl<'de> Visitor<'de> for PageVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a list of tags")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut is_there = false;
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            if key != "tags" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if std::mem::replace(&mut is_there, true) {
                return Err(A::Error::duplicate_field("tags"));
            }
            map.next_value_seed(EntriesSeed(self.0))?;
        }
        Ok(())
    }
}

/// A list of entries, or null.
struct EntriesSeed<'r>(&'r mut Read);

impl<'de> DeserializeSeed<'de> for EntriesSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for EntriesSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of tags")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while !self.0.is_over {
            match list.next_element()? {
                Some(entry) => self.0.add(entry),
                None => return Ok(()),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

enum Entry {
    Tag(Tag),
    Other(String),
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Entry, E> {
        Ok(match text.parse() {
            Ok(tag) => Entry::Tag(tag),
            Err(_) => Entry::Other(format!("\"{}\"", text::one_line(text, LONGEST_ENTRY))),
        })
    }

    fn visit_unit<E>(self) -> Result<Entry, E> {
        Ok(Entry::Other("null".to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Entry, E> {
        Ok(Entry::Other(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Entry, E> {
        Ok(Entry::Other(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Entry, E> {
        Ok(Entry::Other(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Entry, E> {
        Ok(Entry::Other(value.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Entry, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Entry::Other("a list".to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Entry::Other("an object".to_owned()))
    }
}

/// The most entries of the list of one repository.
const MAX_TAGS: usize = 1_000_000;
/// The most bytes of its tags, 16 MiB.
const MAX_BYTES: usize = 16 << 20;
/// The longest entry in a warning, in bytes.
const LONGEST_ENTRY: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::client::skipped_tags::SHOWN_ENTRIES;

    #[test]
    fn entries_that_are_no_tags_are_told_from_tags() {
        let long = "x".repeat(140);
        let text = format!(r#"{{"tags":["1",null,"","-a","a\nb",7,-7,1.5,true,[1,[2]],{{"a":[]}},"{long}","2"]}}"#);
        let mut read = Read { tags: Tags::default(), skipped: Skipped::default(), is_over: false };
        read.page(text.as_bytes()).unwrap();
        let tags: Vec<String> = read.tags.iter().map(|tag| tag.to_string()).collect();
        assert_eq!(tags, ["1", "2"]);
        let short = ["null", "\"\"", "\"-a\"", "\"a\\nb\"", "7", "-7", "1.5", "true", "a list", "an object"];
        assert_eq!(read.skipped.shown, short[..SHOWN_ENTRIES]);
        assert_eq!(read.skipped.count, 11);
        for (other, shown) in [7, 8, 9].map(|at| ["true", "[1,[2]]", r#"{"a":[]}"#][at - 7]).iter().zip(&short[7..]) {
            assert!(matches!(serde_json::from_str(other), Ok(Entry::Other(found)) if found == *shown), "{other}");
        }
        assert!(matches!(serde_json::from_str(&format!("\"{long}\"")), Ok(Entry::Other(shown)) if shown.len() < 120));
        for text in [r#"{"tags":null}"#, "{}", r#"{"name":"a","tags":[]}"#] {
            assert!(read.page(text.as_bytes()).is_ok(), "{text}");
        }
        for text in [r#"{"tags":"1"}"#, r#"{"tags":{}}"#, r#"{"tags":["1"}"#, "[]x", "7"] {
            assert!(read.page(text.as_bytes()).is_err(), "{text}");
        }
    }
}
