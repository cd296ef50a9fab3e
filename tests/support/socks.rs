//! A SOCKS 5 proxy (RFC 1928) that wants a login (RFC 1929), resolves names itself, and keeps a record.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::listening::Listening;

/// A running proxy on a loopback port. Stops taking connections when dropped.
#[derive(Debug)]
pub struct SocksProxy {
    listening: Listening,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Name -> address.
    names: HashMap<String, String>,
    login: (String, String),
    seen: Mutex<Vec<String>>,
}

impl SocksProxy {
    /// A proxy that knows these names, each as the address of a server (`127.0.0.1:PORT`), whatever port is asked for.
    pub fn start(names: &[(&str, &str)], (user, password): (&str, &str)) -> Self {
        let shared = Arc::new(Shared {
            names: names.iter().map(|(name, address)| ((*name).to_owned(), (*address).to_owned())).collect(),
            login: (user.to_owned(), password.to_owned()),
            seen: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let listening = Listening::start(move |client| drop(serve(client, &serving)));
        Self { listening, shared }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        self.listening.host()
    }

    /// Whom it was asked to connect to so far, as `NAME:PORT`.
    pub fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    for timeout in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
        timeout(&client, Some(PATIENCE))?;
    }
    let [_version, methods] = bytes(&mut client)?;
    let offered = string(&mut client, methods)?;
    if !offered.as_bytes().contains(&LOGIN) {
        return client.write_all(&[5, 0xff]);
    }
    client.write_all(&[5, LOGIN])?;
    let [_version, length] = bytes(&mut client)?;
    let user = string(&mut client, length)?;
    let [length] = bytes(&mut client)?;
    let right = (user, string(&mut client, length)?) == shared.login;
    client.write_all(&[1, u8::from(!right)])?;
    if !right {
        return Ok(());
    }
    let [_version, _connect, _reserved, sort] = bytes(&mut client)?;
    if sort != NAME {
        return client.write_all(&answer(8));
    }
    let [length] = bytes(&mut client)?;
    let name = string(&mut client, length)?;
    let port = u16::from_be_bytes(bytes(&mut client)?);
    shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{name}:{port}"));
    let Some(Ok(mut upstream)) = shared.names.get(&name).map(TcpStream::connect) else {
        return client.write_all(&answer(4));
    };
    client.write_all(&answer(0))?;
    let (mut back, mut to_client) = (upstream.try_clone()?, client.try_clone()?);
    let returning = thread::spawn(move || {
        let _ = io::copy(&mut back, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let _ = io::copy(&mut client, &mut upstream);
    let _ = upstream.shutdown(Shutdown::Both);
    let _ = returning.join();
    Ok(())
}

fn bytes<const N: usize>(client: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    client.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn string(client: &mut TcpStream, length: u8) -> io::Result<String> {
    let mut bytes = vec![0; usize::from(length)];
    client.read_exact(&mut bytes)?;
    String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// An answer to a request, from 0.0.0.0:0; 0 is success.
fn answer(code: u8) -> [u8; 10] {
    [5, code, 0, 1, 0, 0, 0, 0, 0, 0]
}

const LOGIN: u8 = 2;
const NAME: u8 = 3;
const PATIENCE: Duration = Duration::from_secs(60);
