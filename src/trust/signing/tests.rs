use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use crate::error::Kind;
use crate::trust::KeyPair;
use crate::trust::signing::*;

const MESSAGE: &[u8] = b"the sealed list";

/// Has the real ssh-keygen make a key.
fn new_key(folder: &Path, options: &[&str]) -> PathBuf {
    let path = folder.join("key");
    let made =
        Command::new("ssh-keygen").args(["-q", "-C", "comment", "-f"]).arg(&path).args(options).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    path
}

fn signed_by_ssh_keygen(path: &Path, options: &[&str]) -> Vec<u8> {
    let mut child = Command::new("ssh-keygen")
        .args(["-Y", "sign", "-n", "sealift-bundle"])
        .args(options)
        .arg("-f")
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(MESSAGE).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// Runs one of the ignored tests below in a process of its own, with this environment.
fn run_with(test: &str, environment: &[(&str, &std::ffi::OsStr)]) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("trust::signing::tests::{test}"), "--ignored", "--nocapture"])
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
}

#[test]
fn an_ed25519_signature_is_byte_for_byte_that_of_ssh_keygen() {
    let folder = tempfile::tempdir().unwrap();
    let path = new_key(folder.path(), &["-t", "ed25519", "-N", ""]);
    let key = SigningKey::load(&path).unwrap();
    assert!(matches!(key.held, Held::Here(_)), "a plain key is used in this process");
    let ours = key.sign(Namespace::Bundle, MESSAGE).unwrap();
    assert_eq!(ours.as_armored().as_bytes(), signed_by_ssh_keygen(&path, &[]));
}

#[test]
fn a_key_made_here_signs_alike_in_both() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let pair = KeyPair::generate("made here").unwrap();
    pair.write_pair(&path).unwrap();
    let ours = pair.into_signing_key().sign(Namespace::Bundle, MESSAGE).unwrap();
    assert_eq!(ours.as_armored().as_bytes(), signed_by_ssh_keygen(&path, &[]));
}

#[test]
fn keys_of_other_types_sign_and_verify_through_ssh_keygen() {
    for options in [
        &["-t", "rsa", "-b", "3072", "-N", ""][..],
        &["-t", "rsa", "-b", "2048", "-N", "", "-m", "PEM"],
        &["-t", "ecdsa", "-b", "256", "-N", ""],
        &["-t", "ecdsa", "-b", "521", "-N", "", "-m", "PKCS8"],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = new_key(folder.path(), options);
        let key = SigningKey::load(&path).unwrap();
        assert!(matches!(key.held, Held::BySshKeygen(_)), "{options:?}");
        let signature = key.sign(Namespace::Bundle, MESSAGE).unwrap();
        signature.verify(Namespace::Bundle, MESSAGE).unwrap();
        let error = signature.verify(Namespace::Bundle, b"other").unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "{options:?}");
        assert!(signature.verify(Namespace::Review, MESSAGE).is_err());

        let theirs = Signature::parse(&signed_by_ssh_keygen(&path, &["-O", "hashalg=sha256"])).unwrap();
        theirs.verify(Namespace::Bundle, MESSAGE).unwrap();
    }
}

#[test]
fn a_pem_key_without_its_pub_file_is_asked_for_its_public_half() {
    let folder = tempfile::tempdir().unwrap();
    let path = new_key(folder.path(), &["-t", "ecdsa", "-N", "", "-m", "PEM"]);
    let public = read_public(&folder.path().join("key.pub")).unwrap();
    std::fs::remove_file(folder.path().join("key.pub")).unwrap();
    assert_eq!(*SigningKey::load(&path).unwrap().public_key(), public);
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_command_that_helps() {
    let folder = tempfile::tempdir().unwrap();
    let path = new_key(folder.path(), &["-t", "ed25519", "-N", ""]);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = SigningKey::load(&path).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert_eq!(error.hints(), [format!("make it yours alone: chmod 600 {}", path.display())]);
}

#[test]
fn what_is_no_private_key_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    for content in ["", "hello", "ssh-ed25519 AAAA", "-----BEGIN OPENSSH PRIVATE KEY-----\n"] {
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(SigningKey::load(&path).unwrap_err().kind(), Kind::Usage, "{content:?}");
    }
    assert_eq!(SigningKey::load(&folder.path().join("none")).unwrap_err().kind(), Kind::Io);
}

