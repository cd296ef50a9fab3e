//! Registries of skopeo's YAML that are each spoken to in their own way.

use std::fs;

use support::{Authority, Desk, RealRegistry, Run, Validity, desk, references};

const HERE: &str = "IP:127.0.0.1";

/// A directory on the desk with the authority in it.
fn certificates(desk: &Desk, name: &str, authority: &Authority) -> std::path::PathBuf {
    let directory = desk.path().join(name);
    fs::create_dir(&directory).expect("a new directory");
    fs::copy(authority.certificate(), directory.join("ca.crt")).expect("copied");
    directory
}

fn export(desk: &Desk, yaml: &str, options: &[&str]) -> Run {
    fs::write(desk.path().join("sync.yaml"), yaml).expect("written");
    desk.export(&[&["--from", "sync.yaml"], options].concat())
}

/// What a file says of one registry: an image of it, and how it is spoken to.
fn entry(registry: &RealRegistry, repository: &str, manner: &str) -> String {
    let image = references().into_iter().find(|r| r.repository == repository).expect("it is in the corpus");
    format!("{}:\n  images: {{{repository}: ['{}']}}\n{manner}", registry.host(), image.reference)
}

#[test]
fn each_registry_has_its_own_authority_and_its_own_trust() {
    let [one, two, unknown] = [(); 3].map(|()| Authority::new());
    let first = RealRegistry::with_corpus_and_tls(&one.issue(HERE, Validity::Now), None);
    let second = RealRegistry::with_corpus_and_tls(&two.issue(HERE, Validity::Now), Some(&two.certificate()));
    let third = RealRegistry::with_corpus_and_tls(&unknown.issue(HERE, Validity::Now), None);
    let desk = desk!();
    certificates(&desk, "one", &one);
    two.issue("DNS:client", Validity::Now).put_into(&certificates(&desk, "two", &two));
    let yaml = |of_first: &str, of_third: &str| {
        entry(&first, "library/busybox", of_first)
            + &entry(&second, "docker/single", "  cert-dir: two\n")
            + &entry(&third, "team/app", of_third)
    };
    // Each of the three needs what is said of it, and none believes what is said of another.
    let refused = export(&desk, &yaml("  cert-dir: one\n", ""), &[]);
    refused.code(1).stderr_contains(third.host()).stderr_contains("an authority that is not known here");
    let refused = export(&desk, &yaml("  cert-dir: two\n", "  tls-verify: false\n"), &[]);
    refused.code(1).stderr_contains(first.host()).stderr_contains("an authority that is not known here");
    // The file wins over the options.
    let strict = yaml("  cert-dir: one\n", "  tls-verify: true\n");
    export(&desk, &strict, &["--tls-verify=false"]).code(1).stderr_contains(third.host());
    export(&desk, &yaml("  cert-dir: one\n", "  tls-verify: false\n"), &["--cert-dir", "two"]).success();
    desk.sealift(&["verify", "bundle", "--trust", "allowed_signers"]).success();
}
