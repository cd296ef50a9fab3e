//! RE2's grammar, as Go's `regexp` reads it (`regexp/syntax`, "Syntax", with the flags of `regexp.Compile`), over tags.
//!
//! The `regex` crate has another grammar: it refuses `[\d-z]` and `\141`, and accepts `a**`, `(?x)` and `\u0061`. So an
//! expression is parsed here and written again for that crate in a form that both read alike. Tags are ASCII and have no
//! line ends: each character class is a set of ASCII characters, `^` and `$` are the ends of the tag, and what no tag can
//! hold matches nothing. Whether a repetition is greedy and what a group is called decides nothing about a match.
//!
//! Compared: the crate `re2` binds the C++ library, which is not on the machines where sealift is built; `regex-syntax`
//! parses the grammar of the `regex` crate alone.

mod class;

use class::{NAMED, Set};

/// The expression for [`regex::bytes::Regex`] without Unicode.
///
/// # Errors
/// Why Go refuses it.
pub(crate) fn translated(text: &str) -> Result<String, String> {
    let mut parser = Parser { rest: text, groups: vec![Group::default()], fold: false, dot_all: false };
    parser.parse()?;
    let Some(top) = parser.groups.pop().filter(|_| parser.groups.is_empty()) else {
        return Err("a parenthesis is not closed".to_owned());
    };
    let node = top.finished();
    if node.height > MAX_HEIGHT {
        return Err(format!("it nests deeper than {MAX_HEIGHT}"));
    }
    if node.size > MAX_SIZE {
        return Err("it is too large".to_owned());
    }
    let mut written = String::new();
    node.write(&mut written);
    Ok(written)
}

/// Go's limits (`regexp/syntax`, `maxHeight`, `maxSize`).
const MAX_HEIGHT: usize = 1000;
const MAX_SIZE: u64 = (128 << 20) / 40;
/// Of one repetition, and of those inside each other multiplied.
const MAX_REPEAT: u32 = 1000;

/// A part of an expression.
struct Node {
    kind: Kind,
    height: usize,
    size: u64,
    /// Repetitions inside each other, multiplied.
    repeated: u64,
}

enum Kind {
    Empty,
    One(Set),
    /// `\A`, `\z`, `\b` or `\B`.
    At(&'static str),
    Sequence(Vec<Node>),
    Either(Vec<Node>),
    Repeat(Box<Node>, u32, Option<u32>),
}

impl Node {
    fn new(kind: Kind) -> Self {
        let (height, size, repeated) = match &kind {
            Kind::Empty | Kind::One(_) | Kind::At(_) => (1, 1, 1),
            Kind::Sequence(parts) | Kind::Either(parts) => (
                1 + parts.iter().map(|part| part.height).max().unwrap_or(0),
                parts.iter().map(|part| part.size).sum::<u64>(),
                parts.iter().map(|part| part.repeated).max().unwrap_or(1),
            ),
            Kind::Repeat(part, min, max) => {
                let times = match max {
                    None => u64::from(*min),
                    Some(max) => u64::from(*max),
                };
                (1 + part.height, part.size.saturating_mul(times.max(1)).saturating_add(1), part.repeated)
            }
        };
        Node { kind, height, size, repeated }
    }

    fn write(&self, to: &mut String) {
        match &self.kind {
            Kind::Empty => to.push_str("(?:)"),
            Kind::One(set) => set.write(to),
            Kind::At(place) => to.push_str(place),
            Kind::Sequence(parts) => parts.iter().for_each(|part| match part.kind {
                Kind::Either(_) => part.write_group(to),
                _ => part.write(to),
            }),
            Kind::Either(parts) => {
                for (at, part) in parts.iter().enumerate() {
                    if at > 0 {
                        to.push('|');
                    }
                    part.write(to);
                }
            }
            Kind::Repeat(part, min, max) => {
                part.write_group(to);
                match max {
                    Some(max) => to.push_str(&format!("{{{min},{max}}}")),
                    None => to.push_str(&format!("{{{min},}}")),
                }
            }
        }
    }

    fn write_group(&self, to: &mut String) {
        to.push_str("(?:");
        self.write(to);
        to.push(')');
    }
}

/// What is between two parentheses, as far as it was read.
#[derive(Default)]
struct Group {
    alternatives: Vec<Node>,
    sequence: Vec<Node>,
    is_capture: bool,
    /// The flags outside of it.
    outside: (bool, bool),
}

impl Group {
    fn end_alternative(&mut self) {
        let mut parts = std::mem::take(&mut self.sequence);
        self.alternatives.push(match parts.len() {
            0 => Node::new(Kind::Empty),
            1 => parts.remove(0),
            _ => Node::new(Kind::Sequence(parts)),
        });
    }

