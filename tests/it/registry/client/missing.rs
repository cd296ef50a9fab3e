//! Manifests that are refused because the registry does not find a blob: it is waited for, or sent again.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rstest::rstest;
use sealift::Result;
use sealift::content::{
    BlobId, Chunks, Contents, Destination, ManifestId, Mismatch, PutManifest, RepositoryId, SequentialSource, Source,
};
use sealift::error::Error;
use sealift::oci::Digest;
use sealift::progress::Silent;
use sealift::registry::RegistryDestination;
use sealift::transfer::{self, Input, Summary, TransferOptions};
use tokio_util::sync::CancellationToken;

use super::content::{Image, LAYER, Memory, client, host, image, noise};
use super::faulty::{Faulty, Reply, Request};

/// What a registry returns for mounts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mounts {
    /// 201, and 404 for the blob later (estesp/manifest-tool#98).
    Believed,
    /// 201, and 200 for the blob later, but it does not accept a manifest with it.
    FoundByHead,
    /// 202: it mounts nothing.
    Refused,
}

/// A registry that keeps what it is sent, by repository.
struct Registry {
    mounts: Mounts,
    has: Mutex<HashSet<String>>,
    /// So many manifests are refused whatever it has.
    refusals: Mutex<usize>,
    /// What it forgets once it was sent it.
    forgets: Mutex<Option<String>>,
}

impl Registry {
    fn new(mounts: Mounts, refusals: usize) -> Arc<Registry> {
        Arc::new(Registry { mounts, has: Mutex::default(), refusals: Mutex::new(refusals), forgets: Mutex::default() })
    }

    async fn start(self: &Arc<Self>, image: &Image) -> Faulty {
        let registry = self.clone();
        let digests: Vec<Digest> = image.blobs.keys().copied().collect();
        let size = |digest: Digest| image.blobs[&digest].len();
        let sizes: Vec<(String, usize)> = digests.iter().map(|d| (d.to_string(), size(*d))).collect();
        let blobs = image.blobs.clone();
        let document = image.document.bytes().clone();
        Faulty::start(move |_, request| registry.answer(request, &digests, &sizes, &blobs, &document)).await
    }

    fn answer(
        &self,
        request: &Request,
        digests: &[Digest],
        sizes: &[(String, usize)],
        blobs: &std::collections::HashMap<Digest, bytes::Bytes>,
        document: &[u8],
    ) -> Reply {
        let path = request.path.replace("%3A", ":");
        let unknown = || Reply::new("404 Not Found").body(b"");
        let Some((repository, rest)) = path.strip_prefix("/v2/").and_then(|path| path.split_once("/blobs/")) else {
            return self.answer_manifest(request, digests, document);
        };
        let named = sizes.iter().find(|(digest, _)| path.contains(digest.as_str()));
        let key = |digest: &str| format!("{repository} {digest}");
        let of_itself = format!("&from={repository}");
        let mut has = self.has.lock().unwrap();
        match (request.method.as_str(), named) {
            ("POST", Some((digest, _))) if self.mounts != Mounts::Refused && !path.ends_with(&of_itself) => {
                if self.mounts == Mounts::FoundByHead {
                    has.insert(format!("head {}", key(digest)));
                }
                Reply::new("201 Created").body(b"")
            }
            ("POST", _) => {
                let location = format!("/v2/{repository}/blobs/uploads/1");
                Reply::new("202 Accepted").header("Location", location).body(b"")
            }
            ("PUT", Some((digest, _))) => {
                let forgotten = self.forgets.lock().unwrap().take_if(|forgotten| forgotten == digest).is_some();
                if !forgotten {
                    has.insert(key(digest));
                }
                Reply::new("201 Created").body(b"")
            }
            ("HEAD", Some((digest, size)))
                if has.contains(&key(digest)) || has.contains(&format!("head {}", key(digest))) =>
            {
                Reply::new("200 OK").header("Content-Length", size)
            }
            ("GET", Some((digest, _))) if has.contains(&key(digest)) => {
                let bytes = blobs.iter().find(|(known, _)| known.to_string() == *digest).expect("it is known").1;
                Reply::new("200 OK").body(bytes)
            }
            ("DELETE", _) if rest.starts_with("uploads/") => Reply::new("204 No Content"),
            _ => unknown(),
        }
    }

