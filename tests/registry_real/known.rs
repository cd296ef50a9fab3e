//! What a repository without tags may have from an earlier run: asked by a mount from itself.

use std::sync::Arc;

use rstest::rstest;
use sealift::error::{Error, Kind};
use sealift::oci::Digest;
use sealift::place::{Body, Destination, ScopeId, Stored, verified};
use sealift::registry::RegistryDestination;
use tokio_util::sync::CancellationToken;

use crate::content::{Image, LAYER, Log, client, host, image, noise};
use crate::faulty::{Faulty, Reply, Request};

const SCOPE: ScopeId = ScopeId(0);

/// A registry in which the repository has no tags, and which answers the mount by `mount`.
async fn without_tags(mount: impl Fn() -> Reply + Send + Sync + 'static) -> Faulty {
    Faulty::start(move |_, request: &Request| match request.method.as_str() {
        "GET" if request.path.contains("/tags/list") => Reply::new("404 Not Found").body(b""),
        "GET" => Reply::new("200 OK").body(b"{}"),
        "POST" if request.path.contains("mount=") => mount(),
        "POST" => Reply::new("202 Accepted").header("Location", "/plain").body(b""),
        "PATCH" => Reply::new("202 Accepted").header("Location", "/opened").body(b""),
        "PUT" => Reply::new("201 Created").body(b""),
        "DELETE" => Reply::new("204 No Content"),
        _ => Reply::new("404 Not Found").body(b""),
    })
    .await
}

/// Puts the layer; returns what came of it and the requests that it took, as `METHOD path?query`.
async fn put(server: &Faulty, image: &Image, mut body: Body) -> (sealift::Result<Stored>, Vec<String>) {
    let (client, _) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    registry.prepare(&image.contents).await.unwrap();
    let stored = registry.put(&image.contents, LAYER, SCOPE, &mut body).await;
    let asked = server.seen().into_iter().filter(|request| request.method != "GET");
    (stored, asked.map(|request| format!("{} {}", request.method, request.path)).collect())
}

fn mount_of(image: &Image) -> String {
    format!("POST /v2/ns/app/blobs/uploads/?mount={}&from=ns/app", image.contents.blob(LAYER).digest)
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
    let server = without_tags(|| Reply::new("201 Created").body(b"")).await;
    let image = image(noise(500_000), &["ns/app:1"], &[]);
    let (stored, lines) = put(&server, &image, unreadable(&image, 500_000)).await;
    assert_eq!(stored.unwrap(), Stored::WasThere);
    assert_eq!(lines, [mount_of(&image)]);
}

#[rstest]
#[case::sent_as_one(3_000_000, &["PUT /opened"])]
#[case::in_pieces(9_000_000, &["PATCH /opened", "PATCH /opened", "PUT /opened"])]
#[tokio::test]
async fn what_is_missing_goes_into_the_session_that_was_opened(#[case] size: usize, #[case] requests: &[&str]) {
    let server = without_tags(|| Reply::new("202 Accepted").header("Location", "/opened").body(b"")).await;
    let image = image(noise(size), &["ns/app:1"], &[]);
    let (stored, lines) = put(&server, &image, image.once(LAYER)).await;
    assert_eq!(stored.unwrap(), Stored::Sent);
    assert_eq!(lines[0], mount_of(&image));
    let into_it: Vec<_> = lines[1..].iter().map(|line| line.split('?').next().unwrap()).collect();
    assert_eq!(into_it, requests);
    let sent: Vec<u8> = server.seen().into_iter().flat_map(|request| request.body).collect();
    assert_eq!(Digest::of(&sent), image.contents.blob(LAYER).digest);
}

#[rstest]
#[case::unknown("404 Not Found")]
#[case::forbidden("403 Forbidden")]
#[case::ill("500 Internal Server Error")]
#[case::odd("200 OK")]
#[case::without_a_place("202 Accepted")]
#[tokio::test]
async fn a_registry_that_does_not_understand_is_sent_the_blob(#[case] status: &'static str) {
    let server = without_tags(move || Reply::new(status).body(b"")).await;
    let image = image(noise(500_000), &["ns/app:1"], &[]);
    let (stored, lines) = put(&server, &image, image.body(LAYER)).await;
    assert_eq!(stored.unwrap(), Stored::Sent);
    let put = format!("PUT /plain?digest={}", escaped(&image));
    assert_eq!(lines, [mount_of(&image), "POST /v2/ns/app/blobs/uploads/".to_owned(), put]);
}

#[tokio::test]
async fn a_registry_that_takes_it_for_another_blob_is_not_believed() {
    let other = Digest::of(b"other");
    let server =
        without_tags(move || Reply::new("201 Created").header("Docker-Content-Digest", other.to_string()).body(b""))
            .await;
    let image = image(noise(500_000), &["ns/app:1"], &[]);
    let (stored, _) = put(&server, &image, image.body(LAYER)).await;
    assert!(stored.unwrap_err().chain().contains(&other.to_string()));
}

#[tokio::test]
async fn a_session_is_taken_back_when_the_body_fails_first() {
    let server = without_tags(|| Reply::new("202 Accepted").header("Location", "/opened").body(b"")).await;
    let image = image(noise(500_000), &["ns/app:1"], &[]);
    let (stored, lines) = put(&server, &image, unreadable(&image, 500_000)).await;
    assert_eq!(stored.unwrap_err().kind(), Kind::Damaged);
    assert_eq!(lines, [mount_of(&image), "DELETE /opened".to_owned()]);
}
