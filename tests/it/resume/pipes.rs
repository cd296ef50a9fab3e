//! A bundle that is never a file: through a pipe into a registry that is busy and mounts nothing.

use std::process::Command;

use support::{FaultProxy, RealRegistry, Rule, noise, push_image, raw_blob};

/// The medium cannot be read a second time: pieces are kept until they are accepted, and what is wanted in a second
/// repository is read back from the registry.
#[test]
fn pieces_that_are_refused_are_sent_again_and_what_is_not_mounted_is_read_back() {
    let (desk, source, destination) = (support::desk!(), RealRegistry::start(), RealRegistry::start());
    let (from, to) = (FaultProxy::start(source.host()), FaultProxy::start(destination.host()));
    let shared = noise(1, 20 << 20);
    let layer = push_image(source.host(), "team/a", "1", &[&shared, b"small"]).remove(1);
    push_image(source.host(), "team/b", "1", &[&shared]);
    to.inject(Rule::on("POST", "mount=").status(405));
    // Refused as a whole: what docker-registry 2.8 has taken a part of it never goes on with.
    to.inject(Rule::on("PATCH", "/uploads/").status(503).times(1));
    to.inject(Rule::on("PATCH", "/uploads/").after(2).status(503).times(1));
    let program = env!("CARGO_BIN_EXE_sealift");
    let line = format!(
        "set -o pipefail; {program} export {from}/team/a:1 {from}/team/b:1 --output - --key key | cat | \
         {program} import - {to} --trust allowed_signers --retry-delay 0.05",
        from = from.host(),
        to = to.host()
    );
    let done = Command::new("bash").args(["-c", &line]).current_dir(desk.path()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    for repository in ["team/a", "team/b"] {
        assert_eq!(support::tags(destination.host(), repository), ["1"]);
        let (found, size) = raw_blob(destination.host(), repository, &layer).unwrap();
        assert_eq!((found.as_str(), size), (layer.as_str(), shared.len() as u64));
    }
    assert_eq!(from.count("GET", &layer), 1, "fetched once, whatever broke off");
    assert_eq!(to.count("GET", &format!("/team/a/blobs/{layer}")), 1, "not read back");
    let pieces: Vec<u64> =
        to.requests().iter().filter(|r| r.method == "PATCH" && r.status == Some(202)).map(|r| r.received).collect();
    assert!(pieces.iter().all(|size| *size <= 8 << 20), "{pieces:?}");
}
