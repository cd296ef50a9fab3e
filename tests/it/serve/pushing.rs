//! What a client writes.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use sealift::layout::Layout;
use sealift::oci::{Descriptor, Digest, MediaType};
use sealift::serve::Service;

use super::harness::{Registry, args, files, index, layer, manifest, sample_layout};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skopeo_pushes_an_index_and_the_layout_then_names_the_image_only() {
    let dir = tempfile::tempdir().unwrap();
    let (source, served) = (dir.path().join("source"), dir.path().join("served"));
    let manifests = sample_layout(&source);
    let index = index(&[&manifests[0], &manifests[1]]);
    let layout = Layout::open(&source).unwrap();
    layout.add_blob(&mut &index[..], Digest::of(&index)).unwrap();
    let descriptor = Descriptor {
        media_type: MediaType::new(MediaType::OCI_INDEX),
        digest: Digest::of(&index),
        size: index.len() as u64,
        platform: None,
        artifact_type: None,
        annotations: None,
    };
    layout.tag("multi:1".parse().unwrap(), descriptor).unwrap();

    let registry = Registry::writable(&served).await;
    let from = format!("oci:{}:multi:1", source.display());
    let copy =
        args(&["copy", "--all", "--preserve-digests", "--dest-tls-verify=false", &from, &registry.docker("multi:1")]);
    registry.skopeo_done(&copy).await;
    let names: Vec<String> =
        Layout::open(&served).unwrap().listing().unwrap().images.iter().map(|i| i.name.to_string()).collect();
    assert_eq!(names, ["multi:1"]);
    let child = format!("/v2/multi/manifests/{}", Digest::of(&manifests[0]));
    assert_eq!(registry.get(&child).await.body, manifests[0], "a child is reached by its digest");
    let answer = registry.get(&format!("/v2/other/manifests/{}", Digest::of(&manifests[0]))).await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "NAME_UNKNOWN"));
    let answer = registry.ask(Method::DELETE, &child, &[], "").await;
    assert_eq!(answer.status, 405, "an index needs it");
    registry.stop().await;
}

#[tokio::test]
async fn a_chunked_upload_goes_on_only_where_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::writable(dir.path()).await;
    let session = registry.start_upload("a/b").await;
    let patch = async |range: &str, bytes: &'static str| {
        registry.ask(Method::PATCH, &session, &[("content-range", range)], bytes).await
    };
    let answer = patch("0-4", "hello").await;
    assert_eq!((answer.status, answer.header("range")), (202, "0-4"), "{}", answer.text());
    for wrong in ["0-4", "6-10", "4-8"] {
        let answer = patch(wrong, "again").await;
        assert_eq!((answer.status, answer.header("range")), (416, "0-4"), "{wrong}");
        assert_eq!(answer.code(), "BLOB_UPLOAD_INVALID");
        assert_eq!(answer.header("location"), session);
    }
    assert_eq!(patch("bytes 5-9/10", "again").await.status, 400);
    assert_eq!(patch("5-10", "again").await.status, 400, "lengths differ");
    let status = registry.get(&session).await;
    assert_eq!((status.status, status.header("range"), status.header("location")), (204, "0-4", session.as_str()));
    assert_eq!(registry.get(&session.replace("/a/b/", "/a/c/")).await.status, 404, "of another repository");
    let answer = registry.ask(Method::PATCH, &session, &[], " wor").await;
    assert_eq!((answer.status, answer.header("range")), (202, "0-8"), "a stream without a range is appended");
    let digest = Digest::of(b"hello world");
    let wrong_place =
        registry.ask(Method::PUT, &format!("{session}?digest={digest}"), &[("content-range", "8-9")], "ld").await;
    assert_eq!(wrong_place.status, 416);
    let done =
        registry.ask(Method::PUT, &format!("{session}?digest={digest}"), &[("content-range", "9-10")], "ld").await;
    assert_eq!(done.status, 201, "{}", done.text());
    assert_eq!(done.header("docker-content-digest"), digest.to_string());
    assert_eq!(registry.get(done.header("location")).await.body, b"hello world");
    assert_eq!(registry.get(&session).await.code(), "BLOB_UPLOAD_UNKNOWN");
    registry.stop().await;
}

