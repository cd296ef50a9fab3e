//! The referrers API (distribution-spec 1.1, "Listing Referrers"), and whether a registry has it.
//!
//! The specification wants 404 from registries without it. Others answer with 400, 403, 406 or 500, with nothing, or with
//! a web page. So every answer that is not a list says that there is no API, except those that ask for a login or for
//! patience. A list, and a plain "no", holds for the whole registry. An unusual "no" may be a fault of one repository, so
//! that it holds for that repository only: see [`ReferrersSupport`].

use reqwest::StatusCode;
use reqwest::header::ACCEPT;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::documents::{document_call, fetch, read_document};
use super::pages::{Listed, Page, Pages};
use crate::error::{Error, Result};
use crate::oci::{Descriptor, Digest, Document, Host, MediaType, Repository, Selector, Tag, json};
use crate::progress::Event;
use crate::registry::client::Client;
use crate::registry::client::endpoint::Endpoint;
use crate::registry::client::referrers_support::{ReferrersAnswer, ReferrersSupport};
use crate::registry::http::call::{Access, Call};
use crate::registry::http::error::Unreadable;
use crate::registry::http::response::Response;

/// What is under the tag at which clients list the referrers of a subject where there is no API.
pub(crate) enum TagList {
    /// Nothing.
    Absent,
    /// This.
    Found(Box<Document>),
    /// The subject itself: GitLab reads sha256-<hex> as the digest (oras-project/oras-go issue 1396).
    Subject,
    /// The registry answers 401 or 403, which some do for tags that are not there.
    Denied(Error),
}

/// The answer of a registry to one question.
enum Answer {
    Referrers(Vec<Descriptor>),
    /// It says that it has no API: with this status, in these words.
    NoApi(StatusCode, Error),
}

/// The manifests whose `subject` is `digest`. Nothing if the registry has no referrers API, or if this repository
/// returns something unusual and no other repository has returned a list yet.
///
/// # Errors
/// `Registry` if the list cannot be read, and for an unusual answer of a registry that has returned a list before.
pub(crate) async fn list_referrers(
    endpoint: &Endpoint,
    repository: &Repository,
    digest: Digest,
) -> Result<Option<Vec<Descriptor>>> {
    let mut support = endpoint.referrers_api().lock().await;
    let answer = match (support.of(repository), &*support) {
        (Some(false), _) => return Ok(None),
        (Some(true), _) => {
            drop(support);
            match ask(endpoint, repository, digest, Retry::Yes).await? {
                // One repository may be served by another program, which says so plainly.
                Answer::NoApi(status, error) if !says_so_plainly(status) => return Err(error),
                answer => answer,
            }
        }
        (None, ReferrersSupport::Doubtful(_)) => {
            drop(support);
            // A registry that answers 500 to all such questions has cost the pauses between retries once.
            let answer = ask(endpoint, repository, digest, Retry::No).await?;
            endpoint.referrers_api().lock().await.learn(repository, answer.kind());
            answer
        }
        // The others wait for this answer.
        (None, _) => {
            let answer = ask(endpoint, repository, digest, Retry::Yes).await?;
            if let Answer::NoApi(status, error) = &answer {
                warn(endpoint, *status, error);
            }
            support.learn(repository, answer.kind());
            answer
        }
    };
    Ok(match answer {
        Answer::Referrers(referrers) => Some(referrers),
        Answer::NoApi(..) => None,
    })
}

impl Answer {
    fn kind(&self) -> ReferrersAnswer {
        match self {
            Answer::Referrers(_) => ReferrersAnswer::List,
            Answer::NoApi(status, _) if says_so_plainly(*status) => ReferrersAnswer::PlainNo,
            Answer::NoApi(..) => ReferrersAnswer::UnusualNo,
        }
    }
}

impl Client {
    /// Whether the registry lists referrers itself; `subject` is asked about if that is not known yet.
    pub(crate) async fn has_referrers_api(
        &self,
        host: &Host,
        repository: &Repository,
        subject: Digest,
    ) -> Result<bool> {
        let known = self.endpoint(host).referrers_api().lock().await.of(repository);
        match known {
            Some(known) => Ok(known),
            None => Ok(list_referrers(&self.endpoint(host), repository, subject).await?.is_some()),
        }
    }

    /// What is under the tag for the referrers of `subject`.
    pub(crate) async fn referrers_tag(&self, host: &Host, repository: &Repository, subject: Digest) -> Result<TagList> {
        let endpoint = self.endpoint(host);
        let selector = Selector::Tag(fallback_tag(subject));
        let call = document_call(&endpoint, repository, &selector);
        let read = endpoint
            .budget()
            .run(async || match fetch(&endpoint, &call).await {
                Ok(served) => Ok(Ok(served)),
                Err(failure) if failure.is_not_found() => Ok(Err(TagList::Absent)),
                Err(failure) if failure.is_denied() => Ok(Err(TagList::Denied(failure.into_error()))),
                Err(failure) => Err(failure),
            })
            .await?;
        let document = match read {
            Ok(served) => read_document(host, repository, &selector, served)?,
            Err(other) => return Ok(other),
        };
        Ok(if document.digest() == subject { TagList::Subject } else { TagList::Found(Box::new(document)) })
    }
}

