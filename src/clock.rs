//! The system clock. Must not know what a time is for.

use std::time::SystemTime;

use jiff::Timestamp;

use crate::error::{Error, Kind, Result};

/// The current time.
///
/// # Errors
/// `Io` if the clock shows a year that a [`Timestamp`] does not hold (after 9999).
pub fn now() -> Result<Timestamp> {
    from_system(SystemTime::now())
}

fn from_system(time: SystemTime) -> Result<Timestamp> {
    Timestamp::try_from(time).map_err(|e| {
        Error::new(Kind::Io, "the clock of this machine shows a year after 9999")
            .caused_by(e)
            .hint("set the clock, then run the same command again: date --set '2026-01-31 12:00'")
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_after_the_year_9999_is_an_error_and_no_panic() {
        // 10000-01-01T00:00:00Z is 253402300800 s after the epoch.
        let error = from_system(SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_800)).unwrap_err();
        assert!(error.chain().contains("a year after 9999"), "{}", error.chain());
        assert!(from_system(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)).is_ok());
    }
}
