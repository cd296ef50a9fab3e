//! docker's `config.json` and podman's `auth.json`, the same format with other habits:
//!
//! ```json
//! {
//!   "auths": {
//!     "quay.io/ns": { "auth": "base64 of user:password" },
//!     "https://index.docker.io/v1/": { "auth": "...", "identitytoken": "..." }
//!   },
//!   "credHelpers": { "gcr.io": "gcloud" },
//!   "credsStore": "secretservice"
//! }
//! ```
//!
//! `~/.dockercfg`, which docker wrote before it had a `config.json`, and Kubernetes secrets of the type
//! `kubernetes.io/dockercfg` are the object `auths` alone.
//!
//! Keys are hosts, hosts with a path (podman: the longest that fits wins), or URLs (docker; their path says nothing).
//! All else in the file is somebody else's and is kept. Read by hand and not by a typed reader, whose complaints
//! would repeat what they stumbled over.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::helper::{Helper, HelperReply};
use super::key::{LoginKey, normal, places, server_of};
use super::{Credential, Secret};
use crate::error::{Error, Result};
use crate::oci::{Host, Repository};

/// The largest file that is read, 4 MiB.
pub const MAX_AUTH_FILE: u64 = 4 << 20;

/// One such file.
pub struct AuthFile {
    origin: String,
    value: Map<String, Value>,
    form: Form,
    /// What helpers have answered: each is asked once, also one that fails.
    answered: Mutex<HashMap<Helper, Result<HelperReply>>>,
    /// Helpers that are not installed, and of which nobody was told.
    missing: Mutex<BTreeSet<String>>,
    /// What else nobody was told.
    warnings: Mutex<Vec<String>>,
}

/// Where the logins stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// In `auths`.
    Config,
    /// At the top: the form of `~/.dockercfg`.
    Legacy,
}

impl AuthFile {
    /// Reads the bytes of the file called `origin`.
    ///
    /// # Errors
    /// `Usage` when it is not such a file. The message holds nothing from it.
    pub fn parse(origin: &str, bytes: &[u8]) -> Result<AuthFile> {
        let fault = |what: &str| {
            Error::usage(format!("{origin} {what}")).hint("repair it, or log in again after moving it away")
        };
        if bytes.len() as u64 > MAX_AUTH_FILE {
            return Err(fault("is too large to be a file of logins"));
        }
        let text = if bytes.is_empty() { b"{}" } else { bytes };
        let value = serde_json::from_slice(text)
            .map_err(|e| fault(&format!("is not JSON (line {}, column {})", e.line(), e.column())))?;
        let Value::Object(value) = value else { return Err(fault("is not a JSON object")) };
        for part in ["auths", "credHelpers"] {
            if value.get(part).is_some_and(|part| !part.is_object() && !part.is_null()) {
                return Err(fault(&format!("has {part:?} that is not an object")));
            }
        }
        let form = if is_legacy(&value) { Form::Legacy } else { Form::Config };
        let (answered, missing) = (Mutex::default(), Mutex::default());
        let warnings = Mutex::default();
        Ok(AuthFile { origin: origin.to_owned(), value, form, answered, missing, warnings })
    }

    /// The same file with something that a person should know of it: [`AuthFile::take_warnings`] tells it.
    #[must_use]
    pub fn warn(mut self, warning: String) -> AuthFile {
        self.warnings.get_mut().unwrap_or_else(PoisonError::into_inner).push(warning);
        self
    }

    /// What the file knows for `host` and `repository`, by the longest key that fits; its helpers are asked. A helper that
    /// is not installed is skipped, and [`AuthFile::take_warnings`] tells of it.
    ///
    /// # Errors
    /// `Usage` for an entry that cannot be read, `Io` for a helper that fails.
    pub fn find(&self, host: &Host, repository: Option<&Repository>) -> Result<Option<Credential>> {
        // As in podman and skopeo, the helper of the host comes before the longer keys of `auths`.
        let of_host = normal(host.as_str());
        let places = places(host, repository);
        let places = std::iter::once(&of_host).chain(&places);
        for (place, is_first) in places.zip(std::iter::once(true).chain(std::iter::repeat(false))) {
            if let Some((server, helper)) = self.entry("credHelpers", place) {
                // An empty name turns the helper off for this host.
                if let Some(name) = helper.as_str().filter(|name| !name.is_empty()) {
                    match self.ask(Helper::new(name, server, &self.origin)?)? {
                        HelperReply::Login(found) => return Ok(Some(found)),
                        HelperReply::Nothing => return Ok(None),
                        HelperReply::NotInstalled => {}
                    }
                }
            }
            if !is_first
                && let Some((key, login)) = self.entry("auths", place)
                && let Some(found) = self.read(key, login)?
            {
                return Ok(Some(found));
            }
        }
        match self.store_name() {
            Some(name) => match self.ask(Helper::new(name, server_of(host), &self.origin)?)? {
                HelperReply::Login(found) => Ok(Some(found)),
                HelperReply::Nothing | HelperReply::NotInstalled => Ok(None),
            },
            None => Ok(None),
        }
    }

