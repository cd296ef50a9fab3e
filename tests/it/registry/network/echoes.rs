//! Servers that repeat the login that they were sent: in whatever spelling, it is in nothing that is said.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use rstest::rstest;
use serde_json::{Value, json};
use support::{Desk, FaultProxy, ForwardProxy, RealRegistry, Rule, Run, TokenServer, busybox, desk};

/// With characters that every encoding has to encode, and some that none does.
const PASSWORD: &str = "Pl4nted \"w\u{f6}/rd\\ +%?>~";
/// What of it looks the same in all encodings but base64.
const PLAIN_PART: &str = "Pl4nted";

/// The login as servers repeat it.
fn spellings(user: &str, password: &str) -> Vec<String> {
    let pair = format!("{user}:{password}");
    let basic = STANDARD.encode(&pair);
    let every = |lower: bool| -> String {
        let escape = |byte: u8| if lower { format!("%{byte:02x}") } else { format!("%{byte:02X}") };
        let kept = |byte: u8| byte.is_ascii_alphanumeric();
        password.bytes().map(|b| if kept(b) { char::from(b).to_string() } else { escape(b) }).collect()
    };
    let (upper, lower) = (every(false), every(true));
    let json = json!(password).to_string();
    let unicode: String = password.encode_utf16().fold(String::new(), |mut text, unit| {
        match char::from_u32(u32::from(unit)).filter(char::is_ascii_alphanumeric) {
            Some(c) => text.push(c),
            None => drop(write!(text, "\\u{unit:04x}")),
        }
        text
    });
    let html = password.replace('&', "&amp;").replace('"', "&quot;").replace('>', "&gt;").replace('\u{f6}', "&#246;");
    vec![
        password.to_owned(),
        format!("\"{password}\""),
        format!("'{password}'"),
        format!("({pair})"),
        format!("user={user} password={password}"),
        format!("password={password}&user={user}"),
        format!("https://{pair}@registry.test/v2/"),
        format!("https://{user}:{upper}@registry.test/v2/"),
        format!("GET /v2/?account={user}&password={upper} failed"),
        upper.clone(),
        lower,
        upper.replace("%20", "+"),
        upper.replace('%', "%25"),
        json.clone(),
        json!(json).to_string(),
        json.replace('/', "\\/"),
        unicode,
        format!("{password:?}"),
        password.escape_default().to_string(),
        html,
        format!("Basic {basic}"),
        format!("Basic  {basic}"),
        format!("basic\t{basic}"),
        format!("Authorization: Basic {basic}, and no more"),
        format!("login {basic} is not known"),
        STANDARD_NO_PAD.encode(&pair),
        URL_SAFE_NO_PAD.encode(&pair),
        basic.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D"),
        STANDARD.encode(password),
        // Where the words are cut.
        format!("{} {password}", "x".repeat(290)),
        format!("{} {pair} {password} {basic}", "x".repeat(270)),
        format!("{password}{password}"),
    ]
}

/// The ways in which a server puts words into its answer.
const BODIES: [fn(&str) -> Value; 3] = [
    |words| Value::String(words.to_owned()),
    |words| json!({"errors": [{"code": "DENIED", "message": words}]}),
    |words| json!({"errors": [{"code": "DENIED", "message": "no", "detail": {"got": words}}]}),
];

