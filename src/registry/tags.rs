//! The tags of a repository, as a registry lists them. Some lists hold entries that are no tags; these are skipped.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::call::{Access, Call};
use super::endpoint::Endpoint;
use super::pages::{Listed, Pages};
use crate::error::{Error, Result};
use crate::oci::{Host, Repository, Tag};
use crate::progress::{Event, Progress};
use crate::text;

/// Returns the tags of `repository` in server order, without duplicates, and what else its list holds.
///
/// # Errors
/// `NotFound` and `Registry` when the list cannot be read to its end; `Refused` for more than [`MAX_TAGS`] tags.
pub(super) async fn list(endpoint: &Endpoint, repository: &Repository) -> Result<(Vec<Tag>, Skipped)> {
    let host = endpoint.host();
    let what = format!("read the tags of {host}/{repository}");
    let path = format!("{repository}/tags/list?n={}", endpoint.settings().page_size);
    let mut pages = Pages::new(endpoint, Call::get(path, Access::Pull(repository.clone()), &what));
    let mut tags = Vec::new();
    let mut seen = HashSet::new();
    let mut skipped = Skipped::default();
    while let Listed::Page(page) = pages.next().await? {
        let page: TagsPage = serde_json::from_slice(&page.readable()?).map_err(|e| {
            Error::registry(format!("cannot {what}: the answer is not a list of tags"))
                .caused_by(e)
                .hint("a proxy in between may alter answers; the registry's log may say more")
        })?;
        for entry in page.tags.unwrap_or_default().0 {
            match entry {
                Entry::Tag(tag) => {
                    if seen.insert(tag.clone()) {
                        tags.push(tag);
                    }
                }
                Entry::Other(shown) => skipped.add(shown),
            }
            if tags.len() > MAX_TAGS {
                return Err(Error::refused(format!("{host}/{repository} has more than {MAX_TAGS} tags"))
                    .hint("name the tags that are wanted"));
            }
        }
    }
    Ok((tags, skipped))
}

/// Entries of a list that are no tags.
#[derive(Debug, Default)]
pub(super) struct Skipped {
    count: usize,
    /// The first ones, fit for a message.
    shown: Vec<String>,
}

impl Skipped {
    fn add(&mut self, shown: String) {
        self.count += 1;
        if self.shown.len() < SHOWN_ENTRIES {
            self.shown.push(shown);
        }
    }
}

/// The repositories about which a warning was given: one each, and for a few only.
#[derive(Debug, Default)]
pub(super) struct Warned(Mutex<HashSet<(Host, Repository)>>);

impl Warned {
    /// Warns of `skipped` entries, once for each repository and for at most [`MAX_WARNED`] repositories.
    pub(super) fn warn(&self, host: &Host, repository: &Repository, skipped: &Skipped, progress: &dyn Progress) {
        if skipped.count == 0 {
            return;
        }
        let known = {
            let mut warned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if warned.len() > MAX_WARNED || !warned.insert((host.clone(), repository.clone())) {
                return;
            }
            warned.len()
        };
        if known > MAX_WARNED {
            progress.event(Event::Warning("more repositories list entries that are not tags; these are skipped, too"));
            return;
        }
        let shown = skipped.shown.join(", ");
        let more = match skipped.count - skipped.shown.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        progress.event(Event::Warning(&format!(
            "{host}/{repository} lists entries that are not tags, which are skipped: {shown}{more}"
        )));
    }
}

#[derive(Deserialize)]
struct TagsPage {
    #[serde(default)]
    tags: Option<Entries>,
}

/// Entries as they come; what is no tag is kept as a short text, however long it is.
#[derive(Default)]
struct Entries(Vec<Entry>);

enum Entry {
    Tag(Tag),
    Other(String),
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of tags")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Entries, A::Error> {
        let (mut entries, mut others) = (Vec::new(), 0);
        while let Some(entry) = list.next_element()? {
            others += usize::from(matches!(entry, Entry::Other(_)));
            if others > MAX_OTHERS {
                return Err(A::Error::custom(format!("more than {MAX_OTHERS} entries of one page are not tags")));
            }
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
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

/// The most tags of one repository.
const MAX_TAGS: usize = 1_000_000;
/// The most entries of one page that may be no tags: memory for them is bounded.
const MAX_OTHERS: usize = 100_000;
/// How many entries a warning names.
const SHOWN_ENTRIES: usize = 5;
/// The longest entry in a warning, in bytes.
const LONGEST_ENTRY: usize = 80;
/// How many repositories are warned about, one warning each.
const MAX_WARNED: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_are_no_tags_are_told_from_tags() {
        let long = "x".repeat(140);
        let text = format!(r#"{{"tags":["1",null,"","-a","a\nb",7,-7,1.5,true,[1,[2]],{{"a":[]}},"{long}","2"]}}"#);
        let page: TagsPage = serde_json::from_str(&text).unwrap();
        let (mut tags, mut others) = (Vec::new(), Vec::new());
        for entry in page.tags.unwrap().0 {
            match entry {
                Entry::Tag(tag) => tags.push(tag.to_string()),
                Entry::Other(shown) => others.push(shown),
            }
        }
        assert_eq!(tags, ["1", "2"]);
        let short = ["null", "\"\"", "\"-a\"", "\"a\\nb\"", "7", "-7", "1.5", "true", "a list", "an object"];
        assert_eq!(others[..10], short);
        assert!(others[10].len() < 120 && others.len() == 11, "{others:?}");
        for text in [r#"{"tags":"1"}"#, r#"{"tags":{}}"#, r#"{"tags":["1"}"#, "[]x", "7"] {
            assert!(serde_json::from_str::<TagsPage>(text).is_err(), "{text}");
        }
    }
}
