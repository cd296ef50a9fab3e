//! One registry host: what is known of it, and which scheme it speaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::{Method, StatusCode};
use tokio::sync::{Mutex, OnceCell};
use url::Url;

use super::referrers_support::ReferrersSupport;
use super::upload_rules::UploadRules;
use crate::error::Error;
use crate::oci::Host;
use crate::registry::auth::Auth;
use crate::registry::http::buffers::Buffers;
use crate::registry::http::call::{Access, Call, CallTarget, Payload};
use crate::registry::http::error::{self, FirstContact};
use crate::registry::http::limits::ConcurrencyLimiter;
use crate::registry::http::retry::{AttemptError, Budget};
use crate::registry::http::server::RemoteServer;
use crate::registry::http::settings::{Settings, Tls};
use crate::registry::http::transport::Transport;

/// One registry host.
pub(crate) struct Endpoint {
    host: Host,
    http: Arc<Transport>,
    settings: Arc<Settings>,
    /// Scheme and authority, once it is known which scheme is spoken.
    base: OnceCell<Url>,
    answered: AtomicBool,
    auth: Auth,
    gate: Arc<ConcurrencyLimiter>,
    uploads: UploadRules,
    /// Whether it has the referrers API, as far as that is known.
    referrers_api: Mutex<ReferrersSupport>,
}

/// A registry answers by one of the schemes.
struct Answered {
    base: Url,
    /// An error if it wants a login in a way that is refused: another scheme does not change that.
    informed: Result<(), AttemptError>,
}

impl Answered {
    fn base(self) -> Result<Url, AttemptError> {
        self.informed.map(|()| self.base)
    }
}

impl Endpoint {
    pub(crate) fn new(host: Host, http: Arc<Transport>, settings: Arc<Settings>) -> Self {
        let gate = Arc::new(ConcurrencyLimiter::new(settings.jobs, settings.retry.delay));
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

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn gate(&self) -> &Arc<ConcurrencyLimiter> {
        &self.gate
    }

    pub(crate) fn http(&self) -> &Transport {
        &self.http
    }

    /// Who answers at `url`. Before it is known which scheme is spoken only the registry itself is asked.
    pub(crate) fn peer(&self, url: &Url) -> RemoteServer {
        self.base
            .get()
            .map_or_else(|| RemoteServer::registry(&self.host), |base| RemoteServer::at(url, &self.host, base))
    }

    /// It has answered, so that it is there.
    pub(crate) fn note_answer(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// Whether it has answered in this run.
    pub(crate) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    pub(crate) fn auth(&self) -> &Auth {
        &self.auth
    }

    /// How it takes blobs, as far as this run has found out.
    pub(crate) fn uploads(&self) -> &UploadRules {
        &self.uploads
    }

    /// Whether it has the referrers API, as far as that is known.
    pub(crate) fn referrers_api(&self) -> &Mutex<ReferrersSupport> {
        &self.referrers_api
    }

    /// Room for the pieces of uploads.
    pub(crate) fn buffers(&self) -> Arc<Buffers> {
        self.settings.run.buffers()
    }

    pub(crate) fn budget(&self) -> Budget {
        Budget::new(&self.settings)
    }

    pub(crate) fn first(&self) -> FirstContact {
        match self.has_answered() {
            true => FirstContact::No,
            false => FirstContact::Contact,
        }
    }

    /// Scheme and authority. Where two schemes are allowed, the first that answers as a registry does is kept.
    pub(crate) async fn base(&self) -> Result<&Url, AttemptError> {
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
                    Err(failure) if *second == "https" && !(refused.is_temporary() && failure.says(error::NOT_TLS)) => {
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

    async fn probe(&self, scheme: &str) -> Result<Answered, AttemptError> {
        let base = self.url(scheme)?;
        let url = base.join("/v2/").expect("a constant path");
        let call = Call::new(Method::GET, CallTarget::Url(url.clone()), Access::None, format!("reach {}", self.host));
        let response = self.exchange(&call, url, Payload::Nothing).await?;
        match response.status() {
            // What TLS servers answer to plain requests.
            StatusCode::BAD_REQUEST => Err(response.refusal().await),
            _ => Ok(Answered { informed: self.inform(&response), base }),
        }
    }

    fn url(&self, scheme: &str) -> Result<Url, AttemptError> {
        let authority = self.host.contacted();
        let url = Url::parse(&format!("{scheme}://{authority}/")).map_err(|e| {
            AttemptError::permanent(Error::registry(format!("{} cannot be contacted", self.host)).caused_by(e))
        })?;
        match url.host_str() {
            Some(contacted) if !is_as_written(&self.host, contacted) => {
                let hint = format!("write a host name, or the whole address: {contacted}");
                let error = Error::usage(format!("{} is neither a host name nor an address", self.host));
                Err(AttemptError::permanent(error.hint(hint)))
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
