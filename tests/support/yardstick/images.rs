//! Made-up images, for curves: as many as one likes, with as many layers of as many bytes. A quarter of an image's layers
//! (rounded down) it has for itself alone, at least one; the others are shared by all.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::Result;

struct Tree<'a> {
    out: &'a Path,
    seed: u64,
}

/// What was put into a tree.
struct Blob {
    digest: String,
    size: u64,
}

pub fn make(out: &Path, count: &str, layers: &str, bytes: &str) -> Result<()> {
    let (count, layers, bytes): (usize, usize, u64) = (count.parse()?, layers.parse()?, bytes.parse()?);
    fs::create_dir_all(out.join("blobs/sha256"))?;
    let mut tree = Tree { out, seed: 0 };
    let own = (layers / 4).clamp(1, layers);
    let shared: Vec<Blob> = (own..layers).map(|_| tree.noise(bytes)).collect::<Result<_>>()?;
    let mut lists = ["refs", "blobs", "expect"].map(|_| String::new());
    for number in 0..count {
        let alone: Vec<Blob> = (0..own).map(|_| tree.noise(bytes)).collect::<Result<_>>()?;
        let layers: Vec<&Blob> = shared.iter().chain(&alone).collect();
        let [refs, blobs, expect] = &mut lists;
        let repository = format!("bench/made/{number:04}");
        let config = tree.text(&config(number, &layers))?;
        let manifest = tree.text(&manifest(&config, &layers))?;
        for blob in layers.iter().copied().chain([&config]) {
            *blobs += &format!("{repository}\t{}\n", blob.digest);
        }
        *refs += &format!("{repository}\t1\t{}\t{MANIFEST}\n", manifest.digest);
        let total: u64 = layers.iter().map(|layer| layer.size).sum::<u64>() + config.size + manifest.size;
        *expect += &format!("{repository}\t1\t{}\t{MANIFEST}\timage\t{}\t{total}\n", manifest.digest, layers.len() + 2);
    }
    for (name, text) in ["refs", "blobs", "expect"].into_iter().zip(lists) {
        fs::write(out.join(format!("{name}.tsv")), text)?;
    }
    Ok(())
}

fn config(number: usize, layers: &[&Blob]) -> String {
    let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
    format!(
        r#"{{"architecture":"amd64","os":"linux","author":"{number}","rootfs":{{"type":"layers","diff_ids":{}}}}}"#,
        serde_json::json!(diff_ids)
    )
}

fn manifest(config: &Blob, layers: &[&Blob]) -> String {
    let layers: Vec<String> = layers.iter().map(|layer| descriptor("layer.v1.tar", layer)).collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{}]}}"#,
        descriptor("config.v1+json", config),
        layers.join(",")
    )
}

fn descriptor(kind: &str, blob: &Blob) -> String {
    let Blob { digest, size } = blob;
    format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{size}}}"#)
}

impl Tree<'_> {
    fn text(&self, text: &str) -> Result<Blob> {
        self.blob(|file| Ok(file(text.as_bytes())?))
    }

    /// Bytes that do not compress, different ones each time and the same on every machine (xorshift64).
    fn noise(&mut self, size: u64) -> Result<Blob> {
        self.seed += 1;
        let mut state = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        self.blob(|file| {
            let mut piece = vec![0; 64 << 10];
            let mut left = size;
            while left > 0 {
                for word in piece.chunks_exact_mut(8) {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    word.copy_from_slice(&state.to_le_bytes());
                }
                let count = left.min(piece.len() as u64);
                file(&piece[..count as usize])?;
                left -= count;
            }
            Ok(())
        })
    }

    /// A file of the bytes that `write` gives away piece by piece, under the name that they have.
    fn blob(&self, write: impl FnOnce(&mut dyn FnMut(&[u8]) -> std::io::Result<()>) -> Result<()>) -> Result<Blob> {
        let unnamed = self.out.join(".unnamed");
        let mut file = BufWriter::new(File::create(&unnamed)?);
        let (mut hasher, mut size) = (Sha256::new(), 0);
        write(&mut |bytes| {
            hasher.update(bytes);
            size += bytes.len() as u64;
            file.write_all(bytes)
        })?;
        file.flush()?;
        let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        fs::rename(unnamed, self.out.join("blobs/sha256").join(&hex))?;
        Ok(Blob { digest: format!("sha256:{hex}"), size })
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
