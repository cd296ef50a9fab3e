//! Registries without a referrers API that say so in their own ways, and referrers that cannot be had.

use rstest::rstest;
use serde_json::{Value, json};
use support::{Desk, FaultProxy, RealRegistry, Rule, Run, Serving, desk, put_manifest, raw_manifest, sha256};

use super::{INDEX, MANIFEST, REPOSITORY, artifact};

/// What a registry answers to every question for referrers.
type Answer = fn(Rule) -> Rule;

const PAGE: &str = "<!doctype html><title>Artifacts</title>";

/// google/go-containerregistry pull request 2026 (406, by Artifactory), which accepts 400 as well; sigstore-js pull
/// request 1187 (200 with something else).
#[rstest]
#[case::bad_request(|rule: Rule| rule.status(400))]
#[case::forbidden(|rule: Rule| rule.status(403))]
#[case::not_acceptable(|rule: Rule| rule.status(406))]
#[case::failing(|rule: Rule| rule.status(500))]
#[case::a_web_page(|rule: Rule| rule.answer(200, &[("content-type", "text/html")], PAGE))]
#[case::null(|rule: Rule| rule.answer(200, &[("content-type", "application/json")], "null"))]
fn without_the_api_referrers_are_exported_and_imported_by_tags(#[case] answer: Answer) {
    let (source, desk, destination) = (RealRegistry::with_corpus(), desk!(), RealRegistry::start());
    let tag = list_one_sbom(source.host()).tag;
    let [from, to] = [source.host(), destination.host()].map(|host| {
        let proxy = FaultProxy::start(host);
        proxy.inject(answer(Rule::on("GET", "/referrers/")));
        proxy
    });
    desk.export(&["--retry-times", "1", &image(from.host())]).success();
    // A later import finds the referrers there, and looks whether they are listed.
    for _ in 0..2 {
        desk.import("bundle", to.host(), &["--retry-times", "1"]).success();
        let here = raw_manifest(destination.host(), REPOSITORY, &tag).expect("the list is there");
        assert_eq!(here.bytes, raw_manifest(source.host(), REPOSITORY, &tag).unwrap().bytes);
    }
}

/// Artifactory answers 403 for tags that are not there (sigstore/cosign issue 2973).
#[test]
fn a_list_is_made_in_an_empty_repository_that_denies_what_is_not_there() {
    let (desk, destination) = (desk!(), RealRegistry::start());
    let api = Api::new(&desk);
    desk.export(&[image(api.serving.host())]).success();
    let proxy = FaultProxy::start(destination.host());
    let manifest = format!("/manifests/{}", api.tag);
    proxy.inject(Rule::on("GET", &manifest).status(403).times(1));
    desk.import("bundle", proxy.host(), &[]).success();
    assert_eq!(listed(destination.host(), &api.tag), [api.sbom.as_str()]);
}

/// Both where the bundle holds the list and where the import makes it.
#[rstest]
#[case::made(true)]
#[case::carried(false)]
fn a_list_that_cannot_be_read_is_never_replaced(#[case] api: bool) {
    let (source, desk, destination) = (RealRegistry::with_corpus(), desk!(), RealRegistry::start());
    let (tag, _serving) = match api {
        true => {
            let api = Api::new(&desk);
            desk.export(&[image(api.serving.host())]).success();
            (api.tag, Some(api.serving))
        }
        false => {
            let list = list_one_sbom(source.host());
            desk.export(&[image(source.host())]).success();
            (list.tag, None)
        }
    };
    // Somebody else's list is there, and an image.
    let own = artifact(destination.host(), "approved here", None);
    put_manifest(destination.host(), REPOSITORY, "approved", MANIFEST, &own);
    let list = index(&[(&sha256(&own), own.len())]);
    put_manifest(destination.host(), REPOSITORY, &tag, INDEX, list.as_bytes());

    let proxy = FaultProxy::start(destination.host());
    proxy.inject(Rule::on("*", &format!("/manifests/{tag}")).status(403));
    let refused = desk.import("bundle", proxy.host(), &[]);
    refused.code(1).stderr_contains("cannot add to the list of referrers").stderr_contains("403");
    assert_eq!(proxy.count("PUT", &format!("/manifests/{tag}")), 0);
    assert_eq!(listed(destination.host(), &tag), [sha256(&own)]);
}

