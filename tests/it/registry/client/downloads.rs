//! What is read from a registry that misbehaves.

use std::time::Duration;

use bytes::Bytes;
use sealift::content::{Catalog, Source};
use sealift::error::Kind;
use sealift::oci::{Digest, Selector};
use sealift::registry::{Client, Settings};

use super::content::{LAYER, client, host, image, noise, read};
use super::faulty::{Faulty, Reply};

const SIZE: usize = 300_000;

/// Reads a layer of [`SIZE`] bytes from a server.
async fn download(server: &Faulty) -> (sealift::Result<Vec<u8>>, Bytes, usize) {
    let layer = noise(SIZE);
    let image = image(layer.clone(), &["ns/app:1"], &[format!("127.0.0.1:{}/ns/app", server.port)]);
    let (client, log) = client();
    let result = match client.open(&image.contents, LAYER, 0).await {
        Ok(chunks) => read(chunks).await,
        Err(error) => Err(error),
    };
    (result, layer, log.retries().len())
}

#[tokio::test]
async fn a_body_cut_in_the_middle_is_resumed_where_it_ended() {
    let server = Faulty::start(|number, _| {
        let layer = noise(SIZE);
        match number {
            0 => Reply::new("200 OK").header("Content-Length", SIZE).cut(&layer[..123_456]),
            _ => Reply::new("206 Partial Content")
                .header("Content-Range", format!("bytes 123456-{}/{SIZE}", SIZE - 1))
                .body(&layer[123_456..]),
        }
    })
    .await;
    let (result, layer, retries) = download(&server).await;
    assert_eq!(result.unwrap(), layer);
    assert_eq!(retries, 1);
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].headers.get("range"), None);
    assert_eq!(seen[1].headers["range"], "bytes=123456-");
}

