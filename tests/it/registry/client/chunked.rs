//! Blobs sent by PATCH to registries that have their own ideas of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rstest::rstest;
use sealift::content::{BlobId, Body, Destination, RepositoryId};
use sealift::oci::Digest;
use sealift::registry::RegistryDestination;

use super::content::{Image, LAYER, client, host, image, noise};
use super::faulty::{Faulty, Reply, Request};

const SCOPE: RepositoryId = RepositoryId(0);
const PIECE: usize = 8 << 20;
const START: &str = "POST /v2/ns/app/blobs/uploads/";

type Open = fn(&Image, BlobId) -> Body;

fn layer_of(size: usize) -> Image {
    image(noise(size), &["ns/app:1"], &[])
}

fn length(request: &Request) -> usize {
    request.headers.get("content-length").map_or(0, |text| text.parse().expect("a number"))
}

/// Where a PATCH begins, and where the next one does.
fn range(request: &Request) -> (usize, usize) {
    let (start, last) = request.headers["content-range"].split_once('-').expect("a range");
    (start.parse().expect("a number"), last.parse::<usize>().expect("a number") + 1)
}

fn accepted() -> Reply {
    Reply::new("202 Accepted").header("Location", "/s").body(b"")
}

/// A registry that takes a blob by PATCH only, and answers each as told.
fn by_patch(request: &Request, patch: impl Fn(&Request) -> Reply) -> Reply {
    match request.method.as_str() {
        "POST" => accepted(),
        "PATCH" => patch(request),
        "PUT" if length(request) == 0 => Reply::new("201 Created").body(b""),
        "PUT" => Reply::new("405 Method Not Allowed").body(b""),
        "DELETE" => Reply::new("204 No Content"),
        _ => Reply::new("404 Not Found").body(b""),
    }
}

async fn put(server: &Faulty, image: &Image, mut body: Body) -> sealift::Result<()> {
    let (client, _) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    registry.put_blob(&image.contents, LAYER, SCOPE, &mut body).await.map(drop)
}

/// The pieces that were sent, with whether they were small enough.
fn pieces(server: &Faulty, most: usize) -> Vec<(usize, bool)> {
    let patches = server.seen().into_iter().filter(|request| request.method == "PATCH");
    patches.map(|request| (length(&request), length(&request) <= most)).collect()
}

/// All bytes of the pieces that were small enough.
fn put_together(server: &Faulty, most: usize) -> Digest {
    let taken = server.seen().into_iter().filter(|r| r.method == "PATCH" && length(r) <= most);
    Digest::of(&taken.flat_map(|request| request.body).collect::<Vec<u8>>())
}

// nginx takes bodies of at most 1 MiB unless told otherwise (client_max_body_size, 413). A 416 for a piece whose place is
// right is about its size, too (distribution-spec, "Pushing a blob in chunks").
#[rstest]
#[tokio::test]
async fn a_piece_that_is_too_large_is_sent_in_smaller_ones_and_so_are_the_next_blobs(
    #[values("413 Payload Too Large", "416 Requested Range Not Satisfiable")] refusal: &'static str,
    #[values(Image::body, Image::once)] body: Open,
) {
    const MOST: usize = 1 << 20;
    let held = Arc::new(AtomicUsize::new(0));
    let server = Faulty::start(move |_, request| match request.method.as_str() {
        "GET" => {
            let held = held.load(Ordering::Relaxed).max(1);
            Reply::new("204 No Content").header("Location", "/s").header("Range", format!("0-{}", held - 1))
        }
        _ => by_patch(request, |request| match length(request) > MOST {
            true => Reply::new(refusal).body(b""),
            false => {
                held.store(range(request).1, Ordering::Relaxed);
                accepted()
            }
        }),
    })
    .await;
    let image = layer_of(PIECE + 300_000);
    let (client, log) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    registry.put_blob(&image.contents, LAYER, SCOPE, &mut body(&image, LAYER)).await.unwrap();
    assert_eq!(put_together(&server, MOST), image.contents.blob(LAYER).digest);
    let sent = pieces(&server, MOST);
    let refused: Vec<usize> = sent.iter().filter(|(_, taken)| !taken).map(|(size, _)| *size).collect();
    assert_eq!(refused, [PIECE, PIECE / 4], "not the same again");
    assert!(log.retries().is_empty(), "{:?}", log.retries());
    registry.put_blob(&image.contents, LAYER, SCOPE, &mut body(&image, LAYER)).await.unwrap();
    assert!(pieces(&server, MOST)[sent.len()..].iter().all(|(_, taken)| *taken));
}

