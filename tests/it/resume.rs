//! What happens to a bundle on bad days: kills at any instant, images that fail, media that are full or fail, two runs at
//! once. Whatever happens, the same command again ends as if nothing had, and fetches and sends nothing twice.

mod blocked;
mod ends;
mod kills;
mod left_out;
mod media;
mod parts;
mod pipes;
pub(crate) mod trace;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;

use support::{Desk, FaultProxy, Recorded, Run};

/// A form in which a bundle is made and can be gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Directory,
    Tar,
}

impl Form {
    fn output(self) -> &'static str {
        match self {
            Form::Directory => "b",
            Form::Tar => "b.tar",
        }
    }

    fn partial(self) -> String {
        format!(".{}.partial", self.output())
    }

    fn journal(self) -> String {
        format!(".{}.journal", self.output())
    }

    /// The digests (hex) of the blobs that an unfinished bundle holds by its own account.
    fn noted(self, desk: &Desk) -> BTreeSet<String> {
        match self {
            Form::Directory => names(desk, &format!("{}/blobs/sha256", self.partial()))
                .into_iter()
                .filter(|name| !name.starts_with('.'))
                .collect(),
            Form::Tar => {
                let journal = fs::read_to_string(desk.path().join(self.journal())).unwrap_or_default();
                let archive = fs::File::open(desk.path().join(self.partial()));
                let mut noted = BTreeSet::new();
                // The last line for a blob counts; one that is torn does not.
                for line in journal.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
                    let fields: Vec<&str> = line.trim_end().split(' ').collect();
                    let ["at", hex, offset, length] = fields[..] else { continue };
                    let size = archive.as_ref().ok().and_then(|file| size_before(file, offset.parse().unwrap()));
                    match size == length.parse().ok() {
                        true => noted.insert(hex.to_owned()),
                        false => noted.remove(hex),
                    };
                }
                noted
            }
        }
    }
}

/// The size in the header that stands before this offset of an archive.
fn size_before(archive: &fs::File, offset: u64) -> Option<u64> {
    let mut digits = [0; 11];
    archive.read_exact_at(&mut digits, offset.checked_sub(512)? + 124).ok()?;
    u64::from_str_radix(std::str::from_utf8(&digits).ok()?, 8).ok()
}

/// `export IMAGES --output OUTPUT --key key OPTIONS`, with short pauses between retries.
fn export_line<'a>(images: &[&'a str], output: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["export", "--output", output, "--key", "key", "--retry-delay", "0.02"];
    [&fixed, options, images].concat()
}

fn export(desk: &Desk, images: &[&str], output: &str, options: &[&str]) -> Run {
    desk.sealift(&export_line(images, output, options))
}

fn verify(desk: &Desk, bundle: &str) -> i32 {
    desk.sealift(&["verify", bundle, "--trust", "allowed_signers"]).exit_code()
}

/// The digests (hex) of the blobs whose bytes the proxy was asked for.
fn fetched(proxy: &FaultProxy) -> Vec<String> {
    let gets = proxy.requests().into_iter().filter(|r| r.method == "GET" && r.path.contains("/blobs/sha256:"));
    gets.map(|r| hex_in(&r)).collect()
}

/// The digest (hex) in a request's path.
fn hex_in(request: &Recorded) -> String {
    let path = request.path.replace("%3A", ":");
    path.split("sha256:").nth(1).and_then(|rest| rest.get(..64)).unwrap_or_default().to_owned()
}

/// What is in a directory of the desk, hidden files too.
fn names(desk: &Desk, directory: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(desk.path().join(directory)) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// What of bundles is on the desk.
fn left(desk: &Desk) -> Vec<String> {
    let mut names = names(desk, "");
    names.retain(|name| !["key", "key.pub", "allowed_signers"].contains(&name.as_str()));
    names
}

/// Whether two bundles of the same form are equal to the byte.
fn same(desk: &Desk, one: &str, other: &str) -> bool {
    let run = std::process::Command::new("diff").args(["-rq", one, other]).current_dir(desk.path()).status();
    run.expect("diff").success()
}
