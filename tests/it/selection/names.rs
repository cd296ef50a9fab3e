//! Under which names images land: what the plan says is what happens.

use std::collections::BTreeSet;

use rstest::rstest;
use serde_json::Value;
use support::{RealRegistry, catalog, desk, put_manifest, references, tags};

use super::{MANIFEST, artifact_in};

#[rstest]
#[case::path("path", |_: &str, repository: &str| repository.to_owned())]
#[case::scoped("scoped", |host: &str, repository: &str| format!("{}/{repository}", host.replace(':', "_")))]
#[case::base("base", |_: &str, repository: &str| repository.rsplit('/').next().unwrap().to_owned())]
fn images_land_under_the_names_of_the_plan(#[case] names: &str, #[case] expected: fn(&str, &str) -> String) {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    // Without the one whose last component another one has too.
    let wanted: Vec<_> = references().into_iter().filter(|r| r.is_tagged() && !r.has("elsewhere")).collect();
    let images: Vec<String> = wanted.iter().map(|reference| reference.at(source.host())).collect();
    let planned = ["export", "--dry-run", "--json", "--names", names];
    let plan = desk.sealift(&[&planned.map(String::from)[..], &images].concat()).success().stdout();
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let planned: BTreeSet<&str> =
        plan["images"].as_array().unwrap().iter().map(|i| i["name"].as_str().unwrap()).collect();
    let wanted: Vec<String> = wanted
        .iter()
        .map(|reference| format!("{}:{}", expected(source.host(), &reference.repository), reference.reference))
        .collect();
    for name in &wanted {
        assert!(planned.contains(name.as_str()), "{name} is not in {planned:#?}");
    }
    desk.export(&[&["--names".to_owned(), names.to_owned()], &images[..]].concat()).success();
    desk.import("bundle", destination.host(), &["--json"]).success();
    let landed: BTreeSet<String> = catalog(destination.host())
        .iter()
        .flat_map(|r| tags(destination.host(), r).into_iter().map(move |tag| format!("{r}:{tag}")))
        .collect();
    let tagged: BTreeSet<String> =
        planned.iter().filter(|name| !name.contains('@')).map(|name| (*name).to_owned()).collect();
    assert_eq!(landed, tagged);
}

#[test]
fn different_images_on_one_name_are_refused_before_the_first_blob() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let other = artifact_in(source.host(), "mirror/us/busybox", "other", None);
    put_manifest(source.host(), "mirror/us/busybox", "1.35", MANIFEST, &other);
    let pushed = source.access_log().len();
    let images = ["library/busybox:1.35", "mirror/us/busybox:1.35"].map(|name| format!("{}/{name}", source.host()));
    for options in [&[][..], &["--keep-going"]] {
        let refused = desk.export(&[&["--names", "base", &images[0], &images[1]], options].concat());
        refused.code(2).stderr_contains(&images[0]).stderr_contains(&images[1]).stderr_contains("as busybox:1.35");
        refused.stderr_contains("hint: use --scoped");
    }
    assert!(!source.access_log()[pushed..].iter().any(|request| request.path.contains("/blobs/")));
    assert!(!desk.path().join("bundle").exists());

    // Where both digests are known, nothing is asked for; and what keeps nothing apart is not advised.
    let asked = source.access_log().len();
    let pinned = [&b"one"[..], b"other"].map(|bytes| format!("{}@{}", images[0], support::sha256(bytes)));
    for options in [&[][..], &["--scoped"]] {
        let refused = desk.export(&[&[pinned[0].as_str(), &pinned[1]], options].concat());
        refused.code(2).stderr_contains("hint: leave one of them out");
        assert!(!refused.stderr().contains("--scoped"), "{}", refused.stderr());
    }
    assert_eq!(source.access_log().len(), asked);
}