#[tokio::test]
async fn a_digest_mismatch_or_a_given_up_upload_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::writable(dir.path()).await;
    let before = files(dir.path());
    let wrong = Digest::of(b"something else");

    let session = registry.start_upload("a").await;
    assert_eq!(registry.ask(Method::PUT, &session, &[], "bytes").await.code(), "DIGEST_INVALID", "no digest given");
    assert_eq!(registry.ask(Method::PUT, &format!("{session}?digest=sha512:00"), &[], "").await.status, 400);
    let answer = registry.ask(Method::PUT, &format!("{session}?digest={wrong}"), &[], "bytes").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "DIGEST_INVALID"));
    assert_eq!(registry.get(&session).await.status, 404, "the session is over");

    let post = format!("/v2/a/blobs/uploads/?digest={wrong}");
    assert_eq!(registry.ask(Method::POST, &post, &[], "bytes").await.code(), "DIGEST_INVALID");

    let session = registry.start_upload("a").await;
    assert_eq!(registry.ask(Method::PATCH, &session, &[], "some").await.status, 202);
    assert_ne!(files(dir.path()), before);
    assert_eq!(registry.ask(Method::DELETE, &session, &[], "").await.status, 204);
    assert_eq!(files(dir.path()), before);
    assert_eq!(registry.get(&format!("/v2/a/blobs/{wrong}")).await.code(), "BLOB_UNKNOWN");
    registry.stop().await;
}

#[tokio::test]
async fn an_upload_that_is_cut_off_goes_on_where_it_was_cut() {
    use tokio::io::AsyncWriteExt;
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::writable(dir.path()).await;
    let session = registry.start_upload("a").await;
    let mut stream = tokio::net::TcpStream::connect(registry.address).await.unwrap();
    let head = format!("PATCH {session} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhello");
    stream.write_all(head.as_bytes()).await.unwrap();
    let stands_at = async |range: &str| {
        for _ in 0..200 {
            if registry.get(&session).await.header("range") == range {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the upload does not stand at {range}");
    };
    stands_at("0-4").await;
    drop(stream);
    let mut last = 0;
    for _ in 0..200 {
        let answer = registry.ask(Method::PATCH, &session, &[("content-range", "5-5")], "!").await;
        last = answer.status;
        if last != 409 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(last, 202);
    let digest = Digest::of(b"hello!");
    assert_eq!(registry.ask(Method::PUT, &format!("{session}?digest={digest}"), &[], "").await.status, 201);
    registry.stop().await;
}

#[tokio::test]
async fn blobs_are_mounted_when_the_store_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::writable(dir.path()).await;
    let digest = registry.push_blob("a", b"layer").await;
    let mount = |digest: Digest| format!("/v2/b/blobs/uploads/?mount={digest}&from=a");
    let answer = registry.ask(Method::POST, &mount(digest), &[], "").await;
    assert_eq!((answer.status, answer.header("location")), (201, format!("/v2/b/blobs/{digest}").as_str()));
    let answer = registry.ask(Method::POST, &mount(Digest::of(b"absent")), &[], "").await;
    assert_eq!(answer.status, 202);
    assert!(answer.header("location").starts_with("/v2/b/blobs/uploads/"));
    registry.stop().await;
}

#[tokio::test]
async fn a_manifest_is_taken_only_when_it_is_strict_and_its_blobs_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::writable(dir.path()).await;
    let (layer, config) = (layer("x"), b"{}");
    let good = manifest(config, &layer, "");
    let put = async |reference: &str, bytes: &[u8]| {
        registry.put_manifest(&format!("/v2/a/manifests/{reference}"), MediaType::OCI_MANIFEST, bytes).await
    };
    registry.push_blob("a", config).await;
    let answer = put("1", &good).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "MANIFEST_BLOB_UNKNOWN"));
    registry.push_blob("a", &layer).await;
    let lied = String::from_utf8(good.clone()).unwrap().replace(&format!("\"size\": {}", layer.len()), "\"size\": 7");
    assert_eq!(put("1", lied.as_bytes()).await.code(), "MANIFEST_INVALID");
    assert_eq!(put("1", b"{}").await.code(), "MANIFEST_INVALID");
    assert_eq!(put("1", &manifest(config, &layer, ", \"LAYERS\": []")).await.code(), "MANIFEST_INVALID");
    assert_eq!(put(&Digest::of(b"other").to_string(), &good).await.code(), "DIGEST_INVALID");
    assert_eq!(put("1", &vec![b' '; 5 << 20]).await.status, 413);
    assert_eq!(registry.get("/v2/a/tags/list").await.code(), "NAME_UNKNOWN", "nothing has landed");
    let answer = put("1", &good).await;
    assert_eq!((answer.status, answer.header("docker-content-digest")), (201, Digest::of(&good).to_string().as_str()));
    assert_eq!(registry.get(answer.header("location")).await.body, good);
    registry.stop().await;
}

