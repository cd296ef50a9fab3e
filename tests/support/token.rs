//! A token service for a real registry (distribution's token specification, and its OAuth2 variant): signs what it is
//! asked for with a key of its own, and records who asked.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{Headers, header, read_head};
use crate::listening::Listening;

/// A running token service on a loopback port. Stops taking connections when dropped.
#[derive(Debug)]
pub struct TokenServer {
    listening: Listening,
    shared: Arc<Shared>,
}

/// One request for a token.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    pub method: String,
    /// In the order in which they came, from the query or the form.
    pub parameters: Vec<(String, String)>,
    pub headers: Headers,
    pub status: u16,
}

impl TokenServer {
    /// Knows [`Self::USER`] with [`Self::PASSWORD`], who may do everything, and nobody else.
    pub fn start() -> Self {
        let directory = TempDir::with_prefix("token-").expect("a temporary directory can be made");
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=tokens"])
            .args(["-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|e| panic!("openssl cannot be run ({e}): apt-get install openssl"));
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let shared = Arc::new(Shared {
            directory,
            requests: Mutex::default(),
            ways: Mutex::new(Ways {
                said: 60,
                valid: 60,
                delay: Duration::ZERO,
                anonymous: false,
                oauth: true,
                to_mount: true,
                lenient: false,
            }),
        });
        let serving = Arc::clone(&shared);
        let listening = Listening::start(move |client| {
            serve(client, &serving);
        });
        Self { listening, shared }
    }

    pub const USER: &str = "bob";
    pub const PASSWORD: &str = "planted-password";
    pub const IDENTITY: &str = "planted-identity-token";

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        self.listening.host()
    }

    /// The part of a registry's configuration that sends it here.
    pub fn auth(&self) -> String {
        self.auth_at(self.host())
    }

    /// The same where the service is reached at another place.
    pub fn auth_at(&self, host: &str) -> String {
        let cert = self.shared.directory.path().join("cert.pem");
        let cert = cert.display();
        format!(
            "token: {{realm: \"http://{host}/token\", service: \"{SERVICE}\", issuer: \"{ISSUER}\", rootcertbundle: \"{cert}\"}}"
        )
    }

    /// What a registry says of a token that is no longer good, where the service is reached at `host`.
    pub fn expired_at(host: &str) -> String {
        format!("Bearer realm=\"http://{host}/token\",service=\"{SERVICE}\",error=\"invalid_token\"")
    }

    /// Tokens are good for so many seconds, or up to one more, and `said` is what is said of them. The registry, which
    /// grants a minute more, is told such a time that it refuses them just then.
    pub fn valid_for(self, seconds: i64, said: i64) -> Self {
        self.change(|ways| (ways.valid, ways.said) = (seconds, said))
    }

    /// Takes its time.
    pub fn delayed(self, delay: Duration) -> Self {
        self.change(|ways| ways.delay = delay)
    }

    /// Lets anybody pull.
    pub fn anonymous(self) -> Self {
        self.change(|ways| ways.anonymous = true)
    }

    /// Knows only GET, and takes the identity token as a password.
    pub fn without_oauth(self) -> Self {
        self.change(|ways| ways.oauth = false)
    }

    /// Refuses tokens for two repositories at once.
    pub fn without_mounts(self) -> Self {
        self.change(|ways| ways.to_mount = false)
    }

    /// Gives a token without rights to a wrong password, as Harbor does; it refuses a wrong password only where no scope
    /// is asked for (goharbor/harbor#15605 shows such an answer).
    pub fn lenient(self) -> Self {
        self.change(|ways| ways.lenient = true)
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<TokenRequest> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(self, how: impl FnOnce(&mut Ways)) -> Self {
        how(&mut self.shared.ways.lock().unwrap_or_else(PoisonError::into_inner));
        self
    }
}

impl TokenRequest {
    /// Every value of a parameter.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.parameters.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect()
    }
}

#[derive(Debug)]
struct Shared {
    directory: TempDir,
    requests: Mutex<Vec<TokenRequest>>,
    ways: Mutex<Ways>,
}

#[derive(Debug, Clone, Copy)]
struct Ways {
    valid: i64,
    said: i64,
    delay: Duration,
    anonymous: bool,
    oauth: bool,
    to_mount: bool,
    lenient: bool,
}

fn serve(mut client: TcpStream, shared: &Shared) -> Option<()> {
    client.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let (first, headers) = read_head(&mut reader).ok()??;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let length = header(&headers, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut form = String::new();
    reader.take(length).read_to_string(&mut form).ok()?;
    let ways = *shared.ways.lock().unwrap_or_else(PoisonError::into_inner);
    thread::sleep(ways.delay);
    let query = if method == "POST" { form.as_str() } else { path.split_once('?').map_or("", |(_, query)| query) };
    let mut request = TokenRequest { method, parameters: parameters(query), headers, status: 0 };
    let answer = shared.answer(&request, ways);
    let (status, body) = match answer {
        Ok(token) => (
            200,
            json!({"expires_in": ways.said, if request.method == "POST" { "access_token" } else { "token" }: token}),
        ),
        Err(status) => (status, json!({"details": "no"})),
    };
    request.status = status;
    shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status} Token\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    client.write_all((head + &body).as_bytes()).ok()
}

impl Shared {
    fn answer(&self, request: &TokenRequest, ways: Ways) -> Result<String, u16> {
        let scopes: Vec<&str> = request.all("scope").into_iter().flat_map(|scope| scope.split(' ')).collect();
        let login = header(&request.headers, "authorization").map(str::to_owned);
        let basic = |user: &str, word: &str| Some(format!("Basic {}", STANDARD.encode(format!("{user}:{word}"))));
        let known = match request.method.as_str() {
            "POST" if !ways.oauth => return Err(405),
            "POST" => {
                request.all("grant_type") == ["refresh_token"]
                    && request.all("refresh_token") == [TokenServer::IDENTITY]
            }
            _ => {
                login == basic(TokenServer::USER, TokenServer::PASSWORD)
                    || login == basic("", TokenServer::IDENTITY)
                    || login == basic(TokenServer::USER, TokenServer::IDENTITY)
            }
        };
        let anonymous = login.is_none() && request.method == "GET";
        let welcome = known || (anonymous && ways.anonymous) || (ways.lenient && !scopes.is_empty());
        if !welcome || (scopes.len() > 1 && !ways.to_mount) {
            return Err(401);
        }
        if request.all("service") != [SERVICE] {
            return Err(400);
        }
        let access = scopes.iter().filter_map(|scope| {
            let mut parts = scope.split(':');
            let (kind, name, actions) = (parts.next()?, parts.next()?, parts.next()?);
            let granted: Vec<&str> =
                actions.split(',').filter(|action| known || (anonymous && *action == "pull")).collect();
            Some(json!({"type": kind, "name": name, "actions": granted}))
        });
        Ok(self.sign(&access.collect(), ways.valid))
    }

