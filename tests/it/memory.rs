//! Memory stays below 64 MiB however large a layer is, and however many blobs there are.

#[cfg(test)]
mod hostile;

use support::{RealRegistry, push_image};

const BOUND_KIB: u64 = 64 << 10;

#[test]
fn a_large_layer_is_never_in_memory() {
    moves_within_bound(300 << 20);
}

/// In one file: each byte is written once on the way out and read once on the way in.
#[test]
fn a_large_layer_goes_once_into_one_file_and_once_out_of_it() {
    let (source, destination) = (RealRegistry::start(), RealRegistry::start());
    push_image(source.host(), "team/big", "1", &[&vec![7; 300 << 20]]);
    let desk = support::desk!();
    let image = format!("{}/team/big:1", source.host());
    let export = desk.usage(&["export", &image, "--output", "b.tar", "--key", "key"]);
    let size = std::fs::metadata(desk.path().join("b.tar")).unwrap().len();
    let import = desk.usage(&["import", "b.tar", destination.host(), "--trust", "allowed_signers"]);
    println!("{size} bytes: {export:?}, {import:?}");
    assert!(export.written <= size + size / 50, "{export:?}");
    assert!(import.read <= size + size / 50, "{import:?}");
    assert!(export.memory_kib < BOUND_KIB && import.memory_kib < BOUND_KIB, "{export:?}, {import:?}");
    let packed = desk.usage(&["export", &image, "--output", "b.tar.zst", "--key", "key"]);
    let packed_verify = desk.usage(&["verify", "b.tar.zst", "--trust", "allowed_signers"]);
    assert!(packed.memory_kib < BOUND_KIB && packed_verify.memory_kib < BOUND_KIB, "{packed:?}, {packed_verify:?}");
}

/// Takes 12 GiB of disk and a minute or two: `cargo test --release --test it -- --ignored`.
#[test]
#[ignore = "needs 12 GiB of disk"]
fn a_layer_of_2_gib_is_never_in_memory() {
    moves_within_bound(2 << 30);
}

#[test]
fn many_blobs_are_never_in_memory() {
    let (source, destination) = (RealRegistry::start(), RealRegistry::start());
    let layers: Vec<Vec<u8>> = (0..250u32).map(|n| n.to_le_bytes().repeat(64)).collect();
    push_image(source.host(), "team/big", "1", &layers.iter().map(Vec::as_slice).collect::<Vec<_>>());
    assert_journey_within_bound(&source, &destination);
}

fn moves_within_bound(size: usize) {
    let (source, destination) = (RealRegistry::start(), RealRegistry::start());
    push_image(source.host(), "team/big", "1", &[&vec![7; size]]);
    assert_journey_within_bound(&source, &destination);
}

fn assert_journey_within_bound(source: &RealRegistry, destination: &RealRegistry) {
    let desk = support::desk!();
    let image = format!("{}/team/big:1", source.host());
    for arguments in [
        vec!["export", &image, "--output", "bundle", "--key", "key"],
        vec!["verify", "bundle", "--trust", "allowed_signers"],
        vec!["import", "bundle", destination.host(), "--trust", "allowed_signers", "--read-back"],
    ] {
        let peak = desk.peak_memory(&arguments);
        println!("{}: {} MiB", arguments[0], peak >> 10);
        assert!(peak < BOUND_KIB, "{} took {peak} KiB", arguments[0]);
    }
}
