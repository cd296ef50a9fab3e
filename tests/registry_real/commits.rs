//! The end of an upload: a registry that answers late, or whose answer is lost.

use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;
use sealift::place::{Body, Destination, LandingId, ScopeId};
use sealift::registry::{Client, RegistryDestination};

use crate::content::{Image, LAYER, Log, client_with, host, image, noise};
use crate::faulty::{Faulty, Reply, Request};

const SCOPE: ScopeId = ScopeId(0);
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
    registry.put(&image.contents, LAYER, SCOPE, &mut body(&image, LAYER)).await.unwrap();
    assert!(log.retries().is_empty(), "{:?}", log.retries());
}

#[tokio::test]
async fn a_manifest_may_take_longer_than_the_read_timeout() {
    let image = layer_of(10);
    let digest = image.document.digest();
    let server = Faulty::start(move |number, request| match request.method.as_str() {
        "HEAD" if number > 0 => Reply::new("200 OK").header("Docker-Content-Digest", digest),
        _ => slow_to_commit(request),
    })
    .await;
    let (client, log) = patient();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    registry.land(&image.contents, LandingId(0)).await.unwrap();
    assert!(log.retries().is_empty(), "{:?}", log.retries());
}

type Open = fn(&Image, sealift::place::BlobId) -> Body;
