//! What is written to a registry that misbehaves.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rstest::rstest;
use sealift::content::{BlobStatus, Builder, Destination, ManifestId, MountOutcome, NamedImage, RepositoryId};
use sealift::error::Kind;
use sealift::oci::{Digest, Document, MediaType};
use sealift::registry::RegistryDestination;

use super::content::{Image, LAYER, Memory, client, host, image, noise};
use super::faulty::{Faulty, Reply, Request};

const SIZE: usize = 3_000_000;
const SCOPE: RepositoryId = RepositoryId(0);

fn layer_of(size: usize) -> Image {
    image(noise(size), &["ns/app:1"], &[])
}

/// A session at `location`, and what else a registry answers.
fn registry(request: &Request, location: &str) -> Reply {
    match request.method.as_str() {
        "POST" => Reply::new("202 Accepted").header("Location", location).body(b""),
        "PUT" => Reply::new("201 Created").body(b""),
        "DELETE" => Reply::new("204 No Content"),
        _ => Reply::new("404 Not Found").body(b""),
    }
}

async fn put(server: &Faulty, image: &Image) -> sealift::Result<()> {
    let (client, _) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    registry.put_blob(&image.contents, LAYER, SCOPE, &mut image.body(LAYER)).await.map(drop)
}

#[tokio::test]
async fn a_put_that_is_cut_is_sent_again_in_a_new_session_with_its_length() {
    let server = Faulty::start(|number, request| match number {
        1 => Reply::hang_up_after(1_000_000),
        _ => registry(request, "/v2/ns/app/blobs/uploads/1?_state=a%2Bb"),
    })
    .await;
    let image = layer_of(SIZE);
    put(&server, &image).await.unwrap();
    let seen = server.seen();
    let puts: Vec<&Request> = seen.iter().filter(|request| request.method == "PUT").collect();
    assert_eq!(puts.len(), 2);
    let digest = image.contents.blob(LAYER).digest;
    for put in &puts {
        assert_eq!(put.headers["content-length"], SIZE.to_string());
        assert_eq!(put.headers.get("transfer-encoding"), None);
        assert_eq!(put.path, format!("/v2/ns/app/blobs/uploads/1?_state=a%2Bb&digest=sha256%3A{}", digest.hex()));
    }
    assert_eq!(Digest::of(&puts[1].body), digest);
    assert_eq!(seen[0].headers["content-length"], "0");
    assert_eq!(server.lines().iter().filter(|line| line.starts_with("POST")).count(), 2);
}

#[tokio::test]
async fn a_location_on_another_port_is_used_with_its_query() {
    let storage = Faulty::start(|_, request| registry(request, "")).await;
    let location = format!("http://127.0.0.1:{}/store?token=t", storage.port);
    let server = Faulty::start(move |_, request| registry(request, &location)).await;
    let image = layer_of(SIZE);
    put(&server, &image).await.unwrap();
    let seen = storage.seen();
    assert_eq!(seen.len(), 1);
    assert!(seen[0].path.starts_with("/store?token=t&digest=sha256%3A"), "{}", seen[0].path);
    assert_eq!(seen[0].body.len(), SIZE);
    assert_eq!(server.lines(), ["POST /v2/ns/app/blobs/uploads/"]);
}

#[tokio::test]
async fn a_307_on_a_streamed_put_gets_the_whole_body_again_at_the_new_place() {
    let storage = Faulty::start(|_, request| registry(request, "")).await;
    let location = format!("http://127.0.0.1:{}/store?sig=s", storage.port);
    let server = Faulty::start(move |number, request| match number {
        1 => Reply::new("307 Temporary Redirect").header("Location", &location).body(b""),
        _ => registry(request, "/v2/ns/app/blobs/uploads/1"),
    })
    .await;
    let image = layer_of(SIZE);
    put(&server, &image).await.unwrap();
    let seen = storage.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].path, "/store?sig=s");
    assert_eq!(Digest::of(&seen[0].body), image.contents.blob(LAYER).digest);
}

