//! Upload sessions (distribution-spec, "Pushing blobs"): a file in the store that grows, hashed as it is written.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::header;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use futures_util::StreamExt;
use serde::Deserialize;

use super::answer::{Code, DOCKER_CONTENT_DIGEST, DOCKER_UPLOAD_UUID, Fault, Headers, Reply, empty};
use super::read::query;
use super::store::WritableStore;
use super::{Service, path, range};
use crate::error::{Error, Kind};
use crate::layout::Ingest;
use crate::oci::{Digest, Repository};

/// The sessions of a service, in memory: a restart ends them all.
#[derive(Default)]
pub(super) struct Uploads {
    sessions: Mutex<HashMap<String, Arc<Session>>>,
}

struct Session {
    repository: Repository,
    /// Bytes received; beside the ingest, so that a status can be told while bytes arrive.
    received: AtomicU64,
    touched: Mutex<Instant>,
    /// Taken by the request that ends the session.
    ingest: tokio::sync::Mutex<Option<Ingest>>,
}

impl Uploads {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, repository: Repository, writer: &dyn WritableStore) -> Result<String, Fault> {
        let mut sessions = self.lock();
        sessions.retain(|_, session| session.idle() < EXPIRY || session.ingest.try_lock().is_err());
        if sessions.len() >= MAX_SESSIONS {
            return Err(Fault::new(
                StatusCode::TOO_MANY_REQUESTS,
                Code::TooManyRequests,
                format!("{MAX_SESSIONS} uploads are under way"),
            )
            .header(header::RETRY_AFTER, "10"));
        }
        let mut ingest = writer.ingest()?;
        ingest.park();
        let id = random_id()?;
        let session = Session {
            repository,
            received: AtomicU64::new(0),
            touched: Mutex::new(Instant::now()),
            ingest: tokio::sync::Mutex::new(Some(ingest)),
        };
        sessions.insert(id.clone(), Arc::new(session));
        Ok(id)
    }

    fn get(&self, repository: &Repository, id: &str) -> Result<Arc<Session>, Fault> {
        let session = self.lock().get(id).filter(|session| session.repository == *repository).cloned();
        let session = session.filter(|session| session.idle() < EXPIRY).ok_or_else(unknown)?;
        session.touch();
        Ok(session)
    }

    fn end(&self, id: &str) {
        self.lock().remove(id);
    }
}

