//! A bundle in one file on real registries: the same journey through tar, zst and a pipe, what other tools make of it,
//! and what a kill leaves.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rstest::rstest;
use support::{Desk, FaultProxy, RealRegistry, Rule, references, skopeo, tags, walk};

#[rstest]
#[case::tar("b.tar")]
#[case::zst("b.tar.zst")]
fn the_whole_corpus_travels_in_one_file(#[case] file: &str) {
    let (source, destination) = (RealRegistry::with_corpus(), RealRegistry::start());
    let desk = support::desk!();
    export(&desk, &everything(&source), file).success();
    assert_eq!(left(&desk), [file], "nothing is left beside it");
    desk.sealift(&["verify", file, "--trust", "allowed_signers"]).success();
    let names = desk.sealift(&["inspect", file, "--trust", "allowed_signers"]).success().stdout();
    assert!(names.contains("library/busybox"));
    desk.import(file, destination.host(), &[]).success();
    let untagged = untagged();
    let untagged: Vec<(&str, &str)> = untagged.iter().map(|(name, digest)| (name.as_str(), digest.as_str())).collect();
    assert_eq!(walk(source.host(), &untagged), walk(destination.host(), &untagged));
    // Again: nothing is left to send.
    let before = destination.access_log().len();
    desk.import(file, destination.host(), &[]).success();
    let again = destination.access_log().split_off(before);
    assert!(!again.iter().any(|access| access.method == "PUT" && access.path.contains("/uploads/")));
}