#[tokio::test]
async fn a_body_that_is_wrong_ends_the_upload_with_its_own_error() {
    let server = Faulty::start(|_, request| registry(request, "/session")).await;
    let image = layer_of(SIZE);
    let mut blobs = image.blobs.clone();
    blobs.insert(image.contents.blob(LAYER).digest, noise(SIZE + 1).slice(1..));
    let source = Arc::new(Memory { blobs, pause: Duration::ZERO });
    let (client, log) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    let mut body = image.body_from(source, LAYER);
    let error = registry.put_blob(&image.contents, LAYER, SCOPE, &mut body).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(error.chain().contains("digest"), "{error:?}");
    assert!(log.retries().is_empty());
    assert_eq!(server.lines(), ["POST /v2/ns/app/blobs/uploads/", "PUT /session", "DELETE /session"]);
    assert!(server.seen()[1].body.len() < SIZE, "it must never be whole there");
}

#[tokio::test]
async fn a_server_that_takes_nothing_is_left_but_a_slow_source_is_waited_for() {
    let server = Faulty::start(|number, request| match number {
        1 => Reply::stall(),
        _ => registry(request, "/session"),
    })
    .await;
    // More than the sockets hold.
    let image = layer_of(20_000_000);
    put(&server, &image).await.unwrap();
    assert_eq!(server.lines().iter().filter(|line| line.starts_with("PUT")).count(), 2);

    let server = Faulty::start(|_, request| registry(request, "/session")).await;
    let image = layer_of(150_000);
    let slow = Arc::new(Memory { blobs: image.blobs.clone(), pause: Duration::from_millis(1500) });
    let (client, log) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    registry.put_blob(&image.contents, LAYER, SCOPE, &mut image.body_from(slow, LAYER)).await.unwrap();
    assert!(log.retries().is_empty(), "{:?}", log.retries());
}

#[tokio::test]
async fn a_piece_that_is_taken_in_part_goes_on_where_the_registry_stands() {
    const PIECE: usize = 8 << 20;
    let size = PIECE + 500_000;
    let server = Faulty::start(move |number, request| match (number, request.method.as_str()) {
        (0, _) => Reply::new("202 Accepted").header("Location", "/s/0").body(b""),
        // The first piece: cut, and then 1,000,000 bytes of it are there.
        (1, _) => Reply::hang_up_after(1_000_000),
        (2, "GET") => Reply::new("204 No Content").header("Location", "/s/1").header("Range", "0-999999"),
        (3, _) => {
            Reply::new("202 Accepted").header("Location", "/s/2").header("Range", format!("0-{}", PIECE - 1)).body(b"")
        }
        (4, _) => {
            Reply::new("202 Accepted").header("Location", "/s/3").header("Range", format!("0-{}", size - 1)).body(b"")
        }
        _ => Reply::new("201 Created").body(b""),
    })
    .await;
    let image = layer_of(size);
    let (client, log) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    registry.put_blob(&image.contents, LAYER, SCOPE, &mut image.once(LAYER)).await.unwrap();
    assert_eq!(
        server.lines(),
        ["POST /v2/ns/app/blobs/uploads/", "PATCH /s/0", "GET /s/0", "PATCH /s/1", "PATCH /s/2", "PUT /s/3"]
    );
    let seen = server.seen();
    assert_eq!(seen[3].headers["content-range"], format!("1000000-{}", PIECE - 1));
    assert_eq!(seen[4].headers["content-range"], format!("{PIECE}-{}", size - 1));
    let all = [&seen[1].body[..1_000_000], &seen[3].body, &seen[4].body].concat();
    assert_eq!(Digest::of(&all), image.contents.blob(LAYER).digest);
    assert_eq!(seen[5].headers["content-length"], "0");
    assert_eq!(log.retries().len(), 1);
}

