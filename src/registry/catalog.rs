//! What planning asks of a registry: tags, manifests and indexes, referrers.

use std::collections::HashSet;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use url::Url;

use super::call::{Access, Call, Payload, Target};
use super::endpoint::Endpoint;
use super::response::Response;
use super::retry::Failure;
use super::{Client, fault, header};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, DigestFault, Document, Host, MAX_DOCUMENT, MediaType, Repository, Selector, Tag};
use crate::place::{Catalog, Current};

#[async_trait]
impl Catalog for Client {
    async fn tags(&self, host: &Host, repository: &Repository) -> Result<Vec<Tag>> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let what = format!("read the tags of {host}/{repository}");
        let path = format!("{repository}/tags/list?n={}", self.settings().page_size);
        let endpoint = self.endpoint(host);
        let mut pages = Pages::new(&endpoint, Call::get(path, Access::Pull(repository.clone()), &what));
        let mut tags = Vec::new();
        let mut seen = HashSet::new();
        while let Some(page) = pages.next().await? {
            let page: Page = serde_json::from_slice(&page)
                .map_err(|e| fault::protocol(host, "its list of tags is not what it should be").caused_by(e))?;
            for text in page.tags.unwrap_or_default() {
                let tag: Tag = text.parse().map_err(|e| {
                    fault::protocol(host, format!("{repository} has a tag that cannot be one")).caused_by(e)
                })?;
                if seen.insert(tag.clone()) {
                    tags.push(tag);
                }
                if tags.len() > MAX_TAGS {
                    return Err(Error::refused(format!("{host}/{repository} has more than {MAX_TAGS} tags"))
                        .hint("name the tags that are wanted"));
                }
            }
        }
        Ok(tags)
    }

    async fn document(&self, host: &Host, repository: &Repository, selector: &Selector) -> Result<Document> {
        let endpoint = self.endpoint(host);
        let call = document_call(&endpoint, repository, selector);
        let (response, bytes) = endpoint.budget().run(|| fetch(&endpoint, &call)).await?;
        read_document(host, repository, selector, response, bytes)
    }

    async fn current(&self, host: &Host, repository: &Repository, tag: &Tag) -> Result<Option<Current>> {
        let endpoint = self.endpoint(host);
        endpoint.budget().run(|| current(&endpoint, repository, tag)).await
    }

    async fn referrers(&self, host: &Host, repository: &Repository, digest: Digest) -> Result<Option<Vec<Descriptor>>> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            manifests: Option<Vec<Descriptor>>,
        }
        let what = format!("read the referrers of {host}/{repository}@{digest}");
        let path = format!("{repository}/referrers/{digest}");
        let call = Call::get(path, Access::Pull(repository.clone()), what)
            .header(reqwest::header::ACCEPT, MediaType::OCI_INDEX);
        let endpoint = self.endpoint(host);
        let mut pages = Pages::new(&endpoint, call);
        pages.absent_is_fine = true;
        let mut found: Vec<Descriptor> = Vec::new();
        while let Some(page) = pages.next().await? {
            let page: Page = crate::oci::json::from_slice(&page)
                .map_err(|e| fault::protocol(host, "its list of referrers is not what it should be").caused_by(e))?;
            found.extend(page.manifests.unwrap_or_default());
            if found.len() > MAX_REFERRERS {
                return Err(Error::refused(format!(
                    "{host}/{repository}@{digest} has more than {MAX_REFERRERS} referrers"
                )));
            }
        }
        Ok((!pages.absent).then_some(found))
    }

    async fn has_blob(&self, host: &Host, repository: &Repository, digest: Digest) -> Result<bool> {
        let endpoint = self.endpoint(host);
        let what = format!("ask {host}/{repository} for blob {digest}");
        let target = Target::Path(format!("{repository}/blobs/{digest}"));
        let call = Call::new(Method::HEAD, target, Access::Pull(repository.clone()), what);
        let by_get = Call { method: Method::GET, ..call.clone() };
        endpoint
            .budget()
            .run(async || {
                let mut response = endpoint.send(&call, Payload::Nothing).await?;
                if response.knows_no_head() {
                    // Only its head is read.
                    response = endpoint.send(&by_get, Payload::Nothing).await?;
                }
                match response.status() {
                    StatusCode::OK => Ok(true),
                    StatusCode::NOT_FOUND => Ok(false),
                    _ => Err(response.refusal().await),
                }
            })
            .await
    }
}

