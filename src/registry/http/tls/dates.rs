//! When a certificate is valid, read from its DER (RFC 5280, section 4.1), whatever its version.

use jiff::civil::{Date, DateTime, Time};

/// From when to when a certificate is valid, both in UTC; nothing for what is no certificate.
pub(crate) fn validity(certificate: &[u8]) -> Option<(DateTime, DateTime)> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut rest, _) = element(certificate, SEQUENCE)?;
    // Version 1 has no version.
    if let Some((_, after)) = element(rest, VERSION) {
        rest = after;
    }
    // Serial number, algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, rest) = element(rest, tag)?;
    }
    let (validity, _) = element(rest, SEQUENCE)?;
    let (from, rest) = time(validity)?;
    let (until, _) = time(rest)?;
    Some((from, until))
}

/// The time at the beginning, and what follows it.
fn time(der: &[u8]) -> Option<(DateTime, &[u8])> {
    let (text, rest, century_digits) = match element(der, UTC_TIME) {
        Some((text, rest)) => (text, rest, 0),
        None => element(der, GENERALIZED_TIME).map(|(text, rest)| (text, rest, 2))?,
    };
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if text.len() != 12 + century_digits || !text.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let (year, others) = text.split_at(2 + century_digits);
    let year: i16 = match (year.parse().ok()?, century_digits) {
        (year @ 50.., 0) => 1900 + year,
        (year, 0) => 2000 + year,
        (year, _) => year,
    };
    let number = |at: usize| others[at..at + 2].parse::<i8>().ok();
    let day = Date::new(year, number(0)?, number(2)?).ok()?;
    let time = Time::new(number(4)?, number(6)?, number(8)?, 0).ok()?;
    Some((day.to_datetime(time), rest))
}

/// The content of the element with this tag at the beginning, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (length, rest) = rest.split_first()?;
    if *found != tag {
        return None;
    }
    let (length, rest) = match *length {
        length @ ..=0x7f => (usize::from(length), rest),
        length @ 0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length - 0x80))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0] EXPLICIT`
const VERSION: u8 = 0xa0;

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;
    use proptest::prelude::*;

    #[test]
    fn both_forms_of_time_are_read() {
        for (tag, text, expected) in [
            (UTC_TIME, "491231235959Z", Some(date(2049, 12, 31).at(23, 59, 59, 0))),
            (UTC_TIME, "500101000000Z", Some(date(1950, 1, 1).at(0, 0, 0, 0))),
            (GENERALIZED_TIME, "99991231235959Z", Some(date(9999, 12, 31).at(23, 59, 59, 0))),
            (GENERALIZED_TIME, "20500229000000Z", None),
            (UTC_TIME, "4912312359Z", None),
            (UTC_TIME, "+91231235959Z", None),
            (GENERALIZED_TIME, "491231235959Z", None),
            (INTEGER, "491231235959Z", None),
        ] {
            let der = [&[tag, text.len() as u8], text.as_bytes()].concat();
            assert_eq!(time(&der).map(|(time, _)| time), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(prop_oneof![Just(0x30u8), Just(0x82), any::<u8>()], 0..60)) {
            let _ = validity(&bytes);
        }
    }
}
