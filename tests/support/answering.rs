//! A server that answers each request as a closure says, one request a connection.

use std::io::{self, BufReader, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::http::{Body, Framing, Headers, read_head};
use crate::listening::Listening;

/// A request, its body read and dropped.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    /// With the query.
    pub path: String,
    pub headers: Headers,
    /// Of the body, in bytes.
    pub length: u64,
}

/// What is answered.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    trickles: bool,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Reply { status, headers: Vec::new(), body: body.into(), trickles: false }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends the body byte by byte, one in 20 ms.
    pub fn trickle(self) -> Self {
        Reply { trickles: true, ..self }
    }
}

/// Such a server. Stops taking connections when dropped.
#[derive(Debug)]
pub struct Answering {
    listening: Listening,
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

impl Answering {
    /// `GET /v2/` is answered with 200 without `answer`.
    pub fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let asked: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
        let log = asked.clone();
        let listening = Listening::start(move |client| {
            let _ = serve(client, &answer, &log);
        });
        Answering { listening, asked }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        self.listening.host()
    }

    /// How many requests came with this method and this part of a path.
    pub fn count(&self, method: &str, part: &str) -> usize {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|(asked, path)| asked == method && path.contains(part)).count()
    }
}

fn serve(client: TcpStream, answer: &impl Fn(&Asked) -> Reply, log: &Mutex<Vec<(String, String)>>) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let Some((first, headers)) = read_head(&mut reader)? else { return Ok(()) };
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let framing = Framing::of_request(&headers);
    let length = io::copy(&mut Body::new(&mut reader, framing), &mut io::sink())?;
    log.lock().unwrap_or_else(PoisonError::into_inner).push((method.clone(), path.clone()));
    let reply = match path.as_str() {
        "/v2/" => Reply::new(200, "{}"),
        _ => answer(&Asked { method: method.clone(), path, headers, length }),
    };
    let mut head = format!("HTTP/1.1 {} .\r\nconnection: close\r\n", reply.status);
    if reply.status != 204 {
        head += &format!("content-length: {}\r\n", reply.body.len());
    }
    reply.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    let mut client = &client;
    client.write_all((head + "\r\n").as_bytes())?;
    if method == "HEAD" {
        return Ok(());
    }
    if !reply.trickles {
        return client.write_all(&reply.body);
    }
    for byte in &reply.body {
        client.write_all(std::slice::from_ref(byte))?;
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