/// GitLab reads the tag `sha256-<hex>` as that digest and returns the subject (oras-project/oras-go issue 1396).
#[test]
fn a_subject_that_is_served_under_its_fallback_tag_is_no_list() {
    let desk = desk!();
    let api = Api::new(&desk);
    let subject = raw_manifest(api.serving.host(), REPOSITORY, "1.35").unwrap().bytes;
    let subject = String::from_utf8(subject).unwrap();
    let as_subject = || {
        let rule = Rule::on("GET", &format!("/manifests/{}", api.tag));
        rule.answer(200, &[("content-type", INDEX)], &subject)
    };
    let source = FaultProxy::start(api.serving.host());
    source.inject(Rule::on("GET", "/tags/list").status(403));
    source.inject(as_subject());
    desk.export(&[image(source.host())]).success();
    assert!(!names(&desk).contains(&format!("{REPOSITORY}:{}", api.tag)), "{:?}", names(&desk));

    let destination = RealRegistry::start();
    let proxy = FaultProxy::start(destination.host());
    proxy.inject(as_subject());
    for _ in 0..2 {
        let told = desk.import("bundle", proxy.host(), &[]);
        told.code(1).stderr_contains("is the image itself, so no list of referrers can be kept there");
    }
    assert!(raw_manifest(destination.host(), REPOSITORY, &api.tag).is_none(), "nobody could read that list");
    assert!(raw_manifest(destination.host(), REPOSITORY, "1.35").is_some());
}

#[test]
fn a_referrer_that_cannot_be_read_is_told_as_the_referrer_of_its_image() {
    let desk = desk!();
    let api = Api::new(&desk);
    let proxy = FaultProxy::start(api.serving.host());
    proxy.inject(Rule::on("GET", &format!("/manifests/{}", api.sbom)).answer(403, &[], "quarantined"));
    let image = image(proxy.host());
    let told = |run: &Run| {
        run.stderr_contains(&format!("a referrer of {image} (application/spdx+json, ")).stderr_contains(&api.sbom);
        run.stderr_contains("quarantined").stderr_contains("--no-referrers").stderr_contains("--keep-going");
    };
    let refused = desk.export(&[&image]);
    told(refused.code(1));
    let partly = desk.export(&["--keep-going", &image]);
    told(partly.code(4));
    assert!(names(&desk).contains(&format!("{REPOSITORY}:1.35")));
    desk.shell("", "rm -r bundle");
    desk.export(&["--no-referrers", &image]).success();
}

#[test]
fn a_list_of_referrers_that_cannot_be_read_is_told_with_its_image() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let proxy = FaultProxy::start(source.host());
    proxy.inject(Rule::on("GET", "/referrers/").answer(502, &[], "no upstream"));
    let refused = desk.export(&["--retry-times", "0", &image(proxy.host())]);
    refused.code(1).stderr_contains(&format!("the referrers of {} (", image(proxy.host())));
    refused.stderr_contains("no upstream").stderr_contains("--no-referrers");
}

/// A registry with the API, of which one repository answers 403: what only its API lists is missing, and that is told.
#[test]
fn a_fault_in_one_repository_is_an_error_where_another_lists_referrers() {
    let desk = desk!();
    let api = Api::new(&desk);
    let whole = image(api.serving.host());
    desk.export(&[&whole]).success();
    desk.import("bundle", &format!("{}/broken", api.serving.host()), &[]).success();
    desk.shell("", "rm -r bundle");
    let proxy = FaultProxy::start(api.serving.host());
    proxy.inject(Rule::on("GET", &format!("/broken/{REPOSITORY}/referrers/")).status(403));
    let (whole, broken) = (image(proxy.host()), format!("{}/broken/{REPOSITORY}:1.35", proxy.host()));
    for images in [[&broken, &whole], [&whole, &broken]] {
        let refused = desk.export(&["--jobs", "1", images[0], images[1]]);
        refused.code(1).stderr_contains(&format!("the referrers of {broken} (")).stderr_contains("403");
    }
    let partly = desk.export(&["--keep-going", "--jobs", "1", &broken, &whole]);
    partly.code(4).stderr_contains(&format!("the referrers of {broken} ("));
    assert!(names(&desk).contains(&format!("{REPOSITORY}@{}", api.sbom)));
}