    fn answer_manifest(&self, request: &Request, digests: &[Digest], document: &[u8]) -> Reply {
        let (repository, _) =
            request.path.strip_prefix("/v2/").and_then(|path| path.split_once("/manifests/")).unwrap_or_default();
        let mut has = self.has.lock().unwrap();
        let digest = Digest::of(document);
        let manifest = format!("{repository} {digest}");
        match request.method.as_str() {
            "PUT" => {
                let mut refusals = self.refusals.lock().unwrap();
                let is_whole = digests.iter().all(|digest| has.contains(&format!("{repository} {digest}")));
                if is_whole && *refusals == 0 {
                    has.insert(manifest);
                    return Reply::new("201 Created").body(b"");
                }
                *refusals = refusals.saturating_sub(1);
                let error = br#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#;
                Reply::new("400 Bad Request").body(error)
            }
            "HEAD" if has.contains(&manifest) => Reply::new("200 OK").header("Docker-Content-Digest", digest),
            "GET" if has.contains(&manifest) => Reply::new("200 OK").body(document),
            _ => Reply::new("404 Not Found").body(b""),
        }
    }
}

/// A medium that gives each blob once.
struct Medium {
    memory: Memory,
    order: Vec<BlobId>,
}

#[async_trait]
impl SequentialSource for Medium {
    async fn next(&mut self, contents: &Contents) -> Result<Option<(BlobId, Chunks)>> {
        let Some(id) = self.order.pop() else { return Ok(None) };
        Ok(Some((id, self.memory.open(contents, id, 0).await?)))
    }

