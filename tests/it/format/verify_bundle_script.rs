//! `scripts/verify-bundle`, which vouches for a bundle where there is no sealift, on bundles made by hand.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rstest::rstest;
use tempfile::TempDir;

#[test]
fn a_whole_bundle_by_a_trusted_key_is_accepted_and_what_was_checked_is_said() {
    let made = Made::new();
    let (code, said) = made.verify();
    assert_eq!(code, 0, "{said}");
    for part in ["trusted as alice@example.com", "strict form, 5 files, identity sha256:", "closed list", "all 5 files"]
    {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    // Nothing was left behind or changed.
    assert_eq!(made.verify().0, 0);
}

#[test]
fn a_public_key_is_trust_enough() {
    let made = Made::new();
    let (code, said) = made.verify_with(&made.key("alice").with_extension("pub"));
    assert_eq!(code, 0, "{said}");
    let (code, said) = made.verify_with(&made.key("mallory").with_extension("pub"));
    assert_eq!(code, 3, "{said}");
}

#[test]
fn a_countersignature_by_an_unknown_key_is_mentioned_and_not_counted() {
    let made = Made::new();
    made.sign_as("mallory", "sealift-bundle");
    let (code, said) = made.verify();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("not in TRUST; not counted") && said.contains("1 trusted of 2 keys"), "{said}");
}

#[test]
fn a_path_with_spaces_and_a_leading_dash_is_a_path() {
    let made = Made::new();
    let renamed = made.directory.path().join("-a b'c");
    fs::rename(&made.bundle, &renamed).unwrap();
    let output = Command::new(script())
        .args(["-a b'c", "allowed_signers"])
        .current_dir(made.directory.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

/// Damage done to a sealed bundle: all of it must be seen, and none of it may be taken for something else.
#[rstest]
#[case::a_flipped_byte("does not have its sum", |m: &Made| m.append("blobs/sha256", "x"))]
#[case::a_missing_blob("missing: ./blobs/sha256/", |m: &Made| fs::remove_file(m.blob()).unwrap())]
#[case::a_missing_head("missing: ./index.json", |m: &Made| fs::remove_file(m.path("index.json")).unwrap())]
#[case::an_extra_file("not part of the bundle: ./manifest.json", |m: &Made| m.write("manifest.json", "[]"))]
#[case::an_extra_hidden_file("not part of the bundle: ./.DS_Store", |m: &Made| m.write(".DS_Store", ""))]
#[case::a_name_with_a_newline("not part of the bundle", |m: &Made| m.write("bundle.json\nbundle.json", ""))]
#[case::an_empty_directory("directory: not part of the bundle: ./System Volume", |m: &Made| fs::create_dir(m.path("System Volume")).unwrap())]
#[case::a_link_in_place_of_a_blob("a link or special file", |m: &Made| m.replace_by_link(&m.blob()))]
#[case::a_link_in_place_of_a_directory("a link or special file", |m: &Made| m.replace_by_link(&m.path("blobs")))]
#[case::a_fifo("a link or special file: ./pipe", |m: &Made| m.run("mkfifo", &["pipe"]))]
#[case::sums_that_are_a_link("no SHA256SUMS", |m: &Made| m.replace_by_link(&m.path("SHA256SUMS")))]
#[case::no_sums("no SHA256SUMS", |m: &Made| fs::remove_file(m.path("SHA256SUMS")).unwrap())]
#[case::changed_sums("does not verify", |m: &Made| m.append("SHA256SUMS", "\n"))]
#[case::no_signature("not signed", |m: &Made| fs::remove_file(m.signature()).unwrap())]
#[case::no_directory_of_signatures("not signed", |m: &Made| fs::remove_dir_all(m.path("signatures")).unwrap())]
#[case::an_empty_signature("malformed", |m: &Made| fs::write(m.signature(), "").unwrap())]
#[case::junk_after_a_signature("malformed", |m: &Made| m.append_to(&m.signature(), "junk\n"))]
#[case::a_signature_with_crlf("malformed", |m: &Made| {
    let text = fs::read_to_string(m.signature()).unwrap();
    fs::write(m.signature(), text.replace('\n', "\r\n")).unwrap();
})]
#[case::a_large_signature("larger than 4 KiB", |m: &Made| fs::write(m.signature(), "x".repeat(4097)).unwrap())]
#[case::too_many_signatures("more than 16", |m: &Made| {
    for n in 0..16 {
        let name = format!("extra-{n}");
        m.make_key(&name);
        m.sign_as(&name, "sealift-bundle");
    }
})]
#[case::a_signature_by_another_name("another key than its name", |m: &Made| {
    fs::rename(m.signature(), m.path("signatures").join(format!("{}.sig", "0".repeat(32)))).unwrap();
})]
#[case::a_file_among_the_signatures("not named", |m: &Made| m.write("signatures/README", ""))]
#[case::a_hidden_file_among_the_signatures("not named", |m: &Made| m.write("signatures/.x", ""))]
#[case::a_signature_for_another_purpose("does not verify", |m: &Made| {
    fs::remove_file(m.signature()).unwrap();
    m.sign_as("alice", "file");
})]
#[case::a_good_and_a_broken_signature("malformed", |m: &Made| m.write(&format!("signatures/{}.sig", "f".repeat(32)), "x"))]
#[case::only_an_unknown_key("none of 1 signatures", |m: &Made| {
    fs::remove_file(m.signature()).unwrap();
    m.sign_as("mallory", "sealift-bundle");
})]
fn damage_is_refused(#[case] reason: &str, #[case] damage: impl FnOnce(&Made)) {
    let made = Made::new();
    damage(&made);
    let (code, said) = made.verify();
    assert_eq!(code, 3, "{said}");
    assert!(said.contains(reason), "{reason:?} is not in: {said}");
}

