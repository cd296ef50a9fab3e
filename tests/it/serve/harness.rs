//! A registry on a free port, and images to put into it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use reqwest::Method;
use reqwest::header::HeaderMap;
use sealift::layout::Layout;
use sealift::oci::{Descriptor, Digest, MediaType};
use sealift::serve::{Service, serve};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A registry on a free port of this machine.
pub(crate) struct Registry {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<sealift::Result<()>>,
    pub(crate) client: reqwest::Client,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Registry {
    pub(crate) async fn start(router: Router) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve(listener, router, shutdown.clone()));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(120)).build().unwrap();
        Registry { address, shutdown, task, client }
    }

    pub(crate) async fn writable(path: &Path) -> Self {
        Registry::start(Service::writable(Arc::new(Layout::create(path).unwrap())).unwrap().router()).await
    }

    pub(crate) async fn read_only(path: &Path) -> Self {
        Registry::start(Service::new(Arc::new(Layout::open(path).unwrap())).router()).await
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        drop(self.client);
        tokio::time::timeout(Duration::from_secs(15), self.task).await.unwrap().unwrap().unwrap();
    }

    pub(crate) fn url(&self, path: &str) -> String {
        if path.starts_with("http") { path.to_owned() } else { format!("http://{}{path}", self.address) }
    }

    pub(crate) async fn ask(
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

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], "").await
    }

    pub(crate) async fn put_manifest(&self, path: &str, media_type: &str, bytes: &[u8]) -> Answer {
        self.ask(Method::PUT, path, &[("content-type", media_type)], bytes.to_vec()).await
    }

    pub(crate) async fn push_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let answer = self.ask(Method::POST, &path, &[], bytes.to_vec()).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        digest
    }

    /// A session's path.
    pub(crate) async fn start_upload(&self, repository: &str) -> String {
        let answer = self.ask(Method::POST, &format!("/v2/{repository}/blobs/uploads/"), &[], "").await;
        assert_eq!(answer.status, 202);
        answer.header("location").to_owned()
    }

    /// skopeo against this registry, off the thread that serves it.
    pub(crate) async fn skopeo(&self, args: &[String]) -> Output {
        let args = args.to_vec();
        tokio::task::spawn_blocking(move || {
            Command::new("timeout").arg("60").arg("skopeo").arg("--insecure-policy").args(args).output().unwrap()
        })
        .await
        .unwrap()
    }

    pub(crate) async fn skopeo_done(&self, args: &[String]) -> String {
        let output = self.skopeo(args).await;
        assert!(output.status.success(), "skopeo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn docker(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.address)
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn args(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// A manifest with one config and one layer, as another tool would write it: not canonical, with unknown fields.
pub(crate) fn manifest(config: &[u8], layer: &[u8], extra: &str) -> Vec<u8> {
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

pub(crate) fn index(children: &[&[u8]]) -> Vec<u8> {
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

pub(crate) fn layer(text: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append_data(&mut header, "etc/motd", text.as_bytes()).unwrap();
    builder.into_inner().unwrap()
}

pub(crate) fn config(layer: &[u8]) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(layer)]}}))
    .unwrap()
}

/// Two images in a layout, as another program would leave them; gives their manifests.
pub(crate) fn sample_layout(path: &Path) -> Vec<Vec<u8>> {
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
            let descriptor = Descriptor {
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

pub(crate) fn files(path: &Path) -> Vec<String> {
    let mut files: Vec<String> = walkdir::WalkDir::new(path)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| entry.path().strip_prefix(path).unwrap().display().to_string())
        .collect();
    files.sort();
    files
}
