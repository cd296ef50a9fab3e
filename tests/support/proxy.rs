//! A proxy in front of a registry that counts what passes and misbehaves on request.
//!
//! It works on the bytes of HTTP/1.1, so that it can end a connection in the middle of a body, with the length it
//! promised still standing in the header. Bodies stream through; nothing is held. The `Host` header is passed on as it
//! came, so a registry's absolute `Location` leads back to the proxy.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::http::{Body, Framing, Headers, header, read_head, sha256, status_of};
use crate::listening::Listening;

/// A running proxy on a loopback port; without a [`Rule`] it only counts. Stops taking connections when dropped.
#[derive(Debug)]
pub struct FaultProxy {
    listening: Listening,
    shared: Arc<Shared>,
}

/// One request that came to the proxy.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub arrived: Instant,
    pub method: String,
    /// With its query.
    pub path: String,
    pub headers: Headers,
    /// What the client was answered, if anything.
    pub status: Option<u16>,
    /// Bytes of the request's body that came in.
    pub received: u64,
    /// Bytes of the answer's body that went out.
    pub sent: u64,
}

/// What is to go wrong, where, and how often. Faults on one rule go together, and so do those of several rules that
/// match the same request.
///
/// `Rule::on("GET", "/blobs/").cut_response(1000).times(2)`
#[derive(Debug, Clone)]
pub struct Rule {
    method: String,
    path: String,
    pass: usize,
    times: usize,
    above: usize,
    faults: Faults,
}

/// Bad weather: by chance, which a seed fixes, requests are answered with 429 or 503, cut, reset, or answered slowly. What
/// happens to the n-th request of a sort does not depend on what else is under way.
#[derive(Debug, Clone)]
pub struct Storm {
    seed: u64,
    per_cent: u64,
    /// The challenge with which tokens are refused, if they are.
    expired: Option<String>,
    /// How many of a sort there were.
    counts: HashMap<String, u64>,
}

impl FaultProxy {
    /// A proxy in front of the registry at `upstream` (`127.0.0.1:PORT`).
    pub fn start(upstream: &str) -> Self {
        Self::start_at("127.0.0.1", upstream)
    }

    /// The same at another address of this machine.
    pub fn start_at(address: &str, upstream: &str) -> Self {
        let shared = Arc::new(Shared { upstream: upstream.to_owned(), ..Shared::default() });
        let serving = Arc::clone(&shared);
        let listening = Listening::start_at(address, move |client| {
            serving.connections.fetch_add(1, SeqCst);
            // An error here is a client or registry that went away, which is for the test to notice.
            serve(client, &serving).ok();
            serving.connections.fetch_sub(1, SeqCst);
        });
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

    /// From now on this goes wrong.
    pub fn inject(&self, rule: Rule) {
        lock(&self.shared.rules).push(rule);
    }

    /// From now on this many of a hundred requests have bad luck.
    pub fn storm(&self, storm: Storm) {
        *lock(&self.shared.storm) = Some(storm);
    }

    /// From now on nothing goes wrong; what was recorded stays.
    pub fn heal(&self) {
        lock(&self.shared.rules).clear();
        *lock(&self.shared.storm) = None;
    }

    /// Every request so far, in the order of arrival.
    pub fn requests(&self) -> Vec<Recorded> {
        lock(&self.shared.requests).clone()
    }

    /// How many requests so far had this method and this in their path. `*` is any method.
    pub fn count(&self, method: &str, path_contains: &str) -> usize {
        self.requests().iter().filter(|r| matches(method, path_contains, &r.method, &r.path)).count()
    }

    /// Forgets the requests so far.
    pub fn reset_count(&self) {
        lock(&self.shared.requests).clear();
        self.shared.most_at_once.store(0, SeqCst);
    }

    /// Waits until every client has gone and what it asked for is recorded: one that was killed may have asked for more
    /// than was read of it.
    pub fn wait_until_quiet(&self) {
        let deadline = Instant::now() + PATIENCE;
        // Several times in a row: a connection may still wait to be taken.
        let mut quiet = 0;
        while quiet < 20 {
            assert!(Instant::now() < deadline, "clients are still there");
            quiet = if self.shared.connections.load(SeqCst) == 0 { quiet + 1 } else { 0 };
            sleep(Duration::from_millis(2));
        }
    }

    /// The largest number of requests that were under way at one time.
    pub fn most_at_once(&self) -> usize {
        self.shared.most_at_once.load(SeqCst)
    }
}

impl Rule {
    /// For requests with this method (`*`: any) and with this in their path or query.
    pub fn on(method: &str, path_contains: &str) -> Self {
        let (method, path) = (method.to_owned(), path_contains.to_owned());
        Self { method, path, pass: 0, times: usize::MAX, above: 0, faults: Faults::default() }
    }

