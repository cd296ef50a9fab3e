//! One table of `allowed_signers` files and signatures, each put to sealift and to `ssh-keygen -Y verify`.
//!
//! Both must say what the table says. Where they are meant to differ, the case gives the reason. sealift has no
//! `-I`: it asks "who of these signed?", so each case names a principal that its file lists, unless that is the
//! point of the case.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use jiff::tz::TimeZone;
use sealift::trust::{Namespace, Signature, Trust, Verdict};

const MESSAGE: &[u8] = b"0000  bundle.json\n";
const NOON: &str = "20260615120000Z";

#[test]
fn sealift_and_openssh_agree_but_for_the_listed_differences() {
    let cases = cases();
    assert!(cases.len() >= 45, "only {} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let (ours, our_words) = case.ask_sealift();
        let (theirs, their_words) = case.ask_openssh();
        if ours != case.ours {
            wrong.push(format!("{}: sealift says {ours}: {our_words}", case.name));
        }
        if theirs != case.theirs {
            wrong.push(format!("{}: ssh-keygen says {theirs}: {their_words}", case.name));
        }
        if (case.ours != case.theirs) == case.reason.is_empty() {
            wrong.push(format!("{}: a difference must have a reason, an agreement none", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn a_refused_file_is_refused_by_line_number() {
    let good = keys().line("alice namespaces=\"sealift-bundle\" {ed}");
    for bad in ["alice cert-authority {ed}", "alice no-touch-required {ed}", "alice", "alice ssh-dss AAAA", "{ed}"] {
        let file = format!("# who may sign\n\n{good}\n{}\n{good}\n", keys().line(bad));
        let error = Trust::parse(file.as_bytes(), "signers", false).unwrap_err();
        assert!(error.to_string().starts_with("signers, line 4: "), "{bad}: {error}");
        assert_eq!(error.kind(), sealift::error::Kind::Usage);
    }
}

#[test]
fn a_pub_line_pinned_by_hand_is_trusted_for_every_namespace_of_ours() {
    let signature = Signature::parse(&keys().sign("ed", "sealift-bundle", "sha512")).unwrap();
    for (line, expected) in [
        (keys().line("{ed} alice@desk\n"), "alice@desk".to_owned()),
        (keys().line("# pinned\r\n{ed}\r\n"), { signature.public_key().fingerprint() }),
    ] {
        let trust = Trust::parse(line.as_bytes(), "alice.pub", false).unwrap();
        match trust.judge(Namespace::Bundle, "2026-06-15T12:00:00Z".parse().unwrap(), MESSAGE, &signature) {
            Verdict::Trusted { principals, key } => {
                assert_eq!(principals, [expected]);
                assert_eq!(key, *signature.public_key());
            }
            other => panic!("{other:?}"),
        }
    }
    let two = keys().line("{ed}\n{other}\n");
    assert!(Trust::parse(two.as_bytes(), "two.pub", false).is_err());
    let mixed = keys().line("alice namespaces=\"*\" {ed}\n{other}\n");
    assert!(Trust::parse(mixed.as_bytes(), "mixed", false).is_err());
}

#[test]
fn a_line_that_sealift_writes_is_trusted_by_both() {
    let key = sealift::trust::PublicKey::from_line(&keys().public["ed"]).unwrap();
    for principal in ["alice@example.com", "Alice Smith", "#1"] {
        let file = key.allowed_signers_line(principal).unwrap();
        let case = case("written by sealift", &file).principal(principal).yes();
        assert!(case.ask_sealift().0, "{file}");
        assert!(case.ask_openssh().0, "{file}: {}", case.ask_openssh().1);
    }
}

fn cases() -> Vec<Case> {
    let ours = "namespaces=\"sealift-bundle\"";
    let line = |options: &str| format!("alice {options} {{ed}}");
    let within = |options: &str| format!("alice {ours},{options} {{ed}}");
    let long = |entry: usize| format!("alice namespaces=\"sealift-bundle,{}\" {{ed}}", "x".repeat(entry));
    vec![
        // Who.
        case("the plain case", &line(ours)).yes(),
        case("another key", &format!("alice {ours} {{other}}")).no(),
        case("the right key on a later line", &format!("bob {ours} {{other}}\nalice {ours} {{ed}}")).yes(),
        case("several principals", &format!("bob,alice,carol {ours} {{ed}}")).yes(),
        case("principals by pattern", &format!("*@example.com {ours} {{ed}}")).principal("al@example.com").yes(),
        case("principals in quotes", &format!("\"alice smith\" {ours} {{ed}}")).principal("alice smith").yes(),
        case("a quote in the middle", &format!("al\"ice smith\" {ours} {{ed}}")).principal("alice smith").yes(),
        case("a quote that is not closed", &format!("\"alice {ours} {{ed}}")).no(),
        case("principals that only exclude", &format!("!alice {ours} {{ed}}")).no(),
        case("principals that exclude each other", &format!("alice,!alice {ours} {{ed}}")).no(),
        case("an empty principal", &format!("\"\" {ours} {{ed}}")).no(),
        case("the key listed for somebody else", &format!("bob {ours} {{ed}}"))
            .only_sealift("sealift names who signed, it is not told whom to expect"),
        // Namespaces.
        case("no namespaces", "alice {ed}").only_openssh("a line must say what it is for"),
        case("no namespaces, but any will do", "alice {ed}").any_namespace().yes(),
        case("no namespaces, but dates", &line("valid-after=\"20200101Z\""))
            .only_openssh("a line must say what it is for"),
        case("another namespace", &line("namespaces=\"git\"")).no(),
        case("another namespace, though any will do", &line("namespaces=\"git\"")).any_namespace().no(),
        case("ours among others", &line("namespaces=\"git,sealift-bundle,file\"")).yes(),
        case("ours by pattern", &line("namespaces=\"sealift-*\"")).yes(),
        case("ours by question mark", &line("namespaces=\"sealift-bundl?\"")).yes(),
        case("every namespace", &line("namespaces=\"*\"")).yes(),
        case("ours excluded", &line("namespaces=\"*,!sealift-bundle\"")).no(),
        case("ours excluded first", &line("namespaces=\"!sealift-bundle,*\"")).no(),
        case("another one excluded", &line("namespaces=\"!git,sealift-*\"")).yes(),
        case("a blank in the list", &line("namespaces=\"git, sealift-bundle\"")).no(),
        case("an empty list", &line("namespaces=\"\"")).no(),
        case("in capitals", &line("namespaces=\"SEALIFT-BUNDLE\"")).no(),
        case("the option in capitals", &line("NAMESPACES=\"sealift-bundle\"")).yes(),
        case("a longest entry", &long(1022)).yes(),
        case("an entry too long", &long(1023)).no(),
        case("namespaces twice", &line("namespaces=\"sealift-bundle\",namespaces=\"git\"")).no(),
        case("without quotes", &line("namespaces=sealift-bundle")).no(),
        case("a quote escaped", &line("namespaces=\"a\\\"b,sealift-bundle\"")).yes(),
        case("a quote escaped at the end", &line("namespaces=\"sealift-bundle\\\"")).no(),
        case("a blank in quotes", &line("namespaces=\"a b,sealift-bundle\"")).yes(),
        // Times.
        case("within dates", &within("valid-after=\"20260101Z\",valid-before=\"20270101Z\"")).yes(),
        case("too early", &within("valid-after=\"20260701Z\"")).no(),
        case("too late", &within("valid-before=\"20260601Z\"")).no(),
        case("at the first second", &within("valid-after=\"20260615120000Z\"")).yes(),
        case("one second early", &within("valid-after=\"20260615120001Z\"")).no(),
        case("at the last second", &within("valid-before=\"20260615120000Z\"")).yes(),
        case("one second late", &within("valid-before=\"20260615115959Z\"")).no(),
        case("minutes", &within("valid-after=\"202606151200Z\"")).yes(),
        case("a minute early", &within("valid-after=\"202606151201Z\"")).no(),
        case("small z", &within("valid-after=\"202606151200z\"")).yes(),
        case("UTC spelled out", &within("valid-after=\"202606151201UTC\"")).no(),
        case("local time in winter, begun", &within("valid-after=\"202601151300\"")).at("20260115120000Z").yes(),
        case("local time in winter, not begun", &within("valid-after=\"202601151301\"")).at("20260115120000Z").no(),
        case("local time in summer is standard time, begun", &within("valid-after=\"202606151300\"")).yes(),
        case("local time in summer is standard time, not begun", &within("valid-after=\"202606151301\"")).no(),
        case("local time in the hour that is skipped", &within("valid-after=\"202603290230\""))
            .at("20260329013000Z")
            .yes(),
        case("local time before the hour that is skipped", &within("valid-after=\"202603290230\""))
            .at("20260329012959Z")
            .no(),
        case("local time in the hour that comes twice", &within("valid-before=\"202610250230\""))
            .at("20261025013000Z")
            .yes(),
        case("local time after the hour that comes twice", &within("valid-before=\"202610250230\""))
            .at("20261025013001Z")
            .no(),
        case("dates the wrong way round", &within("valid-after=\"20270101Z\",valid-before=\"20260101Z\"")).no(),
        case("an empty validity", &within("valid-after=\"20260615120000Z\",valid-before=\"20260615120000Z\"")).no(),
        case("not a date", &within("valid-after=\"yesterday\"")).no(),
        case("a date with dashes", &within("valid-after=\"2026-01-01\"")).no(),
        case("the epoch", &within("valid-after=\"19700101Z\"")).no(),
        case("a month that is not", &within("valid-after=\"20261301Z\"")).no(),
        case("a day that is not", &within("valid-after=\"20260230Z\""))
            .only_openssh("strptime takes 30 February for 2 March; a typing error should not move a date"),
        case("a second that is not", &within("valid-after=\"20260101000060Z\""))
            .only_openssh("strptime takes second 60 for the next minute"),
        case("valid-after twice", &within("valid-after=\"20200101Z\",valid-after=\"20210101Z\"")).no(),
        case("valid-before twice", &within("valid-before=\"20280101Z\",valid-before=\"20290101Z\"")).no(),
        // Options.
        case("cert-authority", &within("cert-authority")).no(),
        case("cert-authority on somebody's line", &format!("bob cert-authority {{other}}\nalice {ours} {{ed}}"))
            .only_openssh("certificates are not supported, and a file that means them is refused"),
        case("an unknown option", &within("no-touch-required")).no(),
        case("an unknown option on somebody's line", &format!("bob verify-required {{other}}\nalice {ours} {{ed}}"))
            .only_openssh("an option that is not understood might be a limit: the file is refused by line number"),
        case("a bad date on somebody's line", &format!("bob valid-after=\"x\" {{other}}\nalice {ours} {{ed}}"))
            .only_openssh("a file with a bad line is refused by line number"),
        case("no comma between options", &line(&format!("{ours}valid-after=\"20200101Z\""))).no(),
        case("a blank between options", &line(&format!("{ours}, valid-after=\"20200101Z\""))).no(),
        case("a comma at the end", &line(&format!("{ours},"))).no(),
        case("a comma in front", &line(&format!(",{ours}"))).yes(),
        case("two commas", &within(",valid-after=\"20200101Z\"")).yes(),
        case("a flag with a value", &within("cert-authority=\"yes\"")).no(),
        case("an option without its value", &within("valid-after")).no(),
        // Lines.
        case("comments and blank lines", &format!("# one\n\n   # two\n\t\n{}\n\n", line(ours))).yes(),
        case("a comment sign after a principal", &format!("alice# {ours} {{ed}}")).principal("alice#").yes(),
        case("a line put out of use", &format!("#{}", line(ours))).no(),
        case("blanks in front", &format!(" \t{}", line(ours))).yes(),
        case("tabs between", &format!("alice\t{ours} \t {{ed}}\tcomment").replace("ssh-ed25519 ", "ssh-ed25519\t"))
            .yes(),
        case("a comment of words", &format!("{} alice smith, \"desk 3\"", line(ours))).yes(),
        case("CR LF", &format!("# signers\r\n\r\n{}\r\n", line(ours))).yes(),
        case("CR LF after a comment", &format!("{} comment\r\n", line(ours))).yes(),
        case("CR after the options", &format!("alice {ours}\r {{ed}}")).no(),
        case("no line end at the end", &line(ours)).yes(),
        case("only a principal", "alice").no(),
        case("no key after the options", &format!("alice {ours}")).no(),
        case("a key cut short", &format!("alice {ours} {}", &keys().public["ed"][..60])).no(),
        case(
            "a type unlike the key",
            &line(ours).replace("{ed}", &keys().public["ed"].replace("ssh-ed25519 ", "ssh-rsa ")),
        )
        .no(),
        case(
            "a type that is a signature algorithm",
            &format!("alice {ours} {}", keys().public["rsa"].replace("ssh-rsa ", "rsa-sha2-512 ")),
        )
        .signed("rsa")
        .only_openssh("a line must name the key's own type"),
        case("an empty file", "").no(),
        case("only comments", "# nobody yet\n").no(),
        case("a NUL byte", &format!("{}\0", line(ours)))
            .only_openssh("C strings end at NUL, so what follows is not read"),
        case("a byte-order mark", &format!("\u{feff}{}", line(ours))).no(),
        case("a byte-order mark before a comment", &format!("\u{feff}# signers\n{}", line(ours)))
            .only_openssh("it would be part of the first principal's name"),
        // Several lines for one key.
        case("the second line lets in", &format!("alice namespaces=\"git\" {{ed}}\n{}", line(ours))).yes(),
        case(
            "one expired, one not",
            &format!("{}\n{}", within("valid-before=\"20250101Z\""), within("valid-after=\"20250101Z\"")),
        )
        .yes(),
        case(
            "both expired",
            &format!("{}\n{}", within("valid-before=\"20250101Z\""), within("valid-before=\"20240101Z\"")),
        )
        .no(),
        // Pinned.
        case("a bare public key", "{ed} alice").only_sealift("a .pub file can be pinned by hand"),
        // Signatures.
        case("signed with RSA", &format!("alice {ours} {{rsa}}")).signed("rsa").yes(),
        case("signed with ECDSA", &format!("alice {ours} {{ecdsa}}")).signed("ecdsa").yes(),
        case("signed with RSA, only ed25519 listed", &line(ours)).signed("rsa").no(),
        case("signed over SHA-256", &line(ours)).hash("sha256").yes(),
        case("signed with RSA over SHA-256", &format!("alice {ours} {{rsa}}")).signed("rsa").hash("sha256").yes(),
        case("signed for another namespace", &line("namespaces=\"*\"")).namespace("git").no(),
        case("signed for a review", &line("namespaces=\"sealift-*\"")).namespace("sealift-review").no(),
        case("text after the armor", &line(ours)).armor(|text| text + "more\n").only_openssh(ONE_ARMOR),
        case("no line end after the armor", &line(ours))
            .armor(|text| text.trim_end().to_owned())
            .only_openssh(ONE_ARMOR),
        case("text before the armor", &line(ours)).armor(|text| format!("\n{text}")).no(),
        case("other columns", &line(ours))
            .armor(|text| text.replacen("\nU1NIU0lH", "\nU1NI\nU0lH", 1))
            .only_openssh(ONE_ARMOR),
        case("blanks in the base64", &line(ours))
            .armor(|text| text.replacen("U1NIU0lH", "U1NI U0lH", 1))
            .only_openssh(ONE_ARMOR),
        case("an empty line in the armor", &line(ours))
            .armor(|text| text.replacen("-----\nU1NI", "-----\n\nU1NI", 1))
            .only_openssh(ONE_ARMOR),
        case("one bit of the signature", &line(ours)).armor(flip_last_letter).no(),
        case("an empty signature file", &line(ours)).armor(|_| String::new()).no(),
    ]
}

const ONE_ARMOR: &str = "the armor is not signed: it must have one form, or a sealed bundle could be changed";

/// Changes a letter in the middle of the last full line: part of the 64 signature bytes.
fn flip_last_letter(text: String) -> String {
    let at = text.find("\n-----END").expect("an armored signature") - 20;
    let new = if &text[at..=at] == "A" { "B" } else { "A" };
    format!("{}{new}{}", &text[..at], &text[at + 1..])
}

struct Case {
    name: &'static str,
    file: String,
    principal: String,
    at: &'static str,
    any_namespace: bool,
    key: &'static str,
    namespace: &'static str,
    hash: &'static str,
    armor: fn(String) -> String,
    ours: bool,
    theirs: bool,
    reason: &'static str,
}

/// A signature by `ed` for a bundle, judged in June 2026 in Berlin.
fn case(name: &'static str, file: &str) -> Case {
    Case {
        name,
        file: keys().line(file),
        principal: "alice".to_owned(),
        at: NOON,
        any_namespace: false,
        key: "ed",
        namespace: "sealift-bundle",
        hash: "sha512",
        armor: |text| text,
        ours: false,
        theirs: false,
        reason: "",
    }
}

impl Case {
    fn principal(self, principal: &str) -> Case {
        Case { principal: principal.to_owned(), ..self }
    }
    fn at(self, at: &'static str) -> Case {
        Case { at, ..self }
    }
    fn any_namespace(self) -> Case {
        Case { any_namespace: true, ..self }
    }
    fn signed(self, key: &'static str) -> Case {
        Case { key, ..self }
    }
    fn namespace(self, namespace: &'static str) -> Case {
        Case { namespace, ..self }
    }
    fn hash(self, hash: &'static str) -> Case {
        Case { hash, ..self }
    }
    fn armor(self, armor: fn(String) -> String) -> Case {
        Case { armor, ..self }
    }
    fn yes(self) -> Case {
        Case { ours: true, theirs: true, ..self }
    }
    fn no(self) -> Case {
        Case { ours: false, theirs: false, ..self }
    }
    fn only_openssh(self, reason: &'static str) -> Case {
        Case { ours: false, theirs: true, reason, ..self }
    }
    fn only_sealift(self, reason: &'static str) -> Case {
        Case { ours: true, theirs: false, reason, ..self }
    }

    fn signature(&self) -> Vec<u8> {
        let text = String::from_utf8(keys().sign(self.key, self.namespace, self.hash)).expect("armor is text");
        (self.armor)(text).into_bytes()
    }

    fn ask_sealift(&self) -> (bool, String) {
        let zone = TimeZone::get(ZONE).expect("the time zone database");
        let trust = match Trust::parse_in_zone(self.file.as_bytes(), "signers", self.any_namespace, &zone) {
            Ok(trust) => trust,
            Err(error) => return (false, error.chain()),
        };
        let signature = match Signature::parse(&self.signature()) {
            Ok(signature) => signature,
            Err(error) => return (false, error.chain()),
        };
        let at = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", self.at).expect("a time in UTC");
        let at = TimeZone::UTC.to_timestamp(at).expect("a time in range");
        let verdict = trust.judge(Namespace::Bundle, at, MESSAGE, &signature);
        assert!(!matches!(verdict, Verdict::Unchecked { .. }), "{verdict:?}");
        (matches!(verdict, Verdict::Trusted { .. }), format!("{verdict:?}"))
    }

    fn ask_openssh(&self) -> (bool, String) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let signers = folder.path().join("signers");
        let signature = folder.path().join("signature");
        std::fs::write(&signers, &self.file).expect("room for the signers");
        std::fs::write(&signature, self.signature()).expect("room for the signature");
        let output = run(
            Command::new("ssh-keygen")
                .env("TZ", ZONE)
                .args(["-Y", "verify", "-n", "sealift-bundle", "-I", &self.principal])
                .arg(format!("-Overify-time={}", self.at))
                .arg("-f")
                .arg(signers)
                .arg("-s")
                .arg(signature),
            MESSAGE,
        );
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// A zone with summer time, so that its handling shows.
const ZONE: &str = "Europe/Berlin";

struct Keys {
    folder: tempfile::TempDir,
    /// The first two words of each `.pub` file.
    public: std::collections::BTreeMap<&'static str, String>,
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        // A static is never dropped, so the folder goes where cargo keeps such things.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder");
        let mut public = std::collections::BTreeMap::new();
        for (name, key_type, bits) in
            [("ed", "ed25519", "256"), ("other", "ed25519", "256"), ("rsa", "rsa", "3072"), ("ecdsa", "ecdsa", "256")]
        {
            let path = folder.path().join(name);
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", key_type, "-b", bits, "-N", "", "-C", "comment", "-f"])
                .arg(&path)
                .output()
                .expect("ssh-keygen");
            assert!(made.status.success(), "{made:?}");
            let line = std::fs::read_to_string(path.with_extension("pub")).expect("its public half");
            public.insert(name, line.split(' ').take(2).collect::<Vec<_>>().join(" "));
        }
        Keys { folder, public }
    })
}

impl Keys {
    /// Puts the keys' `type base64` where their names stand in braces.
    fn line(&self, template: &str) -> String {
        self.public.iter().fold(template.to_owned(), |text, (name, line)| text.replace(&format!("{{{name}}}"), line))
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::join(self.folder.path(), name)
    }

    fn sign(&self, key: &str, namespace: &str, hash: &str) -> Vec<u8> {
        let output = run(
            Command::new("ssh-keygen")
                .args(["-Y", "sign", "-n", namespace, "-O", &format!("hashalg={hash}"), "-f"])
                .arg(self.path(key)),
            MESSAGE,
        );
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }
}

fn run(command: &mut Command, input: &[u8]) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ssh-keygen");
    // It may refuse before it reads.
    let _ = child.stdin.take().expect("its input is piped").write_all(input);
    child.wait_with_output().expect("ssh-keygen ends")
}
