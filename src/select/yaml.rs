//! The YAML of `skopeo sync --src yaml`, with every key (skopeo-sync(1)), made into a [`Selection`].
//!
//! skopeo passes over what it does not understand (unknown keys, expressions and constraints that are none, names that are
//! none); here all of that is an error with file, line and key.

mod read;

use super::{Constraint, Registry, RepositorySelection, Selection, TagRegex, TagRule};
use crate::credentials::Credential;
use crate::error::{Error, Failure, Result};
use crate::oci::{Host, Reference, Selector};
use crate::text::without_login;
use read::{Entries, Logins, OnLine, RawRegistry};

/// Reads it. `origin` is the file's name for messages. An entry that cannot be used is a failure of the selection; what
/// is wrong with the file as such, or with how a registry is to be spoken to, is an error.
///
/// # Errors
/// `Usage`, with file, line and key; what is below `credentials` is never repeated.
pub(crate) fn parse(text: &str, origin: &str) -> Result<Selection> {
    let mut selection = Selection::default();
    let (registries, has_more) = read::registries(text, origin)?;
    if has_more {
        selection.warnings.push(format!("{origin} has several documents: only the first is read, as by skopeo"));
    }
    for (name, registry) in registries {
        let reader = Reader { origin, name };
        reader.read(registry, &mut selection)?;
    }
    Ok(selection)
}

/// What is below one registry.
struct Reader<'a> {
    origin: &'a str,
    /// The key: a host, perhaps with the beginning of a path, as skopeo allows.
    name: OnLine<String>,
}

impl Reader<'_> {
    fn read(&self, raw: RawRegistry, selection: &mut Selection) -> Result<()> {
        let host = self.host()?;
        if raw.images.is_empty() && raw.images_by_tag_regex.is_empty() && raw.images_by_semver.is_empty() {
            selection.warnings.push(format!("{}: it lists no images", self.place(self.name.line, &[])));
        }
        for (image, references) in raw.images {
            let repository = match self.repository("images", &image) {
                Ok(repository) => repository,
                Err(error) => {
                    selection.failures.push(self.failure(&image, error));
                    continue;
                }
            };
            if references.is_empty() {
                selection.wanted.push(repository.clone());
            }
            for reference in references {
                match self.selector(&image, &reference) {
                    Ok(selector) => {
                        selection
                            .wanted
                            .push(RepositorySelection { which: TagRule::One(selector), ..repository.clone() });
                    }
                    Err(error) => selection.failures.push(self.failure(&image, error)),
                }
            }
        }
        self.read_chosen("images-by-tag-regex", raw.images_by_tag_regex, selection, |text| {
            TagRegex::new(text).map(TagRule::Regex)
        });
        self.read_chosen("images-by-semver", raw.images_by_semver, selection, |text| {
            Constraint::parse(text).map(TagRule::Versions).map_err(|e| {
                Error::usage(format!("{text:?} is not a constraint for versions"))
                    .caused_by(e)
                    .hint("write comparisons such as \">= 1.2, < 2 || ^3.1\"")
            })
        });
        let credential = raw.credentials.and_then(|logins| self.credential(logins).transpose()).transpose()?;
        let cert_dir = raw.cert_dir.filter(|directory| !directory.value.is_empty());
        if credential.is_some() || raw.tls_verify.is_some() || cert_dir.is_some() {
            if let Some(known) = selection.registries.iter().find(|known| known.host == host) {
                let message = format!("how to speak to {host} is said in {} already", known.origin);
                return Err(self.fault(self.name.line, &[], message));
            }
            selection.registries.push(Registry {
                host,
                origin: format!("{}, line {}", self.origin, self.name.line),
                credential,
                tls_verify: raw.tls_verify.map(|verify| verify.value),
                cert_dir: cert_dir.map(|directory| directory.value.into()),
            });
        }
        Ok(())
    }

    /// `images-by-...`: repositories, each with a rule.
    fn read_chosen(
        &self,
        key: &str,
        entries: Entries<OnLine<String>>,
        selection: &mut Selection,
        rule: impl Fn(&str) -> Result<TagRule>,
    ) {
        for (image, text) in entries {
            let wanted = self.repository(key, &image).and_then(|repository| {
                let which = rule(&text.value).map_err(|e| e.context(self.place(text.line, &[key, &image.value])))?;
                Ok(RepositorySelection { which, ..repository })
            });
            match wanted {
                Ok(wanted) => selection.wanted.push(wanted),
                Err(error) => selection.failures.push(self.failure(&image, error)),
            }
        }
    }

    fn failure(&self, image: &OnLine<String>, error: Error) -> Failure {
        Failure { image: format!("{}/{}", without_login(&self.name.value), image.value), error }
    }

    fn host(&self) -> Result<Host> {
        let name = self.name.value.split('/').next().unwrap_or_default();
        // Docker takes any other first part for a name on Docker Hub.
        if !(name.contains(['.', ':', '[']) || name == "localhost") {
            let message = "this is not a registry: a host has a dot or a port";
            return Err(self.fault(self.name.line, &[], message).hint(SHAPE));
        }
        let reference = format!("{}/x", self.name.value).parse::<Reference>();
        let fault = |e| self.fault(self.name.line, &[], "this is not a registry").caused_by(e).hint(SHAPE);
        reference.map(|reference| reference.host).map_err(fault)
    }

    fn repository(&self, key: &str, image: &OnLine<String>) -> Result<RepositorySelection> {
        let place = || self.place(image.line, &[key, &image.value]);
        let reference: Reference =
            format!("{}/{}", self.name.value, image.value).parse().map_err(|e| Error::usage(place()).caused_by(e))?;
        match reference.selector {
            None => Ok(reference.into()),
            Some(_) => Err(Error::usage(format!("{}: this is an image, not a repository", place()))
                .hint("tags and digests are listed below the repository: app: [\"1.0\"]")),
        }
    }

    fn selector(&self, image: &OnLine<String>, reference: &OnLine<String>) -> Result<Selector> {
        let fault = |e: Box<dyn std::error::Error + Send + Sync>| {
            let message = format!("{:?} is neither a tag nor a digest", reference.value);
            self.fault(reference.line, &["images", &image.value], message).caused_by(e)
        };
        // No tag has a colon.
        if reference.value.contains(':') {
            reference.value.parse().map(Selector::Digest).map_err(|e| fault(Box::new(e)))
        } else {
            reference.value.parse().map(Selector::Tag).map_err(|e| fault(Box::new(e)))
        }
    }

    fn credential(&self, logins: Logins) -> Result<Option<Credential>> {
        let fault = |what| Err(self.fault(logins.line, &["credentials"], what));
        let user = logins.username.unwrap_or_default();
        match (logins.password, logins.identity_token) {
            (Some(_), Some(_)) => fault("there are a password and an identity token"),
            (None, Some(token)) => Ok(Some(Credential::IdentityToken { user, password: None, token })),
            (None, None) if user.is_empty() => Ok(None),
            (None, None) => fault("there is a user name and no password"),
            (Some(password), None) => Credential::login(&user, password)
                .map(Some)
                .map_err(|_| self.fault(logins.line, &["credentials"], LOGIN_FAULT)),
        }
    }

    fn fault(&self, line: u64, keys: &[&str], what: impl AsRef<str>) -> Error {
        Error::usage(format!("{}: {}", self.place(line, keys), what.as_ref()))
    }

    fn place(&self, line: u64, keys: &[&str]) -> String {
        let name = without_login(&self.name.value);
        let keys = [&[&*name], keys].concat();
        read::place(self.origin, line, &keys)
    }
}

