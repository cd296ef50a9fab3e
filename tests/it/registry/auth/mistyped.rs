//! A password that stands where none belongs, or is mistyped, is in no message: neither it nor a part of it.

use std::fs;

use rstest::rstest;
use support::desk;

/// Logins as people write them in front of a host; every part of a password is `planted`.
const LOGINS: [&str; 7] = [
    "robot:planted",
    "robot:planted/planted",
    "robot:12/planted",
    "robot:planted@planted",
    "robot:planted:planted",
    "robot:planted#planted?planted",
    "robot:12#planted",
];

/// What may stand in front, also mistyped, and what behind.
const FORMS: [(&str, &str); 9] = [
    ("", "registry.test:5000/team/app:1"),
    ("", "registry.test"),
    ("", "REGISTRY.test/Team/App"),
    ("docker://", "registry.test:99999/team/app"),
    ("https://", "registry.test:5000/team/app:1"),
    ("https//", "registry.test/team"),
    ("https:/", "registry.test/team"),
    ("htps:///", "registry.test"),
    ("http:", "registry.test:5000/app"),
];

fn texts(login: &str) -> impl Iterator<Item = String> {
    FORMS.into_iter().map(move |(front, back)| format!("{front}{login}@{back}"))
}

/// Runs the command with every such text, and looks for a part of a password in what it says.
fn try_all(command: &[&str], logins: &[&str]) {
    let desk = desk!();
    for text in logins.iter().flat_map(|login| texts(login)) {
        fs::write(desk.path().join("list.txt"), format!("reg.test/a:1\n{text}\n")).unwrap();
        fs::write(desk.path().join("list.yaml"), format!("'{text}':\n  images: {{'{text}': ['{text}']}}\n")).unwrap();
        let arguments: Vec<String> = command.iter().map(|word| word.replace("TEXT", &text)).collect();
        let run = desk.sealift_with(&arguments, &[], "\n");
        let said = run.stdout() + &run.stderr();
        assert!(run.exit_code() != 0 && !said.contains("planted"), "{arguments:?}:\n{said}");
    }
}

#[rstest]
#[case::export(&["export", "TEXT", "--dry-run"])]
#[case::export_list(&["export", "--from", "list.txt", "--dry-run"])]
#[case::export_yaml(&["export", "--from", "list.yaml", "--dry-run"])]
#[case::export_to(&["export", "reg.test/a:1", "--output", "TEXT", "--key", "key", "--retry-times", "0"])]
#[case::export_key(&["export", "reg.test/a:1", "--output", "b", "--key", "TEXT"])]
#[case::export_base(&["export", "reg.test/a:1", "--output", "b", "--key", "key", "--base", "TEXT"])]
#[case::export_authfile(&["export", "reg.test/a:1", "--output", "b", "--key", "key", "--authfile", "TEXT"])]
#[case::export_certificates(&["export", "reg.test/a:1", "--output", "b", "--key", "key", "--cert-dir", "TEXT"])]
#[case::import(&["import", "bundle", "TEXT", "--trust", "allowed_signers"])]
#[case::import_from(&["import", "TEXT", "reg.test", "--trust", "allowed_signers"])]
#[case::import_trust(&["import", "bundle", "reg.test", "--trust", "TEXT"])]
#[case::verify(&["verify", "TEXT", "--trust", "allowed_signers"])]
#[case::inspect(&["inspect", "TEXT"])]
#[case::serve(&["serve", "TEXT", "--trust", "allowed_signers"])]
#[case::sync_from(&["sync", "--src", "docker", "--dest", "docker", "TEXT", "reg.test"])]
#[case::sync_to(&["sync", "--src", "docker", "--dest", "docker", "reg.test/a:1", "TEXT"])]
#[case::sync_yaml(&["sync", "--src", "yaml", "--dest", "docker", "list.yaml", "reg.test"])]
#[case::sync_dir(&["sync", "--src", "dir", "--dest", "docker", "TEXT", "reg.test"])]
#[case::login(&["login", "--username", "robot", "--password-stdin", "TEXT"])]
#[case::login_user(&["login", "--username", "TEXT", "--password-stdin", "reg.test:99999"])]
#[case::logout(&["logout", "--authfile", "auth.json", "TEXT"])]
#[case::an_argument_too_many(&["login", "reg.test", "TEXT"])]
#[case::an_option_that_is_none(&["export", "--TEXT", "reg.test/a:1"])]
#[case::a_value_of_another_sort(&["export", "reg.test/a:1", "--jobs", "TEXT"])]
fn no_part_of_a_password_is_repeated(#[case] command: &[&str]) {
    try_all(command, &LOGINS);
}

/// A token in the place of a login. Elsewhere than before a registry it may be anything.
#[rstest]
#[case::export(&["export", "TEXT", "--dry-run"])]
#[case::export_list(&["export", "--from", "list.txt", "--dry-run"])]
#[case::export_yaml(&["export", "--from", "list.yaml", "--dry-run"])]
#[case::import(&["import", "bundle", "TEXT", "--trust", "allowed_signers"])]
#[case::sync_from(&["sync", "--src", "docker", "--dest", "docker", "TEXT", "reg.test"])]
#[case::sync_to(&["sync", "--src", "docker", "--dest", "docker", "reg.test/a:1", "TEXT"])]
#[case::login(&["login", "--username", "robot", "--password-stdin", "TEXT"])]
#[case::logout(&["logout", "--authfile", "auth.json", "TEXT"])]
fn a_token_in_front_of_a_registry_is_not_repeated(#[case] command: &[&str]) {
    try_all(command, &["planted"]);
}

#[test]
fn the_value_of_an_option_that_names_a_secret_is_not_repeated() {
    for option in ["--creds=robot:planted", "--cred=robot:planted", "--passwrd=planted", "--registrytoken=planted"] {
        let run = desk!().sealift(&["export", option, "planted", "registry.test/a:1"]);
        let said = run.stdout() + &run.stderr();
        assert!(run.exit_code() != 0 && !said.contains("planted"), "{option}:\n{said}");
    }
}

#[test]
fn no_part_of_a_proxys_password_is_repeated() {
    let desk = desk!();
    for text in LOGINS.into_iter().flat_map(texts) {
        let arguments = ["export", "registry.invalid/a:1", "--dry-run", "--retry-times", "0", "-vv"];
        let run = desk.sealift_in(&[("HTTPS_PROXY", text.as_str())], &arguments);
        let said = run.stdout() + &run.stderr();
        assert!(run.exit_code() != 0 && !said.contains("planted"), "{text}:\n{said}");
    }
}
