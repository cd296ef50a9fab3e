//! Sets of ASCII characters: all that a character class of an expression means for tags.

/// A set of ASCII characters, a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Set(u128);

/// The classes of POSIX (`[[:alpha:]]`) and `word`.
pub(crate) const NAMED: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

impl Set {
    pub(crate) const ALL: Set = Set(u128::MAX);
    /// `\s`, which is without `\v`.
    pub(crate) const PERL_SPACE: Set = Set(1 << b'\t' | 1 << b'\n' | 1 << 0xc | 1 << b'\r' | 1 << b' ');

    pub(crate) fn of(c: char) -> Set {
        if c.is_ascii() { Set(1 << u32::from(c)) } else { Set(0) }
    }

    fn of_all(is_in: impl Fn(u8) -> bool) -> Set {
        (0..128).filter(|c| is_in(*c)).fold(Set(0), |set, c| set.with(Set::of(char::from(c))))
    }

    /// One of [`NAMED`].
    pub(crate) fn named(name: &str) -> Set {
        Set::of_all(|c| match name {
            "alnum" => c.is_ascii_alphanumeric(),
            "alpha" => c.is_ascii_alphabetic(),
            "ascii" => true,
            "blank" => matches!(c, b'\t' | b' '),
            "cntrl" => c.is_ascii_control(),
            "digit" => c.is_ascii_digit(),
            "graph" => c.is_ascii_graphic(),
            "lower" => c.is_ascii_lowercase(),
            "print" => c.is_ascii_graphic() || c == b' ',
            "punct" => c.is_ascii_punctuation(),
            "space" => matches!(c, b'\t'..=b'\r' | b' '),
            "upper" => c.is_ascii_uppercase(),
            "word" => c.is_ascii_alphanumeric() || c == b'_',
            _ => c.is_ascii_hexdigit(),
        })
    }

    pub(crate) fn with(self, other: Set) -> Set {
        Set(self.0 | other.0)
    }

    pub(crate) fn inverted(self) -> Set {
        Set(!self.0)
    }

    /// Adds a range, with `fold` in both cases.
    pub(crate) fn add(&mut self, low: char, high: char, fold: bool) {
        let range = Set::of_all(|c| (low..=high).contains(&char::from(c)));
        *self = self.with(range);
        if fold {
            *self = self.with(range.folded());
            // Outside of ASCII only the Kelvin sign and the long s have a case in it.
            for (other, ascii) in [('\u{212a}', 'k'), ('\u{17f}', 's')] {
                if (low..=high).contains(&other) {
                    *self = self.with(Set::of(ascii)).with(Set::of(ascii.to_ascii_uppercase()));
                }
            }
        }
    }

    /// The letters in the other case.
    pub(crate) fn folded(self) -> Set {
        let has = |c: u8| self.0 & (1 << c) != 0;
        Set::of_all(|c| c.is_ascii_alphabetic() && (has(c.to_ascii_lowercase()) || has(c.to_ascii_uppercase())))
    }

    /// Writes it as a class of bytes; an empty one has the bytes that no tag has.
    pub(crate) fn write(self, to: &mut String) {
        to.push('[');
        let has = |c: u32| c < 128 && self.0 & (1 << c) != 0;
        let mut at = 0;
        while at < 128 {
            if has(at) {
                let end = (at..=128).find(|c| !has(*c)).expect("128 is in no set");
                to.push_str(&format!(r"\x{at:02x}-\x{:02x}", end - 1));
                at = end;
            }
            at += 1;
        }
        if self.0 == 0 {
            to.push_str(r"\xff");
        }
        to.push(']');
    }
}

/// The ASCII characters of a general category or script, by its name in Go; nothing if Go has no such name.
pub(crate) fn unicode(name: &str, fold: bool) -> Option<Set> {
    let is_category = name.len() <= 2 && CATEGORIES.split(' ').any(|category| category == name);
    let is_script = || {
        let is_name = name.len() > 4 || SHORT_SCRIPTS.split(' ').any(|script| script == name);
        let is_spelt = name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.bytes().all(|c| c.is_ascii_alphabetic() || c == b'_');
        is_name && is_spelt && regex::Regex::new(&format!(r"\p{{sc={name}}}")).is_ok()
    };
    let pattern = match name {
        "Any" => return Some(Set::ALL),
        _ if is_category => format!(r"\p{{gc={name}}}"),
        _ if is_script() => format!(r"\p{{sc={name}}}"),
        _ => return None,
    };
    let pattern = if fold { format!("(?i){pattern}") } else { pattern };
    let regex = regex::Regex::new(&pattern).ok()?;
    Some(Set::of_all(|c| regex.is_match(char::from(c).encode_utf8(&mut [0; 4]))))
}

const CATEGORIES: &str =
    "C Cc Cf Co Cs L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm So Z Zl Zp Zs";
/// Scripts of at most four letters; other names of that length are abbreviations, which Go does not know.
const SHORT_SCRIPTS: &str = "Ahom Cham Han Lao Lisu Miao Modi Mro Newa Nko Thai Toto Vai Yi";
