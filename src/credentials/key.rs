//! What a login is for, and how the keys of files and the servers of helpers write it.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::oci::{Host, Repository};
use crate::text::without_login;

/// What a login is for: `HOST`, or `HOST/PATH` for the repositories below a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginKey {
    /// The registry.
    pub host: Host,
    /// Only for these repositories.
    pub path: Option<Repository>,
}

impl LoginKey {
    /// As it is written into the file: Docker Hub's login has a key of its own, which every tool finds.
    pub(super) fn written(&self) -> String {
        match (&self.path, self.host.as_str()) {
            (None, Host::DOCKER_HUB) => DOCKER_HUB_KEY.to_owned(),
            _ => self.to_string(),
        }
    }
}

impl FromStr for LoginKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let normal = normal(text);
        let (host, path) = match normal.split_once('/') {
            Some((host, path)) => (host, Some(path)),
            None => (normal.as_str(), None),
        };
        let fault = |e| Error::usage(format!("{:?} is not HOST[:PORT][/PATH]", without_login(text))).caused_by(e);
        Ok(LoginKey { host: host.parse().map_err(fault)?, path: path.map(str::parse).transpose().map_err(fault)? })
    }
}

impl fmt::Display for LoginKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}/{path}", self.host),
            None => write!(f, "{}", self.host),
        }
    }
}

/// `quay.io/ns/repo`, `quay.io/ns`, `quay.io`.
pub(super) fn places(host: &Host, repository: Option<&Repository>) -> Vec<String> {
    let host = normal(host.as_str());
    let mut place = match repository {
        Some(repository) => format!("{host}/{repository}"),
        None => host,
    };
    let mut places = vec![place.clone()];
    while let Some((shorter, _)) = place.rsplit_once('/') {
        place = shorter.to_owned();
        places.push(place.clone());
    }
    places
}

/// A key as [`places`] writes it: without scheme, and with that without path; one name for Docker Hub.
pub(super) fn normal(key: &str) -> String {
    let lower = key.to_ascii_lowercase();
    let url = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://"));
    let (host, path) = match url.unwrap_or(&lower).split_once('/') {
        Some((host, path)) if url.is_none() => (host, path.trim_end_matches('/')),
        Some((host, _)) => (host, ""),
        None => (url.unwrap_or(&lower), ""),
    };
    let host = if DOCKER_HUB_NAMES.contains(&host) { Host::DOCKER_HUB } else { host };
    // `index.docker.io/v1` is no path of repositories either.
    let hub_version = host == Host::DOCKER_HUB && matches!(path, "v1" | "v2");
    if path.is_empty() || hub_version { host.to_owned() } else { format!("{host}/{path}") }
}

/// What helpers call a registry.
pub(super) fn server_of(host: &Host) -> &str {
    match normal(host.as_str()) == Host::DOCKER_HUB {
        true => DOCKER_HUB_KEY,
        false => host.as_str(),
    }
}

const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
const DOCKER_HUB_NAMES: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];
