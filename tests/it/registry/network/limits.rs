//! Hosts that want to be asked less.

use std::process::Command;
use std::time::{Duration, Instant};

use rstest::rstest;
use support::{FaultProxy, RealRegistry, Rule, references};

use support::{busybox, desk};

/// What a 429 or 503 says, and how long nothing may be asked after it.
#[rstest]
#[case::seconds(429, Some("1"), 1000)]
#[case::seconds_of_a_503(503, Some("1"), 1000)]
#[case::a_date(429, Some("in four seconds"), 1500)]
#[case::without(429, None, 700)]
fn after_a_refusal_nobody_asks_the_host_for_a_while(
    #[case] status: u16,
    #[case] retry_after: Option<&str>,
    #[case] pause: u64,
) {
    let source = RealRegistry::with_corpus();
    let proxy = FaultProxy::start(source.host());
    let retry_after = retry_after.map(|text| if text == "1" { text.to_owned() } else { in_four_seconds() });
    let headers: Vec<(&str, &str)> = retry_after.iter().map(|value| ("retry-after", value.as_str())).collect();
    proxy.inject(Rule::on("GET", "/blobs/").after(2).answer(status, &headers, "slow down").times(1));
    let image = references().into_iter().max_by_key(|r| r.reaches).expect("images").at(proxy.host());
    let desk = desk!();
    let options = ["--key", "key", "--jobs", "3", "--retry-delay", "0.7"];
    desk.sealift(&[&["export", &image, "--output", "bundle"][..], &options].concat()).success();
    let requests = proxy.requests();
    let refused = requests.iter().position(|r| r.status == Some(status)).expect("one was refused");
    let at = requests[refused].arrived;
    // The two other jobs may have sent theirs already; on a busy machine those arrive late.
    let early: Vec<_> =
        requests.iter().skip(refused + 1).filter(|r| r.arrived < at + Duration::from_millis(pause - 50)).collect();
    assert!(early.len() <= 2, "{early:?}");
    assert!(requests.iter().any(|r| r.arrived > at + Duration::from_millis(pause - 50)));
}

#[test]
fn a_pause_of_hours_is_told_and_not_made() {
    let source = RealRegistry::with_corpus();
    let proxy = FaultProxy::start(source.host());
    let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#;
    proxy.inject(Rule::on("GET", "/blobs/").answer(429, &[("retry-after", "7500")], body));
    // The test would not end if the pause were made.
    let told = desk!().export(&["--jobs", "1", &busybox(proxy.host())]);
    told.code(1).stderr_contains("You have reached your pull rate limit.").stderr_contains("a pause of 2 h 05 min");
    assert_eq!(proxy.count("GET", "/blobs/"), 1);
    // Seconds since 1970 are no pause.
    proxy.heal();
    proxy.inject(Rule::on("GET", "/blobs/").answer(429, &[("retry-after", "1700000000")], body).times(1));
    desk!().export(&[&busybox(proxy.host())]).success();
}

/// What registries say, and what is to be done.
#[rstest]
#[case::ecr_token(
    "POST",
    403,
    r#"{"errors":[{"code":"DENIED","message":"Your authorization token has expired. Reauthenticate and try again."}]}"#,
    "sealift login 127.0.0.1:"
)]
#[case::ecr_repository(
    "POST",
    404,
    r#"{"errors":[{"code":"NAME_UNKNOWN","message":"The repository with name 'app' does not exist"}]}"#,
    "to be made before anything is pushed"
)]
#[case::harbor_project(
    "POST",
    403,
    r#"{"errors":[{"code":"DENIED","message":"no such project"}]}"#,
    "has to be made first"
)]
#[case::behind_nginx("PUT", 413, "<html>413 Request Entity Too Large</html>", "raise the limit for request bodies")]
fn what_a_registry_refuses_comes_with_what_to_do(
    #[case] method: &str,
    #[case] status: u16,
    #[case] body: &str,
    #[case] advice: &str,
) {
    let (source, destination) = (RealRegistry::with_corpus(), RealRegistry::start());
    let proxy = FaultProxy::start(destination.host());
    let desk = desk!();
    desk.export(&[busybox(source.host())]).success();
    proxy.inject(Rule::on(method, "/uploads/").answer(status, &[], body));
    proxy.inject(Rule::on("PATCH", "/uploads/").answer(status, &[], body));
    let refused = desk.import("bundle", proxy.host(), &[]);
    refused.code(1).stderr_contains(advice).stderr_contains(&format!("answered {status}"));
    assert_eq!(refused.stderr().lines().filter(|line| line.starts_with("error: ")).count(), 1);
}

#[test]
fn a_host_that_takes_few_at_once_is_asked_for_fewer() {
    let source = RealRegistry::with_corpus();
    let proxy = FaultProxy::start(source.host());
    proxy.inject(Rule::on("GET", "").delay(Duration::from_millis(30)));
    proxy.inject(Rule::on("GET", "").above(2).answer(429, &[("retry-after", "0")], ""));
    let images: Vec<String> = references().iter().filter(|r| r.is_tagged()).map(|r| r.at(proxy.host())).collect();
    let arguments: Vec<&str> = ["--jobs", "8"].into_iter().chain(images.iter().map(String::as_str)).collect();
    let desk = desk!();
    desk.export(&arguments).success();
    let requests = proxy.requests();
    let refused = requests.iter().filter(|r| r.status == Some(429)).count();
    assert!(refused > 0 && refused * 2 < requests.len(), "{refused} of {} were refused", requests.len());
}

#[test]
fn requests_and_streams_of_a_blob_share_one_budget() {
    let source = RealRegistry::with_corpus();
    let proxy = FaultProxy::start(source.host());
    let desk = desk!();
    proxy.inject(Rule::on("GET", "/blobs/").status(503).times(2));
    proxy.inject(Rule::on("GET", "/blobs/").after(2).cut_response(10));
    let image = busybox(proxy.host());
    desk.export(&["--jobs", "1", "--retry-times", "4", &image]).code(1).stderr_contains("tried 5 times");
    assert_eq!(proxy.count("GET", "/blobs/"), 5);
}

#[test]
fn a_rate_is_kept_both_ways() {
    let (source, destination) = (RealRegistry::with_corpus(), RealRegistry::start());
    let desk = desk!();
    let bytes = references().iter().find(|r| r.repository == "library/busybox").expect("busybox").bytes;
    let rate = (bytes / 2).to_string();
    for job in ["export", "import"] {
        let started = Instant::now();
        let run = match job {
            "export" => desk.export(&["--limit-rate", &rate, &busybox(source.host())]),
            _ => desk.import("bundle", destination.host(), &["--limit-rate", &rate]),
        };
        run.success();
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(1500), "{job}: {took:?}");
    }
}

/// As HTTP writes it (RFC 9110, section 5.6.7).
fn in_four_seconds() -> String {
    let mut date = Command::new("date");
    let output = date.args(["-u", "-d", "+4 seconds", "+%a, %d %b %Y %H:%M:%S GMT"]).env("LC_ALL", "C").output();
    String::from_utf8(output.expect("date runs").stdout).expect("text").trim().to_owned()
}
