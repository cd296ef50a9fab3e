//! Answers: distribution-spec's error bodies, and the headers that stand on every answer.

use axum::body::Body;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{Response, StatusCode};
use serde_json::json;

use crate::error::{Error, Kind};

/// distribution-spec, "Error Codes", and what registries use beyond them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    PaginationInvalid,
    RangeInvalid,
    SizeInvalid,
    TooManyRequests,
    Unsupported,
    Unknown,
}

impl Code {
    fn as_str(self) -> &'static str {
        match self {
            Code::BlobUnknown => "BLOB_UNKNOWN",
            Code::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Code::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Code::DigestInvalid => "DIGEST_INVALID",
            Code::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Code::ManifestInvalid => "MANIFEST_INVALID",
            Code::ManifestUnknown => "MANIFEST_UNKNOWN",
            Code::NameInvalid => "NAME_INVALID",
            Code::NameUnknown => "NAME_UNKNOWN",
            Code::PaginationInvalid => "PAGINATION_NUMBER_INVALID",
            Code::RangeInvalid => "RANGE_INVALID",
            Code::SizeInvalid => "SIZE_INVALID",
            Code::TooManyRequests => "TOOMANYREQUESTS",
            Code::Unsupported => "UNSUPPORTED",
            Code::Unknown => "UNKNOWN",
        }
    }
}

/// An answer that is not a success.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    code: Code,
    message: String,
    headers: Vec<(HeaderName, String)>,
}

impl Fault {
    pub(super) fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Fault { status, code, message: message.into(), headers: Vec::new() }
    }

    pub(super) fn not_found(code: Code, message: impl Into<String>) -> Self {
        Fault::new(StatusCode::NOT_FOUND, code, message)
    }

    pub(super) fn bad(code: Code, message: impl Into<String>) -> Self {
        Fault::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(super) fn method(allow: &str) -> Self {
        Fault::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, "this endpoint does not take that method")
            .header(header::ALLOW, allow)
    }

    pub(super) fn read_only() -> Self {
        Fault::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, "this registry is read-only")
            .header(header::ALLOW, "GET, HEAD")
    }

    pub(super) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let body = json!({"errors": [{"code": self.code.as_str(), "message": self.message}]});
        json_response(self.status, JSON, &body, self.headers)
    }
}

/// A failure of the store itself: the reason, which may name local paths, is for the log only.
impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        tracing::warn!("{}", error.chain());
        let message = match error.kind() {
            Kind::Damaged | Kind::Refused => "what is stored here is damaged or not served; see the registry's log",
            _ => "the store failed; see the registry's log",
        };
        Fault::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Unknown, message)
    }
}

pub(super) type Reply = Result<Response<Body>, Fault>;

/// Headers that are text made here: digests, numbers, validated names.
pub(super) type Headers = Vec<(HeaderName, String)>;

pub(super) fn response(status: StatusCode, headers: Headers, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in headers {
        // Media types come from documents: one that cannot stand in a header is left out.
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

pub(super) fn empty(status: StatusCode, headers: Headers) -> Response<Body> {
    response(status, headers, Body::empty())
}

pub(super) fn json_response(
    status: StatusCode,
    media_type: &str,
    value: &serde_json::Value,
    mut headers: Headers,
) -> Response<Body> {
    let text = value.to_string();
    headers.push((header::CONTENT_TYPE, media_type.to_owned()));
    headers.push((header::CONTENT_LENGTH, text.len().to_string()));
    response(status, headers, Body::from(text))
}

pub(super) const JSON: &str = "application/json";
pub(super) const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
pub(super) const DOCKER_UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
pub(super) const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
pub(super) const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
