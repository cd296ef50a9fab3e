//! What is in a plan or a bundle: a row for everything that has a name, as a [`table()`] for people and as [`json()`] for
//! programs.

mod answer;
mod kind;
mod platforms;
mod table;
mod totals;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, hash_map};

use serde_json::{Value, json};

pub(super) use answer::{Answer, Entry};
pub(super) use platforms::{ConfigPlatforms, configs};
pub(super) use table::table;
pub(super) use totals::Totals;

use crate::content::{BlobId, Contents, ManifestId, Referrers};
use crate::error::Result;
use crate::oci::{Digest, Document, Name, View};

/// `{"images": [...], "absent": [...], "totals": {...}}`
pub(super) fn json(contents: &Contents, platforms: &ConfigPlatforms) -> Result<Answer<Row>> {
    let rows = rows(contents, platforms)?;
    let totals = Totals::of_rows(contents, &rows).json();
    let absent = serde_json::to_value(&contents.absent).unwrap_or_default();
    Ok(Answer::new(rows, json!({"absent": absent, "totals": totals})))
}

/// Something that has a name.
pub(super) struct Row {
    /// 0, or one more than that of the image that it is about.
    depth: usize,
    name: Name,
    what: &'static str,
    source: String,
    digest: Digest,
    media_type: String,
    artifact_type: Option<String>,
    about: Option<Digest>,
    /// Of its blobs, each once, in bytes.
    size: u64,
    /// The part of it that other images have too.
    shared: u64,
    platforms: Vec<String>,
    platforms_left_out: Vec<String>,
    /// Of a list of referrers: how many of which sort it lists.
    lists: BTreeMap<&'static str, usize>,
    /// The names of what is about it.
    referrers: Vec<String>,
    /// Where an import puts it, if that is told.
    place: Option<String>,
}

impl Row {
    /// Notes where an import puts it.
    pub(super) fn lands_at(&mut self, place: String) {
        self.place = Some(place);
    }
}

impl Entry for Row {
    fn name(&self) -> String {
        self.name.to_string()
    }

    fn json(&self) -> Value {
        let mut value = json!({
            "name": self.name.to_string(), "source": self.source, "digest": self.digest.to_string(),
            "kind": self.what, "mediaType": self.media_type, "artifactType": self.artifact_type,
            "subject": self.about.map(|digest| digest.to_string()), "size": self.size, "shared": self.shared,
            "platforms": self.platforms, "platformsLeftOut": self.platforms_left_out, "referrers": self.referrers,
        });
        if let Some(place) = &self.place {
            value["place"] = json!(place);
        }
        value
    }
}

fn rows(contents: &Contents, platforms: &ConfigPlatforms) -> Result<Vec<Row>> {
    let relations = Referrers::of(contents)?;
    // Walked twice and not kept: for all images together it could be very much.
    let mut tops = vec![None; contents.images.len()];
    let mut users = vec![0u32; contents.blobs.len()];
    for id in contents.manifest_ids() {
        if let Some(image) = contents.manifest(id).image {
            tops[image as usize] = Some(id);
            blobs_below(contents, id).iter().for_each(|blob| users[blob.0 as usize] += 1);
        }
    }
    let absent: HashSet<Digest> = contents.absent.iter().map(|absent| absent.digest).collect();
    // Many names may stand for one large document: it is read once.
    let mut told: HashMap<Digest, ManifestInfo> = HashMap::new();
    let row = |(number, depth): (u32, usize)| {
        let image = &contents.images[number as usize];
        let told = match told.entry(image.document) {
            hash_map::Entry::Occupied(known) => known.into_mut(),
            hash_map::Entry::Vacant(new) => new.insert(ManifestInfo::of(contents, image.document, &absent, platforms)?),
        };
        let size = |blob: &BlobId| contents.blob(*blob).size;
        let blobs = tops[number as usize].map(|top| blobs_below(contents, top)).unwrap_or_default();
        let what = kind::by_tag(&image.name).unwrap_or(told.what);
        let name_of = |image: u32| contents.images[image as usize].name.to_string();
        Ok(Row {
            depth,
            what,
            name: image.name.clone(),
            source: image.source.clone(),
            digest: image.document,
            media_type: told.media_type.clone(),
            artifact_type: told.artifact_type.clone(),
            about: relations.subject(number),
            size: blobs.iter().map(size).sum(),
            shared: blobs.iter().filter(|blob| users[blob.0 as usize] > 1).map(size).sum(),
            platforms: told.platforms.clone(),
            platforms_left_out: told.platforms_left_out.clone(),
            lists: if what == kind::LIST { listed(contents, image.document)? } else { BTreeMap::new() },
            referrers: relations.referrers(number).into_iter().map(name_of).collect(),
            place: None,
        })
    };
    relations.in_order().into_iter().map(row).collect()
}

