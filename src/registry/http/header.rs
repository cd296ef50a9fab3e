//! What stands in headers, read from text: ranges, pauses, locations. Knows no request.

use std::time::Duration;

use jiff::fmt::rfc2822;
use url::Url;

use crate::clock;
use crate::oci::Digest;

/// A `Content-Range` of bytes (RFC 9110, section 14.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContentRange {
    /// The first byte's position.
    pub(crate) start: u64,
    /// The last byte's position.
    pub(crate) end: u64,
    /// The size of the whole; nothing when the server does not say (`*`).
    pub(crate) total: Option<u64>,
}

impl ContentRange {
    /// From `bytes START-END/TOTAL`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (start, end) = range.split_once('-')?;
        let total = match total.trim() {
            "*" => None,
            total => Some(number(total)?),
        };
        let range = ContentRange { start: number(start)?, end: number(end)?, total };
        (range.start <= range.end && range.end < u64::MAX && range.total.is_none_or(|total| range.end < total))
            .then_some(range)
    }
}

/// The size of the whole, from the `Content-Range: bytes */TOTAL` of a 416 (RFC 9110, section 15.5.17).
pub(crate) fn total(text: &str) -> Option<u64> {
    number(text.trim().strip_prefix("bytes")?.trim_start().strip_prefix("*/")?)
}

/// How many bytes an upload session holds, from its `Range` header: `0-LAST`, and by some `bytes=0-LAST`.
pub(crate) fn held(text: &str) -> Option<u64> {
    let (start, last) = text.trim().trim_start_matches("bytes=").split_once('-')?;
    (number(start)? == 0).then(|| number(last)?.checked_add(1)).flatten()
}

/// How long to wait, from the seconds or the date of a `Retry-After` (RFC 9110, section 10.2.3). A date is seen from the
/// server's own `Date`, if it has one: clocks differ. More than a day is no pause but a mistake (Docker Hub has put
/// seconds since 1970 there), and counts as none named.
pub(crate) fn retry_after(text: &str, date: Option<&str>) -> Option<Duration> {
    let text = text.trim();
    let time = |text: &str| Some(rfc2822::parse(text.trim()).ok()?.timestamp());
    let pause = match number(text) {
        Some(seconds) => Duration::from_secs(seconds),
        None => {
            let now = date.and_then(time).or_else(|| clock::now().ok())?;
            Duration::try_from(time(text)?.duration_since(now)).unwrap_or_default()
        }
    };
    (pause <= Duration::from_secs(86_400)).then_some(pause)
}

/// Where a `Location` leads from `base`: relative or absolute, HTTP only, with its query as it is.
pub(crate) fn location(base: &Url, text: &str) -> Option<Url> {
    let mut url = base.join(text.trim()).ok()?;
    url.set_fragment(None);
    let plain = url.username().is_empty() && url.password().is_none();
    (plain && matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

/// The URL that completes an upload.
pub(crate) fn with_digest(mut url: Url, digest: Digest) -> Url {
    url.query_pairs_mut().append_pair("digest", &digest.to_string());
    url
}

/// A URL for people: its query may hold a signature or a token.
pub(crate) fn public(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("bytes 3-9/10", Some((3, 9, Some(10))))]
    #[case("bytes 0-0/*", Some((0, 0, None)))]
    #[case("bytes 3-10/10", None)]
    #[case("bytes 9-3/10", None)]
    #[case("bytes 0-18446744073709551615/*", None)]
    #[case("bytes */10", None)]
    #[case("bytes +3-9/10", None)]
    #[case("items 3-9/10", None)]
    fn a_content_range_is_read_or_refused(#[case] text: &str, #[case] expected: Option<(u64, u64, Option<u64>)>) {
        let found = ContentRange::parse(text).map(|range| (range.start, range.end, range.total));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_range_that_cannot_be_had_tells_the_size() {
        assert_eq!(total("bytes */10"), Some(10));
        assert_eq!(total("bytes 0-9/10"), None);
        assert_eq!(total("bytes */*"), None);
    }

    #[test]
    fn an_upload_range_begins_at_nought() {
        assert_eq!(held("0-99"), Some(100));
        assert_eq!(held("bytes=0-99"), Some(100));
        assert_eq!(held("5-99"), None);
        assert_eq!(held("99"), None);
        assert_eq!(held("0-18446744073709551615"), None);
    }

    #[test]
    fn a_pause_is_seconds_or_a_date_by_the_servers_clock_and_no_more_than_a_day() {
        let pause = |text: &str| retry_after(text, Some("Wed, 21 Oct 2015 07:28:00 GMT"));
        assert_eq!(pause("7"), Some(Duration::from_secs(7)));
        assert_eq!(pause("Wed, 21 Oct 2015 07:28:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(pause("Wed, 21 Oct 2015 07:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(pause("7200"), Some(Duration::from_secs(7200)));
        assert_eq!(pause("1700000000"), None);
        assert_eq!(pause("Wed, 21 Oct 2099 07:28:30 GMT"), None);
        assert_eq!(pause("-1"), None);
        assert_eq!(pause("soon"), None);
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:30 GMT", None), Some(Duration::ZERO));
    }

    #[rstest]
    #[case("/v2/a/blobs/uploads/1?_state=x%3D", Some("http://h:5000/v2/a/blobs/uploads/1?_state=x%3D"))]
    #[case("https://other/u?sig=a+b", Some("https://other/u?sig=a+b"))]
    #[case("//other:1/u", Some("http://other:1/u"))]
    #[case("file:///etc/passwd", None)]
    #[case("http://user:secret@other/u", None)]
    #[case("http://", None)]
    fn a_location_is_joined_and_its_query_kept(#[case] text: &str, #[case] expected: Option<&str>) {
        let base = Url::parse("http://h:5000/v2/a/blobs/uploads/").unwrap();
        assert_eq!(location(&base, text).map(String::from).as_deref(), expected);
    }

    #[test]
    fn the_digest_is_appended_to_what_the_query_holds() {
        let digest = Digest::of(b"");
        let url = |text: &str| with_digest(Url::parse(text).unwrap(), digest).to_string();
        let hex = digest.hex();
        assert_eq!(url("http://h/u?_state=a%2Bb+c"), format!("http://h/u?_state=a%2Bb+c&digest=sha256%3A{hex}"));
        assert_eq!(url("http://h/u"), format!("http://h/u?digest=sha256%3A{hex}"));
    }

    #[test]
    fn what_people_see_of_a_url_holds_no_secret() {
        let url = Url::parse("https://u:p@h/x?sig=1#f").unwrap();
        assert_eq!(public(&url), "https://h/x");
    }
}
