//! A small HTTP/1.1 client on a plain socket, and the distribution API as tests read it.
//!
//! Plain HTTP to loopback only, one connection a request, no redirects, no authentication. A body is a reader, so that
//! a layer of any size can be hashed in passing.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

/// Names, in lower case, and values, in the order in which they came.
pub type Headers = Vec<(String, String)>;

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of that (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The body as text, for messages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A manifest as a registry serves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub bytes: Vec<u8>,
    pub media_type: String,
    /// The registry's `Docker-Content-Digest`: a claim, compare it with [`sha256`] of the bytes.
    pub digest: String,
}

/// Sends one request to `host` (`127.0.0.1:PORT`) and reads the whole answer. An I/O error or a body shorter than was
/// promised is an `Err`.
pub fn request(host: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
    let (status, headers, mut reader) = open(host, method, path, headers, body)?;
    let mut body = Vec::new();
    reader.read_to_end(&mut body)?;
    Ok(Answer { status, headers, body })
}

/// A GET that must reach the server.
pub fn get(host: &str, path: &str) -> Answer {
    request(host, "GET", path, &[("accept", ACCEPT)], b"").unwrap_or_else(|e| panic!("GET {host}{path}: {e}"))
}

/// A HEAD that must reach the server.
pub fn head(host: &str, path: &str) -> Answer {
    request(host, "HEAD", path, &[("accept", ACCEPT)], b"").unwrap_or_else(|e| panic!("HEAD {host}{path}: {e}"))
}

/// A DELETE that must reach the server: makes a registry that lost something.
pub fn delete(host: &str, path: &str) -> Answer {
    request(host, "DELETE", path, &[], b"").unwrap_or_else(|e| panic!("DELETE {host}{path}: {e}"))
}

/// Pushes one manifest under a tag or digest; panics unless the registry takes it.
pub fn put_manifest(host: &str, repository: &str, reference: &str, media_type: &str, bytes: &[u8]) {
    let path = format!("/v2/{repository}/manifests/{reference}");
    let answer = request(host, "PUT", &path, &[("content-type", media_type)], bytes)
        .unwrap_or_else(|e| panic!("PUT {host}{path}: {e}"));
    assert_eq!(answer.status, 201, "PUT {path}: {}", answer.text());
}

/// Pushes one blob into a repository and returns its digest.
pub fn push_blob(host: &str, repository: &str, bytes: &[u8]) -> String {
    let path = format!("/v2/{repository}/blobs/uploads/");
    let begun = request(host, "POST", &path, &[], b"").unwrap_or_else(|e| panic!("POST {host}{path}: {e}"));
    let location = begun.header("location").unwrap_or_else(|| panic!("POST {host}{path}: {}", begun.text())).to_owned();
    let digest = sha256(bytes);
    let path = &location[location.find("/v2/").expect("an upload is below /v2/")..];
    let joint = if path.contains('?') { '&' } else { '?' };
    let path = format!("{path}{joint}digest={digest}");
    let done = request(host, "PUT", &path, &[], bytes).unwrap_or_else(|e| panic!("PUT {host}{path}: {e}"));
    assert_eq!(done.status, 201, "PUT {path}: {}", done.text());
    digest
}

/// The manifest under a tag or digest, or `None` when the registry has none.
pub fn raw_manifest(host: &str, repository: &str, reference: &str) -> Option<Manifest> {
    let path = format!("/v2/{repository}/manifests/{reference}");
    let answer = get(host, &path);
    match answer.status {
        200 => Some(Manifest {
            media_type: answer.header("content-type").unwrap_or_default().to_owned(),
            digest: answer.header("docker-content-digest").unwrap_or_default().to_owned(),
            bytes: answer.body,
        }),
        404 => None,
        status => panic!("GET {host}{path}: {status} {}", answer.text()),
    }
}

/// The SHA-256 (`sha256:<hex>`) and the number of the bytes that a registry serves for a blob, read without keeping
/// them; `None` when it has none.
pub fn raw_blob(host: &str, repository: &str, digest: &str) -> Option<(String, u64)> {
    let path = format!("/v2/{repository}/blobs/{digest}");
    let (status, _, mut body) = open(host, "GET", &path, &[], b"").unwrap_or_else(|e| panic!("GET {host}{path}: {e}"));
    match status {
        200 => {
            let mut hasher = Sha256::new();
            let mut buffer = vec![0; 256 << 10];
            let mut size = 0;
            loop {
                let n = body.read(&mut buffer).unwrap_or_else(|e| panic!("GET {host}{path}: {e}"));
                if n == 0 {
                    return Some((digest_of(hasher), size));
                }
                hasher.update(&buffer[..n]);
                size += n as u64;
            }
        }
        404 => None,
        status => panic!("GET {host}{path}: {status}"),
    }
}

