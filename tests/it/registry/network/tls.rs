//! Registries with certificates of a private authority, and what is said when one is not right.

use std::fs;

use rstest::rstest;
use support::{Authority, Pair, RealRegistry, Validity, references, walk};

use support::{Desk, Run, busybox, desk};

const HERE: &str = "IP:127.0.0.1";

/// A directory `certs` on the desk, for `--cert-dir`, with the authority in it.
fn desk_that_knows(authority: &Authority) -> Desk {
    let desk = desk!();
    fs::create_dir(desk.path().join("certs")).expect("a new directory");
    fs::copy(authority.certificate(), desk.path().join("certs/ca.crt")).expect("copied");
    desk
}

fn export(desk: &Desk, host: &str, options: &[&str]) -> Run {
    desk.export(&[&[busybox(host).as_str()], options].concat())
}

#[rstest]
#[case::by_an_authority(|authority: &Authority| (authority.issue(HERE, Validity::Now), authority.certificate()), false)]
#[case::with_a_client_certificate(
    |authority: &Authority| (authority.issue(HERE, Validity::Now), authority.certificate()),
    true
)]
#[case::by_itself(
    |authority: &Authority| {
        let pair = authority.self_signed(HERE);
        let certificate = pair.certificate.clone();
        (pair, certificate)
    },
    false
)]
fn images_go_from_one_private_registry_to_another(
    #[case] make: fn(&Authority) -> (Pair, std::path::PathBuf),
    #[case] client: bool,
) {
    let authority = Authority::new();
    let (server, ca) = make(&authority);
    let desk = desk!();
    fs::create_dir(desk.path().join("certs")).unwrap();
    fs::copy(ca, desk.path().join("certs/ca.crt")).unwrap();
    if client {
        authority.issue("DNS:client", Validity::Now).put_into(&desk.path().join("certs"));
    }
    let clients = authority.certificate();
    let clients = client.then_some(clients.as_path());
    let source = RealRegistry::with_corpus_and_tls(&server, clients);
    let destination = RealRegistry::start_tls(&server, clients);
    export(&desk, source.host(), &["--cert-dir", "certs"]).success();
    desk.import("bundle", destination.host(), &["--cert-dir", "certs"]).success();
    let there = RealRegistry::over(&destination.storage());
    let image = references().into_iter().find(|r| r.repository == "library/busybox").unwrap();
    assert_eq!(walk(there.host(), &[]).tags[&(image.repository, image.reference)], image.digest);
    // Nor is it needed to know the authority for those who do not ask.
    if !client {
        export(&desk!(), source.host(), &["--tls-verify=false"]).success();
    }
}

#[test]
fn the_directory_of_the_host_in_certs_d_is_used() {
    let authority = Authority::new();
    let source = RealRegistry::with_corpus_and_tls(&authority.issue(HERE, Validity::Now), None);
    let desk = desk!();
    let home = desk.path().join("home");
    let certificates = home.join(".config/containers/certs.d").join(source.host());
    fs::create_dir_all(&certificates).unwrap();
    fs::copy(authority.certificate(), certificates.join("private.crt")).unwrap();
    let image = busybox(source.host());
    let arguments = ["export", "--output", "bundle", "--key", "key", &image];
    desk.sealift(&arguments).code(1);
    desk.sealift_in(&[("HOME", home.to_str().unwrap())], &arguments).success();
}

/// What is wrong with the server's certificate, and what must be said of it and what to do.
#[rstest]
#[case::unknown_authority(|_: &Authority| Authority::new().issue(HERE, Validity::Now), "issued by an authority that is not known here", "ca.crt")]
#[case::another_authority_of_the_same_name(
    |own: &Authority| Authority::named(own.name()).issue(HERE, Validity::Now),
    "by another authority of the same name",
    "ca.crt"
)]
#[case::expired(|own: &Authority| own.issue(HERE, Validity::Past), "its certificate has expired (on 2020-12-31)", "renew")]
#[case::wrong_name(|own: &Authority| own.issue("DNS:other.test", Validity::Now), "its certificate is for other.test", "subjectAltName")]
#[case::authority_as_server(|own: &Authority| own.self_signed(HERE), "marked as that of an authority", "openssl req -x509")]
fn a_certificate_that_is_not_right_is_one_clear_error(
    #[case] make: fn(&Authority) -> Pair,
    #[case] reason: &str,
    #[case] advice: &str,
) {
    let authority = Authority::new();
    let source = RealRegistry::with_corpus_and_tls(&make(&authority), None);
    let desk = desk_that_knows(&authority);
    let refused = export(&desk, source.host(), &["--cert-dir", "certs"]);
    refused.code(1).stderr_contains(reason).stderr_contains(advice);
    assert_eq!(refused.stderr().lines().filter(|line| line.starts_with("error: ")).count(), 1);
    assert_eq!(source.access_log().len(), 0, "nothing may be asked of a server that nobody vouches for");
}

