//! A tree of images put where docker-registry's `filesystem` driver keeps its content: at once, where pushing would take
//! longer than what is measured.

use std::fs;
use std::path::Path;

use crate::Result;

/// `storage` is what the registry's configuration calls `rootdirectory`.
pub fn store(tree: &Path, storage: &Path) -> Result<()> {
    let root = storage.join("docker/registry/v2");
    for entry in fs::read_dir(tree.join("blobs/sha256"))? {
        let entry = entry?;
        let hex = entry.file_name().into_string().map_err(|_| "a name that is not text")?;
        let folder = root.join("blobs/sha256").join(&hex[..2]).join(&hex);
        fs::create_dir_all(&folder)?;
        let data = folder.join("data");
        // The other file system of a benchmark has no second name for a file.
        if fs::hard_link(entry.path(), &data).is_err() {
            fs::copy(entry.path(), &data)?;
        }
    }
    for line in fs::read_to_string(tree.join("blobs.tsv"))?.lines() {
        let [repository, digest] = fields(line)?;
        link(&root.join("repositories").join(repository).join("_layers/sha256").join(hex(digest)), digest)?;
    }
    for line in fs::read_to_string(tree.join("refs.tsv"))?.lines() {
        let [repository, reference, digest, _] = fields(line)?;
        let manifests = root.join("repositories").join(repository).join("_manifests");
        link(&manifests.join("revisions/sha256").join(hex(digest)), digest)?;
        if reference != digest {
            let tag = manifests.join("tags").join(reference);
            link(&tag.join("index/sha256").join(hex(digest)), digest)?;
            link(&tag.join("current"), digest)?;
        }
    }
    Ok(())
}

fn link(folder: &Path, digest: &str) -> Result<()> {
    fs::create_dir_all(folder)?;
    Ok(fs::write(folder.join("link"), digest)?)
}

fn hex(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}

fn fields<const N: usize>(line: &str) -> Result<[&str; N]> {
    line.split('\t').collect::<Vec<_>>().try_into().map_err(|_| format!("not {N} fields: {line:?}").into())
}