const LOGIN_FAULT: &str = "this is not a login: username and password are needed, and a user name has no colon";
const SHAPE: &str = "write the registry's host, such as registry.example.com or localhost:5000";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    const EXAMPLE: &str = r#"
registry.example.com:
    images:
        busybox: []
        redis:
            - "1.0"
            - 2.10
            - "sha256:0000000000000000000000000000000011111111111111111111111111111111"
    images-by-tag-regex:
        nginx: ^1\.13\.[12]-alpine-perl$
    images-by-semver:
        alpine: ">= 3.12.0"
    credentials:
        username: john
        password: planted secret
    tls-verify: true
    cert-dir: /home/john/certs
quay.io:
    tls-verify: false
    images:
        coreos/etcd:
            - latest
docker.io:
    images:
        busybox:
"#;

    fn fault(text: &str) -> String {
        let read = parse(text, "sync.yaml").and_then(|selection| selection.into_valid());
        read.expect_err("must be refused").chain()
    }

    #[test]
    fn every_key_of_skopeo_is_read() {
        let selection = parse(EXAMPLE, "sync.yaml").unwrap();
        let wanted: Vec<String> = selection.wanted.iter().map(|w| format!("{w} {}", kind(&w.which))).collect();
        let digest = "0000000000000000000000000000000011111111111111111111111111111111";
        assert_eq!(
            wanted,
            [
                "registry.example.com/busybox every",
                "registry.example.com/redis:1.0 one",
                "registry.example.com/redis:2.10 one",
                &format!("registry.example.com/redis@sha256:{digest} one"),
                "registry.example.com/nginx regex",
                "registry.example.com/alpine versions",
                "quay.io/coreos/etcd:latest one",
                "docker.io/library/busybox every",
            ]
        );
        let [example, quay] = &selection.registries[..] else { panic!("{:?}", selection.registries) };
        assert_eq!(example.host.as_str(), "registry.example.com");
        assert_eq!(example.origin, "sync.yaml, line 2");
        assert_eq!((example.tls_verify, quay.tls_verify), (Some(true), Some(false)));
        assert_eq!(example.cert_dir.as_deref(), Some("/home/john/certs".as_ref()));
        let Some(Credential::Login { user, password }) = &example.credential else { panic!("a login") };
        assert_eq!((user.as_str(), password.expose()), ("john", "planted secret"));
        assert!(quay.credential.is_none() && quay.cert_dir.is_none());
        assert!(!format!("{selection:?}").contains("planted"), "{selection:?}");
    }

    fn kind(which: &TagRule) -> &'static str {
        match which {
            TagRule::One(_) => "one",
            TagRule::Every => "every",
            TagRule::Regex(_) => "regex",
            TagRule::Versions(_) => "versions",
        }
    }

    #[test]
    fn an_entry_that_cannot_be_used_does_not_hide_the_others() {
        let text = "r.io:\n  images:\n    good: ['1']\n    UPPER: ['1']\n    app: ['-x', '2']\n  images-by-tag-regex:\n    \
                    tool: '('\n  images-by-semver:\n    db: nonsense\n";
        let selection = parse(text, "sync.yaml").unwrap();
        let wanted: Vec<String> = selection.wanted.iter().map(ToString::to_string).collect();
        assert_eq!(wanted, ["r.io/good:1", "r.io/app:2"]);
        let failed: Vec<&str> = selection.failures.iter().map(|failure| failure.image.as_str()).collect();
        assert_eq!(failed, ["r.io/UPPER", "r.io/app", "r.io/tool", "r.io/db"]);
        let all = selection.into_valid().expect_err("four faults").chain();
        assert!(["line 4", "line 5", "line 7", "line 9"].iter().all(|line| all.contains(line)), "{all}");
    }

    #[test]
    fn what_skopeo_reads_or_passes_over_is_no_fault() {
        let text = "x-common: &common\n  Credentials: {Username: john, password: planted, email: j@r.io}\n  tls-verify:\n  \
                    cert-dir:\n  x-note: [anything]\nr.io:\n  <<: *common\n  IMAGES: {app: ['1']}\n---\nq.io:\n  images: {b: []}\n";
        let selection = parse(text, "sync.yaml").unwrap();
        let wanted: Vec<String> = selection.wanted.iter().map(ToString::to_string).collect();
        assert_eq!(wanted, ["r.io/app:1"]);
        let [registry] = &selection.registries[..] else { panic!("{:?}", selection.registries) };
        assert!(registry.credential.is_some() && registry.tls_verify.is_none() && registry.cert_dir.is_none());
        assert!(selection.warnings[0].contains("only the first is read"), "{:?}", selection.warnings);
        let said = fault("r.io:\n  registry: x\n");
        assert!(said.contains("x- is ignored"), "the error names the way out: {said}");
    }

    #[test]
    fn a_registry_may_have_the_beginning_of_a_path() {
        let selection = parse("quay.io/coreos:\n  images: {etcd: [v3]}\n", "sync.yaml").unwrap();
        assert_eq!(selection.wanted[0].to_string(), "quay.io/coreos/etcd:v3");
    }

    #[test]
    fn anchors_may_share_a_list_of_tags() {
        let text = "r.io:\n  images:\n    a: &tags [1.0, 1.1]\n    b: *tags\n";
        let wanted: Vec<String> = parse(text, "sync.yaml").unwrap().wanted.iter().map(ToString::to_string).collect();
        assert_eq!(wanted, ["r.io/a:1.0", "r.io/a:1.1", "r.io/b:1.0", "r.io/b:1.1"]);
    }

    #[rstest]
    #[case::empty("")]
    #[case::comment("# nothing\n")]
    #[case::no_images("r.io:\n  images: {}\n")]
    #[case::nothing_below("r.io:\n")]
    fn nothing_may_be_asked_for(#[case] text: &str) {
        assert!(parse(text, "sync.yaml").unwrap().wanted.is_empty());
    }

    #[rstest]
    #[case::unknown_key("r.io:\n  images: {}\n  image: {}\n", "sync.yaml, line 3: r.io: image: ", "unknown key")]
    #[case::unknown_login("r.io:\n  credentials:\n    user: x\n", "line 3: r.io: credentials: user: ", "unknown key")]
    #[case::twice("r.io:\n  images: {}\n  images: {}\n", "line 3: r.io: ", "images is there twice")]
    #[case::registry_twice("r.io:\n  images: {a: []}\nr.io:\n  images: {b: []}\n", "line 3: ", "r.io is there twice")]
    #[case::repository_twice("r.io:\n  images:\n    a: []\n    a: []\n", "line 4: r.io: images: ", "a is there twice")]
    #[case::not_a_list("r.io:\n  images:\n    app: latest\n", "line 3: r.io: images: app: ", "a list of tags")]
    #[case::not_a_mapping("r.io:\n  images: [app]\n", "line 2: r.io: images: ", "repositories with")]
    #[case::no_registries("- r.io/app\n", "line 1: ", "a list: read it as FILE.txt")]
    #[case::no_host("mirror:\n  images: {app: []}\n", "line 1: mirror: ", "a host has a dot or a port")]
    #[case::bad_repository("r.io:\n  images:\n    UPPER: []\n", "line 3: r.io: images: UPPER: ", "lower case")]
    #[case::image("r.io:\n  images:\n    app:1: []\n", "line 3: r.io: images: app:1: ", "not a repository")]
    #[case::bad_tag(
        "r.io:\n  images:\n    app:\n      - ok\n      - 'no tag'\n",
        "line 5: r.io: images: app: ",
        "no tag"
    )]
    #[case::bad_digest("r.io:\n  images:\n    app: ['sha256:12']\n", "line 3: r.io: images: app: ", "sha256:12")]
    #[case::null_tag("r.io:\n  images:\n    app: [~]\n", "line 3: r.io: images: app: ", "there is nothing")]
    #[case::bad_regex("r.io:\n  images-by-tag-regex:\n    app: '('\n", "line 3: r.io: images-by-tag-regex: app: ", "(")]
    #[case::bad_semver("r.io:\n  images-by-semver:\n    app: '>>1'\n", "line 3: r.io: images-by-semver: app: ", ">>1")]
    #[case::bad_bool("r.io:\n  tls-verify: perhaps\n", "line 2: r.io: tls-verify: ", "true or false")]
    #[case::bad_login("r.io:\n  credentials: planted\n", "line 2: r.io: credentials: ", "username and password")]
    #[case::no_password("r.io:\n  credentials: {username: john}\n", "line 2: r.io: credentials: ", "no password")]
    #[case::bad_user(
        "r.io:\n  credentials: {username: 'a:b', password: planted}\n",
        "line 2: r.io: credentials: ",
        "colon"
    )]
    #[case::password_list(
        "r.io:\n  credentials:\n    password: [planted]\n",
        "line 3: r.io: credentials: password: ",
        "text"
    )]
    #[case::two_logins(
        "r.io:\n  credentials: {password: planted, identitytoken: planted}\n",
        "line 2: r.io: credentials: ",
        "and"
    )]
    #[case::one_key_in_two_cases(
        "r.io:\n  images: {}\n  Images: {}\n",
        "line 3: r.io: Images: ",
        "images is there twice"
    )]
    #[case::unclosed("r.io:\n  images: {app: [\n", "sync.yaml, line ", "")]
    #[case::twice_by_path(
        "r.io/a:\n  tls-verify: true\nr.io/b:\n  tls-verify: false\n",
        "line 3: r.io/b: ",
        "line 1 already"
    )]
    fn a_fault_is_named_by_file_line_and_key(#[case] text: &str, #[case] place: &str, #[case] what: &str) {
        let said = fault(text);
        assert!(said.starts_with("sync.yaml, line ") && said.contains(place) && said.contains(what), "{said}");
        assert!(!said.contains("planted"), "{said}");
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut text = "r.io:\n  images:\n    a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let below = format!("*a{}, ", level - 1).repeat(10);
            text.push_str(&format!("    a{level}: &a{level} [{below}]\n"));
        }
        assert!(fault(&text).contains("line"));
        let tags = format!("    a: &a [{}]\n", "x, ".repeat(1000));
        let many: String = (0..2000).map(|n| format!("    b{n}: *a\n")).collect();
        let said = fault(&format!("r.io:\n  images:\n{tags}{many}"));
        assert!(said.contains("too much"), "{said}");
        let nested = format!("r.io: {}", "[".repeat(10_000));
        assert!(fault(&nested).contains("sync.yaml"));
    }

    #[test]
    fn a_text_that_is_too_long_is_refused() {
        assert!(fault(&format!("r.io:\n  images: {{app: [{}]}}\n", "x".repeat(5000))).contains("line 2"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(\\PC{0,20}\n?){0,6}") {
            let _ = parse(&text, "sync.yaml");
        }

        #[test]
        fn nothing_like_yaml_panics(text in "(r\\.io:\n)?( {0,4}[a&*!{\\[\\]}:, \"'~|>-]{0,12}\n){0,6}") {
            let _ = parse(&text, "sync.yaml");
        }
    }
}
