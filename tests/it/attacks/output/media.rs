//! Owners and modes: of what is finished, and on file systems that keep neither.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use rstest::rstest;

use super::scene::{End, Form, Place, Scene, is_root};

/// exFAT, by FUSE: every file is 0777.
#[test]
fn on_exfat_an_unfinished_bundle_is_continued_and_told_to_be_hashed_again() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    for form in [Form::Tar, Form::Directory, Form::Zst, Form::Sync] {
        let place = scene.place(form);
        let Some(_stick) = Stick::mount(&place) else { return };
        if form == Form::Zst {
            place.check(End::Sealed).unwrap();
            continue;
        }
        place.interrupt();
        let whole = "its file system keeps no owners";
        scene.proxy.reset_count();
        place.check(End::SealedSaying(whole)).unwrap_or_else(|why| panic!("{form:?}: {why}"));
        assert_eq!(scene.proxy.count("GET", &scene.blobs[1]), 0, "what was there is used again");
        let left: Vec<_> = fs::read_dir(place.path("usb")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [form.output()]);
    }
}

/// Private while it is made, then as the umask says.
#[rstest]
fn a_finished_bundle_has_the_modes_of_the_umask(
    #[values(Form::Tar, Form::Directory, Form::Zst)] form: Form,
    #[values(0o022, 0o002, 0o077, 0o000)] umask: u32,
) {
    let scene = Scene::new();
    let place = scene.place(form);
    let shell = format!("umask {umask:03o}; exec \"$0\" \"$@\"");
    let run = |place: &Place<'_>| place.export_wrapped(&["sh", "-c", &shell]);
    if form != Form::Zst {
        scene.proxy.inject(support::Rule::on("GET", &scene.blobs[2]).status(404).times(1));
        run(&place).code(1);
        let private = if form == Form::Directory { 0o700 } else { 0o600 };
        assert_eq!(place.partial().metadata().unwrap().mode() & 0o7777, private);
        scene.proxy.heal();
    }
    place.check_run(End::Sealed, run).unwrap();
    let mut paths = vec![place.usb(form.output())];
    while let Some(path) = paths.pop() {
        let metadata = path.metadata().unwrap();
        let open = if metadata.is_dir() { 0o777 } else { 0o666 };
        assert_eq!(metadata.mode() & 0o7777, open & !umask, "{}", path.display());
        if metadata.is_dir() {
            paths.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
}

/// An exFAT file system in a file, mounted at `usb`.
struct Stick {
    device: String,
    at: std::path::PathBuf,
}

impl Stick {
    fn mount(place: &Place<'_>) -> Option<Stick> {
        let image = place.path("stick");
        fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let shell = "set -e; mkfs.exfat \"$1\" > /dev/null; device=$(losetup -f --show \"$1\")
                     mount.exfat-fuse \"$device\" \"$2\" > /dev/null || { losetup -d \"$device\"; exit 1; }; echo \"$device\"";
        let at = place.path("usb");
        let made = Command::new("sh").args(["-c", shell, "sh"]).args([&image, &at]).output().unwrap();
        if !made.status.success() {
            eprintln!("SKIPPED: no exFAT here: {}", String::from_utf8_lossy(&made.stderr));
            return None;
        }
        Some(Stick { device: String::from_utf8(made.stdout).unwrap().trim().to_owned(), at })
    }
}

impl Drop for Stick {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.at).status();
        let _ = Command::new("losetup").args(["-d", &self.device]).status();
    }
}
