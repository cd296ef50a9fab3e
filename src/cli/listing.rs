//! What is in a plan or a bundle, as a table for people and as JSON for programs.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::{Value, json};

use super::output::human_size;
use super::progress::count;
use crate::error::{Failure, Result};
use crate::oci::{Digest, Document, Name, View};
use crate::place::{Absent, BlobId, Contents, LandingId, Reason, Relations};
use crate::text::one_line;

/// Images sorted by name, each followed by what is about it; then what is left out; then totals. At most [`WIDTH`]
/// columns; whoever needs a whole name or digest takes the JSON.
pub(super) fn table(contents: &Contents) -> Result<String> {
    let rows = rows(contents)?;
    let named: Vec<(String, &Row)> = rows.iter().map(|row| (row.shown_name(), row)).collect();
    let width = named.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).clamp(4, WIDEST_NAME);
    let line = |name: &str, what: &str, size: &str, shared: &str, digest: &str| {
        format!("{:width$}  {what:11}  {size:>10}  {shared:>10}  {digest}\n", cut(name, width))
    };
    let mut text = line("NAME", "WHAT", "SIZE", "SHARED", "DIGEST");
    for (name, row) in &named {
        let shared = if row.shared == 0 { "-".into() } else { human_size(row.shared) };
        text += &line(name, row.what, &human_size(row.size), &shared, &row.digest.short());
        // What is about another image comes from where that one comes from.
        if row.depth == 0 {
            text += &row.platform_lines();
            if !row.source.is_empty() {
                text += &format!("    from {}\n", cut(&row.source, WIDTH - 9));
            }
        }
    }
    text += &absent_lines(&contents.absent);
    text += "\n";
    text += &Totals::of_rows(contents, &rows).to_string();
    text += "\n";
    if rows.iter().any(|row| row.shared > 0) {
        text += "SHARED is the part of SIZE that other images have too; it is carried once.\n";
    }
    Ok(text)
}

/// `{"images": [...], "absent": [...], "totals": {...}}`
pub(super) fn json(contents: &Contents) -> Result<Value> {
    let rows = rows(contents)?;
    Ok(json!({
        "images": rows.iter().map(Row::json).collect::<Vec<_>>(),
        "absent": serde_json::to_value(&contents.absent).unwrap_or_default(),
        "totals": Totals::of_rows(contents, &rows).json(),
    }))
}

/// Takes the images that failed out of a result's list, and names them with their reasons.
pub(super) fn keep_landed(value: &mut Value, failures: &[Failure]) {
    let failed: HashSet<&str> = failures.iter().map(|failure| failure.image.as_str()).collect();
    if let Some(images) = value["images"].as_array_mut() {
        images.retain(|image| image["name"].as_str().is_none_or(|name| !failed.contains(name)));
    }
    let one = |failure: &Failure| json!({"image": failure.image, "reason": failure.error.chain(), "hints": failure.error.hints()});
    value["failures"] = failures.iter().map(one).collect();
}

/// How much there is.
pub(super) struct Totals {
    /// Everything that has a name.
    named: usize,
    /// Those that are about another one.
    referrers: usize,
    documents: usize,
    blobs: usize,
    bytes: u64,
    /// What it would be more if every image were stored by itself, in bytes.
    pub(super) saved: u64,
}

impl Totals {
    pub(super) fn of(contents: &Contents) -> Result<Self> {
        Ok(Totals::of_rows(contents, &rows(contents)?))
    }

    fn of_rows(contents: &Contents, rows: &[Row]) -> Self {
        let bytes = contents.blob_bytes();
        let alone: u64 = rows.iter().map(|row| row.size).sum();
        Totals {
            named: rows.len(),
            referrers: rows.iter().filter(|row| row.about.is_some()).count(),
            documents: contents.document_order.len(),
            blobs: contents.blobs.len(),
            bytes,
            saved: alone.saturating_sub(bytes),
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "images": self.named, "referrers": self.referrers, "documents": self.documents, "blobs": self.blobs,
            "bytes": self.bytes, "bytesSavedBySharing": self.saved,
        })
    }

    /// `3 images and 4 referrers`
    pub(super) fn images(&self) -> String {
        let images = count(self.named - self.referrers, "image");
        if self.referrers == 0 { images } else { format!("{images} and {}", count(self.referrers, "referrer")) }
    }
}

