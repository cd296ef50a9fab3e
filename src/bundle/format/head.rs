//! Everything of a bundle but its layers, read in the order that is safe.

use super::absent::{children, may_be_absent};
use super::blobs::blob_path;
use super::checksums::Checksums;
use super::descriptor::{BundleJson, Series};
use super::head_reader::{HeadReader, damaged};
use super::index::{self, Item};
use super::seal::Seal;
use super::top_level;
use super::{DESCRIPTOR, INDEX, LAYOUT, LAYOUT_BYTES, SUMS, limits};
use crate::content::{BlobKind, Builder, Contents, Reason};
use crate::error::{Error, Result};
use crate::oci::{self, Digest, Document, MAX_DOCUMENT, View};
use bytes::Bytes;
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Everything of a bundle but its layers, verified against its seal.
#[derive(Debug)]
pub struct Head {
    /// Who vouches for it.
    pub seal: Seal,
    /// What is in it.
    pub contents: Arc<Contents>,
    /// When it was made, in whole seconds, as its maker says.
    pub created: Timestamp,
    /// The program that made it, as its maker says.
    pub tool: String,
    /// Its place in a series.
    pub series: Option<Series>,
    /// The identities of the bundles it builds on.
    pub base: Vec<Digest>,
}

impl Head {
    /// The SHA-256 of `SHA256SUMS`: what two people compare to know that they hold the same bundle.
    pub fn identity(&self) -> Digest {
        self.seal.identity
    }
}

