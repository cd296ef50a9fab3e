use crate::containers::policy::*;
use rstest::rstest;

/// The locked-down system of containers-policy.json(5), "Examples", cut down to what differs by scope.
const LOCKED_DOWN: &str = r#"{
    "default": [{"type": "reject"}],
    "transports": {
        "docker": {
            "docker.io/openshift": [{"type": "insecureAcceptAnything"}],
            "docker.io/library/busybox": [{"type": "insecureAcceptAnything"}],
            "*.temporary-project.example.com": [{"type": "insecureAcceptAnything"}],
            "hostname:5000/myns/sigstore-signed": [{"type": "sigstoreSigned", "keyPath": "/path/to/key.pub"}],
            "hostname:5000/myns/both": [{"type": "insecureAcceptAnything"},
                {"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/path/to/official-pubkey.gpg"}],
            "hostname:5000/myns/app": [{"type": "insecureAcceptAnything"}],
            "hostname:5000/myns/app:bad": [{"type": "reject"}]
        },
        "dir": {
            "/usb": [{"type": "insecureAcceptAnything"}],
            "/usb/inbox": [{"type": "reject"}]
        },
        "a-transport-of-tomorrow": {"any scope": [{"type": "reject"}]}
    }
}"#;

#[rstest]
#[case("docker.io/openshift/hello-openshift:1", None)]
#[case("openshift/origin", None)]
#[case("busybox:1", None)]
#[case("library/busybox2:1", Some("default is reject"))]
#[case("a.b.temporary-project.example.com:5000/x:1", None)]
#[case("temporary-project.example.com/x:1", Some("default is reject"))]
#[case("hostname:5000/myns/sigstore-signed:1", Some("\"hostname:5000/myns/sigstore-signed\" is sigstoreSigned"))]
#[case("hostname:5000/myns/both:1", Some("\"hostname:5000/myns/both\" is signedBy"))]
#[case("hostname:5000/myns/app:good", None)]
#[case("hostname:5000/myns/app:bad", Some("\"hostname:5000/myns/app:bad\" is reject"))]
#[case("hostname:5000/myns/appendix:1", Some("default is reject"))]
#[case("hostname/myns/app:good", Some("default is reject"))]
fn only_the_most_specific_scope_of_an_image_counts(#[case] image: &str, #[case] refused: Option<&str>) {
    let policy = Policy::parse(LOCKED_DOWN.as_bytes(), "p.json").unwrap();
    let checked = policy.check_image(&image.parse().unwrap());
    match refused {
        None => checked.unwrap(),
        Some(rule) => {
            let error = checked.expect_err(image);
            assert_eq!(error.kind(), crate::Kind::Untrusted);
            assert!(error.chain().contains(rule) && error.chain().contains("p.json"), "{}", error.chain());
        }
    }
}

#[test]
fn an_image_with_a_tag_and_a_digest_must_be_allowed_by_both() {
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let policy = |scope: &str| {
        let text = format!(
            r#"{{"default": [{{"type": "insecureAcceptAnything"}}],
                "transports": {{"docker": {{"h.io/app{scope}": [{{"type": "reject"}}]}}}}}}"#
        );
        Policy::parse(text.as_bytes(), "p").unwrap()
    };
    let image: Reference = format!("h.io/app:1@{digest}").parse().unwrap();
    for scope in [":1", &format!("@{digest}"), ""] {
        assert!(policy(scope).check_image(&image).is_err(), "{scope}");
    }
    policy(":2").check_image(&image).unwrap();
}

#[rstest]
#[case("/usb/app:1", true)]
#[case("/usb", true)]
#[case("/usb/inbox/app:1", false)]
#[case("/usb/inbox", false)]
#[case("/usb2/app:1", false)]
fn directories_are_looked_up_by_their_paths(#[case] path: &str, #[case] allowed: bool) {
    let policy = Policy::parse(LOCKED_DOWN.as_bytes(), "p").unwrap();
    assert_eq!(policy.check_directory(Path::new(path), path).is_ok(), allowed);
}

