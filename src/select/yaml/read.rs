//! From YAML to its parts, with their lines: only what kind of value stands under which key, not what it means.
//!
//! Read by hand-written visitors and not by derived ones, so that every fault has its key and no message repeats a value.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_saphyr::Spanned;
use serde_saphyr::options::Options;

use crate::credentials::Secret;
use crate::error::{Error, Result};

/// A value and the line that it is on.
pub(crate) struct OnLine<T> {
    pub(crate) line: u64,
    pub(crate) value: T,
}

/// A mapping in the order of the file.
pub(crate) type Entries<T> = Vec<(OnLine<String>, T)>;

/// What is below a registry's name.
#[derive(Default)]
pub(crate) struct RawRegistry {
    pub(crate) images: Entries<Vec<OnLine<String>>>,
    pub(crate) images_by_tag_regex: Entries<OnLine<String>>,
    pub(crate) images_by_semver: Entries<OnLine<String>>,
    pub(crate) credentials: Option<Logins>,
    pub(crate) tls_verify: Option<OnLine<bool>>,
    pub(crate) cert_dir: Option<OnLine<String>>,
}

/// What is below `credentials`.
#[derive(Default)]
pub(crate) struct Logins {
    pub(crate) line: u64,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) identity_token: Option<Secret>,
}

/// The registries of a file's first document, and whether there are more documents, which skopeo does not read either.
pub(crate) fn registries(text: &str, origin: &str) -> Result<(Entries<RawRegistry>, bool)> {
    let trail = Trail::default();
    let first = RefCell::new(None);
    let read = |deserializer: serde_saphyr::Deserializer<'_, '_>| {
        let found: Entries<RawRegistry> = At::new(&trail).deserialize(deserializer)?;
        first.replace(Some(found));
        Ok(())
    };
    let ended = serde_saphyr::with_deserializer_from_str_with_options(text, options(), read);
    match (ended, first.take()) {
        (Ok(()), found) => Ok((found.unwrap_or_default(), false)),
        (Err(serde_saphyr::Error::MultipleDocuments { .. }), Some(found)) => Ok((found, true)),
        (Err(error), _) => Err(trail.error(origin, &error)),
    }
}

/// `FILE, line N: key: key`
pub(crate) fn place(origin: &str, line: u64, keys: &[&str]) -> String {
    let keys: String = keys.iter().map(|key| format!(": {}", shorten(key))).collect();
    format!("{origin}, line {line}{keys}")
}

fn shorten(key: &str) -> String {
    if key.chars().count() <= 80 { key.to_owned() } else { key.chars().take(80).chain(['\u{2026}']).collect() }
}

fn options() -> Options {
    serde_saphyr::options! {
        // Snippets would show what is in the file.
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_aliases: 5_000,
            max_anchors: 5_000,
            max_depth: 16,
            flow_nesting_limit: 16,
            max_nodes: MAX_NODES,
            max_total_scalar_bytes: 32 << 20,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_NODES },
    }
}

/// Where the reader is; when it fails, where that was.
#[derive(Default)]
struct Trail {
    keys: RefCell<Vec<(u64, String)>>,
    /// A fault that was found here and not by the parser.
    fault: RefCell<Option<String>>,
}

impl Trail {
    fn enter(&self, line: u64, key: String) {
        self.keys.borrow_mut().push((line, key));
    }

    fn leave(&self) {
        self.keys.borrow_mut().pop();
    }

