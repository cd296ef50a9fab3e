use crate::containers::registries::*;
use rstest::rstest;

/// containers-registries.conf(5), "EXAMPLE", with the wildcard of "Choosing a [[registry]] TOML table".
const EXAMPLE: &str = r#"
unqualified-search-registries = ["example.com"]

[[registry]]
prefix = "example.com/foo"
insecure = false
blocked = false
location = "internal-registry-for-example.com/bar"

[[registry.mirror]]
location = "example-mirror-0.local/mirror-for-foo"

[[registry.mirror]]
location = "example-mirror-1.local/mirrors/foo"
insecure = true

[[registry]]
location = "registry.com"

[[registry.mirror]]
location = "mirror.registry.com"

[[registry]]
prefix = "*.wild.com"
blocked = true

[[registry]]
prefix = "docker.io/library"
location = "mirror.local:5000/hub/"
"#;

fn read(files: &[&str]) -> Result<Registries> {
    Registries::read(files.iter().map(|text| ("r.conf", *text)))
}

fn sources_of(registries: &Registries, image: &str) -> Vec<PullSource> {
    let image: Reference = image.parse().unwrap();
    registries.pull_sources(&image.host, &image.repository).unwrap()
}

fn locations(registries: &Registries, image: &str) -> Vec<String> {
    let shown = |source: PullSource| {
        let insecure = if source.insecure { " insecure" } else { "" };
        let blocked = if source.blocked.is_some() { " blocked" } else { "" };
        format!("{}/{}{insecure}{blocked}", source.host, source.repository)
    };
    sources_of(registries, image).into_iter().map(shown).collect()
}

#[rstest]
#[case("example.com/foo/image:latest", &[
    "example-mirror-0.local/mirror-for-foo/image",
    "example-mirror-1.local/mirrors/foo/image insecure",
    "internal-registry-for-example.com/bar/image",
])]
#[case("example.com/foo", &[
    "example-mirror-0.local/mirror-for-foo",
    "example-mirror-1.local/mirrors/foo insecure",
    "internal-registry-for-example.com/bar",
])]
#[case("example.com/foobar/image", &[])]
#[case("example.com/image", &[])]
#[case("registry.com/image:latest", &["mirror.registry.com/image", "registry.com/image"])]
// "DON'T RELY ON THE CURRENT BEHAVIOR", says the source; it is that of every skopeo.
#[case("registry.com:5000/image", &["mirror.registry.com:5000/image", "registry.com:5000/image"])]
#[case("sub.registry.com/image", &[])]
#[case("blah.wild.com/foo/myimage:latest", &["blah.wild.com/foo/myimage blocked"])]
#[case("a.b.wild.com:5000/x", &["a.b.wild.com:5000/x blocked"])]
#[case("wild.com/x", &[])]
#[case("awild.com/x", &[])]
#[case("a.wild.com.evil.org/x", &[])]
// "To remap the docker.io images in the (implied) /library namespace, the prefix must include it."
#[case("busybox", &["mirror.local:5000/hub/busybox"])]
#[case("docker.io/user/alpine", &[])]
fn the_longest_prefix_says_where_an_image_is_read(#[case] image: &str, #[case] expected: &[&str]) {
    assert_eq!(locations(&read(&[EXAMPLE]).unwrap(), image), expected);
}

#[test]
fn of_two_prefixes_the_longer_one_counts_alone() {
    let text = r#"
        [[registry]]
        location = "example.com"
        blocked = true
        [[registry]]
        location = "example.com/good"
        [[registry]]
        prefix = "*.example.com"
        location = "all.local"
        [[registry]]
        prefix = "deep.sub.example.com"
        location = "one.local"
        [[registry]]
        prefix = "a.example.com"
        location = "two.local"
    "#;
    let registries = read(&[text]).unwrap();
    assert_eq!(locations(&registries, "example.com/bad/app"), ["example.com/bad/app blocked"]);
    assert_eq!(locations(&registries, "example.com/good/app"), ["example.com/good/app"]);
    assert_eq!(locations(&registries, "sub.example.com/app"), ["all.local/app"]);
    assert_eq!(locations(&registries, "deep.sub.example.com/app"), ["one.local/app"]);
    // Both have 13 characters: skopeo sorts the prefixes and takes the first that is longer than those before it.
    assert_eq!(locations(&registries, "a.example.com/app"), ["all.local/app"]);
}

#[test]
fn mirrors_are_for_digests_tags_or_both() {
    let text = r#"
        [[registry]]
        location = "a.com"
        [[registry.mirror]]
        location = "digests.local"
        pull-from-mirror = "digest-only"
        [[registry.mirror]]
        location = "tags.local"
        pull-from-mirror = "tag-only"
        [[registry.mirror]]
        location = "both.local"
        pull-from-mirror = "all"
        [[registry]]
        location = "b.com"
        mirror-by-digest-only = true
        [[registry.mirror]]
        location = "both.local"
    "#;
    let registries = read(&[text]).unwrap();
    let usages = |image: &str| sources_of(&registries, image).iter().map(|source| source.usage).collect::<Vec<_>>();
    assert_eq!(usages("a.com/x"), [Usage::ByDigest, Usage::ByTag, Usage::All, Usage::All]);
    assert_eq!(usages("b.com/x"), [Usage::ByDigest, Usage::All]);
}

