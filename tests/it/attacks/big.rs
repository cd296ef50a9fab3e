//! Very large inputs, sealed by someone whose key is trusted: refused soon, and in little memory.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::corpus::spec;
use super::draft::{Draft, OCI_MANIFEST, descriptor, digest, path_of};
use super::good::{LAYER, ONE, minimal};

/// As much as a file of the top level may have.
const FULL: usize = 16 << 20;
/// Peak of the resident memory of the whole program in KiB: 64 MiB, and 16 MiB for what a debug build has more.
pub(crate) const MEMORY: u64 = 64 << 10;
const MEMORY_DEBUG: u64 = (64 + 16) << 10;
/// Of the processor, which other work on the machine does not change. A debug build takes ten times as long.
const SECONDS: f64 = 1.0;
const SECONDS_DEBUG: f64 = 60.0;
/// Names another build to measure: `SEALIFT_RELEASE=target/release/sealift cargo test --test it attacks::big -- --nocapture`.
pub(crate) const RELEASE: &str = "SEALIFT_RELEASE";

struct Case {
    name: &'static str,
    reason: &'static str,
    make: fn(&mut Draft),
}

const CASES: &[Case] = &[
    case("1 GiB of SHA256SUMS", "more than 16777216", |b| b.run("truncate -s 1G SHA256SUMS")),
    case("1 GiB of index.json", "more than 16777216", |b| b.run("truncate -s 1G index.json")),
    case("16 MiB of line ends in SHA256SUMS", "64 lower-case hex digits", |b| b.sums(vec![b'\n'; FULL])),
    case("one line of 16 MiB in SHA256SUMS", "64 lower-case hex digits", |b| {
        b.sums([vec![b'a'; FULL - 1], vec![b'\n']].concat());
    }),
    case("ten million short lines in SHA256SUMS", "16777216", |b| b.sums(b"a\n".repeat(10_000_000))),
    case("100,000 lines in SHA256SUMS that nothing refers to", "nothing refers to it", |b| {
        let mut lines: Vec<String> = b.text("SHA256SUMS").lines().map(str::to_owned).collect();
        let room = 100_000 - lines.len();
        lines.extend((0..room).map(|n| format!("{n:064x}  blobs/sha256/{n:064x}")));
        lines.sort_by(|a, b| a[66..].cmp(&b[66..]));
        b.sums(lines.join("\n") + "\n");
    }),
    case("20,000 files among the blobs", "more than", |b| {
        b.run("i=0; while [ $i -lt 20000 ]; do : > blobs/sha256/$i; i=$((i + 1)); done");
    }),
    case("eight million numbers in index.json", "more than 650000 values", |b| {
        fill(b, "index.json", "{\"schemaVersion\":2,\"manifests\":[", "0,", "0]}");
    }),
    case("sixteen million open lists in index.json", "nested deeper", |b| fill(b, "index.json", "{\"x\":", "[", "[")),
    case("a key of 16 MiB in index.json", "a key has", |b| fill(b, "index.json", "{\"", "k", "\":0}")),
    case("a key of 16 MiB by escapes in bundle.json", "a key has", |b| fill(b, "bundle.json", "{\"", "\\n", "\":0}")),
    case("a name of 16 MiB in index.json", "a text has", |b| {
        let text = b.text("index.json");
        let (before, after) = text.split_once("\"ns/app:1\"").unwrap();
        let name = "n".repeat(FULL - text.len() - 2);
        b.put("index.json", format!("{before}\"{name}\"{after}"));
    }),
    case("a text of 16 MiB for a number", "a text has", |b| {
        fill(b, "bundle.json", "{\"formatVersion\":\"", "x", "\"}");
    }),
    case("600,000 requirements", "requires", |b| {
        let list = vec!["\"x\""; 600_000].join(",");
        b.replace("bundle.json", "\"requires\":[]", &format!("\"requires\":[{list}]"));
    }),
    case("five million requirements", "values", |b| {
        let text = b.text("bundle.json");
        let (before, after) = text.split_once("\"requires\":[]").unwrap();
        fill(b, "bundle.json", &format!("{before}\"requires\":["), "\"\",", &format!("\"\"]{after}"));
    }),
    case("640,000 names of something absent", "absent", |b| {
        let names: Vec<String> = (0..640_000).map(|n| format!("\"n/a:{n:010}\"")).collect();
        let entry =
            format!(r#"{{"digest":"{}","size":1,"reason":"foreign","names":[{}]}}"#, digest(b"x"), names.join(","));
        b.replace("bundle.json", "\"absent\":[]", &format!("\"absent\":[{entry}]"));
    }),
    case("101,000 things that are absent", "more than 100000 entries", |b| {
        let entries: Vec<String> = (0..101_000)
            .map(|n| format!(r#"{{"digest":"sha256:{n:064x}","size":1,"reason":"foreign","names":["a:1"]}}"#))
            .collect();
        b.replace("bundle.json", "\"absent\":[]", &format!("\"absent\":[{}]", entries.join(",")));
    }),
    case("50,001 images", "more than 50000 images", |b| {
        let manifest = b.files[&b.manifest_of(ONE)].clone();
        let line = descriptor(OCI_MANIFEST, &manifest);
        let lines: Vec<String> = (0..50_001)
            .map(|n| {
                format!(
                    r#"{},"annotations":{{"io.containerd.image.name":"x","org.opencontainers.image.ref.name":"a:{n:08}"}}}}"#,
                    line.trim_end_matches('}')
                )
            })
            .collect();
        let text = b.text("index.json");
        let before = text.split_once('[').unwrap().0;
        b.put("index.json", format!("{before}[{}]}}\n", lines.join(",")));
    }),
    case("50,000 images of one layer, which is missing", "missing", |b| {
        let manifest = b.files[&b.manifest_of(ONE)].clone();
        let line = descriptor(OCI_MANIFEST, &manifest);
        let lines: Vec<String> = (0..50_000)
            .map(|n| {
                format!(
                    r#"{},"annotations":{{"io.containerd.image.name":"x","org.opencontainers.image.ref.name":"n{n:08}/a:1"}}}}"#,
                    line.trim_end_matches('}')
                )
            })
            .collect();
        let text = b.text("index.json");
        let before = text.split_once('[').unwrap().0;
        b.put("index.json", format!("{before}[{}]}}\n", lines.join(",")));
        b.run(&format!("rm {}", path_of(LAYER)));
    }),
    case("a manifest of 390,000 annotations", "missing", |b| {
        // 4,000 in each of nearly a hundred layers.
        let keys: Vec<String> = (0..4000).map(|n| format!("\"{n:x}\":\"\"")).collect();
        let line = descriptor("x", LAYER);
        let layer = format!("{},\"annotations\":{{{}}}}}", line.trim_end_matches('}'), keys.join(","));
        let layers = vec![layer; 90].join(",");
        b.change_document(&b.manifest_of(ONE), "\"layers\":[", &format!("\"layers\":[{layers},"));
        b.run(&format!("rm {}", path_of(LAYER)));
    }),
    case("260,000 references to one layer", "more than 250000 references", |b| {
        let line = descriptor("x", LAYER);
        let layers = vec![line; 36_000].join(",");
        let app = b.files[&b.manifest_of(ONE)].clone();
        let mut images = String::new();
        for n in 0..8 {
            let text = String::from_utf8(app.clone())
                .unwrap()
                .replace("\"layers\":[", &format!("\"n\":{n},\"layers\":[{layers},"));
            b.blob(text.clone());
            let line = descriptor(OCI_MANIFEST, text.as_bytes());
            images += &format!(
                r#"{},"annotations":{{"io.containerd.image.name":"x","org.opencontainers.image.ref.name":"a:{n}"}}}},"#,
                line.trim_end_matches('}')
            );
        }
        b.replace("index.json", "\"manifests\":[", &format!("\"manifests\":[{images}"));
    }),
];

const fn case(name: &'static str, reason: &'static str, make: fn(&mut Draft)) -> Case {
    Case { name, reason, make }
}

#[test]
fn very_large_inputs_are_refused_soon_and_in_little_memory() {
    let release = std::env::var_os(RELEASE).map(PathBuf::from);
    let (memory, seconds) = if release.is_some() { (MEMORY, SECONDS) } else { (MEMORY_DEBUG, SECONDS_DEBUG) };
    let program = release.unwrap_or_else(|| env!("CARGO_BIN_EXE_sealift").into());
    let trust = spec().join("attacks/keys/allowed_signers");
    let mut wrong = Vec::new();
    for case in CASES {
        let desk = tempfile::tempdir().unwrap();
        let bundle = desk.path().join("bundle");
        let mut draft = minimal();
        (case.make)(&mut draft);
        draft.seal();
        draft.store(&bundle);
        let arguments = ["verify", bundle.to_str().unwrap(), "--trust", trust.to_str().unwrap()];
        let run = measure(&program, &bundle, &arguments);
        println!("{:>6} KiB {:>6.2} s  {}", run.peak, run.seconds, case.name);
        let right = run.code == Some(3) && run.said.contains(case.reason) && run.said.len() < 20_000;
        if !right || run.peak > memory || run.seconds > seconds {
            wrong.push(format!("{}: {run:.500?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    /// Of resident memory, in KiB.
    pub(crate) peak: u64,
    /// Of the processor, in the program and in the system.
    pub(crate) seconds: f64,
    /// On stderr.
    pub(crate) said: String,
}

/// Runs the program by GNU time, which writes its figures beside the bundle.
pub(crate) fn measure(program: &Path, bundle: &Path, arguments: &[&str]) -> Run {
    let peak = bundle.with_extension("peak");
    let mut run = Command::new("/usr/bin/time");
    run.args(["-q", "-f", "%M %U %S", "-o"]).arg(&peak).arg(program).args(arguments);
    let output = run.output().expect("GNU time is there: apt-get install time");
    let told = std::fs::read_to_string(peak).unwrap();
    let numbers: Vec<f64> = told.split_whitespace().map(|number| number.parse().unwrap()).collect();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Run { code: output.status.code(), peak: numbers[0] as u64, seconds: numbers[1] + numbers[2], said }
}

/// Fills a file up to the limit.
fn fill(b: &mut Draft, path: &str, before: &str, with: &str, after: &str) {
    let times = (FULL - before.len() - after.len()) / with.len();
    b.put(path, format!("{before}{}{after}", with.repeat(times)));
}
