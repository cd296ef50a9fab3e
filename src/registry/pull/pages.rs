//! Lists of a registry, page by page: tags and referrers (distribution-spec 1.1, "Listing Tags", "Listing Referrers").

use std::collections::HashSet;

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use url::Url;

use crate::error::{Error, Result};
use crate::oci::{Digest, MediaType};
use crate::registry::client::endpoint::Endpoint;
use crate::registry::http::call::{Call, Payload};
use crate::registry::http::error::{self, Unreadable};
use crate::registry::http::header;
use crate::registry::http::response::Response;
use crate::registry::http::retry::AttemptError;

/// The pages of one list.
pub(crate) struct Pages<'a> {
    endpoint: &'a Endpoint,
    first: Call,
    state: State,
    /// Of the pages so far, by their URLs, which may be long.
    seen: HashSet<Digest>,
    count: usize,
    no_list: fn(&Response) -> bool,
    /// Whether such an answer is final, even if it may pass.
    at_once: bool,
}

/// The target of the next page, or why the `Link` headers do not tell it.
type Link = Result<Option<String>, &'static str>;

/// Why a page was not read.
struct NotRead {
    failure: AttemptError,
    /// The status of an answer that may say that there is no such list.
    no_list: Option<StatusCode>,
}

impl From<AttemptError> for NotRead {
    fn from(failure: AttemptError) -> Self {
        NotRead { failure, no_list: None }
    }
}

/// What is to be asked next.
enum State {
    Call(Call),
    /// The link of the last page, which is read when another page is asked for.
    Link(Url, Link),
    End,
}

/// What came of asking for a page.
pub(crate) enum Listed {
    /// A page.
    Page(Page),
    /// The registry has no such list; the error says how it says so.
    NoList(StatusCode, Error),
    /// There is no other page.
    End,
}

/// The body of one page.
pub(crate) struct Page {
    /// Its `Content-Type`.
    pub(crate) media_type: MediaType,
    /// At most [`MAX_PAGE`] bytes.
    pub(crate) body: Bytes,
    /// Why it is no list, as far as its first bytes tell.
    pub(crate) unreadable: Option<Unreadable>,
}

impl<'a> Pages<'a> {
    /// The pages from `first` on. Nothing is asked yet.
    pub(crate) fn new(endpoint: &'a Endpoint, first: Call) -> Self {
        let state = State::Call(first.clone());
        Pages { endpoint, first, state, seen: HashSet::new(), count: 0, no_list: |_| false, at_once: false }
    }

    /// Answers to the first request that mean, if they are still given after the last retry, that the registry has no
    /// such list.
    pub(crate) fn no_list(self, no_list: fn(&Response) -> bool) -> Self {
        Pages { no_list, ..self }
    }

    /// Takes such an answer as final without a retry.
    pub(crate) fn no_list_at_once(self) -> Self {
        Pages { at_once: true, ..self }
    }

    /// Asks for the next page.
    ///
    /// # Errors
    /// `Registry` when it cannot be read, or when the link to it is not understood.
    pub(crate) async fn next(&mut self) -> Result<Listed> {
        let Some(call) = self.next_call()? else { return Ok(Listed::End) };
        self.count += 1;
        if self.count > MAX_PAGES {
            let what = format!("its list has more than {MAX_PAGES} pages");
            return Err(error::protocol(self.endpoint.host(), what));
        }
        let mut budget = self.endpoint.budget();
        loop {
            match self.read(&call).await {
                Ok((page, url, link)) => {
                    self.state = State::Link(url, link);
                    return Ok(Listed::Page(page));
                }
                Err(NotRead { failure, no_list }) => {
                    let spent = match no_list {
                        Some(_) if self.at_once => Err(failure.into_error()),
                        _ => budget.spend(failure).await,
                    };
                    let Err(error) = spent else { continue };
                    return match no_list {
                        Some(status) => Ok(Listed::NoList(status, error)),
                        None => Err(error),
                    };
                }
            }
        }
    }

    /// One try: a page, from where it came in the end, and its link.
    async fn read(&self, call: &Call) -> Result<(Page, Url, Link), NotRead> {
        let response = self.endpoint.send(call, Payload::Nothing).await?;
        if self.count == 1 && (self.no_list)(&response) {
            let no_list = Some(response.status());
            return Err(NotRead { failure: response.refusal().await, no_list });
        }
        let response = response.expect(&[StatusCode::OK]).await?;
        let link = response.next_link().map(|link| link.map(str::to_owned));
        let url = response.url().clone();
        let media_type = MediaType::new(response.header(CONTENT_TYPE).unwrap_or_default());
        let (body, unreadable) = response.readable(MAX_PAGE).await?;
        Ok((Page { media_type, body, unreadable }, url, link))
    }

    fn next_call(&mut self) -> Result<Option<Call>> {
        let host = self.endpoint.host();
        let (url, link) = match std::mem::replace(&mut self.state, State::End) {
            State::End => return Ok(None),
            State::Call(call) => return Ok(Some(call)),
            State::Link(url, link) => (url, link),
        };
        let Some(link) = link.map_err(|what| error::protocol(host, format!("its list {what}")))? else {
            return Ok(None);
        };
        let next = next_page(&url, &link)
            .ok_or_else(|| error::protocol(host, "the link to the next page of its list leads nowhere"))?;
        let short = |url: &Url| Digest::of(url.as_str().as_bytes());
        self.seen.insert(short(&url));
        if !self.seen.insert(short(&next)) {
            return Err(error::protocol(host, "the pages of its list go round in a circle"));
        }
        Ok(Some(self.first.redirected(next)))
    }
}

impl Page {
    /// The body, if it may be a list.
    ///
    /// # Errors
    /// `Registry` for a web page and for compressed bytes.
    pub(crate) fn readable(self) -> Result<Bytes> {
        match self.unreadable {
            Some(unreadable) => Err(unreadable.into_error()),
            None => Ok(self.body),
        }
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
