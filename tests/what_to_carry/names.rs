//! Under which names images land: what the plan says is what happens.

use std::collections::BTreeSet;

use rstest::rstest;
use serde_json::Value;
use support::{RealRegistry, catalog, desk, put_manifest, references, tags};

use crate::{MANIFEST, artifact_in};

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
fn what_would_land_on_one_name_is_refused_before_the_first_byte() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let images = ["library/busybox:1.35", "mirror/eu/busybox:1.35"].map(|name| format!("{}/{name}", source.host()));
    let refused = desk.export(&["--names", "base", &images[0], &images[1]]);
    refused.code(2).stderr_contains(&images[0]).stderr_contains(&images[1]).stderr_contains("busybox:1.35");
    assert_eq!(source.access_log(), []);
    assert!(!desk.path().join("bundle").exists());
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
