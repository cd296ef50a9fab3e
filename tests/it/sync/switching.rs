//! Scripts that were written for skopeo go on with sealift.

use std::fs;

use rstest::rstest;
use serde_json::json;
use support::{
    FaultProxy, HTPASSWD_PASSWORD, HTPASSWD_USER, RealRegistry, Rule, desk, push_blob, put_manifest, raw_manifest,
    sha256, tags,
};

use super::sync;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Pushes an index of several variants of one image for one platform, with these values of the zstd annotation.
fn push_variants(host: &str, repository: &str, tag: &str, zstd: &[Option<&str>]) -> Vec<String> {
    let mut children = Vec::new();
    for (number, value) in zstd.iter().enumerate() {
        support::push_image(host, repository, &format!("{tag}-{number}"), &[format!("layer {number}").as_bytes()]);
        let manifest = raw_manifest(host, repository, &format!("{tag}-{number}")).unwrap();
        let mut child = json!({
            "mediaType": OCI_MANIFEST, "digest": sha256(&manifest.bytes), "size": manifest.bytes.len(),
            "platform": {"os": "linux", "architecture": "amd64"},
        });
        if let Some(value) = value {
            child["annotations"] = json!({"io.github.containers.compression.zstd": value});
        }
        children.push(child);
    }
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children});
    put_manifest(host, repository, tag, OCI_INDEX, index.to_string().as_bytes());
    children.iter().map(|child| child["digest"].as_str().unwrap().to_owned()).collect()
}

/// podman and skopeo since containers/image 5.28: `instanceCandidate.isPreferredOver`.
#[test]
fn without_all_the_zstd_variant_takes_the_place_of_its_index() {
    let (source, destination, desk) = (RealRegistry::start(), RealRegistry::start(), desk!());
    let digests = push_variants(source.host(), "v/app", "1", &[None, Some("true")]);
    let image = format!("{}/v/app:1", source.host());
    let amd64 = ["--override-arch", "amd64", "--override-os", "linux"];
    let to = |dest: &str, source: &str, target: &str| {
        sync(&desk, &[&amd64[..], &["-s", "docker", "-d", dest, source, target]].concat())
    };
    to("docker", &image, destination.host()).success().stderr_contains("the zstd one is copied");
    let landed = raw_manifest(destination.host(), "app", "1").unwrap();
    assert_eq!(sha256(&landed.bytes), digests[1]);
    // From a tree that holds the whole index, too.
    sync(&desk, &["-s", "docker", "-d", "dir", "--all", &image, "tree"]).success();
    let below = format!("{}/x", destination.host());
    sync(&desk, &[&amd64[..], &["-s", "dir", "-d", "docker", "tree", &below]].concat())
        .success()
        .stderr_contains("the zstd one is copied");
    assert_eq!(sha256(&raw_manifest(destination.host(), "x/app", "1").unwrap().bytes), digests[1]);
}

/// A signature under a tag of its own refers to its image; skopeo copies the tag and writes no other.
#[test]
fn a_tag_with_a_subject_makes_no_other_tag_without_referrers() {
    let (source, desk) = (RealRegistry::start(), desk!());
    let host = source.host();
    let digests = support::push_image(host, "s/app", "1", &[b"layer"]);
    let image = raw_manifest(host, "s/app", "1").unwrap();
    let config =
        json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": push_blob(host, "s/app", b"{}"), "size": 2});
    let subject = json!({"mediaType": OCI_MANIFEST, "digest": sha256(&image.bytes), "size": image.bytes.len()});
    let signature = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/x", "config": config,
        "layers": [{"mediaType": "application/x", "digest": digests[1], "size": 5}], "subject": subject,
    });
    put_manifest(host, "s/app", "signature", OCI_MANIFEST, signature.to_string().as_bytes());
    for (options, expected) in [(&[][..], 2), (&["--referrers"][..], 3)] {
        let destination = RealRegistry::start();
        let run = || {
            let fixed = ["-s", "docker", "-d", "docker", "--all"];
            sync(&desk, &[options, &fixed, &[&format!("{host}/s/app"), destination.host()]].concat()).success();
        };
        run();
        // And again, where what is there was not pushed by this run.
        run();
        let found = tags(destination.host(), "app");
        assert_eq!(found.len(), expected, "{options:?}: {found:?}");
        assert_eq!(found.iter().filter(|tag| tag.starts_with("sha256-")).count(), expected - 2);
    }
}

