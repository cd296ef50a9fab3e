//! `WWW-Authenticate` headers.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The file stands on its own; the registry client around it would bring the whole of HTTP into this build.
#[path = "../../../src/registry/auth/challenge.rs"]
mod challenge;

use challenge::{Challenge, parse_challenges};

fuzz_target!(|text: &str| {
    let found = parse_challenges(text);
    assert!(found.len() <= 16);
    for challenge in found {
        match challenge {
            Challenge::Bearer { realm, service, scopes, error } => {
                let all = realm.len() + service.map_or(0, |s| s.len()) + error.map_or(0, |e| e.len());
                assert!(all <= text.len() && scopes.iter().all(|scope| !scope.is_empty()));
            }
            Challenge::Other(name) => assert!(text.contains(&name)),
            Challenge::Basic => {}
        }
    }
});
