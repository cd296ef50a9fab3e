//! Good bundles: what every reader must take.

use super::draft::{DOCKER_LIST, DOCKER_MANIFEST, Draft, OCI_INDEX, OCI_MANIFEST, digest, index, manifest, path_of};
use super::keys::{BUNDLE, REVIEW};

pub(crate) struct Good {
    pub(crate) name: &'static str,
    /// What it shows.
    pub(crate) why: &'static str,
    pub(crate) make: fn() -> Draft,
}

pub(crate) const GOOD: &[Good] = &[
    good("minimal", "One image of one layer.", minimal),
    good(
        "rich",
        "Two images that share a layer, an index, an empty layer, a platform and a foreign layer that are absent.",
        rich,
    ),
    good("many-signatures", "The trusted key, a key nobody knows, one that has expired, and a reviewer.", || {
        let mut b = minimal();
        b.sign("stranger", &BUNDLE);
        b.sign("expired", &BUNDLE);
        b.sign("reviewer", &REVIEW);
        b
    }),
    good("sixteen-signatures", "As many signatures as there may be; one of them counts.", || {
        let mut b = minimal();
        (0..15).for_each(|n| b.sign(&format!("stranger {n}"), &BUNDLE));
        b
    }),
    good("docker-types", "A Docker manifest list of a schema 2 manifest, carried as they are.", || {
        let mut b = Draft::default();
        b.blob(ONE);
        b.blob(LAYER);
        // Docker's own documents say inside what they are; registries demand it.
        let says = |text: String, what| text.replacen('{', &format!("{{\"mediaType\":\"{what}\","), 1).into_bytes();
        let app = says(manifest(ONE, &[LAYER]), DOCKER_MANIFEST);
        let list = says(index(&[(DOCKER_MANIFEST, &app)]), DOCKER_LIST);
        b.blob(app.clone());
        b.blob(list.clone());
        b.image("ns/app:1", DOCKER_MANIFEST, &app);
        b.image("ns/multi:1", DOCKER_LIST, &list);
        b.finish()
    }),
    good("nested-index", "Seven indexes above one manifest: the most there may be.", || {
        let mut b = Draft::default();
        let mut top = b.manifest(ONE, &[LAYER]);
        let mut media_type = OCI_MANIFEST;
        for _ in 0..7 {
            top = b.index(&[(media_type, &top)]);
            media_type = OCI_INDEX;
        }
        b.image("ns/deep:1", media_type, &top);
        b.finish()
    }),
    good("name-by-digest", "An image without a tag, named by its digest.", || {
        let mut b = Draft::default();
        let app = b.manifest(ONE, &[LAYER]);
        b.image(&format!("ns/app@{}", digest(&app)), OCI_MANIFEST, &app);
        b.finish()
    }),
    good(
        "referrer",
        "A manifest with a subject that is in no bundle, an artifact type, and annotations whose keys differ in case.",
        || {
            let mut b = minimal();
            let subject = digest(b"nowhere");
            let fields = format!(
                r#""artifactType":"application/vnd.example.sbom","subject":{{"mediaType":"{OCI_MANIFEST}","digest":"{subject}","size":7}},"annotations":{{"Key":"1","key":"2"}},"#
            );
            b.change_document(&b.manifest_of(ONE), "\"config\"", &format!("{fields}\"config\""));
            b.seal();
            b
        },
    ),
    good("config-is-layer", "An artifact as oras makes it: {} is its config and its only layer.", || {
        let mut b = Draft::default();
        let app = b.manifest(b"{}", &[b"{}"]);
        b.image("ns/app:1", OCI_MANIFEST, &app);
        b.finish()
    }),
    good("series", "The third of a series: a config and a layer are in the second one.", || {
        let mut b = Draft::default();
        let app = b.manifest(ONE, &[LAYER, SHARED]);
        b.image("ns/app:1", OCI_MANIFEST, &app);
        for absent in [ONE, SHARED] {
            b.remove(&path_of(absent));
            b.absent(absent, "base", "ns/app:1");
        }
        let mut b = b.finish();
        b.replace("bundle.json", "\"series\":null,\"sequence\":null", "\"series\":\"weekly\",\"sequence\":3");
        b.replace("bundle.json", "\"base\":[]", &format!("\"base\":[\"{}\"]", digest(b"the second one")));
        b.seal();
        b
    }),
    good("odd-white-space", "JSON with white space and in another order, also in manifests: only bytes count.", || {
        let mut b = Draft::default();
        b.blob(ONE);
        b.blob(LAYER);
        let app = manifest(ONE, &[LAYER]).replace(',', " ,\r\n\t").replace(":{", " : {") + "\n\n";
        b.blob(app.clone());
        b.image("ns/app:1", OCI_MANIFEST, app.as_bytes());
        let mut b = b.finish();
        b.replace("bundle.json", "{\"formatVersion\":1,", "\n{ ");
        b.replace("bundle.json", "}\n", ",\n\"formatVersion\":1}");
        let index = b.text("index.json").replace(',', " ,\n  ");
        b.put("index.json", index);
        b.seal();
        b
    }),
    good("hard-link", "A layer that is a hard link: it is a regular file, and hashed like one.", || {
        let mut b = minimal();
        let path = path_of(LAYER);
        b.run(&format!("mv {path} ../linked && ln ../linked {path} && rm ../linked"));
        b
    }),
];

const fn good(name: &'static str, why: &'static str, make: fn() -> Draft) -> Good {
    Good { name, why, make }
}

pub(crate) const ONE: &[u8] = b"{\"config\":1}";
pub(crate) const TWO: &[u8] = b"{\"config\":2}";
pub(crate) const LAYER: &[u8] = b"the only layer";
pub(crate) const SHARED: &[u8] = b"the shared layer";
/// Of the same size.
pub(crate) const OTHER: &[u8] = b"the other layer.";
pub(crate) const FOREIGN: &[u8] = b"a foreign layer";
/// A manifest that is left out.
pub(crate) fn left_out() -> String {
    manifest(b"{\"config\":3}", &[])
}

/// `ns/app:1`: a config [`ONE`] and a [`LAYER`].
pub(crate) fn minimal() -> Draft {
    let mut b = Draft::default();
    let app = b.manifest(ONE, &[LAYER]);
    b.image("ns/app:1", OCI_MANIFEST, &app);
    b.finish()
}

/// `ns/app:1` and `ns/app:latest`: config [`ONE`], layers [`SHARED`] and [`OTHER`]; `ns/multi:1`: an index of config
/// [`TWO`] with [`SHARED`], an empty layer and an absent [`FOREIGN`] one, and of a [`left_out`] platform.
pub(crate) fn rich() -> Draft {
    let mut b = Draft::default();
    let app = b.manifest(ONE, &[SHARED, OTHER]);
    let other = b.manifest(TWO, &[SHARED, b"", FOREIGN]);
    b.remove(&path_of(FOREIGN));
    let multi = b.index(&[(OCI_MANIFEST, &other), (OCI_MANIFEST, left_out().as_bytes())]);
    b.image("ns/app:1", OCI_MANIFEST, &app);
    b.image("ns/app:latest", OCI_MANIFEST, &app);
    b.image("ns/multi:1", OCI_INDEX, &multi);
    b.absent(left_out().as_bytes(), "platform", "ns/multi:1");
    b.absent(FOREIGN, "foreign", "ns/multi:1");
    b.finish()
}
