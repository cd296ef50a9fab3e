//! The times in `valid-after` and `valid-before`.
//!
//! `YYYYMMDD`, `YYYYMMDDHHMM` or `YYYYMMDDHHMMSS`; with `Z` (or `UTC`) at the end in UTC, else in local time.
//! OpenSSH reads a local time as *standard* time all year (it tells `mktime` that summer time is off), and so
//! does this, or the two would differ by an hour for half the year. Writing `Z` avoids the question.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::{Fault, quoted};

/// Reads a time as an `allowed_signers` option has it. `zone` is what "local" means.
pub(super) fn parse_time(text: &[u8], zone: &TimeZone) -> Fault<Timestamp> {
    let bad = |why: &str| format!("{} is not a time: {why}", quoted(text));
    let (digits, utc) = strip_utc(text);
    if !digits.iter().all(u8::is_ascii_digit) || !matches!(digits.len(), 8 | 12 | 14) {
        return Err(bad("write YYYYMMDD or YYYYMMDDHHMM[SS], then Z for UTC"));
    }
    let number = |at: usize, count: usize| {
        let part = digits.get(at..at + count).unwrap_or_default();
        part.iter().fold(0i16, |sum, digit| sum * 10 + i16::from(digit - b'0'))
    };
    // Two digits always fit an i8.
    let two = |at: usize| number(at, 2) as i8;
    let time = DateTime::new(number(0, 4), two(4), two(6), two(8), two(10), two(12), 0)
        .map_err(|_| bad("there is no such date or time"))?;
    let instant = if utc { TimeZone::UTC.to_timestamp(time) } else { standard_time(time, zone) };
    match instant {
        Ok(instant) if instant.as_second() > 0 => Ok(instant),
        _ => Err(bad("it is before 1970")),
    }
}

fn strip_utc(text: &[u8]) -> (&[u8], bool) {
    match text {
        [digits @ .., b'Z' | b'z'] => (digits, true),
        [digits @ .., b'U' | b'u', b'T' | b't', b'C' | b'c'] => (digits, true),
        digits => (digits, false),
    }
}

/// The instant at which a clock that never goes to summer time shows `time` in `zone`.
fn standard_time(time: DateTime, zone: &TimeZone) -> Result<Timestamp, jiff::Error> {
    let shown = zone.to_timestamp(time)?;
    if !zone.to_offset_info(shown).dst().is_dst() {
        return Ok(shown);
    }
    let standard = zone
        .preceding(shown)
        .find(|transition| !transition.dst().is_dst())
        .or_else(|| zone.following(shown).find(|transition| !transition.dst().is_dst()));
    match standard {
        Some(transition) => transition.offset().to_timestamp(time),
        None => Ok(shown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> Fault<Timestamp> {
        parse_time(text.as_bytes(), &TimeZone::UTC)
    }

    #[test]
    fn every_length_and_suffix_is_read() {
        let expected: Timestamp = "2026-11-23T00:00:00Z".parse().unwrap();
        for text in ["20261123", "20261123Z", "20261123z", "20261123UTC", "202611230000Z", "20261123000000Z"] {
            assert_eq!(utc(text).unwrap(), expected, "{text}");
        }
        assert_eq!(utc("20261123010203Z").unwrap().to_string(), "2026-11-23T01:02:03Z");
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in [
            "",
            "Z",
            "UTC",
            "2026",
            "2026112",
            "202611231",
            "2026112300Z",
            "2026-11-23",
            "20261323",
            "20260230",
            "20261123Z ",
            "20261123+1",
            "202611232400",
            "202611230060",
            "20261123000060",
            "19700101Z",
            "19691231Z",
            "+2026112",
            "2026112\u{0}",
        ] {
            assert!(utc(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn local_time_is_standard_time_all_year() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let read = |text: &str| parse_time(text.as_bytes(), &berlin).unwrap().to_string();
        assert_eq!(read("202601151200"), "2026-01-15T11:00:00Z");
        assert_eq!(read("202607151200"), "2026-07-15T11:00:00Z", "12:00 in summer is 13:00 on the wall");
        assert_eq!(read("202603290230"), "2026-03-29T01:30:00Z", "an hour that the wall clock skips");
        assert_eq!(read("202610250230"), "2026-10-25T01:30:00Z", "an hour that the wall clock shows twice");
    }
}