/// As text where it is a string.
fn body(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The registry behind it asks for a login, and takes any.
fn wants_basic(proxy: &FaultProxy) {
    proxy.inject(Rule::on("GET", "/v2/").answer(401, &[("www-authenticate", "Basic realm=\"x\"")], "").times(1));
}

fn image(number: usize) -> String {
    format!("team/app{number}")
}

/// Exports one image for each spelling, in every voice; before them one that the registry has, so that it accepts the login.
fn export_all(desk: &Desk, host: &str, count: usize, options: &[&str], input: &str, check: impl Fn(&Run)) {
    let refused = (0..count).map(|number| format!("{host}/{}:1", image(number)));
    let images: Vec<String> = std::iter::once(busybox(host)).chain(refused).collect();
    let fixed = ["export", "--output", "bundle", "--key", "key", "--keep-going", "--retry-times", "1", "--jobs", "1"];
    for voice in [&["--progress", "json"][..], &["--progress", "plain", "-vv"]] {
        desk.shell("", "rm -rf bundle");
        let images: Vec<&str> = images.iter().map(String::as_str).collect();
        let run =
            desk.sealift_with(&[&fixed, voice, options, &["--retry-delay", "0.01"], &images].concat(), &[], input);
        run.code(4).stderr_contains(&image(count - 1));
        check(&run);
    }
}

/// Neither the password nor a part of it in base64 was said.
#[track_caller]
fn search(run: &Run, user: &str, password: &str, plain_part: &str) {
    let all = run.stdout() + &run.stderr();
    let encoded = [STANDARD.encode(format!("{user}:{password}")), STANDARD.encode(password)];
    let parts = encoded.iter().flat_map(|text| (0..text.len() - 10).map(move |at| &text[at..at + 10]));
    for secret in parts.chain([plain_part]) {
        assert!(!all.contains(secret), "{secret} was said:\n{all}");
    }
}

#[rstest]
#[case::forbidden(403)]
#[case::unauthorized(401)]
#[case::failed(500)]
fn a_registry_that_repeats_a_password_does_not_get_it_printed(#[case] status: u16) {
    let (registry, desk) = (RealRegistry::with_corpus(), desk!());
    let said = spellings("alice", PASSWORD);
    for shape in BODIES {
        let proxy = FaultProxy::start(registry.host());
        wants_basic(&proxy);
        for (number, words) in said.iter().enumerate() {
            let path = format!("/v2/{}/manifests/", image(number));
            proxy.inject(Rule::on("GET", &path).answer(status, &[], &body(&shape(words))));
        }
        let options = ["--username", "alice", "--password-stdin"];
        let input = format!("{PASSWORD}\n");
        export_all(&desk, proxy.host(), said.len(), &options, &input, |run| search(run, "alice", PASSWORD, PLAIN_PART));
    }
}

#[test]
fn a_registry_that_repeats_a_token_does_not_get_it_printed() {
    const TOKEN: &str = "Pl4nted.opaque-token_of/the+registry==";
    let (registry, desk) = (RealRegistry::with_corpus(), desk!());
    // It is shown to the registry without a user.
    let pair = STANDARD_NO_PAD.encode(format!(":{TOKEN}"));
    let said: Vec<String> = spellings("", TOKEN).into_iter().filter(|words| !words.contains(&pair[..20])).collect();
    for shape in BODIES {
        let proxy = FaultProxy::start(registry.host());
        for (number, words) in said.iter().enumerate() {
            let path = format!("/v2/{}/manifests/", image(number));
            proxy.inject(Rule::on("GET", &path).answer(403, &[], &body(&shape(words))));
        }
        let options = ["--registry-token", TOKEN];
        export_all(&desk, proxy.host(), said.len(), &options, "", |run| search(run, "x", TOKEN, PLAIN_PART));
    }
}

#[rstest]
#[case::forbidden(403)]
#[case::failed(503)]
fn a_token_service_that_repeats_a_password_does_not_get_it_printed(#[case] status: u16) {
    let service = TokenServer::start();
    let tokens = FaultProxy::start(service.host());
    let (registry, desk) = (RealRegistry::locked(&service.auth_at(tokens.host()), true), desk!());
    let (user, password) = (TokenServer::USER, TokenServer::PASSWORD);
    let said = spellings(user, password);
    for shape in BODIES {
        tokens.heal();
        for (number, words) in said.iter().enumerate() {
            let scope = image(number).replace('/', "%2F") + "%3A";
            // A service that is busy is asked less: it says so in passing.
            let headers: &[(&str, &str)] = if status == 503 { &[("retry-after", "0")] } else { &[] };
            tokens.inject(Rule::on("GET", &scope).answer(status, headers, &body(&shape(words))));
        }
        let options = ["--username", user, "--password-stdin"];
        let input = format!("{password}\n");
        export_all(&desk, registry.host(), said.len(), &options, &input, |run| search(run, user, password, password));
    }
}

#[test]
fn a_proxy_that_repeats_its_password_does_not_get_it_printed() {
    let desk = desk!();
    let encoded: String = PASSWORD.bytes().map(|byte| format!("%{byte:02X}")).collect();
    for words in spellings("user", PASSWORD) {
        let proxy = ForwardProxy::start_refusing("403 Forbidden", &words);
        let url = format!("http://user:{encoded}@{}", proxy.host());
        let arguments = ["export", &busybox("registry.test"), "--dry-run", "-vv", "--retry-times", "0"];
        let run = desk.sealift_in(&[("HTTPS_PROXY", url.as_str())], &arguments);
        search(run.code(1), "user", PASSWORD, PLAIN_PART);
        assert!(!run.stderr().contains(&encoded), "{}", run.stderr());
    }
}

/// What a registry says elsewhere than in the body of a refusal.
#[test]
fn a_password_in_other_places_of_an_answer_is_not_printed() {
    let (registry, desk) = (RealRegistry::with_corpus(), desk!());
    let pair = format!("alice:{PASSWORD}");
    let basic = STANDARD.encode(&pair);
    // Status, a header, body.
    let answers = [
        (401, ("www-authenticate", format!("Basic-{basic} realm=\"x\"")), String::new()),
        (401, ("www-authenticate", format!("Bearer realm=\"http://h/{basic}\"")), String::new()),
        (307, ("location", format!("http://h/{basic}/x")), String::new()),
        (307, ("location", format!("/{basic}")), String::new()),
        (200, ("docker-content-digest", basic.clone()), "{}".into()),
        (200, ("content-type", basic.clone()), "{}".into()),
        (200, ("x-none", String::new()), json!({"mediaType": basic, "schemaVersion": 2}).to_string()),
        (200, ("x-none", String::new()), json!({"config": {"digest": PASSWORD}}).to_string()),
        (200, ("x-none", String::new()), PASSWORD.to_owned()),
    ];
    let proxy = FaultProxy::start(registry.host());
    wants_basic(&proxy);
    for (number, (status, (name, value), body)) in answers.iter().enumerate() {
        let path = format!("/v2/{}/manifests/", image(number));
        proxy.inject(Rule::on("GET", &path).answer(*status, &[(name, value)], body));
    }
    let options = ["--username", "alice", "--password-stdin"];
    let input = format!("{PASSWORD}\n");
    let check = |run: &Run| search(run, "alice", PASSWORD, PLAIN_PART);
    export_all(&desk, proxy.host(), answers.len(), &options, &input, check);
}
