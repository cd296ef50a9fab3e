//! The client of one run, and what it knows of each host.

pub(crate) mod authenticate;
pub(crate) mod endpoint;
pub(crate) mod exchange;
pub(crate) mod pieces;
pub(crate) mod places;
pub(crate) mod referrers_support;
pub(crate) mod skipped_tags;
pub(crate) mod upload_rules;

use super::http::transport::Transport;
use crate::error::Result;
use crate::oci::Host;
use endpoint::Endpoint;
use places::{EndpointKey, Places};
use skipped_tags::Warned;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::http::settings::{Settings, Tls};

/// A client for any number of registries. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) usual: HostClient,
    pub(crate) special: HashMap<Host, HostClient>,
    /// Of hosts whose `tls` was said for them alone.
    pub(crate) tls: HashMap<Host, Tls>,
    pub(crate) endpoints: Mutex<HashMap<EndpointKey, Arc<Endpoint>>>,
    pub(crate) places: Places,
    pub(crate) warned: Warned,
}

impl Shared {
    /// What was said of this host alone.
    pub(crate) fn tls_of(&self, host: &Host) -> Option<Tls> {
        self.tls.get(host).copied()
    }
}

/// How a host is spoken to. Hosts with settings of their own have connections of their own.
#[derive(Clone)]
pub(crate) struct HostClient {
    pub(crate) http: Arc<Transport>,
    pub(crate) settings: Arc<Settings>,
}

impl Client {
    /// A client; nothing is contacted yet.
    pub fn new(settings: Settings) -> Result<Client> {
        // Whoever installed one first wins; all are equally good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let special = settings.hosts.iter().map(|(host, own)| Ok((host.clone(), HostClient::new(settings.at(own))?)));
        let special = special.collect::<Result<_>>()?;
        let tls = settings.hosts.iter().filter_map(|(host, own)| Some((host.clone(), own.tls?))).collect();
        Ok(Client(Arc::new(Shared {
            usual: HostClient::new(settings)?,
            special,
            tls,
            endpoints: Mutex::default(),
            places: Places::default(),
            warned: Warned::default(),
        })))
    }

    pub(crate) fn endpoint(&self, host: &Host) -> Arc<Endpoint> {
        let key = EndpointKey { host: host.clone(), settings_of: None, insecure: false, once: false };
        let mut endpoints = self.0.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        endpoints.entry(key).or_insert_with(|| self.manner_of(host).clone().endpoint(host)).clone()
    }

    pub(crate) fn manner_of(&self, host: &Host) -> &HostClient {
        self.0.special.get(host).unwrap_or(&self.0.usual)
    }

    pub(crate) fn known(&self) -> &Places {
        &self.0.places
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.usual.settings
    }

    pub(crate) fn warned(&self) -> &Warned {
        &self.0.warned
    }
}

impl HostClient {
    pub(crate) fn endpoint(self, host: &Host) -> Arc<Endpoint> {
        Arc::new(Endpoint::new(host.clone(), self.http, self.settings))
    }

    pub(crate) fn new(settings: Settings) -> Result<Self> {
        let settings = Arc::new(settings);
        Ok(HostClient { http: Arc::new(Transport::new(settings.clone())?), settings })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
