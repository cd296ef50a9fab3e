//! Upload sessions that are given up: the registry is asked to delete what it has of them.

use std::sync::atomic::{AtomicUsize, Ordering};

use sealift::content::{Destination, RepositoryId};
use sealift::registry::RegistryDestination;

use super::content::{LAYER, client, host, image, noise};
use super::faulty::{Faulty, Reply, Request};

const SCOPE: RepositoryId = RepositoryId(0);

/// distribution 3: a URL holds how many bytes came (`_state`), and all but GET must say it right
/// (registry/handlers/blobupload.go, `ResumeBlobUpload`; distribution/distribution#3755). A PUT that is cut has left 7, and
/// 3 more come in after the first GET.
async fn distribution_3(put: fn() -> Reply) -> Faulty {
    let asked = AtomicUsize::new(0);
    let at = |offset: usize| format!("/v2/ns/app/blobs/uploads/1?_state={offset}");
    Faulty::start(move |_, request: &Request| match request.method.as_str() {
        "POST" => Reply::new("202 Accepted").header("Location", at(0)).body(b""),
        "PUT" => put(),
        "GET" if request.path.contains("/uploads/") => {
            let offset = if asked.fetch_add(1, Ordering::Relaxed) == 0 { 7 } else { 10 };
            Reply::new("204 No Content").header("Location", at(offset)).header("Range", format!("0-{}", offset - 1))
        }
        "DELETE" => match asked.load(Ordering::Relaxed) > 1 && request.path == at(10) {
            true => Reply::new("204 No Content"),
            false => Reply::new("416 Requested Range Not Satisfiable").body(b""),
        },
        _ => Reply::new("404 Not Found").body(b""),
    })
    .await
}

#[tokio::test]
async fn a_session_is_cancelled_where_the_registry_says_that_it_stands() {
    let image = image(noise(3_000_000), &["ns/app:1"], &[]);
    let server = distribution_3(|| Reply::new("403 Forbidden").body(b"")).await;
    let (client, _) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    registry.put_blob(&image.contents, LAYER, SCOPE, &mut image.body(LAYER)).await.unwrap_err();
    let seen = server.seen();
    let paths: Vec<String> =
        seen[2..].iter().map(|r| format!("{} {}", r.method, &r.path[r.path.len() - 2..])).collect();
    assert_eq!(paths, ["DELETE =0", "GET =0", "DELETE =7", "GET =7", "DELETE 10"]);
}

#[tokio::test]
async fn a_run_that_is_stopped_cancels_where_the_registry_says_that_the_session_stands() {
    let image = image(noise(3_000_000), &["ns/app:1"], &[]);
    // It is stopped while the registry has the request.
    let server = distribution_3(Reply::stall).await;
    let (client, _) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    {
        let mut body = image.body(LAYER);
        let put = registry.put_blob(&image.contents, LAYER, SCOPE, &mut body);
        let has_begun = async {
            while server.seen().len() < 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            done = put => panic!("{done:?}"),
            () = has_begun => {}
        }
    }
    registry.abort().await;
    assert_eq!(server.seen().last().unwrap().method, "DELETE");
    assert!(server.seen().last().unwrap().path.ends_with("_state=10"), "{:?}", server.lines());
}

/// What was opened for a run that is stopped before it knows of it.
#[tokio::test]
async fn a_session_that_is_opened_while_the_run_is_stopped_is_cancelled() {
    let image = image(noise(3_000_000), &["ns/app:1"], &[]);
    let server = Faulty::start(|_, request| match request.method.as_str() {
        "POST" => Reply::new("202 Accepted")
            .header("Location", "/late")
            .body(b"")
            .after(std::time::Duration::from_millis(200)),
        _ => Reply::new("204 No Content"),
    })
    .await;
    let (client, _) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    {
        let mut body = image.body(LAYER);
        let put = registry.put_blob(&image.contents, LAYER, SCOPE, &mut body);
        let has_begun = async {
            while server.seen().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            done = put => panic!("{done:?}"),
            () = has_begun => {}
        }
    }
    registry.abort().await;
    assert_eq!(server.lines(), ["POST /v2/ns/app/blobs/uploads/", "DELETE /late"]);
}
