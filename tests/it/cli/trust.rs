//! `--trust`, the same for every command that takes it.

use std::fs;

use rstest::rstest;
use support::Desk;

/// Every command that takes `--trust`, with a bundle `bundle` and an image layout nowhere.
const COMMANDS: [&str; 5] = [
    "verify bundle --trust LIST",
    "inspect bundle --trust LIST",
    "import bundle 127.0.0.1:1 --dry-run --trust LIST",
    "sync -s bundle -d dir --dry-run bundle tree --trust LIST",
    "serve bundle --listen 256.0.0.1:0 --trust LIST",
];

fn run(desk: &Desk, line: &str, list: &str, options: &[&str]) -> support::Run {
    let line = line.replace("LIST", list);
    desk.sealift(&line.split(' ').chain(options.iter().copied()).collect::<Vec<_>>())
}

#[rstest]
#[case::the_file("chmod 666 keys/list", "keys/list can be written by anybody (mode 0666)", "chmod o-w ")]
#[case::its_directory("chmod 777 keys", "keys/list can be replaced by anybody, as the directory ", "chmod o-w ")]
#[case::through_a_link(
    "chmod 602 keys/list; ln -s list keys/link",
    "can be written by anybody (mode 0602)",
    "keys/list"
)]
fn a_list_of_keys_that_anybody_can_change_is_refused(#[case] change: &str, #[case] told: &str, #[case] hint: &str) {
    let desk = support::desk!();
    desk.sealed_sample("bundle");
    desk.shell("", "mkdir -m 755 keys; cp allowed_signers keys/list; chmod 644 keys/list");
    for line in COMMANDS {
        let before = run(&desk, line, "keys/list", &[]);
        assert!(!before.stderr().contains("anybody"), "{line}: {}", before.stderr());
    }
    desk.shell("", change);
    let list = if change.contains("link") { "keys/link" } else { "keys/list" };
    for line in COMMANDS {
        let refused = run(&desk, line, list, &[]);
        refused.code(2).stderr_contains(told).stderr_contains("--trust-writable").stderr_contains(hint);
        assert!(refused.stdout().is_empty(), "{line}");
        let accepted = run(&desk, line, list, &["--trust-writable"]);
        assert_eq!(accepted.exit_code(), i32::from(line.starts_with("serve")), "{line}: {}", accepted.stderr());
    }
    assert_eq!(fs::read_dir(desk.path().join("keys")).unwrap().count(), 1 + usize::from(list == "keys/link"));
    run(&desk, "inspect bundle", "", &["--trust-writable"]).code(2);
}

#[test]
fn a_list_of_keys_from_a_pipe_is_taken() {
    let desk = support::desk!();
    desk.sealed_sample("bundle");
    let program = env!("CARGO_BIN_EXE_sealift");
    desk.shell("", &format!("bash -c '{program} verify bundle --trust <(cat allowed_signers)'"));
}

/// Everything on exFAT is rwxrwxrwx, and a stick is how most people get the list.
#[rstest]
#[case::writable("")]
#[case::read_only("mount -o remount,ro m || { umount m; mount.exfat-fuse -o ro $device m >&2; };")]
fn on_a_file_system_without_modes_it_is_told(#[case] change: &str) {
    let desk = support::desk!();
    desk.sealed_sample("bundle");
    let line = format!(
        "truncate -s 40M stick; mkfs.exfat stick >&2; mkdir m; device=$(losetup --find --show stick) || exit 77
         trap 'umount m; losetup -d $device' EXIT
         mount.exfat-fuse $device m >&2 || exit 77
         cp allowed_signers m/list; {change} $SEALIFT verify bundle --trust m/list; ls m >&2"
    );
    let programs = ["mkfs.exfat", "mount.exfat-fuse", "losetup"];
    let Some(run) = desk.as_root_in_own_mounts(&line, &programs) else { return };
    if run.exit_code() == 77 {
        eprintln!("SKIPPED: exFAT cannot be mounted here: {}", run.stderr());
        return;
    }
    run.success().stderr_contains("warning: m/list can be written by anybody").stderr_contains("keeps no modes");
    assert!(!run.stderr().contains(".sealift-probe"), "{}", run.stderr());
}