/// A trusted signer's own list is held to its form all the same.
#[rstest]
#[case::carriage_returns("not a path", |sums: String| sums.replace('\n', "\r\n"))]
#[case::one_space("two spaces", |sums: String| sums.replacen("  ", " ", 1))]
#[case::binary_mode("two spaces", |sums: String| sums.replacen("  ", " *", 1))]
#[case::upper_case("two spaces", |sums: String| sums.replacen(&sums[..64], &sums[..64].to_uppercase(), 1))]
#[case::a_line_twice("not sorted", |sums: String| format!("{}\n{sums}", sums.lines().next().unwrap()))]
#[case::another_order("not sorted", |sums: String| sums.lines().rev().map(|line| format!("{line}\n")).collect())]
#[case::an_unfinished_line("not plain lines", |sums: String| sums.trim_end().to_owned())]
#[case::an_empty_line("line 1", |sums: String| format!("\n{sums}"))]
#[case::an_escaped_line("two spaces", |sums: String| format!("\\{sums}"))]
#[case::a_nul("not plain lines", |sums: String| sums.replacen('\n', "\0\n", 1))]
#[case::a_climbing_path("not a path", |sums: String| sums.replace("index.json", "../index.json"))]
#[case::an_absolute_path("not a path", |sums: String| sums.replace("index.json", "/index.json"))]
#[case::its_own_signature("not a path", |sums: String| sums.replace("oci-layout", "signatures/a.sig"))]
#[case::a_blob_by_a_false_name("named by its own sum", |sums: String| sums.replacen("sha256/", "sha256/0", 1))]
#[case::no_index("not all listed", |sums: String| sums.lines().filter(|l| !l.ends_with("index.json")).map(|l| format!("{l}\n")).collect())]
#[case::nothing("not all listed", |_: String| String::new())]
fn a_list_in_another_form_is_refused(#[case] reason: &str, #[case] rewrite: impl FnOnce(String) -> String) {
    let made = Made::new();
    let sums = rewrite(fs::read_to_string(made.path("SHA256SUMS")).unwrap());
    fs::write(made.path("SHA256SUMS"), sums).unwrap();
    fs::remove_file(made.signature()).unwrap();
    made.sign_as("alice", "sealift-bundle");
    let (code, said) = made.verify();
    assert_eq!(code, 3, "{said}");
    assert!(said.contains(reason), "{reason:?} is not in: {said}");
}

/// Lines that ssh-keygen would take, and that are no trust to seal bundles.
#[rstest]
#[case::any_namespace("alice@example.com KEY")]
#[case::any_namespace_with_a_comment_that_looks_like_one("alice@example.com KEY namespaces=\"sealift-bundle\"")]
#[case::another_namespace("alice@example.com namespaces=\"git\" KEY")]
#[case::a_certificate_authority("alice@example.com cert-authority,namespaces=\"sealift-bundle\" KEY")]
#[case::a_quoted_certificate_authority("\"alice smith\" cert-authority,namespaces=\"sealift-bundle\" KEY")]
#[case::a_namespace_in_the_name("\"a ,namespaces=\" KEY")]
#[case::no_longer_valid("alice@example.com namespaces=\"sealift-bundle\",valid-before=\"20200101\" KEY")]
#[case::not_yet_valid("alice@example.com namespaces=\"sealift-bundle\",valid-after=\"29990101\" KEY")]
#[case::nobody("")]
fn trust_that_does_not_name_bundles_is_no_trust(#[case] line: &str) {
    let made = Made::new();
    made.trust(line);
    let (code, said) = made.verify();
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("none of 1 signatures"), "{said}");
}

/// As ssh-keygen reads them: blanks in quotes belong to the name.
#[rstest]
#[case::quoted("\"alice smith\" namespaces=\"sealift-bundle\" KEY")]
#[case::quoted_in_the_middle("al\"ice  smith\"   namespaces=\"x,sealift-*\" KEY a comment")]
#[case::blanks_in_front(" \talice@example.com\tnamespaces=\"sealift-bundle\" KEY")]
fn names_of_signers_may_have_blanks(#[case] line: &str) {
    let made = Made::new();
    made.trust(line);
    let (code, said) = made.verify();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("signed by 1 trusted"), "{said}");
}