/// The tag under which clients look for the referrers of `subject`.
pub(crate) fn fallback_tag(subject: Digest) -> Tag {
    format!("sha256-{}", subject.hex()).parse().expect("hex digits are a tag")
}

/// Whether an answer that says that there is no API, and may pass, is asked for again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Retry {
    Yes,
    No,
}

/// Asks for the referrers of one digest.
async fn ask(endpoint: &Endpoint, repository: &Repository, digest: Digest, retry: Retry) -> Result<Answer> {
    let host = endpoint.host();
    let what = format!("read the referrers of {host}/{repository}@{digest}");
    let path = format!("{repository}/referrers/{digest}");
    let call = Call::get(path, Access::Pull(repository.clone()), &what).header(ACCEPT, MediaType::OCI_INDEX);
    let mut pages = Pages::new(endpoint, call).no_list(is_no_list);
    if retry == Retry::No {
        pages = pages.no_list_at_once();
    }
    let mut found: Vec<Descriptor> = Vec::new();
    let mut is_first = true;
    let mut bytes = 0;
    loop {
        let listed = pages.next().await?;
        if let Listed::Page(page) = &listed {
            bytes += page.body.len();
        }
        match listed {
            Listed::End => return Ok(Answer::Referrers(found)),
            Listed::NoList(status, error) => return Ok(Answer::NoApi(status, error)),
            Listed::Page(page) => match referrers(page, &what)? {
                Ok(referrers) => found.extend(referrers.into_iter().map(without_annotations)),
                Err(error) if is_first => return Ok(Answer::NoApi(StatusCode::OK, error)),
                Err(error) => return Err(error),
            },
        }
        if found.len() > MAX_REFERRERS || bytes > MAX_BYTES {
            let what = format!(
                "{host}/{repository}@{digest} has more than {MAX_REFERRERS} referrers, or a list of more than {MAX_BYTES} bytes"
            );
            return Err(Error::refused(what));
        }
        is_first = false;
    }
}

/// Whether an answer to the first request says that there is no API. 500 says so after the last retry only.
fn is_no_list(response: &Response) -> bool {
    match response.status().as_u16() {
        204 | 400 | 403 | 404 | 405 | 406 | 500 | 501 => true,
        // Harbor 2.7 (regclient pull request 389): who wants a login says how to log in.
        401 => !response.challenges(),
        _ => false,
    }
}

/// Whether a status means nothing else than that there is no such list.
fn says_so_plainly(status: StatusCode) -> bool {
    matches!(status.as_u16(), 204 | 404 | 405 | 501)
}

/// The referrers on one page, or why it is not an OCI index.
///
/// # Errors
/// `Registry` for an index that cannot be read.
fn referrers(page: Page, what: &str) -> Result<Result<Vec<Descriptor>, Error>> {
    #[derive(Deserialize)]
    struct Index {
        #[serde(default)]
        manifests: Option<Vec<Descriptor>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        #[serde(default)]
        media_type: Option<MediaType>,
        #[serde(default)]
        manifests: Option<IgnoredAny>,
    }
    let no_index = || Error::registry(format!("cannot {what}: the answer with status 200 is not an OCI index"));
    match page.unreadable {
        Some(Unreadable::WebPage(error)) => return Ok(Err(error)),
        Some(Unreadable::Packed(error)) => return Err(error),
        None => {}
    }
    // Some registries send an index as text/plain (google/go-containerregistry issue 1760), so that the body decides. One
    // that is said to be an index and breaks off is a damaged list.
    let is_index = |media_type: &MediaType| media_type.as_str() == MediaType::OCI_INDEX;
    let is_object = page.body.trim_ascii_start().starts_with(b"{");
    let shape: Option<Shape> = is_object.then(|| serde_json::from_slice(&page.body).ok()).flatten();
    let has_list = || page.body.windows(LIST.len()).any(|window| window == LIST);
    let claims = match &shape {
        Some(shape) if shape.manifests.is_some() || shape.media_type.as_ref().is_some_and(is_index) => true,
        Some(_) => is_index(&page.media_type) && has_list(),
        None => is_index(&page.media_type) && is_object,
    };
    if !claims {
        return Ok(Err(no_index()));
    }
    let index: Index = json::from_slice(&page.body).map_err(|e| {
        Error::registry(format!("cannot {what}: the list is not an OCI index that can be read"))
            .caused_by(e)
            .hint("a proxy in between may alter answers; the registry's log may say more")
    })?;
    Ok(Ok(index.manifests.unwrap_or_default()))
}

/// Says, once for each host, that an unusual answer is taken as "no API": referrers that only an API lists would be
/// missed.
fn warn(endpoint: &Endpoint, status: StatusCode, error: &Error) {
    if says_so_plainly(status) {
        return;
    }
    let host = endpoint.host();
    endpoint.settings().progress.event(Event::Warning(&format!(
        "{host} seems to have no referrers API ({}); signatures, SBOMs and attestations are looked for under tags only",
        error.chain()
    )));
}

/// What is planned from: annotations of referrers are in their manifests, too.
fn without_annotations(descriptor: Descriptor) -> Descriptor {
    Descriptor { annotations: None, ..descriptor }
}

const MAX_REFERRERS: usize = 10_000;
/// Of all pages of one list, 16 MiB.
const MAX_BYTES: usize = 16 << 20;
/// The key of an index's list, which may be null.
const LIST: &[u8] = b"\"manifests\"";
