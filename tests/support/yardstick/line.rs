//! A slow line: a proxy for TCP that lets bytes through after half a round trip, and not more of them than a link's
//! bandwidth, which all connections share, each way by itself. A new connection costs a round trip, as its handshake
//! would. What is not modelled: lost packets, slow start, headers.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use crate::Result;

/// One direction of the line.
struct Direction {
    /// Half of the round trip.
    delay: Duration,
    /// What a byte takes; nothing on a line without limit.
    per_byte: Option<Duration>,
    /// When everything that was let through so far has left.
    free_at: Mutex<Instant>,
}

/// Serves until it is ended; says where on stdout.
pub fn serve(upstream: &str, round_trip: &str, bandwidth: &str) -> Result<()> {
    let delay = if round_trip == "-" { Duration::ZERO } else { milliseconds(round_trip)? / 2 };
    let per_byte =
        if bandwidth == "-" { None } else { Some(Duration::from_secs_f64(1.0 / bytes_a_second(bandwidth)?)) };
    let direction = || Arc::new(Direction { delay, per_byte, free_at: Mutex::new(Instant::now()) });
    let (up, down) = (direction(), direction());
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);
    for client in listener.incoming() {
        let (client, server) = (client?, TcpStream::connect(upstream)?);
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        carry(client.try_clone()?, server.try_clone()?, up.clone(), 2 * delay);
        carry(server, client, down.clone(), Duration::ZERO);
    }
    Ok(())
}

/// Carries bytes one way, until the end; nothing arrives before `handshake` has passed.
fn carry(from: TcpStream, to: TcpStream, direction: Arc<Direction>, handshake: Duration) {
    let (sender, receiver) = sync_channel(IN_FLIGHT);
    spawn(move || take_in(from, &direction, handshake, &sender));
    spawn(move || hand_out(to, &receiver));
}

fn take_in(mut from: TcpStream, direction: &Direction, handshake: Duration, sender: &SyncSender<(Instant, Vec<u8>)>) {
    let opened = Instant::now() + handshake;
    let mut buffer = vec![0; PIECE];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let left = direction.leave(count).max(opened);
        if sender.send((left + direction.delay, buffer[..count].to_vec())).is_err() {
            return;
        }
        // A router's queue: short, and never empty while there is something to send.
        let ahead = left.saturating_duration_since(Instant::now());
        if direction.per_byte.is_some() && ahead > QUEUE {
            sleep(ahead - QUEUE);
        }
    }
}

fn hand_out(mut to: TcpStream, receiver: &Receiver<(Instant, Vec<u8>)>) {
    while let Ok((due, bytes)) = receiver.recv() {
        sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).is_err() {
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

impl Direction {
    /// When so many bytes will have left, after all that came before them.
    fn leave(&self, count: usize) -> Instant {
        let now = Instant::now();
        let Some(per_byte) = self.per_byte else { return now };
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        *free_at = (*free_at).max(now) + per_byte * count as u32;
        *free_at
    }
}

fn milliseconds(text: &str) -> Result<Duration> {
    let number = text.strip_suffix("ms").ok_or("a latency is written like 50ms")?;
    Ok(Duration::from_millis(number.parse()?))
}

fn bytes_a_second(text: &str) -> Result<f64> {
    let number = text.strip_suffix("Mbit").ok_or("a bandwidth is written like 200Mbit")?;
    Ok(number.parse::<f64>()? * 1e6 / 8.0)
}

/// What is let through at once.
const PIECE: usize = 32 << 10;
/// Pieces on the line: 16 MiB, more than any bandwidth here has in flight.
const IN_FLIGHT: usize = 512;
const QUEUE: Duration = Duration::from_millis(10);