#[test]
fn a_self_signed_certificate_of_another_name_is_refused_though_it_is_known() {
    let authority = Authority::new();
    let pair = authority.self_signed("DNS:other.test");
    let source = RealRegistry::with_corpus_and_tls(&pair, None);
    let desk = desk_that_knows(&authority);
    fs::copy(&pair.certificate, desk.path().join("certs/self.crt")).unwrap();
    export(&desk, source.host(), &["--cert-dir", "certs"]).code(1).stderr_contains("its certificate is for other.test");
}

#[test]
fn a_missing_client_certificate_is_told() {
    let authority = Authority::new();
    let server = authority.issue(HERE, Validity::Now);
    let source = RealRegistry::with_corpus_and_tls(&server, Some(&authority.certificate()));
    let desk = desk_that_knows(&authority);
    export(&desk, source.host(), &["--cert-dir", "certs"]).code(1).stderr_contains("wants to see a client certificate");
    // A key that is another's.
    let one = authority.issue("DNS:client", Validity::Now);
    one.put_into(&desk.path().join("certs"));
    fs::copy(&server.key, desk.path().join("certs/client.key")).unwrap();
    export(&desk, source.host(), &["--cert-dir", "certs"]).code(1).stderr_contains("do not go together");
}

#[test]
fn half_a_client_certificate_and_a_wrong_directory_are_told() {
    let authority = Authority::new();
    let source = RealRegistry::with_corpus_and_tls(&authority.issue(HERE, Validity::Now), None);
    let desk = desk_that_knows(&authority);
    fs::write(desk.path().join("certs/client.cert"), "").unwrap();
    export(&desk, source.host(), &["--cert-dir", "certs"]).code(1).stderr_contains("client.key");
    export(&desk, source.host(), &["--cert-dir", "nowhere"]).code(2).stderr_contains("nowhere");
}

/// What Go's crypto/x509 makes of certificates of X.509 version 1, and of dates of authorities, is asked of skopeo. Such
/// authorities are around (openshift/installer#2484), and so are such clients: microk8s makes them
/// (nklmilojevic/sofka#337, rustls/rustls#2364).
#[rstest]
#[case::version_1_authority(|_: &Authority| {
    let old = Authority::of_version_1();
    (old.issue(HERE, Validity::Now), vec![old.pem()])
}, true, "")]
#[case::version_1_authority_that_the_server_sends_too(|_: &Authority| {
    let old = Authority::of_version_1();
    (old.issue(HERE, Validity::Now).with_chain(&[&old]), vec![old.pem()])
}, true, "")]
#[case::version_1_authority_beside_a_good_one(|good: &Authority| {
    (good.issue(HERE, Validity::Now), vec![Authority::of_version_1().pem(), good.pem()])
}, true, "")]
#[case::good_authority_beside_one_of_version_1(|good: &Authority| {
    let old = Authority::of_version_1();
    (old.issue(HERE, Validity::Now), vec![good.pem(), old.pem()])
}, true, "")]
#[case::another_version_1_authority_of_the_same_name(|_: &Authority| {
    (Authority::of_version_1().issue(HERE, Validity::Now), vec![Authority::of_version_1().pem()])
}, false, "by another authority of the same name")]
#[case::wrong_name_by_a_version_1_authority(|_: &Authority| {
    let old = Authority::of_version_1();
    (old.issue("DNS:other.test", Validity::Now), vec![old.pem()])
}, false, "its certificate is for other.test")]
#[case::expired_by_a_version_1_authority(|_: &Authority| {
    let old = Authority::of_version_1();
    (old.issue(HERE, Validity::Past), vec![old.pem()])
}, false, "its certificate has expired")]
#[case::version_1_between(|good: &Authority| {
    let between = good.intermediate_of_version_1();
    (between.issue(HERE, Validity::Now).with_chain(&[&between]), vec![good.pem()])
}, false, "of X.509 version 1")]
#[case::version_1_server(|good: &Authority| (good.issue_version_1(), vec![good.pem()]), false, "of X.509 version 1")]
#[case::outdated_authority(|_: &Authority| {
    let outdated = Authority::outdated();
    (outdated.issue(HERE, Validity::Now), vec![outdated.pem()])
}, false, "certificate 1 has expired on 2020-12-31, and is not used")]
#[case::outdated_and_self_signed(|_: &Authority| {
    let outdated = Authority::outdated();
    (outdated.own(), vec![outdated.pem()])
}, false, "its certificate has expired (on 2020-12-31)")]
#[case::outdated_authority_beside_a_good_one(|good: &Authority| {
    (good.issue(HERE, Validity::Now), vec![Authority::outdated().pem(), good.pem()])
}, true, "certificate 1 has expired on 2020-12-31, and is not used")]
fn certificates_are_believed_as_go_believes_them(
    #[case] make: fn(&Authority) -> (Pair, Vec<String>),
    #[case] good: bool,
    #[case] said: &str,
) {
    let authority = Authority::new();
    let (server, known) = make(&authority);
    let source = RealRegistry::with_corpus_and_tls(&server, None);
    for files in ["one", "several"] {
        let desk = desk!();
        let certs = desk.path().join("certs");
        fs::create_dir(&certs).unwrap();
        match files {
            "one" => fs::write(certs.join("all.crt"), known.concat()).unwrap(),
            _ => (0..)
                .zip(&known)
                .for_each(|(number, text)| fs::write(certs.join(format!("{number}.crt")), text).unwrap()),
        }
        let run = export(&desk, source.host(), &["--cert-dir", "certs"]);
        run.code(if good { 0 } else { 1 }).stderr_contains(said);
        assert_eq!(by_skopeo(source.host(), &certs), good);
    }
}

