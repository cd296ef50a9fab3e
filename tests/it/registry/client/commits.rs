//! The end of an upload: a registry that answers late, or whose answer is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rstest::rstest;
use sealift::content::{BlobId, Body, Destination, ManifestId, RepositoryId};
use sealift::oci::Digest;
use sealift::registry::{Client, RegistryDestination};

use super::content::{Image, LAYER, Log, client, client_with, host, image, noise};
use super::faulty::{Faulty, Reply, Request};

const SCOPE: RepositoryId = RepositoryId(0);
type Open = fn(&Image, BlobId) -> Body;

/// More than one piece.
const LARGE: usize = (8 << 20) + 5;

fn layer_of(size: usize) -> Image {
    image(noise(size), &["ns/app:1"], &[])
}

/// Longer than the limits for anything but the end of an upload, which are those of [`patient`].
const SLOW: Duration = Duration::from_millis(2500);

/// A client that waits for a commit, and for nothing else.
fn patient() -> (Client, Arc<Log>) {
    client_with(|settings| {
        settings.connect_timeout = Duration::from_secs(1);
        settings.read_timeout = Duration::from_secs(1);
        settings.commit_timeout = Duration::from_secs(60);
    })
}

fn slow_to_commit(request: &Request) -> Reply {
    let first = request.headers.get("content-range").is_some_and(|range| range.starts_with("0-"));
    match request.method.as_str() {
        "POST" => Reply::new("202 Accepted").header("Location", "/s").body(b""),
        "PATCH" if first => Reply::new("202 Accepted").header("Location", "/s").body(b"").after(SLOW),
        "PATCH" => Reply::new("202 Accepted").header("Location", "/s").body(b""),
        "PUT" => Reply::new("201 Created").body(b"").after(SLOW),
        _ => Reply::new("404 Not Found").body(b""),
    }
}

// Some registries hash and copy a blob before they answer the last request (moby/moby#53700).
#[rstest]
#[case::streamed(3_000_000, Image::body)]
#[case::in_memory(3_000_000, Image::once)]
#[case::in_pieces(LARGE, Image::once)]
#[tokio::test]
async fn a_commit_may_take_longer_than_the_read_timeout(#[case] size: usize, #[case] body: Open) {
    let server = Faulty::start(|_, request| slow_to_commit(request)).await;
    let image = layer_of(size);
    let (client, log) = patient();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    registry.put_blob(&image.contents, LAYER, SCOPE, &mut body(&image, LAYER)).await.unwrap();
    assert!(log.retries().is_empty(), "{:?}", log.retries());
}

#[tokio::test]
async fn a_manifest_may_take_longer_than_the_read_timeout() {
    let image = layer_of(10);
    let bytes = image.document.bytes().to_vec();
    let server = Faulty::start(move |number, request| match request.method.as_str() {
        "GET" if number > 0 => Reply::new("200 OK").body(&bytes),
        _ => slow_to_commit(request),
    })
    .await;
    let (client, log) = patient();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    registry.put_manifest(&image.contents, ManifestId(0)).await.unwrap();
    assert!(log.retries().is_empty(), "{:?}", log.retries());
}

/// A registry that takes a blob, and then does not say so the first time; it has the blob afterwards if `commits`.
async fn loses_an_answer(size: usize, commits: bool, lost: fn() -> Reply) -> Faulty {
    let put = AtomicUsize::new(0);
    Faulty::start(move |_, request| match request.method.as_str() {
        "PUT" => match put.fetch_add(1, Ordering::Relaxed) {
            0 => lost(),
            _ => Reply::new("201 Created").body(b""),
        },
        "HEAD" if commits && put.load(Ordering::Relaxed) > 0 => Reply::new("200 OK").header("Content-Length", size),
        "DELETE" => Reply::new("204 No Content"),
        "POST" | "PATCH" => Reply::new("202 Accepted").header("Location", "/s").body(b""),
        _ => Reply::new("404 Not Found").body(b""),
    })
    .await
}

/// The connection is cut after the last byte.
fn cut() -> Reply {
    Reply::hang_up_after(usize::MAX)
}

/// A proxy waits no longer for the registry (distribution/distribution#755).
fn timed_out() -> Reply {
    Reply::new("504 Gateway Timeout").body(b"")
}

#[rstest]
#[tokio::test]
async fn a_blob_that_is_there_although_the_answer_was_lost_is_not_sent_again(
    #[values((3_000_000, Image::body as Open), (3_000_000, Image::once as Open), (LARGE, Image::once as Open))]
    (size, body): (usize, Open),
    #[values(cut, timed_out)] lost: fn() -> Reply,
) {
    let server = loses_an_answer(size, true, lost).await;
    let image = layer_of(size);
    let (client, _) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    registry.put_blob(&image.contents, LAYER, SCOPE, &mut body(&image, LAYER)).await.unwrap();
    let lines = server.lines();
    assert_eq!(lines.iter().filter(|line| line.starts_with("PUT")).count(), 1, "{lines:?}");
    assert!(lines.last().unwrap().starts_with("HEAD /v2/ns/app/blobs/sha256:"), "{lines:?}");
    let digest = image.contents.blob(LAYER).digest;
    let sent: Vec<u8> = server.seen().into_iter().flat_map(|request| request.body).collect();
    assert_eq!(Digest::of(&sent), digest, "each byte once");
}

#[rstest]
#[tokio::test]
async fn a_blob_that_is_not_there_after_a_lost_answer_is_sent_again(#[values(cut, timed_out)] lost: fn() -> Reply) {
    let image = layer_of(3_000_000);
    let server = loses_an_answer(3_000_000, false, lost).await;
    let (client, _) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    registry.put_blob(&image.contents, LAYER, SCOPE, &mut image.body(LAYER)).await.unwrap();
    let start = "POST /v2/ns/app/blobs/uploads/".to_owned();
    let head = format!("HEAD /v2/ns/app/blobs/{}", image.contents.blob(LAYER).digest);
    let put = "PUT /s".to_owned();
    // The registry may still be at it, so that the first session is cancelled at the end of the run only.
    assert_eq!(server.lines(), [start.clone(), put.clone(), head, start, put]);
    registry.commit(&image.contents).await.unwrap();
    assert_eq!(server.lines().last().unwrap(), "DELETE /s");
}

// Nexus with "disable redeploy", when two clients send the same layer (sonatype/nexus-public#967).
#[tokio::test]
async fn a_blob_that_another_client_has_completed_meanwhile_is_there() {
    let refused = || {
        let body = br#"{"errors":[{"code":"BLOB_UPLOAD_INVALID","message":"blob upload invalid","detail":"cannot be updated"}]}"#;
        Reply::new("400 Bad Request").body(body)
    };
    let image = layer_of(3_000_000);
    let server = loses_an_answer(3_000_000, true, refused).await;
    let (client, log) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    registry.put_blob(&image.contents, LAYER, SCOPE, &mut image.body(LAYER)).await.unwrap();
    let lines = server.lines();
    assert_eq!(lines.iter().filter(|line| !line.starts_with("HEAD")).count(), 2, "{lines:?}");
    assert!(log.retries().is_empty(), "{:?}", log.retries());
}