impl Session {
    fn idle(&self) -> Duration {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    fn touch(&self) {
        *self.touched.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Where the client is to go on. An empty upload is `0-0`, as other registries say it.
    fn headers(&self, id: &str) -> Headers {
        let last = self.received.load(Ordering::Acquire).saturating_sub(1);
        vec![
            (header::LOCATION, format!("/v2/{}/blobs/uploads/{id}", self.repository)),
            (header::RANGE, format!("0-{last}")),
            (DOCKER_UPLOAD_UUID, id.to_owned()),
        ]
    }
}

#[derive(Deserialize)]
struct Asked {
    digest: Option<String>,
    mount: Option<String>,
}

impl Service {
    /// `POST`: a mount, a whole blob at once, or a new session.
    pub(super) async fn start_upload(
        &self,
        writer: Arc<dyn WritableStore>,
        repository: Repository,
        head: &Parts,
        body: &mut Option<Body>,
    ) -> Reply {
        if head.method != Method::POST {
            return Err(Fault::method("POST"));
        }
        let Asked { digest, mount } = query(head)?;
        if let Some(mount) = mount {
            let digest = path::digest(&mount)?;
            // Blobs are the store's: from where is of no interest.
            if self.store.size(digest).is_ok() {
                return Ok(created(&repository, digest));
            }
        }
        let Some(digest) = digest else {
            let id = self.uploads.start(repository.clone(), &*writer)?;
            let session = self.uploads.get(&repository, &id)?;
            return Ok(empty(StatusCode::ACCEPTED, session.headers(&id)));
        };
        let digest = path::digest(&digest)?;
        let mut ingest = writer.ingest()?;
        receive(&mut ingest, &AtomicU64::new(0), body, length(head)?).await?;
        commit(writer, ingest, digest).await?;
        Ok(created(&repository, digest))
    }

    /// `GET`, `PATCH`, `PUT` and `DELETE` on a session.
    pub(super) async fn continue_upload(
        &self,
        writer: Arc<dyn WritableStore>,
        repository: Repository,
        id: &str,
        head: &Parts,
        body: &mut Option<Body>,
    ) -> Reply {
        let session = self.uploads.get(&repository, id)?;
        match head.method {
            Method::GET | Method::HEAD => Ok(empty(StatusCode::NO_CONTENT, session.headers(id))),
            Method::DELETE => {
                let mut ingest = session.ingest.try_lock().map_err(|_| busy())?;
                self.uploads.end(id);
                *ingest = None;
                Ok(empty(StatusCode::NO_CONTENT, Vec::new()))
            }
            Method::PATCH => {
                let mut ingest = session.ingest.try_lock().map_err(|_| busy())?;
                self.append(&session, id, &mut ingest, head, body).await?;
                Ok(empty(StatusCode::ACCEPTED, session.headers(id)))
            }
            Method::PUT => {
                let Asked { digest, .. } = query(head)?;
                let digest = digest.ok_or_else(|| Fault::bad(Code::DigestInvalid, "the query has no digest"))?;
                let digest = path::digest(&digest)?;
                let mut ingest = session.ingest.try_lock().map_err(|_| busy())?;
                self.append(&session, id, &mut ingest, head, body).await?;
                let whole = ingest.take().ok_or_else(unknown)?;
                self.uploads.end(id);
                commit(writer, whole, digest).await?;
                Ok(created(&repository, digest))
            }
            _ => Err(Fault::method("GET, HEAD, PATCH, PUT, DELETE")),
        }
    }

    /// Takes the body in where the session stands. A cut body leaves the session with what has arrived.
    async fn append(
        &self,
        session: &Session,
        id: &str,
        slot: &mut Option<Ingest>,
        head: &Parts,
        body: &mut Option<Body>,
    ) -> Result<(), Fault> {
        let ingest = slot.as_mut().ok_or_else(unknown)?;
        let mut expected = length(head)?;
        if let Some(text) = head.headers.get(header::CONTENT_RANGE) {
            let (first, last) =
                text.to_str().ok().and_then(range::piece).ok_or_else(|| {
                    Fault::bad(Code::BlobUploadInvalid, "Content-Range is not of the form first-last")
                })?;
            if first != ingest.count() {
                let fault = Fault::new(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    Code::BlobUploadInvalid,
                    format!("the upload goes on at byte {}", ingest.count()),
                );
                return Err(session
                    .headers(id)
                    .into_iter()
                    .fold(fault, |fault, (name, value)| fault.header(name, value)));
            }
            let count = last - first + 1;
            if expected.is_some_and(|length| length != count) {
                return Err(Fault::bad(Code::SizeInvalid, "Content-Range and Content-Length differ"));
            }
            expected = Some(count);
        }
        let outcome = receive(ingest, &session.received, body, expected).await;
        ingest.park();
        session.touch();
        if let Err(Received::Store(_)) | Err(Received::TooLong) = &outcome {
            // What the file holds is not what was hashed, or not what was announced.
            *slot = None;
            self.uploads.end(id);
        }
        Ok(outcome?)
    }
}

/// Why a body was not taken in.
enum Received {
    Cut,
    Short,
    TooLong,
    Store(Error),
}

impl From<Received> for Fault {
    fn from(received: Received) -> Self {
        match received {
            Received::Cut => Fault::bad(Code::BlobUploadInvalid, "the body was cut off"),
            Received::Short => Fault::bad(Code::SizeInvalid, "the body is shorter than announced"),
            Received::TooLong => Fault::bad(Code::SizeInvalid, "the body is longer than announced"),
            Received::Store(e) => e.into(),
        }
    }
}

/// Writes and hashes a body as it arrives. Nothing waits between the write and the count, so that a request that is
/// dropped leaves both in step.
async fn receive(
    ingest: &mut Ingest,
    received: &AtomicU64,
    body: &mut Option<Body>,
    expected: Option<u64>,
) -> Result<(), Received> {
    let mut stream = body.take().unwrap_or_default().into_data_stream();
    let start = ingest.count();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| Received::Cut)?;
        if expected.is_some_and(|expected| ingest.count() - start + chunk.len() as u64 > expected) {
            return Err(Received::TooLong);
        }
        ingest.write(&chunk).map_err(Received::Store)?;
        received.store(ingest.count(), Ordering::Release);
    }
    match expected {
        Some(expected) if ingest.count() - start < expected => Err(Received::Short),
        _ => Ok(()),
    }
}

/// Syncing a large blob takes seconds: not on a thread that serves others.
async fn commit(writer: Arc<dyn WritableStore>, ingest: Ingest, digest: Digest) -> Result<(), Fault> {
    tokio::task::spawn_blocking(move || writer.commit(ingest, digest))
        .await
        .map_err(|e| Error::new(Kind::Io, "a blob could not be put in place").caused_by(e))?
        .map_err(|e| match e.kind() {
            Kind::Damaged => Fault::bad(Code::DigestInvalid, e.to_string()),
            _ => e.into(),
        })
}

fn created(repository: &Repository, digest: Digest) -> axum::http::Response<Body> {
    let headers = vec![
        (header::LOCATION, format!("/v2/{repository}/blobs/{digest}")),
        (DOCKER_CONTENT_DIGEST, digest.to_string()),
    ];
    empty(StatusCode::CREATED, headers)
}

fn length(head: &Parts) -> Result<Option<u64>, Fault> {
    let Some(value) = head.headers.get(header::CONTENT_LENGTH) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| Fault::bad(Code::SizeInvalid, "Content-Length is not a number"))
}

fn random_id() -> Result<String, Fault> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| Error::new(Kind::Io, "the system gives no random numbers").caused_by(e))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn unknown() -> Fault {
    Fault::not_found(Code::BlobUploadUnknown, "there is no such upload, or not any more")
}

fn busy() -> Fault {
    Fault::new(StatusCode::CONFLICT, Code::BlobUploadInvalid, "another request is writing to this upload")
}

const MAX_SESSIONS: usize = 1000;
const EXPIRY: Duration = Duration::from_secs(60 * 60);