impl std::fmt::Display for Totals {
    /// `3 images and 4 referrers, 10 manifests, 25 blobs, 1.2 GiB (1.8 GiB more without sharing)`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (manifests, blobs) = (count(self.documents, "manifest"), count(self.blobs, "blob"));
        write!(f, "{}, {manifests}, {blobs}, {}", self.images(), human_size(self.bytes))?;
        if self.saved == 0 { Ok(()) } else { write!(f, " ({} more without sharing)", human_size(self.saved)) }
    }
}

struct Row {
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
}

impl Row {
    /// Below what it is about, without the repository that both are in.
    fn shown_name(&self) -> String {
        let name = shorten_digests(&self.name.to_string());
        match self.depth {
            0 => name,
            depth => {
                let rest = &name[self.name.repository().as_str().len()..];
                format!("{}{rest}", "  ".repeat(depth.min(8)))
            }
        }
    }

    fn platform_lines(&self) -> String {
        let known = |platforms: &[String]| -> Vec<String> {
            platforms.iter().filter(|platform| *platform != "unknown/unknown").cloned().collect()
        };
        let lines = |title: &str, platforms: &[String]| wrap(&format!("    {title} "), &known(platforms));
        lines("for", &self.platforms) + &lines("without", &self.platforms_left_out)
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name.to_string(), "source": self.source, "digest": self.digest.to_string(),
            "kind": self.what, "mediaType": self.media_type, "artifactType": self.artifact_type,
            "subject": self.about.map(|digest| digest.to_string()), "size": self.size, "shared": self.shared,
            "platforms": self.platforms, "platformsLeftOut": self.platforms_left_out,
        })
    }
}

fn rows(contents: &Contents) -> Result<Vec<Row>> {
    let relations = Relations::of(contents)?;
    // Walked twice and not kept: for all images together it could be very much.
    let mut tops = vec![None; contents.images.len()];
    let mut users = vec![0u32; contents.blobs.len()];
    for id in contents.landing_ids() {
        if let Some(image) = contents.landing(id).image {
            tops[image as usize] = Some(id);
            blobs_below(contents, id).iter().for_each(|blob| users[blob.0 as usize] += 1);
        }
    }
    let absent: HashSet<Digest> = contents.absent.iter().map(|absent| absent.digest).collect();
    // Many names may stand for one large document: it is read once.
    let mut told: HashMap<Digest, Told> = HashMap::new();
    let row = |(number, depth): (u32, usize)| {
        let image = &contents.images[number as usize];
        let told = match told.entry(image.document) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Told::of(contents, image.document, &absent)?),
        };
        let size = |blob: &BlobId| contents.blob(*blob).size;
        let blobs = tops[number as usize].map(|top| blobs_below(contents, top)).unwrap_or_default();
        Ok(Row {
            depth,
            what: by_tag(&image.name).unwrap_or(told.what),
            name: image.name.clone(),
            source: image.source.clone(),
            digest: image.document,
            media_type: told.media_type.clone(),
            artifact_type: told.artifact_type.clone(),
            about: relations.about(number),
            size: blobs.iter().map(size).sum(),
            shared: blobs.iter().filter(|blob| users[blob.0 as usize] > 1).map(size).sum(),
            platforms: told.platforms.clone(),
            platforms_left_out: told.platforms_left_out.clone(),
        })
    };
    relations.in_order().into_iter().map(row).collect()
}

/// What a document says of itself, its texts no longer than can be shown.
struct Told {
    what: &'static str,
    media_type: String,
    artifact_type: Option<String>,
    platforms: Vec<String>,
    platforms_left_out: Vec<String>,
}

