//! The embedded registry against real clients: skopeo, and HTTP by hand where a client would be too well behaved.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use reqwest::Method;
use reqwest::header::HeaderMap;
use sealift::layout::Layout;
use sealift::oci::{Digest, MediaType};
use sealift::serve::{Service, serve};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A registry on a free port of this machine.
struct Registry {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<sealift::Result<()>>,
    client: reqwest::Client,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Registry {
    async fn start(router: Router) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve(listener, router, shutdown.clone()));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(120)).build().unwrap();
        Registry { address, shutdown, task, client }
    }

    async fn writable(path: &Path) -> Self {
        Registry::start(Service::writable(Arc::new(Layout::create(path).unwrap())).unwrap().router()).await
    }

    async fn read_only(path: &Path) -> Self {
        Registry::start(Service::new(Arc::new(Layout::open(path).unwrap())).router()).await
    }

    async fn stop(self) {
        self.shutdown.cancel();
        drop(self.client);
        tokio::time::timeout(Duration::from_secs(15), self.task).await.unwrap().unwrap().unwrap();
    }

    fn url(&self, path: &str) -> String {
        if path.starts_with("http") { path.to_owned() } else { format!("http://{}{path}", self.address) }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let mut request = self.client.request(method, self.url(path)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, body: response.bytes().await.unwrap().to_vec() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], "").await
    }

    async fn put_manifest(&self, path: &str, media_type: &str, bytes: &[u8]) -> Answer {
        self.ask(Method::PUT, path, &[("content-type", media_type)], bytes.to_vec()).await
    }

    async fn push_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let answer = self.ask(Method::POST, &path, &[], bytes.to_vec()).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        digest
    }

    /// A session's path.
    async fn start_upload(&self, repository: &str) -> String {
        let answer = self.ask(Method::POST, &format!("/v2/{repository}/blobs/uploads/"), &[], "").await;
        assert_eq!(answer.status, 202);
        answer.header("location").to_owned()
    }

    /// skopeo against this registry, off the thread that serves it.
    async fn skopeo(&self, args: &[String]) -> Output {
        let args = args.to_vec();
        tokio::task::spawn_blocking(move || {
            Command::new("timeout").arg("60").arg("skopeo").arg("--insecure-policy").args(args).output().unwrap()
        })
        .await
        .unwrap()
    }

    async fn skopeo_done(&self, args: &[String]) -> String {
        let output = self.skopeo(args).await;
        assert!(output.status.success(), "skopeo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn docker(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.address)
    }
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}

fn args(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// A manifest with one config and one layer, as another tool would write it: not canonical, with unknown fields.
fn manifest(config: &[u8], layer: &[u8], extra: &str) -> Vec<u8> {
    format!(
        "{{\n  \"schemaVersion\": 2, \"mediaType\": \"{}\",\n  \"config\": {{\"mediaType\": \"application/vnd.oci.image.config.v1+json\", \"digest\": \"{}\", \"size\": {}}},\n  \"layers\": [ {{\"mediaType\": \"application/vnd.oci.image.layer.v1.tar\", \"digest\": \"{}\", \"size\": {}}} ], \"x-unknown\": [1]{extra}\n}}\n",
        MediaType::OCI_MANIFEST,
        Digest::of(config),
        config.len(),
        Digest::of(layer),
        layer.len(),
    )
    .into_bytes()
}

fn index(children: &[&[u8]]) -> Vec<u8> {
    let children: Vec<_> = children
        .iter()
        .map(|child| {
            serde_json::json!({"mediaType": MediaType::OCI_MANIFEST, "digest": Digest::of(child), "size": child.len(),
                "platform": {"os": "linux", "architecture": "amd64"}})
        })
        .collect();
    serde_json::to_vec(
        &serde_json::json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": children}),
    )
    .unwrap()
}

fn layer(text: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append_data(&mut header, "etc/motd", text.as_bytes()).unwrap();
    builder.into_inner().unwrap()
}

fn config(layer: &[u8]) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(layer)]}}))
    .unwrap()
}

/// Two images in a layout, as another program would leave them; gives their manifests.
fn sample_layout(path: &Path) -> Vec<Vec<u8>> {
    let layout = Layout::create(path).unwrap();
    [("ns/app:1", "one"), ("ns/deep/er:2", "two")]
        .map(|(name, text)| {
            let layer = layer(text);
            let config = config(&layer);
            let manifest = manifest(&config, &layer, "");
            for bytes in [&layer, &config, &manifest] {
                layout.add_blob(&mut &bytes[..], Digest::of(bytes)).unwrap();
            }
            let document = layout.document(Digest::of(&manifest), &MediaType::new("")).unwrap();
            let descriptor = sealift::oci::Descriptor {
                media_type: document.media_type().clone(),
                digest: document.digest(),
                size: document.size(),
                platform: None,
                artifact_type: None,
                annotations: None,
            };
            layout.tag(name.parse().unwrap(), descriptor).unwrap();
            manifest
        })
        .to_vec()
}

fn files(path: &Path) -> Vec<String> {
    let mut files: Vec<String> = walkdir::WalkDir::new(path)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| entry.path().strip_prefix(path).unwrap().display().to_string())
        .collect();
    files.sort();
    files
}

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skopeo_pushes_an_index_and_the_layout_then_names_the_image_only() {
    let dir = tempfile::tempdir().unwrap();
    let (source, served) = (dir.path().join("source"), dir.path().join("served"));
    let manifests = sample_layout(&source);
    let index = index(&[&manifests[0], &manifests[1]]);
    let layout = Layout::open(&source).unwrap();
    layout.add_blob(&mut &index[..], Digest::of(&index)).unwrap();
    let descriptor = sealift::oci::Descriptor {
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