#[test]
fn debug_does_not_show_the_secret() {
    let key = SigningKey::here(ed25519_dalek::SigningKey::from_bytes(&[9; 32]));
    assert_eq!(format!("{key:?}"), format!("SigningKey {{ public: {:?}, .. }}", key.public));
}

#[test]
fn a_passphrase_is_asked_for_the_way_ssh_keygen_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = new_key(folder.path(), &["-t", "ed25519", "-N", "secret"]);
    let askpass = folder.path().join("askpass");
    std::fs::write(&askpass, "#!/bin/sh\necho secret\n").unwrap();
    std::fs::set_permissions(&askpass, std::fs::Permissions::from_mode(0o700)).unwrap();
    run_with(
        "sign_with_the_named_key",
        &[
            (KEY_VARIABLE, path.as_os_str()),
            ("SSH_ASKPASS", askpass.as_os_str()),
            ("SSH_ASKPASS_REQUIRE", "force".as_ref()),
            ("SSH_AUTH_SOCK", "".as_ref()),
        ],
    );
}

#[test]
fn a_key_held_by_an_agent_signs_by_its_pub_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = new_key(folder.path(), &["-t", "ed25519", "-N", ""]);
    let socket = folder.path().join("agent");
    let mut agent = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::piped()).spawn().unwrap();
    // Its first line comes when it listens.
    let mut line = String::new();
    BufReader::new(agent.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let added = Command::new("ssh-add").arg("-q").arg(&path).env("SSH_AUTH_SOCK", &socket).output().unwrap();
    std::fs::remove_file(&path).unwrap();
    let public = folder.path().join("key.pub");
    let result = std::panic::catch_unwind(|| {
        assert!(added.status.success(), "{added:?}");
        let environment = [(KEY_VARIABLE, public.as_os_str()), ("SSH_AUTH_SOCK", socket.as_os_str())];
        run_with("sign_with_the_named_key", &environment);
    });
    agent.kill().unwrap();
    agent.wait().unwrap();
    result.unwrap();
}

#[test]
fn a_key_that_is_nowhere_is_an_error_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let path = new_key(folder.path(), &["-t", "ed25519", "-N", ""]);
    std::fs::remove_file(&path).unwrap();
    let error = SigningKey::load(&folder.path().join("key.pub")).unwrap().sign(Namespace::Bundle, MESSAGE).unwrap_err();
    assert_eq!(error.kind(), Kind::Io);
    assert!(error.hints().iter().any(|hint| hint.contains("ssh-add -l")), "{error:?}");
}

#[test]
fn without_ssh_keygen_an_rsa_signature_is_unchecked_and_not_invalid() {
    let folder = tempfile::tempdir().unwrap();
    let path = new_key(folder.path(), &["-t", "rsa", "-b", "2048", "-N", ""]);
    std::fs::write(folder.path().join("key.sig"), signed_by_ssh_keygen(&path, &[])).unwrap();
    run_with(
        "judge_the_named_signature_without_ssh_keygen",
        &[(KEY_VARIABLE, path.as_os_str()), ("PATH", folder.path().as_os_str())],
    );
}

#[test]
#[ignore = "run by other tests, in an environment that they prepare"]
fn sign_with_the_named_key() {
    let Some(path) = std::env::var_os(KEY_VARIABLE) else { return };
    let key = SigningKey::load(Path::new(&path)).unwrap();
    assert!(matches!(key.held, Held::BySshKeygen(_)));
    key.sign(Namespace::Bundle, MESSAGE).unwrap();
}

#[test]
#[ignore = "run by other tests, in an environment that they prepare"]
fn judge_the_named_signature_without_ssh_keygen() {
    use crate::trust::{Trust, Verdict};
    let Some(path) = std::env::var_os(KEY_VARIABLE) else { return };
    let path = Path::new(&path);
    let trust = Trust::load(&path.with_extension("pub"), false).unwrap();
    let signature = Signature::parse(&std::fs::read(path.with_extension("sig")).unwrap()).unwrap();
    match trust.judge(Namespace::Bundle, jiff::Timestamp::now(), MESSAGE, &signature) {
        Verdict::Unchecked { error, .. } => {
            assert_eq!(error.kind(), Kind::NotFound);
            assert!(error.hints()[0].contains("install OpenSSH"), "{error:?}");
        }
        verdict => panic!("{verdict:?}"),
    }
}

const KEY_VARIABLE: &str = "SEALIFT_TEST_KEY";
