//! `policy.json`: which images may be used, and which need a signature (containers-policy.json(5)).
//!
//! Signatures of that sort are not verified here. An image for which the policy asks for anything is therefore refused,
//! so that nothing is carried that skopeo would reject.

use std::collections::BTreeMap;
use std::path::Path;

use super::json::Json;
use super::requirement::Requirement;
use super::scopes;
use crate::error::{Error, Result};
use crate::oci::{Reference, Selector};

/// A policy, and the file that it was read from.
#[derive(Debug, Clone)]
pub struct Policy {
    file: String,
    default: Vec<Requirement>,
    /// By transport, then by scope.
    transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
}

impl Policy {
    /// Reads a policy; `file` is its name for messages.
    ///
    /// # Errors
    /// `Usage` for what is not strictly a policy: an unknown, missing or repeated field, or a wrong value.
    pub fn parse(bytes: &[u8], file: &str) -> Result<Policy> {
        let read = || -> Result<Policy, String> {
            let Json::Object(top) = serde_json::from_slice(bytes).map_err(|e| e.to_string())? else {
                return Err("it is not a JSON object".into());
            };
            let (mut default, mut transports) = (None, BTreeMap::new());
            for (key, value) in &top {
                match key.as_str() {
                    "default" => default = Some(requirements(value).map_err(|e| format!("default: {e}"))?),
                    "transports" => transports = read_transports(value)?,
                    _ => return Err(format!("the key {key:?} is not known")),
                }
            }
            let default = default.ok_or("it has no default")?;
            Ok(Policy { file: file.to_owned(), default, transports })
        };
        read().map_err(|fault| {
            Error::usage(format!("{file} is not a policy of containers-policy.json(5): {fault}"))
                .hint("correct that file, or name another one: --policy FILE")
        })
    }

    /// Whether an image may be read from its registry. An image with a tag and a digest must be allowed by both names.
    ///
    /// # Errors
    /// `Untrusted`, naming the file and the rule, where the policy asks for anything of the image.
    pub fn check_image(&self, image: &Reference) -> Result<()> {
        let selectors = match &image.selector {
            Some(Selector::Pinned(tag, digest)) => {
                vec![Some(Selector::Tag(tag.clone())), Some(Selector::Digest(*digest))]
            }
            other => vec![other.clone()],
        };
        selectors.iter().try_for_each(|selector| {
            let scopes = scopes::of_image(&image.host, &image.repository, selector.as_ref());
            self.check("docker", &scopes, &image.to_string())
        })
    }

    /// Whether the image in a directory may be read; `path` is absolute and without links, `shown` is for messages.
    ///
    /// # Errors
    /// `Untrusted`, naming the file and the rule, where the policy asks for anything of the image.
    pub fn check_directory(&self, path: &Path, shown: &str) -> Result<()> {
        self.check("dir", &scopes::of_directory(path), shown)
    }

    fn check(&self, transport: &str, scopes: &[String], image: &str) -> Result<()> {
        let (rule, requirements) = self.requirements(transport, scopes);
        // All of them must be met.
        let unmet = requirements.iter().find(|r| **r == Requirement::Reject);
        let unmet = unmet.or_else(|| requirements.iter().find(|r| **r != Requirement::Accept));
        let file = &self.file;
        match unmet {
            None | Some(Requirement::Accept) => Ok(()),
            Some(Requirement::Reject) => Err(Error::untrusted(format!("{file} rejects {image}: {rule} is reject"))
                .hint("if the image is to be used, change that file or name another one: --policy FILE")),
            Some(Requirement::Signature(kind)) => Err(Error::untrusted(format!(
                "{file} demands a signature of {image}: {rule} is {kind}, and sealift verifies no such signature"
            ))
            .hint("verify the image with skopeo or podman, then run this again without the check: --insecure-policy")),
        }
    }

    /// The requirements that apply, and where they stand in the file. Only the most specific scope counts.
    fn requirements(&self, transport: &str, scopes: &[String]) -> (String, &[Requirement]) {
        if let Some(rules) = self.transports.get(transport) {
            for scope in scopes.iter().map(String::as_str).chain([""]) {
                if let Some(found) = rules.get(scope) {
                    return (format!("transports.{transport}.{scope:?}"), found);
                }
            }
        }
        ("default".to_owned(), &self.default)
    }
}

fn read_transports(value: &Json) -> Result<BTreeMap<String, BTreeMap<String, Vec<Requirement>>>, String> {
    let Json::Object(transports) = value else { return Err(format!("transports is {}", value.sort())) };
    let read = |(transport, rules): &(String, Json)| {
        let Json::Object(rules) = rules else { return Err(format!("transports.{transport} is {}", rules.sort())) };
        let rules = rules.iter().map(|(scope, value)| {
            let rule = || format!("transports.{transport}.{scope:?}");
            check_scope(transport, scope).map_err(|e| format!("{}: {e}", rule()))?;
            Ok((scope.clone(), requirements(value).map_err(|e| format!("{}: {e}", rule()))?))
        });
        Ok((transport.clone(), rules.collect::<Result<_, String>>()?))
    };
    transports.iter().map(read).collect()
}

/// What the transports say about their scopes in containers-policy.json(5).
fn check_scope(transport: &str, scope: &str) -> Result<(), String> {
    let is_clean =
        |scope: &str| scope.starts_with('/') && scope[1..].split('/').all(|part| !matches!(part, "" | "." | ".."));
    match transport {
        "dir" | "oci" | "oci-archive" | "sif" if !scope.is_empty() && !is_clean(scope) => {
            Err("a scope here is an absolute path in its shortest form, and not /".into())
        }
        "docker-archive" | "tarball" if !scope.is_empty() => Err("only the scope \"\" is possible here".into()),
        _ => Ok(()),
    }
}

fn requirements(value: &Json) -> Result<Vec<Requirement>, String> {
    match value {
        Json::List(list) if list.is_empty() => Err("the list of requirements is empty".into()),
        Json::List(list) => list.iter().map(Requirement::read).collect(),
        other => Err(format!("{} stands where a list of requirements belongs", other.sort())),
    }
}

#[cfg(test)]
mod tests;