    /// Only for the first `times` of them.
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Only for those that come while at least so many requests are under way.
    pub fn above(mut self, above: usize) -> Self {
        self.above = above;
        self
    }

    /// Lets the first `pass` of them through.
    pub fn after(mut self, pass: usize) -> Self {
        self.pass = pass;
        self
    }

    /// Ends the connection in good order after so many bytes of the answer's body: a short body.
    pub fn cut_response(mut self, after: u64) -> Self {
        self.faults.cut_response = Some((after, Cut::Short));
        self
    }

    /// Resets the connection after so many bytes of the answer's body.
    pub fn reset_response(mut self, after: u64) -> Self {
        self.faults.cut_response = Some((after, Cut::Reset));
        self
    }

    /// Ends the connection, on both sides, after so many bytes of the request's body went on to the registry.
    pub fn cut_request(mut self, after: u64) -> Self {
        self.faults.cut_request = Some((after, Cut::Short));
        self
    }

    /// The same, with a reset towards the client.
    pub fn reset_request(mut self, after: u64) -> Self {
        self.faults.cut_request = Some((after, Cut::Reset));
        self
    }

    /// The registry does what it was asked, but its answer is lost with the connection.
    pub fn lose_answer(mut self) -> Self {
        self.faults.lose_answer = true;
        self
    }

    /// Answers with this status; the registry never hears of the request.
    pub fn status(self, status: u16) -> Self {
        self.answer(status, &[], "")
    }

    /// The same with headers (`[("retry-after", "1")]`) and a body.
    pub fn answer(mut self, status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        self.faults.answer = Some((status, headers, body.to_owned()));
        self
    }

    /// Waits before anything else is done with the request.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.faults.delay = Some(delay);
        self
    }

    /// Lets bodies pass at this many bytes a second, both ways.
    pub fn throttle(mut self, bytes_per_second: u64) -> Self {
        self.faults.throttle = Some(bytes_per_second.max(1));
        self
    }

    /// Inverts the lowest bit of the byte at this offset of the answer's body.
    pub fn flip_byte(mut self, at: u64) -> Self {
        self.faults.flip = Some(at);
        self
    }

    /// Hides `Range` from the registry, which then sends everything: a server that knows no ranges.
    pub fn without_range(mut self) -> Self {
        self.faults.without_range = true;
        self
    }
}

impl Storm {
    /// So many of a hundred requests.
    pub fn new(seed: u64, per_cent: u64) -> Self {
        Self { seed, per_cent, expired: None, counts: HashMap::new() }
    }

    /// Some are answered with 401 and this challenge, as if a token had expired: for registries that want tokens.
    pub fn with_expired_tokens(mut self, challenge: String) -> Self {
        self.expired = Some(challenge);
        self
    }

    fn faults(&mut self, method: &str, path: &str) -> Faults {
        // Upload sessions have names by chance.
        let sort = path.split_once("/uploads/").map_or(path, |(before, _)| before);
        let sort = format!("{method} {sort}");
        let count = self.counts.entry(sort.clone()).or_default();
        *count += 1;
        let chance = sha256(format!("{} {sort} {count}", self.seed).as_bytes());
        let number = |at: usize| u64::from_str_radix(&chance["sha256:".len() + at..][..8], 16).expect("hex digits");
        let rule = Rule::on("*", "");
        if number(0) % 100 >= self.per_cent {
            return Faults::default();
        }
        let sends = matches!(method, "PUT" | "PATCH");
        let after = number(8) % 500_000;
        // Tokens expire often enough that ten seeds see it.
        let rule = match number(16) % if self.expired.is_some() { 9 } else { 6 } {
            0 => rule.answer(429, &[("retry-after", "0")], "slow down"),
            1 => rule.status(429),
            2 => rule.status(503),
            3 if sends => rule.reset_request(after),
            3 => rule.reset_response(after),
            4 if sends => rule.cut_request(after),
            4 => rule.cut_response(after),
            5 => rule.delay(Duration::from_millis(100)).throttle(4 << 20),
            _ => rule.answer(401, &[("www-authenticate", self.expired.as_deref().unwrap_or_default())], ""),
        };
        rule.faults
    }
}

#[derive(Debug, Default)]
struct Shared {
    upstream: String,
    rules: Mutex<Vec<Rule>>,
    storm: Mutex<Option<Storm>>,
    requests: Mutex<Vec<Recorded>>,
    connections: AtomicUsize,
    under_way: AtomicUsize,
    most_at_once: AtomicUsize,
}

#[derive(Debug, Clone, Default)]
struct Faults {
    answer: Option<(u16, Headers, String)>,
    delay: Option<Duration>,
    throttle: Option<u64>,
    flip: Option<u64>,
    cut_request: Option<(u64, Cut)>,
    cut_response: Option<(u64, Cut)>,
    lose_answer: bool,
    without_range: bool,
}

