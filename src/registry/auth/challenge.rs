//! What a registry says about how to log in: `WWW-Authenticate` (RFC 9110 section 11, RFC 6750, and distribution's
//! token specification). Pure text in, values out.

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
/// realm. Headers beyond 16 KiB and challenges beyond the sixteenth are not looked at.
pub fn parse_challenges(text: &str) -> Vec<Challenge> {
    if text.len() > MAX_HEADER {
        return Vec::new();
    }
    ChallengeParser::new(text).take(MAX_CHALLENGES).map_while(Result::ok).filter_map(|found| read(&found)).collect()
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
