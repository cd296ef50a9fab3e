//! A server on a loopback port that answers as a test tells it: one request a connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    head: String,
    body: Vec<u8>,
    read: usize,
    silent: bool,
    pause: Duration,
}

impl Reply {
    pub(crate) fn new(status: &str) -> Self {
        Reply {
            head: format!("HTTP/1.1 {status}\r\n"),
            body: Vec::new(),
            read: usize::MAX,
            silent: false,
            pause: Duration::ZERO,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.head += &format!("{name}: {value}\r\n");
        self
    }

    /// A body with its length.
    pub(crate) fn body(self, body: &[u8]) -> Self {
        self.header("Content-Length", body.len()).cut(body)
    }

    /// A body without any header of its own, after which the connection ends.
    pub(crate) fn cut(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    /// Only so many bytes of the request's body are read; then the connection is cut without an answer.
    pub(crate) fn hang_up_after(bytes: usize) -> Self {
        Reply { read: bytes, silent: true, ..Reply::new("") }
    }

    /// Nothing is read and nothing answered, and the connection stays open.
    pub(crate) fn stall() -> Self {
        Reply { read: 0, silent: true, head: "stall".into(), ..Reply::new("") }
    }

    /// Waits so long once it has read the request.
    pub(crate) fn after(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }
}

pub(crate) struct Faulty {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

impl Faulty {
    /// `answer` is called with the number of the request (from 0; the probe of `/v2/` does not count) and its head.
    pub(crate) async fn start(answer: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> Faulty {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (answer, log) = (Arc::new(answer), seen.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer.clone(), log.clone()));
            }
        });
        Faulty { port, seen, task }
    }

    /// What came so far.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("not poisoned").clone()
    }

    /// `METHOD /path` of what came, without queries.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |r: Request| format!("{} {}", r.method, r.path.split('?').next().unwrap_or_default());
        self.seen().into_iter().map(line).collect()
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    answer: Arc<impl Fn(usize, &Request) -> Reply + Send + Sync>,
    log: Arc<Mutex<Vec<Request>>>,
) -> Option<()> {
    let mut buffer = Vec::new();
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let mut request = Request { method: first.next()?.into(), path: first.next()?.into(), ..Request::default() };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        request.headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    if request.path == "/v2/" {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}").await.ok()?;
        return None;
    }
    let (number, reply) = {
        let mut log = log.lock().expect("not poisoned");
        let number = log.len();
        log.push(request.clone());
        (number, answer(number, &request))
    };
    let length: usize = request.headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = buffer.split_off(end + 4);
    while body.len() < length.min(reply.read) {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            break;
        }
    }
    log.lock().expect("not poisoned")[number].body = body;
    tokio::time::sleep(reply.pause).await;
    if reply.silent {
        if reply.head == "stall" {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        return None;
    }
    stream.write_all(format!("{}Connection: close\r\n\r\n", reply.head).as_bytes()).await.ok()?;
    if request.method != "HEAD" {
        stream.write_all(&reply.body).await.ok()?;
    }
    stream.shutdown().await.ok()
}
