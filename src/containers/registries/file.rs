//! One `registries.conf`: its tables, checked for themselves.

use serde::Deserialize;
use toml::{Table as Toml, Value};

use super::Usage;
use crate::error::{Error, Result};
use crate::oci::Reference;
use crate::text::secrets;

/// What one file says.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) tables: Vec<Table>,
    pub(super) helpers: Option<Vec<String>>,
}

/// `[[registry]]`
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) prefix: String,
    pub(super) primary: Endpoint,
    pub(super) mirrors: Vec<Endpoint>,
    pub(super) blocked: bool,
    /// `mirror-by-digest-only`
    pub(super) digest_only: bool,
    file: String,
}

/// A location and how it is reached.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// Empty where nothing is rewritten.
    location: String,
    pub(super) insecure: bool,
    pub(super) usage: Usage,
}

impl Table {
    /// `"docker.io" of /etc/containers/registries.conf`
    pub(super) fn shown(&self) -> String {
        format!("{:?} of {}", self.prefix, self.file)
    }

    /// How many bytes of `name` the prefix covers, if it matches. Skopeo takes a port for something that follows a prefix,
    /// so that `example.com` also matches `example.com:5000`.
    pub(super) fn matched(&self, name: &str) -> Option<usize> {
        let length = match self.prefix.strip_prefix('*') {
            Some(domain) if domain.starts_with('.') => {
                let at = name.find(domain).filter(|at| !name[..*at].contains('/'))?;
                at + domain.len()
            }
            _ => name.starts_with(&self.prefix).then_some(self.prefix.len())?,
        };
        matches!(name.as_bytes().get(length), None | Some(b':' | b'/' | b'@')).then_some(length)
    }

    /// The repository that `name` is at an endpoint; the prefix matches `name`.
    pub(super) fn rewrite(&self, endpoint: &Endpoint, name: &str) -> Result<Reference> {
        let matched = self.matched(name).unwrap_or_default();
        let rewritten = match endpoint.location.as_str() {
            "" => name.to_owned(),
            location => format!("{location}{}", &name[matched..]),
        };
        let reference = rewritten.parse::<Reference>();
        // A name that is expanded in any way names no host.
        let reference = reference.ok().filter(|reference| reference.to_string() == rewritten);
        reference.filter(|reference| reference.selector.is_none()).ok_or_else(|| {
            Error::usage(format!("{} makes {rewritten:?} of {name}, which names no repository", self.shown()))
                .hint("correct its location: HOST[:PORT], or HOST[:PORT]/NAMESPACE")
        })
    }
}

/// Reads a file; the error says what is wrong in it.
pub(super) fn parse(text: &str, file: &str) -> Result<File, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // A location may be written with a login, and errors repeat it.
    secrets::remember_logins_in(text);
    let table: Toml = toml::from_str(text).map_err(|e| {
        let line = e.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        format!("line {line}: {}", e.message())
    })?;
    // Skopeo takes keys in any case.
    let Value::Table(table) = lower_case(Value::Table(table), 0) else { return Ok(File::default()) };
    if let Some(Value::Table(old)) = table.get("registries")
        && ["search", "insecure", "block"].iter().any(|key| old.contains_key(*key))
    {
        return Err("it is of version 1, which is no longer read: write [[registry]] tables".into());
    }
    let raw: RawFile = Value::Table(table).try_into().map_err(|e: toml::de::Error| e.message().to_owned())?;
    let mut tables: Vec<Table> = Vec::new();
    for registry in raw.registry {
        let table = registry.into_table(file)?;
        let is_same = |known: &&Table| known.backed_by() == table.backed_by();
        if let Some(known) = tables.iter().find(is_same) {
            let [insecure, blocked] =
                [known.primary.insecure != table.primary.insecure, known.blocked != table.blocked];
            if insecure || blocked {
                let key = if insecure { "insecure" } else { "blocked" };
                return Err(format!("{:?} is there twice, with different values of {key}", table.backed_by()));
            }
        }
        tables.push(table);
    }
    // Of several tables with one prefix the first counts.
    let mut prefixes = std::collections::HashSet::new();
    tables.retain(|table| prefixes.insert(table.prefix.clone()));
    Ok(File { tables, helpers: raw.credential_helpers })
}