    /// The error with place and reason. What the parser says of values is left out.
    fn error(&self, origin: &str, error: &serde_saphyr::Error) -> Error {
        use serde_saphyr::Error as Fault;
        let keys = self.keys.borrow();
        let cause = match error.without_snippet() {
            Fault::AliasError { error, .. } => error,
            other => other,
        };
        let fault = self.fault.take();
        // The parser knows where a value is; what is found here is wrong about a key.
        let known = error.location().filter(|_| fault.is_none()).map(|location| location.line());
        let line = known.filter(|line| *line > 0).or(keys.last().map(|(line, _)| *line)).unwrap_or(1);
        let names: Vec<&str> = keys.iter().map(|(_, key)| key.as_str()).collect();
        let what = match (fault, cause) {
            (Some(fault), _) => fault,
            (_, Fault::DuplicateMappingKey { key: Some(key), .. }) => format!("{} is there twice", shorten(key)),
            (_, Fault::DuplicateMappingKey { key: None, .. }) => "a key is there twice".to_owned(),
            (_, Fault::NullIntoString { .. }) => "there is nothing".to_owned(),
            (_, Fault::SerdeInvalidType { expected, .. } | Fault::SerdeInvalidValue { expected, .. }) => {
                format!("here stands {expected}")
            }
            (_, Fault::InvalidScalar { ty: "boolean" | "bool", .. } | Fault::InvalidBooleanStrict { .. }) => {
                "here stands true or false".to_owned()
            }
            (
                _,
                Fault::Budget { .. }
                | Fault::AliasReplayLimitExceeded { .. }
                | Fault::AliasExpansionLimitExceeded { .. }
                | Fault::AliasReplayStackDepthExceeded { .. }
                | Fault::AliasReplayCounterOverflow { .. },
            ) => "the file holds, nests or repeats (by aliases) too much".to_owned(),
            // Whatever else is wrong near a password is not told.
            _ if names.contains(&CREDENTIALS) => "this is not YAML, or not a text".to_owned(),
            (_, Fault::Unexpected { .. }) if names.last() == Some(&TLS_VERIFY) => {
                "here stands true or false".to_owned()
            }
            (_, Fault::Unexpected { expected: "string scalar" | "string", .. }) => {
                "one text belongs here, and this is a list or a mapping".to_owned()
            }
            (_, Fault::Unexpected { expected, .. }) => format!("here stands {expected}"),
            (_, other) => {
                format!("this is not YAML: {}", other.to_string().lines().next().unwrap_or_default())
            }
        };
        Error::usage(format!("{}: {what}", place(origin, line, &names))).hint("the form is that of skopeo-sync(1)")
    }
}

/// What can be read where the trail is.
trait Shape: Sized {
    fn read<'de, D: Deserializer<'de>>(trail: &Trail, deserializer: D) -> Result<Self, D::Error>;
}

/// Reads a `T` and knows where.
struct At<'t, T>(&'t Trail, PhantomData<T>);

impl<'t, T> At<'t, T> {
    fn new(trail: &'t Trail) -> Self {
        At(trail, PhantomData)
    }
}

impl<'de, T: Shape> DeserializeSeed<'de> for At<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        T::read(self.0, deserializer)
    }
}

impl Shape for OnLine<String> {
    fn read<'de, D: Deserializer<'de>>(_: &Trail, deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value: Text(value), referenced, .. } = Spanned::<Text>::deserialize(deserializer)?;
        Ok(OnLine { line: referenced.line(), value })
    }
}

/// Nothing where the value is empty.
impl Shape for Option<OnLine<bool>> {
    fn read<'de, D: Deserializer<'de>>(_: &Trail, deserializer: D) -> Result<Self, D::Error> {
        let found = Option::<Spanned<bool>>::deserialize(deserializer)?;
        Ok(found.map(|Spanned { value, referenced, .. }| OnLine { line: referenced.line(), value }))
    }
}

impl Shape for Option<OnLine<String>> {
    fn read<'de, D: Deserializer<'de>>(_: &Trail, deserializer: D) -> Result<Self, D::Error> {
        let found = Option::<Spanned<Text>>::deserialize(deserializer)?;
        Ok(found.map(|Spanned { value: Text(value), referenced, .. }| OnLine { line: referenced.line(), value }))
    }
}

impl Shape for Vec<OnLine<String>> {
    fn read<'de, D: Deserializer<'de>>(trail: &Trail, deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListOf(trail))
    }
}

impl<T: Shape + Keyed> Shape for Entries<T> {
    fn read<'de, D: Deserializer<'de>>(trail: &Trail, deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Mapping(trail, PhantomData))
    }
}

/// What is said when the mapping that it stands in is something else.
trait Keyed {
    const BELOW: &'static str;

    /// Whether a key and what is below it say nothing.
    fn is_ignored(_key: &str) -> bool {
        false
    }
}

impl Keyed for RawRegistry {
    const BELOW: &'static str = "a mapping of registries (for a list: read it as FILE.txt)";

    // A registry has a dot or a port.
    fn is_ignored(key: &str) -> bool {
        key.starts_with("x-") && !key.contains(['.', ':', '/'])
    }
}

impl Keyed for Vec<OnLine<String>> {
    const BELOW: &'static str = "a mapping of repositories with their tags";
}

impl Keyed for OnLine<String> {
    const BELOW: &'static str = "a mapping of repositories with a text each";
}

impl Shape for RawRegistry {
    fn read<'de, D: Deserializer<'de>>(trail: &Trail, deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Fields { trail, expected: "a mapping with images", result: Self::default() })
    }
}

impl Shape for Logins {
    fn read<'de, D: Deserializer<'de>>(trail: &Trail, deserializer: D) -> Result<Self, D::Error> {
        let line = trail.keys.borrow().last().map_or(0, |(line, _)| *line);
        let result = Logins { line, ..Self::default() };
        deserializer.deserialize_any(Fields { trail, expected: "a mapping with username and password", result })
    }
}

