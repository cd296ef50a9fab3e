//! What a registry says about how to log in: `WWW-Authenticate` (RFC 9110 section 11, RFC 6750, and distribution's
//! token specification). Pure text in, values out.

use std::borrow::Cow;

use http_auth::parser::ChallengeParser;

/// One way to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// User and password with every request (RFC 7617).
    Basic,
    /// A token, to be had from a token service.
    Bearer {
        /// Where the service is; text, not yet judged.
        realm: String,
        /// What the registry calls itself there.
        service: Option<String>,
        /// What the token must be good for, as far as the registry says.
        scopes: Vec<String>,
        /// Why a token that was shown is not accepted (`invalid_token`, `insufficient_scope`).
        error: Option<String>,
    },
    /// Some other way, by its name.
    Other(String),
}

/// Reads one `WWW-Authenticate` header, which may hold several challenges. What cannot be understood ends the
/// reading: whatever stood before it counts, whatever stands after it does not.
///
/// A challenge that names a parameter twice is left out, for nobody knows which is meant; so is a `Bearer` without a
/// realm. Values that need quotes and have none (`realm=https://auth.example.com/token,service=registry`), as some
/// registries send them (ceph/ceph#69900 has one), end at the next comma. Headers beyond 16 KiB and challenges beyond the sixteenth are not looked at.
pub fn parse_challenges(text: &str) -> Vec<Challenge> {
    if text.len() > MAX_HEADER {
        return Vec::new();
    }
    let text = quoted(text);
    ChallengeParser::new(&text).take(MAX_CHALLENGES).map_while(Result::ok).filter_map(|found| read(&found)).collect()
}

/// The text with quotes around the values that need them.
fn quoted(text: &str) -> Cow<'_, str> {
    let mut quoted = String::new();
    let (mut done, mut at) = (0, 0);
    while let Some((start, end)) = next_bare_value(text, at) {
        at = end;
        if !text[start..end].contains(|c: char| !is_token_char(c)) {
            continue;
        }
        quoted.push_str(&text[done..start]);
        quoted.push('"');
        for c in text[start..end].chars() {
            if matches!(c, '"' | '\\') {
                quoted.push('\\');
            }
            quoted.push(c);
        }
        quoted.push('"');
        done = end;
    }
    if done == 0 { Cow::Borrowed(text) } else { Cow::Owned(quoted + &text[done..]) }
}

/// Where the next value without quotes stands that follows `NAME=`, at `from` or behind it.
fn next_bare_value(text: &str, from: usize) -> Option<(usize, usize)> {
    let (mut in_quotes, mut escaped) = (false, false);
    for (at, c) in text[from..].char_indices().map(|(at, c)| (from + at, c)) {
        if in_quotes {
            (in_quotes, escaped) = (escaped || c != '"', !escaped && c == '\\');
            continue;
        }
        let before = if c == '=' { text[from..at].trim_end_matches([' ', '\t']) } else { "" };
        let name = &before[before.trim_end_matches(is_token_char).len()..];
        if !name.is_empty() {
            let value = &text[at + 1..];
            let start = at + 1 + (value.len() - value.trim_start_matches([' ', '\t']).len());
            let length = text[start..].find([',', ' ', '\t']).unwrap_or(text.len() - start);
            // A padding of base64 is no value.
            if length > 0 && !text[start..].starts_with(['"', '=']) {
                let end = scope_end(text, name, start + length);
                return Some((start, end));
            }
        }
        in_quotes = c == '"';
    }
    None
}

/// The end of the value of `name`, which without a list of actions is `end`: `repository:a:pull,push` has a comma.
fn scope_end(text: &str, name: &str, mut end: usize) -> usize {
    while name.eq_ignore_ascii_case("scope") {
        let Some(rest) = text[end..].strip_prefix(',') else { break };
        let word = rest.split([',', ' ', '\t']).next().unwrap_or_default();
        if !ACTIONS.contains(&word) {
            break;
        }
        end += 1 + word.len();
    }
    end
}

/// RFC 9110, section 5.6.2.
fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

