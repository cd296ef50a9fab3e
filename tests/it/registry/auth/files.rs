//! Files of logins as people have them: what skopeo takes, and helpers that are not installed.

use std::fs;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rstest::rstest;
use serde_json::{Value, json};
use support::{HTPASSWD_PASSWORD, HTPASSWD_USER, RealRegistry, TokenServer, desk};

use super::{HidesSecrets, busybox};

/// The right login in base64, broken into lines, as `base64` and some libraries write long ones (a registry client that
/// does so is the subject of parabuzzle/craneoperator#64).
fn wrapped() -> String {
    let auth = plain();
    let (front, back) = auth.split_at(20);
    format!("{front}\n{back}\n")
}

fn plain() -> String {
    STANDARD.encode(format!("{HTPASSWD_USER}:{HTPASSWD_PASSWORD}"))
}

/// Kubernetes has files in the old form too (kubernetes/kubernetes#499); a `config.json` of Docker Desktop names a helper
/// that is not installed elsewhere (docker/for-mac#3785, getsentry/self-hosted#436).
#[rstest]
#[case::wrapped_base64("home/.docker/config.json", |host: &str| json!({"auths": {host: {"auth": wrapped()}}}), true)]
#[case::dockercfg("home/.dockercfg", |host: &str| json!({host: {"auth": plain(), "email": "a@b.io"}}), true)]
#[case::dockercfg_form_elsewhere("home/.config/containers/auth.json", |host: &str| json!({host: {"auth": plain()}}), false)]
#[case::absent_store(
    "home/.docker/config.json",
    |host: &str| json!({"credsStore": "absent", "auths": {host: {"auth": plain()}}}),
    true
)]
#[case::absent_helper(
    "home/.docker/config.json",
    |host: &str| json!({"credHelpers": {host: "absent"}, "auths": {host: {"auth": plain()}}}),
    false
)]
fn a_file_is_taken_as_skopeo_takes_it(#[case] path: &str, #[case] make: fn(&str) -> Value, #[case] by_skopeo: bool) {
    let (registry, desk) = (RealRegistry::with_htpasswd(true), desk!());
    let (host, home) = (registry.host(), desk.path().join("home"));
    desk.shell("", "mkdir -p home/.docker home/.config/containers");
    fs::write(desk.path().join(path), make(host).to_string()).unwrap();
    let image = busybox(host);
    let variables = [("HOME", home.to_str().unwrap())];
    let export = ["export", "--output", "bundle", "--key", "key", "-vv", &image];
    desk.sealift_in(&variables, &export).success().hides_secrets();
    if by_skopeo {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{image}")]).env("HOME", &home);
        skopeo.env_remove("REGISTRY_AUTH_FILE").env_remove("XDG_RUNTIME_DIR").env_remove("XDG_CONFIG_HOME");
        let output = skopeo.output().expect("skopeo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_helper_that_is_not_installed_is_skipped_with_one_warning() {
    let service = TokenServer::start().anonymous();
    let (open, locked, desk) =
        (RealRegistry::locked(&service.auth(), true), RealRegistry::with_htpasswd(true), desk!());
    fs::write(desk.path().join("auth.json"), r#"{"credsStore": "absent"}"#).unwrap();
    let warnings = |text: &str| text.lines().filter(|line| line.contains("docker-credential-absent")).count();

    // For whom there is no login, the registry is asked as nobody.
    let images = ["library/busybox:1.35", "team/app:1"].map(|name| format!("{}/{name}", open.host()));
    let options = ["--authfile", "auth.json"].map(String::from);
    let run = desk.export(&[&options[..], &images].concat());
    run.success().stderr_contains("warning: auth.json names the credential helper docker-credential-absent");
    assert_eq!(warnings(&run.stderr()), 1, "{}", run.stderr());

    let target = format!("{}/copy", locked.host());
    let sync = ["sync", "--authfile", "auth.json", "--src", "docker", "--dest", "docker", &images[0], &target];
    let run = desk.sealift(&sync);
    run.code(1).stderr_contains("wants a login, and none is known for it");
    assert_eq!(warnings(&run.stderr()), 1, "{}", run.stderr());

    let forgotten = desk.sealift(&["logout", "--authfile", "auth.json", locked.host()]);
    forgotten.code(1).stderr_contains("warning: docker-credential-absent is not installed");
}

/// A helper may ask a person or lock a keychain: one that fails is not run again for the next image.
#[test]
fn a_helper_that_fails_is_run_once() {
    let (registry, desk) = (RealRegistry::with_htpasswd(true), desk!());
    let path = super::with_helper(&desk, "#!/bin/sh\nread -r host; echo \"$1\" >>asked\nexit 1\n");
    fs::write(desk.path().join("auth.json"), r#"{"credsStore": "test"}"#).unwrap();
    let images: Vec<String> = (0..5).map(|n| format!("{}/team/app{n}:1", registry.host())).collect();
    let fixed = ["export", "--output", "bundle", "--key", "key", "--authfile", "auth.json", "--keep-going"];
    let arguments: Vec<&str> = fixed.into_iter().chain(images.iter().map(String::as_str)).collect();
    desk.sealift_in(&[("PATH", &path)], &arguments).stderr_contains("docker-credential-test failed");
    assert_eq!(fs::read_to_string(desk.path().join("asked")).unwrap(), "get\n");
}

/// Whoever can write the file decides which helper runs and which login goes where.
#[rstest]
#[case::by_anybody(|path: &str| format!("chmod 666 {path}"), "can be written by anybody (mode 0666)")]
#[case::in_an_open_directory(|_: &str| "chmod 777 logins".to_owned(), "can be replaced by anybody")]
#[case::by_another_user(|path: &str| format!("chown 12345 {path}"), "belongs to another user (uid 12345)")]
fn a_file_of_logins_that_others_can_change_is_told_once(#[case] change: fn(&str) -> String, #[case] told: &str) {
    if !rustix::process::geteuid().is_root() && told.contains("uid") {
        eprintln!("SKIPPED: only root can give a file away");
        return;
    }
    let (registry, desk) = (RealRegistry::with_htpasswd(true), desk!());
    let host = registry.host();
    desk.shell("", "mkdir -m 700 logins");
    let path = "logins/auth.json";
    fs::write(desk.path().join(path), json!({"auths": {host: {"auth": plain()}}}).to_string()).unwrap();
    desk.shell("", &format!("chmod 600 {path}"));
    let images = support::references();
    let images: Vec<String> = images.iter().filter(|r| r.is_tagged()).take(3).map(|r| r.at(host)).collect();
    let plan = |desk: &support::Desk| {
        let options = ["export", "--dry-run", "--authfile", path].map(String::from);
        desk.sealift(&[&options[..], &images].concat())
    };
    assert!(!plan(&desk).success().stderr().contains("file of logins"));
    desk.shell("", &change(path));
    let run = plan(&desk);
    run.success().hides_secrets().stderr_contains(told);
    assert_eq!(run.stderr().matches("warning: the file of logins logins/auth.json").count(), 1, "{}", run.stderr());
}
