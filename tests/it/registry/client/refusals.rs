//! Registries that refuse to store something: what they say, and what to do about it.

use rstest::rstest;
use sealift::content::{Destination, RepositoryId};
use sealift::registry::RegistryDestination;

use super::content::{LAYER, client, host, image, noise};
use super::faulty::{Faulty, Reply};

// goharbor/harbor#17390
const HARBOR: &str = r#"{"errors":[{"code":"DENIED","message":"adding 29.0 MiB of storage resource, which when updated to current usage of 152.4 MiB will exceed the configured upper limit of 10.0 MiB."}]}"#;
// aws/containers-roadmap#2159
const ECR: &str = r#"{"errors":[{"code":"DENIED","message":"already has the maximum allowed number of images"}]}"#;
// docker-registry 2.8.2 on a full disk.
const DISK: &str =
    r#"{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":"write /data: no space left on device"}]}"#;
const DISK_BY_NUMBER: &str = r#"{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":{"DriverName":"filesystem","Enclosed":{"Op":"write","Path":"/data","Err":28}}}]}"#;

#[rstest]
#[case::quota("403 Forbidden", HARBOR, "upper limit", "the quota of the project")]
#[case::quota_as_413(
    "413 Payload Too Large",
    "storage quota exceeded",
    "storage quota exceeded",
    "the quota of the project"
)]
#[case::quota_as_507("507 Insufficient Storage", "project quota", "project quota", "the quota of the project")]
#[case::quota_as_400("400 Bad Request", HARBOR, "upper limit", "the quota of the project")]
#[case::images("403 Forbidden", ECR, "maximum allowed", "the quota of the project")]
#[case::disk("500 Internal Server Error", DISK, "no space left on device", "is full")]
#[case::disk_by_number("500 Internal Server Error", DISK_BY_NUMBER, "28", "is full")]
#[case::storage("507 Insufficient Storage", "", "507", "is full")]
#[tokio::test]
async fn a_registry_that_may_not_or_cannot_store_more_is_understood(
    #[values("POST", "PUT")] method: &'static str,
    #[case] status: &'static str,
    #[case] body: &'static str,
    #[case] said: &str,
    #[case] hint: &str,
) {
    let server = Faulty::start(move |_, request| match request.method.as_str() {
        refused if refused == method => Reply::new(status).body(body.as_bytes()),
        "POST" => Reply::new("202 Accepted").header("Location", "/s").body(b""),
        _ => Reply::new("204 No Content"),
    })
    .await;
    let image = image(noise(1000), &["ns/app:1"], &[]);
    let (client, log) = client();
    let registry = RegistryDestination::new(&client, &host(server.port), None);
    let error = registry.put_blob(&image.contents, LAYER, RepositoryId(0), &mut image.body(LAYER)).await.unwrap_err();
    assert!(error.chain().contains(said), "{error:?}");
    assert!(error.hints().len() == 1 && error.hints()[0].contains(hint), "{error:?}");
    assert!(log.retries().is_empty(), "{:?}", log.retries());
    let lines = server.lines();
    assert_eq!(lines.iter().filter(|line| line.starts_with(method)).count(), 1, "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("PATCH")), "{lines:?}");
}