impl Table {
    /// What must not have two settings in one file.
    fn backed_by(&self) -> &str {
        match self.primary.location.as_str() {
            "" => &self.prefix,
            location => location,
        }
    }
}

#[derive(Deserialize)]
struct RawFile {
    #[serde(default)]
    registry: Vec<RawRegistry>,
    #[serde(rename = "credential-helpers")]
    credential_helpers: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawRegistry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    pull_from_mirror: String,
    #[serde(default)]
    mirror: Vec<RawMirror>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawMirror {
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: String,
}

impl RawRegistry {
    fn into_table(self, file: &str) -> Result<Table, String> {
        let (mut prefix, primary) = (location(&self.prefix)?, location(&self.location)?);
        let has_wildcard = prefix.starts_with("*.");
        if prefix.is_empty() {
            prefix.clone_from(&primary);
        } else if primary.is_empty() && !has_wildcard {
            return Err(format!("the registry {prefix:?} has no location"));
        }
        if prefix.is_empty() {
            return Err("a registry has neither a prefix nor a location".into());
        }
        if has_wildcard && prefix.contains(['/', '@', ':']) {
            return Err(format!("the prefix {prefix:?} is not of the form *.example.com"));
        }
        if !self.pull_from_mirror.is_empty() {
            return Err(format!("pull-from-mirror of {prefix:?} belongs to a mirror"));
        }
        let mirror = |mirror: RawMirror| {
            let location = location(&mirror.location)?;
            if location.is_empty() {
                return Err(format!("a mirror of {prefix:?} has no location"));
            }
            if self.mirror_by_digest_only && !mirror.pull_from_mirror.is_empty() {
                return Err(format!("{prefix:?} has mirror-by-digest-only, and {location:?} has pull-from-mirror"));
            }
            let usage = match mirror.pull_from_mirror.as_str() {
                "" | "all" => Usage::All,
                "digest-only" => Usage::ByDigest,
                "tag-only" => Usage::ByTag,
                other => return Err(format!("{other:?} is no value of pull-from-mirror")),
            };
            Ok(Endpoint { location, insecure: mirror.insecure, usage })
        };
        let mirrors = self.mirror.into_iter().map(mirror).collect::<Result<_, String>>()?;
        let primary = Endpoint { location: primary, insecure: self.insecure, usage: Usage::All };
        let (blocked, digest_only) = (self.blocked, self.mirror_by_digest_only);
        Ok(Table { prefix, primary, mirrors, blocked, digest_only, file: file.to_owned() })
    }
}

/// A location or prefix, without slashes at its end.
fn location(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    match text.starts_with("http://") || text.starts_with("https://") {
        true => Err(format!("{text:?} must not begin with a scheme")),
        false => Ok(text.to_owned()),
    }
}

/// The same with every key in lower case, where that names nothing twice.
fn lower_case(value: Value, depth: usize) -> Value {
    match value {
        Value::Table(table) if depth < 4 => {
            let mut lower = Toml::new();
            let (exact, other): (Vec<_>, Vec<_>) =
                table.into_iter().partition(|(key, _)| !key.bytes().any(|c| c.is_ascii_uppercase()));
            for (key, value) in exact.into_iter().chain(other) {
                lower.entry(key.to_ascii_lowercase()).or_insert_with(|| lower_case(value, depth + 1));
            }
            Value::Table(lower)
        }
        Value::Array(list) => Value::Array(list.into_iter().map(|value| lower_case(value, depth)).collect()),
        other => other,
    }
}
