//! A forward proxy as companies have them: it resolves names itself, connects through (`CONNECT`) or fetches, and keeps
//! a record.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::http::{Body, Framing, Headers, header, read_head};
use crate::listening::Listening;

/// A running proxy on a loopback port. Stops taking connections when dropped.
#[derive(Debug)]
pub struct ForwardProxy {
    listening: Listening,
    shared: Arc<Shared>,
}

/// One request that came to the proxy. What goes through a tunnel is not seen.
#[derive(Debug, Clone)]
pub struct Forwarded {
    pub method: String,
    /// `HOST:PORT` of a CONNECT, else a URL.
    pub target: String,
    pub headers: Headers,
}

#[derive(Debug, Default)]
struct Shared {
    /// Name -> address.
    names: HashMap<String, String>,
    /// What `Proxy-Authorization` must say.
    login: Option<String>,
    /// Status and body with which everything is refused.
    refusal: Option<(String, String)>,
    seen: Mutex<Vec<Forwarded>>,
}

impl ForwardProxy {
    /// A proxy that knows these names, each as the address of a server (`127.0.0.1:PORT`), whatever port is asked for.
    pub fn start(names: &[(&str, &str)]) -> Self {
        Self::start_with(names, None)
    }

    /// The same, for clients whose `Proxy-Authorization` says `login` (`Basic dXNlcjpw...`).
    pub fn start_with_login(names: &[(&str, &str)], login: &str) -> Self {
        Self::start_with(names, Some(login.to_owned()))
    }

    /// A proxy that refuses everything with this status (`403 Forbidden`) and body.
    pub fn start_refusing(status: &str, body: &str) -> Self {
        Self::start_shared(Shared { refusal: Some((status.to_owned(), body.to_owned())), ..Shared::default() })
    }

    fn start_with(names: &[(&str, &str)], login: Option<String>) -> Self {
        let names = names.iter().map(|(name, address)| ((*name).to_owned(), (*address).to_owned())).collect();
        Self::start_shared(Shared { names, login, ..Shared::default() })
    }

    fn start_shared(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        let serving = Arc::clone(&shared);
        let listening = Listening::start(move |client| drop(serve(client, &serving)));
        Self { listening, shared }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        self.listening.host()
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.host())
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Forwarded> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(client: TcpStream, shared: &Shared) -> io::Result<()> {
    for timeout in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
        timeout(&client, Some(PATIENCE))?;
    }
    let mut from_client = BufReader::new(client.try_clone()?);
    let Some((first, headers)) = read_head(&mut from_client)? else { return Ok(()) };
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let seen = Forwarded { method: method.to_owned(), target: target.to_owned(), headers: headers.clone() };
    shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    if shared.login.as_deref().is_some_and(|login| header(&headers, "proxy-authorization") != Some(login)) {
        return refuse(&client, "407 Proxy Authentication Required", "");
    }
    if let Some((status, body)) = &shared.refusal {
        return refuse(&client, status, body);
    }
    let (authority, path) = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or((rest, "/"), |at| rest.split_at(at)),
        None => (target, ""),
    };
    let name = authority.rsplit_once(':').map_or(authority, |(name, _)| name);
    let Some(Ok(mut upstream)) = shared.names.get(name).map(TcpStream::connect) else {
        return refuse(&client, "502 Bad Gateway", "");
    };
    if method == "CONNECT" {
        (&client).write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        let (mut back, mut to_client) = (upstream.try_clone()?, client.try_clone()?);
        let returning = thread::spawn(move || {
            let _ = io::copy(&mut back, &mut to_client);
            let _ = to_client.shutdown(Shutdown::Both);
        });
        let _ = io::copy(&mut from_client, &mut upstream);
        let _ = upstream.shutdown(Shutdown::Both);
        let _ = returning.join();
        return Ok(());
    }
    let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    for (name, value) in headers.iter().filter(|(name, _)| name != "connection" && !name.starts_with("proxy-")) {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    upstream.write_all(format!("{head}\r\n").as_bytes())?;
    io::copy(&mut Body::new(&mut from_client, Framing::of_request(&headers)), &mut upstream)?;
    io::copy(&mut upstream, &mut &client)?;
    client.shutdown(Shutdown::Both)
}

fn refuse(mut client: &TcpStream, status: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    client.write_all((head + body).as_bytes())?;
    client.shutdown(Shutdown::Both)
}

const PATIENCE: Duration = Duration::from_secs(60);
