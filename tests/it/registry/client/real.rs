//! Debian's `docker-registry` as both ends.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sealift::content::{
    BlobId, BlobStatus, Catalog, Destination, MountOutcome, PutBlob, PutManifest, RepositoryId, Source,
};
use sealift::error::Kind;
use sealift::oci::{Digest, Selector};
use sealift::registry::{Client, RegistryDestination, Settings, Tls};

use super::content::{Image, LAYER, client, host, image, noise, read};

/// A running registry; ends with the test.
struct Registry {
    process: Child,
    port: u16,
    _storage: tempfile::TempDir,
}

impl Registry {
    fn start() -> Registry {
        Registry::with("", tempfile::tempdir().expect("a folder"))
    }

    /// With a certificate that nobody has signed but itself.
    fn start_tls() -> Registry {
        let storage = tempfile::tempdir().expect("a folder");
        let (key, certificate) = (storage.path().join("key.pem"), storage.path().join("certificate.pem"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .stderr(Stdio::null())
            .status();
        assert!(made.expect("openssl is installed").success());
        let tls = format!(", tls: {{certificate: {}, key: {}}}", certificate.display(), key.display());
        Registry::with(&tls, storage)
    }

    fn with(tls: &str, storage: tempfile::TempDir) -> Registry {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let config = storage.path().join("config.yml");
        let mut file = std::fs::File::create(&config).expect("a file");
        write!(
            file,
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\nhttp: {{addr: '127.0.0.1:{port}', secret: test{tls}}}\n",
            storage.path().join("data").display()
        )
        .expect("written");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed");
        let registry = Registry { process, port, _storage: storage };
        let end = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "docker-registry does not come up");
            std::thread::sleep(Duration::from_millis(50));
        }
        registry
    }

