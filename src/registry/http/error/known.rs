//! Refusals that registries word each in their own way: there is no code for them in the specification.

use reqwest::StatusCode;

use crate::registry::http::retry::Known;

/// What the words `said`, with which a registry refuses to store something, are known to mean.
pub(crate) fn known(status: StatusCode, said: &str) -> Option<Known> {
    // These are about a login, and about requests a second.
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS) {
        return None;
    }
    let said = said.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| said.contains(words));
    match () {
        () if says(FULL) => Some(Known::Full),
        () if says(QUOTA) && status != StatusCode::SERVICE_UNAVAILABLE => Some(Known::Quota),
        () if says(IMMUTABLE) => Some(Known::Immutable),
        () if status == StatusCode::INSUFFICIENT_STORAGE => Some(Known::Full),
        () => None,
    }
}

/// The disk or the object storage of the registry. distribution repeats what the system says, in words or as the number of
/// the error (28 is ENOSPC).
const FULL: &[&str] = &[
    "no space left on device",
    "\"err\":28,",
    "\"err\":28}",
    "disk quota exceeded",
    "not enough space",
    "insufficient storage",
    "storagefull",
];
/// Harbor ("will exceed the configured upper limit", goharbor/harbor#8802 and #17390), Quay and GitLab ("quota"), ECR (the
/// "maximum allowed number of images", aws/containers-roadmap#2159).
const QUOTA: &[&str] = &["quota", "configured upper limit", "storage limit", "maximum allowed number", "limitexceeded"];
/// Harbor, Quay, Docker Hub, Google ("immutable", "immutability"), ECR and Alibaba ("cannot be overwritten",
/// moby/buildkit#3776), Nexus ("does not allow updating", GoogleContainerTools/jib#3057), Artifactory ("delete/overwrite"),
/// Azure (locked: "operation is disallowed").
const IMMUTABLE: &[&str] = &[
    "immutab",
    "cannot be overwritten",
    "does not allow updating",
    "cannot be updated",
    "delete/overwrite",
    "operation is disallowed",
];

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::harbor(
        403,
        "DENIED adding 29.0 MiB of storage resource, which when updated to current usage of 152.4 MiB will exceed the configured upper limit of 10.0 MiB.",
        Some(Known::Quota)
    )]
    #[case::harbor_before(412, "DENIED Quota exceeded when processing the request", Some(Known::Quota))]
    #[case::quay(403, "DENIED Quota has been exceeded on namespace", Some(Known::Quota))]
    #[case::ecr(403, "LimitExceededException already has the maximum allowed number of images", Some(Known::Quota))]
    #[case::too_many_requests(429, "Quota exceeded for quota metric 'Requests per minute'", None)]
    #[case::disk(
        500,
        "UNKNOWN unknown error \"write /var/lib/registry/data: no space left on device\"",
        Some(Known::Full)
    )]
    #[case::disk_by_number(
        500,
        "UNKNOWN unknown error {\"DriverName\":\"filesystem\",\"Enclosed\":{\"Err\":28,\"Op\":\"write\"}}",
        Some(Known::Full)
    )]
    #[case::user_of_the_disk(500, "write /data: disk quota exceeded", Some(Known::Full))]
    #[case::webdav(507, "", Some(Known::Full))]
    #[case::harbor_tag(412, "PRECONDITION 'nginx:latest' configured as immutable.", Some(Known::Immutable))]
    #[case::ecr_tag(
        400,
        "TAG_INVALID The image tag '1' already exists in the 'a' repository and cannot be overwritten because the repository is immutable.",
        Some(Known::Immutable)
    )]
    #[case::nexus_tag(
        400,
        "BLOB_UPLOAD_INVALID blob upload invalid \"Repository does not allow updating assets: docker\"",
        Some(Known::Immutable)
    )]
    #[case::artifactory_tag(
        403,
        "DENIED Not enough permissions to delete/overwrite artifact 'a'",
        Some(Known::Immutable)
    )]
    #[case::azure(
        405,
        "DENIED The operation is disallowed on this registry, repository or image.",
        Some(Known::Immutable)
    )]
    #[case::no_right(403, "DENIED requested access to the resource is denied", None)]
    fn words_are_known(#[case] status: u16, #[case] said: &str, #[case] expected: Option<Known>) {
        assert_eq!(known(StatusCode::from_u16(status).unwrap(), said), expected);
    }
}