#[tokio::test]
async fn no_piece_but_the_last_is_smaller_than_the_registry_demands() {
    const LEAST: usize = 3 << 20;
    const MOST: usize = 5 << 20;
    let server = Faulty::start(|_, request| match request.method.as_str() {
        "POST" => accepted().header("OCI-Chunk-Min-Length", LEAST),
        _ => by_patch(request, |request| match length(request) > MOST {
            true => Reply::new("413 Payload Too Large").body(b""),
            false => accepted(),
        }),
    })
    .await;
    let image = layer_of(2 * PIECE + 5);
    put(&server, &image, image.once(LAYER)).await.unwrap();
    assert_eq!(put_together(&server, MOST), image.contents.blob(LAYER).digest);
    let taken: Vec<usize> = pieces(&server, MOST).iter().filter(|(_, taken)| *taken).map(|(size, _)| *size).collect();
    assert!(taken.len() > 1 && taken[..taken.len() - 1].iter().all(|size| *size >= LEAST), "{taken:?}");
}

#[tokio::test]
async fn pieces_that_are_too_large_to_the_end_are_told_as_such() {
    let server =
        Faulty::start(|_, request| by_patch(request, |_| Reply::new("413 Payload Too Large").body(b"no more"))).await;
    let image = layer_of(PIECE + 5);
    let error = put(&server, &image, image.once(LAYER)).await.unwrap_err();
    assert!(error.chain().contains("413") && error.chain().contains("no more"), "{error:?}");
    let sizes: Vec<usize> = pieces(&server, 0).iter().map(|(size, _)| *size).collect();
    assert_eq!(sizes, [8 << 20, 2 << 20, 512 << 10, 128 << 10, 64 << 10]);
}

/// Answers with the range of the piece alone (zot: opencontainers/distribution-spec#581, regclient/regclient#961).
fn range_of_the_piece(request: &Request) -> Reply {
    let (start, end) = range(request);
    accepted().header("Range", format!("{start}-{}", end - 1))
}

/// The same from nought.
fn size_of_the_piece(request: &Request) -> Reply {
    accepted().header("Range", format!("0-{}", length(request) - 1))
}

/// Stays at the end of the first piece (ECR: aws/containers-roadmap#2831).
fn range_of_the_first_piece(_: &Request) -> Reply {
    accepted().header("Range", format!("0-{}", PIECE - 1))
}

fn no_range(_: &Request) -> Reply {
    accepted().header("Range", "all of it")
}

/// pulp/pulp_container#2199
fn no_content(_: &Request) -> Reply {
    Reply::new("204 No Content").header("Location", "/s")
}

/// ECR, as jdx/mise#11376 tells.
fn created(_: &Request) -> Reply {
    Reply::new("201 Created").body(b"")
}

#[rstest]
#[tokio::test]
async fn a_piece_that_was_taken_is_taken_whatever_the_answer_says_besides(
    #[values(range_of_the_piece, size_of_the_piece, range_of_the_first_piece, no_range, no_content, created)]
    answer: fn(&Request) -> Reply,
) {
    let server = Faulty::start(move |_, request| by_patch(request, answer)).await;
    let image = layer_of(2 * PIECE + 300_000);
    put(&server, &image, image.once(LAYER)).await.unwrap();
    assert_eq!(server.lines().iter().filter(|line| !line.starts_with("GET")).count(), 5, "{:?}", server.lines());
    assert_eq!(put_together(&server, PIECE), image.contents.blob(LAYER).digest);
}

#[tokio::test]
async fn where_a_piece_seems_to_be_taken_in_part_the_registry_is_asked() {
    let image = layer_of(PIECE + 5);
    let server = Faulty::start(|number, request| match (number, request.method.as_str()) {
        (1, _) => accepted().header("Range", "0-999999"),
        (2, "GET") => Reply::new("204 No Content").header("Location", "/s?at=1000000").header("Range", "0-999999"),
        _ => by_patch(request, |_| accepted()),
    })
    .await;
    put(&server, &image, image.once(LAYER)).await.unwrap();
    let seen = server.seen();
    assert_eq!(range(&seen[3]), (1_000_000, PIECE));
    assert_eq!(seen[3].path, "/s?at=1000000");
}

