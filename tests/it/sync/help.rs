//! The help and the manual page list every option, and an example shows each of them.

use std::fs;

use support::desk;

#[test]
fn every_option_is_listed_and_shown_in_an_example() {
    let desk = desk!();
    let help = desk.sealift(&["sync", "--help"]).success().stdout();
    desk.sealift(&["man", "man1"]).success();
    let page = fs::read_to_string(desk.path().join("man1/sealift-sync.1")).unwrap().replace('\\', "");
    let (options, examples) = help.split_once("Examples:").expect("examples");
    let is_option = |word: &&str| word.len() > 1 && word.bytes().all(|c| c.is_ascii_lowercase() || c == b'-');
    let listed: Vec<&str> = options
        .lines()
        .filter(|line| line.trim_start().starts_with('-'))
        .filter_map(|line| {
            let words = line.split([' ', '=', '[', ',']).map(|word| word.trim_start_matches('-'));
            words.filter(|word| !word.is_empty()).take(2).find(is_option)
        })
        .collect();
    for option in &listed {
        assert!(page.contains(&format!("--{option}")), "--{option} is not in the manual page");
        let shown = examples.contains(&format!("--{option}")) || *option == "help";
        assert!(shown, "no example has --{option}");
    }
    // skopeo-sync(1) and skopeo(1), but for signing.
    let skopeo = "all authfile src-authfile dest-authfile dry-run src dest format scoped append-suffix digestfile \
        preserve-digests remove-signatures src-creds dest-creds src-cert-dir dest-cert-dir src-no-creds dest-no-creds \
        src-tls-verify dest-tls-verify src-registry-token dest-registry-token retry-times retry-delay keep-going \
        src-username src-password dest-username dest-password override-os override-arch override-variant command-timeout";
    for option in skopeo.split_whitespace() {
        assert!(listed.contains(&option), "--{option} of skopeo is missing: {listed:?}");
    }
}
