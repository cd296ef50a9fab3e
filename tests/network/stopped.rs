//! An import that is stopped asks the registry to drop what it has sent in part.
//!
//! docker-registry 2 does so only where it has no byte yet ("upload resumed at wrong offset"), and else clears it away in
//! its own time; so what is checked is that it is asked.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use support::{FaultProxy, RealRegistry, Recorded, Rule, walk};

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