/// The registry counts in a way of its own, and notices at the end: what it is sent next is all of the blob in one PUT.
#[rstest]
#[case::which_it_takes("201 Created", true)]
#[case::which_it_does_not_take_either("405 Method Not Allowed", false)]
#[tokio::test]
async fn pieces_whose_digest_is_refused_are_followed_by_one_whole_put(
    #[case] whole: &'static str,
    #[case] taken: bool,
) {
    let image = layer_of(500_000);
    let refuses_whole = Arc::new(Mutex::new("405 Method Not Allowed"));
    let (answer, refuses_digest) = (refuses_whole.clone(), Arc::new(Mutex::new(false)));
    let digest_answer = refuses_digest.clone();
    let server = Faulty::start(move |_, request| match (request.method.as_str(), length(request)) {
        ("PUT", 0) if *digest_answer.lock().unwrap() => {
            Reply::new("400 Bad Request").body(br#"{"errors":[{"code":"DIGEST_INVALID","message":"not the digest"}]}"#)
        }
        ("PUT", 1..) => Reply::new(*answer.lock().unwrap()).body(b""),
        _ => by_patch(request, |_| accepted()),
    })
    .await;
    let (client, _) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    // So it is known as one that takes pieces only.
    registry.put_blob(&image.contents, LAYER, SCOPE, &mut image.body(LAYER)).await.unwrap();
    let before = server.lines().len();
    (*refuses_whole.lock().unwrap(), *refuses_digest.lock().unwrap()) = (whole, true);
    let put = registry.put_blob(&image.contents, LAYER, SCOPE, &mut image.body(LAYER)).await;
    let mut expected = vec![START, "PATCH /s", "PUT /s", "DELETE /s", START, "PUT /s"];
    expected.extend((!taken).then_some("DELETE /s"));
    assert_eq!(server.lines()[before..], expected);
    match taken {
        true => drop(put.unwrap()),
        false => assert!(put.unwrap_err().chain().contains("not the digest")),
    }
}

// Old Pulp takes pieces only, and answers 500 to all else (pulp/pulp_container#1219).
#[tokio::test]
async fn where_a_whole_put_fails_each_time_pieces_are_tried_once() {
    let server = Faulty::start(|_, request| match (request.method.as_str(), length(request)) {
        ("PUT", 1..) => Reply::new("500 Internal Server Error").body(b""),
        _ => by_patch(request, |_| accepted()),
    })
    .await;
    let image = layer_of(500_000);
    let (client, log) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    registry.put_blob(&image.contents, LAYER, SCOPE, &mut image.body(LAYER)).await.unwrap();
    assert_eq!(log.retries().len(), 3);
    let lines = server.lines();
    assert_eq!(lines[lines.len() - 3..], [START, "PATCH /s", "PUT /s"]);
    // The next blob goes so at once.
    registry.put_blob(&image.contents, LAYER, SCOPE, &mut image.body(LAYER)).await.unwrap();
    assert_eq!(server.lines()[lines.len()..], [START, "PATCH /s", "PUT /s"]);
}

#[tokio::test]
async fn where_pieces_fail_as_well_the_first_failure_is_told() {
    let server = Faulty::start(|_, request| match (request.method.as_str(), length(request)) {
        ("PUT", 1..) => Reply::new("500 Internal Server Error").body(b"out of order"),
        _ => by_patch(request, |_| Reply::new("404 Not Found").body(b"")),
    })
    .await;
    let image = layer_of(500_000);
    let error = put(&server, &image, image.body(LAYER)).await.unwrap_err();
    assert!(error.chain().contains("out of order"), "{error:?}");
    assert_eq!(pieces(&server, 0).len(), 1);
}

/// docker-registry 2.8 knows nothing of a session once a request in it was cut; the blob can be read again.
#[tokio::test]
async fn a_blob_whose_session_is_lost_is_sent_in_pieces_in_a_new_one() {
    let cuts = AtomicUsize::new(0);
    let server = Faulty::start(move |_, request| {
        by_patch(request, |request| match range(request).0 > 0 && cuts.fetch_add(1, Ordering::Relaxed) == 0 {
            true => Reply::hang_up_after(1000),
            false => accepted(),
        })
    })
    .await;
    let image = layer_of(PIECE + 300_000);
    put(&server, &image, image.body(LAYER)).await.unwrap();
    let lines = server.lines();
    assert_eq!(lines.iter().filter(|line| *line == "PATCH /s").count(), 4, "{lines:?}");
    assert_eq!(lines.iter().filter(|line| *line == START).count(), 3, "{lines:?}");
}

#[tokio::test]
async fn a_registry_that_loses_every_session_is_given_up() {
    let server = Faulty::start(|_, request| {
        by_patch(request, |request| match range(request).0 {
            0 => accepted(),
            _ => Reply::new("500 Internal Server Error").body(b""),
        })
    })
    .await;
    let image = layer_of(PIECE + 300_000);
    let error = put(&server, &image, image.body(LAYER)).await.unwrap_err();
    assert!(error.chain().contains("cannot go on"), "{error:?}");
    // One PUT that is refused, and pieces in four sessions.
    assert_eq!(server.lines().iter().filter(|line| *line == START).count(), 5, "{:?}", server.lines());
}

/// A proxy that keeps a request until it is whole: the token is looked at when the last byte has come
/// (cesanta/docker_auth#240, moby/moby#33558).
#[tokio::test]
async fn after_a_late_401_the_layer_goes_in_pieces_and_after_the_next_in_smaller_ones() {
    const MOST: usize = 2 << 20;
    let server = Faulty::start(|number, request| {
        let challenge =
            format!("Bearer realm=\"http://{}/token\",service=\"s\",error=\"invalid_token\"", request.headers["host"]);
        match (request.method.as_str(), request.path.as_str()) {
            (_, path) if path.starts_with("/token") => {
                Reply::new("200 OK").body(format!(r#"{{"token":"t{number}","expires_in":300}}"#).as_bytes())
            }
            ("PUT" | "PATCH", _) if length(request) > MOST => {
                Reply::new("401 Unauthorized").header("WWW-Authenticate", &challenge).body(b"")
            }
            _ => by_patch(request, |_| accepted()),
        }
    })
    .await;
    let image = layer_of(PIECE + 300_000);
    let (client, log) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    registry.put_blob(&image.contents, LAYER, SCOPE, &mut image.body(LAYER)).await.unwrap();
    assert_eq!(put_together(&server, MOST), image.contents.blob(LAYER).digest);
    let refused: Vec<usize> =
        server.seen().iter().filter(|r| matches!(r.method.as_str(), "PUT" | "PATCH")).map(length).take(3).collect();
    assert_eq!(refused, [PIECE + 300_000, PIECE, MOST], "whole, in pieces, in smaller pieces");
    let told: Vec<String> = log.retries().into_iter().map(|(what, _)| what).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|what| what.contains("the token expired while 8 MiB were sent")), "{told:?}");
    // A blob of this size is not sent as a whole any more.
    let before = server.seen().len();
    registry.put_blob(&image.contents, LAYER, SCOPE, &mut image.body(LAYER)).await.unwrap();
    let again: Vec<usize> = server.seen()[before..].iter().map(length).collect();
    assert!(again.iter().all(|length| *length <= PIECE), "{again:?}");
}

/// More than is kept in memory for a piece: it goes through a temporary file.
#[rstest]
#[tokio::test]
async fn pieces_of_any_size_that_a_registry_demands_are_sent_again_where_they_fail(
    #[values(Image::body, Image::once)] body: Open,
    #[values(8 << 20, 9 << 20, 11 << 20)] least: usize,
) {
    const PART: usize = 1_000_000;
    let (held, failed) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
    let server = Faulty::start(move |_, request| match request.method.as_str() {
        "POST" => accepted().header("OCI-Chunk-Min-Length", least),
        "GET" => {
            let last = held.load(Ordering::Relaxed) - 1;
            Reply::new("204 No Content").header("Location", "/s").header("Range", format!("0-{last}"))
        }
        "PUT" if length(request) > 0 => Reply::new("405 Method Not Allowed").body(b""),
        _ => by_patch(request, |request| match (range(request).0, failed.fetch_add(1, Ordering::Relaxed)) {
            // The second piece is taken in part before it fails.
            (start, 1) => {
                held.store(start + PART, Ordering::Relaxed);
                Reply::new("502 Bad Gateway").body(b"")
            }
            _ => {
                held.store(range(request).1, Ordering::Relaxed);
                accepted()
            }
        }),
    })
    .await;
    let image = layer_of(3 * least + 5);
    put(&server, &image, body(&image, LAYER)).await.unwrap();
    let patches: Vec<Request> = server.seen().into_iter().filter(|request| request.method == "PATCH").collect();
    let ranges: Vec<(usize, usize)> = patches.iter().map(range).collect();
    let (second, end) = (least + PART, 3 * least + 5);
    let expected = [(0, least), (least, 2 * least), (second, second + least), (second + least, end)];
    assert_eq!(ranges, expected);
    let mut whole = patches[0].body.clone();
    whole.extend(&patches[1].body[..PART]);
    whole.extend(patches[2..].iter().flat_map(|patch| &patch.body));
    assert_eq!(Digest::of(&whole), image.contents.blob(LAYER).digest);
}
