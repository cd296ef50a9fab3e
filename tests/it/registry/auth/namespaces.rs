//! A login kept for `HOST/PATH` is for the repositories below that path (containers-auth.json(5)).

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rstest::rstest;
use serde_json::json;
use support::{RealRegistry, TokenServer, desk, noise, push_image, tags};

use super::{HidesSecrets, busybox, login};

#[rstest]
#[case::basic(false)]
#[case::token(true)]
fn the_login_of_a_namespace_is_enough_for_import_and_sync(#[case] by_token: bool) {
    let service = TokenServer::start();
    let registry = match by_token {
        true => RealRegistry::locked(&service.auth(), true),
        false => RealRegistry::with_htpasswd(true),
    };
    let (user, password) = login(by_token);
    let (host, desk) = (registry.host(), desk!());
    let kept = format!("{host}/library");
    let login = ["login", "--authfile", "auth.json", "--username", user, "--password-stdin", &kept];
    desk.sealift_with(&login, &[], &format!("{password}\n")).success();
    assert!(fs::read_to_string(desk.path().join("auth.json")).unwrap().contains(&kept));
    let given = ["--authfile", "auth.json"];
    desk.export(&[&["--authfile", "auth.json"][..], &[busybox(host).as_str()]].concat()).success();

    // The bundle holds library/busybox: once below a prefix that the login is for, once without a prefix.
    desk.import("bundle", &format!("{kept}/copy"), &given).success().hides_secrets();
    desk.import("bundle", host, &given).success();
    let there = registry.unlocked();
    assert_eq!(tags(there.host(), "library/copy/library/busybox"), ["1.35"]);

    let target = format!("{kept}/synced");
    let sync = ["sync", "--src", "docker", "--dest", "docker", &busybox(host), &target].map(String::from);
    desk.sealift(&[&sync[..], &given.map(String::from)].concat()).success();
    assert_eq!(tags(there.host(), "library/synced/busybox"), ["1.35"]);

    // For what is elsewhere there is no login.
    desk.import("bundle", &format!("{host}/elsewhere"), &given).code(1).stderr_contains("wants a login");
}

/// With `--keep-going` an import pushes what its logins are for.
#[test]
fn one_import_uses_the_login_of_each_namespace() {
    let (source, registry, desk) = (RealRegistry::start(), RealRegistry::with_htpasswd(false), desk!());
    let repositories = ["other/app", "team/app"];
    for (seed, repository) in (1..).zip(repositories) {
        push_image(source.host(), repository, "1", &[&noise(seed, 1000)]);
    }
    desk.export(&repositories.map(|repository| format!("{}/{repository}:1", source.host()))).success();
    let (user, password) = login(false);
    let right = STANDARD.encode(format!("{user}:{password}"));
    let wrong = STANDARD.encode("carol:planted-wrong");
    let host = registry.host();
    let auths = json!({"auths": {host: {"auth": wrong}, format!("{host}/team"): {"auth": right}}});
    fs::write(desk.path().join("auth.json"), auths.to_string()).unwrap();
    let run = desk.import("bundle", host, &["--authfile", "auth.json", "--keep-going"]);
    run.code(4).hides_secrets().stderr_contains("user carol was refused by");
    assert_eq!(tags(registry.unlocked().host(), "team/app"), ["1"]);
}