    /// Warnings that came up since the last call: a line for each helper that is not installed, and for each of
    /// [`AuthFile::warn`].
    pub fn take_warnings(&self) -> Vec<String> {
        let missing = std::mem::take(&mut *self.missing.lock().unwrap_or_else(PoisonError::into_inner));
        let line = |program: String| {
            format!(
                "{} names the credential helper {program}, which is not installed: it is skipped (install it, or remove \
                 it from that file)",
                self.origin
            )
        };
        let warnings = std::mem::take(&mut *self.warnings.lock().unwrap_or_else(PoisonError::into_inner));
        warnings.into_iter().chain(missing.into_iter().map(line)).collect()
    }

    /// The helper that keeps the login for `host`, if the file leaves that to one.
    ///
    /// # Errors
    /// `Usage` for a helper's name that cannot be one.
    pub fn helper(&self, host: &Host) -> Result<Option<Helper>> {
        let own =
            self.entry("credHelpers", &normal(host.as_str())).and_then(|(server, name)| Some((server, name.as_str()?)));
        let (server, name) = match (own, self.store_name()) {
            (Some((_, "")), _) | (None, None) => return Ok(None),
            (Some(own), _) => own,
            (None, Some(name)) => (server_of(host), name),
        };
        Helper::new(name, server, &self.origin).map(Some)
    }

    /// Enters a login, in place of every older one for the same key.
    pub fn set(&mut self, key: &LoginKey, user: &str, password: &Secret) {
        self.remove(key);
        let pair = Zeroizing::new(format!("{user}:{}", password.expose()));
        let entry = json!({"auth": STANDARD.encode(pair.as_bytes())});
        if self.form == Form::Legacy {
            self.value.insert(key.written(), entry);
            return;
        }
        let auths = self.value.entry("auths").or_insert_with(|| json!({}));
        if !auths.is_object() {
            *auths = json!({});
        }
        if let Value::Object(auths) = auths {
            auths.insert(key.written(), entry);
        }
    }

    /// Takes a login out, however its key is written; says whether there was one.
    pub fn remove(&mut self, key: &LoginKey) -> bool {
        let auths = match self.form {
            Form::Legacy => &mut self.value,
            Form::Config => match self.value.get_mut("auths") {
                Some(Value::Object(auths)) => auths,
                _ => return false,
            },
        };
        let before = auths.len();
        let place = key.to_string();
        auths.retain(|written, _| normal(written) != place);
        auths.len() < before
    }

    /// The file's new text, with everything that was in it and is not ours.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{:#}\n", Value::Object(self.value.clone())))
    }

    fn store_name(&self) -> Option<&str> {
        self.value.get("credsStore")?.as_str().filter(|name| !name.is_empty())
    }

    /// The entry of `part` for a place, and its key: the key as it is written here before any other spelling.
    fn entry(&self, part: &str, place: &str) -> Option<(&str, &Value)> {
        let entries = match (part, self.form) {
            ("auths", Form::Legacy) => &self.value,
            _ => self.value.get(part)?.as_object()?,
        };
        let found = entries.get_key_value(place).or_else(|| entries.iter().find(|(key, _)| normal(key) == place));
        found.map(|(key, value)| (key.as_str(), value))
    }

    fn ask(&self, helper: Helper) -> Result<HelperReply> {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let program = helper.program();
        let answer = answered.entry(helper).or_insert_with_key(|helper| {
            let answer = helper.get();
            if let Ok(HelperReply::NotInstalled) = answer {
                self.missing.lock().unwrap_or_else(PoisonError::into_inner).insert(program);
            }
            answer
        });
        answer.as_ref().cloned().map_err(Error::flattened)
    }

    /// An entry of `auths`; an empty one says nothing (docker leaves such beside a helper).
    fn read(&self, key: &str, login: &Value) -> Result<Option<Credential>> {
        let fault = |what: &str| {
            Error::usage(format!("the entry {key:?} of {} {what}", self.origin))
                .hint(format!("log in again: sealift login {}", normal(key)))
        };
        let field = |name: &str| login.get(name).and_then(Value::as_str).unwrap_or_default();
        if !field("registrytoken").is_empty() {
            return Ok(Some(Credential::RegistryToken(Secret::new(field("registrytoken")))));
        }
        // Tools wrap long lines of base64; Go's decoder, which docker and skopeo use, ignores that.
        let auth = Zeroizing::new(field("auth").split_ascii_whitespace().collect::<String>());
        let (user, password) = match auth.as_str() {
            "" => (field("username").to_owned(), Secret::new(field("password"))),
            auth => {
                let bytes = STANDARD.decode(auth).map_err(|_| fault("is not base64"))?;
                let pair = String::from_utf8(bytes).map_err(|_| fault("is not text"))?;
                let pair = Zeroizing::new(pair);
                let (user, password) = pair.split_once(':').ok_or_else(|| fault("has no colon after the user"))?;
                // Old versions of docker padded it.
                (user.to_owned(), Secret::new(password.trim_end_matches('\0')))
            }
        };
        if !field("identitytoken").is_empty() {
            let user = if user == "<token>" { String::new() } else { user };
            let password = Some(password).filter(|password| !user.is_empty() && !password.is_empty());
            let token = Secret::new(field("identitytoken"));
            return Ok(Some(Credential::IdentityToken { user, password, token }));
        }
        if user.is_empty() && password.is_empty() {
            return Ok(None);
        }
        Credential::login(&user, password).map(Some).map_err(|e| e.context(fault("is of no use").to_string()))
    }
}

