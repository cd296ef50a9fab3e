//! Media that are full, fail, vanish, or cannot hold what is asked of them; and two runs at once.

use std::path::Path;
use std::time::{Duration, Instant};

use rstest::rstest;
use support::{Desk, FaultProxy, RealRegistry, Rule, noise, push_blob, push_image, put_manifest};

use super::trace::{strace, words};
use super::{Form, export, export_line, fetched, left, same, verify};

struct Scene {
    desk: Desk,
    registry: RealRegistry,
    proxy: FaultProxy,
    image: String,
    /// The large layer's.
    hex: String,
}

impl Scene {
    /// An image with layers of 3 and 5 MiB.
    fn new() -> Scene {
        let (desk, registry) = (support::desk!(), RealRegistry::start());
        let proxy = FaultProxy::start(registry.host());
        let digests = push_image(registry.host(), "team/app", "1", &[&noise(1, 3 << 20), &noise(2, 5 << 20)]);
        let image = format!("{}/team/app:1", proxy.host());
        Scene { desk, registry, proxy, image, hex: digests[2]["sha256:".len()..].to_owned() }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.desk.path().canonicalize().unwrap().join(name)
    }
}

#[rstest]
#[case::tar("b.tar")]
#[case::directory("b")]
fn a_medium_that_is_too_small_is_told_before_the_first_blob(#[case] output: &str) {
    let scene = Scene::new();
    let line = format!(
        "mkdir m; mount -t tmpfs -o size=6m none m; $SEALIFT export {} --output m/{output} --key key; ls -A m",
        scene.image
    );
    let Some(run) = scene.desk.in_own_mounts(&line) else { return };
    run.code(1).stderr_contains("too few").stderr_contains("free some space");
    assert_eq!(fetched(&scene.proxy), [""; 0]);
}

#[rstest]
#[case::tar("b.tar")]
#[case::directory("b")]
fn what_an_earlier_run_left_counts_as_room(#[case] output: &str) {
    let scene = Scene::new();
    scene.proxy.inject(Rule::on("GET", &scene.hex).status(404).times(1));
    let line = format!(
        "mkdir m; mount -t tmpfs -o size=9m none m
         $SEALIFT export {image} --jobs 1 --output m/{output} --key key && exit 9
         $SEALIFT export {image} --output m/{output} --key key
         $SEALIFT verify m/{output} --trust allowed_signers; ls -A m",
        image = scene.image
    );
    let Some(run) = scene.desk.in_own_mounts(&line) else { return };
    run.success();
    assert!(run.stdout().ends_with(&format!("{output}\n")), "{}", run.stdout());
    assert_eq!(fetched(&scene.proxy).len(), 4, "config, layer, the large one twice");
}

#[test]
fn a_folder_that_cannot_be_written_is_told_before_the_registry_is_asked() {
    let scene = Scene::new();
    let line = format!(
        "mkdir m; mount -t tmpfs none m; mount -o remount,ro m; $SEALIFT export {} --output m/b.tar --key key",
        scene.image
    );
    let Some(run) = scene.desk.in_own_mounts(&line) else { return };
    run.code(1).stderr_contains("read-only");
    assert!(scene.proxy.requests().is_empty());
}

#[test]
fn a_limit_on_files_is_told_and_kills_nobody() {
    let scene = Scene::new();
    let limited = ["bash", "-c", "ulimit -f 4000; exec \"$0\" \"$@\""];
    for output in ["b.tar", "b"] {
        let run = scene.desk.wrapped(&limited, &export_line(&[&scene.image], output, &[]));
        run.code(1).stderr_contains("ulimit -f unlimited");
        assert_eq!(fetched(&scene.proxy), [""; 0]);
    }
    // How large this will be is not known before.
    let run = scene.desk.wrapped(&limited, &export_line(&[&scene.image], "b.tar.zst", &[]));
    run.code(1).stderr_contains("File too large");
    assert_eq!(left(&scene.desk), [""; 0]);
}