#[tokio::test]
async fn a_server_that_starts_over_is_read_from_where_the_stream_was() {
    let server = Faulty::start(|number, _| {
        let layer = noise(SIZE);
        match number {
            0 => Reply::new("200 OK").header("Content-Length", SIZE).cut(&layer[..123_456]),
            _ => Reply::new("200 OK").body(&layer),
        }
    })
    .await;
    let (result, layer, _) = download(&server).await;
    assert_eq!(result.unwrap(), layer);
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left_and_asked_again() {
    let server = Faulty::start(|number, _| match number {
        0 => Reply::stall(),
        _ => Reply::new("200 OK").body(&noise(SIZE)),
    })
    .await;
    let (result, layer, retries) = download(&server).await;
    assert_eq!(result.unwrap(), layer);
    assert_eq!(retries, 1);
}

#[tokio::test]
async fn a_length_that_is_not_the_descriptors_is_an_error_at_once() {
    let server = Faulty::start(|_, _| Reply::new("200 OK").body(&noise(SIZE - 1))).await;
    let (result, _, retries) = download(&server).await;
    let error = result.expect_err("a lie");
    assert_eq!((error.kind(), retries, server.seen().len()), (Kind::Registry, 0, 1));
    assert!(
        error.chain().contains("has 300000 bytes, and") && error.chain().contains("serves 299999 bytes"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_body_without_a_length_that_goes_on_is_an_error() {
    let server = Faulty::start(|_, _| Reply::new("200 OK").cut(&[noise(SIZE), noise(9)].concat())).await;
    let (result, ..) = download(&server).await;
    assert!(result.expect_err("a lie").chain().contains("serves more than 300000 bytes"));
}

#[tokio::test]
async fn a_part_that_is_not_the_one_asked_for_is_an_error_at_once() {
    for range in ["bytes 123455-299999/300000", "bytes 123456-299999/300001", "nonsense"] {
        let server = Faulty::start(move |number, _| match number {
            0 => Reply::new("200 OK").header("Content-Length", SIZE).cut(&noise(SIZE)[..123_456]),
            _ => Reply::new("206 Partial Content").header("Content-Range", range).cut(&noise(SIZE)[123_456..]),
        })
        .await;
        let (result, ..) = download(&server).await;
        assert_eq!(result.expect_err(range).kind(), Kind::Registry);
        assert_eq!(server.seen().len(), 2, "{range}");
    }
}

#[tokio::test]
async fn a_server_that_never_gets_further_is_given_up() {
    let server =
        Faulty::start(|_, _| Reply::new("200 OK").header("Content-Length", SIZE).cut(&noise(SIZE)[..10])).await;
    let (result, _, retries) = download(&server).await;
    let error = result.expect_err("never whole");
    assert!(error.hints().iter().any(|hint| hint.contains("tried")), "{error:?}");
    assert!(retries <= 40, "{retries}");
}

#[tokio::test]
async fn the_pause_that_a_server_asks_for_is_kept() {
    let server = Faulty::start(|number, _| match number {
        0 => Reply::new("503 Service Unavailable").header("Retry-After", 1).body(b"busy"),
        _ => Reply::new("200 OK").body(&noise(SIZE)),
    })
    .await;
    let layer = noise(SIZE);
    let image = image(layer.clone(), &["ns/app:1"], &[format!("127.0.0.1:{}/ns/app", server.port)]);
    let (client, log) = client();
    let chunks = client.open(&image.contents, LAYER, 0).await.unwrap();
    assert_eq!(read(chunks).await.unwrap(), layer);
    let retries = log.retries();
    assert_eq!(retries.len(), 1);
    assert_eq!(retries[0].1, Duration::from_secs(1));
    assert!(retries[0].0.contains("503") && retries[0].0.contains("busy"), "{retries:?}");
}

#[tokio::test]
async fn a_blob_that_one_repository_does_not_have_is_read_from_the_next() {
    let server = Faulty::start(|_, request| match request.path.starts_with("/v2/b/app/") {
        true => Reply::new("200 OK").body(&noise(SIZE)),
        false => Reply::new("404 Not Found").body(b""),
    })
    .await;
    let at = |path: &str| format!("127.0.0.1:{}/{path}", server.port);
    let layer = noise(SIZE);
    let (client, _) = client();
    let both = image(layer.clone(), &["a/app:1", "b/app:1"], &[at("a/app"), at("b/app")]);
    assert_eq!(read(client.open(&both.contents, LAYER, 0).await.unwrap()).await.unwrap(), layer);
    let one = image(layer, &["a/app:1"], &[at("a/app")]);
    let error = client.open(&one.contents, LAYER, 0).await.err().expect("nobody has it");
    assert_eq!(error.kind(), Kind::NotFound);
}

#[tokio::test]
async fn a_redirect_to_storage_elsewhere_is_followed_and_its_secret_not_told() {
    let storage = Faulty::start(|number, _| match number {
        0 => Reply::new("200 OK").header("Content-Length", SIZE).cut(&noise(SIZE)[..1000]),
        _ => Reply::new("403 Forbidden").body(b"expired"),
    })
    .await;
    let to = format!("http://127.0.0.1:{}/bucket/x?sig=SECRET", storage.port);
    let server =
        Faulty::start(move |_, _| Reply::new("307 Temporary Redirect").header("Location", &to).body(b"")).await;
    let (result, ..) = download(&server).await;
    let error = result.expect_err("forbidden in the end");
    assert_eq!(storage.seen()[1].headers["range"], "bytes=1000-");
    assert_eq!(storage.seen()[1].path, "/bucket/x?sig=SECRET");
    assert!(!format!("{error:?}").contains("SECRET"), "{error:?}");
}

#[tokio::test]
async fn pages_of_tags_are_read_to_the_end_and_circles_noticed() {
    let page = |from: usize, to: usize| {
        let tags: Vec<String> = (from..to).map(|n| format!("\"t{n:02}\"")).collect();
        format!(r#"{{"name":"ns/app","tags":[{}]}}"#, tags.join(","))
    };
    let server = Faulty::start(move |_, request| {
        let next = |last: &str| {
            let link = format!("</v2/ns/app/tags/list?n=10&last={last}>; rel=\"next\"");
            Reply::new("200 OK").header("Link", link)
        };
        match request.path.split_once("last=").map(|(_, last)| last) {
            None => next("t09").body(page(0, 10).as_bytes()),
            Some("t09") => next("t19").body(page(10, 20).as_bytes()),
            Some("t19") => Reply::new("200 OK").body(page(20, 25).as_bytes()),
            _ => Reply::new("400 Bad Request").body(b""),
        }
    })
    .await;
    let (client, _) = client();
    let repository = "ns/app".parse().unwrap();
    let tags = client.tags(&host(server.port), &repository).await.unwrap();
    assert_eq!(tags.len(), 25);
    assert_eq!(server.seen().len(), 3);
    assert!(server.seen()[0].path.ends_with("?n=10"));

    for (link, reason) in [
        ("</v2/ns/app/tags/list?last=x>; rel=next", "circle"),
        ("<http://internal.test:1/v2/ns/app/tags/list?last=x>; rel=next", "circle"),
        ("<ftp://127.0.0.1/v2/ns/app/tags/list>; rel=next", "nowhere"),
    ] {
        let server =
            Faulty::start(move |_, _| Reply::new("200 OK").header("Link", link).body(b"{\"tags\":[\"a\"]}")).await;
        let error = client.tags(&host(server.port), &repository).await.expect_err(link);
        assert!(error.chain().contains(reason), "{error:?}");
        assert!(server.seen().len() <= 3);
    }
}

#[tokio::test]
async fn five_thousand_tags_are_read_by_pages_or_at_once_where_n_is_ignored() {
    for heeds_n in [true, false] {
        let server = Faulty::start(move |_, request| {
            let after = |name: &str| request.path.split(name).nth(1).map(|text| text.split('&').next().unwrap_or(text));
            let from = after("last=t").map_or(0, |last| last.parse::<usize>().expect("a number") + 1);
            let n = after("?n=").and_then(|text| text.parse().ok()).filter(|_| heeds_n).unwrap_or(5_000);
            let to = (from + n).min(5_000);
            let tags: Vec<String> = (from..to).map(|number| format!("\"t{number:04}\"")).collect();
            let reply = match to {
                5_000 => Reply::new("200 OK"),
                _ => Reply::new("200 OK")
                    .header("Link", format!("</v2/ns/app/tags/list?n={n}&last=t{:04}>; rel=\"next\"", to - 1)),
            };
            reply.body(format!(r#"{{"tags":[{}]}}"#, tags.join(",")).as_bytes())
        })
        .await;
        let client = Client::new(Settings::default()).unwrap();
        let tags = client.tags(&host(server.port), &"ns/app".parse().unwrap()).await.unwrap();
        assert_eq!(tags.len(), 5_000);
        assert_eq!(tags.iter().last().unwrap().to_string(), "t4999");
        assert_eq!(server.seen().len(), if heeds_n { 5 } else { 1 });
    }
}

#[tokio::test]
async fn a_document_that_is_not_what_was_asked_for_or_too_large_is_refused() {
    let (client, _) = client();
    let repository = "ns/app".parse().unwrap();
    let image = image(noise(10), &["ns/app:1"], &[]);
    let text = image.document.bytes().clone();
    let other = Digest::of(b"other");
    let cases = [
        (Selector::Digest(other), None, text.to_vec(), "not sha256:"),
        (Selector::Tag("1".parse().unwrap()), Some(other), text.to_vec(), "not sha256:"),
        (Selector::Tag("1".parse().unwrap()), None, vec![b' '; (4 << 20) + 1], "more than 4194304 bytes"),
    ];
    for (selector, said, bytes, reason) in cases {
        let server = Faulty::start(move |_, _| {
            let reply = Reply::new("200 OK").header("Content-Type", "application/vnd.oci.image.manifest.v1+json");
            match said {
                Some(said) => reply.header("Docker-Content-Digest", said).body(&bytes),
                None => reply.body(&bytes),
            }
        })
        .await;
        let error = client.document(&host(server.port), &repository, &selector).await.expect_err(reason);
        assert!(error.chain().contains(reason), "{error:?}");
        assert_eq!(server.seen().len(), 1, "{reason}");
    }
}

#[tokio::test]
async fn schema_1_is_refused_by_its_name() {
    let server = Faulty::start(|_, _| {
        Reply::new("200 OK")
            .header("Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws")
            .header("Docker-Content-Digest", Digest::of(b"payload"))
            .body(b"{\"schemaVersion\":1}")
    })
    .await;
    let (client, _) = client();
    let selector = Selector::Tag("1".parse().unwrap());
    let error = client.document(&host(server.port), &"ns/app".parse().unwrap(), &selector).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.chain().contains("schema 1"), "{error:?}");
    assert!(server.seen()[0].headers["accept"].contains("manifest.v1+prettyjws"));
}

#[tokio::test]
async fn referrers_come_from_the_api_and_a_registry_without_it_is_told_apart_from_one_that_has_none() {
    let (client, _) = client();
    let (repository, subject) = ("ns/app".parse().unwrap(), Digest::of(b"subject"));
    let entry = Digest::of(b"signature");
    for (way, expected) in [("some", Some(vec![entry])), ("none", Some(vec![])), ("no api", None)] {
        let server = Faulty::start(move |_, request| {
            assert!(request.path.ends_with(&format!("/referrers/{subject}")));
            let entries = match way {
                "some" => format!(
                    r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{entry}","size":9}}"#
                ),
                _ => String::new(),
            };
            let index = format!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{entries}]}}"#
            );
            match way {
                "no api" => Reply::new("404 Not Found").body(b"404 page not found"),
                _ => Reply::new("200 OK")
                    .header("Content-Type", "application/vnd.oci.image.index.v1+json")
                    .body(index.as_bytes()),
            }
        })
        .await;
        let found = client.referrers(&host(server.port), &repository, subject).await.unwrap();
        let digests = found.map(|found| found.iter().map(|descriptor| descriptor.digest).collect::<Vec<_>>());
        assert_eq!(digests, expected, "{way}");
    }
}