#[derive(Debug, Clone, Copy)]
enum Cut {
    Short,
    Reset,
}

/// Whether the connection can carry another request.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Request,
    Close,
}

impl Shared {
    fn faults(&self, method: &str, path: &str) -> Faults {
        let mut all = lock(&self.storm).as_mut().map(|storm| storm.faults(method, path)).unwrap_or_default();
        let under_way = self.under_way.load(SeqCst);
        for rule in lock(&self.rules).iter_mut().filter(|rule| matches(&rule.method, &rule.path, method, path)) {
            if under_way < rule.above {
                continue;
            }
            if rule.pass > 0 {
                rule.pass -= 1;
            } else if rule.times > 0 {
                rule.times = rule.times.saturating_sub(1);
                all.add(rule.faults.clone());
            }
        }
        all
    }

    fn arrived(&self, method: &str, path: &str, headers: &[(String, String)]) -> usize {
        self.most_at_once.fetch_max(self.under_way.fetch_add(1, SeqCst) + 1, SeqCst);
        let mut requests = lock(&self.requests);
        requests.push(Recorded {
            arrived: Instant::now(),
            method: method.to_owned(),
            path: path.to_owned(),
            headers: headers.to_vec(),
            status: None,
            received: 0,
            sent: 0,
        });
        requests.len() - 1
    }

    fn note(&self, request: usize, what: impl FnOnce(&mut Recorded)) {
        // It may have been forgotten meanwhile.
        if let Some(recorded) = lock(&self.requests).get_mut(request) {
            what(recorded);
        }
    }
}

impl Faults {
    fn add(&mut self, more: Self) {
        self.answer = more.answer.or(self.answer.take());
        self.delay = more.delay.or(self.delay);
        self.throttle = more.throttle.or(self.throttle);
        self.flip = more.flip.or(self.flip);
        self.cut_request = more.cut_request.or(self.cut_request);
        self.cut_response = more.cut_response.or(self.cut_response);
        self.lose_answer |= more.lose_answer;
        self.without_range |= more.without_range;
    }
}

fn serve(client: TcpStream, shared: &Shared) -> io::Result<()> {
    prepare(&client)?;
    let mut from_client = BufReader::with_capacity(PIECE, client.try_clone()?);
    let mut upstream = None;
    while let Some((first, headers)) = read_head(&mut from_client)? {
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let faults = shared.faults(method, path);
        let request = shared.arrived(method, path, &headers);
        let exchange = Exchange { client: &client, shared, request, method, path, headers: &headers, faults };
        let next = exchange.run(&mut from_client, &mut upstream);
        shared.under_way.fetch_sub(1, SeqCst);
        if next? == Next::Close {
            break;
        }
    }
    Ok(())
}

struct Exchange<'a> {
    client: &'a TcpStream,
    shared: &'a Shared,
    request: usize,
    method: &'a str,
    path: &'a str,
    headers: &'a [(String, String)],
    faults: Faults,
}

type Upstream = BufReader<TcpStream>;

