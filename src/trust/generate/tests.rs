use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::trust::generate::*;

#[test]
fn ssh_keygen_reads_a_written_pair_and_sees_the_same_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let pair = KeyPair::generate("exporter 2026").unwrap();
    let public_path = pair.write_pair(&path).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&public_path) & !0o022, 0o644 & !0o022);

    let derived = Command::new("ssh-keygen").args(["-y", "-P", "", "-f"]).arg(&path).output().unwrap();
    assert!(derived.status.success(), "{derived:?}");
    assert_eq!(String::from_utf8(derived.stdout).unwrap(), pair.public_text());
    assert_eq!(std::fs::read_to_string(&public_path).unwrap(), pair.public_text());

    let listed = Command::new("ssh-keygen").arg("-lf").arg(&public_path).output().unwrap();
    let expected = format!("256 {} exporter 2026 (ED25519)\n", pair.public_key().fingerprint());
    assert_eq!(String::from_utf8(listed.stdout).unwrap(), expected);
}

#[test]
fn an_existing_file_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let pair = KeyPair::generate("").unwrap();
    for taken in ["key", "key.pub"] {
        let path = folder.path().join("key");
        std::fs::write(folder.path().join(taken), "precious").unwrap();
        let error = pair.write_pair(&path).unwrap_err();
        assert!(error.to_string().contains("not overwritten"), "{error}");
        assert_eq!(std::fs::read_to_string(folder.path().join(taken)).unwrap(), "precious");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half-done is left");
        std::fs::remove_file(folder.path().join(taken)).unwrap();
    }
}

#[test]
fn a_comment_of_more_than_one_line_is_refused() {
    assert!(KeyPair::generate("a\nssh-ed25519 AAAA").is_err());
    assert!(KeyPair::generate(&"c".repeat(COMMENT_LIMIT + 1)).is_err());
}

#[test]
fn debug_does_not_show_the_secret() {
    let pair = KeyPair::generate("").unwrap();
    assert_eq!(format!("{pair:?}"), format!("KeyPair {{ public: {:?}, .. }}", pair.public_key()));
}
