//! What a client reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use reqwest::Method;
use sealift::layout::Layout;
use sealift::oci::{Digest, MediaType};
use sealift::serve::Service;

use super::harness::{Registry, args, files, layer, manifest, sample_layout};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skopeo_copies_in_and_out_and_every_byte_is_the_same_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (source, served, back) = (dir.path().join("source"), dir.path().join("served"), dir.path().join("back"));
    let manifests = sample_layout(&source);
    let registry = Registry::writable(&served).await;
    for (name, to) in [("ns/app:1", "ns/app:1"), ("ns/deep/er:2", "ns/app:2")] {
        let from = format!("oci:{}:{name}", source.display());
        let copy = args(&["copy", "--preserve-digests", "--dest-tls-verify=false", &from, &registry.docker(to)]);
        registry.skopeo_done(&copy).await;
    }
    registry.stop().await;

    let registry = Registry::read_only(&served).await;
    let tags = registry.skopeo_done(&args(&["list-tags", "--tls-verify=false", &registry.docker("ns/app")])).await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&tags).unwrap()["Tags"], serde_json::json!(["1", "2"]));
    let raw =
        registry.skopeo_done(&args(&["inspect", "--raw", "--tls-verify=false", &registry.docker("ns/app:2")])).await;
    assert_eq!(raw.as_bytes(), manifests[1]);
    let to = format!("oci:{}:ns/app:1", back.display());
    let copy = args(&["copy", "--preserve-digests", "--src-tls-verify=false", &registry.docker("ns/app:1"), &to]);
    registry.skopeo_done(&copy).await;
    registry.stop().await;
    for file in files(&back).into_iter().filter(|file| file.starts_with("blobs")) {
        assert_eq!(std::fs::read(back.join(&file)).unwrap(), std::fs::read(source.join(&file)).unwrap());
    }
    let layout = Layout::open(&back).unwrap();
    assert_eq!(layout.document(Digest::of(&manifests[0]), &MediaType::new("")).unwrap().bytes(), &manifests[0][..]);
    assert!(files(&served).iter().all(|file| !file.starts_with(".upload")), "{:?}", files(&served));
}

#[tokio::test]
async fn manifests_come_with_their_exact_bytes_and_headers_and_head_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let manifests = sample_layout(dir.path());
    let registry = Registry::read_only(dir.path()).await;
    let digest = Digest::of(&manifests[0]).to_string();
    for path in ["/v2/ns/app/manifests/1".to_owned(), format!("/v2/ns/app/manifests/{digest}")] {
        let answer = registry.ask(Method::GET, &path, &[("accept", "application/nothing")], "").await;
        assert_eq!((answer.status, &answer.body), (200, &manifests[0]));
        assert_eq!(answer.header("content-type"), MediaType::OCI_MANIFEST);
        assert_eq!(answer.header("docker-content-digest"), digest);
        assert_eq!(answer.header("etag"), format!("\"{digest}\""));
        assert_eq!(answer.header("content-length"), manifests[0].len().to_string());
    }
    let layer = Digest::of(&layer("one"));
    for path in [
        "/v2/",
        "/v2",
        "/v2/_catalog",
        "/v2/_catalog?n=1",
        "/v2/ns/app/manifests/1",
        "/v2/ns/app/manifests/none",
        "/v2/none/manifests/1",
        "/v2/ns/app/tags/list",
        "/v2/none/tags/list",
        &format!("/v2/ns/app/blobs/{layer}"),
        &format!("/v2/ns/app/blobs/{}", Digest::of(b"absent")),
        &format!("/v2/ns/app/referrers/{layer}"),
    ] {
        let (get, head) = (registry.get(path).await, registry.ask(Method::HEAD, path, &[], "").await);
        assert!(head.body.is_empty());
        assert_eq!(get.status, head.status, "{path}");
        for name in ["content-length", "content-type", "docker-content-digest", "etag", "link"] {
            assert_eq!(get.header(name), head.header(name), "{name} of {path}");
        }
        assert_eq!(get.header("content-length"), get.body.len().to_string(), "{path}");
        assert_eq!(get.header("docker-distribution-api-version"), "registry/2.0");
    }
    registry.stop().await;
}

