//! The small corpus (`scripts/corpus`): made once a machine, whichever test process comes first.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::registry::RealRegistry;
use crate::{registry, sha256};

/// What a user would name in the corpus: one line of its `expect.tsv`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub repository: String,
    /// A tag, or `sha256:<hex>` for what has none.
    pub reference: String,
    pub digest: String,
    pub media_type: String,
    /// Such as `index`, `platforms`, `zstd`: see `scripts/corpus`.
    pub traits: Vec<String>,
    /// How many manifests, configs and layers it reaches, itself included, each counted once.
    pub reaches: usize,
    /// The bytes of these.
    pub bytes: u64,
}

impl Reference {
    /// As it is typed for a registry: `HOST/repository:tag` or `HOST/repository@digest`.
    pub fn at(&self, host: &str) -> String {
        format!("{host}/{}", self.name())
    }

    /// `repository:tag` or `repository@digest`.
    pub fn name(&self) -> String {
        let mark = if self.is_tagged() { ':' } else { '@' };
        format!("{}{mark}{}", self.repository, self.reference)
    }

    pub fn is_tagged(&self) -> bool {
        self.reference != self.digest
    }

    pub fn has(&self, a_trait: &str) -> bool {
        self.traits.iter().any(|t| t == a_trait)
    }
}

/// The small corpus: a tree of `blobs/sha256/<hex>`, `refs.tsv`, `blobs.tsv`, `expect.tsv`. Not to be written to.
pub fn corpus() -> &'static Path {
    static TREE: OnceLock<PathBuf> = OnceLock::new();
    TREE.get_or_init(|| tree("small"))
}

/// Another size that `scripts/corpus` knows (`demo`, `full`, `big`), made and kept in the same way.
pub fn tree(size: &str) -> PathBuf {
    let scripts = scripts();
    let sources: Vec<u8> = ["corpus", "images.sh", "lib.sh", "push.sh"]
        .iter()
        .flat_map(|name| fs::read(scripts.join(name)).unwrap_or_else(|e| panic!("scripts/{name}: {e}")))
        .collect();
    let key = sha256(&sources)["sha256:".len()..][..12].to_owned();
    let kept = scratch().join(format!("corpus-{size}-{key}"));
    once(&kept, |unfinished| registry::run(&scripts.join("corpus"), &[unfinished.as_os_str(), size.as_ref()]));
    kept
}

/// Pushes the small corpus to the registry at `host`, with curl.
pub fn push_corpus(host: &str) {
    let url = format!("http://{host}");
    registry::run(&scripts().join("corpus"), &["push".as_ref(), corpus().as_os_str(), url.as_ref()]);
}

/// The storage of a registry to which the small corpus was pushed: made once, to be copied.
pub(crate) fn pushed_storage() -> PathBuf {
    let kept = corpus().with_extension("storage");
    once(&kept, |unfinished| {
        let registry = RealRegistry::start();
        push_corpus(registry.host());
        copy_tree(&registry.storage(), unfinished);
    });
    kept
}

/// Copies a directory to where none is yet.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    registry::run("cp".as_ref(), &["-r".as_ref(), "--reflink=auto".as_ref(), from.as_os_str(), to.as_os_str()]);
}

/// What the small corpus holds, as a user would name it.
pub fn references() -> Vec<Reference> {
    let text = fs::read_to_string(corpus().join("expect.tsv")).expect("expect.tsv can be read");
    text.lines().map(|line| parse(line).unwrap_or_else(|| panic!("expect.tsv: {line:?}"))).collect()
}

fn parse(line: &str) -> Option<Reference> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [repository, reference, digest, media_type, traits, reaches, bytes] = fields[..] else { return None };
    Some(Reference {
        repository: repository.to_owned(),
        reference: reference.to_owned(),
        digest: digest.to_owned(),
        media_type: media_type.to_owned(),
        traits: traits.split(',').map(str::to_owned).collect(),
        reaches: reaches.parse().ok()?,
        bytes: bytes.parse().ok()?,
    })
}

/// A small image of the corpus, as it is named at a registry.
pub fn busybox(host: &str) -> String {
    references().iter().find(|r| r.repository == "library/busybox").expect("busybox in the corpus").at(host)
}

/// Makes a directory unless it is there. Tests run as processes of their own at the same time: the first one makes it,
/// the others wait.
fn once(kept: &Path, make: impl FnOnce(&Path)) {
    let beside = |suffix: &str| PathBuf::from(format!("{}.{suffix}", kept.display()));
    let lock = File::create(beside("lock")).expect("a lock file can be made");
    lock.lock().expect("a lock file can be locked");
    if !kept.exists() {
        let unfinished = beside("unfinished");
        let _ = fs::remove_dir_all(&unfinished);
        make(&unfinished);
        fs::rename(&unfinished, kept).expect("what was made can be put in its place");
    }
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts")
}

/// `target/tmp`, which cargo tells to test crates only: found from where the test runs, `target/<profile>/deps/<test>`.
fn scratch() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let tmp = test.ancestors().nth(3).expect("tests run from target/<profile>/deps").join("tmp");
    fs::create_dir_all(&tmp).expect("target/tmp can be made");
    tmp
}
