//! TLS in front of a server that speaks none, as a load balancer has it: what is behind can be a [`FaultProxy`].
//!
//! [`FaultProxy`]: crate::FaultProxy

use std::io;
use std::sync::Arc;
use std::thread;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::tls::Pair;

/// A running front on a loopback port; it ends with the test's process.
#[derive(Debug)]
pub struct TlsFront {
    host: String,
}

impl TlsFront {
    /// In front of the server at `upstream` (`127.0.0.1:PORT`), with this certificate.
    pub fn start(pair: &Pair, upstream: &str) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(config(pair)));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        listener.set_nonblocking(true).expect("a socket can be made so");
        let host = listener.local_addr().expect("a bound socket has an address").to_string();
        let upstream = upstream.to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
        thread::spawn(move || {
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listening socket");
                while let Ok((client, _)) = listener.accept().await {
                    // An error here is a client or server that went away, which is for the test to notice.
                    tokio::spawn(pass(acceptor.clone(), client, upstream.clone()));
                }
            });
        });
        Self { host }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }
}

async fn pass(acceptor: TlsAcceptor, client: TcpStream, upstream: String) -> io::Result<()> {
    let mut client = acceptor.accept(client).await?;
    let mut upstream = TcpStream::connect(upstream).await?;
    copy_bidirectional(&mut client, &mut upstream).await.map(drop)
}

fn config(pair: &Pair) -> ServerConfig {
    let certificates = CertificateDer::pem_file_iter(&pair.certificate).expect("a certificate");
    let chain = certificates.collect::<Result<Vec<_>, _>>().expect("a chain in PEM form");
    let key = PrivateKeyDer::from_pem_file(&pair.key).expect("a key in PEM form");
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they go together")
}
