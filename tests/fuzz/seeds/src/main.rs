//! Writes the first inputs of every target, made of the bundles in `bundle-spec`: `seeds DIRECTORY`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use seeds::{Kind, Tree};
use sha2::{Digest as _, Sha256};
use walkdir::WalkDir;

fn main() {
    let to = PathBuf::from(std::env::args().nth(1).expect("usage: seeds DIRECTORY"));
    let seeds = Seeds { to };
    let spec = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../bundle-spec");
    for sort in ["good", "attacks"] {
        for entry in fs::read_dir(spec.join(sort)).expect("the corpus is there") {
            let from = entry.expect("the corpus can be read").path();
            if from.join("bundle").is_dir() {
                seeds.bundle(&from);
            }
            seeds.archives(&from);
        }
    }
    seeds.archives(&spec.join("golden"));
    let signers = fs::read_to_string(spec.join("attacks/keys/allowed_signers")).expect("the trusted keys");
    seeds.put("allowed_signers", signers.as_bytes());
    let key = signers.lines().next().and_then(|line| line.split_once("ssh-ed25519")).expect("the first is trusted").1;
    let key = format!("ssh-ed25519{key}");
    for (target, lines) in [("allowed_signers", SIGNERS), ("references", REFERENCES), ("challenges", CHALLENGES)] {
        lines.iter().for_each(|line| seeds.put(target, line.replace("KEY", &key).as_bytes()));
    }
}

struct Seeds {
    to: PathBuf,
}

impl Seeds {
    fn put(&self, target: &str, bytes: &[u8]) {
        let folder = self.to.join(target);
        fs::create_dir_all(&folder).expect("a place for seeds");
        fs::write(folder.join(hex(bytes)), bytes).expect("a place for seeds");
    }

    fn bundle(&self, from: &Path) {
        let desk = tempfile::tempdir().expect("a temporary directory");
        let bundle = desk.path().join("bundle");
        let copied = Command::new("cp").arg("-R").arg(from.join("bundle")).arg(&bundle).status();
        assert!(copied.expect("cp is there").success());
        let script = from.join("make.sh");
        if fs::read_to_string(&script).is_ok_and(|text| !text.contains("truncate")) {
            let _ = Command::new("sh").arg("-eu").arg(&script).current_dir(&bundle).status();
        }
        let Some(files) = read(&bundle) else { return };
        for (path, bytes) in &files {
            match path.as_str() {
                "SHA256SUMS" => self.put("sums", bytes),
                "bundle.json" => self.put("bundle_json", bytes),
                "index.json" => self.put("documents", &[b"\0", bytes.as_slice()].concat()),
                path if path.starts_with("signatures/") => self.signature(bytes),
                _ if bytes.starts_with(b"{") => (3..8).for_each(|kind| {
                    self.put("documents", &[&[kind], bytes.as_slice()].concat());
                }),
                _ => {}
            }
        }
        // A signature would hold for no other bytes than these: it is the first thing to leave out.
        let unsigned = files.iter().filter(|(path, _)| !path.ends_with(".sig"));
        let unsigned = unsigned.map(|(path, bytes)| (path.clone(), bytes.clone())).collect();
        self.put("directory", &tree(&bundle, &files).to_bytes());
        let tree = tree(&bundle, &unsigned).to_bytes();
        self.put("directory", &tree);
        self.put("archive", &[b"\x01", tree.as_slice()].concat());
        self.put("archive", &[b"\0", Tree::parse(&tree).pack().as_slice()].concat());
    }

    /// Archives that lie there as they are.
    fn archives(&self, from: &Path) {
        // Beside the bundles lie texts about them.
        for entry in fs::read_dir(from).into_iter().flatten().filter_map(Result::ok) {
            let is_archive = entry.file_name().to_string_lossy().contains(".tar");
            if is_archive && entry.metadata().is_ok_and(|found| found.is_file() && found.len() <= LARGEST) {
                self.put("archive", &[b"\0", fs::read(entry.path()).expect("an archive").as_slice()].concat());
            }
        }
    }

    fn signature(&self, text: &[u8]) {
        self.put("sshsig", &[b"\0", text].concat());
        let body: String =
            String::from_utf8_lossy(text).lines().filter(|line| !line.starts_with('-')).collect::<Vec<_>>().concat();
        if let Ok(blob) = STANDARD.decode(body) {
            self.put("sshsig", &[b"\x01", blob.as_slice()].concat());
        }
    }
}

/// Every regular file by its path, unless there is very much.
fn read(bundle: &Path) -> Option<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut total = 0;
    for entry in WalkDir::new(bundle) {
        let Ok(entry) = entry else { continue };
        if entry.file_type().is_file() {
            total += entry.metadata().ok()?.len();
            let path = entry.path().strip_prefix(bundle).ok()?.to_str()?.to_owned();
            (total <= LARGEST).then_some(())?;
            files.insert(path, fs::read(entry.path()).ok()?);
        }
    }
    Some(files)
}