/// What the kernel answers, to which call on which file, and what must be said. Calls are counted for each thread.
#[rstest]
#[case::full(Form::Tar, ".b.tar.partial", "pwrite64:error=ENOSPC:when=3+", ".b.tar.partial at byte", "free some space")]
#[case::broken(Form::Tar, ".b.tar.partial", "pwrite64:error=EIO:when=3+", ".b.tar.partial at byte", SOUND)]
#[case::gone(Form::Tar, ".b.tar.partial", "pwrite64:error=ENODEV:when=3+", ".b.tar.partial at byte", SOUND)]
#[case::not_durable(Form::Tar, ".b.tar.partial", "fdatasync:error=EIO", "cannot write", SOUND)]
#[case::seal_not_durable(Form::Tar, ".b.tar.partial", "fdatasync:error=EIO:when=2+", "cannot write", SOUND)]
#[case::no_room(Form::Tar, "", "fallocate:error=ENOSPC", ".b.tar.partial", "free some space")]
#[case::full(Form::Directory, PART, "pwrite64:error=ENOSPC:when=3+", ".part at byte", "free some space")]
#[case::broken(Form::Directory, PART, "pwrite64:error=EIO:when=3+", ".part at byte", SOUND)]
#[case::quota(Form::Directory, PART, "pwrite64:error=EDQUOT:when=3+", ".part at byte", "quota")]
#[case::not_durable(Form::Directory, "", "syncfs:error=EIO", "cannot write", SOUND)]
#[case::seal_not_durable(Form::Directory, "", "syncfs:error=EIO:when=2+", "cannot write", SOUND)]
#[case::no_name(Form::Directory, ".b.partial/blobs/sha256", "renameat,renameat2:error=EIO", "cannot rename", SOUND)]
fn a_medium_that_fails_is_told_and_the_same_command_goes_on(
    #[case] form: Form,
    #[case] on: &str,
    #[case] fault: &str,
    #[case] said: &str,
    #[case] hint: &str,
) {
    let scene = Scene::new();
    let line = export_line(&[&scene.image], form.output(), &["--jobs", "1"]);
    let on = (!on.is_empty()).then(|| scene.path(&on.replace("HEX", &scene.hex)));
    let on: Vec<&Path> = on.iter().map(|path| path.as_path()).collect();
    let Some(wrapper) = strace(&on, &[fault]) else { return };
    let run = scene.desk.wrapped(&words(&wrapper), &line);
    run.code(1).stderr_contains(said).stderr_contains(hint);
    assert!(!scene.desk.path().join(form.output()).exists());
    assert_ne!(verify(&scene.desk, &form.partial()), 0);
    let noted = form.noted(&scene.desk);
    scene.proxy.reset_count();
    scene.desk.sealift(&line).success();
    let again = fetched(&scene.proxy);
    assert!(again.iter().all(|hex| !noted.contains(hex)), "{again:?} were there");
    let reference = format!("reference-{}", form.output());
    export(&scene.desk, &[&scene.image], &reference, &[]).success();
    assert!(same(&scene.desk, form.output(), &reference));
    assert_eq!(left(&scene.desk), [form.output(), reference.as_str()]);
}

#[rstest]
#[case::tar(Form::Tar)]
#[case::directory(Form::Directory)]
fn what_vanishes_under_the_run_is_told(#[case] form: Form) {
    let scene = Scene::new();
    scene.proxy.inject(Rule::on("GET", &scene.hex).throttle(10 << 20));
    let running = scene.desk.start(&export_line(&[&scene.image], form.output(), &[]));
    wait_for(|| scene.proxy.requests().iter().any(|r| r.path.contains(&scene.hex) && r.sent > 1 << 20));
    scene.desk.shell(".", &format!("rm -rf {} {}", form.partial(), form.journal()));
    let said = match form {
        Form::Tar => "is not what this export wrote any more",
        Form::Directory => "No such file",
    };
    running.wait().code(1).stderr_contains(said);
    scene.proxy.heal();
    export(&scene.desk, &[&scene.image], form.output(), &[]).success();
    assert_eq!(left(&scene.desk), [form.output()]);
}