impl dyn HeadReader + '_ {
    /// Reads and verifies the head, and that nothing else is there than what is sealed.
    pub(crate) fn read_head(&mut self, seal: Seal) -> Result<Head> {
        let sums = Checksums::parse(&seal.sums)?;
        let descriptor =
            BundleJson::parse(&self.read_listed(DESCRIPTOR, sums.descriptor, limits::DESCRIPTOR_BYTES)?)?;
        let layout = self.read_listed(LAYOUT, sums.layout, LAYOUT_BYTES.len() as u64)?;
        if layout != LAYOUT_BYTES {
            return Err(Error::damaged(format!("{LAYOUT} is not the line {}", String::from_utf8_lossy(LAYOUT_BYTES))));
        }
        let items = index::parse(&self.read_listed(INDEX, sums.index, limits::INDEX_BYTES)?)?;
        descriptor.check_names(&items.iter().map(|item| item.image.name.to_string()).collect())?;
        if let Some(item) = descriptor.absent.iter().find(|item| sums.has(item.digest)) {
            return Err(Error::damaged(format!("{} is listed as absent and is there", item.digest)));
        }
        let contents = self.read_contents(&sums, &descriptor, items)?;
        let sizes = check_reach(&sums, &contents)?;
        top_level::check_configs(&contents)?;
        self.check_closed(&sums, &sizes, &contents)?;
        self.check_configs(&contents)?;
        Ok(Head {
            seal,
            contents: Arc::new(contents),
            created: descriptor.created,
            tool: descriptor.tool,
            series: descriptor.series,
            base: descriptor.base,
        })
    }

    /// A file of the top level whose bytes have the listed checksum.
    fn read_listed(&mut self, name: &'static str, sum: Digest, limit: u64) -> Result<Bytes> {
        let bytes = self.top(name, limit)?;
        if Digest::of(&bytes) != sum {
            return Err(Error::damaged(format!("{} is not what was sealed", self.shown(name)))
                .hint("copy the bundle again from its medium; if that does not help, ask its sender for it again"));
        }
        Ok(bytes)
    }

    /// Follows everything that is referred to from `items` down.
    fn read_contents(&mut self, sums: &Checksums, descriptor: &BundleJson, items: Vec<Item>) -> Result<Contents> {
        let absent: HashMap<Digest, Reason> = descriptor.absent.iter().map(|item| (item.digest, item.reason)).collect();
        let mut unseen: HashSet<Digest> = absent.keys().copied().collect();
        let mut builder = Builder::default();
        let mut total = 0;
        for item in &items {
            // A stack of our own: the depth is a stranger's choice.
            let mut stack = vec![(item.image.document, item.size, item.media_type.clone())];
            while let Some((digest, size, media_type)) = stack.pop() {
                if absent.contains_key(&digest) || builder.has(digest) {
                    continue;
                }
                total += size;
                if total > limits::DOCUMENTS_BYTES {
                    return Err(Error::damaged(format!(
                        "manifests and indexes have more than {} bytes in all",
                        limits::DOCUMENTS_BYTES
                    )));
                }
                let document = self.read_document(sums, digest, size, &media_type)?;
                for (role, child) in children(&document) {
                    unseen.remove(&child.digest);
                    if let Some(reason) = absent.get(&child.digest).filter(|reason| !may_be_absent(role, **reason)) {
                        return Err(Error::damaged(format!(
                            "{DESCRIPTOR}: {} is {role} of {digest}, which cannot be absent for the reason {reason}",
                            child.digest
                        )));
                    }
                    if child.size > limits::BLOB_BYTES {
                        return Err(Error::damaged(format!(
                            "{} has {} bytes, more than {}",
                            child.digest,
                            child.size,
                            limits::BLOB_BYTES
                        )));
                    }
                }
                if let View::Index { children } = document.view() {
                    let documents = children.iter().filter(|child| child.media_type.document_kind().is_some());
                    stack.extend(documents.rev().map(|child| (child.digest, child.size, child.media_type.clone())));
                }
                builder.document(&document)?;
            }
            builder.image(item.image.clone(), self.origin(&item.image));
        }
        if let Some(digest) = unseen.iter().min() {
            return Err(Error::damaged(format!("{digest} is listed as absent, and nothing refers to it")));
        }
        for item in &descriptor.absent {
            builder.absent(item.clone());
        }
        let contents = builder.finish()?;
        // One that was met as a child of another image was not held against its own line.
        for item in &items {
            let (bytes, media_type) = contents.documents.get(item.image.document)?;
            if bytes.len() as u64 != item.size || *media_type != item.media_type {
                return Err(Error::damaged(format!(
                    "{INDEX}: {} is said to be {} of {} bytes, and is {media_type} of {} bytes",
                    item.image.name,
                    item.media_type,
                    item.size,
                    bytes.len()
                )));
            }
        }
        Ok(contents)
    }

    fn read_document(
        &mut self,
        sums: &Checksums,
        digest: Digest,
        size: u64,
        media_type: &oci::MediaType,
    ) -> Result<Document> {
        if !sums.has(digest) {
            return Err(unlisted(digest));
        }
        if size > MAX_DOCUMENT {
            return Err(Error::damaged(format!("manifest {digest} has {size} bytes, more than {MAX_DOCUMENT}")));
        }
        let bytes = self.document(digest, size)?;
        if bytes.len() as u64 != size {
            let what = format!("it has {} bytes, and its descriptor says {size}", bytes.len());
            return Err(damaged(&self.shown(&blob_path(digest)), &what));
        }
        let found = Digest::of(&bytes);
        if found != digest {
            return Err(damaged(&self.shown(&blob_path(digest)), &format!("its bytes have the digest {found}")));
        }
        Document::parse_known(bytes, media_type, digest)
    }

    fn check_configs(&mut self, contents: &Contents) -> Result<()> {
        for blob in contents.blobs.iter().filter(|blob| blob.kind == BlobKind::Config) {
            if !self.config(blob.digest, blob.size)? {
                return Err(damaged(&self.shown(&blob_path(blob.digest)), "its bytes have another digest"));
            }
        }
        Ok(())
    }
}

/// Every digest that is reachable is listed, and every listed one is reachable. Returns their sizes.
fn check_reach(sums: &Checksums, contents: &Contents) -> Result<BTreeMap<Digest, u64>> {
    let mut sizes = BTreeMap::new();
    for digest in &contents.document_order {
        sizes.insert(*digest, contents.documents.size(*digest).unwrap_or_default());
    }
    for blob in &contents.blobs {
        sizes.insert(blob.digest, blob.size);
    }
    if let Some(digest) = sizes.keys().find(|digest| !sums.has(**digest)) {
        return Err(unlisted(*digest));
    }
    if let Some(digest) = sums.blobs.iter().find(|digest| !sizes.contains_key(digest)) {
        return Err(Error::damaged(format!("{digest} is listed in {SUMS}, and nothing refers to it")));
    }
    Ok(sizes)
}

fn unlisted(digest: Digest) -> Error {
    Error::damaged(format!("the images need {digest}, which is neither in {SUMS} nor listed as absent"))
        .hint("the bundle was sealed without it: ask its sender to export it again")
}