/// A tag and the same tag with its digest, a repository and one of its tags by digest, and one image from two registries.
#[test]
fn one_image_that_is_asked_for_in_several_ways_lands_once() {
    let (source, mirror) = (RealRegistry::with_corpus(), RealRegistry::with_corpus());
    let (destination, desk) = (RealRegistry::start(), desk!());
    let busybox = references().into_iter().find(|r| r.name() == "library/busybox:1.35").expect("it is in the corpus");
    let tag = busybox.at(source.host());
    let pinned = format!("{tag}@{}", busybox.digest);
    let repository = format!("{}/library/busybox", source.host());
    let elsewhere = busybox.at(mirror.host());
    for (images, names) in [
        ([&tag, &pinned], 1),
        ([&pinned, &tag], 1),
        ([&repository, &pinned], 2),
        ([&tag, &elsewhere], 1),
        ([&elsewhere, &pinned], 1),
    ] {
        let options = ["export", "--dry-run", "--json", "--no-referrers"].map(str::to_owned);
        let plan = desk.sealift(&[&options[..], &images.map(String::clone)].concat()).success().stdout();
        let plan: Value = serde_json::from_str(&plan).unwrap();
        let landing = plan["images"].as_array().unwrap();
        assert_eq!(landing.len(), names, "{images:?}: {plan:#}");
        let found = landing.iter().find(|image| image["name"] == "library/busybox:1.35").expect("it is there");
        assert_eq!(found["digest"], busybox.digest);
        if names == 1 {
            assert_eq!(found["source"], **images[0], "what was asked for first counts");
        }
    }

    // In a sync, also where it is at its destination already.
    let yaml = format!(
        "{}:\n  images: {{library/busybox: ['1.35', '{digest}']}}\n{}:\n  images: {{mirror/eu/busybox: ['1.35']}}\n",
        source.host(),
        mirror.host(),
        digest = busybox.digest
    );
    std::fs::write(desk.path().join("sync.yaml"), yaml).unwrap();
    let line = ["sync", "-s", "yaml", "-d", "docker", "--all", "sync.yaml", destination.host(), "--json"];
    for there in [false, true] {
        let answer: Value = serde_json::from_str(&desk.sealift(&line).success().stdout()).unwrap();
        let tagged: Vec<&Value> =
            answer["images"].as_array().unwrap().iter().filter(|image| image["name"] == "busybox:1.35").collect();
        assert_eq!((tagged.len(), &tagged[0]["there"]), (1, &Value::Bool(there)), "{answer:#}");
    }
    // What is there is not moved to another image that was asked for.
    let other = artifact_in(source.host(), "other/busybox", "other", None);
    put_manifest(source.host(), "other/busybox", "1.35", MANIFEST, &other);
    let yaml = format!("{}:\n  images: {{library/busybox: ['1.35'], other/busybox: ['1.35']}}\n", source.host());
    std::fs::write(desk.path().join("sync.yaml"), yaml).unwrap();
    desk.sealift(&line).code(2).stderr_contains("are different images");
    let landed = support::raw_manifest(destination.host(), "busybox", "1.35").expect("it is there");
    assert_eq!(support::sha256(&landed.bytes), busybox.digest);
}

#[test]
fn a_name_may_have_255_characters_and_no_more() {
    let (source, destination, desk) = (RealRegistry::start(), RealRegistry::start(), desk!());
    let repository = ["p".repeat(127), "q".repeat(127)].join("/");
    let tag = "t".repeat(128);
    let bytes = artifact_in(source.host(), &repository, "long", None);
    put_manifest(source.host(), &repository, &tag, MANIFEST, &bytes);
    let image = format!("{}/{repository}:{tag}", source.host());

    let plan = desk.sealift(&["export", "--dry-run", &image]).success().stdout();
    assert!(plan.lines().all(|line| line.chars().count() <= 100), "{plan}");
    let whole: String = plan.chars().filter(|letter| !letter.is_whitespace()).collect();
    assert!(whole.contains(&format!("{repository}:{tag}")) && whole.contains(&image), "{plan}");

    let asked = source.access_log().len();
    let refused = desk.export(&["--scoped", &image]);
    refused.code(2).stderr_contains("255").stderr_contains("hint: use --names path");
    assert_eq!(source.access_log().len(), asked, "before the first byte");
    desk.export(&[&image]).success();
    let refused = desk.import("bundle", &format!("{}/mirror", destination.host()), &[]);
    refused.code(2).stderr_contains("cannot land below mirror").stderr_contains("choose a shorter prefix");
    assert_eq!(destination.access_log(), []);
    desk.import("bundle", destination.host(), &[]).success();
    assert_eq!(tags(destination.host(), &repository), [tag]);
}