/// The tags of a repository, sorted; empty when the registry knows no such repository.
pub fn tags(host: &str, repository: &str) -> Vec<String> {
    pages(host, &format!("/v2/{repository}/tags/list?n=1000"), "tags")
}

/// The repositories of a registry, sorted.
pub fn catalog(host: &str) -> Vec<String> {
    pages(host, "/v2/_catalog?n=1000", "repositories")
}

/// `sha256:<hex>` of some bytes.
pub fn sha256(bytes: &[u8]) -> String {
    digest_of(Sha256::new_with_prefix(bytes))
}

/// The value of the first header of that (lower-case) name.
pub(crate) fn header<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

/// Reads a first line and the headers after it; `None` at the end of the connection.
pub(crate) fn read_head(reader: &mut impl BufRead) -> io::Result<Option<(String, Headers)>> {
    let Some(first) = read_line(reader)? else { return Ok(None) };
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(Some((first, headers)));
        }
        let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// How the end of a message's body is told (RFC 9112, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

impl Framing {
    pub(crate) fn of_request(headers: &[(String, String)]) -> Self {
        match Self::declared(headers) {
            Self::UntilClose => Self::Length(0),
            declared => declared,
        }
    }

    pub(crate) fn of_answer(method: &str, status: u16, headers: &[(String, String)]) -> Self {
        if method == "HEAD" || status / 100 == 1 || status == 204 || status == 304 {
            return Self::Length(0);
        }
        Self::declared(headers)
    }

    fn declared(headers: &[(String, String)]) -> Self {
        if header(headers, "transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            return Self::Chunked;
        }
        match header(headers, "content-length").and_then(|v| v.parse().ok()) {
            Some(length) => Self::Length(length),
            None => Self::UntilClose,
        }
    }
}

/// The payload of a body, without its framing. A connection that ends before the body does is an error.
pub(crate) struct Body<R> {
    reader: R,
    framing: Framing,
    /// Of the body, or of the present chunk.
    left: u64,
    done: bool,
}

impl<R: BufRead> Body<R> {
    pub(crate) fn new(reader: R, framing: Framing) -> Self {
        let left = if let Framing::Length(n) = framing { n } else { 0 };
        Self { reader, framing, left, done: framing == Framing::Length(0) }
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let line = read_line(&mut self.reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        self.left = u64::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        if self.left == 0 {
            self.done = true;
            while read_line(&mut self.reader)?.is_some_and(|trailer| !trailer.is_empty()) {}
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Body<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.framing == Framing::Chunked && self.left == 0 && !self.done {
            self.next_chunk()?;
        }
        if self.done || buffer.is_empty() {
            return Ok(0);
        }
        if self.framing == Framing::UntilClose {
            return self.reader.read(buffer);
        }
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.reader.read(&mut buffer[..most])?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= n as u64;
        if self.left == 0 {
            match self.framing {
                Framing::Chunked => drop(read_line(&mut self.reader)?),
                _ => self.done = true,
            }
        }
        Ok(n)
    }
}

type Opened = (u16, Headers, Body<BufReader<TcpStream>>);

fn open(host: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Opened> {
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    let _ = write!(head, "content-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut reader = BufReader::new(stream);
    loop {
        let (first, headers) = read_head(&mut reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = status_of(&first)?;
        if status / 100 != 1 {
            let framing = Framing::of_answer(method, status, &headers);
            return Ok((status, headers, Body::new(reader, framing)));
        }
    }
}

/// The code in `HTTP/1.1 200 OK`.
pub(crate) fn status_of(line: &str) -> io::Result<u16> {
    line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn read_line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    reader.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map(Some).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn pages(host: &str, first: &str, field: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut path = first.to_owned();
    for _ in 0..MOST_PAGES {
        let answer = get(host, &path);
        if answer.status == 404 {
            break;
        }
        assert_eq!(answer.status, 200, "GET {host}{path}: {}", answer.text());
        let json: serde_json::Value = serde_json::from_slice(&answer.body).expect("a listing is JSON");
        // A repository without tags answers null.
        let entries = json[field].as_array().into_iter().flatten();
        found.extend(entries.map(|entry| entry.as_str().expect("a name is a string").to_owned()));
        match answer.header("link").and_then(|link| link.strip_prefix('<')?.split_once('>')) {
            Some((next, _)) => path = next.to_owned(),
            None => break,
        }
    }
    found.sort();
    found
}

fn digest_of(hasher: Sha256) -> String {
    let mut digest = "sha256:".to_owned();
    for byte in hasher.finalize() {
        let _ = write!(digest, "{byte:02x}");
    }
    digest
}

/// Every type of manifest there is, so that no registry converts one.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, */*";
const PATIENCE: Duration = Duration::from_secs(60);
const LONGEST_LINE: u64 = 64 << 10;
const MOST_PAGES: usize = 1000;
