//! One registry host: what is known of it, and which scheme it speaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::{Method, StatusCode};
use tokio::sync::{Mutex, OnceCell};
use url::Url;

use super::auth::Auth;
use super::call::{Access, Call, Payload, Target};
use super::fault::{self, First};
use super::limits::Gate;
use super::peer::Peer;
use super::pieces::Buffers;
use super::referrers::Support;
use super::retry::{Budget, Failure};
use super::transport::Transport;
use super::upload_rules::UploadRules;
use super::{Settings, Tls};
use crate::error::Error;
use crate::oci::Host;

/// One registry host.
pub(super) struct Endpoint {
    host: Host,
    http: Arc<Transport>,
    settings: Arc<Settings>,
    /// Scheme and authority, once it is known which scheme is spoken.
    base: OnceCell<Url>,
    answered: AtomicBool,
    auth: Auth,
    gate: Arc<Gate>,
    uploads: UploadRules,
    /// Whether it has the referrers API, as far as that is known.
    referrers_api: Mutex<Support>,
}

/// A registry answers by one of the schemes.
struct Answered {
    base: Url,
    /// An error if it wants a login in a way that is refused: another scheme does not change that.
    informed: Result<(), Failure>,
}

impl Answered {
    fn base(self) -> Result<Url, Failure> {
        self.informed.map(|()| self.base)
    }
}

impl Endpoint {
    pub(super) fn new(host: Host, http: Arc<Transport>, settings: Arc<Settings>) -> Self {
        let gate = Arc::new(Gate::new(settings.jobs, settings.retry.delay));
        let auth = Auth::new(host.clone(), http.clone(), settings.clone());
        Endpoint {
            host,
            http,
            settings,
            base: OnceCell::new(),
            answered: AtomicBool::new(false),
            auth,
            gate,
            uploads: UploadRules::default(),
            referrers_api: Mutex::default(),
        }
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    pub(super) fn http(&self) -> &Transport {
        &self.http
    }

    /// Who answers at `url`. Before it is known which scheme is spoken only the registry itself is asked.
    pub(super) fn peer(&self, url: &Url) -> Peer {
        self.base.get().map_or_else(|| Peer::registry(&self.host), |base| Peer::at(url, &self.host, base))
    }

    /// It has answered, so that it is there.
    pub(super) fn note_answer(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// Whether it has answered in this run.
    pub(super) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    pub(super) fn auth(&self) -> &Auth {
        &self.auth
    }

    /// How it takes blobs, as far as this run has found out.
    pub(super) fn uploads(&self) -> &UploadRules {
        &self.uploads
    }

    /// Whether it has the referrers API, as far as that is known.
    pub(super) fn referrers_api(&self) -> &Mutex<Support> {
        &self.referrers_api
    }

    /// Room for the pieces of uploads.
    pub(super) fn buffers(&self) -> Arc<Buffers> {
        self.settings.run.buffers()
    }

    pub(super) fn budget(&self) -> Budget {
        Budget::new(&self.settings)
    }

    pub(super) fn first(&self) -> First {
        match self.has_answered() {
            true => First::No,
            false => First::Contact,
        }
    }

    /// Scheme and authority. Where two schemes are allowed, the first that answers as a registry does is kept.
    pub(super) async fn base(&self) -> Result<&Url, Failure> {
        self.base
            .get_or_try_init(async || {
                let candidates = self.schemes();
                let [first, second] = candidates else { return self.url(candidates[0]) };
                let refused = match self.probe(first).await {
                    Ok(answered) => return answered.base(),
                    Err(failure) => failure,
                };
                match self.probe(second).await {
                    Ok(answered) => answered.base(),
                    // Where the port itself is closed both say the same; else the one that got further says more.
                    // That plain HTTP was cut is no proof of TLS.
                    Err(failure) if *second == "https" && !(refused.may_pass() && failure.says(fault::NOT_TLS)) => {
                        Err(failure)
                    }
                    Err(_) => Err(refused),
                }
            })
            .await
    }

    fn schemes(&self) -> &'static [&'static str] {
        match (self.settings.tls, self.host.is_loopback()) {
            // Plain servers are the rule there, and the probe carries nothing that is secret.
            (_, true) if !self.host.as_str().ends_with(":443") => &["http", "https"],
            (Tls::Verified, false) => &["https"],
            _ => &["https", "http"],
        }
    }

    async fn probe(&self, scheme: &str) -> Result<Answered, Failure> {
        let base = self.url(scheme)?;
        let url = base.join("/v2/").expect("a constant path");
        let call = Call::new(Method::GET, Target::Url(url.clone()), Access::None, format!("reach {}", self.host));
        let response = self.exchange(&call, url, Payload::Nothing).await?;
        match response.status() {
            // What TLS servers answer to plain requests.
            StatusCode::BAD_REQUEST => Err(response.refusal().await),
            _ => Ok(Answered { informed: self.inform(&response), base }),
        }
    }

    fn url(&self, scheme: &str) -> Result<Url, Failure> {
        let authority = self.host.contacted();
        let url = Url::parse(&format!("{scheme}://{authority}/")).map_err(|e| {
            Failure::lasting(Error::registry(format!("{} cannot be contacted", self.host)).caused_by(e))
        })?;
        match url.host_str() {
            Some(contacted) if !is_as_written(&self.host, contacted) => {
                let hint = format!("write a host name, or the whole address: {contacted}");
                let error = Error::usage(format!("{} is neither a host name nor an address", self.host));
                Err(Failure::lasting(error.hint(hint)))
            }
            _ => Ok(url),
        }
    }
}

/// Whether `contacted`, the host of a URL, is the one that was written. The URL standard rewrites names that end in a
/// number: `1.2` becomes 1.0.0.2, `010.0.0.1` becomes 8.0.0.1 (WHATWG URL, "ends in a number checker").
fn is_as_written(host: &Host, contacted: &str) -> bool {
    match contacted.parse::<std::net::Ipv4Addr>() {
        Ok(_) => contacted == host.name(),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("1.2", "1.0.0.2")]
    #[case("1:2", "0.0.0.1")]
    #[case("127.1:5000", "127.0.0.1")]
    #[case("010.0.0.1", "8.0.0.1")]
    #[case("0x7f.1", "127.0.0.1")]
    fn a_numeric_host_is_never_rewritten(#[case] host: &str, #[case] address: &str) {
        let url = Url::parse(&format!("https://{host}/")).unwrap();
        assert_eq!(url.host_str(), Some(address), "what the URL standard makes of it");
        assert!(!is_as_written(&host.parse().unwrap(), address));
    }

    #[rstest]
    #[case("10.0.0.1:5000")]
    #[case("REG.example")]
    #[case("1password.com")]
    #[case("[::1]:5000")]
    fn other_hosts_are_contacted_as_they_are_written(#[case] host: &str) {
        let url = Url::parse(&format!("https://{host}/")).unwrap();
        assert!(is_as_written(&host.parse().unwrap(), url.host_str().unwrap()));
    }
}
