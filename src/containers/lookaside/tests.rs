use crate::containers::lookaside::*;
use rstest::rstest;

/// The examples of containers-registries.d(5), in two files.
const VARIOUS_ORIGINS: &str = "
docker:
    registry.database-supplier.com:
        lookaside: https://lookaside.database-supplier.com
    docker.io/web-framework:
        sigstore: https://lookaside.web-framework.io:8080
        lookaside-staging: file:///mnt/staging
    cosigned.example.com/ns:
        use-sigstore-attachments: true
    cosigned.example.com/ns/plain: {use-sigstore-attachments: false}
    empty.example.com:
";
const DEVELOPERS: &str = "
docker:
    registry.example.com:
        lookaside: https://registry-lookaside.example.com
    registry.example.com/mydepartment:
        lookaside: https://lookaside.mydepartment.example.com
    registry.example.com/mydepartment/myproject:mybranch:
        lookaside: http://localhost:4242/lookaside
";

fn stores(files: &[&str]) -> Result<SignatureStores> {
    SignatureStores::read(files.iter().map(|text| ("x.yaml", *text)))
}

#[rstest]
#[case("registry.database-supplier.com/db:1", &["https://lookaside.database-supplier.com"])]
#[case("registry.database-supplier.com:5000/db:1", &[])]
#[case("web-framework/app:1", &["https://lookaside.web-framework.io:8080"])]
#[case("web-frameworks/app:1", &[])]
#[case("cosigned.example.com/ns/app:1", &["attachments"])]
#[case("cosigned.example.com/ns/plain:1", &[])]
#[case("empty.example.com/app:1", &[])]
#[case("registry.example.com/other/app:1", &["https://registry-lookaside.example.com"])]
#[case("registry.example.com/mydepartment/app:1", &["https://lookaside.mydepartment.example.com"])]
#[case("registry.example.com/mydepartment/myproject:mybranch", &["http://localhost:4242/lookaside"])]
fn the_most_specific_section_says_where_signatures_are(#[case] image: &str, #[case] expected: &[&str]) {
    let found = stores(&[VARIOUS_ORIGINS, "", DEVELOPERS]).unwrap().behind(&image.parse().unwrap());
    let shown = found.iter().map(|behind| match behind {
        Behind::Lookaside(url) => url.as_str(),
        Behind::Attachments => "attachments",
    });
    assert_eq!(shown.collect::<Vec<_>>(), expected);
}

#[test]
fn a_default_applies_to_what_has_no_store_of_its_own() {
    let found = stores(&["default-docker: {lookaside: 'file:///common'}", VARIOUS_ORIGINS]).unwrap();
    let behind = |image: &str| found.behind(&image.parse().unwrap());
    assert_eq!(behind("busybox"), [Behind::Lookaside("file:///common".into())]);
    assert_eq!(behind("empty.example.com/app"), [Behind::Lookaside("file:///common".into())]);
    assert_eq!(behind("web-framework/app").len(), 1);
    // containers-registries.d(5): lookaside-staging is for writing.
    assert!(
        stores(&["default-docker: {lookaside-staging: 'file:///s'}"]).unwrap().behind(&"a".parse().unwrap()).is_empty()
    );
}

/// containers-registries.d(5), "Built-in Defaults".
#[test]
fn a_built_in_store_counts_where_no_other_is_named() {
    let built_in = "file:///nonexistent/sigstore".to_owned();
    let found = stores(&[VARIOUS_ORIGINS]).unwrap().with_built_in(Some(built_in.clone()));
    let image: Reference = "busybox:1".parse().unwrap();
    let behind = found.behind(&image);
    assert_eq!(behind, [Behind::Lookaside(built_in)]);
    assert_eq!(behind[0].shown(&image, &[Digest::of(b"")]), None, "nothing is there");
    assert_eq!(found.behind(&"web-framework/app".parse().unwrap()).len(), 1);
    let secret = Behind::Lookaside("https://user:pa55-word@example.com/store".into());
    let shown = secret.shown(&image, &[Digest::of(b"")]).unwrap();
    assert!(shown.contains("https://example.com/store") && !shown.contains("pa55"), "{shown}");
}

#[rstest]
#[case(&["default-docker: {}", "default-docker: {}"], "default-docker")]
#[case(&[DEVELOPERS, "docker: {registry.example.com: {}}"], "\"registry.example.com\"")]
#[case(&["docker: [a]"], "x.yaml")]
#[case(&["docker: {a: {use-sigstore-attachments: maybe}}"], "x.yaml")]
fn one_section_in_two_files_and_wrong_values_are_refused(#[case] files: &[&str], #[case] said: &str) {
    let error = stores(files).expect_err(said);
    assert!(error.chain().contains(said), "{}", error.chain());
}
