//! Lists of referrers under tags (distribution-spec, "Referrers Tag Schema"): an entry of the destination is never lost.

use rstest::rstest;
use serde_json::{Value, json};
use support::{
    Desk, FaultProxy, RealRegistry, Rule, desk, noise, push_blob, push_image, put_manifest, raw_manifest, sha256, tags,
};

use super::{INDEX, MANIFEST};

const REPOSITORY: &str = "team/app";

/// Registries with one image under `:1`, each with a list that names one referrer of it.
struct Listed {
    source: RealRegistry,
    destination: RealRegistry,
    desk: Desk,
    tag: String,
    carried: String,
    own: String,
}

impl Listed {
    fn new() -> Self {
        let (source, destination) = (RealRegistry::start(), RealRegistry::start());
        let (tag, carried) = push_listed(&source, "an SBOM");
        let (_, own) = push_listed(&destination, "approved here");
        Listed { source, destination, desk: desk!(), tag, carried, own }
    }

    fn repository(&self) -> String {
        format!("{}/{REPOSITORY}", self.source.host())
    }

    fn listed(&self) -> Vec<String> {
        listed(&self.destination, &self.tag)
    }

    fn both(&self) -> [String; 2] {
        [self.own.clone(), self.carried.clone()]
    }
}

/// Returns the tag of the list and the digest of its entry.
fn push_listed(registry: &RealRegistry, note: &str) -> (String, String) {
    let host = registry.host();
    push_image(host, REPOSITORY, "1", &[&noise(1, 1000)]);
    let subject = sha256(&raw_manifest(host, REPOSITORY, "1").expect("it was pushed").bytes);
    let referrer = referrer(host, note, &subject);
    put_manifest(host, REPOSITORY, &sha256(&referrer), MANIFEST, &referrer);
    let tag = format!("sha256-{}", &subject["sha256:".len()..]);
    let entry = json!({"mediaType": MANIFEST, "digest": sha256(&referrer), "size": referrer.len()});
    let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
    put_manifest(host, REPOSITORY, &tag, INDEX, list.to_string().as_bytes());
    (tag, sha256(&referrer))
}

/// The manifest of a referrer that shares no blob with another one; its blob is pushed.
fn referrer(host: &str, note: &str, subject: &str) -> Vec<u8> {
    let size = raw_manifest(host, REPOSITORY, subject).expect("a subject").bytes.len();
    let note = json!({ "note": note }).to_string();
    let blob = json!({"mediaType": "application/json", "digest": push_blob(host, REPOSITORY, note.as_bytes()), "size": note.len()});
    let subject = json!({"mediaType": MANIFEST, "digest": subject, "size": size});
    let manifest =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": blob, "layers": [blob], "subject": subject});
    manifest.to_string().into_bytes()
}

fn listed(registry: &RealRegistry, tag: &str) -> Vec<String> {
    let list = raw_manifest(registry.host(), REPOSITORY, tag).expect("the list is there");
    let list: Value = serde_json::from_slice(&list.bytes).unwrap();
    let entries = list["manifests"].as_array().expect("it is an index").iter();
    entries.map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect()
}

#[rstest]
#[case::one_image_with_referrers(":1", &["--referrers"])]
#[case::one_image_with_referrers_and_platforms(":1", &["--referrers", "--all"])]
#[case::all_tags("", &[])]
#[case::all_tags_with_platforms("", &["--all"])]
#[case::all_tags_with_referrers("", &["--referrers"])]
fn a_sync_adds_to_the_list_of_its_destination(#[case] what: &str, #[case] options: &[&str]) {
    let listed = Listed::new();
    let source = listed.repository() + what;
    let fixed = ["sync", "-s", "docker", "-d", "docker", "--names", "path"];
    let arguments = [&fixed, options, &[&source, listed.destination.host()]].concat();
    listed.desk.sealift(&arguments).success();
    assert_eq!(listed.listed(), listed.both());
    let writes = listed.destination.writes().len();
    listed.desk.sealift(&arguments).success();
    assert_eq!(listed.destination.writes().len(), writes, "{:?}", &listed.destination.writes()[writes..]);
}

/// A list names no platforms to choose from.
#[test]
fn a_list_is_carried_whole_when_one_platform_is() {
    let listed = Listed::new();
    let fixed = ["export", "--output", "bundle", "--key", "key", "--platform", "linux/amd64", "--no-referrers"];
    listed.desk.sealift(&[&fixed[..], &[&listed.repository()]].concat()).success();
    let destination = RealRegistry::start();
    listed.desk.import("bundle", destination.host(), &[]).success();
    assert_eq!(self::listed(&destination, &listed.tag), [listed.carried.as_str()]);
}

#[test]
fn adding_to_a_list_clobbers_no_tag() {
    let listed = Listed::new();
    listed.desk.export(&[listed.repository()]).success();
    listed.desk.import("bundle", listed.destination.host(), &["--no-clobber"]).success();
    assert_eq!(listed.listed(), listed.both());
    let writes = listed.destination.writes().len();
    listed.desk.import("bundle", listed.destination.host(), &["--no-clobber"]).success();
    assert_eq!(listed.destination.writes().len(), writes, "{:?}", &listed.destination.writes()[writes..]);
}

