//! Very large bundles that are valid: what reads one stays within the memory that README promises.
//!
//! A debug build takes minutes and more memory, so they are measured only of a release build:
//! `SEALIFT_RELEASE=target/release/sealift cargo test --test it attacks::large -- --nocapture`.

use std::path::{Path, PathBuf};

use super::big::{MEMORY, RELEASE, Run, measure};
use super::corpus::spec;
use super::draft::{CONFIG, Draft, OCI_MANIFEST, descriptor};

struct Case {
    name: &'static str,
    make: fn() -> Draft,
}

const CASES: &[Case] = &[
    Case { name: "50,001 blobs and 208,000 references", make: || shared_layers(50_000, 30_000, 7) },
    Case { name: "manifests of 34,000 layers", make: || shared_layers(34_000, 34_000, 7) },
    Case { name: "10,000 images of 3 layers", make: many_images },
];

#[test]
fn large_valid_bundles_are_read_within_the_promised_memory() {
    let Some(program) = std::env::var_os(RELEASE).map(PathBuf::from) else {
        eprintln!("SKIPPED: {RELEASE} names no release build");
        return;
    };
    let program = program.canonicalize().expect("SEALIFT_RELEASE is the path of a program");
    let trust = spec().join("attacks/keys/allowed_signers");
    let trust = trust.to_str().unwrap();
    let mut wrong = Vec::new();
    for case in CASES {
        let folder = tempfile::tempdir().unwrap();
        (case.make)().store(&folder.path().join("bundle"));
        let bundle = folder.path().join("bundle");
        let bundle = bundle.to_str().unwrap();
        for arguments in [
            &["verify", bundle, "--trust", trust][..],
            &["inspect", bundle],
            &["inspect", bundle, "--json"],
            &["import", bundle, "127.0.0.1:1", "--trust", trust, "--dry-run"],
            &["import", bundle, "127.0.0.1:1", "--trust", trust, "--dry-run", "--only", "*"],
        ] {
            let run: Run = measure(&program, Path::new(bundle), arguments);
            let (peak, shown) = (run.peak as f64 / 1024.0, shown(arguments));
            println!("memory: {peak:>6.1} MiB of 64  {}: {shown} ({:.2} s)", case.name, run.seconds);
            if run.code != Some(0) || run.peak > MEMORY {
                wrong.push(format!("{}: {arguments:?}: {run:.500?}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `images` images of `layers` layers each out of `blobs` small ones.
fn shared_layers(blobs: usize, layers: usize, images: usize) -> Draft {
    let mut b = Draft::default();
    let texts: Vec<String> = (0..blobs).map(|n| format!("layer {n}")).collect();
    let lines: Vec<String> = texts.iter().map(|text| descriptor("a/b", text.as_bytes())).collect();
    texts.into_iter().for_each(|text| drop(b.blob(text)));
    let config = b"{}";
    b.blob(config);
    for image in 0..images {
        let begin = (image * layers) % blobs;
        let chosen: Vec<&str> = (begin..begin + layers).map(|n| lines[n % blobs].as_str()).collect();
        let config = descriptor(CONFIG, config);
        let manifest =
            format!(r#"{{"schemaVersion":2,"n":{image},"config":{config},"layers":[{}]}}"#, chosen.join(","));
        add(&mut b, &format!("team/app:{image}"), manifest);
    }
    b.finish()
}

fn many_images() -> Draft {
    let mut b = Draft::default();
    for image in 0..10_000 {
        let config = format!("{{\"image\":{image}}}");
        let layers: Vec<String> = (0..3).map(|n| format!("layer {}", image / 2 + 5_000 * n)).collect();
        b.blob(config.clone());
        let lines: Vec<String> = layers.iter().map(|layer| descriptor("a/b", layer.as_bytes())).collect();
        layers.into_iter().for_each(|layer| drop(b.blob(layer)));
        let config = descriptor(CONFIG, config.as_bytes());
        let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#, lines.join(","));
        add(&mut b, &format!("team/app{image:05}:1"), manifest);
    }
    b.finish()
}

fn add(b: &mut Draft, name: &str, manifest: String) {
    assert!(manifest.len() < 4 << 20, "{} bytes", manifest.len());
    b.blob(manifest.clone());
    b.image(name, OCI_MANIFEST, manifest.as_bytes());
}

/// The command with the options that matter.
fn shown(arguments: &[&str]) -> String {
    let options = arguments.iter().filter(|argument| ["--json", "--only"].contains(argument));
    std::iter::once(&arguments[0]).chain(options).copied().collect::<Vec<_>>().join(" ")
}
