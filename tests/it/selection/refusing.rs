//! With `--keep-going` a repository that the registry refuses keeps only its own images back, whatever it shares.

use rstest::rstest;
use support::{Desk, FaultProxy, RealRegistry, Rule, Run, desk, noise, push_image, tags};

/// A source with three repositories that share a small and a large layer, and one that shares nothing.
struct Four {
    source: RealRegistry,
    destination: RealRegistry,
    /// In front of the destination.
    proxy: FaultProxy,
    desk: Desk,
    /// Of the layer that is too large to be sent as one piece.
    large: String,
}

const SHARING: [&str; 3] = ["a/app", "b/app", "c/app"];

impl Four {
    fn new() -> Self {
        let (source, destination) = (RealRegistry::start(), RealRegistry::start());
        let (small, large) = (noise(1, 100_000), noise(2, 10_000_000));
        let mut digests = Vec::new();
        for repository in SHARING {
            digests = push_image(source.host(), repository, "1", &[&small, &large]);
        }
        push_image(source.host(), "d/app", "1", &[&noise(3, 1000)]);
        let proxy = FaultProxy::start(destination.host());
        let large = digests.pop().expect("a layer");
        Four { source, destination, proxy, desk: desk!(), large }
    }

    fn export(&self, output: &str) {
        let images = [SHARING[0], SHARING[1], SHARING[2], "d/app"];
        let images = images.map(|repository| format!("{}/{repository}", self.source.host()));
        let fixed = ["export", "--output", output, "--key", "key"].map(str::to_owned);
        self.desk.sealift(&[&fixed[..], &images[..]].concat()).success();
    }

    fn import(&self, bundle: &str, more: &[&str]) -> Run {
        let options = [&["--retry-times", "1", "--jobs", "2"], more].concat();
        self.desk.import(bundle, self.proxy.host(), &options)
    }

    /// Every other image is there, and the same command does the rest once the registry accepts it.
    #[track_caller]
    fn assert_only_missing(&self, repositories: &[&str], bundle: &str) {
        let landed = |repository: &&str| !tags(self.destination.host(), repository).is_empty();
        let missing: Vec<&str> = SHARING.into_iter().chain(["d/app"]).filter(|name| !landed(name)).collect();
        assert_eq!(missing, repositories);
        self.proxy.heal();
        self.import(bundle, &["--keep-going"]).success();
        assert!(SHARING.iter().all(landed));
    }
}

/// What ECR answers for a repository that nobody has made (plexsystems/sinker#55), and Harbor for a project.
const UNKNOWN: &str = r#"{"errors":[{"code":"NAME_UNKNOWN","message":"The repository with name 'x' does not exist"}]}"#;
const DENIED: &str = r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;

#[rstest]
fn a_missing_repository_is_named_once_and_the_others_land(
    #[values("bundle", "bundle.tar", "bundle.tar.zst")] bundle: &str,
    #[values("a/app", "b/app")] refused: &str,
    #[values((404, UNKNOWN), (403, DENIED))] answer: (u16, &str),
) {
    let four = Four::new();
    push_image(four.source.host(), refused, "2", &[&noise(1, 100_000), &noise(4, 1000)]);
    four.export(bundle);
    let uploads = format!("/v2/{refused}/blobs/uploads/");
    four.proxy.inject(Rule::on("POST", &uploads).answer(answer.0, &[], answer.1));

    four.import(bundle, &[]).code(1).stderr_contains(refused);
    let partly = four.import(bundle, &["--keep-going"]);
    partly.code(4).stderr_contains("the rest is done, but 2 of 5 images failed");
    partly.stderr_contains(&format!("    {refused}:1\n    {refused}:2\n")).stderr_contains("made");
    let said = format!("cannot upload to {}/{refused}: ", four.proxy.host());
    assert_eq!(partly.stderr().matches(&said).count(), 1, "{}", partly.stderr());
    four.assert_only_missing(&[refused], bundle);
}

/// TOOMANYREQUESTS (distribution-spec, "Error Codes") for every mount into one repository.
#[rstest]
#[case("bundle")]
#[case("bundle.tar.zst")]
fn a_failed_mount_keeps_back_only_the_repository_that_it_was_for(#[case] bundle: &str) {
    let four = Four::new();
    four.export(bundle);
    four.proxy.inject(Rule::on("POST", "/v2/c/app/blobs/uploads/?mount=").status(429));
    let partly = four.import(bundle, &["--keep-going"]);
    partly.code(4).stderr_contains("the rest is done, but c/app:1: ").stderr_contains("429");
    four.assert_only_missing(&["c/app"], bundle);
}

#[test]
fn a_failed_read_back_keeps_back_only_the_repository_that_it_was_for() {
    let (four, bundle) = (Four::new(), "bundle.tar.zst");
    four.export(bundle);
    four.proxy.inject(Rule::on("POST", "/v2/b/app/blobs/uploads/?mount=").status(403));
    four.proxy.inject(Rule::on("GET", &format!("/blobs/{}", four.large)).status(404));
    let partly = four.import(bundle, &["--keep-going"]);
    partly.code(4).stderr_contains("the rest is done, but b/app:1: ").stderr_contains("404");
    four.assert_only_missing(&["b/app"], bundle);
}

/// What can be read again is sent to the next repository; what comes once is lost with the repository that fails.
#[rstest]
#[case("bundle.tar", &["a/app"])]
#[case("bundle.tar.zst", &SHARING)]
fn an_upload_that_fails_in_the_middle_costs_no_more_than_it_must(#[case] bundle: &str, #[case] missing: &[&str]) {
    let four = Four::new();
    four.export(bundle);
    for method in ["PATCH", "PUT"] {
        four.proxy.inject(Rule::on(method, "/v2/a/app/blobs/uploads/").status(403));
    }
    let partly = four.import(bundle, &["--keep-going"]);
    partly.code(4);
    if bundle.ends_with(".zst") {
        partly.stderr_contains(&format!("blob {} is read once, and was lost on its way to a/app", four.large));
    }
    four.assert_only_missing(missing, bundle);
}

/// An error while checking is no permission: nothing is pushed there.
#[test]
fn a_repository_that_may_not_be_read_is_left_alone_with_no_clobber() {
    let (four, bundle) = (Four::new(), "bundle");
    four.export(bundle);
    // Where HEAD is refused, GET is asked.
    for method in ["HEAD", "GET"] {
        four.proxy.inject(Rule::on(method, "/v2/b/app/manifests/").status(403));
    }
    four.import(bundle, &["--no-clobber"]).code(1).stderr_contains("b/app:1");
    assert!(four.destination.writes().is_empty());
    let partly = four.import(bundle, &["--no-clobber", "--keep-going"]);
    partly.code(4).stderr_contains("b/app:1").stderr_contains("403");
    four.assert_only_missing(&["b/app"], bundle);
}

#[test]
fn nothing_is_called_done_where_every_image_is_refused() {
    let (four, bundle) = (Four::new(), "bundle");
    four.export(bundle);
    four.proxy.inject(Rule::on("PUT", "/manifests/").answer(403, &[], DENIED));
    let refused = four.import(bundle, &["--keep-going"]);
    refused.code(1).stderr_contains("4 of 4 images failed");
    assert!(!refused.stderr().contains("the rest is done"), "{}", refused.stderr());
}