/// "Unrecognized, duplicated or otherwise invalid fields cause the entire file [...] to be rejected."
#[rstest]
#[case("", "EOF")]
#[case("[]", "not a JSON object")]
#[case("{}", "no default")]
#[case(r#"{"default": []}"#, "empty")]
#[case(r#"{"default": null}"#, "null stands where")]
#[case(r#"{"default": [{"type": "reject"}], "Default": []}"#, "\"Default\" is not known")]
#[case(r#"{"default": [{"type": "reject"}], "default": [{"type": "reject"}]}"#, "there twice")]
#[case(r#"{"default": [{"type": "reject"}]} x"#, "trailing")]
#[case(r#"{"default": [{"type": "reject", "x": 1}]}"#, "\"x\" is not known")]
#[case(r#"{"default": [{"type": "Reject"}]}"#, "no requirement of the type")]
#[case(r#"{"default": [{"type": 1}]}"#, "not a text")]
#[case(r#"{"default": [{}]}"#, "no type")]
#[case(r#"{"default": ["reject"]}"#, "a text stands where")]
#[case(r#"{"default": [{"type": "reject"}], "transports": {"docker": {"a": []}}}"#, "\"a\": the list")]
#[case(r#"{"default": [{"type": "reject"}], "transports": {"docker": {"a": [{"type": "reject"}], "a": [{"type": "reject"}]}}}"#, "there twice")]
#[case(r#"{"default": [{"type": "reject"}], "transports": {"dir": {"/": [{"type": "reject"}]}}}"#, "absolute path")]
#[case(r#"{"default": [{"type": "reject"}], "transports": {"dir": {"usb": [{"type": "reject"}]}}}"#, "absolute path")]
#[case(
    r#"{"default": [{"type": "reject"}], "transports": {"oci": {"/a/../b": [{"type": "reject"}]}}}"#,
    "absolute path"
)]
#[case(
    r#"{"default": [{"type": "reject"}], "transports": {"docker-archive": {"/a": [{"type": "reject"}]}}}"#,
    "only the scope"
)]
#[case(r#"{"default": [{"type": "signedBy", "keyPath": "/k"}]}"#, "no keyType")]
#[case(r#"{"default": [{"type": "signedBy", "keyType": "PGP", "keyPath": "/k"}]}"#, "no keyType \"PGP\"")]
#[case(r#"{"default": [{"type": "signedBy", "keyType": "GPGKeys"}]}"#, "one of keyPath, keyPaths, keyData is needed")]
#[case(r#"{"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k", "keyData": ""}]}"#, "only one of")]
#[case(r#"{"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyData": "*"}]}"#, "not base64")]
#[case(
    r#"{"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k", "signedIdentity": {"type": "x"}}]}"#,
    "identity of the type"
)]
#[case(r#"{"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k", "signedIdentity": {"type": "exactReference", "dockerReference": "busybox"}}]}"#, "neither a tag")]
#[case(r#"{"default": [{"type": "sigstoreSigned"}]}"#, "is needed")]
#[case(
    r#"{"default": [{"type": "sigstoreSigned", "fulcio": {"caPath": "/c", "oidcIssuer": "i", "subjectEmail": "e"}}]}"#,
    "needs a rekorPublicKey"
)]
#[case(r#"{"default": [{"type": "sigstoreSigned", "fulcio": {"caPath": "/c", "subjectEmail": "e"}, "rekorPublicKeyPath": "/r"}]}"#, "oidcIssuer is missing")]
#[case(r#"{"default": [{"type": "sigstoreSigned", "pki": {"caRootsPath": "/c", "subjectEmail": "e"}, "rekorPublicKeyPath": "/r"}]}"#, "pki takes no")]
fn what_is_not_strictly_a_policy_is_refused(#[case] text: &str, #[case] fault: &str) {
    let error = Policy::parse(text.as_bytes(), "p.json").expect_err(text);
    assert_eq!(error.kind(), crate::Kind::Usage);
    assert!(error.chain().starts_with("p.json is not") && error.chain().contains(fault), "{}", error.chain());
}

#[test]
fn the_requirements_of_the_manual_page_are_read() {
    for requirement in [
        r#"{"type": "signedBy", "keyType": "GPGKeys", "keyPaths": ["/a", "/b"], "signedIdentity": {"type": "matchExact"}}"#,
        r#"{"type": "signedBy", "keyType": "GPGKeys", "keyData": "YQ==", "signedIdentity":
            {"type": "exactReference", "dockerReference": "docker.io/library/busybox:latest"}}"#,
        r#"{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/a", "signedIdentity":
            {"type": "exactRepository", "dockerRepository": "vendor-hostname/product/repository"}}"#,
        r#"{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/a", "signedIdentity":
            {"type": "remapIdentity", "prefix": "private-mirror:5000/vendor-mirror", "signedPrefix": "vendor.example.com"}}"#,
        r#"{"type": "sigstoreSigned", "keyDatas": ["YQ=="], "signedIdentity": {"type": "matchRepository"}}"#,
        r#"{"type": "sigstoreSigned", "fulcio": {"caPath": "/c", "oidcIssuer": "https://i", "subjectEmail": "e@x"},
            "rekorPublicKeyPath": "/r"}"#,
        r#"{"type": "sigstoreSigned", "pki": {"caRootsPath": "/c", "caIntermediatesPath": "/i", "subjectHostname": "h"}}"#,
        r#"{"type": "signedBaseLayer", "baseLayerIdentity": {"type": "matchRepoDigestOrExact"}}"#,
    ] {
        let text = format!(r#"{{"default": [{requirement}]}}"#);
        let policy = Policy::parse(text.as_bytes(), "p").unwrap();
        assert!(policy.check_image(&"busybox:1".parse().unwrap()).is_err(), "{requirement}");
    }
}
