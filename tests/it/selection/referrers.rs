//! Signatures, SBOMs and attestations come along, and are found on the other side as their makers look for them.

use rstest::rstest;
use serde_json::Value;
use serde_json::json;
use support::{FaultProxy, RealRegistry, Rule, desk, get, put_manifest, raw_manifest, sha256};

use super::{INDEX, MANIFEST, REPOSITORY, artifact};

/// An index with a signature (cosign's tag), and an SBOM by `subject` and an attestation (cosign's tag) on a child.
struct Signed {
    source: RealRegistry,
    index: String,
    child: String,
    signature: String,
    sbom: String,
    attestation: String,
}

impl Signed {
    fn new() -> Self {
        let source = RealRegistry::with_corpus();
        let host = source.host().to_owned();
        let found = raw_manifest(&host, REPOSITORY, "1.35").expect("busybox is in the corpus");
        let index: Value = serde_json::from_slice(&found.bytes).unwrap();
        let child = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
        let about = |digest: &str| format!("sha256-{}", &digest["sha256:".len()..]);
        let artifact = |note: &str, subject: Option<&str>, tag: &str| {
            let bytes = artifact(&host, note, subject);
            let tag = if tag.is_empty() { sha256(&bytes) } else { tag.to_owned() };
            put_manifest(&host, REPOSITORY, &tag, MANIFEST, &bytes);
            (sha256(&bytes), bytes.len())
        };
        let (signature, _) = artifact("signature", None, &format!("{}.sig", about(&found.digest)));
        let (attestation, _) = artifact("attestation", None, &format!("{}.att", about(&child)));
        let (sbom, size) = artifact("sbom", Some(&child), "");
        // docker-registry does not know the referrers API: its clients keep this index.
        let entry =
            json!({"mediaType": MANIFEST, "digest": sbom, "size": size, "artifactType": "application/spdx+json"});
        let fallback = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string();
        put_manifest(&host, REPOSITORY, &about(&child), INDEX, fallback.as_bytes());
        Signed { source, index: found.digest, child, signature, sbom, attestation }
    }
}

#[rstest]
#[case::registry_without_the_api(false)]
#[case::registry_with_the_api(true)]
fn signatures_sboms_and_attestations_are_found_on_the_other_side(#[case] api: bool) {
    let (signed, desk) = (Signed::new(), desk!());
    let (real, served) = (RealRegistry::start(), desk.serve(&["--writable", "registry"]));
    let destination = if api { served.host() } else { real.host() };
    desk.export(&[format!("{}/{REPOSITORY}:1.35", signed.source.host())]).success();
    desk.import("bundle", destination, &[]).success();

    let at = |reference: &str| raw_manifest(destination, REPOSITORY, reference).map(|found| sha256(&found.bytes));
    let tag = |digest: &str, suffix: &str| format!("sha256-{}{suffix}", &digest["sha256:".len()..]);
    assert_eq!(at(&tag(&signed.index, ".sig")), Some(signed.signature.clone()));
    assert_eq!(at(&tag(&signed.child, ".att")), Some(signed.attestation.clone()));
    assert_eq!(at(&signed.sbom), Some(signed.sbom.clone()));
    let listed = |answer: support::Answer| -> Vec<String> {
        let index: Value = serde_json::from_slice(&answer.body).unwrap();
        let manifests = index["manifests"].as_array().cloned().unwrap_or_default();
        manifests.iter().map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect()
    };
    let by_tag = get(destination, &format!("/v2/{REPOSITORY}/manifests/{}", tag(&signed.child, "")));
    assert_eq!(listed(by_tag), [signed.sbom.as_str()]);
    if api {
        let by_api = get(destination, &format!("/v2/{REPOSITORY}/referrers/{}", signed.child));
        assert_eq!(listed(by_api), [signed.sbom.as_str()]);
    }
}

#[test]
fn a_source_with_the_api_and_a_destination_without_it_agree_on_referrers() {
    let (signed, desk) = (Signed::new(), desk!());
    let between = desk.serve(&["--writable", "between"]);
    desk.export(&[format!("{}/{REPOSITORY}:1.35", signed.source.host())]).success();
    desk.import("bundle", between.host(), &[]).success();
    // Only the API knows now.
    let tag = format!("sha256-{}", &signed.child["sha256:".len()..]);
    assert_eq!(support::delete(between.host(), &format!("/v2/{REPOSITORY}/manifests/{tag}")).status, 202);

    let destination = RealRegistry::start();
    let image = format!("{}/{REPOSITORY}:1.35", between.host());
    desk.sealift(&["export", &image, "--output", "again", "--key", "key"]).success();
    desk.import("again", destination.host(), &[]).success();
    let made = raw_manifest(destination.host(), REPOSITORY, &tag).expect("the list of referrers was made");
    let made: Value = serde_json::from_slice(&made.bytes).unwrap();
    assert_eq!(made["manifests"][0]["digest"], signed.sbom);
    assert_eq!(made["manifests"][0]["artifactType"], "application/spdx+json");
}