#[tokio::test]
async fn pieces_that_the_registry_has_lost_end_the_upload() {
    let server = Faulty::start(move |number, request| match (number, request.method.as_str()) {
        (0, _) => Reply::new("202 Accepted").header("Location", "/s").body(b""),
        (1, _) => Reply::new("202 Accepted").header("Location", "/s").body(b""),
        (2, _) => Reply::new("500 Internal Server Error").body(b""),
        (3, "GET") => Reply::new("204 No Content").header("Range", "0-99"),
        _ => Reply::new("204 No Content"),
    })
    .await;
    let image = layer_of((8 << 20) + 5);
    let (client, _) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    let error = registry.put_blob(&image.contents, LAYER, SCOPE, &mut image.once(LAYER)).await.unwrap_err();
    assert!(error.chain().contains("has 100 bytes"), "{error:?}");
    assert_eq!(server.lines().last().unwrap(), "DELETE /s");
}

#[tokio::test]
async fn a_small_body_that_is_read_once_is_kept_and_tried_again() {
    let server = Faulty::start(|number, request| match number {
        1 => Reply::new("502 Bad Gateway").body(b""),
        _ => registry(request, "/s"),
    })
    .await;
    let image = layer_of(500_000);
    let (client, log) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    registry.put_blob(&image.contents, LAYER, SCOPE, &mut image.once(LAYER)).await.unwrap();
    assert_eq!(log.retries().len(), 1);
    assert_eq!(Digest::of(&server.seen().last().unwrap().body), image.contents.blob(LAYER).digest);
}

#[tokio::test]
async fn a_refused_mount_takes_its_session_back() {
    let server = Faulty::start(|_, request| registry(request, "/session?x=1")).await;
    let image = image(noise(10), &["a/app:1", "b/app:1"], &[]);
    let (client, _) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), Some("pre".parse().unwrap()));
    let linked = registry.mount_blob(&image.contents, LAYER, RepositoryId(0), RepositoryId(1)).await.unwrap();
    assert_eq!(linked, MountOutcome::Refused);
    assert_eq!(server.lines(), ["POST /v2/pre/b/app/blobs/uploads/", "DELETE /session"]);
    assert!(server.seen()[0].path.ends_with("&from=pre/a/app"));
}

#[rstest]
#[case::at_once("500 Internal Server Error", 1)]
#[case::by_principle("501 Not Implemented", 1)]
#[case::overloaded("503 Service Unavailable", 4)]
#[tokio::test]
async fn after_a_mount_that_fails_none_is_tried_any_more(#[case] status: &'static str, #[case] times: usize) {
    let server = Faulty::start(move |_, _| Reply::new(status).body(b"")).await;
    let image = image(noise(10), &["a/app:1", "b/app:1"], &[]);
    let (client, _) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    for blob in image.contents.blob_ids() {
        let linked = registry.mount_blob(&image.contents, blob, RepositoryId(0), RepositoryId(1)).await.unwrap();
        assert_eq!(linked, MountOutcome::Refused);
    }
    assert_eq!(server.seen().len(), times);
}