/// Every read from the n-th on fails, in one after the other: the head, the chain, layers.
#[rstest]
#[case::tar("b.tar", "b.tar", "pread64", "")]
#[case::zst("b.tar.zst", "b.tar.zst", "read", "")]
#[case::pipe("b.tar", "-", "read", "< b.tar")]
#[case::directory("b", "b", "pread64", "blobs/sha256/")]
fn a_medium_that_cannot_be_read_is_no_damage(
    #[case] output: &str,
    #[case] given: &str,
    #[case] call: &str,
    #[case] extra: &str,
) {
    let scene = Scene::new();
    export(&scene.desk, &[&scene.image], output, &[]).success();
    let destination = RealRegistry::start();
    let counting = FaultProxy::start(destination.host());
    let file = if extra.ends_with('/') { scene.path(&format!("b/{extra}{}", scene.hex)) } else { scene.path(output) };
    let import = ["import", given, counting.host(), "--trust", "allowed_signers", "--retry-delay", "0.02"];
    let mut refused = 0;
    let mut from = 1;
    loop {
        assert!(from < 1000, "it has no end");
        let Some(mut wrapper) = strace(&[&file], &[&format!("{call}:error=EIO:when={from}+")]) else { return };
        if extra.starts_with('<') {
            let shell = ["bash".to_owned(), "-c".into(), format!("exec \"$0\" \"$@\" {extra}")];
            wrapper.splice(0..0, shell);
        }
        let run = scene.desk.wrapped(&words(&wrapper), &import);
        if run.exit_code() == 0 {
            break;
        }
        run.code(1).stderr_contains("cannot").stderr_contains("Input/output error");
        if from > 6 {
            run.stderr_contains(" byte ");
        }
        assert_eq!(counting.count("PUT", "/manifests/"), 0, "something landed");
        refused += 1;
        from += 1 + from / 3;
    }
    assert!(refused >= 3, "only {refused} faults hit");
    assert_eq!(support::tags(destination.host(), "team/app"), ["1"]);
}

#[rstest]
#[case::tar("b.tar")]
#[case::directory("b")]
#[case::zst("b.tar.zst")]
fn a_second_run_at_once_is_refused_and_the_first_ends_well(#[case] output: &str) {
    let scene = Scene::new();
    scene.proxy.inject(Rule::on("GET", &scene.hex).throttle(8 << 20));
    let line = export_line(&[&scene.image], output, &[]);
    let first = scene.desk.start(&line);
    wait_for(|| scene.proxy.requests().iter().any(|r| r.path.contains(&scene.hex)));
    let second = scene.desk.sealift(&line);
    second.code(1).stderr_contains("another export").stderr_contains("wait until it ends");
    if Path::new("/proc/locks").exists() {
        second.stderr_contains(&format!("process {}", first.id()));
    }
    first.wait().success();
    assert_eq!(verify(&scene.desk, output), 0);
    scene.desk.sealift(&line).code(1).stderr_contains("exists already");
    assert_eq!(left(&scene.desk), [output]);
}

/// The kernel is made to say that the medium is FAT (no kernel at hand has it everywhere).
#[test]
fn on_fat_files_are_written_in_rising_order_and_bounds_are_told() {
    let scene = Scene::new();
    let Some(fat) = strace(&[], &["fstatfs:poke_exit=@arg2=444d000000000000"]) else { return };
    let fat = words(&fat);
    export(&scene.desk, &[&scene.image], "reference.tar", &[]).success();
    scene.desk.wrapped(&fat, &export_line(&[&scene.image], "b.tar", &[])).success();
    assert!(same(&scene.desk, "b.tar", "reference.tar"));

    // A registry takes a manifest whose sizes are false.
    let host = scene.registry.host();
    let config = serde_json::json!({"mediaType": "c/c", "digest": push_blob(host, "team/huge", b"{}"), "size": 2});
    let layer = push_blob(host, "team/huge", b"not that large");
    let layer = serde_json::json!({"mediaType": "l/l", "digest": layer, "size": 5u64 << 30});
    let manifest =
        serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}).to_string();
    put_manifest(host, "team/huge", "1", MANIFEST, manifest.as_bytes());
    let huge = format!("{}/team/huge:1", scene.proxy.host());
    scene.proxy.reset_count();
    for (output, advice) in [("h.tar", "export to a directory"), ("h", "exFAT")] {
        let run = scene.desk.wrapped(&fat, &export_line(&[&huge], output, &[]));
        run.code(1).stderr_contains("at most 4294967295 (FAT)").stderr_contains(advice);
    }
    assert_eq!(fetched(&scene.proxy), [""; 0]);
    // A source that lies about a size costs its image only, on FAT too.
    push_image(host, "team/good", "1", &[&noise(3, 100_000), &noise(1, 3 << 20)]);
    let good = format!("{}/team/good:1", scene.proxy.host());
    scene.proxy.inject(Rule::on("GET", &scene.hex).status(404));
    let both = [scene.image.as_str(), good.as_str()];
    scene.desk.wrapped(&fat, &export_line(&both, "k.tar", &["--keep-going"])).code(4).stderr_contains("team/app:1");
    export(&scene.desk, &[&good], "good.tar", &[]).success();
    assert!(same(&scene.desk, "k.tar", "good.tar"));
}