#[tokio::test]
async fn sparse_indexes_are_taken_unless_forbidden() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Arc::new(Layout::create(dir.path()).unwrap());
    let (layer, config) = (layer("x"), b"{}");
    let child = manifest(config, &layer, "");
    let whole = index(&[&child]);
    let sparse = index(&[&child, b"not there"]);
    for (allowed, status) in [(false, 400), (true, 201)] {
        let service = Service::writable(layout.clone()).unwrap().sparse_indexes(allowed);
        let registry = Registry::start(service.router()).await;
        registry.push_blob("a", config).await;
        registry.push_blob("a", &layer).await;
        let put = async |path: &str, kind: &str, bytes: &[u8]| registry.put_manifest(path, kind, bytes).await;
        let path = format!("/v2/a/manifests/{}", Digest::of(&child));
        assert_eq!(put(&path, MediaType::OCI_MANIFEST, &child).await.status, 201);
        assert_eq!(put("/v2/a/manifests/whole", MediaType::OCI_INDEX, &whole).await.status, 201);
        let answer = put("/v2/a/manifests/sparse", MediaType::OCI_INDEX, &sparse).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        registry.stop().await;
    }
}

#[tokio::test]
async fn a_moved_or_deleted_tag_leaves_its_manifest_until_that_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::writable(dir.path()).await;
    let (layer, config) = (layer("x"), b"{}");
    registry.push_blob("a", config).await;
    registry.push_blob("a", &layer).await;
    let (old, new) = (manifest(config, &layer, ""), manifest(config, &layer, ", \"y\": 1"));
    let at = |bytes: &[u8]| format!("/v2/a/manifests/{}", Digest::of(bytes));
    let delete = async |path: &str| registry.ask(Method::DELETE, path, &[], "").await.status;
    for bytes in [&old, &new] {
        assert_eq!(registry.put_manifest("/v2/a/manifests/1", MediaType::OCI_MANIFEST, bytes).await.status, 201);
    }
    assert_eq!(registry.get("/v2/a/manifests/1").await.body, new);
    assert_eq!(registry.get(&at(&old)).await.body, old);
    assert_eq!(delete("/v2/a/manifests/1").await, 202);
    assert_eq!(registry.get("/v2/a/manifests/1").await.status, 404);
    assert_eq!(registry.get("/v2/a/tags/list").await.json()["tags"], serde_json::json!([]));
    assert_eq!(registry.get(&at(&new)).await.status, 200);
    assert_eq!(registry.put_manifest("/v2/a/manifests/2", MediaType::OCI_MANIFEST, &new).await.status, 201);
    assert_eq!(delete(&at(&new)).await, 202);
    assert_eq!(registry.get("/v2/a/manifests/2").await.status, 404, "its tags go with it");
    assert_eq!(delete(&at(&new)).await, 404);
    assert_eq!(delete(&at(&old)).await, 202);
    assert_eq!(registry.get("/v2/a/tags/list").await.code(), "NAME_UNKNOWN");
    registry.stop().await;
}

#[tokio::test]
async fn at_most_a_thousand_uploads_are_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::writable(dir.path()).await;
    let mut session = String::new();
    for _ in 0..1000 {
        session = registry.start_upload("a").await;
    }
    let answer = registry.ask(Method::POST, "/v2/a/blobs/uploads/", &[], "").await;
    assert_eq!((answer.status, answer.code().as_str()), (429, "TOOMANYREQUESTS"));
    assert_eq!(registry.ask(Method::DELETE, &session, &[], "").await.status, 204);
    registry.start_upload("a").await;
    registry.stop().await;
    let left: Vec<String> = files(dir.path()).into_iter().filter(|file| file.starts_with(".upload")).collect();
    assert!(left.is_empty(), "{} files are left", left.len());
}

/// `VmHWM` of this process in KiB: nextest gives each test a process of its own.
#[cfg(target_os = "linux")]
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Takes two gigabytes of disk: run it with `--run-ignored all`.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes 2 GiB of disk"]
async fn two_gibibytes_pass_in_both_directions_within_64_mib() {
    use futures_util::StreamExt;
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::writable(dir.path()).await;
    let chunk = bytes::Bytes::from(vec![42_u8; 1 << 20]);
    let mut hasher = sealift::oci::Hasher::default();
    (0..2048).for_each(|_| hasher.update(&chunk));
    let digest = hasher.finish();
    let session = registry.start_upload("a").await;
    let stream = futures_util::stream::iter((0..2048).map(move |_| Ok::<_, std::io::Error>(chunk.clone())));
    let url = registry.url(&format!("{session}?digest={digest}"));
    let answer = registry.client.put(url).body(reqwest::Body::wrap_stream(stream)).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 201);
    let answer = registry.client.get(registry.url(&format!("/v2/a/blobs/{digest}"))).send().await.unwrap();
    let mut hasher = sealift::oci::Hasher::default();
    let mut body = answer.bytes_stream();
    while let Some(chunk) = body.next().await {
        hasher.update(&chunk.unwrap());
    }
    assert_eq!(hasher.finish(), digest);
    let peak = peak_memory();
    assert!(peak < 64 << 10, "{peak} KiB, client and server together");
    registry.stop().await;
}