#[tokio::test]
async fn ranges_give_exactly_that_part() {
    let dir = tempfile::tempdir().unwrap();
    // More than one chunk of the server, and not a multiple of it.
    let bytes: Vec<u8> = (0..700_001_u32).map(|n| (n * 7 / 3) as u8).collect();
    let layout = Layout::create(dir.path()).unwrap();
    let digest = Digest::of(&bytes);
    layout.add_blob(&mut &bytes[..], digest).unwrap();
    let registry = Registry::read_only(dir.path()).await;
    let path = format!("/v2/a/blobs/{digest}");
    let range = async |text: &str| registry.ask(Method::GET, &path, &[("range", text)], "").await;

    assert_eq!(registry.get(&path).await.body, bytes);
    for (text, part) in
        [("bytes=5-", 5..700_001), ("bytes=262143-262145", 262_143..262_146), ("bytes=-3", 699_998..700_001)]
    {
        let answer = range(text).await;
        assert_eq!(answer.status, 206);
        assert_eq!(answer.header("content-range"), format!("bytes {}-{}/700001", part.start, part.end - 1));
        assert_eq!(answer.header("content-length"), part.len().to_string());
        assert!(answer.body == bytes[part], "{text}");
    }
    let answer = range("bytes=700001-").await;
    assert_eq!((answer.status, answer.header("content-range")), (416, "bytes */700001"));
    assert_eq!(range("bytes=1-2,4-5").await.status, 200);
    let other = [("range", "bytes=5-"), ("if-range", "\"other\"")];
    assert_eq!(registry.ask(Method::GET, &path, &other, "").await.status, 200);
    assert_eq!(registry.ask(Method::HEAD, &path, &[("range", "bytes=5-")], "").await.status, 200);
    registry.stop().await;
}

#[tokio::test]
async fn following_links_gives_every_tag_and_repository_once() {
    let dir = tempfile::tempdir().unwrap();
    sample_layout(dir.path());
    let layout = Layout::open(dir.path()).unwrap();
    let descriptor = layout.listing().unwrap().images[0].descriptor.clone();
    for tag in ["b", "a", "B", "10", "9"] {
        layout.tag(format!("ns/app:{tag}").parse().unwrap(), descriptor.clone()).unwrap();
    }
    let registry = Registry::read_only(dir.path()).await;
    let pages = async |first: &str, key: &str| {
        let (mut all, mut next, mut pages) = (Vec::new(), first.to_owned(), 0);
        loop {
            let answer = registry.get(&next).await;
            all.extend(answer.json()[key].as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()));
            pages += 1;
            assert!(pages < 10);
            match answer.header("link").strip_prefix('<').and_then(|link| link.split_once(">; rel=\"next\"")) {
                Some((link, "")) => next = link.to_owned(),
                _ => return (all, pages),
            }
        }
    };
    let sorted = ["1", "10", "9", "B", "a", "b"].map(str::to_owned).to_vec();
    assert_eq!(pages("/v2/ns/app/tags/list", "tags").await, (sorted.clone(), 1));
    assert_eq!(pages("/v2/ns/app/tags/list?n=2", "tags").await, (sorted.clone(), 3));
    assert_eq!(pages("/v2/ns/app/tags/list?n=4&last=10", "tags").await, (sorted[2..].to_vec(), 1));
    assert_eq!(pages("/v2/ns/app/tags/list?n=0", "tags").await, (Vec::new(), 1));
    assert_eq!(pages("/v2/_catalog?n=1", "repositories").await, (vec!["ns/app".into(), "ns/deep/er".into()], 2));
    assert_eq!(registry.get("/v2/ns/app/tags/list?n=-1").await.status, 400);
    registry.stop().await;
}

