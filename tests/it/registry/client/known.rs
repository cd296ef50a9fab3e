//! What a repository without tags may have from an earlier run: asked by a mount from itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rstest::rstest;
use sealift::content::{BlobId, BlobStatus, Body, Destination, MountOutcome, PutBlob, RepositoryId, verified};
use sealift::error::{Error, Kind};
use sealift::oci::Digest;
use sealift::registry::RegistryDestination;
use tokio_util::sync::CancellationToken;

use super::content::{Image, LAYER, Log, Memory, client, host, image, noise};
use super::faulty::{Faulty, Reply, Request};

const SCOPE: RepositoryId = RepositoryId(0);

/// A registry in which the repository has no tags, and which answers the mount by `mount`. Every blob has `size` bytes, or
/// is not there if that is 0.
async fn without_tags(size: usize, mount: impl Fn() -> Reply + Send + Sync + 'static) -> Faulty {
    Faulty::start(move |_, request| answer(request, size, &mount)).await
}

fn answer(request: &Request, size: usize, mount: &dyn Fn() -> Reply) -> Reply {
    match request.method.as_str() {
        "GET" if request.path.contains("/tags/list") => Reply::new("404 Not Found").body(b""),
        "GET" => Reply::new("200 OK").body(b"{}"),
        "HEAD" if size > 0 => Reply::new("200 OK").header("Content-Length", size),
        "POST" if request.path.contains("mount=") => mount(),
        "POST" => Reply::new("202 Accepted").header("Location", "/plain").body(b""),
        "PUT" => Reply::new("201 Created").body(b""),
        "DELETE" => Reply::new("204 No Content"),
        _ => Reply::new("404 Not Found").body(b""),
    }
}

/// Puts the layer; returns what came of it and what was asked.
async fn put(server: &Faulty, image: &Image, mut body: Body) -> (sealift::Result<PutBlob>, Vec<String>) {
    let (client, _) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    registry.prepare(&image.contents).await.unwrap();
    let stored = registry.put_blob(&image.contents, LAYER, SCOPE, &mut body).await;
    (stored, asked(server))
}

/// What was asked after all was ready, as `METHOD path?query`.
fn asked(server: &Faulty) -> Vec<String> {
    let asked = server.seen().into_iter().filter(|request| request.method != "GET");
    asked.map(|request| format!("{} {}", request.method, request.path)).collect()
}

fn mount_of(image: &Image) -> String {
    format!("POST /v2/ns/app/blobs/uploads/?mount={}&from=ns/app", image.contents.blob(LAYER).digest)
}

fn head_of(image: &Image) -> String {
    format!("HEAD /v2/ns/app/blobs/{}", image.contents.blob(LAYER).digest)
}

fn escaped(image: &Image) -> String {
    image.contents.blob(LAYER).digest.to_string().replace(':', "%3A")
}

/// A body of which nothing can be read.
fn unreadable(image: &Image, size: u64) -> Body {
    let digest = image.contents.blob(LAYER).digest;
    let cancel = CancellationToken::new();
    let chunks =
        verified(Box::pin(futures_util::stream::empty()), digest, size, cancel.clone(), |what| Error::damaged(what));
    Body::once(digest, size, chunks, Arc::new(Log::default()), cancel)
}

#[tokio::test]
async fn what_is_there_is_not_read() {
    let server = without_tags(500_000, || Reply::new("201 Created").body(b"")).await;
    let image = image(noise(500_000), &["ns/app:1"], &[]);
    let (stored, lines) = put(&server, &image, unreadable(&image, 500_000)).await;
    assert_eq!(stored.unwrap(), PutBlob::AlreadyThere);
    assert_eq!(lines, [mount_of(&image), head_of(&image)]);
}

#[tokio::test]
async fn what_is_said_to_be_there_and_is_not_is_sent() {
    // The server knows a blob of 500,000 bytes only, and this is another one.
    let server = without_tags(0, || Reply::new("201 Created").body(b"")).await;
    let image = image(noise(500_000), &["ns/app:1"], &[]);
    let (stored, lines) = put(&server, &image, image.body(LAYER)).await;
    assert_eq!(stored.unwrap(), PutBlob::Uploaded);
    let plain = "POST /v2/ns/app/blobs/uploads/".to_owned();
    assert_eq!(lines, [mount_of(&image), head_of(&image), plain, format!("PUT /plain?digest={}", escaped(&image))]);
}