/// GET of a manifest or an index.
fn document_call(endpoint: &Endpoint, repository: &Repository, selector: &Selector) -> Call {
    let what = format!("read {}/{repository}{selector}", endpoint.host());
    Call::get(document_path(repository, selector), Access::Pull(repository.clone()), what).accept_documents()
}

/// Below `/v2/`; by digest where one is known.
pub(super) fn document_path(repository: &Repository, selector: &Selector) -> String {
    match selector {
        Selector::Tag(tag) => format!("{repository}/manifests/{tag}"),
        Selector::Digest(digest) | Selector::Pinned(_, digest) => format!("{repository}/manifests/{digest}"),
    }
}

/// HEAD of what a tag points to. Nothing where it is not there, or where HEAD tells nothing.
async fn current(endpoint: &Endpoint, repository: &Repository, tag: &Tag) -> Result<Option<Current>, Failure> {
    let host = endpoint.host();
    let target = Target::Path(document_path(repository, &Selector::Tag(tag.clone())));
    let what = format!("look at {host}/{repository}:{tag}");
    let call = Call::new(Method::HEAD, target, Access::Pull(repository.clone()), what).accept_documents();
    let response = endpoint.send(&call, Payload::Nothing).await?;
    match response.status() {
        StatusCode::OK => {
            let said = said_digest(&response, host).map_err(Failure::lasting)?;
            let media_type = MediaType::new(response.header(CONTENT_TYPE).unwrap_or_default());
            Ok(said.map(|digest| Current { digest, media_type }))
        }
        // Where HEAD is unknown it may be answered so, too.
        StatusCode::NOT_FOUND => Ok(None),
        _ if response.knows_no_head() => Ok(None),
        _ => Err(response.refusal().await),
    }
}

/// What `Docker-Content-Digest` says, if it says something about SHA-256.
pub(super) fn said_digest(response: &Response, host: &Host) -> Result<Option<Digest>> {
    match response.header("docker-content-digest").map(str::trim).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(digest) => Ok(Some(digest)),
            Err(DigestFault::Unsupported(_)) => Ok(None),
            Err(fault) => Err(fault::protocol(host, "its Docker-Content-Digest is not a digest").caused_by(fault)),
        },
    }
}

/// What was said of a document beside its bytes.
pub(super) struct Said {
    media_type: MediaType,
    digest: Option<Digest>,
}

/// One GET of a document, its bytes read within their limit.
async fn fetch(endpoint: &Endpoint, call: &Call) -> Result<(Said, Bytes), Failure> {
    let response = endpoint.send(call, Payload::Nothing).await?.expect(&[StatusCode::OK]).await?;
    let said = Said {
        media_type: MediaType::new(response.header(CONTENT_TYPE).unwrap_or_default()),
        digest: said_digest(&response, endpoint.host()).map_err(Failure::lasting)?,
    };
    Ok((said, response.body(MAX_DOCUMENT).await?))
}

fn read_document(
    host: &Host,
    repository: &Repository,
    selector: &Selector,
    said: Said,
    bytes: Bytes,
) -> Result<Document> {
    let found = Digest::of(&bytes);
    // A schema 1 manifest's digest is not that of its bytes; it is refused by name below.
    if !said.media_type.is_schema1() {
        for expected in [selector.digest(), said.digest].into_iter().flatten() {
            if expected != found {
                return Err(Error::registry(format!(
                    "{host} answered for {repository}{selector} with bytes whose digest is {found}, not {expected}"
                ))
                .hint("the registry's storage is damaged, or a proxy alters what it hands on"));
            }
        }
    }
    Document::parse_known(bytes, &said.media_type, found)
        .map_err(|error| cannot_carry(error).context(format!("cannot carry {host}/{repository}{selector}")))
}