fn by_skopeo(host: &str, certs: &std::path::Path) -> bool {
    let mut skopeo = std::process::Command::new("skopeo");
    skopeo.args(["inspect", "--raw", "--cert-dir"]).arg(certs).arg(format!("docker://{}", busybox(host)));
    skopeo.output().expect("skopeo runs").status.success()
}

#[test]
fn a_client_certificate_of_version_1_is_shown() {
    let (authority, clients) = (Authority::new(), Authority::of_version_1());
    let server = authority.issue(HERE, Validity::Now);
    let source = RealRegistry::with_corpus_and_tls(&server, Some(&clients.certificate()));
    let desk = desk_that_knows(&authority);
    let certs = desk.path().join("certs");
    clients.issue_version_1().put_into(&certs);
    export(&desk, source.host(), &["--cert-dir", "certs"]).success();
    assert!(by_skopeo(source.host(), &certs));
    // A key that is another's.
    fs::copy(&server.key, certs.join("client.key")).unwrap();
    desk.shell("", "rm -r bundle");
    export(&desk, source.host(), &["--cert-dir", "certs"]).code(1).stderr_contains("do not go together");
}

/// Other tools skip such files in silence.
#[test]
fn an_empty_or_foreign_file_among_the_authorities_is_skipped_with_one_warning() {
    let authority = Authority::new();
    let source = RealRegistry::with_corpus_and_tls(&authority.issue(HERE, Validity::Now), None);
    let desk = desk_that_knows(&authority);
    let certs = desk.path().join("certs");
    fs::write(certs.join("empty.crt"), "").unwrap();
    fs::write(certs.join("notes.crt"), "to be done\n").unwrap();
    desk.shell("certs", "openssl x509 -in ca.crt -outform der -out der.crt; ln -s nowhere link.crt; mkdir folder.crt");
    let run = export(&desk, source.host(), &["--cert-dir", "certs"]);
    run.success();
    assert!(by_skopeo(source.host(), &certs) || certs.join("folder.crt").is_dir());
    for name in ["empty", "notes", "der", "link", "folder"] {
        let told = run.stderr().lines().filter(|line| line.starts_with(&format!("warning: certs/{name}.crt"))).count();
        assert_eq!(told, 1, "{name}:\n{}", run.stderr());
    }
}

#[test]
fn tls_where_plain_http_is_spoken_is_told() {
    // Of a loopback address plain HTTP is taken, so the port says that it must be TLS.
    let plain = RealRegistry::with_corpus();
    let desk = desk!();
    let proxy = support::ForwardProxy::start(&[("registry.test", plain.host())]);
    let image = busybox("registry.test:5000");
    let arguments = ["export", "--output", "bundle", "--key", "key", &image];
    desk.sealift_in(&[("HTTPS_PROXY", &proxy.url())], &arguments)
        .code(1)
        .stderr_contains("it does not speak TLS")
        .stderr_contains("--tls-verify=false");
    let both = [("HTTPS_PROXY", proxy.url()), ("HTTP_PROXY", proxy.url())];
    let both = both.each_ref().map(|(name, value)| (*name, value.as_str()));
    desk.sealift_in(&both, &[&arguments[..], &["--tls-verify=false"]].concat()).success();
}

#[test]
fn plain_http_where_tls_is_spoken_is_told() {
    let authority = Authority::new();
    let secure = RealRegistry::with_corpus_and_tls(&authority.issue(HERE, Validity::Now), None);
    // A registry behind a proxy that ends TLS often believes that it is spoken to without.
    let plain = RealRegistry::with_corpus();
    let front = support::FaultProxy::start(plain.host());
    let elsewhere = format!("http://{}/v2/", secure.host());
    front.inject(support::Rule::on("GET", "/blobs/").answer(307, &[("location", &elsewhere)], ""));
    let desk = desk!();
    export(&desk, front.host(), &[]).code(1).stderr_contains("speaks HTTPS");
}