#[rstest]
#[case::tar("none")]
#[case::zstd("zstd")]
fn it_travels_through_a_pipe(#[case] compress: &str) {
    let (source, destination) = (RealRegistry::with_corpus(), RealRegistry::start());
    let desk = support::desk!();
    let program = env!("CARGO_BIN_EXE_sealift");
    let line = format!(
        "set -o pipefail; {program} export {} --output - --compress {compress} --key key | \
         {program} import - {} --trust allowed_signers",
        busybox(&source),
        destination.host()
    );
    let done = Command::new("bash").args(["-c", &line]).current_dir(desk.path()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let wanted = references().into_iter().find(|r| r.repository == "library/busybox").unwrap();
    assert_eq!(
        walk(destination.host(), &[]).tags[&(wanted.repository.clone(), wanted.reference.clone())],
        wanted.digest
    );
}

#[rstest]
#[case::in_the_seal(700)]
#[case::in_a_layer(600_000)]
#[case::before_the_last_byte(-1)]
fn a_cut_pipe_lands_nothing(#[case] length: i64) {
    let (source, destination) = (RealRegistry::with_corpus(), RealRegistry::start());
    let desk = support::desk!();
    export(&desk, &[busybox(&source)], "b.tar").success();
    let program = env!("CARGO_BIN_EXE_sealift");
    let line = format!(
        "head -c {length} b.tar | {program} import - {} --trust allowed_signers --retry-delay 0.05",
        destination.host()
    );
    let done = Command::new("bash").args(["-c", &line]).current_dir(desk.path()).output().unwrap();
    assert_eq!(done.status.code(), Some(3), "{}", String::from_utf8_lossy(&done.stderr));
    let landed = support::catalog(destination.host());
    assert!(landed.iter().all(|repository| tags(destination.host(), repository).is_empty()));
}

#[test]
fn other_tools_read_it() {
    let (source, destination) = (RealRegistry::with_corpus(), RealRegistry::start());
    let desk = support::desk!();
    let image =
        references().into_iter().find(|r| r.is_tagged() && r.has("platforms")).expect("an OCI index in the corpus");
    export(&desk, &[image.at(source.host())], "b.tar").success();
    desk.shell(".", "tar tf b.tar | head -n 1 | grep -qx SHA256SUMS");
    desk.shell(".", "mkdir unpacked && tar -C unpacked -xf b.tar");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/verify-bundle");
    let checked = Command::new(script).args(["unpacked", "allowed_signers"]).current_dir(desk.path()).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    desk.sealift(&["verify", "unpacked", "--trust", "allowed_signers"]).success();
    let from = format!("oci-archive:{}:{}", desk.path().join("b.tar").display(), image.name());
    let to = format!("docker://{}/copied:1", destination.host());
    let copied = skopeo(&["copy", "--all", "--dest-tls-verify=false", &from, &to]);
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    assert_eq!(walk(destination.host(), &[]).tags[&("copied".to_owned(), "1".to_owned())], image.digest);

    // Made by another tool: refused, and unpacked it is good.
    desk.shell(".", "tar -C unpacked -cf other.tar SHA256SUMS signatures bundle.json oci-layout index.json blobs");
    desk.sealift(&["verify", "other.tar", "--trust", "allowed_signers"]).code(3).stderr_contains("unpack the files");
}

#[test]
fn the_same_export_makes_the_same_file_in_every_form() {
    let source = RealRegistry::with_corpus();
    let (one, two) = (support::desk!(), support::desk!());
    fs::copy(one.path().join("key"), two.path().join("key")).unwrap();
    for (desk, file) in [(&one, "b.tar"), (&two, "b.tar"), (&two, "b.tar.zst")] {
        export(desk, &[busybox(&source)], file).success();
    }
    let bytes = fs::read(one.path().join("b.tar")).unwrap();
    assert!(bytes == fs::read(two.path().join("b.tar")).unwrap());
    two.shell(".", "zstd -dc b.tar.zst | cmp - b.tar");
    let program = env!("CARGO_BIN_EXE_sealift");
    two.shell(
        ".",
        &format!(
            "export SOURCE_DATE_EPOCH=1700000000; {program} export {} --output - --key key | cmp - b.tar",
            busybox(&source)
        ),
    );
}

/// What is done to a good file, and what the refusal must say.
#[rstest]
#[case::truncated("truncate -s -1 b.tar", "of")]
#[case::trailing("printf x >> b.tar", "goes on after the end")]
#[case::second_archive("cp b.tar c.tar && cat c.tar >> b.tar", "goes on after the end")]
#[case::setuid("printf 0004777 | dd of=b.tar bs=1 seek=100 conv=notrunc status=none", "header of SHA256SUMS")]
#[case::last_header(
    "n=$(tar -tvRf b.tar | grep -o '^block [0-9]*' | tail -n 2 | head -n 1 | cut -c7-); printf x | dd of=b.tar bs=1 seek=$((n * 512 + 400)) conv=notrunc status=none",
    "the header of blobs/sha256/"
)]
#[case::appended("echo '[]' > manifest.json && tar -rf b.tar manifest.json", "b.tar")]
fn a_changed_file_is_refused_before_any_writing_request(#[case] attack: &str, #[case] reason: &str) {
    let (source, destination) = (RealRegistry::with_corpus(), RealRegistry::start());
    let counting = FaultProxy::start(destination.host());
    let desk = support::desk!();
    export(&desk, &[busybox(&source)], "b.tar").success();
    desk.shell(".", attack);
    desk.import("b.tar", counting.host(), &[]).code(3).stderr_contains(reason);
    let writes: Vec<_> =
        counting.requests().into_iter().filter(|r| !["GET", "HEAD"].contains(&r.method.as_str())).collect();
    assert!(writes.is_empty(), "{writes:?}");
}