/// The bundle as a tree in which digests and sizes are references, in the order of an archive.
fn tree(bundle: &Path, files: &BTreeMap<String, Vec<u8>>) -> Tree {
    let mut order: Vec<(Kind, String, Vec<u8>)> = Vec::new();
    for (kind, path) in [(Kind::Descriptor, "bundle.json"), (Kind::Layout, "oci-layout"), (Kind::Index, "index.json")] {
        if let Some(bytes) = files.get(path) {
            order.push((kind, path.to_owned(), bytes.clone()));
        }
    }
    let mut blobs: BTreeMap<String, Vec<u8>> = files
        .iter()
        .filter(|(path, bytes)| **path == format!("blobs/sha256/{}", hex(bytes)))
        .map(|(path, bytes)| (path["blobs/sha256/".len()..].to_owned(), bytes.clone()))
        .collect();
    // What is referred to comes later, in the order in which it is named.
    let mut at = 0;
    while at < order.len() {
        let text = String::from_utf8_lossy(&order[at].2).into_owned();
        let mut named: Vec<(usize, String)> =
            blobs.keys().filter_map(|digits| text.find(digits.as_str()).map(|place| (place, digits.clone()))).collect();
        named.sort();
        for (_, digits) in named {
            let bytes = blobs.remove(&digits).expect("it was there");
            order.push((Kind::Blob, digits, bytes));
        }
        at += 1;
    }
    order.extend(blobs.into_iter().map(|(digits, bytes)| (Kind::Blob, digits, bytes)));
    let mut tree = Tree::default();
    for (at, (kind, _, bytes)) in order.iter().enumerate() {
        let mut content = bytes.clone();
        for (number, (_, digits, target)) in order[at + 1..].iter().enumerate().take(200) {
            let number = number as u8;
            let size = format!("{digits}\",\"size\":{}", target.len());
            content = replace(
                &content,
                size.as_bytes(),
                &[b"\x01", [number].as_slice(), b"\",\"size\":\x02", &[number]].concat(),
            );
            content = replace(&content, digits.as_bytes(), &[1, number]);
        }
        tree.add(*kind, &content);
    }
    for (path, bytes) in files {
        let known = ["bundle.json", "oci-layout", "index.json", "SHA256SUMS"].contains(&path.as_str())
            || *path == format!("blobs/sha256/{}", hex(bytes));
        if !known {
            tree.add(Kind::File, &[&[path.len() as u8], path.as_bytes(), bytes.as_slice()].concat());
        }
    }
    for entry in WalkDir::new(bundle).into_iter().filter_map(Result::ok) {
        let path = entry.path().strip_prefix(bundle).expect("below").to_string_lossy().into_owned();
        if entry.path_is_symlink() {
            let target = fs::read_link(entry.path()).expect("a link");
            let target = target.to_string_lossy();
            tree.add(Kind::Link, &[&[path.len() as u8], path.as_bytes(), target.as_bytes()].concat());
        } else if entry.file_type().is_dir() && !["", "blobs", "blobs/sha256", "signatures"].contains(&path.as_str()) {
            tree.add(Kind::Folder, path.as_bytes());
        } else if !entry.file_type().is_file() && !entry.file_type().is_dir() {
            tree.add(Kind::Pipe, path.as_bytes());
        }
    }
    // Only where somebody wrote it by hand.
    let worked_out = Tree::parse(&tree.to_bytes());
    match files.get("SHA256SUMS") {
        Some(sums) if !worked_out.has("SHA256SUMS", sums) => {
            tree.add(Kind::File, &[b"\x0aSHA256SUMS", sums.as_slice()].concat());
        }
        _ => {}
    }
    tree
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        if rest.starts_with(from) {
            out.extend(to);
            rest = &rest[from.len()..];
        } else {
            out.push(rest[0]);
            rest = &rest[1..];
        }
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Larger bundles are about their size, which a fuzzer cannot change.
const LARGEST: u64 = 12 << 10;

/// Lines of `allowed_signers`; `KEY` stands for the trusted key.
const SIGNERS: &[&str] = &[
    "KEY",
    "KEY a comment",
    "a@example.com KEY",
    "a@example.com,b@* namespaces=\"sealift-*,!sealift-review\" KEY",
    "*,!*@evil namespaces=\"sealift-bundle\",valid-after=\"20250101\",valid-before=\"203012312359Z\" KEY c",
    "# comment\n\n  \t\na namespaces=\"git,sealift-bundle\" KEY\nb valid-before=\"20200101010203\" KEY\n",
    "\"a b\"c NAMESPACES=\"a\\\"b\",,valid-after=\"19700101000000Z\" KEY\r\n",
    "a cert-authority,namespaces=\"sealift-bundle\" KEY",
    "a no-touch-required KEY",
    "a namespaces=\"sealift-bundle\" ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ==",
    "a namespaces=\"sealift-bundle KEY",
    "\u{feff}a KEY",
    "KEY\nKEY",
];

const REFERENCES: &[&str] = &[
    "busybox",
    "busybox:1.36",
    "docker://docker.io/library/busybox:latest",
    "index.docker.io/library/busybox",
    "registry.example.com:5000/ns/app:1.4@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "[::1]:5000/a/b:c",
    "localhost/a",
    "127.0.0.1:5000/a__b/c.d-e---f:A_b.C-d",
    "ns/app@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "a@sha512:00",
    "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
];

const CHALLENGES: &[&str] = &[
    r#"Basic realm="a, \"b\"""#,
    r#"Bearer realm="https://auth.example.com/token",service="registry",scope="repository:a/b:pull,push repository:c:pull""#,
    r#"Negotiate, bearer Realm="https://auth/t",error="invalid_token", Basic realm=x"#,
    r#"Digest realm="x", qop="auth, auth-int", nonce=abc=="#,
    r#"Bearer realm="https://a",realm="https://b""#,
];