#[tokio::test]
async fn what_is_there_with_another_size_is_told() {
    let server = without_tags(499_999, || Reply::new("201 Created").body(b"")).await;
    let image = image(noise(500_000), &["ns/app:1"], &[]);
    let (stored, _) = put(&server, &image, image.body(LAYER)).await;
    let error = stored.unwrap_err().chain();
    assert!(error.contains("499999 bytes") && error.contains("500000"), "{error}");
}

/// Whoever mounts only what a manifest refers to would be sent it again.
#[tokio::test]
async fn a_large_blob_is_asked_about_before_it_is_sent() {
    let size = 5_000_000;
    let server = without_tags(size, || Reply::new("202 Accepted").header("Location", "/opened").body(b"")).await;
    let image = image(noise(size), &["ns/app:1"], &[]);
    let (client, _) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    registry.prepare(&image.contents).await.unwrap();
    assert_eq!(registry.blob_status(&image.contents, LAYER, SCOPE).await.unwrap(), BlobStatus::Present);
    assert_eq!(registry.blob_status(&image.contents, BlobId(0), SCOPE).await.unwrap(), BlobStatus::Unknown);
    assert_eq!(asked(&server), [head_of(&image)]);
}

/// Into further repositories it is mounted unasked; where that is refused, an earlier run may have sent it.
#[tokio::test]
async fn a_large_blob_that_is_not_mounted_is_asked_about_before_it_is_sent() {
    let size = 5_000_000;
    let server = without_tags(size, || Reply::new("403 Forbidden").body(b"")).await;
    let image = image(noise(size), &["ns/app:1", "ns/other:1"], &[]);
    let (client, _) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    registry.prepare(&image.contents).await.unwrap();
    let other = RepositoryId(1);
    assert_eq!(registry.blob_status(&image.contents, LAYER, other).await.unwrap(), BlobStatus::Unknown);
    assert_eq!(registry.mount_blob(&image.contents, LAYER, SCOPE, other).await.unwrap(), MountOutcome::Refused);
    let mut body = unreadable(&image, size as u64);
    assert_eq!(registry.put_blob(&image.contents, LAYER, other, &mut body).await.unwrap(), PutBlob::AlreadyThere);
    let digest = image.contents.blob(LAYER).digest;
    let mount = format!("POST /v2/ns/other/blobs/uploads/?mount={digest}&from=ns/app");
    assert_eq!(asked(&server), [mount, format!("HEAD /v2/ns/other/blobs/{digest}")]);
}

#[rstest]
#[case::read_once(true)]
#[case::read_again_and_again(false)]
#[tokio::test]
async fn what_is_missing_goes_into_the_session_that_was_opened(#[case] once: bool) {
    let server = without_tags(0, || Reply::new("202 Accepted").header("Location", "/opened").body(b"")).await;
    let image = image(noise(3_000_000), &["ns/app:1"], &[]);
    let body = if once { image.once(LAYER) } else { image.body(LAYER) };
    let (stored, lines) = put(&server, &image, body).await;
    assert_eq!(stored.unwrap(), PutBlob::Uploaded);
    assert_eq!(lines, [mount_of(&image), format!("PUT /opened?digest={}", escaped(&image))]);
    assert_eq!(Digest::of(&server.seen().last().unwrap().body), image.contents.blob(LAYER).digest);
}