fn read(found: &http_auth::ChallengeRef<'_>) -> Option<Challenge> {
    if found.scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !found.scheme.eq_ignore_ascii_case("bearer") {
        return Some(Challenge::Other(found.scheme.to_owned()));
    }
    let (mut realm, mut service, mut scope, mut error) = (None, None, None, None);
    for (name, value) in &found.params {
        let place = match name.to_ascii_lowercase().as_str() {
            "realm" => &mut realm,
            "service" => &mut service,
            "scope" => &mut scope,
            "error" => &mut error,
            _ => continue,
        };
        if place.replace(value.to_unescaped()).is_some() {
            return None;
        }
    }
    let scopes: Vec<String> =
        scope.unwrap_or_default().split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
    (scopes.len() <= MAX_SCOPES).then_some(())?;
    Some(Challenge::Bearer { realm: realm?, service, scopes, error })
}

/// What may be done in a repository (distribution's token specification).
const ACTIONS: [&str; 4] = ["pull", "push", "delete", "*"];
const MAX_HEADER: usize = 16 << 10;
const MAX_CHALLENGES: usize = 16;
const MAX_SCOPES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: Option<&str>, scopes: &[&str], error: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scopes: scopes.iter().map(ToString::to_string).collect(),
            error: error.map(Into::into),
        }
    }

    #[test]
    fn several_challenges_and_scopes_stand_in_one_header() {
        let text = r#"Negotiate, Basic realm="a, \"b\"", bearer Realm="https://auth/t",service="r",scope="repository:a:pull,push repository:b:pull",error="invalid_token""#;
        let expected = [
            Challenge::Other("Negotiate".into()),
            Challenge::Basic,
            bearer(
                "https://auth/t",
                Some("r"),
                &["repository:a:pull,push", "repository:b:pull"],
                Some("invalid_token"),
            ),
        ];
        assert_eq!(parse_challenges(text), expected);
    }

    /// gcr.io sends `service` without quotes (cloudflare/serverless-registry#122), icr.io everything (ceph/ceph#69900).
    #[test]
    fn values_may_stand_without_quotes() {
        let realm = "https://auth.example.com:8443/token?x=1";
        for (text, expected) in [
            (format!("Bearer realm={realm},service=x"), vec![bearer(realm, Some("x"), &[], None)]),
            (format!("Bearer realm={realm}, service=reg.io:5000"), vec![bearer(realm, Some("reg.io:5000"), &[], None)]),
            (format!("Bearer realm=\"{realm}\",service=gcr.io"), vec![bearer(realm, Some("gcr.io"), &[], None)]),
            (format!("bearer service=x, realm = {realm}"), vec![bearer(realm, Some("x"), &[], None)]),
            (
                format!("Bearer realm={realm},scope=repository:a:pull,push,service=x, Basic realm=a b"),
                vec![bearer(realm, Some("x"), &["repository:a:pull,push"], None)],
            ),
            (
                format!("Basic realm=https://h/, Bearer realm={realm},error=invalid_token"),
                vec![Challenge::Basic, bearer(realm, None, &[], Some("invalid_token"))],
            ),
            (
                format!(
                    "Bearer realm=\"a \\\"quoted\\\" realm=x/y\",service=x/\"y,title=\"realm=z\", Basic realm={realm}"
                ),
                vec![bearer("a \"quoted\" realm=x/y", Some("x/\"y"), &[], None), Challenge::Basic],
            ),
            ("Basic realm=the registry".into(), vec![]),
            ("Negotiate YII==".into(), vec![]),
            (format!("Bearer realm={realm},realm=https://b"), vec![]),
        ] {
            assert_eq!(parse_challenges(&text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_ambiguous_or_endless_is_left_out() {
        assert_eq!(parse_challenges(r#"Bearer realm="https://a",realm="https://b""#), []);
        assert_eq!(parse_challenges(r#"Bearer service="x""#), []);
        assert_eq!(parse_challenges(r#"Basic realm="x", Bearer realm="unended"#), [Challenge::Basic]);
        assert_eq!(parse_challenges(&format!("Basic realm=\"{}\"", "x".repeat(MAX_HEADER))), []);
        assert_eq!(parse_challenges(&"Basic realm=\"x\", ".repeat(100)).len(), MAX_CHALLENGES);
        assert_eq!(parse_challenges(""), []);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"([A-Za-z]{1,8} ?|,|=|"|\\|realm="[a-z]*"|\PC){0,40}"#) {
            prop_assert!(parse_challenges(&text).len() <= MAX_CHALLENGES);
        }
    }
}
