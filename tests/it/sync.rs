//! `sealift sync` beside skopeo: the same commands on the same content, by Debian's skopeo and by sealift.

mod bundles;
mod failing;
mod help;
mod many_tags;
mod mirrors;
mod options;
mod policies;
mod round_trips;
mod side_by_side;
mod switching;
mod traps;
mod trees;

use std::path::Path;
use std::process::Command;

use support::{Desk, Run};

/// `sealift sync ARGUMENTS`, with short pauses between retries.
fn sync(desk: &Desk, arguments: &[&str]) -> Run {
    desk.sealift(&[&["sync", "--retry-delay", "50ms"], arguments].concat())
}

/// `skopeo sync ARGUMENTS` in the directory of the desk, without TLS on either side.
fn skopeo_sync(desk: &Desk, arguments: &[&str]) {
    let output = Command::new("skopeo")
        .args(["--insecure-policy", "sync", "--src-tls-verify=false", "--dest-tls-verify=false"])
        .args(arguments)
        .current_dir(desk.path())
        .output()
        .expect("skopeo runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// `diff -r` must find nothing.
#[track_caller]
fn assert_same_trees(one: &Path, other: &Path) {
    let output = Command::new("diff").args(["-r".as_ref(), one.as_os_str(), other.as_os_str()]).output().expect("diff");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
