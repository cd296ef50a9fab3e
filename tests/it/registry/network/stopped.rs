//! An import that is stopped asks the registry to delete what it has sent in part.
//!
//! docker-registry 2.8 does so only where the session stands at the place that it has named last ("upload resumed at wrong
//! offset"): not after a PUT that was cut, of which it deletes what it has in its own time. There what is checked is that it
//! is asked. Sessions that take pieces are left at a place that is known.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use support::{FaultProxy, RealRegistry, Recorded, Rule, noise, push_image, walk};

use support::{busybox, desk};

#[test]
fn a_stopped_import_takes_its_uploads_back() {
    let (source, destination) = (RealRegistry::with_corpus(), RealRegistry::start());
    let proxy = FaultProxy::start(destination.host());
    let desk = desk!();
    desk.export(&[busybox(source.host())]).success();
    proxy.inject(Rule::on("PUT", "/uploads/").throttle(100_000));
    let running = desk.start(&["import", "bundle", proxy.host(), "--trust", "allowed_signers"]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !proxy.requests().iter().any(|r| r.method == "PUT" && r.received > 50_000) {
        assert!(Instant::now() < deadline, "no upload began");
        std::thread::sleep(Duration::from_millis(10));
    }
    running.interrupt().code(130);
    let of = |method: &str, done: bool| -> HashSet<String> {
        let fits =
            |r: &&Recorded| r.method == method && r.path.contains("/uploads/") && (r.status == Some(201)) == done;
        let requests = proxy.requests();
        requests.iter().filter(fits).filter_map(|r| Some(r.path.split('?').next()?.to_owned())).collect()
    };
    let (open, dropped) = (of("PUT", false), of("DELETE", false));
    assert!(!open.is_empty() && open.is_subset(&dropped), "{open:?} {dropped:?}");
    assert!(dropped.is_disjoint(&of("PUT", true)), "what is whole is not taken back");
    // The same command goes on.
    proxy.heal();
    desk.import("bundle", proxy.host(), &[]).success();
    assert!(walk(destination.host(), &[]).lies().is_empty());
}

#[test]
fn sigterm_stops_a_run_with_exit_code_143() {
    let source = RealRegistry::with_corpus();
    let proxy = FaultProxy::start(source.host());
    proxy.inject(Rule::on("GET", "/blobs/").throttle(1_000));
    let desk = desk!();
    let image = busybox(proxy.host());
    let arguments = ["export", &image, "--output", "bundle", "--key", "key", "--progress", "json"];
    let running = desk.start(&arguments);
    let deadline = Instant::now() + Duration::from_secs(60);
    while proxy.count("GET", "/blobs/") == 0 {
        assert!(Instant::now() < deadline, "no download began");
        std::thread::sleep(Duration::from_millis(10));
    }
    let stopped = running.terminate();
    stopped.code(143).stderr_contains(r#""exitCode":143"#);
    proxy.heal();
    desk.sealift(&arguments).success();
}

/// What a registry has of upload sessions. (docker-registry 2.8 keeps a few bytes of hash state of a deleted one.)
fn uploads(registry: &RealRegistry) -> Vec<std::path::PathBuf> {
    let repositories = registry.storage().join("docker/registry/v2/repositories/team/app/_uploads");
    let Ok(entries) = std::fs::read_dir(repositories) else { return Vec::new() };
    let sessions = entries.map(|entry| entry.expect("an entry").path());
    sessions
        .flat_map(|session| ["data", "startedat"].map(|name| session.join(name)))
        .filter(|path| path.exists())
        .collect()
}

/// The piece that is under way is finished, so that the registry knows where the session stands.
#[test]
fn a_stopped_import_in_pieces_leaves_nothing_in_the_registry() {
    let (source, destination) = (RealRegistry::start(), RealRegistry::start());
    let proxy = FaultProxy::start(destination.host());
    let desk = desk!();
    push_image(source.host(), "team/app", "1", &[&noise(1, (8 << 20) + 300_000)]);
    let export = ["export", &format!("{}/team/app:1", source.host()), "--output", "bundle.tar.zst", "--key", "key"];
    desk.sealift(&export).success();
    // The second piece, of 300,000 bytes, takes half a second.
    proxy.inject(Rule::on("PATCH", "/uploads/").after(1).throttle(600_000));
    let running = desk.start(&["import", "bundle.tar.zst", proxy.host(), "--trust", "allowed_signers"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    let second_has_begun = || {
        let pieces: Vec<Recorded> = proxy.requests().into_iter().filter(|r| r.method == "PATCH").collect();
        pieces.get(1).is_some_and(|piece| piece.received > 50_000)
    };
    while !second_has_begun() {
        assert!(Instant::now() < deadline, "no second piece came");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!uploads(&destination).is_empty());
    running.interrupt().code(130);
    proxy.wait_until_quiet();
    assert_eq!(uploads(&destination), [] as [std::path::PathBuf; 0]);
    proxy.heal();
    desk.import("bundle.tar.zst", proxy.host(), &[]).success();
    assert!(walk(destination.host(), &[]).lies().is_empty());
}