    fn finished(mut self) -> Node {
        self.end_alternative();
        let node = match self.alternatives.len() {
            1 => self.alternatives.remove(0),
            _ => Node::new(Kind::Either(self.alternatives)),
        };
        Node { height: node.height + usize::from(self.is_capture), ..node }
    }
}

struct Parser<'a> {
    rest: &'a str,
    groups: Vec<Group>,
    /// The flag `i`.
    fold: bool,
    /// The flag `s`.
    dot_all: bool,
}

impl<'a> Parser<'a> {
    fn parse(&mut self) -> Result<(), String> {
        let mut after_repeat = false;
        while let Some(c) = self.rest.chars().next() {
            let here = self.rest;
            self.rest = &here[c.len_utf8()..];
            let was_repeat = std::mem::take(&mut after_repeat);
            match c {
                '(' if self.rest.starts_with('?') => self.flags(here)?,
                '(' => self.open(true, (self.fold, self.dot_all)),
                ')' => self.close()?,
                '|' => self.group().end_alternative(),
                '^' => self.push(Kind::At(r"\A")),
                '$' => self.push(Kind::At(r"\z")),
                '.' => {
                    let set = if self.dot_all { Set::ALL } else { Set::of('\n').inverted() };
                    self.push(Kind::One(set));
                }
                '[' => {
                    let set = self.class()?;
                    self.push(Kind::One(set));
                }
                '*' | '+' | '?' => {
                    let (min, max) = match c {
                        '*' => (0, None),
                        '+' => (1, None),
                        _ => (0, Some(1)),
                    };
                    self.repeat(c.to_string().as_str(), was_repeat, min, max)?;
                    after_repeat = true;
                }
                '{' => match counts(here)? {
                    Some(Counts { min, max, rest }) => {
                        self.rest = rest;
                        self.repeat("{}", was_repeat, min, max)?;
                        after_repeat = true;
                    }
                    None => self.literal('{'),
                },
                '\\' => self.escape(here)?,
                c => self.literal(c),
            }
        }
        Ok(())
    }

    fn group(&mut self) -> &mut Group {
        self.groups.last_mut().expect("the outermost group is never closed")
    }

    fn push(&mut self, kind: Kind) {
        self.group().sequence.push(Node::new(kind));
    }

    fn literal(&mut self, c: char) {
        let mut set = Set::default();
        set.add(c, c, self.fold);
        self.push(Kind::One(set));
    }

    fn open(&mut self, is_capture: bool, outside: (bool, bool)) {
        self.groups.push(Group { is_capture, outside, ..Group::default() });
    }

    fn close(&mut self) -> Result<(), String> {
        if self.groups.len() == 1 {
            return Err("a parenthesis is closed that was not opened".to_owned());
        }
        let group = self.groups.pop().expect("there are two");
        (self.fold, self.dot_all) = group.outside;
        let node = group.finished();
        self.group().sequence.push(node);
        Ok(())
    }

    fn repeat(&mut self, shown: &str, was_repeat: bool, min: u32, max: Option<u32>) -> Result<(), String> {
        if let Some(rest) = self.rest.strip_prefix('?') {
            self.rest = rest;
        }
        if was_repeat {
            return Err(format!("one repetition stands directly behind another, at {shown:?}"));
        }
        let Some(part) = self.group().sequence.pop() else {
            return Err(format!("there is nothing to repeat before {shown:?}"));
        };
        let times = u64::from(max.unwrap_or(min));
        let mut repeated = part.repeated;
        if shown == "{}" {
            repeated = if times == 0 { 1 } else { repeated.saturating_mul(times) };
            if (min >= 2 || max.is_some_and(|max| max >= 2)) && repeated > u64::from(MAX_REPEAT) {
                return Err(format!("repetitions inside each other are more than {MAX_REPEAT}"));
            }
        }
        let node = Node::new(Kind::Repeat(Box::new(part), min, max));
        self.group().sequence.push(Node { repeated, ..node });
        Ok(())
    }

