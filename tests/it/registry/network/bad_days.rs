//! Ten of a hundred requests have bad luck, those for tokens too, and everything ends right.

use std::collections::HashMap;

use rstest::rstest;
use support::{FaultProxy, RealRegistry, Reference, Storm, TokenServer, references, walk};

use support::desk;

/// Fifty seeds, in five parts that run at the same time.
#[rstest]
fn a_bad_day_ends_right(#[values(0, 10, 20, 30, 40)] first: u64) {
    let service = TokenServer::start();
    let tokens = FaultProxy::start(service.host());
    let auth = service.auth_at(tokens.host());
    let (source, destination) = (RealRegistry::locked(&auth, true), RealRegistry::locked(&auth, false));
    let there = walk(source.unlocked().host(), &[]);
    let mut images: Vec<Reference> = references().into_iter().filter(Reference::is_tagged).collect();
    images.sort_by_key(|image| image.bytes);
    images.truncate(6);
    let sizes: HashMap<&str, u64> =
        there.items.iter().map(|((_, digest), item)| (digest.as_str(), item.size)).collect();
    let (mut refused, mut expired) = (0, 0);
    let creds = format!("{}:{}", TokenServer::USER, TokenServer::PASSWORD);
    for seed in first..first + 10 {
        let image = &images[seed as usize % images.len()];
        let (from, to) = (FaultProxy::start(source.host()), FaultProxy::start(destination.host()));
        for (proxy, seed) in [(&from, seed), (&to, seed + 1000)] {
            proxy.storm(Storm::new(seed, 10).with_expired_tokens(TokenServer::expired_at(tokens.host())));
        }
        // There a 401 would mean that the password is wrong.
        tokens.storm(Storm::new(seed + 2000, 10));
        let desk = desk!();
        desk.export(&["--creds", &creds, &image.at(from.host())]).success();
        desk.import("bundle", &format!("{}/seed-{seed}", to.host()), &["--creds", &creds]).success();

        for request in [&from, &to].into_iter().flat_map(|proxy| proxy.requests()) {
            refused += usize::from(matches!(request.status, Some(429 | 503)));
            let had_a_token = request.headers.iter().any(|(name, _)| name == "authorization");
            expired += usize::from(request.status == Some(401) && had_a_token);
        }
        let mut fetched: HashMap<String, u64> = HashMap::new();
        for request in from.requests().iter().filter(|r| r.method == "GET" && r.status.is_some_and(|s| s < 300)) {
            if let Some((_, digest)) = request.path.split_once("/blobs/") {
                *fetched.entry(digest.to_owned()).or_default() += request.sent;
            }
        }
        for (digest, bytes) in fetched {
            let size = sizes[digest.as_str()];
            assert!(bytes < 2 * size.max(1), "seed {seed}: {bytes} bytes were fetched of {digest}, which has {size}");
        }
    }
    assert!(refused > 0 && expired > 0, "that was no bad day: {refused} refused, {expired} expired");
    let here = walk(destination.unlocked().host(), &[]);
    assert!(here.lies().is_empty());
    for seed in first..first + 10 {
        let image = &images[seed as usize % images.len()];
        let repository = format!("seed-{seed}/{}", image.repository);
        assert_eq!(here.tags[&(repository.clone(), image.reference.clone())], image.digest, "seed {seed}");
        let (arrived, left) = (here.repository(&repository), there.repository(&image.repository));
        assert_eq!(arrived.len(), image.reaches, "seed {seed}");
        for (digest, item) in arrived {
            assert_eq!(Some(&item), left.get(digest), "seed {seed}");
        }
    }
}