/// Something whose keys are known.
trait Record: Sized {
    const KEYS: &'static [&'static str];

    /// Reads the value of a key, one of [`Record::KEYS`].
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, trail: &Trail, map: &mut A) -> Result<(), A::Error>;
}

impl Record for RawRegistry {
    const KEYS: &'static [&'static str] =
        &["images", "images-by-tag-regex", "images-by-semver", CREDENTIALS, TLS_VERIFY, "cert-dir"];

    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, trail: &Trail, map: &mut A) -> Result<(), A::Error> {
        match key {
            "images" => self.images = map.next_value_seed(At::new(trail))?,
            "images-by-tag-regex" => self.images_by_tag_regex = map.next_value_seed(At::new(trail))?,
            "images-by-semver" => self.images_by_semver = map.next_value_seed(At::new(trail))?,
            TLS_VERIFY => self.tls_verify = map.next_value_seed(At::new(trail))?,
            "cert-dir" => self.cert_dir = map.next_value_seed(At::new(trail))?,
            _ => self.credentials = Some(map.next_value_seed(At::new(trail))?),
        }
        Ok(())
    }
}

impl Record for Logins {
    const KEYS: &'static [&'static str] = &["username", "password", "identitytoken", "email"];

    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, trail: &Trail, map: &mut A) -> Result<(), A::Error> {
        let OnLine { value, .. }: OnLine<String> = map.next_value_seed(At::new(trail))?;
        match key {
            "username" => self.username = Some(value),
            "password" => self.password = Some(Secret::new(value)),
            // docker's files have it, and no registry asks for it.
            "email" => {}
            _ => self.identity_token = Some(Secret::new(value)),
        }
        Ok(())
    }
}

/// Reads a [`Record`]; what is empty is one without fields.
struct Fields<'t, R> {
    trail: &'t Trail,
    expected: &'static str,
    result: R,
}

impl<'de, R: Record> Visitor<'de> for Fields<'_, R> {
    type Value = R;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_unit<E: de::Error>(self) -> Result<R, E> {
        Ok(self.result)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<R, A::Error> {
        let mut seen: Vec<String> = Vec::new();
        while let Some(key) = next_key(&mut map)? {
            let name = key.value.to_ascii_lowercase();
            if name.starts_with("x-") {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            self.trail.enter(key.line, key.value);
            if !R::KEYS.contains(&name.as_str()) {
                let known = R::KEYS.join(", ");
                let fault = format!("this is an unknown key; there are {known} (a key that begins with x- is ignored)");
                self.trail.fault.replace(Some(fault));
                return Err(A::Error::custom("unknown key"));
            }
            if seen.contains(&name) {
                self.trail.fault.replace(Some(format!("{name} is there twice, spelt in two ways")));
                return Err(A::Error::custom("a key twice"));
            }
            self.result.field(&name, self.trail, &mut map)?;
            seen.push(name);
            self.trail.leave();
        }
        Ok(self.result)
    }
}

/// Reads a mapping with keys of the user's own; what is empty is one without entries.
struct Mapping<'t, T>(&'t Trail, PhantomData<T>);

impl<'de, T: Shape + Keyed> Visitor<'de> for Mapping<'_, T> {
    type Value = Entries<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::BELOW)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = next_key(&mut map)? {
            if T::is_ignored(&key.value) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            self.0.enter(key.line, key.value.clone());
            entries.push((key, map.next_value_seed(At::new(self.0))?));
            self.0.leave();
        }
        Ok(entries)
    }
}

/// Reads a list of texts; what is empty is one without any.
struct ListOf<'t>(&'t Trail);

impl<'de> Visitor<'de> for ListOf<'_> {
    type Value = Vec<OnLine<String>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of tags and digests ([] for every tag)")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(At::new(self.0))? {
            list.push(item);
        }
        Ok(list)
    }
}

fn next_key<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<OnLine<String>>, A::Error> {
    let key = map.next_key::<Spanned<Text>>()?;
    Ok(key.map(|Spanned { value: Text(value), referenced, .. }| OnLine { line: referenced.line(), value }))
}

/// A scalar as it is written: `1.10` is not the number 1.1.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfText;

        impl Visitor<'_> for OfText {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a text of at most {MAX_TEXT} characters")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                if text.len() > MAX_TEXT {
                    return Err(E::invalid_length(text.len(), &self));
                }
                Ok(Text(text.to_owned()))
            }
        }

        deserializer.deserialize_string(OfText)
    }
}

/// Values, keys, lists and mappings in a file, those repeated by aliases counted again.
const MAX_NODES: usize = 200_000;

/// The longest key or value, in bytes.
const MAX_TEXT: usize = 4096;

const CREDENTIALS: &str = "credentials";
const TLS_VERIFY: &str = "tls-verify";
