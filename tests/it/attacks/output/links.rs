//! Links, devices, pipes and files of others under the names that an export writes.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use super::scene::{Case, End, Form, Place, Plant, Scene, is_root};

#[test]
fn no_link_is_followed_and_no_file_with_other_names_is_written() {
    let mut cases = Vec::new();
    let mut add = |name, forms: &[Form], plant: Plant, end| {
        cases.extend(forms.iter().map(|form| Case { name, form: *form, plant, end }));
    };
    let files = &[Form::Tar, Form::Zst, Form::Sync];
    add("partial: link to a file", &Form::ALL, |p| symlink(p.elsewhere(), p.partial()).unwrap(), End::Refused("link"));
    add(
        "partial: link to nothing",
        &Form::ALL,
        |p| symlink(p.path("elsewhere/new"), p.partial()).unwrap(),
        End::Refused("link"),
    );
    add(
        "partial: link to a directory",
        &Form::ALL,
        |p| symlink(p.path("elsewhere"), p.partial()).unwrap(),
        End::Refused("link"),
    );
    add("partial: hard link", files, |p| fs::hard_link(p.elsewhere(), p.partial()).unwrap(), End::Refused("2 names"));
    add("partial: pipe", &Form::ALL, |p| pipe(&p.partial()), End::Refused("named pipe"));
    add("partial: directory", files, |p| fs::create_dir(p.partial()).unwrap(), End::Refused("is a directory"));
    add(
        "partial: file",
        &[Form::Directory],
        |p| fs::write(p.partial(), b"x").unwrap(),
        End::Refused("a regular file, not a directory"),
    );
    add("partial: others may write", &Form::ALL, |p| open_to(p, 0o666), End::Refused("may be written by others"));
    add("partial: a group may write", &Form::ALL, |p| open_to(p, 0o660), End::Refused("may be written by others"));
    add("journal: link", files, |p| symlink(p.elsewhere(), p.journal()).unwrap(), End::Sealed);
    add("journal: hard link", files, |p| fs::hard_link(p.elsewhere(), p.journal()).unwrap(), End::Sealed);
    add("journal: pipe", files, |p| pipe(&p.journal()), End::Sealed);
    let archives = &[Form::Tar, Form::Sync];
    add("journal: directory", archives, |p| fs::create_dir(p.journal()).unwrap(), End::Refused(".journal"));
    add("new journal: link", files, |p| symlink(p.elsewhere(), new_journal(p)).unwrap(), End::Sealed);
    add("new journal: hard link", files, |p| fs::hard_link(p.elsewhere(), new_journal(p)).unwrap(), End::Sealed);
    add("new journal: pipe", files, |p| pipe(Path::new(&new_journal(p))), End::Sealed);
    add("new journal: directory", archives, |p| fs::create_dir(new_journal(p)).unwrap(), End::Refused(".journal.new"));
    add(
        "try: link",
        &Form::ALL,
        |p| symlink(p.path("elsewhere"), tried(p)).unwrap(),
        End::Refused("cannot try the name"),
    );
    add(
        "try: a directory with the name in it",
        files,
        |p| {
            fs::create_dir(tried(p)).unwrap();
            fs::hard_link(p.elsewhere(), tried(p).join(p.form.output())).unwrap();
        },
        End::Sealed,
    );
    Scene::new().check(&cases);
}

#[test]
fn an_output_that_is_a_link_is_there_already() {
    let scene = Scene::new();
    for form in Form::ALL {
        let place = scene.place(form);
        symlink(place.path("elsewhere/new"), place.usb(form.output())).unwrap();
        place.export().code(1).stderr_contains("exists already");
        assert!(!place.path("elsewhere/new").exists());
    }
}