#[test]
fn wrong_use_and_unreadable_places_are_told_apart_from_damage() {
    let made = Made::new();
    let nowhere = made.directory.path().join("nowhere");
    assert_eq!(made.verify_with(&nowhere).0, 1);
    assert_eq!(verify(&nowhere, &made.allowed()).0, 1);
    assert_eq!(verify(&made.allowed(), &made.allowed()).0, 2, "a file is not a bundle directory");
    assert_eq!(verify(&made.bundle, Path::new("")).0, 2);
}

/// A bundle of two blobs, sealed by alice, who is trusted; mallory has a key too.
struct Made {
    directory: TempDir,
    bundle: PathBuf,
}

impl Made {
    fn new() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let bundle = directory.path().join("bundle");
        let made = Self { directory, bundle };
        fs::create_dir_all(made.path("blobs/sha256")).expect("the bundle can be made");
        fs::create_dir_all(made.path("signatures")).expect("the bundle can be made");
        made.write("bundle.json", "{}");
        made.write("index.json", "{}");
        made.write("oci-layout", "{}");
        for content in ["a layer", "another layer"] {
            let hex = &support::sha256(content.as_bytes())["sha256:".len()..];
            made.write(&format!("blobs/sha256/{hex}"), content);
        }
        made.run(
            "sh",
            &["-c", "find . -type f | cut -c 3- | LC_ALL=C sort | xargs sha256sum >../sums && mv ../sums SHA256SUMS"],
        );
        for name in ["alice", "mallory"] {
            made.make_key(name);
        }
        made.trust("alice@example.com namespaces=\"sealift-bundle\" KEY alice");
        made.sign_as("alice", "sealift-bundle");
        made
    }

    fn verify(&self) -> (i32, String) {
        self.verify_with(&self.allowed())
    }

    fn verify_with(&self, trust: &Path) -> (i32, String) {
        verify(&self.bundle, trust)
    }

    /// Writes allowed_signers; `KEY` stands for alice's.
    fn trust(&self, line: &str) {
        let public = self.public("alice");
        let key: Vec<&str> = public.split(' ').take(2).collect();
        fs::write(self.allowed(), format!("# who may seal\n\n{}\n", line.replace("KEY", &key.join(" "))))
            .expect("the bundle can be made");
    }

    fn make_key(&self, name: &str) {
        let key = self.key(name);
        self.run(
            "ssh-keygen",
            &["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key.to_str().expect("a UTF-8 path")],
        );
    }

    fn sign_as(&self, name: &str, namespace: &str) {
        let key = self.key(name);
        self.run(
            "ssh-keygen",
            &["-q", "-Y", "sign", "-f", key.to_str().expect("a UTF-8 path"), "-n", namespace, "SHA256SUMS"],
        );
        fs::rename(self.path("SHA256SUMS.sig"), self.signature_of(name)).expect("the bundle can be made");
    }

    fn signature(&self) -> PathBuf {
        self.signature_of("alice")
    }

    fn signature_of(&self, name: &str) -> PathBuf {
        use base64::Engine as _;
        let public = self.public(name);
        let blob = base64::engine::general_purpose::STANDARD
            .decode(public.split(' ').nth(1).expect("a key type and a key"))
            .expect("the bundle can be made");
        let id = support::sha256(&blob)["sha256:".len()..][..32].to_owned();
        self.path("signatures").join(format!("{id}.sig"))
    }

    fn public(&self, name: &str) -> String {
        fs::read_to_string(self.key(name).with_extension("pub")).expect("the bundle can be made")
    }

    fn key(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn allowed(&self) -> PathBuf {
        self.directory.path().join("allowed_signers")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.bundle.join(name)
    }

    fn blob(&self) -> PathBuf {
        fs::read_dir(self.path("blobs/sha256"))
            .expect("the bundle can be made")
            .next()
            .expect("a blob")
            .expect("an entry")
            .path()
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).expect("the bundle can be made");
    }

    fn append(&self, name: &str, more: &str) {
        let path = self.path(name);
        self.append_to(if path.is_dir() { self.blob() } else { path }.as_path(), more);
    }

    fn append_to(&self, path: &Path, more: &str) {
        let mut content = fs::read(path).expect("the bundle can be made");
        content.extend_from_slice(more.as_bytes());
        fs::write(path, content).expect("the bundle can be made");
    }

    /// The same content, but elsewhere.
    fn replace_by_link(&self, path: &Path) {
        let elsewhere = self.directory.path().join("elsewhere");
        fs::rename(path, &elsewhere).expect("the bundle can be made");
        symlink(&elsewhere, path).expect("the bundle can be made");
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(&self.bundle)
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|e| panic!("{program} cannot be run: {e}"));
        assert!(output.status.success(), "{program}: {output:?}");
    }
}

fn verify(bundle: &Path, trust: &Path) -> (i32, String) {
    let output = Command::new(script()).arg(bundle).arg(trust).stdin(Stdio::null()).output().expect("the script runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().expect("the script ends by itself"), String::from_utf8_lossy(&said).into_owned())
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/verify-bundle")
}