impl Told {
    fn of(contents: &Contents, digest: Digest, absent: &HashSet<Digest>) -> Result<Told> {
        let (bytes, media_type) = contents.documents.get(digest)?;
        let document = Document::parse_known(bytes, media_type, digest)?;
        let (mut platforms, mut platforms_left_out) = (Vec::new(), Vec::new());
        if let View::Index { children } = document.view() {
            for child in children {
                let Some(platform) = &child.platform else { continue };
                let list = if absent.contains(&child.digest) { &mut platforms_left_out } else { &mut platforms };
                list.push(limited(&platform.to_string()));
            }
        }
        Ok(Told {
            what: by_type(&document),
            media_type: media_type.to_string(),
            artifact_type: document.artifact_type().map(limited),
            platforms,
            platforms_left_out,
        })
    }
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
fn blobs_below(contents: &Contents, top: LandingId) -> BTreeSet<BlobId> {
    let (mut blobs, mut seen, mut stack) = (BTreeSet::new(), HashSet::from([top]), vec![top]);
    while let Some(id) = stack.pop() {
        let landing = contents.landing(id);
        blobs.extend(&landing.blobs);
        stack.extend(landing.after.iter().filter(|below| seen.insert(**below)));
    }
    blobs
}

/// What a person would call it by the tag that its makers give it.
fn by_tag(name: &Name) -> Option<&'static str> {
    let tag = name.tag().map(|tag| tag.as_str()).filter(|tag| tag.starts_with("sha256-"))?;
    let by_suffix = [(".sig", "signature"), (".att", "attestation"), (".sbom", "SBOM")];
    by_suffix.iter().find(|(suffix, _)| tag.ends_with(suffix)).map(|(_, what)| *what)
}

/// What a person would call it by its type.
fn by_type(document: &Document) -> &'static str {
    let config = match document.view() {
        View::Index { .. } => None,
        View::Manifest { config, .. } => Some(config.media_type.as_str()),
    };
    let declared = document.artifact_type().or(config).unwrap_or_default().to_ascii_lowercase();
    if let Some((_, what)) = BY_TYPE.iter().find(|(part, _)| declared.contains(part)) {
        return what;
    }
    match document.view() {
        View::Index { .. } => "index",
        View::Manifest { .. } if document.artifact_type().is_none() => "image",
        View::Manifest { .. } => "artifact",
    }
}

/// Parts of artifact types and config types, and what they mean.
const BY_TYPE: [(&str, &str); 10] = [
    ("spdx", "SBOM"),
    ("cyclonedx", "SBOM"),
    ("sbom", "SBOM"),
    ("in-toto", "attestation"),
    ("slsa", "attestation"),
    ("attestation", "attestation"),
    ("signature", "signature"),
    ("notary", "signature"),
    ("sigstore", "signature"),
    ("helm", "Helm chart"),
];

fn absent_lines(absent: &[Absent]) -> String {
    if absent.is_empty() {
        return String::new();
    }
    let lines = absent.iter().map(|absent| {
        let why = match absent.reason {
            Reason::Platform => "platform not asked for",
            Reason::Foreign => "its registry does not hold it",
            Reason::Base => "in an earlier bundle",
        };
        let names: Vec<String> = absent.names.iter().map(|name| shorten_digests(name)).collect();
        let first = format!("  {}  {:>10}  {why:29}  ", absent.digest.short(), human_size(absent.size));
        wrap(&first, &names)
    });
    "\nleft out on purpose:\n".to_owned() + &lines.collect::<String>()
}

/// `first` and the items, with commas between; what does not fit goes on below the first item. Nothing for no items.
fn wrap(first: &str, items: &[String]) -> String {
    let indent = first.chars().count();
    let mut text = String::new();
    let mut line = first.to_owned();
    for (number, item) in items.iter().enumerate() {
        let comma = if number + 1 < items.len() { "," } else { "" };
        let item = cut(item, WIDTH - indent - 1) + comma;
        let used = line.chars().count();
        if used > indent && used + 1 + item.chars().count() > WIDTH {
            text += &format!("{line}\n");
            line = format!("{:indent$}{item}", "");
        } else {
            line += if used > indent { " " } else { "" };
            line += &item;
        }
    }
    if items.is_empty() { text } else { text + &line + "\n" }
}

/// 64 hex digits become the first 12 and a sign that there are more.
fn shorten_digests(text: &str) -> String {
    for mark in ["sha256:", "sha256-"] {
        if let Some((before, rest)) = text.split_once(mark)
            && let Some(hex) = rest.get(..64)
            && Digest::from_hex(hex).is_some()
        {
            return format!("{before}{mark}{}…{}", &hex[..12], &rest[64..]);
        }
    }
    text.to_owned()
}

