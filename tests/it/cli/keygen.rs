//! `sealift keygen`

use std::fs;

use super::transcript;

#[test]
fn errors_say_what_where_and_what_to_do_next() {
    insta::assert_snapshot!(transcript(&[
        "keygen",
        "keygen key",
        "keygen nowhere/key",
        "keygen --show nowhere/key",
        "keygen --show list",
        "keygen key2 --principal *,!*",
    ]));
}

#[test]
fn the_line_of_a_key_can_be_shown_again() {
    let desk = support::desk!();
    let line = fs::read_to_string(desk.path().join("allowed_signers")).unwrap();
    // As a shell does when the first command is given a second time.
    desk.sealift(&["keygen", "key"]).code(2).stderr_contains("sealift keygen --show key");
    for key in ["key", "key.pub"] {
        assert_eq!(desk.sealift(&["keygen", "--show", key]).success().stdout(), line);
    }
    let other = desk.sealift(&["keygen", "--show", "key", "--principal", "other@example.com"]).success().stdout();
    assert_eq!(other, line.replace("exporter@example.com", "other@example.com"));
    // Whoever has only the private key gets a line as well.
    fs::remove_file(desk.path().join("key.pub")).unwrap();
    let line = desk.sealift(&["keygen", "--show", "key", "--principal", "exporter@example.com"]).success().stdout();
    assert_eq!(line, fs::read_to_string(desk.path().join("allowed_signers")).unwrap());
}

#[test]
fn keys_of_ssh_keygen_can_be_shown_without_their_passphrase() {
    let desk = support::desk!();
    desk.shell(".", "ssh-keygen -q -t ed25519 -N secret -C team@example.com -f locked");
    let line = desk.sealift(&["keygen", "--show", "locked"]).success().stdout();
    assert!(line.starts_with("team@example.com namespaces=\"sealift-bundle"), "{line}");
}