#[test]
fn docker_config_takes_the_place_of_the_home_directorys_file() {
    let (registry, desk) = (RealRegistry::with_htpasswd(true), desk!());
    let login = |user: &str, password: &str| {
        let fields = json!({"username": user, "password": password});
        json!({"auths": {registry.host(): fields}}).to_string()
    };
    for directory in ["home/.docker", "other"] {
        fs::create_dir_all(desk.path().join(directory)).unwrap();
    }
    fs::write(desk.path().join("home/.docker/config.json"), login(HTPASSWD_USER, HTPASSWD_PASSWORD)).unwrap();
    let app = format!("{}/team/app:1", registry.host());
    let run = |variables: &[(&str, &str)]| {
        desk.sealift_in(variables, &["sync", "--retry-times", "0", "--dry-run", "-s", "docker", "-d", "dir", &app, "t"])
    };
    let [home, other] = ["home", "other"].map(|name| desk.path().join(name).to_str().unwrap().to_owned());
    run(&[("HOME", &home)]).success();
    run(&[("HOME", &home), ("DOCKER_CONFIG", &other)]).code(1).stderr_contains("wants a login");
}

#[test]
fn a_numeric_host_is_refused_as_it_is_written() {
    let desk = desk!();
    for (image, written) in [("1.2/app:1", "1.2"), ("1:2/app:1", "1:2"), ("127.1:1/app:1", "127.1:1")] {
        let run = sync(&desk, &["-s", "docker", "-d", "dir", image, "tree"]);
        run.code(2).stderr_contains(&format!("{written} is neither a host name nor an address"));
    }
}

#[test]
fn booleans_take_values_and_options_of_skopeo_stand_on_both_sides() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let app = format!("{}/team/app:1", source.host());
    let dry = ["--dry-run=1", "--all", "--all=false", "--scoped=false", "-s", "dir", "-s", "docker", "-d", "dir"];
    let arguments =
        [&["--debug=false", "sync"], &dry[..], &["--insecure-policy", "--override-arch", "amd64", &app, "t"]];
    desk.sealift(&arguments.concat()).success().stderr_contains("-> dir:t/app:1");
    assert!(!desk.path().join("t").exists());
    desk.sealift(&["sync", "--all=perhaps", "a", "b"]).code(2).stderr_contains("--all takes true or false");
    // Options that no help shows are no advice.
    let run = desk.sealift(&["sync", "--tls-detals", "f", "-s", "dir", "-d", "dir", "a", "b"]);
    assert!(!run.code(2).stderr().contains("--tls-details"), "{}", run.stderr());
    let run = desk.sealift(&["sync", "--scopd", "-s", "dir", "-d", "dir", "a", "b"]);
    run.code(2).stderr_contains("--scoped");
}

#[test]
fn the_prefix_of_the_user_agent_reaches_both_sides() {
    let (source, destination, desk) = (RealRegistry::with_corpus(), RealRegistry::start(), desk!());
    let proxies = [FaultProxy::start(source.host()), FaultProxy::start(destination.host())];
    let app = format!("{}/team/app:1", proxies[0].host());
    let sides = ["-s", "docker", "-d", "docker", &app, proxies[1].host()];
    desk.sealift(&[&["sync", "--user-agent-prefix", "mirror/7"], &sides[..]].concat()).success();
    for proxy in &proxies {
        let agents: Vec<_> = proxy.requests().iter().map(user_agent).collect();
        let right = |agent: &Option<String>| agent.as_ref().is_some_and(|agent| agent.starts_with("mirror/7 sealift/"));
        assert!(!agents.is_empty() && agents.iter().all(right), "{agents:?}");
    }
    desk.sealift(&[&["sync", "--user-agent-prefix", "a\nb"], &sides[..]].concat()).code(2);
}

#[test]
fn logins_are_taken_as_skopeo_takes_them() {
    let (registry, desk) = (RealRegistry::with_htpasswd(true), desk!());
    let open = RealRegistry::with_corpus();
    // A file that does not exist yet stops nobody.
    let missing = desk.path().join("none.json").to_str().unwrap().to_owned();
    let image = format!("{}/team/app:1", open.host());
    let run = desk.sealift_in(
        &[("REGISTRY_AUTH_FILE", &missing)],
        &["sync", "--dry-run", "-s", "docker", "-d", "dir", &image, "t"],
    );
    run.success();
    let locked = format!("{}/team/app:1", registry.host());
    let refused = desk.sealift_in(
        &[("REGISTRY_AUTH_FILE", &missing)],
        &["sync", "--retry-times", "0", "-s", "docker", "-d", "dir", &locked, "t"],
    );
    refused.code(1).stderr_contains("which does not exist").stderr_contains("wants a login");
    // A user alone has an empty password, which is sent.
    for login in ["--src-creds=u", "--src-creds=u:"] {
        let run = sync(&desk, &["--retry-times", "0", login, "-s", "docker", "-d", "dir", &locked, "t"]);
        run.code(1).stderr_contains("user u");
    }
    let run = sync(&desk, &["--src-username=u", "--src-password=", "-s", "docker", "-d", "dir", &locked, "t"]);
    run.code(1).stderr_contains("user u");
    // The password beside an identity token is for registries that want one.
    let pair = json!({"auths": {registry.host(): {
        "auth": base64(&format!("{HTPASSWD_USER}:{HTPASSWD_PASSWORD}")), "identitytoken": "planted",
    }}});
    fs::write(desk.path().join("auth.json"), pair.to_string()).unwrap();
    sync(&desk, &["--authfile", "auth.json", "--dry-run", "-s", "docker", "-d", "dir", &locked, "t"]).success();
}

