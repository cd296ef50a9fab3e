//! HTTP to a registry: connections, TLS, proxies, limits, retries, answers and errors.

pub(crate) mod buffers;
pub(crate) mod call;
pub(crate) mod error;
pub(crate) mod header;
pub(crate) mod limits;
pub(crate) mod link;
pub(crate) mod proxies;
pub(crate) mod rate;
pub(crate) mod redirect;
pub(crate) mod response;
pub(crate) mod retry;
pub(crate) mod run_state;
pub(crate) mod server;
pub(crate) mod settings;
pub(crate) mod stall;
pub(crate) mod tls;
pub(crate) mod transport;
