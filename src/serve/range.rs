//! Byte ranges: `Range` of a download (RFC 9110, section 14) and `Content-Range` of an upload's piece
//! (distribution-spec, "Pushing a blob in chunks", which has a form of its own).

/// Which part of a blob a download asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RangeRequest {
    /// No range, or one that may be ignored: everything.
    Whole,
    /// From the first to the last byte, both included.
    Part(u64, u64),
    /// Nothing of it is there.
    Unsatisfiable,
}

/// Reads a `Range` header against a blob of `size` bytes. Several ranges at once and other units are ignored, as
/// RFC 9110 allows.
pub(super) fn wanted(header: Option<&str>, size: u64) -> RangeRequest {
    let Some(range) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else { return RangeRequest::Whole };
    let Some((first, last)) = range.split_once('-') else { return RangeRequest::Whole };
    let (first, last) = (first.trim(), last.trim());
    match (number(first), number(last)) {
        (None, Some(count)) if first.is_empty() => {
            if count == 0 || size == 0 {
                RangeRequest::Unsatisfiable
            } else {
                RangeRequest::Part(size.saturating_sub(count), size - 1)
            }
        }
        (Some(first), None) if last.is_empty() => from(first, u64::MAX, size),
        (Some(first), Some(last)) if first <= last => from(first, last, size),
        _ => RangeRequest::Whole,
    }
}

fn from(first: u64, last: u64, size: u64) -> RangeRequest {
    if first >= size { RangeRequest::Unsatisfiable } else { RangeRequest::Part(first, last.min(size - 1)) }
}

/// Reads an upload's `Content-Range: <first>-<last>`: both included.
pub(super) fn piece(header: &str) -> Option<(u64, u64)> {
    let (first, last) = header.trim().split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last && last < u64::MAX).then_some((first, last))
}

/// Digits only: `u64::from_str` would take a `+`.
fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(None, RangeRequest::Whole)]
    #[case(Some("bytes=0-"), RangeRequest::Part(0, 9))]
    #[case(Some("bytes=3-"), RangeRequest::Part(3, 9))]
    #[case(Some("bytes=3-5"), RangeRequest::Part(3, 5))]
    #[case(Some("bytes=9-99"), RangeRequest::Part(9, 9))]
    #[case(Some("bytes=-4"), RangeRequest::Part(6, 9))]
    #[case(Some("bytes=-40"), RangeRequest::Part(0, 9))]
    #[case(Some("bytes=10-"), RangeRequest::Unsatisfiable)]
    #[case(Some("bytes=-0"), RangeRequest::Unsatisfiable)]
    #[case(Some("bytes=5-3"), RangeRequest::Whole)]
    #[case(Some("bytes=-"), RangeRequest::Whole)]
    #[case(Some("bytes=a-b"), RangeRequest::Whole)]
    #[case(Some("bytes=1-b"), RangeRequest::Whole)]
    #[case(Some("bytes=+1-3"), RangeRequest::Whole)]
    #[case(Some("bytes=0-1,3-4"), RangeRequest::Whole)]
    #[case(Some("lines=0-1"), RangeRequest::Whole)]
    #[case(Some("bytes=99999999999999999999-"), RangeRequest::Whole)]
    fn ranges_of_a_blob_of_ten_bytes(#[case] header: Option<&str>, #[case] expected: RangeRequest) {
        assert_eq!(wanted(header, 10), expected);
    }

    #[test]
    fn an_empty_blob_has_no_part() {
        assert_eq!(wanted(Some("bytes=0-"), 0), RangeRequest::Unsatisfiable);
        assert_eq!(wanted(None, 0), RangeRequest::Whole);
    }

    #[rstest]
    #[case("0-9", Some((0, 9)))]
    #[case("5-5", Some((5, 5)))]
    #[case("5-4", None)]
    #[case("bytes 0-9/10", None)]
    #[case("0-", None)]
    #[case("-1-2", None)]
    #[case("0-18446744073709551615", None)]
    fn pieces_have_both_ends(#[case] header: &str, #[case] expected: Option<(u64, u64)>) {
        assert_eq!(piece(header), expected);
    }
}
