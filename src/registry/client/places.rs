//! Where a repository is read from: its mirrors and its own location, as `registries.conf` says.
//!
//! Which mirrors count depends on how an image is asked for, by tag or by digest. What an image needs is then read where
//! its manifest was read, and elsewhere only if that fails: everything below a tag is verified by digest. Tags are listed
//! at the repository's own name, as skopeo does.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::endpoint::Endpoint;
use super::{Client, HostClient};
use crate::containers::{PullSource, Usage};
use crate::error::{Error, Kind, Result};
use crate::oci::{Host, Repository, Selector};
use crate::registry::http::settings::{Retry, Settings, Tls};

/// What the run knows about the locations of repositories.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// By the name of a repository: the locations, by position, that served a manifest of it.
    served: Mutex<HashMap<(Host, Repository), BTreeSet<usize>>>,
    /// Hosts of mirrors that could not be reached.
    unreachable: Mutex<HashSet<Host>>,
    /// What has been said of a host, once for each table that names it.
    told: Mutex<HashSet<(String, Host, bool)>>,
}

/// One location of a repository.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) repository: Repository,
    /// Its position among the locations of the repository and what `registries.conf` says of it; nothing where it says
    /// nothing.
    source: Option<(usize, PullSource)>,
}

/// What is wanted of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A manifest by its tag.
    Tag,
    /// A manifest by its digest.
    Digest,
    /// What belongs to manifests that were read.
    Below,
}

/// What makes an endpoint another one than that of the same host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct EndpointKey {
    pub(crate) host: Host,
    /// Whose settings it has, where these are not the usual ones.
    pub(crate) settings_of: Option<Host>,
    pub(crate) insecure: bool,
    /// Whether requests are tried once only, because another location can serve what this one does not.
    pub(crate) once: bool,
}

impl Wanted {
    pub(crate) fn of(selector: &Selector) -> Wanted {
        match selector {
            Selector::Tag(_) => Wanted::Tag,
            Selector::Digest(_) | Selector::Pinned(..) => Wanted::Digest,
        }
    }
}

impl Client {
    /// The locations to ask, in this order; at least one.
    ///
    /// # Errors
    /// `Refused` when all of them are blocked; `Usage` when one is not a repository.
    pub(crate) fn places(&self, host: &Host, repository: &Repository, wanted: Wanted) -> Result<Vec<Place>> {
        let sources = self.settings().registries.pull_sources(host, repository)?;
        if sources.is_empty() {
            return Ok(vec![Place { endpoint: self.endpoint(host), repository: repository.clone(), source: None }]);
        }
        let served = lock(&self.known().served).get(&(host.clone(), repository.clone())).cloned().unwrap_or_default();
        let counts = |position: usize, usage: Usage| match wanted {
            Wanted::Tag => usage != Usage::ByDigest,
            Wanted::Digest => usage != Usage::ByTag || served.contains(&position),
            Wanted::Below => true,
        };
        let mut sources: Vec<(usize, PullSource)> = sources.into_iter().enumerate().collect();
        sources.retain(|(position, source)| counts(*position, source.usage));
        if wanted != Wanted::Tag {
            sources.sort_by_key(|(position, _)| !served.contains(position));
        }
        let blocked = sources.iter().rev().find_map(|(_, source)| source.blocked.clone());
        sources.retain(|(_, source)| source.blocked.is_none());
        let reachable = |source: &PullSource| !lock(&self.known().unreachable).contains(&source.host);
        if sources.iter().any(|(_, source)| reachable(source)) {
            sources.retain(|(_, source)| !source.mirror || reachable(source));
        }
        let last = sources.len().saturating_sub(1);
        let place = |(at, (position, source)): (usize, (usize, PullSource))| {
            let endpoint = self.endpoint_of(host, &source.host, source.insecure, at < last)?;
            Ok(Place { endpoint, repository: source.repository.clone(), source: Some((position, source)) })
        };
        let places: Vec<Place> = sources.into_iter().enumerate().map(place).collect::<Result<_>>()?;
        match (places.is_empty(), blocked) {
            (true, Some(blocked)) => Err(refused(blocked)),
            _ => Ok(places),
        }
    }