    fn at(&self, repository: &str) -> String {
        format!("127.0.0.1:{}/{repository}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn push(registry: &RegistryDestination, image: &Image, scope: RepositoryId) {
    let contents = &image.contents;
    registry.prepare(contents).await.expect("reachable");
    for blob in contents.blob_ids() {
        let put = async || registry.put_blob(contents, blob, scope, &mut image.body(blob)).await.expect("put");
        match registry.blob_status(contents, blob, scope).await.expect("asked") {
            BlobStatus::Absent => {
                assert_eq!(put().await, PutBlob::Uploaded);
                assert_eq!(registry.blob_status(contents, blob, scope).await.expect("asked"), BlobStatus::Present);
            }
            // A repository without tags is asked when it is sent something.
            BlobStatus::Unknown => {
                put().await;
                assert_eq!(put().await, PutBlob::AlreadyThere);
            }
            _ => {}
        }
    }
    for landing in contents.manifest_ids().filter(|id| contents.manifest(*id).scope == scope) {
        registry.put_manifest(contents, landing).await.expect("landed");
    }
    registry.commit(contents).await.expect("nothing to do");
}

#[tokio::test]
async fn what_is_pushed_is_read_back_byte_for_byte_below_the_prefix() {
    let server = Registry::start();
    let (client, log) = client();
    let image = image(noise(5_000_000), &["ns/app:1"], &[server.at("pre/fix/ns/app")]);
    let registry = RegistryDestination::new(&client, &host(server.port), Some("pre/fix".parse().unwrap()));
    push(&registry, &image, RepositoryId(0)).await;

    let repository = "pre/fix/ns/app".parse().unwrap();
    let tag = Selector::Tag("1".parse().unwrap());
    let document = client.document(&host(server.port), &repository, &tag).await.unwrap();
    assert_eq!(document.bytes(), image.document.bytes());
    let by_digest = Selector::Digest(image.document.digest());
    client.document(&host(server.port), &repository, &by_digest).await.unwrap();
    for blob in image.contents.blob_ids() {
        let bytes = &image.blobs[&image.contents.blob(blob).digest];
        assert_eq!(read(client.open(&image.contents, blob, 0).await.unwrap()).await.unwrap(), *bytes);
        assert_eq!(read(client.open(&image.contents, blob, 50).await.unwrap()).await.unwrap(), bytes[50..]);
        assert_eq!(
            read(registry.read_back(&image.contents, blob, RepositoryId(0)).await.unwrap()).await.unwrap(),
            *bytes
        );
    }
    assert_eq!(client.referrers(&host(server.port), &repository, image.document.digest()).await.unwrap(), None);
    assert!(log.retries().is_empty(), "{:?}", log.retries());
}

#[tokio::test]
async fn a_blob_is_mounted_from_one_repository_in_another() {
    let server = Registry::start();
    let (client, _) = client();
    let image = image(noise(100_000), &["a/app:1", "b/app:1"], &[]);
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    push(&registry, &image, RepositoryId(0)).await;
    // It was not told to find out which repositories are new.
    let asking = RegistryDestination::new(&client, &host(server.port), None);
    for blob in image.contents.blob_ids() {
        assert_eq!(registry.blob_status(&image.contents, blob, RepositoryId(1)).await.unwrap(), BlobStatus::Unknown);
        assert_eq!(asking.blob_status(&image.contents, blob, RepositoryId(1)).await.unwrap(), BlobStatus::Absent);
        assert_eq!(
            registry.mount_blob(&image.contents, blob, RepositoryId(0), RepositoryId(1)).await.unwrap(),
            MountOutcome::Done
        );
        assert_eq!(asking.blob_status(&image.contents, blob, RepositoryId(1)).await.unwrap(), BlobStatus::Present);
    }
    for landing in image.contents.manifest_ids() {
        registry.put_manifest(&image.contents, landing).await.expect("landed");
    }
}

#[tokio::test]
async fn a_mount_of_what_is_not_there_is_refused_and_no_error() {
    let server = Registry::start();
    let (client, _) = client();
    let image = image(noise(1000), &["a/app:1", "b/app:1"], &[]);
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    assert_eq!(
        registry.mount_blob(&image.contents, LAYER, RepositoryId(0), RepositoryId(1)).await.unwrap(),
        MountOutcome::Refused
    );
}

#[tokio::test]
async fn a_body_that_is_read_once_lands_in_pieces() {
    let server = Registry::start();
    let (client, log) = client();
    // Two whole pieces and a rest; exactly two pieces; less than one; nothing.
    for size in [20_000_000, 16 << 20, 1_000, 0] {
        let image = image(noise(size), &["ns/app:1"], &[server.at("ns/app")]);
        let registry = RegistryDestination::new(&client, &host(server.port), None);
        registry.put_blob(&image.contents, LAYER, RepositoryId(0), &mut image.once(LAYER)).await.unwrap();
        let back = read(client.open(&image.contents, LAYER, 0).await.unwrap()).await.unwrap();
        assert_eq!(Digest::of(&back), image.contents.blob(LAYER).digest);
        assert_eq!(registry.blob_status(&image.contents, LAYER, RepositoryId(0)).await.unwrap(), BlobStatus::Present);
    }
    assert!(log.retries().is_empty(), "{:?}", log.retries());
}

#[tokio::test]
async fn a_tls_registry_on_loopback_is_found_and_its_certificate_checked() {
    let server = Registry::start_tls();
    let image = image(noise(1000), &["ns/app:1"], &[]);
    let (verifying, log) = client();
    let error = RegistryDestination::new(&verifying, &host(server.port), None)
        .prepare(&image.contents)
        .await
        .expect_err("nobody trusts it");
    assert!(error.chain().contains("ertificate"), "{error:?}");
    assert!(error.hints()[0].contains("ca.crt"), "{error:?}");
    assert!(log.retries().is_empty());

    let trusting = Client::new(Settings { tls: Tls::Unverified, ..Settings::default() }).unwrap();
    push(&RegistryDestination::new(&trusting, &host(server.port), None), &image, RepositoryId(0)).await;
}

#[tokio::test]
async fn every_tag_is_listed_once() {
    let server = Registry::start();
    let (client, _) = client();
    let names: Vec<String> = (0..25).map(|n| format!("ns/app:t{n:02}")).collect();
    let image = image(noise(1000), &names.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    push(&RegistryDestination::new(&client, &host(server.port), None), &image, RepositoryId(0)).await;
    let tags = client.tags(&host(server.port), &"ns/app".parse().unwrap()).await.unwrap();
    let mut tags: Vec<_> = tags.iter().collect();
    tags.sort();
    assert_eq!(tags.iter().map(|tag| format!("ns/app:{tag}")).collect::<Vec<_>>(), names);
}

#[tokio::test]
async fn what_is_not_there_is_not_found_with_a_hint() {
    let server = Registry::start();
    let (client, _) = client();
    let (host, repository) = (host(server.port), "no/such".parse().unwrap());
    let errors = [
        client.tags(&host, &repository).await.unwrap_err(),
        client.document(&host, &repository, &Selector::Tag("1".parse().unwrap())).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), Kind::NotFound, "{error:?}");
        assert!(!error.hints().is_empty(), "{error:?}");
    }
    let image = image(noise(10), &["no/such:1"], &[server.at("no/such")]);
    assert_eq!(client.open(&image.contents, BlobId(0), 0).await.err().unwrap().kind(), Kind::NotFound);
}

#[tokio::test]
async fn a_manifest_before_its_blobs_is_refused_with_the_registrys_reason() {
    let server = Registry::start();
    let (client, _) = client();
    let image = Arc::new(image(noise(10), &["ns/app:1"], &[]));
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    for landing in image.contents.manifest_ids() {
        let PutManifest::BlobsMissing(missing) = registry.put_manifest(&image.contents, landing).await.unwrap() else {
            panic!("it is refused");
        };
        assert_eq!(missing.blobs, image.contents.manifest(landing).blobs);
        assert!(missing.error.chain().contains("MANIFEST_BLOB_UNKNOWN"), "{:?}", missing.error);
    }
}