#[tokio::test]
async fn referrers_are_listed_with_type_and_annotations_and_can_be_filtered() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::writable(dir.path()).await;
    registry.push_blob("a", b"{}").await;
    registry.push_blob("a", b"sig").await;
    let subject = Digest::of(b"a subject that is not here");
    let about = format!(
        ", \"subject\": {{\"mediaType\": \"{}\", \"digest\": \"{subject}\", \"size\": 7}}, \"annotations\": {{\"k\": \"v\"}}",
        MediaType::OCI_MANIFEST
    );
    let signature = manifest(b"{}", b"sig", &format!("{about}, \"artifactType\": \"application/x-sig\""));
    let plain = manifest(b"{}", b"sig", &about);
    for bytes in [&signature, &plain] {
        let path = format!("/v2/a/manifests/{}", Digest::of(bytes));
        let answer = registry.put_manifest(&path, MediaType::OCI_MANIFEST, bytes).await;
        assert_eq!((answer.status, answer.header("oci-subject")), (201, subject.to_string().as_str()));
    }
    let path = format!("/v2/a/referrers/{subject}");
    let answer = registry.get(&path).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, MediaType::OCI_INDEX));
    assert_eq!(answer.json()["manifests"].as_array().unwrap().len(), 2);
    let answer = registry.get(&format!("{path}?artifactType=application%2Fx-sig")).await;
    assert_eq!(answer.header("oci-filters-applied"), "artifactType");
    assert_eq!(
        answer.json()["manifests"],
        serde_json::json!([{"mediaType": MediaType::OCI_MANIFEST, "digest": Digest::of(&signature), "size": signature.len(),
            "artifactType": "application/x-sig", "annotations": {"k": "v"}}])
    );
    for path in [format!("/v2/none/referrers/{subject}"), format!("/v2/a/referrers/{}", Digest::of(b"none"))] {
        let answer = registry.get(&path).await;
        assert_eq!((answer.status, answer.json()["manifests"].as_array().unwrap().len()), (200, 0));
    }
    registry.stop().await;
}

#[tokio::test]
async fn paths_that_leave_the_store_are_refused() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let dir = tempfile::tempdir().unwrap();
    sample_layout(&dir.path().join("served"));
    std::fs::write(dir.path().join("secret"), "top secret").unwrap();
    let registry = Registry::read_only(&dir.path().join("served")).await;
    // By hand: a client would tidy the paths.
    for path in [
        "/v2/../secret",
        "/v2/../../secret/manifests/1",
        "/v2/a/blobs/../../../secret",
        "/v2/a/blobs/sha256:../../../secret",
        "/v2/a/blobs/sha256:..%2F..%2F..%2Fsecret",
        "/v2/a/blobs/sha256%3A..%2f..%2f..%2fsecret",
        "/v2/%2e%2e/%2e%2e/secret/manifests/1",
        "/v2/..%2fsecret/tags/list",
        "/v2/a/manifests/..%2f..%2fsecret",
        "/v2/a/manifests/%00",
        "/v2/a/manifests/%ff",
        "/v2//etc/passwd/blobs/x",
    ] {
        let mut stream = tokio::net::TcpStream::connect(registry.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        assert!(!answer.contains("top secret"));
        assert!(answer.contains("\"errors\""), "{path}: {answer}");
    }
    registry.stop().await;
}

#[tokio::test]
async fn a_read_only_registry_answers_every_write_with_405() {
    let dir = tempfile::tempdir().unwrap();
    let manifests = sample_layout(dir.path());
    let before = files(dir.path());
    let registry = Registry::read_only(dir.path()).await;
    let digest = Digest::of(&manifests[0]);
    for (method, path) in [
        (Method::POST, "/v2/a/blobs/uploads/".to_owned()),
        (Method::POST, format!("/v2/a/blobs/uploads/?digest={digest}")),
        (Method::PATCH, "/v2/a/blobs/uploads/1".into()),
        (Method::PUT, "/v2/a/blobs/uploads/1".into()),
        (Method::PUT, "/v2/ns/app/manifests/3".into()),
        (Method::DELETE, "/v2/ns/app/manifests/1".into()),
        (Method::DELETE, format!("/v2/ns/app/blobs/{digest}")),
        (Method::POST, "/v2/".into()),
    ] {
        let answer = registry.ask(method.clone(), &path, &[], manifests[0].clone()).await;
        assert_eq!((answer.status, answer.code().as_str()), (405, "UNSUPPORTED"), "{method} {path}");
    }
    assert_eq!(files(dir.path()), before);
    registry.stop().await;
}

