//! A loopback port on which a server of the tests takes connections, each on a thread of its own, until it is dropped.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle};

#[derive(Debug)]
pub(crate) struct Listening {
    host: String,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listening {
    /// Has `serve` speak to everybody who comes.
    pub(crate) fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1", serve)
    }

    /// The same at another address of this machine.
    pub(crate) fn start_at(address: &str, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("a port of this address is free");
        let host = listener.local_addr().expect("a bound socket has an address").to_string();
        let (stopping, serve) = (Arc::new(AtomicBool::new(false)), Arc::new(serve));
        let stopped = Arc::clone(&stopping);
        let thread = thread::spawn(move || {
            for client in listener.incoming() {
                if stopped.load(SeqCst) {
                    return;
                }
                let Ok(client) = client else { continue };
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(client));
            }
        });
        Listening { host, stopping, thread: Some(thread) }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stopping.store(true, SeqCst);
        // The one that waits for connections wakes up for this one.
        let _ = TcpStream::connect(&self.host);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