    /// Where the tags of a repository are listed: at its own name.
    ///
    /// # Errors
    /// `Refused` when that is blocked.
    pub(crate) fn listing(&self, host: &Host, repository: &Repository) -> Result<Arc<Endpoint>> {
        let registries = &self.settings().registries;
        let name = format!("{host}/{repository}");
        match registries.blocked(&name) {
            Some(blocked) => Err(refused(blocked)),
            None => self.endpoint_of(host, host, registries.is_insecure(&name), false),
        }
    }

    /// Reads something at the first location that serves it; `read` is told whether it is the only one.
    ///
    /// # Errors
    /// That of the last location; those of the others are listed below it.
    pub(crate) async fn read_at<T, F>(
        &self,
        name: (&Host, &Repository),
        wanted: Wanted,
        read: impl Fn(Place, bool) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let places = self.places(name.0, name.1, wanted)?;
        let (count, mut failed) = (places.len(), Vec::new());
        for (at, place) in places.into_iter().enumerate() {
            let error = match read(place.clone(), count == 1).await {
                Ok(found) => {
                    if wanted != Wanted::Below {
                        self.note_served(name, &place);
                    }
                    return Ok(found);
                }
                Err(error) => error,
            };
            if at + 1 == count || error.kind() == Kind::Interrupted {
                return Err(error.list(failed));
            }
            failed.push(format!("{} did not serve it either: {}", place.shown(), error.flattened()));
            self.note_failed(name, &place, &error);
        }
        Err(Error::not_found(format!("no location of {}/{} is known", name.0, name.1)))
    }

    /// Remembers that a place serves a repository, and says so where it is another one than the name says.
    fn note_served(&self, (host, repository): (&Host, &Repository), place: &Place) {
        let Some((position, source)) = &place.source else { return };
        lock(&self.known().served).entry((host.clone(), repository.clone())).or_default().insert(*position);
        let is_renamed = (&source.host, &source.repository) != (host, repository);
        if is_renamed && self.is_new(source, true) {
            let what = if source.mirror { "a mirror" } else { "the location" };
            self.warn(&format!("{host}/{repository} is read from {}, {what} in {}", place.shown(), source.table));
        }
    }

    fn note_failed(&self, (host, repository): (&Host, &Repository), place: &Place, error: &Error) {
        let Some((_, source)) = &place.source else { return };
        if source.mirror && !place.endpoint.has_answered() {
            lock(&self.known().unreachable).insert(source.host.clone());
        }
        if self.is_new(source, false) {
            let (shown, error) = (place.shown(), error.flattened());
            self.warn(&format!("{shown} does not serve {host}/{repository}, and the next location is asked: {error}"));
        }
    }

    fn is_new(&self, source: &PullSource, good: bool) -> bool {
        lock(&self.known().told).insert((source.table.clone(), source.host.clone(), good))
    }

    fn warn(&self, warning: &str) {
        let settings = self.settings();
        settings.run.warn_once(&*settings.progress, warning);
    }

    /// The endpoint of `host`, spoken to as `name` is, the host in the references that lead there.
    fn endpoint_of(&self, name: &Host, host: &Host, insecure: bool, once: bool) -> Result<Arc<Endpoint>> {
        let usual = self.manner_of(name);
        let is_told = self.0.tls_of(name).is_some() || !self.settings().heed_insecure;
        let insecure = insecure && !is_told && usual.settings.tls == Tls::Verified;
        let is_special = |host: &Host| self.0.special.contains_key(host);
        let settings_of = (name != host && (is_special(name) || is_special(host))).then(|| name.clone());
        let key = EndpointKey { host: host.clone(), settings_of, insecure, once };
        let mut endpoints = lock(&self.0.endpoints);
        if let Some(known) = endpoints.get(&key) {
            return Ok(known.clone());
        }
        let mut settings = (*usual.settings).clone();
        if once {
            settings.retry = Retry { times: 0, ..settings.retry };
        }
        let manner = match insecure {
            true => HostClient::new(Settings { tls: Tls::Unverified, ..settings })?,
            false => HostClient { http: usual.http.clone(), settings: Arc::new(settings) },
        };
        Ok(endpoints.entry(key).or_insert_with(|| manner.endpoint(host)).clone())
    }
}

impl Place {
    /// `HOST/REPOSITORY`
    fn shown(&self) -> String {
        format!("{}/{}", self.endpoint.host(), self.repository)
    }
}

fn refused(blocked: String) -> Error {
    Error::refused(blocked).hint("leave the image out, or change that file; for another one: --registries-conf FILE")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
