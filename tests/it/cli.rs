//! The command line as people and programs meet it: one file a command.

mod export;
mod files;
mod guide;
mod import;
mod inspect;
mod journey;
mod keygen;
mod progress;
mod reference;
mod serve;
mod terminal;
mod trust;
mod verify;

use std::fs;

use support::Desk;

/// What each line of `sealift` says on stderr and how it ends, one after the other. The desk has an empty directory
/// `empty`, a list with a fault `list`, a directory `sealed` without a signature, and of that a tar `own.tar` and a
/// compressed one `own.tgz` that another program made.
fn transcript(lines: &[&str]) -> String {
    let desk = support::desk!();
    fs::create_dir(desk.path().join("empty")).unwrap();
    fs::write(desk.path().join("list"), "h.io/a:1\nnot a reference\n").unwrap();
    desk.shell(".", "mkdir -p sealed/blobs/sha256; cd sealed; printf '{\"imageLayoutVersion\":\"1.0.0\"}' > oci-layout; printf '{\"schemaVersion\":2,\"manifests\":[]}' > index.json; touch SHA256SUMS; cd ..; tar cf own.tar sealed; tar czf own.tgz sealed");
    lines.iter().map(|line| said(&desk, line)).collect()
}

fn said(desk: &Desk, line: &str) -> String {
    let arguments: Vec<&str> = line.split(' ').chain(["--quiet"]).collect();
    let variables = [("COLUMNS", "100"), ("HTTPS_PROXY", "http://127.0.0.1:1")];
    let run = desk.sealift_with(&arguments, &variables, "");
    assert!(run.stdout().is_empty(), "{}", run.stdout());
    let here = desk.path().display().to_string();
    format!("$ sealift {line}\n{}[{}]\n\n", run.stderr().replace(&here, "HERE"), run.exit_code())
}