#[test]
fn an_interrupted_export_goes_on_as_planned_although_a_tag_moved() {
    let source = RealRegistry::with_corpus();
    let proxy = FaultProxy::start(source.host());
    let desk = support::desk!();
    let image = references().into_iter().max_by_key(|reference| reference.reaches).unwrap();
    let asked = image.at(proxy.host());
    proxy.inject(Rule::on("GET", "/blobs/").after(3).status(404).times(1));
    let arguments = ["export", "--jobs", "1", &asked, "--output", "b.tar", "--key", "key", "--retry-delay", "0.05"];
    desk.sealift(&arguments).code(1).stderr_contains("run the same command again");
    assert!(!desk.path().join("b.tar").exists());
    desk.sealift(&["verify", ".b.tar.partial", "--trust", "allowed_signers"]).code(3);
    proxy.heal();
    proxy.reset_count();
    export(&desk, &[asked], "b.tar").success().stderr_contains("an interrupted run planned");
    assert_eq!(proxy.count("GET", "/manifests/"), 0, "the plan was pinned, and nothing was to be asked");
    let listing = desk.sealift(&["inspect", "b.tar", "--trust", "allowed_signers", "--json"]).stdout();
    let listing: serde_json::Value = serde_json::from_str(&listing).unwrap();
    let blobs = listing["totals"]["blobs"].as_u64().unwrap() as usize;
    assert_eq!(proxy.count("GET", "/blobs/"), blobs - 3, "what was there was fetched again");
    desk.sealift(&["verify", "b.tar", "--trust", "allowed_signers"]).success();
}

#[test]
fn two_exports_to_one_file_and_a_full_pipe_are_told() {
    let source = RealRegistry::with_corpus();
    let desk = support::desk!();
    fs::write(desk.path().join("b.tar"), "mine").unwrap();
    export(&desk, &[busybox(&source)], "b.tar").code(1).stderr_contains("exists already");
    assert_eq!(fs::read(desk.path().join("b.tar")).unwrap(), b"mine");
    export(&desk, &[busybox(&source)], "no/such/b.tar").code(1).stderr_contains("no/such");
    let program = env!("CARGO_BIN_EXE_sealift");
    let line = format!("{program} export {} --output - --key key | head -c 1000 > part", busybox(&source));
    let told = Command::new("bash").args(["-o", "pipefail", "-c", &line]).current_dir(desk.path()).output().unwrap();
    assert_eq!(told.status.code(), Some(1), "{}", String::from_utf8_lossy(&told.stderr));
}

#[test]
fn a_tar_is_served() {
    let source = RealRegistry::with_corpus();
    let desk = support::desk!();
    export(&desk, &[busybox(&source)], "b.tar").success();
    let mut server = Command::new(env!("CARGO_BIN_EXE_sealift"))
        .args(["serve", "b.tar", "--trust", "allowed_signers", "--listen", "127.0.0.1:0"])
        .current_dir(desk.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(server.stdout.take().unwrap()), &mut line).unwrap();
    let host = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
    let copied = skopeo(&[
        "copy",
        "--all",
        "--src-tls-verify=false",
        &busybox_at(&host).replacen("127.0.0.1", "docker://127.0.0.1", 1),
        &format!("dir:{}", desk.path().join("copy").display()),
    ]);
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
}

fn export(desk: &Desk, images: &[String], output: &str) -> support::Run {
    let mut arguments = vec!["export", "--output", output, "--key", "key", "--retry-delay", "0.05"];
    arguments.extend(images.iter().map(String::as_str));
    desk.sealift(&arguments)
}

fn everything(source: &RealRegistry) -> Vec<String> {
    references().iter().map(|reference| reference.at(source.host())).collect()
}

fn untagged() -> Vec<(String, String)> {
    let untagged = references().into_iter().filter(|reference| !reference.is_tagged());
    untagged.map(|reference| (reference.repository.clone(), reference.digest.clone())).collect()
}

fn busybox(source: &RealRegistry) -> String {
    busybox_at(source.host())
}

fn busybox_at(host: &str) -> String {
    references().iter().find(|r| r.repository == "library/busybox").expect("busybox in the corpus").at(host)
}

/// What bundles and their side files are on the desk.
fn left(desk: &Desk) -> Vec<String> {
    let files = fs::read_dir(desk.path()).expect("the desk");
    let names = files.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned());
    let mut files: Vec<String> = names.filter(|name| name.contains(".tar")).collect();
    files.sort();
    files
}