/// A stranger's text on one line, and at most so many columns of it, with the middle left out: the end of a name tells
/// it from its neighbours.
fn cut(text: &str, width: usize) -> String {
    let text = &*one_line(text, usize::MAX);
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let front = (width.saturating_sub(1)) / 2;
    let back = width.saturating_sub(1) - front;
    let start: String = text.chars().take(front).collect();
    let end: String = text.chars().skip(length - back).collect();
    format!("{start}…{end}")
}

const WIDTH: usize = 100;
/// What the other columns leave.
const WIDEST_NAME: usize = WIDTH - (2 + 11 + 2 + 10 + 2 + 10 + 2 + 12);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;
    use crate::place::{Builder, Named};
    use bytes::Bytes;

    fn manifest(config_type: &str, layers: &[&str], more: &str) -> Document {
        let blob = |media_type: &str, seed: &str| {
            let (digest, size) = (Digest::of(seed.as_bytes()), seed.len() << 20);
            format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
        };
        let layers: Vec<String> = layers.iter().map(|seed| blob("layer", seed)).collect();
        let config = blob(config_type, "c");
        let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{}]{more}}}"#, layers.join(","));
        Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_MANIFEST)).unwrap()
    }

    const IMAGE: &str = "application/vnd.oci.image.config.v1+json";

    fn sample() -> Contents {
        let (one, two) = (manifest(IMAGE, &["shared layer", "one"], ""), manifest(IMAGE, &["shared layer"], ""));
        let child = |document: &Document, platform: &str| {
            let (os, architecture) = platform.split_once('/').unwrap();
            format!(
                r#"{{"mediaType":"{}","digest":"{}","size":{},"platform":{{"os":"{os}","architecture":"{architecture}"}}}}"#,
                document.media_type(),
                document.digest(),
                document.size()
            )
        };
        let left_out = manifest(IMAGE, &["left out"], "");
        let children: Vec<String> = [
            (&one, "linux/amd64"),
            (&two, "linux/arm64"),
            (&left_out, "linux/riscv64"),
            (&left_out, "unknown/unknown"),
        ]
        .map(|(document, platform)| child(document, platform))
        .to_vec();
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, children.join(","));
        let index = Document::parse(Bytes::from(index), &MediaType::new(MediaType::OCI_INDEX)).unwrap();
        let subject = format!(
            r#","artifactType":"application/spdx+json","subject":{{"mediaType":"m","digest":"{}","size":1}}"#,
            one.digest()
        );
        let sbom = manifest("application/vnd.oci.empty.v1+json", &["sbom"], &subject);
        let signature = manifest(IMAGE, &["signature"], "");
        let long = format!("{}/app:1.2.3-rc.4", ["a-rather-long-part-of-a-path"; 4].join("/"));
        let mut builder = Builder::default();
        for document in [&one, &two, &index, &sbom, &signature] {
            builder.document(document).unwrap();
        }
        for (name, document) in [
            ("team/app:1", &index),
            (&*format!("team/app:sha256-{}.sig", index.digest().hex()), &signature),
            (&format!("team/app@{}", sbom.digest()), &sbom),
            (&long, &two),
        ] {
            let source = format!("registry.example.com/{name}");
            builder.image(Named { name: name.parse().unwrap(), source, document: document.digest() }, None);
        }
        builder.absent(Absent {
            digest: left_out.digest(),
            size: left_out.size(),
            reason: Reason::Platform,
            names: vec!["team/app:1".into()],
        });
        builder.finish().unwrap()
    }

    #[test]
    fn a_person_can_decide_on_the_table() {
        let text = table(&sample()).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn the_json_has_everything_in_full() {
        let value = json(&sample()).unwrap();
        insta::assert_snapshot!(format!("{value:#}"));
    }

    #[test]
    fn long_lists_go_on_below_their_first_item() {
        let items: Vec<String> = (0..40).map(|n| format!("linux/arch{n}")).collect();
        let text = wrap("    for ", &items);
        assert!(text.lines().count() > 4 && text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("        linux/")), "{text}");
    }
}
