//! The embedded registry: a store of images as a server of distribution-spec 1.1 over plain HTTP.
//!
//! ```text
//! GET    /v2/                             GET    /v2/_catalog
//! GET    /v2/<name>/tags/list             GET    /v2/<name>/referrers/<digest>
//! GET    /v2/<name>/manifests/<ref>       GET    /v2/<name>/blobs/<digest>
//! POST   /v2/<name>/blobs/uploads/        GET, PATCH, PUT, DELETE /v2/<name>/blobs/uploads/<id>
//! PUT    /v2/<name>/manifests/<ref>       DELETE /v2/<name>/manifests/<ref>
//! ```
//!
//! What it promises beyond the specification, and where it chooses:
//! - Every `GET` has its `HEAD`. `Accept` is not negotiated: a tag means one document, whose exact bytes are sent.
//! - A manifest is in a repository when a name of the repository means it, or an index of the repository reaches
//!   it. Only a `DELETE` by digest takes it away: a tag that is moved or deleted leaves what it meant behind by
//!   digest. What an index of the repository reaches cannot be deleted alone (405).
//! - Blobs belong to the store and not to a repository: whoever knows a digest can read it, and a mount succeeds
//!   whenever the store has the blob. Nobody is authenticated; let it listen on a loopback address, or put a
//!   proxy before it.
//! - Bodies of blobs are never held in memory: 256 KiB for each download in flight, one read of the socket for each
//!   upload. A manifest has at most 4 MiB; of those above 64 KiB four are received at a time.
//!
//! This module must not know whether the store is a layout or a bundle, nor of trust: verify before serving.

mod answer;
mod catalog;
mod manifests;
mod path;
mod range;
mod read;
mod sealed;
mod store;
mod uploads;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, Response};
use axum::routing::any;
use axum::serve::ListenerExt;
use futures_util::StreamExt;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

pub use sealed::SealedStore;
pub use store::{ReadAt, Store, StoredBlob, WritableStore};

use crate::error::{Error, Result};
use answer::{Code, Fault, Reply};
use catalog::Library;
use path::Route;
use uploads::Uploads;

/// A registry over a store.
pub struct Service {
    store: Arc<dyn Store>,
    writer: Option<Arc<dyn WritableStore>>,
    sparse_indexes: bool,
    library: Library,
    uploads: Uploads,
    /// Held from the reading of names to their change.
    naming: Mutex<()>,
    large_manifests: Semaphore,
}

impl Service {
    /// A read-only registry.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Service {
            store,
            writer: None,
            sparse_indexes: true,
            library: Library::default(),
            uploads: Uploads::default(),
            naming: Mutex::default(),
            large_manifests: Semaphore::new(LARGE_AT_A_TIME),
        }
    }

    /// A registry that can be pushed to.
    ///
    /// # Errors
    /// What the store says against being written to: a sealed bundle is `Refused`.
    pub fn writable(store: Arc<impl WritableStore>) -> Result<Self> {
        store.sweep()?;
        Ok(Service { writer: Some(store.clone()), ..Service::new(store) })
    }

    /// Whether an index may be pushed without all of its children (the default: yes).
    #[must_use]
    pub fn sparse_indexes(mut self, allowed: bool) -> Self {
        self.sparse_indexes = allowed;
        self
    }

    /// The routes, all below `/v2/`. They can be wrapped in layers and merged with others.
    pub fn router(self) -> Router {
        let base = async |State(service): State<Arc<Service>>, request: Request| {
            service.handle(Ok(String::new()), request).await
        };
        let below =
            async |State(service): State<Arc<Service>>, path: Result<Path<String>, PathRejection>, request: Request| {
                service.handle(path.map(|Path(path)| path), request).await
            };
        Router::new()
            .route("/v2", any(base))
            .route("/v2/", any(base))
            .route("/v2/{*path}", any(below))
            .with_state(Arc::new(self))
    }

    async fn handle(&self, path: Result<String, PathRejection>, request: Request) -> Response<Body> {
        let method = request.method().clone();
        let asked = request.uri().path().to_owned();
        let mut response = match self.answer(path, request).await {
            Ok(response) => response,
            Err(fault) => fault.into_response(),
        };
        response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
        tracing::info!(%method, path = asked, status = response.status().as_u16(), "request");
        response
    }

    async fn answer(&self, path: Result<String, PathRejection>, request: Request) -> Reply {
        let (head, body) = request.into_parts();
        let mut body = Some(body);
        let answer = async {
            let path = path.map_err(|_| Fault::bad(Code::NameInvalid, "the path is not UTF-8"))?;
            let route = Route::parse(&path)?;
            let read = matches!(head.method, Method::GET | Method::HEAD);
            match route {
                Route::Base if read => read::base(),
                Route::Catalog if read => self.repositories(&head),
                Route::Tags(repository) if read => self.tags(&repository, &head),
                Route::Referrers(repository, digest) if read => self.referrers(&repository, digest, &head),
                Route::Manifest(repository, reference) if read => self.manifest(&repository, &reference),
                Route::Blob(_, digest) if read => self.blob(digest, &head),
                Route::Upload(..) | Route::Uploads(_) | Route::Manifest(..) => {
                    let writer = self.writer.clone().ok_or_else(Fault::read_only)?;
                    match route {
                        Route::Manifest(repository, reference) => {
                            self.change_manifest(writer, repository, reference, &head, &mut body).await
                        }
                        Route::Uploads(repository) => self.start_upload(writer, repository, &head, &mut body).await,
                        Route::Upload(repository, id) => {
                            self.continue_upload(writer, repository, &id, &head, &mut body).await
                        }
                        _ => Err(Fault::method("GET, HEAD")),
                    }
                }
                _ if self.writer.is_none() => Err(Fault::read_only()),
                _ => Err(Fault::method("GET, HEAD")),
            }
        }
        .await;
        if answer.is_err()
            && let Some(body) = body
        {
            drain(body).await;
        }
        answer
    }
}

/// Answers requests until `shutdown`, then waits at most ten seconds for those in flight.
///
/// # Errors
/// `Io` when the listener fails.
pub async fn serve(listener: tokio::net::TcpListener, router: Router, shutdown: CancellationToken) -> Result<()> {
    let listener = listener.tap_io(|stream| {
        // Small answers must not wait for the acknowledgement of earlier ones.
        let _ = stream.set_nodelay(true);
    });
    let server = axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    tokio::select! {
        ended = server => ended.map_err(|e| Error::io("the registry cannot listen any more", e)),
        () = async { shutdown.cancelled().await; tokio::time::sleep(GRACE).await } => Ok(()),
    }
}

/// Reads on for a while after an error: a client that still sends when the connection closes would see a reset
/// and not the error.
async fn drain(body: Body) {
    let mut stream = body.into_data_stream();
    let read = async {
        let mut count = 0;
        while let Some(Ok(chunk)) = stream.next().await {
            count += chunk.len();
            if count > DRAIN {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIME, read).await;
}

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const LARGE_AT_A_TIME: usize = 4;
const GRACE: Duration = Duration::from_secs(10);
/// The pieces in which clients upload are not larger.
const DRAIN: usize = 16 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(5);