/// Also where it was listed only after the repository was found to be new.
#[rstest]
#[case::known(200)]
#[case::new_a_moment_ago(404)]
fn what_a_destination_lists_itself_stays_beside_what_is_carried(#[case] tags: u16) {
    let (signed, desk, destination) = (Signed::new(), desk!(), RealRegistry::start());
    desk.export(&[format!("{}/{REPOSITORY}:1.35", signed.source.host())]).success();
    desk.import("bundle", destination.host(), &["--only", REPOSITORY]).success();
    let own = artifact(destination.host(), "approved here", Some(&signed.child));
    put_manifest(destination.host(), REPOSITORY, &sha256(&own), MANIFEST, &own);
    let entry =
        json!({"mediaType": MANIFEST, "digest": sha256(&own), "size": own.len(), "artifactType": "local/approval"});
    let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string();
    let tag = format!("sha256-{}", &signed.child["sha256:".len()..]);
    put_manifest(destination.host(), REPOSITORY, &tag, INDEX, list.as_bytes());

    let proxy = FaultProxy::start(destination.host());
    if tags != 200 {
        proxy.inject(Rule::on("GET", "/tags/list").status(tags));
    }
    let mut before = None;
    for _ in 0..2 {
        desk.import("bundle", proxy.host(), &[]).success();
        let listed = raw_manifest(destination.host(), REPOSITORY, &tag).expect("the list is there");
        let index: Value = serde_json::from_slice(&listed.bytes).unwrap();
        let digests: Vec<&str> =
            index["manifests"].as_array().unwrap().iter().map(|entry| entry["digest"].as_str().unwrap()).collect();
        assert_eq!(digests, [&sha256(&own), &signed.sbom]);
        assert!(before.is_none_or(|before| before == listed.bytes), "the same import changes nothing more");
        before = Some(listed.bytes);
    }
}

#[rstest]
#[case::registry_without_the_api(false)]
#[case::registry_with_the_api(true)]
fn without_referrers_none_are_carried(#[case] api: bool) {
    let (signed, desk) = (Signed::new(), desk!());
    let (real, served) = (RealRegistry::start(), desk.serve(&["--writable", "registry"]));
    let destination = if api { served.host() } else { real.host() };
    let image = format!("{}/{REPOSITORY}:1.35", signed.source.host());
    let plan = desk.sealift(&["export", "--dry-run", "--json", &image]).success().stdout();
    assert_eq!(serde_json::from_str::<Value>(&plan).unwrap()["totals"]["images"], 4, "{plan}");

    desk.export(&["--no-referrers", &image]).success();
    desk.import("bundle", destination, &[]).success();
    assert_eq!(support::tags(destination, REPOSITORY), ["1.35"], "neither cosign's tags nor the fallback");
    for about in [&signed.index, &signed.child] {
        let answer = get(destination, &format!("/v2/{REPOSITORY}/referrers/{about}"));
        match api {
            true => assert_eq!(serde_json::from_slice::<Value>(&answer.body).unwrap()["manifests"], json!([])),
            false => assert_eq!(answer.status, 404),
        }
    }
    assert!(raw_manifest(destination, REPOSITORY, &signed.sbom).is_none());
}

#[test]
fn a_person_sees_what_belongs_to_an_image() {
    let (signed, desk) = (Signed::new(), desk!());
    let image = format!("{}/{REPOSITORY}:1.35", signed.source.host());
    let plan = desk.sealift(&["export", "--dry-run", &image]).success().stdout();
    for line in ["signature ", "attestation ", "referrers ", "    listing 1 SBOM", "1 image and 3 referrers"] {
        assert!(plan.contains(line), "{line} is not in\n{plan}");
    }
    // The corpus has a list that does not say of what sort it lists.
    let silent = format!("{}/team/tools/jq:1", signed.source.host());
    let plan = desk.sealift(&["export", "--dry-run", &silent]).success().stdout();
    assert!(plan.contains("    listing 1 SBOM"), "{plan}");
    let json = desk.sealift(&["export", "--dry-run", "--json", &image]).success().stdout();
    let plan: Value = serde_json::from_str(&json).unwrap();
    let top = &plan["images"][0];
    assert_eq!((&top["name"], top["referrers"].as_array().unwrap().len()), (&json!("library/busybox:1.35"), 3));
}