fn base64(text: &str) -> String {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut child = Command::new("base64").arg("-w0").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

#[rstest]
#[case::expression("images-by-tag-regex", "'^9'")]
#[case::constraint("images-by-semver", "'>= 99'")]
fn a_rule_that_matches_nothing_is_a_warning_beside_others(#[case] key: &str, #[case] rule: &str) {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let write = |images: &str| {
        let text = format!("{}:\n{images}  {key}:\n    team/app: {rule}\n", source.host());
        fs::write(desk.path().join("sync.yaml"), text).unwrap();
    };
    let run = || sync(&desk, &["-s", "yaml", "-d", "dir", "sync.yaml", "tree"]);
    write("");
    run().code(1).stderr_contains("is what was asked for");
    assert!(!desk.path().join("tree").exists());
    write("  images:\n    docker/single: []\n");
    run().success().stderr_contains("warning: none of the").stderr_contains("it is passed over");
    assert!(desk.path().join("tree/single:2.36/manifest.json").exists());
    // A bundle holds all that was asked for.
    let arguments = ["export", "--from", "sync.yaml", "--dry-run"];
    desk.sealift(&arguments).code(1).stderr_contains("is what was asked for");
}

#[test]
fn a_repository_without_tags_is_a_warning_beside_others() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let proxy = FaultProxy::start(source.host());
    proxy.inject(Rule::on("GET", "/team/app/tags/list").answer(200, &[], r#"{"name":"team/app","tags":null}"#));
    let host = proxy.host();
    fs::write(desk.path().join("a.yaml"), format!("{host}:\n  images: {{team/app: [], docker/single: []}}\n")).unwrap();
    let run = sync(&desk, &["-s", "yaml", "-d", "dir", "a.yaml", "tree"]);
    run.success().stderr_contains("team/app has no tags");
    sync(&desk, &["-s", "docker", "-d", "dir", &format!("{host}/team/app"), "t"]).code(1).stderr_contains("no tags");
}

#[test]
fn a_file_that_lists_no_image_is_a_warning() {
    let desk = desk!();
    fs::write(desk.path().join("sync.yaml"), "r.example:\n  tls-verify: true\n").unwrap();
    let run = sync(&desk, &["-s", "yaml", "-d", "dir", "sync.yaml", "tree"]);
    run.success().stderr_contains("r.example: it lists no images").stderr_contains("there is nothing to do");
    assert!(!desk.path().join("tree").exists());
    let run = sync(&desk, &["-s", "yaml", "-d", "bundle", "--key", "key", "sync.yaml", "bundle"]);
    run.code(2).stderr_contains("names no images");
}

#[test]
fn a_suffix_stands_behind_a_digest_in_a_tree() {
    let (source, desk) = (RealRegistry::with_corpus(), desk!());
    let manifest = raw_manifest(source.host(), "docker/single", "2.36").unwrap();
    let pinned = format!("{}/docker/single@{}", source.host(), sha256(&manifest.bytes));
    sync(&desk, &["-s", "docker", "-d", "dir", "--append-suffix=-m", &pinned, "ours"]).success();
    // 1.9.3 has no --append-suffix; later versions put it behind the name of the directory.
    super::skopeo_sync(&desk, &["-s", "docker", "-d", "dir", &pinned, "theirs"]);
    let name = format!("single@{}", sha256(&manifest.bytes));
    super::assert_same_trees(&desk.path().join("theirs").join(&name), &desk.path().join("ours").join(name + "-m"));
}

fn user_agent(request: &support::Recorded) -> Option<String> {
    let header = request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("user-agent"));
    header.map(|(_, value)| value.clone())
}