#[tokio::test]
async fn the_registrys_reason_for_refusing_a_manifest_is_shown() {
    let server = Faulty::start(|_, request| match request.method.as_str() {
        "HEAD" => Reply::new("404 Not Found"),
        _ => {
            Reply::new("400 Bad Request").body(br#"{"errors":[{"code":"MANIFEST_INVALID","message":"not like this"}]}"#)
        }
    })
    .await;
    let image = layer_of(10);
    let (client, _) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    let error = registry.put_manifest(&image.contents, ManifestId(0)).await.unwrap_err();
    assert!(error.chain().contains("MANIFEST_INVALID not like this"), "{error:?}");
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_tag_that_points_elsewhere_after_the_push_is_an_error() {
    let server = Faulty::start(|_, request| match request.method.as_str() {
        "PUT" => Reply::new("201 Created").body(b""),
        _ => Reply::new("200 OK").header("Docker-Content-Digest", Digest::of(b"other")).body(b""),
    })
    .await;
    let image = layer_of(10);
    let (client, _) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    let error = registry.put_manifest(&image.contents, ManifestId(0)).await.unwrap_err();
    assert!(error.chain().contains("after"), "{error:?}");
    let put = &server.seen()[1];
    assert_eq!(put.body, *image.document.bytes());
    assert_eq!(put.headers["content-type"], "application/vnd.oci.image.manifest.v1+json");
}

#[tokio::test]
async fn a_blob_of_another_size_there_is_an_error() {
    let server = Faulty::start(|_, _| Reply::new("200 OK").header("Content-Length", 11)).await;
    let (client, _) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    assert!(registry.blob_status(&layer_of(10).contents, LAYER, SCOPE).await.is_err());
    assert_eq!(registry.blob_status(&layer_of(11).contents, LAYER, SCOPE).await.unwrap(), BlobStatus::Present);
}

#[tokio::test]
async fn a_port_where_nothing_listens_is_told_at_once() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (client, log) = client();
    let error = RegistryDestination::new(&client, &host(free), None).prepare(&layer_of(1).contents).await.unwrap_err();
    assert!(error.chain().contains(&format!("cannot reach 127.0.0.1:{free}: connection refused")), "{error:?}");
    assert!(error.hints()[0].contains("running"), "{error:?}");
    assert!(log.retries().is_empty());
}

/// A registry that takes a blob by PATCH only, and what it has put together.
fn patches_only(request: &Request, refusal: &str, least: usize) -> Reply {
    match request.method.as_str() {
        "POST" => Reply::new("202 Accepted").header("Location", "/s").header("OCI-Chunk-Min-Length", least).body(b""),
        "PATCH" => Reply::new("202 Accepted").header("Location", "/s?n=1").body(b""),
        "PUT" if request.headers["content-length"] == "0" => Reply::new("201 Created").body(b""),
        "PUT" => Reply::new(refusal).body(b""),
        _ => Reply::new("204 No Content"),
    }
}

#[tokio::test]
async fn a_registry_without_monolithic_uploads_gets_the_blob_by_patch_and_is_remembered() {
    for refusal in ["405 Method Not Allowed", "501 Not Implemented", "413 Payload Too Large", "400 Bad Request"] {
        let server = Faulty::start(move |_, request| patches_only(request, refusal, 0)).await;
        let image = layer_of(500_000);
        let (client, _) = client();
        let registry = RegistryDestination::new(&client, &host(server.port), None);
        for mut body in [image.body(LAYER), image.body(LAYER), image.once(LAYER)] {
            registry.put_blob(&image.contents, LAYER, SCOPE, &mut body).await.unwrap();
        }
        let start = "POST /v2/ns/app/blobs/uploads/";
        let by_patch = [start, "PATCH /s", "PUT /s"];
        assert_eq!(server.lines(), [&[start, "PUT /s", "DELETE /s"][..], &by_patch, &by_patch, &by_patch].concat());
        let seen = server.seen();
        assert_eq!(Digest::of(&seen[4].body), image.contents.blob(LAYER).digest);
        assert_eq!(seen[4].headers["content-range"], "0-499999");
        assert!(seen[5].path.starts_with("/s?n=1&digest=sha256%3A"), "{}", seen[5].path);
    }
}

#[tokio::test]
async fn a_digest_that_the_registry_finds_wrong_is_not_tried_in_pieces() {
    let server = Faulty::start(|_, request| match request.method.as_str() {
        "PUT" => Reply::new("400 Bad Request").body(br#"{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}"#),
        _ => registry(request, "/s"),
    })
    .await;
    let error = put(&server, &layer_of(1000)).await.unwrap_err();
    assert!(error.chain().contains("DIGEST_INVALID"), "{error:?}");
    assert_eq!(server.lines(), ["POST /v2/ns/app/blobs/uploads/", "PUT /s", "DELETE /s"]);
}

#[tokio::test]
async fn pieces_are_as_large_as_the_registry_demands() {
    const LEAST: usize = 9 << 20;
    let server = Faulty::start(|_, request| patches_only(request, "405 Method Not Allowed", LEAST)).await;
    let image = layer_of(LEAST + 5);
    put(&server, &image).await.unwrap();
    let ranges: Vec<String> =
        server.seen().iter().filter_map(|request| request.headers.get("content-range").cloned()).collect();
    assert_eq!(ranges, [format!("0-{}", LEAST - 1), format!("{LEAST}-{}", LEAST + 4)]);
    let server = Faulty::start(|_, request| patches_only(request, "405 Method Not Allowed", 1 << 40)).await;
    let error = put(&server, &layer_of(1000)).await.unwrap_err();
    assert!(error.chain().contains("takes no piece below"), "{error:?}");
}

#[tokio::test]
async fn a_registry_without_head_is_asked_otherwise() {
    let image = layer_of(10);
    let digest = image.document.digest();
    let bytes = image.document.bytes().to_vec();
    let server = Faulty::start(move |number, request| match request.method.as_str() {
        "HEAD" => Reply::new("405 Method Not Allowed"),
        "GET" if number < 4 => Reply::new("404 Not Found").body(b""),
        "GET" => Reply::new("200 OK").header("Docker-Content-Digest", digest).body(&bytes),
        _ => Reply::new("201 Created").body(b""),
    })
    .await;
    let (client, _) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    assert_eq!(registry.blob_status(&image.contents, LAYER, SCOPE).await.unwrap(), BlobStatus::Unknown);
    registry.put_manifest(&image.contents, ManifestId(0)).await.unwrap();
    let manifest = |method: &str| format!("{method} /v2/ns/app/manifests/1");
    let expected = ["HEAD", "GET", "PUT", "GET"].map(manifest);
    assert_eq!(server.lines()[1..], expected);
}

#[tokio::test]
async fn a_token_that_expires_while_a_layer_is_sent_makes_it_go_in_pieces() {
    let server = Faulty::start(|number, request| {
        let host = &request.headers["host"];
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"s\",error=\"invalid_token\"");
        let refused = || Reply::new("401 Unauthorized").header("WWW-Authenticate", &challenge).body(b"");
        match (request.method.as_str(), request.path.as_str()) {
            (_, path) if path.starts_with("/token") => {
                Reply::new("200 OK").body(format!(r#"{{"token":"t{number}","expires_in":300}}"#).as_bytes())
            }
            // It has all of the body, and finds then that the token is too old.
            ("PUT", _) if request.headers["content-length"] != "0" => refused(),
            _ => patches_only(request, "405 Method Not Allowed", 0),
        }
    })
    .await;
    let image = layer_of(SIZE);
    put(&server, &image).await.unwrap();
    let lines: Vec<String> = server.lines().into_iter().filter(|line| !line.starts_with("GET")).collect();
    let start = "POST /v2/ns/app/blobs/uploads/";
    assert_eq!(lines, [start, "PUT /s", "DELETE /s", start, "PATCH /s", "PUT /s"]);
    let sent = server.seen().into_iter().find(|request| request.method == "PATCH").unwrap();
    assert_eq!(Digest::of(&sent.body), image.contents.blob(LAYER).digest);
}

#[tokio::test]
async fn a_refused_image_of_docker_comes_with_what_may_be_behind_it() {
    let server = Faulty::start(|_, request| match request.method.as_str() {
        "PUT" => Reply::new("415 Unsupported Media Type").body(b""),
        _ => Reply::new("404 Not Found").body(b""),
    })
    .await;
    let text = layer_of(10).document.bytes().to_vec();
    let text = String::from_utf8(text).unwrap().replace(MediaType::OCI_MANIFEST, MediaType::DOCKER_MANIFEST);
    let document = Document::parse(Bytes::from(text), &MediaType::new(MediaType::DOCKER_MANIFEST)).unwrap();
    let mut builder = Builder::default();
    builder.document(&document).unwrap();
    let (name, source) = ("ns/app:1".parse().unwrap(), "x".to_owned());
    builder.image(NamedImage { name, source, document: document.digest() }, None);
    let contents = builder.finish().unwrap();
    let (client, _) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    let error = registry.put_manifest(&contents, ManifestId(0)).await.unwrap_err();
    assert!(error.hints().iter().any(|hint| hint.contains("docker2s2")), "{error:?}");
}
