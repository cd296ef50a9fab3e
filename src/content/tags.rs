//! The tags of a repository in little memory: one text and where each tag ends in it.

use std::fmt;

use crate::oci::Tag;

/// Tags in an order, each at most once after [`Tags::dedup`]: 4 bytes each beside their text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tags {
    text: String,
    ends: Vec<u32>,
}

impl Tags {
    /// Adds a tag at the end. The text of all together is below 4 GiB.
    pub fn push(&mut self, tag: &Tag) {
        self.text.push_str(tag.as_str());
        self.ends.push(u32::try_from(self.text.len()).expect("whoever fills it bounds it"));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The length of all of them, in bytes.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// The tags in their order.
    pub fn iter(&self) -> impl Iterator<Item = Tag> {
        (0..self.len()).map(|at| self.text_at(at).parse().expect("only tags are put in"))
    }

    /// The same tags without those that were there before.
    pub fn dedup(self) -> Tags {
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        order.sort_unstable_by_key(|at| (self.text_at(*at as usize), *at));
        let is_same = |pair: &[u32]| self.text_at(pair[0] as usize) == self.text_at(pair[1] as usize);
        if !order.windows(2).any(is_same) {
            return self;
        }
        order.dedup_by(|later, first| self.text_at(*later as usize) == self.text_at(*first as usize));
        order.sort_unstable();
        let mut tags = Tags::default();
        for at in order {
            tags.text.push_str(self.text_at(at as usize));
            tags.ends.push(tags.text.len() as u32);
        }
        tags
    }

    fn text_at(&self, at: usize) -> &str {
        let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        &self.text[start..self.ends[at] as usize]
    }
}

impl FromIterator<Tag> for Tags {
    fn from_iter<I: IntoIterator<Item = Tag>>(tags: I) -> Self {
        let mut all = Tags::default();
        tags.into_iter().for_each(|tag| all.push(&tag));
        all
    }
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_tags_stays_where_it_is() {
        let tags = |text: &str| text.split_whitespace().map(|tag| tag.parse::<Tag>().unwrap()).collect::<Tags>();
        for (from, to) in [("", ""), ("b a c", "b a c"), ("b a b c a b", "b a c"), ("1 11 1 111", "1 11 111")] {
            assert_eq!(tags(from).dedup(), tags(to), "{from}");
        }
        assert_eq!((tags("a bc").len(), tags("a bc").bytes()), (2, 3));
    }
}