#[rstest]
#[case::lost(|| Reply::new("404 Not Found").body(b""), true)]
#[case::cut(|| Reply::hang_up_after(100_000), false)]
#[tokio::test]
async fn a_session_that_fails_is_taken_back_and_another_one_opened(
    #[case] fails: fn() -> Reply,
    #[case] all_was_sent: bool,
) {
    let server = Faulty::start(move |_, request| match (request.method.as_str(), request.path.as_str()) {
        ("PUT", path) if path.starts_with("/opened") => fails(),
        _ => answer(request, 0, &|| Reply::new("202 Accepted").header("Location", "/opened").body(b"")),
    })
    .await;
    let image = image(noise(500_000), &["ns/app:1"], &[]);
    // The connection is cut long before the last chunk comes.
    let slow = Arc::new(Memory { blobs: image.blobs.clone(), pause: Duration::from_millis(100) });
    let (stored, lines) = put(&server, &image, image.body_from(slow, LAYER)).await;
    assert_eq!(stored.unwrap(), PutBlob::Uploaded);
    let digest = escaped(&image);
    let plain = "POST /v2/ns/app/blobs/uploads/".to_owned();
    let mut expected = vec![mount_of(&image), format!("PUT /opened?digest={digest}"), "DELETE /opened".to_owned()];
    // Another request may have completed the session.
    expected.extend(all_was_sent.then(|| head_of(&image)));
    expected.extend([plain, format!("PUT /plain?digest={digest}")]);
    assert_eq!(lines, expected);
}

#[rstest]
#[case::too_many("429 Too Many Requests")]
#[case::overloaded("503 Service Unavailable")]
#[tokio::test]
async fn a_question_that_was_not_answered_is_asked_again(#[case] status: &'static str) {
    let times = AtomicUsize::new(0);
    let server = without_tags(500_000, move || match times.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::new(status).body(b""),
        _ => Reply::new("201 Created").body(b""),
    })
    .await;
    let image = image(noise(500_000), &["ns/app:1"], &[]);
    let (stored, lines) = put(&server, &image, unreadable(&image, 500_000)).await;
    assert_eq!(stored.unwrap(), PutBlob::AlreadyThere);
    assert_eq!(lines, [mount_of(&image), mount_of(&image), head_of(&image)]);
}

#[rstest]
#[case::unknown("404 Not Found")]
#[case::forbidden("403 Forbidden")]
#[case::ill("500 Internal Server Error")]
#[case::odd("200 OK")]
#[case::without_a_place("202 Accepted")]
#[tokio::test]
async fn a_registry_that_does_not_understand_is_sent_the_blob(#[case] status: &'static str) {
    let server = without_tags(0, move || Reply::new(status).body(b"")).await;
    let image = image(noise(500_000), &["ns/app:1"], &[]);
    let (stored, lines) = put(&server, &image, image.body(LAYER)).await;
    assert_eq!(stored.unwrap(), PutBlob::Uploaded);
    let put = format!("PUT /plain?digest={}", escaped(&image));
    assert_eq!(lines, [mount_of(&image), "POST /v2/ns/app/blobs/uploads/".to_owned(), put]);
}

#[tokio::test]
async fn a_registry_that_takes_it_for_another_blob_is_not_believed() {
    let other = Digest::of(b"other");
    let server =
        without_tags(0, move || Reply::new("201 Created").header("Docker-Content-Digest", other.to_string()).body(b""))
            .await;
    let image = image(noise(500_000), &["ns/app:1"], &[]);
    let (stored, _) = put(&server, &image, image.body(LAYER)).await;
    assert!(stored.unwrap_err().chain().contains(&other.to_string()));
}

#[tokio::test]
async fn a_session_is_taken_back_when_the_body_fails_first() {
    let server = without_tags(0, || Reply::new("202 Accepted").header("Location", "/opened").body(b"")).await;
    let image = image(noise(500_000), &["ns/app:1"], &[]);
    let (stored, lines) = put(&server, &image, unreadable(&image, 500_000)).await;
    assert_eq!(stored.unwrap_err().kind(), Kind::Damaged);
    assert_eq!(lines, [mount_of(&image), "DELETE /opened".to_owned()]);
}

#[tokio::test]
async fn after_a_question_by_mount_at_which_the_registry_fails_none_is_asked() {
    let server = without_tags(0, || Reply::new("500 Internal Server Error").body(b"")).await;
    let image = image(noise(500_000), &["ns/app:1"], &[]);
    let (client, log) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    registry.prepare(&image.contents).await.unwrap();
    for blob in [LAYER, BlobId(0)] {
        registry.put_blob(&image.contents, blob, SCOPE, &mut image.body(blob)).await.unwrap();
    }
    let mounts = asked(&server).into_iter().filter(|line| line.contains("mount="));
    assert_eq!(mounts.collect::<Vec<_>>(), [mount_of(&image)]);
    assert!(log.retries().is_empty(), "{:?}", log.retries());
}
