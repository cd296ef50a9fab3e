//! One image at two registries, of which each lacks something that the other has.

use rstest::rstest;
use serde_json::{Value, json};
use support::{Desk, FaultProxy, RealRegistry, Rule, desk, push_blob, put_manifest, raw_manifest, sha256};

use super::{MANIFEST, REPOSITORY};

/// Two registries with the corpus, each behind a proxy.
struct Two {
    _registries: [RealRegistry; 2],
    proxies: [FaultProxy; 2],
    /// Of busybox's index.
    children: Vec<Value>,
}

impl Two {
    fn new() -> Self {
        let registries = [RealRegistry::with_corpus(), RealRegistry::with_corpus()];
        let index = raw_manifest(registries[0].host(), REPOSITORY, "1.35").expect("busybox is in the corpus");
        let index: Value = serde_json::from_slice(&index.bytes).unwrap();
        let children = index["manifests"].as_array().unwrap().clone();
        assert!(children.len() > 1);
        let proxies = [0, 1].map(|number: usize| FaultProxy::start(registries[number].host()));
        Two { _registries: registries, proxies, children }
    }

    /// The manifest of the first or second child.
    fn child(&self, number: usize) -> Value {
        let digest = self.children[number]["digest"].as_str().unwrap();
        let found = raw_manifest(self.proxies[0].host(), REPOSITORY, digest).expect("a child");
        serde_json::from_slice(&found.bytes).unwrap()
    }

    fn export(&self, desk: &Desk, options: &[&str]) -> support::Run {
        let images = self.proxies.iter().map(|proxy| format!("{}/{REPOSITORY}:1.35", proxy.host()));
        let options = options.iter().map(|option| (*option).to_owned()).chain(["--scoped".to_owned()]);
        desk.export(&options.chain(images).collect::<Vec<_>>())
    }
}

#[rstest]
#[case::gone(404)]
#[case::forbidden(403)]
fn a_child_that_one_registry_does_not_serve_is_read_from_the_other(#[case] status: u16) {
    let (two, desk, destination) = (Two::new(), desk!(), RealRegistry::start());
    for (proxy, child) in two.proxies.iter().zip(&two.children) {
        proxy.inject(Rule::on("GET", &format!("/manifests/{}", child["digest"].as_str().unwrap())).status(status));
    }
    two.export(&desk, &[]).success();
    desk.import("bundle", destination.host(), &[]).success();
    assert_eq!(support::catalog(destination.host()).len(), 2);
}

#[test]
fn a_child_that_no_registry_has_is_told_as_gone() {
    let (two, desk) = (Two::new(), desk!());
    let digest = two.children[0]["digest"].as_str().unwrap();
    for proxy in &two.proxies {
        proxy.inject(Rule::on("GET", &format!("/manifests/{digest}")).status(404));
    }
    let failed = two.export(&desk, &[]);
    failed.code(1).stderr_contains("a manifest that its index lists is gone").stderr_contains(digest);
    failed.stderr_contains("push the image again");
    assert!(!failed.stderr().contains("spelling"), "{}", failed.stderr());
}

#[test]
fn the_platform_that_was_chosen_is_read_from_the_other_registry() {
    let (two, desk, destination) = (Two::new(), desk!(), RealRegistry::start());
    let platform = &two.children[0]["platform"];
    let wanted = format!("{}/{}", platform["os"].as_str().unwrap(), platform["architecture"].as_str().unwrap());
    let digest = two.children[0]["digest"].as_str().unwrap();
    two.proxies[0].inject(Rule::on("GET", &format!("/manifests/{digest}")).status(404));
    two.export(&desk, &["--platform", &wanted]).success();
    desk.import("bundle", destination.host(), &[]).success();
    assert_eq!(support::catalog(destination.host()).len(), 2);
}

#[rstest]
#[case::gone(|rule: Rule| rule.status(404))]
#[case::forbidden(|rule: Rule| rule.status(403))]
#[case::failing(|rule: Rule| rule.status(500))]
#[case::cut_each_time(|rule: Rule| rule.cut_response(1000))]
fn a_layer_that_one_registry_does_not_serve_is_read_from_the_other(#[case] fails: fn(Rule) -> Rule) {
    let (two, desk) = (Two::new(), desk!());
    for (number, proxy) in two.proxies.iter().enumerate() {
        let layer = two.child(number)["layers"][0]["digest"].as_str().unwrap().to_owned();
        proxy.inject(fails(Rule::on("GET", &format!("/blobs/{layer}"))));
    }
    two.export(&desk, &["--retry-times", "1"]).success();
    desk.sealift(&["verify", "bundle", "--trust", "allowed_signers"]).success();
}

/// Of two foreign layers each registry holds one.
#[test]
fn a_foreign_layer_that_one_registry_holds_is_carried() {
    let desk = desk!();
    let servers = [desk.serve(&["--writable", "one"]), desk.serve(&["--writable", "other"])];
    let layers = [&b"a layer with a licence"[..], b"another layer"];
    let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(b"{}"), "size": 2});
    let layer = |bytes: &[u8]| {
        let media_type = "application/vnd.oci.image.layer.nondistributable.v1.tar";
        json!({"mediaType": media_type, "digest": sha256(bytes), "size": bytes.len()})
    };
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers.map(layer)}).to_string();
    for (server, held) in servers.iter().zip(layers) {
        push_blob(server.host(), "app", b"{}");
        push_blob(server.host(), "app", held);
        put_manifest(server.host(), "app", "1", MANIFEST, manifest.as_bytes());
    }
    let images = servers.each_ref().map(|server| format!("{}/app:1", server.host()));
    desk.export(&["--scoped", &images[0], &images[1]]).success();
    let json = desk.sealift(&["inspect", "bundle", "--trust", "allowed_signers", "--json"]).success().stdout();
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["absent"], json!([]));
}