impl Exchange<'_> {
    fn run(&self, from_client: &mut BufReader<TcpStream>, upstream: &mut Option<Upstream>) -> io::Result<Next> {
        if let Some(delay) = self.faults.delay {
            sleep(delay);
        }
        let framing = Framing::of_request(self.headers);
        if let Some((status, headers, body)) = &self.faults.answer {
            return self.answer(*status, headers, body, framing, from_client);
        }
        if header(self.headers, "expect").is_some() {
            self.to_client().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let registry = match upstream {
            Some(registry) => registry,
            None => upstream.insert(connect(&self.shared.upstream)?),
        };
        let keep = |name: &str| !(name == "expect" || (name == "range" && self.faults.without_range));
        let first = format!("{} {} HTTP/1.1", self.method, self.path);
        registry.get_ref().write_all(head_text(&first, self.headers, keep).as_bytes())?;
        if self.send_body(Body::new(from_client, framing), framing, registry.get_ref())? == Next::Close {
            return Ok(Next::Close);
        }
        loop {
            let (first, headers) = read_head(registry)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let status = status_of(&first)?;
            if status / 100 == 1 {
                continue;
            }
            if self.faults.lose_answer {
                return self.cut(Cut::Short);
            }
            self.shared.note(self.request, |r| r.status = Some(status));
            self.to_client().write_all(head_text(&first, &headers, |_| true).as_bytes())?;
            let framing = Framing::of_answer(self.method, status, &headers);
            let next = self.return_body(Body::new(registry, framing), framing)?;
            let close = [self.headers, &headers].iter().any(|h| header(h, "connection") == Some("close"));
            return Ok(if close || framing == Framing::UntilClose { Next::Close } else { next });
        }
    }

    fn send_body(&self, body: impl Read, framing: Framing, registry: &TcpStream) -> io::Result<Next> {
        let counted = |n| self.shared.note(self.request, |r| r.received += n);
        match self.pump(body, framing, registry, self.faults.cut_request, None, counted) {
            // A registry may refuse before it has read everything; its answer is still to be had.
            Err(e) if matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                Ok(Next::Request)
            }
            other => other,
        }
    }

    fn return_body(&self, body: impl Read, framing: Framing) -> io::Result<Next> {
        let counted = |n| self.shared.note(self.request, |r| r.sent += n);
        self.pump(body, framing, self.client, self.faults.cut_response, self.faults.flip, counted)
    }

    fn pump(
        &self,
        mut body: impl Read,
        framing: Framing,
        mut to: &TcpStream,
        cut: Option<(u64, Cut)>,
        flip: Option<u64>,
        counted: impl Fn(u64),
    ) -> io::Result<Next> {
        let piece =
            self.faults.throttle.map_or(PIECE, |rate| usize::try_from(rate / 20 + 1).unwrap_or(PIECE).min(PIECE));
        let mut buffer = vec![0; piece];
        let mut offset = 0;
        loop {
            let mut most = piece;
            if let Some((after, how)) = cut {
                if offset == after {
                    return self.cut(how);
                }
                most = usize::try_from(after - offset).unwrap_or(piece).min(piece);
            }
            let n = body.read(&mut buffer[..most])?;
            if n == 0 {
                if framing == Framing::Chunked {
                    to.write_all(b"0\r\n\r\n")?;
                }
                return Ok(Next::Request);
            }
            if let Some(at) = flip.and_then(|at| usize::try_from(at.checked_sub(offset)?).ok()).filter(|at| *at < n) {
                buffer[at] ^= 1;
            }
            if framing == Framing::Chunked {
                write!(to, "{n:x}\r\n")?;
                to.write_all(&buffer[..n])?;
                to.write_all(b"\r\n")?;
            } else {
                to.write_all(&buffer[..n])?;
            }
            offset += n as u64;
            counted(n as u64);
            if let Some(rate) = self.faults.throttle {
                sleep(Duration::from_secs_f64(n as f64 / rate as f64));
            }
        }
    }

    fn answer(
        &self,
        status: u16,
        headers: &[(String, String)],
        body: &str,
        framing: Framing,
        from_client: &mut BufReader<TcpStream>,
    ) -> io::Result<Next> {
        self.shared.note(self.request, |r| r.status = Some(status));
        let unread = framing != Framing::Length(0) || header(self.headers, "connection") == Some("close");
        let mut answer = head_text(&format!("HTTP/1.1 {status} Injected"), headers, |_| true);
        answer.truncate(answer.len() - 2);
        let _ = write!(answer, "content-length: {}\r\n", body.len());
        answer.push_str(if unread { "connection: close\r\n\r\n" } else { "\r\n" });
        if self.method != "HEAD" {
            answer.push_str(body);
        }
        self.to_client().write_all(answer.as_bytes())?;
        if !unread {
            return Ok(Next::Request);
        }
        // To close with bytes unread would reset the connection, and the client might never see the answer.
        self.client.shutdown(Shutdown::Write)?;
        self.client.set_read_timeout(Some(Duration::from_secs(2)))?;
        io::copy(&mut from_client.take(MOST_DRAINED), &mut io::sink())?;
        Ok(Next::Close)
    }

    fn cut(&self, how: Cut) -> io::Result<Next> {
        match how {
            Cut::Short => self.client.shutdown(Shutdown::Both)?,
            // Taking effect when the last handle is closed, which is soon: nothing else is done with this connection.
            Cut::Reset => rustix::net::sockopt::set_socket_linger(self.client, Some(Duration::ZERO))?,
        }
        Ok(Next::Close)
    }

    fn to_client(&self) -> &TcpStream {
        self.client
    }
}

fn connect(upstream: &str) -> io::Result<Upstream> {
    let stream = TcpStream::connect(upstream)?;
    prepare(&stream)?;
    Ok(BufReader::with_capacity(PIECE, stream))
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

fn head_text(first: &str, headers: &[(String, String)], keep: impl Fn(&str) -> bool) -> String {
    let mut text = format!("{first}\r\n");
    for (name, value) in headers.iter().filter(|(name, _)| keep(name)) {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    text.push_str("\r\n");
    text
}

fn matches(method: &str, path_contains: &str, of_method: &str, of_path: &str) -> bool {
    (method == "*" || method == of_method) && of_path.contains(path_contains)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

const PIECE: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(60);
const MOST_DRAINED: u64 = 64 << 20;
