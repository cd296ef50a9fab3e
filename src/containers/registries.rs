//! `registries.conf`, version 2, with its drop-in files: what is blocked, rewritten and mirrored
//! (containers-registries.conf(5), containers-registries.conf.d(5)).
//!
//! Where the manual page leaves a case open, the newest skopeo decides (`sysregistriesv2` of containers/container-libs).

mod file;

use std::collections::BTreeMap;

use file::{Endpoint, Table};

use crate::error::{Error, Result};
use crate::oci::{Digest, Host, Reference, Repository};

/// What the main file and its drop-ins say together.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    /// By prefix: a later file replaces the whole table of one.
    tables: BTreeMap<String, Table>,
    /// The last file that names helpers for logins, and the helpers.
    helpers: Option<(String, Vec<String>)>,
}

/// One location that a repository can be read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullSource {
    /// The registry to contact.
    pub host: Host,
    /// The repository there.
    pub repository: Repository,
    /// Whether plain HTTP and any certificate will do.
    pub insecure: bool,
    /// For which pulls it is used.
    pub usage: Usage,
    /// Whether it is a mirror; the other one is the primary location, which comes last.
    pub mirror: bool,
    /// Why nothing may be read there, if that is so.
    pub blocked: Option<String>,
    /// The table that names it, for messages: `"docker.io" of /etc/containers/registries.conf`.
    pub table: String,
}

/// `pull-from-mirror`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// Every pull.
    All,
    /// Only images that are asked for by digest.
    ByDigest,
    /// Only images that are asked for by tag.
    ByTag,
}

impl Registries {
    /// The same for equal configuration, within one release.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(format!("{self:?}").as_bytes())
    }

    /// Reads files in the order in which each overrides the ones before; each with its name for messages.
    ///
    /// # Errors
    /// `Usage` for a file that is not TOML, has a wrong value, contradicts itself or is of version 1.
    pub fn read<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Registries> {
        let mut merged = Registries::default();
        for (name, text) in files {
            let read = file::parse(text, name).map_err(|fault| {
                Error::usage(format!("{name} is not what containers-registries.conf(5) describes: {fault}"))
                    .hint("correct that file, or name another one: --registries-conf FILE")
            })?;
            merged.tables.extend(read.tables.into_iter().map(|table| (table.prefix.clone(), table)));
            if let Some(helpers) = read.helpers {
                merged.helpers = Some((name.to_owned(), helpers));
            }
        }
        Ok(merged)
    }

    /// Whether nothing is said about any registry.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// A warning about what is not honoured, if the files ask for it.
    pub fn warning(&self) -> Option<String> {
        let (file, helpers) = self.helpers.as_ref()?;
        let helper = helpers.iter().find(|helper| *helper != AUTH_FILES)?;
        Some(format!(
            "{file} names {helper} in credential-helpers, which is not asked: name it in credHelpers of auth.json"
        ))
    }

    /// Why `name`, a registry, a namespace or a repository, may not be contacted, if that is so.
    pub fn blocked(&self, name: &str) -> Option<String> {
        Self::blocked_by(self.find(name)?, name)
    }

    fn blocked_by(table: &Table, name: &str) -> Option<String> {
        table.blocked.then(|| format!("{} blocks {name}", table.shown()))
    }

    /// Whether `name`, a registry or a repository, is reached without TLS.
    pub fn is_insecure(&self, name: &str) -> bool {
        self.find(name).is_some_and(|table| table.primary.insecure)
    }

    /// Where a repository is read from, in order: its mirrors, then its primary location. Nothing if no table matches.
    ///
    /// # Errors
    /// `Usage` when a location does not make a repository's name.
    pub fn pull_sources(&self, host: &Host, repository: &Repository) -> Result<Vec<PullSource>> {
        let name = format!("{host}/{repository}");
        let Some(table) = self.find(&name) else { return Ok(Vec::new()) };
        let source = |endpoint: &Endpoint, mirror: bool| {
            let Reference { host, repository, .. } = table.rewrite(endpoint, &name)?;
            // A mirror is blocked under its own name only: a blocked registry may still be read through its mirrors.
            let named = if mirror { None } else { Self::blocked_by(table, &name) };
            let blocked = named.or_else(|| self.blocked(&format!("{host}/{repository}")));
            let usage = if mirror && table.digest_only { Usage::ByDigest } else { endpoint.usage };
            let (insecure, table) = (endpoint.insecure, table.shown());
            Ok(PullSource { host, repository, insecure, usage, mirror, blocked, table })
        };
        let mirrors = table.mirrors.iter().map(|mirror| source(mirror, true));
        mirrors.chain([source(&table.primary, false)]).collect()
    }

    /// The table with the longest prefix that matches; of two with one length, the one that comes first by its bytes.
    fn find(&self, name: &str) -> Option<&Table> {
        let matching = self.tables.values().rev().filter(|table| table.matched(name).is_some());
        matching.max_by_key(|table| table.prefix.len())
    }
}

/// The entry of `credential-helpers` that stands for auth.json.
const AUTH_FILES: &str = "containers-auth.json";

#[cfg(test)]
mod tests;
