//! What a token is good for: `repository:NAME:ACTION,ACTION` (distribution's token specification).

use std::collections::{BTreeMap, BTreeSet};

/// A set of scopes, each thing once with all its actions; in one order, so that equal sets are equal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Scopes(BTreeMap<String, BTreeSet<String>>);

impl Scopes {
    /// The union of what the texts name.
    pub(super) fn of<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Self {
        let mut scopes = Scopes::default();
        scopes.add(texts);
        scopes
    }

    /// Adds what the texts name.
    pub(super) fn add<T: AsRef<str>>(&mut self, texts: impl IntoIterator<Item = T>) {
        for text in texts {
            let text = text.as_ref();
            // A repository's name may hold a host with a port, so the last colon counts.
            let (thing, actions) = text.rsplit_once(':').unwrap_or((text, ""));
            self.0.entry(thing.to_owned()).or_default().extend(actions.split(',').map(str::to_owned));
        }
    }

    /// Whether it names nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As texts again.
    pub(super) fn texts(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(thing, actions)| {
            let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
            format!("{thing}:{}", actions.join(","))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_rights_in_other_words_are_the_same_set() {
        let one = Scopes::of(["repository:a:push,pull", "repository:h:5000/b:pull"]);
        let two = Scopes::of(["repository:h:5000/b:pull", "repository:a:pull", "repository:a:push"]);
        assert_eq!(one, two);
        assert_eq!(one.texts().collect::<Vec<_>>(), ["repository:a:pull,push", "repository:h:5000/b:pull"]);
    }
}