    fn mismatch(&self) -> Mismatch {
        Arc::new(|_, what| Error::damaged(what))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    RandomAccess,
    Medium,
}

async fn import(server: &Faulty, image: &Image, from: From) -> Result<Summary> {
    let (client, _) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    let memory = Memory { blobs: image.blobs.clone(), pause: Duration::ZERO };
    let supply = match from {
        From::RandomAccess => Input::Source(Arc::new(memory)),
        From::Medium => Input::Pass(Box::new(Medium { memory, order: image.contents.blob_ids().rev().collect() })),
    };
    let options = TransferOptions {
        jobs: NonZeroUsize::MIN,
        progress: Arc::new(Silent),
        cancel: CancellationToken::new(),
        keep_going: false,
    };
    transfer::run(image.contents.clone(), supply, Arc::new(registry), &options).await.map(|outcome| outcome.summary)
}

/// Requests of that method with that in their path, without queries.
fn count(server: &Faulty, method: &str, part: &str) -> usize {
    server.seen().iter().filter(|request| request.method == method && request.path.contains(part)).count()
}

#[rstest]
#[tokio::test]
async fn a_blob_whose_mount_was_not_true_is_sent(
    #[values(Mounts::Believed, Mounts::FoundByHead)] mounts: Mounts,
    #[values(From::RandomAccess, From::Medium)] from: From,
    // One that is kept in memory as it comes from a medium, and one that is not.
    #[values(500_000, 5_000_000)] size: usize,
) {
    let image = image(noise(size), &["a/app:1", "b/app:1"], &[]);
    let server = Registry::new(mounts, 0).start(&image).await;
    let summary = import(&server, &image, from).await.unwrap();
    assert_eq!(summary.linked, 2);
    for repository in ["a/app", "b/app"] {
        let digest = image.contents.blob(LAYER).digest;
        let sent: Vec<Request> = server
            .seen()
            .into_iter()
            .filter(|r| r.method == "PUT" || r.method == "PATCH")
            .filter(|r| r.path.starts_with(&format!("/v2/{repository}/blobs/")) && r.body.len() > 100)
            .collect();
        let bytes: Vec<u8> = sent.into_iter().flat_map(|request| request.body).collect();
        assert_eq!(Digest::of(&bytes), digest, "once into {repository}");
    }
    let mounts = server.lines().into_iter().filter(|line| line == "POST /v2/b/app/blobs/uploads/").count();
    assert_eq!(mounts, 4, "each blob is mounted once, and sent once");
}

#[tokio::test]
async fn mounts_that_are_true_cost_no_question() {
    let image = image(noise(500_000), &["a/app:1", "b/app:1"], &[]);
    let registry = Registry::new(Mounts::Believed, 0);
    for digest in image.blobs.keys() {
        registry.has.lock().unwrap().insert(format!("b/app {digest}"));
    }
    let server = registry.start(&image).await;
    import(&server, &image, From::RandomAccess).await.unwrap();
    assert_eq!(count(&server, "HEAD", "/blobs/"), 0);
    assert_eq!(count(&server, "PUT", "/manifests/"), 2);
}

#[tokio::test]
async fn a_blob_that_the_registry_lost_after_it_took_it_is_sent_again() {
    let image = image(noise(500_000), &["a/app:1"], &[]);
    let registry = Registry::new(Mounts::Refused, 0);
    *registry.forgets.lock().unwrap() = Some(image.contents.blob(LAYER).digest.to_string());
    let server = registry.start(&image).await;
    import(&server, &image, From::RandomAccess).await.unwrap();
    assert_eq!(count(&server, "PUT", "/blobs/uploads/"), 3);
}

#[tokio::test]
async fn a_blob_that_is_nowhere_any_more_is_told() {
    let image = image(noise(500_000), &["a/app:1"], &[]);
    let registry = Registry::new(Mounts::Refused, 0);
    *registry.forgets.lock().unwrap() = Some(image.contents.blob(LAYER).digest.to_string());
    let server = registry.start(&image).await;
    let error = import(&server, &image, From::Medium).await.unwrap_err();
    let digest = image.contents.blob(LAYER).digest.to_string();
    assert!(error.chain().contains(&digest) && error.chain().contains("MANIFEST_BLOB_UNKNOWN"), "{error:?}");
    assert!(error.hints().iter().any(|hint| hint.contains("again")), "{error:?}");
}

// A storage that shows what it was given a moment later (openshift/image-registry#220).
#[tokio::test]
async fn what_the_registry_finds_a_moment_later_is_waited_for() {
    let image = image(noise(500_000), &["a/app:1"], &[]);
    let server = Registry::new(Mounts::Refused, 2).start(&image).await;
    import(&server, &image, From::RandomAccess).await.unwrap();
    assert_eq!(count(&server, "PUT", "/blobs/uploads/"), 2, "each blob once");
    assert_eq!(count(&server, "PUT", "/manifests/"), 3);
}

#[tokio::test]
async fn a_manifest_that_is_refused_to_the_end_is_told_in_the_registrys_words() {
    let image = image(noise(500_000), &["a/app:1"], &[]);
    let server = Registry::new(Mounts::Refused, usize::MAX).start(&image).await;
    let error = import(&server, &image, From::RandomAccess).await.unwrap_err();
    assert!(error.chain().contains("MANIFEST_BLOB_UNKNOWN blob unknown to registry"), "{error:?}");
    assert!(error.hints().iter().any(|hint| hint.contains("returns 200 for each")), "{error:?}");
    assert_eq!(count(&server, "PUT", "/manifests/"), 4);
}

/// An immutable tag is not written twice.
#[tokio::test]
async fn a_manifest_that_is_there_although_the_answer_was_lost_is_not_put_again() {
    let image = image(noise(10), &["ns/app:1"], &[]);
    let digest = image.document.digest();
    let server = Faulty::start(move |number, request| match request.method.as_str() {
        "PUT" if number == 1 => Reply::hang_up_after(usize::MAX),
        "PUT" => Reply::new("409 Conflict").body(b""),
        "HEAD" if number > 1 => Reply::new("200 OK").header("Docker-Content-Digest", digest),
        _ => Reply::new("404 Not Found").body(b""),
    })
    .await;
    let (client, _) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    assert!(matches!(registry.put_manifest(&image.contents, ManifestId(0)).await.unwrap(), PutManifest::Done));
    assert_eq!(count(&server, "PUT", "/manifests/"), 1);
}

#[tokio::test]
async fn blobs_that_a_registry_lacks_are_named() {
    let image = image(noise(10), &["ns/app:1"], &[]);
    let server = Registry::new(Mounts::Refused, 0).start(&image).await;
    let (client, _) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    registry.put_blob(&image.contents, LAYER, RepositoryId(0), &mut image.body(LAYER)).await.unwrap();
    let PutManifest::BlobsMissing(missing) = registry.put_manifest(&image.contents, ManifestId(0)).await.unwrap()
    else {
        panic!("it is refused");
    };
    assert_eq!(missing.blobs, [BlobId(0)]);
    assert!(missing.error.chain().contains("MANIFEST_BLOB_UNKNOWN"), "{:?}", missing.error);
}