    /// `(?i)`, `(?i-s:`, `(?P<name>`, `(?<name>` (Go 1.22).
    fn flags(&mut self, here: &'a str) -> Result<(), String> {
        let fault = || Err(format!("{:?} begins no group that RE2 knows", here.chars().take(8).collect::<String>()));
        if let Some(named) = here.strip_prefix("(?P<").or_else(|| here.strip_prefix("(?<")) {
            let Some((name, rest)) = named.split_once('>') else { return fault() };
            let is_word = !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
            if !is_word {
                return fault();
            }
            self.rest = rest;
            self.open(true, (self.fold, self.dot_all));
            return Ok(());
        }
        let outside = (self.fold, self.dot_all);
        let (mut value, mut saw_flag) = (true, false);
        for (at, c) in here.char_indices().skip(2) {
            match c {
                'i' => (self.fold, saw_flag) = (value, true),
                's' => (self.dot_all, saw_flag) = (value, true),
                'm' | 'U' => saw_flag = true,
                '-' if value => (value, saw_flag) = (false, false),
                ':' | ')' if value || saw_flag => {
                    self.rest = &here[at + 1..];
                    if c == ':' {
                        self.open(false, outside);
                    }
                    return Ok(());
                }
                _ => return fault(),
            }
        }
        fault()
    }

    fn escape(&mut self, here: &'a str) -> Result<(), String> {
        let c = self.rest.chars().next().unwrap_or_default();
        let place = match c {
            'A' => Some(r"\A"),
            'z' => Some(r"\z"),
            'b' => Some(r"\b"),
            'B' => Some(r"\B"),
            _ => None,
        };
        if let Some(place) = place {
            self.rest = &self.rest[1..];
            self.push(Kind::At(place));
            return Ok(());
        }
        if c == 'Q' {
            let (quoted, rest) = self.rest[1..].split_once("\\E").unwrap_or((&self.rest[1..], ""));
            quoted.chars().for_each(|c| self.literal(c));
            self.rest = rest;
            return Ok(());
        }
        self.rest = here;
        match self.class_escape()? {
            Some(set) => self.push(Kind::One(set)),
            None => {
                let c = self.escaped()?;
                self.literal(c);
            }
        }
        Ok(())
    }

    /// `\d`, `\pL`, `\p{Greek}` and their opposites.
    fn class_escape(&mut self) -> Result<Option<Set>, String> {
        let mut chars = self.rest.chars();
        let (Some('\\'), Some(c)) = (chars.next(), chars.next()) else { return Ok(None) };
        let set = match c {
            'd' | 'D' => Set::named("digit"),
            'w' | 'W' => Set::named("word"),
            's' | 'S' => Set::PERL_SPACE,
            'p' | 'P' => return self.unicode(c == 'P').map(Some),
            _ => return Ok(None),
        };
        self.rest = &self.rest[2..];
        Ok(Some(if c.is_ascii_uppercase() { set.inverted() } else { set }))
    }

    fn unicode(&mut self, is_inverted: bool) -> Result<Set, String> {
        let after = &self.rest[2..];
        let (name, rest) = match (after.strip_prefix('{'), after.chars().next()) {
            (Some(inside), _) => inside.split_once('}').ok_or("a \\p{ is not closed")?,
            (None, Some(c)) => after.split_at(c.len_utf8()),
            (None, None) => return Err("\\p needs a name".to_owned()),
        };
        let (name, is_other) = name.strip_prefix('^').map_or((name, false), |name| (name, true));
        let set = class::unicode(name, self.fold).ok_or_else(|| format!("{name:?} is no class of Unicode"))?;
        self.rest = rest;
        Ok(if is_inverted != is_other { set.inverted() } else { set })
    }

