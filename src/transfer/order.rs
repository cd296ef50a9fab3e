//! The order in which manifests and tags are pushed.
//!
//! Tags come after all manifests that are pushed by digest. Within each of the two groups a manifest comes after its
//! children and after its subject, and is never pushed at the same time as one that refers to it: while docker-registry
//! 2.8 writes a manifest again, it answers 400 (`MANIFEST_BLOB_UNKNOWN`) to an index that refers to the manifest, because
//! the link file is empty for a moment (distribution/distribution#4489 shows such files).
//!
//! The distribution specification lets a manifest come before its subject. Some registries do not accept it: Harbor
//! answers 404 to a cosign signature whose image is missing (sigstore/cosign#2208).

use std::collections::{BTreeMap, HashMap};

use crate::content::{Contents, ManifestId, RepositoryId, subjects};
use crate::error::Result;
use crate::oci::Digest;

/// What may be pushed at the same time. The landings of one group put the same document into the same repository, and
/// are pushed one after the other.
pub(super) type PushGroup = Vec<Vec<ManifestId>>;

/// All landings of `contents`, in steps of which each must end before the next one begins.
///
/// # Errors
/// `Io` when a document cannot be read.
pub(super) fn steps(contents: &Contents) -> Result<Vec<PushGroup>> {
    let graph = Graph::of(contents)?;
    let ranks = graph.ranks();
    let mut steps: BTreeMap<(bool, usize), BTreeMap<usize, Vec<ManifestId>>> = BTreeMap::new();
    for id in contents.manifest_ids() {
        let node = graph.node_of[id.0 as usize];
        let step = steps.entry((contents.manifest(id).tag.is_some(), ranks[node])).or_default();
        step.entry(node).or_default().push(id);
    }
    Ok(steps.into_values().map(|step| step.into_values().collect()).collect())
}

/// One node for each document of each repository.
struct Graph {
    /// By landing.
    node_of: Vec<usize>,
    nodes: usize,
    /// (child, parent)
    children: Vec<(usize, usize)>,
    /// (subject, referrer)
    subjects: Vec<(usize, usize)>,
}

impl Graph {
    fn of(contents: &Contents) -> Result<Self> {
        let mut nodes: HashMap<(RepositoryId, Digest), usize> = HashMap::new();
        let mut graph = Graph { node_of: Vec::new(), nodes: 0, children: Vec::new(), subjects: Vec::new() };
        for id in contents.manifest_ids() {
            let landing = contents.manifest(id);
            let node = *nodes.entry((landing.scope, landing.document)).or_insert(graph.nodes);
            if node == graph.nodes {
                graph.nodes += 1;
                let children = landing.after.iter().map(|child| (graph.node_of[child.0 as usize], node));
                graph.children.extend(children);
            }
            graph.node_of.push(node);
        }
        let subjects = subjects(contents)?;
        for id in contents.manifest_ids() {
            let landing = contents.manifest(id);
            let subject = landing.image.and_then(|image| subjects[image as usize]);
            let node = graph.node_of[id.0 as usize];
            match subject.and_then(|subject| nodes.get(&(landing.scope, subject))) {
                // A tag can name the digest of its own image.
                Some(subject) if *subject != node => graph.subjects.push((*subject, node)),
                _ => {}
            }
        }
        Ok(graph)
    }

    /// A number for each node, larger than those of its children and its subject.
    fn ranks(&self) -> Vec<usize> {
        // Children come before their parents in the list of edges, so one pass is enough for them.
        let mut heights = vec![0; self.nodes];
        raise(&mut heights, &self.children);
        let mut ranks = heights.clone();
        for _ in 0..MOST_PASSES {
            let changed = raise(&mut ranks, &self.subjects) | raise(&mut ranks, &self.children);
            if !changed {
                return ranks;
            }
        }
        // Tags such as `sha256-<hex>.sig` can form a circle.
        heights
    }
}

/// Raises the number at the end of each edge above the one at its beginning. Returns whether one has changed.
fn raise(ranks: &mut [usize], edges: &[(usize, usize)]) -> bool {
    let mut changed = false;
    for (before, after) in edges {
        if ranks[*after] <= ranks[*before] {
            ranks[*after] = ranks[*before] + 1;
            changed = true;
        }
    }
    changed
}