/// What OpenShift writes for `mirrorSourcePolicy: NeverContactSource`: the source is blocked, its mirrors are not.
#[test]
fn a_blocked_registry_is_read_through_its_mirrors_only() {
    let text = r#"
        [[registry]]
        prefix = "quay.io/ns"
        location = "quay.io/ns"
        blocked = true
        [[registry.mirror]]
        location = "mirror.local/ns"
        [[registry.mirror]]
        location = "banned.local/ns"
        [[registry]]
        location = "banned.local"
        blocked = true
        [[registry]]
        prefix = "moved.com"
        location = "elsewhere.com"
        blocked = true
    "#;
    let registries = read(&[text]).unwrap();
    assert_eq!(
        locations(&registries, "quay.io/ns/app"),
        ["mirror.local/ns/app", "banned.local/ns/app blocked", "quay.io/ns/app blocked"]
    );
    // "If true, pulling images with matching names is forbidden": skopeo looks at the location alone here.
    assert_eq!(locations(&registries, "moved.com/app"), ["elsewhere.com/app blocked"]);
    assert!(registries.blocked("quay.io/ns/app").is_some() && registries.blocked("quay.io").is_none());
}

/// containers-registries.conf.d(5): tables are "merged by overwriting existing items if the prefixes are identical while
/// new ones are added".
#[test]
fn a_later_file_replaces_tables_of_one_prefix_and_adds_others() {
    let first = "[[registry]]\nlocation = 'a.com'\nblocked = true\n[[registry.mirror]]\nlocation = 'm.local'\n";
    let second =
        "[[registry]]\nprefix = 'a.com'\nlocation = 'b.com'\n[[registry]]\nlocation = 'c.com'\nblocked = true\n";
    let registries = read(&[EXAMPLE, first, second]).unwrap();
    assert_eq!(locations(&registries, "a.com/x"), ["b.com/x"]);
    assert_eq!(locations(&registries, "c.com/x"), ["c.com/x blocked"]);
    assert_eq!(locations(&registries, "registry.com/x").len(), 2);
}

#[rstest]
#[case("registry = 1", "r.conf")]
#[case("[[registry]", "line 1")]
#[case("[[registry]]\nblocked = 'yes'\nlocation = 'a'", "expected a boolean")]
#[case("[[registry]]\nblocked = true", "neither a prefix nor a location")]
#[case("[[registry]]\nprefix = 'a.com'", "no location")]
#[case("[[registry]]\nlocation = 'https://a.com'", "scheme")]
#[case("[[registry]]\nprefix = '*.a.com/x'\nlocation = 'b.com'", "*.example.com")]
#[case("[[registry]]\nprefix = '*.a.com:5000'\nlocation = 'b.com'", "*.example.com")]
#[case("[[registry]]\nlocation = 'a.com'\npull-from-mirror = 'all'", "belongs to a mirror")]
#[case("[[registry]]\nlocation = 'a.com'\n[[registry.mirror]]\ninsecure = true", "mirror of \"a.com\" has no location")]
#[case("[[registry]]\nlocation = 'a.com'\n[[registry.mirror]]\nlocation = 'm'\npull-from-mirror = 'x'", "no value of")]
#[case(
    "[[registry]]\nlocation = 'a.com'\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = 'm'\npull-from-mirror = 'all'",
    "mirror-by-digest-only"
)]
#[case(
    "[[registry]]\nlocation = 'a.com'\nblocked = true\n[[registry]]\nprefix = 'b.com'\nlocation = 'a.com'",
    "different values of blocked"
)]
#[case(
    "[[registry]]\nlocation = 'a.com'\ninsecure = true\n[[registry]]\nprefix = 'b.com'\nlocation = 'a.com'",
    "different values of insecure"
)]
#[case("[registries.block]\nregistries = ['a.com']", "version 1")]
fn what_contradicts_itself_is_refused(#[case] text: &str, #[case] said: &str) {
    let error = read(&[text]).expect_err(text);
    assert_eq!(error.kind(), crate::Kind::Usage);
    assert!(error.chain().contains(said), "{}", error.chain());
}

#[test]
fn keys_are_taken_in_any_case_and_unknown_ones_passed_over() {
    let registries =
        read(&["[[Registry]]\nLocation = 'a.com'\nBLOCKED = true\nnew-key = 1\n[aliases]\n'x' = 'y'"]).unwrap();
    assert_eq!(locations(&registries, "a.com/x"), ["a.com/x blocked"]);
    assert!(read(&[""]).unwrap().is_empty());
}

#[test]
fn a_location_that_makes_no_name_is_an_error_of_its_images() {
    let registries = read(&["[[registry]]\nprefix = 'a.com'\nlocation = 'mirror'\n"]).unwrap();
    let error = registries.pull_sources(&"a.com".parse().unwrap(), &"x".parse().unwrap()).expect_err("no host");
    assert!(error.chain().contains("\"mirror/x\""), "{}", error.chain());
}

#[test]
fn helpers_that_are_not_asked_are_named() {
    let warning = |text: &str| read(&[text]).unwrap().warning();
    assert_eq!(warning("credential-helpers = ['containers-auth.json']"), None);
    assert!(warning("credential-helpers = ['containers-auth.json', 'pass']").is_some_and(|said| said.contains("pass")));
}