#[tokio::test]
async fn a_sealed_bundle_is_served_and_cannot_be_made_writable() {
    let dir = tempfile::tempdir().unwrap();
    let manifests = sample_layout(dir.path());
    std::fs::write(dir.path().join("SHA256SUMS"), "").unwrap();
    let layout = Arc::new(Layout::open(dir.path()).unwrap());
    assert!(Service::writable(layout).is_err());
    let registry = Registry::read_only(dir.path()).await;
    assert_eq!(registry.get("/v2/ns/app/manifests/1").await.body, manifests[0]);
    registry.stop().await;
}

#[tokio::test]
async fn damaged_content_is_never_answered_whole() {
    let dir = tempfile::tempdir().unwrap();
    let manifests = sample_layout(dir.path());
    let blob = |digest: Digest| dir.path().join("blobs/sha256").join(digest.hex());
    std::fs::write(blob(Digest::of(&manifests[0])), b"{\"schemaVersion\": 2}").unwrap();
    let registry = Registry::read_only(dir.path()).await;
    let answer = registry.get("/v2/ns/app/manifests/1").await;
    assert_eq!(answer.status, 500);
    assert!(!answer.text().contains(dir.path().to_str().unwrap()), "no local path is told");
    let large = vec![7; 8 << 20];
    Layout::open(dir.path()).unwrap().add_blob(&mut &large[..], Digest::of(&large)).unwrap();
    let url = registry.url(&format!("/v2/a/blobs/{}", Digest::of(&large)));
    let response = registry.client.get(url).send().await.unwrap();
    std::fs::File::options().write(true).open(blob(Digest::of(&large))).unwrap().set_len(6 << 20).unwrap();
    assert!(response.bytes().await.is_err(), "a blob that shrinks while it is read fails the body");

    let (mut changed, digest) = (vec![9; 1 << 20], Digest::of(&vec![9; 1 << 20]));
    Layout::open(dir.path()).unwrap().add_blob(&mut &changed[..], digest).unwrap();
    changed[500_000] = 8;
    std::fs::write(blob(digest), &changed).unwrap();
    for range in ["bytes=0-9", "bytes=499999-500001", "bytes=500000-", "bytes=-9", "bytes=0-"] {
        let request = registry.client.get(registry.url(&format!("/v2/a/blobs/{digest}"))).header("range", range);
        let complete = async { request.send().await?.bytes().await };
        assert!(complete.await.is_err(), "{range} of a blob with a changed byte");
    }
    registry.stop().await;
}

#[tokio::test]
async fn a_layer_around_the_router_sees_every_request_and_can_fail_it() {
    let dir = tempfile::tempdir().unwrap();
    sample_layout(dir.path());
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let router = Service::new(Arc::new(Layout::open(dir.path()).unwrap())).router().layer(axum::middleware::from_fn(
        move |request: Request, next: Next| {
            let counter = counter.clone();
            async move {
                if counter.fetch_add(1, Ordering::SeqCst) == 0 {
                    return axum::response::IntoResponse::into_response(StatusCode::SERVICE_UNAVAILABLE);
                }
                next.run(request).await
            }
        },
    ));
    let registry = Registry::start(router).await;
    assert_eq!(registry.get("/v2/").await.status, 503);
    assert_eq!(registry.get("/v2/").await.status, 200);
    assert_eq!(count.load(Ordering::SeqCst), 2);
    registry.stop().await;
}