/// Chains of referrers (a signature of an SBOM of an image) are shorter than this.
const MOST_PASSES: usize = 16;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::content::{Builder, NamedImage};
    use crate::oci::{Document, MediaType};

    fn descriptor(document: &Document) -> String {
        let (media_type, digest, size) = (document.media_type(), document.digest(), document.size());
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
    }

    fn manifest(seed: &str, subject: Option<&Document>) -> Document {
        let config = format!(r#"{{"mediaType":"c","digest":"{}","size":1}}"#, Digest::of(seed.as_bytes()));
        let subject = subject.map_or(String::new(), |subject| format!(r#","subject":{}"#, descriptor(subject)));
        let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]{subject}}}"#);
        Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_MANIFEST)).unwrap()
    }

    fn index(children: &[&Document]) -> Document {
        let children: Vec<String> = children.iter().map(|child| descriptor(child)).collect();
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, children.join(","));
        Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_INDEX)).unwrap()
    }

    /// The names of each step; what is pushed by digest has the first characters of its digest.
    fn named_steps(documents: &[&Document], images: &[(&str, &Document)]) -> Vec<Vec<String>> {
        let mut builder = Builder::default();
        documents.iter().for_each(|document| builder.document(document).unwrap());
        for (name, document) in images {
            let name = name.parse().unwrap();
            builder.image(NamedImage { name, source: String::new(), document: document.digest() }, None);
        }
        let contents = builder.finish().unwrap();
        let name = |id: &ManifestId| {
            let landing = contents.manifest(*id);
            let reference = landing.tag.as_ref().map_or(short(landing.document), ToString::to_string);
            format!("{}:{reference}", contents.scope(landing.scope))
        };
        let names = |step: PushGroup| {
            let mut names: Vec<String> = step.iter().flatten().map(name).collect();
            names.sort();
            names
        };
        steps(&contents).unwrap().into_iter().map(names).collect()
    }

    fn short(digest: Digest) -> String {
        digest.hex()[..8].to_owned()
    }

    #[test]
    fn a_manifest_is_in_an_earlier_step_than_every_index_above_it() {
        let (a, b) = (manifest("a", None), manifest("b", None));
        let inner = index(&[&a, &b]);
        let outer = index(&[&inner]);
        // The index between the outer one and its grandchildren has no tag.
        let images = [("x:1", &outer), ("x:1-a", &a), ("x:1-b", &b), ("y:a", &a)];
        let by_digest = |document: &Document| format!("x:{}", short(document.digest()));
        let mut children = vec![by_digest(&a), by_digest(&b)];
        children.sort();
        let expected =
            [children, vec![by_digest(&inner)], vec!["x:1-a".into(), "x:1-b".into(), "y:a".into()], vec!["x:1".into()]];
        assert_eq!(named_steps(&[&a, &b, &inner, &outer], &images), expected);
    }

    #[test]
    fn a_referrer_is_in_a_later_step_than_its_subject() {
        let app = manifest("app", None);
        let sbom = manifest("sbom", Some(&app));
        let signature = manifest("signature", None);
        let list = index(&[&sbom]);
        let signature_of = |document: &Document| format!("x:sha256-{}.sig", document.digest().hex());
        let (of_app, of_sbom) = (signature_of(&app), signature_of(&sbom));
        let listed = format!("x:sha256-{}", app.digest().hex());
        let itself = format!("y:sha256-{}", app.digest().hex());
        let images = [
            ("x:1", &app),
            ("x:sbom", &sbom),
            (&of_app, &signature),
            (&of_sbom, &signature),
            (&listed, &list),
            (&itself, &app),
        ];
        let steps = named_steps(&[&app, &sbom, &signature, &list], &images);
        let step = |name: &str| steps.iter().position(|names| names.iter().any(|known| known == name)).unwrap();
        assert!(step("x:1") < step("x:sbom") && step("x:sbom") < step(&of_sbom), "{steps:?}");
        assert_eq!(step(&of_app), step(&of_sbom), "one document in turn");
        assert!(step("x:sbom") < step(&listed), "{steps:?}");
    }

    #[test]
    fn children_come_first_also_where_tags_form_a_circle() {
        let child = manifest("child", None);
        let top = index(&[&child]);
        let signs_top = format!("x:sha256-{}.sig", top.digest().hex());
        let images = [("x:1", &top), (&signs_top, &child)];
        let by_digest = format!("x:{}", short(child.digest()));
        assert_eq!(named_steps(&[&child, &top], &images), [vec![by_digest], vec![signs_top], vec!["x:1".into()]]);
    }
}