/// What a document says of itself, its texts no longer than can be shown.
struct ManifestInfo {
    what: &'static str,
    media_type: String,
    artifact_type: Option<String>,
    platforms: Vec<String>,
    platforms_left_out: Vec<String>,
}

impl ManifestInfo {
    fn of(
        contents: &Contents,
        digest: Digest,
        absent: &HashSet<Digest>,
        configs: &ConfigPlatforms,
    ) -> Result<ManifestInfo> {
        let (bytes, media_type) = contents.documents.get(digest)?;
        let document = Document::parse_known(bytes, media_type, digest)?;
        let (mut platforms, mut platforms_left_out) = (Vec::new(), Vec::new());
        platforms.extend(configs.of(&document).cloned());
        if let View::Index { children } = document.view() {
            for child in children {
                let Some(platform) = &child.platform else { continue };
                let list = if absent.contains(&child.digest) { &mut platforms_left_out } else { &mut platforms };
                list.push(limited(&platform.to_string()));
            }
        }
        Ok(ManifestInfo {
            what: kind::by_type(&document),
            media_type: media_type.to_string(),
            artifact_type: document.artifact_type().map(limited),
            platforms,
            platforms_left_out,
        })
    }
}

/// How many of which sort a list of referrers lists. Not every list says it; then what is listed does.
fn listed(contents: &Contents, list: Digest) -> Result<BTreeMap<&'static str, usize>> {
    let document = |digest| -> Result<Document> {
        let (bytes, media_type) = contents.documents.get(digest)?;
        Document::parse_known(bytes, media_type, digest)
    };
    let mut lists = BTreeMap::new();
    if let View::Index { children } = document(list)?.view() {
        for child in children {
            let said = child.artifact_type.as_deref().and_then(kind::of_type);
            let sort = said.or_else(|| document(child.digest).ok().map(|document| kind::by_type(&document)));
            *lists.entry(sort.unwrap_or(kind::ARTIFACT)).or_default() += 1;
        }
    }
    Ok(lists)
}

/// A stranger's text as it is, for JSON too, if it is not longer than any that means something.
fn limited(text: &str) -> String {
    let mut characters = text.chars();
    let kept: String = characters.by_ref().take(LONGEST_TEXT).collect();
    if characters.next().is_none() { kept } else { kept + "…" }
}

/// Longer than any media type (RFC 6838: 255).
const LONGEST_TEXT: usize = 256;

/// The blobs of a landing and of everything below it. Each landing is visited once: one that is reached in very many
/// ways would otherwise be visited in all of them.
fn blobs_below(contents: &Contents, top: ManifestId) -> BTreeSet<BlobId> {
    let (mut blobs, mut seen, mut stack) = (BTreeSet::new(), HashSet::from([top]), vec![top]);
    while let Some(id) = stack.pop() {
        let landing = contents.manifest(id);
        blobs.extend(&landing.blobs);
        stack.extend(landing.after.iter().filter(|below| seen.insert(**below)));
    }
    blobs
}