#[test]
fn what_belongs_to_another_user_is_neither_used_nor_changed() {
    if !is_root() {
        return;
    }
    let mut cases = Vec::new();
    for form in Form::ALL {
        let plant: Plant = |place| {
            open_to(place, 0o600);
            chown(place.partial(), Some(12_345), None).unwrap();
        };
        cases.push(Case {
            name: "partial: of another user",
            form,
            plant,
            end: End::Refused("another user (uid 12345)"),
        });
    }
    let plant: Plant = |place| {
        place.interrupt();
        chown(place.partial(), Some(12_345), None).unwrap();
    };
    for form in [Form::Tar, Form::Directory, Form::Sync] {
        cases.push(Case { name: "partial: given away", form, plant, end: End::Refused("another user") });
    }
    let plant: Plant = |place| {
        place.interrupt();
        chown(place.journal(), Some(12_345), None).unwrap();
        fs::set_permissions(place.journal(), fs::Permissions::from_mode(0o666)).unwrap();
    };
    cases.push(Case { name: "journal: given away", form: Form::Tar, plant, end: End::SealedSaying("continuing") });
    Scene::new().check(&cases);
}

#[test]
fn no_device_is_opened() {
    if !is_root() {
        return;
    }
    let null: Plant = |place| device(&place.partial(), "c", 1, 3);
    let mut cases: Vec<Case> = Form::ALL
        .map(|form| Case { name: "partial: a character device", form, plant: null, end: End::Refused("is a device") })
        .into();
    let null: Plant = |place| device(Path::new(&new_journal(place)), "c", 1, 3);
    for form in [Form::Tar, Form::Zst, Form::Sync] {
        cases.push(Case { name: "new journal: a character device", form, plant: null, end: End::Sealed });
    }
    Scene::new().check(&cases);
}

/// A block device with a file system of others on it.
#[test]
fn no_block_device_is_written() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    let Some(disk) = Disk::new(&scene) else { return };
    for form in [Form::Tar, Form::Zst, Form::Sync] {
        for (name, end) in
            [("partial", End::Refused("is a device")), ("journal.new", End::Sealed), ("journal", End::Sealed)]
        {
            let place = scene.place(form);
            device(&place.usb(&format!(".{}.{name}", form.output())), "b", disk.major, disk.minor);
            place.check(end).unwrap_or_else(|why| panic!("{name} ({form:?}): {why}"));
            disk.sync();
            assert_eq!(support::sha256(&fs::read(&disk.image).unwrap()), disk.content, "{name} ({form:?})");
        }
    }
}

/// A loop device over a file.
struct Disk {
    image: std::path::PathBuf,
    device: String,
    major: u32,
    minor: u32,
    content: String,
}

impl Disk {
    fn new(scene: &Scene) -> Option<Disk> {
        let image = scene.path("disk");
        fs::write(&image, support::noise(8, 1 << 20)).unwrap();
        let made = Command::new("losetup").args(["-f", "--show"]).arg(&image).output().ok()?;
        if !made.status.success() {
            eprintln!("SKIPPED: there is no loop device");
            return None;
        }
        let device = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        let number = std::os::unix::fs::MetadataExt::rdev(&fs::metadata(&device).unwrap());
        let content = support::sha256(&fs::read(&image).unwrap());
        Some(Disk { image, device, major: rustix::fs::major(number), minor: rustix::fs::minor(number), content })
    }

    fn sync(&self) {
        fs::File::open(&self.device).unwrap().sync_all().unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.device]).status();
    }
}

fn new_journal(place: &Place<'_>) -> std::path::PathBuf {
    place.usb(&format!(".{}.journal.new", place.form.output()))
}

/// The directory in which the name is tried.
fn tried(place: &Place<'_>) -> std::path::PathBuf {
    place.usb(&format!(".{}.try", place.form.output()))
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn device(path: &Path, kind: &str, major: u32, minor: u32) {
    let status = Command::new("mknod").arg(path).args([kind, &major.to_string(), &minor.to_string()]).status();
    assert!(status.unwrap().success());
}

/// An unfinished bundle with this mode.
fn open_to(place: &Place<'_>, mode: u32) {
    match place.form {
        Form::Directory => fs::create_dir(place.partial()).unwrap(),
        _ => fs::write(place.partial(), b"something of others").unwrap(),
    }
    fs::set_permissions(place.partial(), fs::Permissions::from_mode(mode)).unwrap();
}