/// What would be damage in a bundle is, in a registry, an image that is not carried: nothing is wrong with a bundle.
fn cannot_carry(error: Error) -> Error {
    match error.kind() {
        Kind::Damaged => Error::refused(error.chain()).hint("leave it out, or have it pushed anew by a current tool"),
        _ => error,
    }
}

/// The bytes of a manifest, for a comparison.
pub(super) async fn document_digest(
    endpoint: &Endpoint,
    repository: &Repository,
    selector: &Selector,
) -> Result<Digest, Failure> {
    let (_, bytes) = fetch(endpoint, &document_call(endpoint, repository, selector)).await?;
    Ok(Digest::of(&bytes))
}

/// Pages of a list that are linked by `Link: <...>; rel="next"`.
struct Pages<'a> {
    endpoint: &'a Endpoint,
    first: Call,
    next: Option<Call>,
    seen: HashSet<Url>,
    count: usize,
    /// 404 on the first page is an answer.
    absent_is_fine: bool,
    absent: bool,
}

impl<'a> Pages<'a> {
    fn new(endpoint: &'a Endpoint, first: Call) -> Self {
        Pages {
            endpoint,
            next: Some(first.clone()),
            first,
            seen: HashSet::new(),
            count: 0,
            absent_is_fine: false,
            absent: false,
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        let Some(call) = self.next.take() else { return Ok(None) };
        let host = self.endpoint.host();
        self.count += 1;
        if self.count > MAX_PAGES {
            return Err(fault::protocol(host, format!("its list has more than {MAX_PAGES} pages")));
        }
        let absent_is_fine = self.absent_is_fine && self.count == 1;
        let read = async || -> Result<_, Failure> {
            let response = self.endpoint.send(&call, Payload::Nothing).await?;
            if absent_is_fine && matches!(response.status().as_u16(), 404 | 405 | 501) {
                return Ok(None);
            }
            let response = response.expect(&[StatusCode::OK]).await?;
            let link = response.links().find_map(header::next_link);
            let url = response.url().clone();
            Ok(Some((url, link, response.body(MAX_PAGE).await?)))
        };
        let Some((url, link, body)) = self.endpoint.budget().run(read).await? else {
            self.absent = true;
            return Ok(None);
        };
        if let Some(link) = link {
            let next = next_page(&url, &link)
                .ok_or_else(|| fault::protocol(host, "the link to the next page of its list leads nowhere"))?;
            self.seen.insert(url);
            if !self.seen.insert(next.clone()) {
                return Err(fault::protocol(host, "the pages of its list go round in a circle"));
            }
            self.next = Some(self.first.redirected(next));
        }
        Ok(Some(body))
    }
}

/// Where a link leads: only path and query are taken from it, as other clients do it. A registry behind a proxy often
/// does not know by which scheme, name and port it is reached, and nobody else is asked for its list.
fn next_page(base: &Url, link: &str) -> Option<Url> {
    let to = header::location(base, link)?;
    let mut url = base.clone();
    url.set_path(to.path());
    url.set_query(to.query());
    Some(url)
}

const MAX_PAGES: usize = 1_000;
/// The largest page of a list, 4 MiB.
const MAX_PAGE: u64 = 4 << 20;
const MAX_TAGS: usize = 1_000_000;
const MAX_REFERRERS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("/v2/a?last=b", Some("https://h/v2/a?last=b"))]
    #[case("http://h/v2/a?last=b", Some("https://h/v2/a?last=b"))]
    #[case("?last=b", Some("https://h/v2/t?last=b"))]
    #[case("http://internal:5000/v2/a?last=b&n=1", Some("https://h/v2/a?last=b&n=1"))]
    #[case("ftp://h/v2/a", None)]
    #[case("https://user:secret@h/v2/a", None)]
    fn the_next_page_is_on_the_same_host_and_scheme(#[case] link: &str, #[case] expected: Option<&str>) {
        let base = Url::parse("https://h/v2/t?n=1").unwrap();
        assert_eq!(next_page(&base, link).map(String::from).as_deref(), expected);
    }
}