    /// A JWT (RFC 7519) with the certificate of its key in it (`x5c`).
    fn sign(&self, access: &Value, valid: i64) -> String {
        let pem = std::fs::read_to_string(self.directory.path().join("cert.pem")).expect("the certificate is there");
        let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let now = i64::try_from(now.as_secs()).expect("before the year 292 billion");
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = part(json!({"typ": "JWT", "alg": "RS256", "x5c": [der]}));
        let claims = part(json!({
            "iss": ISSUER, "sub": TokenServer::USER, "aud": SERVICE, "exp": now + 1 + valid - LEEWAY, "nbf": now - 1000,
            "iat": now, "jti": format!("{:?}", SystemTime::now()), "access": access,
        }));
        let text = format!("{head}.{claims}");
        let mut openssl = Command::new("openssl")
            .args(["dgst", "-sha256", "-sign", "key.pem"])
            .current_dir(self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("openssl can be run");
        openssl.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("openssl reads");
        let signature = openssl.wait_with_output().expect("openssl ends").stdout;
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// `application/x-www-form-urlencoded`
fn parameters(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (first, escaped) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(*first),
        }
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

const SERVICE: &str = "a registry";
const ISSUER: &str = "the tests";
/// What distribution 2.8 adds to a token's time, in seconds.
const LEEWAY: i64 = 60;
