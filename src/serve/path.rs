//! What a request path asks for. Repository names have slashes, so a path is read from its end.

use axum::http::StatusCode;

use super::answer::{Code, Fault};
use crate::oci::{Digest, Repository, Tag};

/// An endpoint of distribution-spec, with its parts checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Base,
    Catalog,
    Tags(Repository),
    Manifest(Repository, ManifestRef),
    Blob(Repository, Digest),
    Uploads(Repository),
    Upload(Repository, String),
    Referrers(Repository, Digest),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ManifestRef {
    Tag(Tag),
    Digest(Digest),
}

impl Route {
    /// From the decoded path after `/v2/`.
    pub(super) fn parse(path: &str) -> Result<Self, Fault> {
        match path {
            "" => return Ok(Route::Base),
            "_catalog" => return Ok(Route::Catalog),
            _ => {}
        }
        // The last two components decide first: a repository may itself be called a/blobs/uploads.
        let (rest, last) = path.rsplit_once('/').ok_or_else(no_endpoint)?;
        let (name, kind) = rest.rsplit_once('/').unwrap_or(("", rest));
        match (kind, last) {
            ("tags", "list") => Ok(Route::Tags(repository(name)?)),
            ("manifests", reference) => Ok(Route::Manifest(repository(name)?, manifest_ref(reference)?)),
            ("blobs", "uploads") => Ok(Route::Uploads(repository(name)?)),
            ("blobs", text) => Ok(Route::Blob(repository(name)?, digest(text)?)),
            ("referrers", text) => Ok(Route::Referrers(repository(name)?, digest(text)?)),
            ("uploads", id) => {
                let name = name.strip_suffix("/blobs").ok_or_else(no_endpoint)?;
                let name = repository(name)?;
                Ok(if id.is_empty() { Route::Uploads(name) } else { Route::Upload(name, id.to_owned()) })
            }
            _ => Err(no_endpoint()),
        }
    }
}

fn repository(text: &str) -> Result<Repository, Fault> {
    text.parse().map_err(|e| Fault::new(StatusCode::BAD_REQUEST, Code::NameInvalid, format!("{e}")))
}

pub(super) fn digest(text: &str) -> Result<Digest, Fault> {
    text.parse().map_err(|e| Fault::new(StatusCode::BAD_REQUEST, Code::DigestInvalid, format!("{e}")))
}

fn manifest_ref(text: &str) -> Result<ManifestRef, Fault> {
    if text.contains(':') {
        return digest(text).map(ManifestRef::Digest);
    }
    text.parse()
        .map(ManifestRef::Tag)
        .map_err(|e| Fault::new(StatusCode::BAD_REQUEST, Code::ManifestInvalid, format!("{e}")))
}

fn no_endpoint() -> Fault {
    Fault::new(StatusCode::NOT_FOUND, Code::Unsupported, "there is no such endpoint")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn repo(text: &str) -> Repository {
        text.parse().unwrap()
    }

    #[test]
    fn endpoints_are_told_from_the_end_of_the_path() {
        let tag = |t: &str| ManifestRef::Tag(t.parse().unwrap());
        let digest: Digest = D.parse().unwrap();
        for (path, route) in [
            ("".to_owned(), Route::Base),
            ("_catalog".into(), Route::Catalog),
            ("a/b/c/tags/list".into(), Route::Tags(repo("a/b/c"))),
            ("a/manifests/1.0".into(), Route::Manifest(repo("a"), tag("1.0"))),
            (format!("a/b/manifests/{D}"), Route::Manifest(repo("a/b"), ManifestRef::Digest(digest))),
            (format!("a/b/blobs/{D}"), Route::Blob(repo("a/b"), digest)),
            ("a/b/blobs/uploads/".into(), Route::Uploads(repo("a/b"))),
            ("a/b/blobs/uploads".into(), Route::Uploads(repo("a/b"))),
            ("a/b/blobs/uploads/77".into(), Route::Upload(repo("a/b"), "77".into())),
            (format!("a/referrers/{D}"), Route::Referrers(repo("a"), digest)),
            ("a/blobs/uploads/manifests/x".into(), Route::Manifest(repo("a/blobs/uploads"), tag("x"))),
            ("tags/list/tags/list".into(), Route::Tags(repo("tags/list"))),
            ("manifests/manifests/manifests".into(), Route::Manifest(repo("manifests"), tag("manifests"))),
        ] {
            assert_eq!(Route::parse(&path).unwrap(), route, "{path}");
        }
    }

    #[rstest]
    #[case("nothing", 404)]
    #[case("a/b", 404)]
    #[case("a/tags/list/", 404)]
    #[case("a/uploads/1", 404)]
    #[case("tags/list", 400)]
    #[case("manifests/1", 400)]
    #[case("../../etc/manifests/passwd", 400)]
    #[case("a/../b/manifests/1", 400)]
    #[case("A/manifests/1", 400)]
    #[case("a//b/manifests/1", 400)]
    #[case("/a/manifests/1", 400)]
    #[case("a/manifests/..", 400)]
    #[case("a/manifests/", 400)]
    #[case("a/manifests/sha256:../../x", 404)]
    #[case("a/manifests/sha512:00", 400)]
    #[case("a/blobs/..", 400)]
    #[case("a/blobs/sha256:00", 400)]
    #[case("a/blobs/../uploads/1", 404)]
    #[case("a\0b/manifests/1", 400)]
    fn what_is_no_valid_path_is_answered_with_an_error(#[case] path: &str, #[case] status: u16) {
        assert_eq!(Route::parse(path).unwrap_err().status.as_u16(), status, "{path}");
    }
}