/// The medium refuses the name that the bundle would get at the end, and not the one that it has while it is made: NTFS
/// refuses `con.tar` (windows_names of ntfs-3g answers EINVAL).
#[rstest]
#[case::tar("con.tar", "openat:error=EINVAL")]
#[case::directory("con", "mkdirat,mkdir:error=EINVAL")]
#[case::zst("con.tar.zst", "openat:error=EINVAL")]
#[case::by_smb("con.tar", "openat:error=ENOENT")]
fn a_name_that_the_medium_refuses_is_told_before_the_registry_is_asked(#[case] output: &str, #[case] fault: &str) {
    let scene = Scene::new();
    let tried = scene.path(&format!(".{output}.try"));
    let Some(wrapper) = strace(&[&tried], &[fault]) else { return };
    let run = scene.desk.wrapped(&words(&wrapper), &export_line(&[&scene.image], output, &[]));
    run.code(1).stderr_contains(&format!("the medium of {output} refuses that name"));
    run.stderr_contains("FAT, exFAT or NTFS cannot hold a name that begins with \"con\"");
    run.stderr_contains("choose another name for the bundle");
    assert!(scene.proxy.requests().is_empty());
    assert_eq!(left(&scene.desk), [""; 0]);
    // Elsewhere it is a name as any other.
    export(&scene.desk, &[&scene.image], output, &[]).success();
    assert_eq!(left(&scene.desk), [output]);
}

/// exFAT as it is on sticks; exfat-fuse answers ENOENT, the kernel's driver EINVAL.
#[test]
fn exfat_refuses_a_colon_before_the_registry_is_asked() {
    let scene = Scene::new();
    let line = format!(
        "truncate -s 40M stick; mkfs.exfat stick >&2; mkdir m; device=$(losetup --find --show stick) || exit 77
         trap 'umount m; losetup --detach $device' EXIT
         mount.exfat-fuse $device m >&2 || exit 77
         for name in rel:1.tar rel:1 rel:1.tar.zst; do
           $SEALIFT export {image} --output m/$name --key key && exit 9
         done
         ls -A m; $SEALIFT export {image} --output m/rel-1.tar --key key; ls -A m",
        image = scene.image
    );
    let Some(run) = scene.desk.as_root_in_own_mounts(&line, &["mkfs.exfat", "mount.exfat-fuse", "losetup"]) else {
        return;
    };
    if run.exit_code() == 77 {
        eprintln!("SKIPPED: exFAT cannot be mounted here");
        return;
    }
    run.success();
    assert_eq!(run.stdout(), "rel-1.tar\n", "{}", run.stderr());
    assert_eq!(run.stderr().matches("exFAT or NTFS cannot hold ':' in names").count(), 3, "{}", run.stderr());
    let asked_for = |path: &str| scene.proxy.requests().iter().filter(|r| r.path.contains(path)).count();
    assert_eq!(asked_for("/manifests/1"), 1, "by the export with a name that can be");
}

/// What a killed run leaves of its trial is no file of anybody: the same command goes on.
#[rstest]
#[case::tar("b.tar", "openat:signal=SIGKILL")]
#[case::tar_made("b.tar", "unlinkat,unlink:signal=SIGKILL")]
#[case::directory("b", "mkdirat,mkdir:signal=SIGKILL")]
#[case::directory_made("b", "unlinkat,unlink,rmdir:signal=SIGKILL")]
fn a_run_that_is_killed_while_it_tries_its_name_leaves_the_name_free(#[case] output: &str, #[case] fault: &str) {
    let scene = Scene::new();
    let tried = scene.path(&format!(".{output}.try"));
    let Some(wrapper) = strace(&[&tried], &[fault]) else { return };
    let run = scene.desk.wrapped(&words(&wrapper), &export_line(&[&scene.image], output, &[]));
    assert!(run.was_killed(), "{}", run.stderr());
    assert_eq!(left(&scene.desk), [format!(".{output}.try")]);
    export(&scene.desk, &[&scene.image], output, &[]).success();
    assert_eq!(left(&scene.desk), [output]);
}

fn wait_for(what: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !what() {
        assert!(Instant::now() < deadline, "it does not come to that");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// While it is written.
const PART: &str = ".b.partial/blobs/sha256/.HEX.part";
const SOUND: &str = "see that the medium is there and sound";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
