//! Five of a hundred requests have bad luck, and everything ends right.

use std::collections::HashMap;

use rstest::rstest;
use support::{FaultProxy, RealRegistry, Reference, Storm, references, walk};

use support::desk;

/// Fifty seeds, in five parts that run at the same time.
#[rstest]
fn a_bad_day_ends_right(#[values(0, 10, 20, 30, 40)] first: u64) {
    let (source, destination) = (RealRegistry::with_corpus(), RealRegistry::start());
    let there = walk(source.host(), &[]);
    let mut images: Vec<Reference> = references().into_iter().filter(Reference::is_tagged).collect();
    images.sort_by_key(|image| image.bytes);
    images.truncate(6);
    let sizes: HashMap<&str, u64> =
        there.items.iter().map(|((_, digest), item)| (digest.as_str(), item.size)).collect();
    let mut refused = 0;
    for seed in first..first + 10 {
        let image = &images[seed as usize % images.len()];
        let (from, to) = (FaultProxy::start(source.host()), FaultProxy::start(destination.host()));
        from.storm(storm(seed));
        to.storm(storm(seed + 1000));
        let desk = desk!();
        desk.export(&[image.at(from.host())]).success();
        desk.import("bundle", &format!("{}/seed-{seed}", to.host()), &[]).success();

        refused += [&from, &to]
            .into_iter()
            .flat_map(|proxy| proxy.requests())
            .filter(|request| matches!(request.status, Some(429 | 503)))
            .count();
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
    assert!(refused > 0, "that was no bad day");
    let here = walk(destination.host(), &[]);
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

/// Without tokens there are none that expire: `Storm::with_expired_tokens` is for registries that give them out.
fn storm(seed: u64) -> Storm {
    Storm::new(seed, 5)
}