#[rstest]
#[case::listed_by_the_api(true)]
#[case::listed_under_a_tag(false)]
fn a_listed_referrer_that_is_gone_is_a_warning(#[case] with_api: bool) {
    let (source, desk, destination) = (RealRegistry::with_corpus(), desk!(), RealRegistry::start());
    let (tag, sbom, serving) = match with_api {
        true => {
            let Api { serving, tag, sbom } = Api::new(&desk);
            (tag, sbom, Some(serving))
        }
        false => {
            let List { tag, sbom } = list_one_sbom(source.host());
            (tag, sbom, None)
        }
    };
    let host = serving.as_ref().map_or(source.host(), Serving::host);
    // One more, which stays.
    let subject = format!("sha256:{}", &tag["sha256-".len()..]);
    let kept = artifact(host, "another SBOM", Some(&subject));
    put_manifest(host, REPOSITORY, &sha256(&kept), MANIFEST, &kept);
    if !with_api {
        let size = raw_manifest(host, REPOSITORY, &sbom).unwrap().bytes.len();
        put_manifest(host, REPOSITORY, &tag, INDEX, index(&[(&sbom, size), (&sha256(&kept), kept.len())]).as_bytes());
    }
    let proxy = FaultProxy::start(host);
    proxy.inject(Rule::on("GET", &format!("/manifests/{sbom}")).status(404));
    let exported = desk.export(&[image(proxy.host())]);
    exported.success().stderr_contains("warning: ").stderr_contains("gone").stderr_contains(&sbom);
    assert!(names(&desk).contains(&format!("{REPOSITORY}@{}", sha256(&kept))), "{:?}", names(&desk));
    desk.import("bundle", destination.host(), &[]).success();
    assert_eq!(listed(destination.host(), &tag), [sha256(&kept)]);
}

fn image(host: &str) -> String {
    format!("{host}/{REPOSITORY}:1.35")
}

/// An SBOM of the image, listed under the fallback tag.
struct List {
    tag: String,
    sbom: String,
}

/// The same where the API lists it, and no tag does.
struct Api {
    serving: Serving,
    tag: String,
    sbom: String,
}

impl Api {
    fn new(desk: &Desk) -> Self {
        let source = RealRegistry::with_corpus();
        let List { tag, sbom } = list_one_sbom(source.host());
        let serving = desk.serve(&["--writable", "between"]);
        desk.export(&[image(source.host())]).success();
        desk.import("bundle", serving.host(), &[]).success();
        desk.shell("", "rm -r bundle");
        assert_eq!(support::delete(serving.host(), &format!("/v2/{REPOSITORY}/manifests/{tag}")).status, 202);
        Api { serving, tag, sbom }
    }
}

fn list_one_sbom(host: &str) -> List {
    let subject = raw_manifest(host, REPOSITORY, "1.35").expect("busybox is in the corpus").digest;
    let bytes = artifact(host, "sbom", Some(&subject));
    put_manifest(host, REPOSITORY, &sha256(&bytes), MANIFEST, &bytes);
    let tag = format!("sha256-{}", &subject["sha256:".len()..]);
    put_manifest(host, REPOSITORY, &tag, INDEX, index(&[(&sha256(&bytes), bytes.len())]).as_bytes());
    List { tag, sbom: sha256(&bytes) }
}

fn index(children: &[(&str, usize)]) -> String {
    let children: Vec<Value> = children
        .iter()
        .map(|(digest, size)| {
            json!({"mediaType": MANIFEST, "digest": digest, "size": size, "artifactType": "application/spdx+json"})
        })
        .collect();
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}).to_string()
}

fn listed(host: &str, tag: &str) -> Vec<String> {
    let found = raw_manifest(host, REPOSITORY, tag).expect("the list is there");
    let index: Value = serde_json::from_slice(&found.bytes).unwrap();
    let manifests = index["manifests"].as_array().unwrap();
    manifests.iter().map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect()
}

fn names(desk: &Desk) -> Vec<String> {
    let json = desk.sealift(&["inspect", "bundle", "--trust", "allowed_signers", "--json"]).success().stdout();
    let value: Value = serde_json::from_str(&json).unwrap();
    value["images"].as_array().unwrap().iter().map(|image| image["name"].as_str().unwrap().to_owned()).collect()
}
