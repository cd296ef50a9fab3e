//! `sealift verify`

use serde_json::Value;

use super::transcript;

#[test]
fn errors_say_what_where_and_what_to_do_next() {
    insta::assert_snapshot!(transcript(&[
        "verify sealed",
        "verify nothing --trust allowed_signers",
        "verify key --trust allowed_signers",
        "verify empty --trust nothing",
        "verify empty --trust allowed_signers",
        "verify sealed --trust allowed_signers",
        "verify own.tar --trust allowed_signers",
        "verify own.tgz --trust allowed_signers",
        "verify list --trust allowed_signers",
    ]));
}

#[test]
fn a_program_can_read_the_answer() {
    let desk = support::desk!();
    desk.sealed_sample("bundle");
    let answer = desk.sealift(&["verify", "bundle", "--trust", "allowed_signers", "--json"]).success().stdout();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((&answer["verified"], &answer["layersVerified"]), (&true.into(), &true.into()));
    assert_eq!(answer["signers"][0]["principals"][0], "exporter@example.com");
    let sums = std::fs::read(desk.path().join("bundle/SHA256SUMS")).unwrap();
    assert_eq!(answer["identity"], support::sha256(&sums));
    desk.flip_largest_blob("bundle");
    let refused = desk.sealift(&["verify", "bundle", "--trust", "allowed_signers", "--json"]);
    assert_eq!(refused.code(3).stdout(), "");
}
