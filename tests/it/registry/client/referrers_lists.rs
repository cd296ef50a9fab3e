//! Lists of referrers that someone else writes at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use sealift::content::{Builder, Contents, Destination, NamedImage};
use sealift::oci::{Digest, Document, MediaType};
use sealift::registry::RegistryDestination;

use super::content::{client, host, image, noise};
use super::faulty::{Faulty, Reply, Request};

/// The list of the referrers of something, with one entry, as it is carried.
struct Carried {
    contents: Contents,
    tag: String,
    entry: Digest,
}

fn carried() -> Carried {
    let referrer = image(noise(10), &["ns/app:1"], &[]).document;
    let entry = referrer.digest();
    let list = Document::parse(Bytes::from(list_of(&[entry])), &MediaType::new(MediaType::OCI_INDEX)).unwrap();
    let tag = format!("sha256-{}", Digest::of(b"subject").hex());
    let mut builder = Builder::default();
    builder.document(&referrer).unwrap();
    builder.document(&list).unwrap();
    let name = format!("ns/app:{tag}").parse().unwrap();
    builder.image(NamedImage { name, source: String::new(), document: list.digest() }, None);
    Carried { contents: builder.finish().unwrap(), tag, entry }
}

fn list_of(entries: &[Digest]) -> String {
    let size = image(noise(10), &[], &[]).document.size();
    let entry =
        |digest: &Digest| format!(r#"{{"mediaType":"{}","digest":"{digest}","size":{size}}}"#, MediaType::OCI_MANIFEST);
    let entries: Vec<String> = entries.iter().map(entry).collect();
    format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#, MediaType::OCI_INDEX, entries.join(","))
}

/// Answers the n-th GET of a list by `lists(n)`.
async fn registry(lists: impl Fn(usize) -> Option<String> + Send + Sync + 'static) -> Faulty {
    let count = Arc::new(AtomicUsize::new(0));
    Faulty::start(move |_, request: &Request| match request.method.as_str() {
        "GET" if request.path.contains("/manifests/sha256-") => match lists(count.fetch_add(1, Ordering::SeqCst)) {
            Some(list) => Reply::new("200 OK").header("Content-Type", MediaType::OCI_INDEX).body(list.as_bytes()),
            None => Reply::new("404 Not Found").body(b""),
        },
        "PUT" => Reply::new("201 Created").body(b""),
        _ => Reply::new("404 Not Found").body(b""),
    })
    .await
}

async fn push(server: &Faulty, carried: &Carried) -> Vec<sealift::error::Failure> {
    let registry = RegistryDestination::new(&client().0, &host(server.port), None);
    let contents = &carried.contents;
    let list = contents.manifest_ids().find(|id| contents.manifest(*id).tag.is_some()).unwrap();
    registry.put_manifest(contents, list).await.unwrap();
    registry.confirm(contents).await.unwrap()
}

fn written(server: &Faulty) -> Vec<String> {
    let puts = server.seen().into_iter().filter(|request| request.method == "PUT");
    puts.map(|request| String::from_utf8(request.body).unwrap()).collect()
}

/// Two clients read the same list, and each writes it with its own entry alone (google/go-containerregistry#2205).
#[tokio::test]
async fn an_entry_that_another_client_has_overwritten_is_added_again() {
    let (carried, other) = (carried(), Digest::of(b"from elsewhere"));
    let both = list_of(&[other, carried.entry]);
    let answers = [None, Some(list_of(&[other])), Some(both.clone())];
    let server = registry(move |number| answers[number].clone()).await;
    assert!(push(&server, &carried).await.is_empty());
    let written = written(&server);
    assert_eq!(written.len(), 2, "{written:?}");
    assert_eq!(written[0], list_of(&[carried.entry]), "carried bytes go to where nothing is");
    let again: serde_json::Value = serde_json::from_str(&written[1]).unwrap();
    assert_eq!(again, serde_json::from_str::<serde_json::Value>(&both).unwrap());
}

#[tokio::test]
async fn a_list_that_never_keeps_its_entries_is_a_failure_of_its_image() {
    let (carried, other) = (carried(), Digest::of(b"from elsewhere"));
    let server = registry(move |_| Some(list_of(&[other]))).await;
    let failures = push(&server, &carried).await;
    let names: Vec<&str> = failures.iter().map(|failure| failure.image.as_str()).collect();
    assert_eq!(names, [format!("ns/app:{}", carried.tag)]);
    assert!(failures[0].error.chain().contains("lacked entries each time"), "{failures:?}");
    assert!(written(&server).len() < 20, "the number of tries has a bound");
}

/// A registry may take a moment to show what was written: nothing is written meanwhile.
#[tokio::test]
async fn a_list_that_is_not_seen_at_once_is_waited_for() {
    let carried = carried();
    let answers = [None, None, None, Some(list_of(&[carried.entry]))];
    let server = registry(move |number| answers[number].clone()).await;
    assert!(push(&server, &carried).await.is_empty());
    assert_eq!(written(&server).len(), 1);
}