/// What is no list does not take the place of one.
#[test]
fn a_list_is_not_replaced_by_an_image() {
    let listed = Listed::new();
    let host = listed.source.host();
    let image = raw_manifest(host, REPOSITORY, "1").expect("it was pushed").bytes;
    let other = String::from_utf8(image).unwrap().replace("\"schemaVersion\":2", "\"schemaVersion\": 2");
    put_manifest(host, REPOSITORY, &listed.tag, MANIFEST, other.as_bytes());
    listed.desk.export(&[listed.repository()]).success();
    let refused = listed.desk.import("bundle", listed.destination.host(), &["--keep-going"]);
    refused.code(4).stderr_contains(&listed.tag).stderr_contains("is a list of referrers");
    assert_eq!(listed.listed(), [listed.own.as_str()]);
}

/// Every registry that has no right to change a tag refuses the list, and its images alone fail.
#[test]
fn a_list_that_cannot_be_written_is_a_failure_of_what_it_lists() {
    let listed = Listed::new();
    // The source knows the SBOM by the API, so no list is carried.
    let served = listed.desk.serve(&["--writable", "served"]);
    let between = listed.desk.sealift(
        &["sync", "-s", "docker", "-d", "docker", "--names", "path", "--referrers"]
            .into_iter()
            .map(str::to_owned)
            .chain([listed.repository() + ":1", served.host().to_owned()])
            .collect::<Vec<_>>(),
    );
    between.success();
    support::delete(served.host(), &format!("/v2/{REPOSITORY}/manifests/{}", listed.tag));
    listed.desk.export(&[format!("{}/{REPOSITORY}:1", served.host())]).success();

    let proxy = FaultProxy::start(listed.destination.host());
    proxy.inject(Rule::on("PUT", &format!("/manifests/{}", listed.tag)).status(403));
    listed.desk.import("bundle", proxy.host(), &[]).code(1).stderr_contains(&listed.carried);
    let partly = listed.desk.import("bundle", proxy.host(), &["--keep-going"]);
    partly.code(4).stderr_contains("the rest is done, but ").stderr_contains(&listed.carried).stderr_contains("403");
    assert_eq!(tags(listed.destination.host(), REPOSITORY), ["1", &listed.tag]);
    assert_eq!(listed.listed(), [listed.own.as_str()]);
    proxy.heal();
    listed.desk.import("bundle", proxy.host(), &["--keep-going"]).success();
    assert_eq!(listed.listed(), listed.both());
}

/// Two imports that begin to list at the same time (google/go-containerregistry#2205).
#[test]
fn two_imports_at_once_both_find_their_entries_in_the_list() {
    let desk = desk!();
    let sources = [RealRegistry::start(), RealRegistry::start()];
    let mut entries = Vec::new();
    let mut list = String::new();
    for (source, (bundle, note)) in sources.iter().zip([("one", "an SBOM"), ("two", "a signature")]) {
        let (tag, entry) = push_listed(source, note);
        list = tag;
        entries.push(entry);
        let image = format!("{}/{REPOSITORY}:1", source.host());
        desk.sealift(&["export", &image, "--output", bundle, "--key", "key"]).success();
    }
    entries.sort();
    let image = format!("{}/{REPOSITORY}:1", sources[0].host());
    desk.sealift(&["export", &image, "--no-referrers", "--output", "base", "--key", "key"]).success();
    for round in 0..6 {
        let destination = RealRegistry::start();
        // What both share is there: docker-registry 2.8 refuses manifests while their blobs are uploaded again.
        desk.import("base", destination.host(), &[]).success();
        let start = |bundle| desk.start(&["import", bundle, destination.host(), "--trust", "allowed_signers"]);
        for import in [start("one"), start("two")] {
            import.wait().success();
        }
        let mut found = listed(&destination, &list);
        found.sort();
        assert_eq!(found, entries, "round {round}");
    }
}

/// Both are kept: what the carried list names, and a referrer that it does not name.
#[test]
fn a_referrer_that_the_carried_list_lacks_is_listed_beside_its_entries() {
    let listed = Listed::new();
    let host = listed.source.host();
    let subject = format!("sha256:{}", &listed.tag["sha256-".len()..]);
    let unlisted = referrer(host, "a signature", &subject);
    put_manifest(host, REPOSITORY, "signature", MANIFEST, &unlisted);
    listed.desk.export(&[listed.repository()]).success();
    for _ in 0..2 {
        listed.desk.import("bundle", listed.destination.host(), &[]).success();
        let expected = [&listed.own, &listed.carried, &sha256(&unlisted)];
        assert_eq!(listed.listed().iter().collect::<Vec<_>>(), expected);
    }
}

/// Parsed, this list would take some 200 MiB.
#[test]
fn a_list_of_many_small_values_is_merged_in_little_memory() {
    let listed = Listed::new();
    let host = listed.destination.host();
    let own = raw_manifest(host, REPOSITORY, &listed.own).expect("it was pushed");
    let values = vec![r#"{"":0}"#; 300_000].join(",");
    let entry =
        format!(r#"{{"mediaType":"{MANIFEST}","digest":"{}","size":{},"x":[{values}]}}"#, listed.own, own.bytes.len());
    let list = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{entry}]}}"#);
    put_manifest(host, REPOSITORY, &listed.tag, INDEX, list.as_bytes());
    listed.desk.export(&[listed.repository()]).success();
    let peak = listed.desk.peak_memory(&["import", "bundle", host, "--trust", "allowed_signers"]);
    assert!(peak < 64 << 10, "{peak} KiB");
    assert_eq!(listed.listed(), listed.both());
}