impl fmt::Debug for AuthFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthFile").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Whether the logins stand at the top of a file.
fn is_legacy(value: &Map<String, Value>) -> bool {
    let is_login = |entry: &Value| LOGIN_FIELDS.iter().any(|name| entry.get(name).is_some_and(Value::is_string));
    !CONFIG_KEYS.iter().any(|key| value.contains_key(*key)) && value.values().any(is_login)
}

/// What only a `config.json` or `auth.json` has at its top.
const CONFIG_KEYS: [&str; 3] = ["auths", "credHelpers", "credsStore"];
/// What an entry holds that is a login.
const LOGIN_FIELDS: [&str; 4] = ["auth", "username", "identitytoken", "registrytoken"];

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn auth(pair: &str) -> Value {
        json!({"auth": STANDARD.encode(pair)})
    }

    fn file(value: &Value) -> AuthFile {
        AuthFile::parse("auth.json", value.to_string().as_bytes()).unwrap()
    }

    fn user(file: &AuthFile, place: &str) -> Option<String> {
        let key: LoginKey = place.parse().unwrap();
        file.find(&key.host, key.path.as_ref()).unwrap().map(|found| found.who())
    }

    #[rstest]
    #[case("quay.io/ns/repo", Some("user repo"))]
    #[case("quay.io/ns/other", Some("user ns"))]
    #[case("quay.io/ns/repo/deeper", Some("user repo"))]
    #[case("quay.io/nsx", Some("user host"))]
    #[case("quay.io", Some("user host"))]
    #[case("quay.io:443/ns", None)]
    #[case("docker.io/library/busybox", Some("user hub"))]
    #[case("registry-1.docker.io/library/busybox", Some("user hub"))]
    #[case("old.example.com/app", Some("user old"))]
    #[case("empty.example.com", None)]
    #[case("io/ns", None)]
    fn the_longest_key_that_fits_wins(#[case] place: &str, #[case] expected: Option<&str>) {
        let file = file(&json!({"auths": {
            "quay.io": auth("host:1"), "quay.io/ns": auth("ns:2"), "quay.io/ns/repo": auth("repo:3"),
            "https://index.docker.io/v1/": auth("hub:4"), "https://OLD.example.com/v2/": auth("old:5"),
            "empty.example.com": {},
        }}));
        assert_eq!(user(&file, place).as_deref(), expected);
    }

    #[test]
    fn every_sort_of_entry_is_read() {
        let file = file(&json!({"auths": {
            "a.io": {"auth": STANDARD.encode("alice:a:b\0\0")},
            "b.io": {"username": "bob", "password": "p"},
            "c.io": {"auth": STANDARD.encode("<token>:"), "identitytoken": "I"},
            "d.io": {"registrytoken": "R"},
        }}));
        let found = |host: &str| file.find(&host.parse().unwrap(), None).unwrap().unwrap();
        assert!(
            matches!(found("a.io"), Credential::Login { user, password } if user == "alice" && password.expose() == "a:b")
        );
        assert!(
            matches!(found("b.io"), Credential::Login { user, password } if user == "bob" && password.expose() == "p")
        );
        assert!(
            matches!(found("c.io"), Credential::IdentityToken { user, token, .. } if user.is_empty() && token.expose() == "I")
        );
        assert!(matches!(found("d.io"), Credential::RegistryToken(token) if token.expose() == "R"));
    }

    #[test]
    fn base64_may_be_wrapped() {
        let wrapped = STANDARD.encode(format!("alice:{}", "wrapped-".repeat(13)));
        for end in ["\n", "\r\n", "\n  "] {
            let (front, back) = wrapped.split_at(76);
            let file = file(&json!({"auths": {"a.io": {"auth": format!("{front}{end}{back}{end}")}}}));
            let found = file.find(&"a.io".parse().unwrap(), None).unwrap().unwrap();
            assert!(matches!(found, Credential::Login { password, .. } if password.expose() == "wrapped-".repeat(13)));
        }
    }

    #[test]
    fn logins_may_stand_at_the_top_and_stay_there() {
        let mut file = file(&json!({
            "https://index.docker.io/v1/": {"auth": STANDARD.encode("hub:1"), "email": "a@b.io"},
            "quay.io/ns": {"username": "ns", "password": "2"},
        }));
        assert_eq!(user(&file, "docker.io/library/busybox").as_deref(), Some("user hub"));
        assert_eq!(user(&file, "quay.io/ns/repo").as_deref(), Some("user ns"));
        assert_eq!(user(&file, "quay.io/other"), None);
        file.set(&"quay.io/ns".parse().unwrap(), "new", &Secret::new("3"));
        assert!(file.remove(&"docker.io".parse().unwrap()));
        let value: Value = serde_json::from_str(&file.to_text()).unwrap();
        assert_eq!(value, json!({"quay.io/ns": auth("new:3")}));
    }

    #[test]
    fn a_config_without_logins_is_not_taken_for_the_old_form() {
        for text in [
            r#"{}"#,
            r#"{"HttpHeaders": {"User-Agent": "x"}, "proxies": {"default": {"httpProxy": "http://p"}}}"#,
            r#"{"credsStore": "", "a.io": {"auth": "YTpi"}}"#,
        ] {
            let mut file = AuthFile::parse("auth.json", text.as_bytes()).unwrap();
            assert_eq!(user(&file, "a.io"), None);
            file.set(&"a.io".parse().unwrap(), "a", &Secret::new("b"));
            assert!(file.to_text().contains("\"auths\""), "{text}");
        }
    }

    #[rstest]
    #[case(r#"{"auths": {"a.io": {"auth": "planted!"}}}"#)]
    #[case(r#"{"auths": {"a.io": {"auth": "cGxhbnRlZA=="}}}"#)]
    #[case(r#"{"auths": {"a.io": {"auth": "OnBsYW50ZWQ="}}}"#)]
    #[case(r#"{"auths": ["planted"]}"#)]
    #[case(r#"{"auths": {"a.io": {"auth": planted}}}"#)]
    #[case(r#"["planted"]"#)]
    #[case(r#"{"credsStore": "../planted"}"#)]
    fn what_cannot_be_read_is_an_error_that_repeats_nothing(#[case] text: &str) {
        let found =
            AuthFile::parse("auth.json", text.as_bytes()).and_then(|file| file.find(&"a.io".parse().unwrap(), None));
        let error = found.expect_err("it is broken");
        assert!(error.chain().contains("auth.json"), "{error:?}");
        assert!(!format!("{error:?}").contains("planted"), "{error:?}");
    }

    #[test]
    fn a_login_replaces_every_spelling_and_keeps_the_rest() {
        let mut file = file(&json!({
            "auths": {"https://index.docker.io/v1/": auth("a:b"), "docker.io": auth("c:d"), "quay.io": auth("e:f")},
            "HttpHeaders": {"X-Mine": "1"}, "credHelpers": {"gcr.io": "gcloud"},
        }));
        file.set(&"docker.io".parse().unwrap(), "new", &Secret::new("word"));
        let value: Value = serde_json::from_str(&file.to_text()).unwrap();
        let expected = json!({
            "auths": {"https://index.docker.io/v1/": auth("new:word"), "quay.io": auth("e:f")},
            "HttpHeaders": {"X-Mine": "1"}, "credHelpers": {"gcr.io": "gcloud"},
        });
        assert_eq!(value, expected);
        assert!(file.remove(&"registry-1.docker.io".parse().unwrap()));
        assert!(!file.remove(&"docker.io".parse().unwrap()));
    }

    #[test]
    fn helpers_are_for_their_host_and_the_store_for_the_rest() {
        let file = file(&json!({"credHelpers": {"gcr.io": "gcloud", "off.io": ""}, "credsStore": "store"}));
        let program = |host: &str| file.helper(&host.parse().unwrap()).unwrap().map(|helper| helper.program());
        assert_eq!(program("gcr.io").as_deref(), Some("docker-credential-gcloud"));
        assert_eq!(program("quay.io").as_deref(), Some("docker-credential-store"));
        assert_eq!(program("off.io"), None);
    }
}