    /// A single character after a backslash, which stands in front of the rest.
    fn escaped(&mut self) -> Result<char, String> {
        let after = &self.rest[1..];
        let fault = || Err(format!("RE2 has no \\{}", after.chars().take(1).collect::<String>()));
        let Some(c) = after.chars().next() else { return Err("it ends with a backslash".to_owned()) };
        let is_octal = |at: usize| after.as_bytes().get(at).is_some_and(|digit| (b'0'..=b'7').contains(digit));
        let (found, length) = match c {
            // One digit that is not 0 would refer back to a group.
            '1'..='7' if !is_octal(1) => return fault(),
            '0'..='7' => {
                let length = (1..3).take_while(|at| is_octal(*at)).count() + 1;
                (u32::from_str_radix(&after[..length], 8).ok().and_then(char::from_u32), length)
            }
            'x' => match after[1..].strip_prefix('{') {
                Some(inside) => {
                    let Some((digits, _)) = inside.split_once('}') else { return fault() };
                    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                        return fault();
                    }
                    // Go knows surrogates as characters, which no tag has.
                    let code = u32::from_str_radix(digits.trim_start_matches('0'), 16)
                        .or(if digits.bytes().all(|d| d == b'0') { Ok(0) } else { Err(()) });
                    let found = code
                        .ok()
                        .filter(|code| *code <= 0x10_ffff)
                        .map(|code| char::from_u32(code).unwrap_or('\u{fffd}'));
                    (found, digits.len() + 3)
                }
                None => {
                    let digits = after.get(1..3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
                    (digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).and_then(char::from_u32), 3)
                }
            },
            'a' => (Some('\u{7}'), 1),
            'f' => (Some('\u{c}'), 1),
            'n' => (Some('\n'), 1),
            'r' => (Some('\r'), 1),
            't' => (Some('\t'), 1),
            'v' => (Some('\u{b}'), 1),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => (Some(c), 1),
            _ => return fault(),
        };
        let Some(found) = found else { return fault() };
        self.rest = &after[length..];
        Ok(found)
    }

    /// What follows a `[`.
    fn class(&mut self) -> Result<Set, String> {
        let is_inverted = self.rest.starts_with('^');
        if is_inverted {
            self.rest = &self.rest[1..];
        }
        let (mut set, mut is_first) = (Set::default(), true);
        while is_first || !self.rest.starts_with(']') {
            is_first = false;
            if let Some((name, rest)) = self.rest.strip_prefix("[:").and_then(|named| named.split_once(":]")) {
                let (plain, is_other) = name.strip_prefix('^').map_or((name, false), |name| (name, true));
                if !NAMED.contains(&plain) {
                    return Err(format!("[:{name}:] is no class"));
                }
                let named = Set::named(plain);
                let named = if self.fold { named.with(named.folded()) } else { named };
                set = set.with(if is_other { named.inverted() } else { named });
                self.rest = rest;
                continue;
            }
            if let Some(escaped) = self.class_escape()? {
                set = set.with(escaped);
                continue;
            }
            let low = self.class_character()?;
            let mut high = low;
            if self.rest.starts_with('-') && self.rest.len() >= 2 && !self.rest.starts_with("-]") {
                self.rest = &self.rest[1..];
                high = self.class_character()?;
                if high < low {
                    return Err(format!("the range {low:?} to {high:?} is none"));
                }
            }
            set.add(low, high, self.fold);
        }
        self.rest = &self.rest[1..];
        Ok(if is_inverted { set.inverted() } else { set })
    }

    fn class_character(&mut self) -> Result<char, String> {
        match self.rest.chars().next() {
            None => Err("a [ is not closed".to_owned()),
            Some('\\') => self.escaped(),
            Some(c) => {
                self.rest = &self.rest[c.len_utf8()..];
                Ok(c)
            }
        }
    }
}

/// A counted repetition, and what follows it.
struct Counts<'a> {
    min: u32,
    max: Option<u32>,
    rest: &'a str,
}

/// `{2}`, `{2,}` or `{2,3}` and what follows; nothing where Go reads a brace.
fn counts(text: &str) -> Result<Option<Counts<'_>>, String> {
    let number = |text: &str| -> Option<(usize, u32)> {
        let length = text.bytes().take_while(u8::is_ascii_digit).count();
        let digits = &text[..length];
        let is_number = length > 0 && !(length > 1 && digits.starts_with('0'));
        is_number.then(|| (length, digits.parse().unwrap_or(u32::MAX)))
    };
    let rest = &text[1..];
    let Some((length, min)) = number(rest) else { return Ok(None) };
    let rest = &rest[length..];
    let (max, rest) = match rest.strip_prefix(',') {
        None => (Some(min), rest),
        Some(rest) if rest.starts_with('}') => (None, rest),
        Some(rest) => match number(rest) {
            None => return Ok(None),
            Some((length, max)) => (Some(max), &rest[length..]),
        },
    };
    let Some(rest) = rest.strip_prefix('}') else { return Ok(None) };
    if min > MAX_REPEAT || max.is_some_and(|max| max > MAX_REPEAT || max < min) {
        return Err(format!("a repetition has at most {MAX_REPEAT}, the smaller number first"));
    }
    Ok(Some(Counts { min, max, rest }))
}

#[cfg(test)]
mod tests;
