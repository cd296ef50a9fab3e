use proptest::prelude::*;

use super::line::LINE_LIMIT;
use crate::trust::KeyPair;
use crate::trust::allowed::*;

const MESSAGE: &[u8] = b"the sealed list";

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

fn judge(file: &str, signature: &Signature) -> Verdict {
    let trust = Trust::parse_in_zone(file.as_bytes(), "signers", false, &TimeZone::UTC).unwrap();
    trust.judge(Namespace::Bundle, at("2026-11-23T12:00:00Z"), MESSAGE, signature)
}

fn signer() -> (String, Signature) {
    let pair = KeyPair::generate("").unwrap();
    let line = pair.public_key().to_line("");
    (line, pair.into_signing_key().sign(Namespace::Bundle, MESSAGE).unwrap())
}

#[test]
fn every_verdict_says_who_and_why() {
    let (key, signature) = signer();
    let (other, _) = signer();
    let file = |options: &str| format!("alice {options} {key}\n");

    match judge(&file("namespaces=\"sealift-bundle\""), &signature) {
        Verdict::Trusted { principals, .. } => assert_eq!(principals, ["alice"]),
        verdict => panic!("{verdict:?}"),
    }
    assert!(matches!(judge(&format!("bob {other}"), &signature), Verdict::UnknownKey { .. }));
    for (options, expected) in [
        ("", "line 1 has no namespaces= option"),
        ("namespaces=\"git\"", "the namespaces= of line 1 do not include sealift-bundle"),
        ("namespaces=\"*\",valid-after=\"20270101Z\"", "line 1 is valid after 2027-01-01T00:00:00Z"),
        ("namespaces=\"*\",valid-before=\"20260101Z\"", "line 1 was valid before 2026-01-01T00:00:00Z"),
    ] {
        match judge(&file(options), &signature) {
            Verdict::NotAllowed { refusals, .. } => assert_eq!(refusals[0].to_string(), expected),
            verdict => panic!("{options}: {verdict:?}"),
        }
    }
}

#[test]
fn a_signature_that_does_not_verify_is_invalid_whoever_made_it() {
    let (key, signature) = signer();
    let (other, _) = signer();
    for file in [format!("alice namespaces=\"*\" {key}"), format!("bob namespaces=\"*\" {other}")] {
        let trust = Trust::parse(file.as_bytes(), "signers", false).unwrap();
        let now = at("2026-11-23T12:00:00Z");
        assert!(matches!(trust.judge(Namespace::Bundle, now, b"changed", &signature), Verdict::Invalid(_)));
        assert!(matches!(trust.judge(Namespace::Review, now, MESSAGE, &signature), Verdict::Invalid(_)));
    }
}

#[test]
fn all_lines_that_let_a_key_in_are_named() {
    let (key, signature) = signer();
    let file = format!(
        "alice namespaces=\"*\" {key}\nold valid-before=\"20200101Z\",namespaces=\"*\" {key}\n\
         desk,night namespaces=\"sealift-*\" {key}\nalice namespaces=\"sealift-bundle\" {key}\n"
    );
    match judge(&file, &signature) {
        Verdict::Trusted { principals, .. } => assert_eq!(principals, ["alice", "desk,night"]),
        verdict => panic!("{verdict:?}"),
    }
    assert_eq!(Trust::parse(file.as_bytes(), "signers", false).unwrap().keys().len(), 1);
}

#[test]
fn limits_are_kept_at_the_boundary() {
    let (key, _) = signer();
    let parse = |text: &[u8]| Trust::parse(text, "signers", false).map(|_| ()).map_err(|error| error.to_string());
    let line = format!("alice namespaces=\"*\" {key} ");
    let padded = |length: usize| format!("{line}{}\n", "c".repeat(length - line.len()));
    assert_eq!(parse(padded(LINE_LIMIT).as_bytes()), Ok(()));
    assert!(parse(padded(LINE_LIMIT + 1).as_bytes()).unwrap_err().contains("line 1: it is longer"));

    let many = |count: usize| format!("{line}\n{}", "#\n".repeat(count - 1));
    assert_eq!(parse(many(LINES_LIMIT).as_bytes()), Ok(()));
    assert!(parse(many(LINES_LIMIT + 1).as_bytes()).unwrap_err().contains("more than 10000 lines"));

    assert!(parse(&vec![b'\n'; FILE_LIMIT + 1]).unwrap_err().contains("larger than"));
}

#[test]
fn a_file_is_read_no_further_than_its_limit() {
    let error = Trust::load(Path::new("/dev/zero"), false).unwrap_err();
    assert_eq!(error.to_string(), format!("/dev/zero is larger than {FILE_LIMIT} bytes"));
    assert_eq!(Trust::load(Path::new("/nonexistent/signers"), false).unwrap_err().kind(), Kind::Io);
}

#[test]
fn what_a_message_repeats_of_a_file_is_escaped_and_cut() {
    let text = format!("alice \x1b[2J{} AAAA", "x".repeat(500));
    let error = Trust::parse(text.as_bytes(), "signers", false).unwrap_err().to_string();
    assert!(!error.contains('\x1b'), "{error:?}");
    assert!(error.len() < 200, "{error}");
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Trust::parse_in_zone(&bytes, "signers", true, &TimeZone::UTC);
    }

    #[test]
    fn no_line_like_text_makes_the_reader_panic(
        text in "([a-z*!,]{0,4}\"?[ \t]?((namespaces|valid-after|cert-authority)=?\"?[a-z0-9Z*,!\\\\]{0,16}\"?,?)*[ \t]?(ssh-ed25519|ssh-rsa)? ?[A-Za-z0-9+/=]{0,80}\r?\n?){0,3}"
    ) {
        let _ = Trust::parse_in_zone(text.as_bytes(), "signers", true, &TimeZone::UTC);
    }

    #[test]
    fn any_principal_that_can_be_written_is_read_back(principal in "[ -~\u{e9}]{1,20}") {
        let pair = KeyPair::generate("").unwrap();
        if let Ok(line) = pair.public_key().allowed_signers_line(&principal) {
            let signature = pair.into_signing_key().sign(Namespace::Bundle, MESSAGE).unwrap();
            match judge(&line, &signature) {
                Verdict::Trusted { principals, .. } => prop_assert_eq!(principals, [principal]),
                verdict => panic!("{verdict:?}"),
            }
        }
    }
}
