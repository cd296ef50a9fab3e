//! Lists of tags and of referrers, as registries send them.

use rstest::rstest;
use sealift::content::Catalog;
use sealift::error::Kind;
use sealift::oci::{Digest, Host, Repository};

use super::content::{client, host};
use super::faulty::{Faulty, Reply};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn repository() -> Repository {
    "ns/app".parse().unwrap()
}

/// Pages `t0`, `t1` with this `Link` on the first one. `@` stands for the target.
async fn two_pages(link: &'static str) -> Faulty {
    Faulty::start(move |_, request| {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let page = usize::from(query.contains("page=2"));
        let body = match path.contains("/referrers/") {
            true => {
                let digest = Digest::of(&[page as u8]);
                format!(r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"a/b","digest":"{digest}","size":1}}]}}"#)
            }
            false => format!(r#"{{"tags":["t{page}"]}}"#),
        };
        let reply = Reply::new("200 OK").header("Content-Type", INDEX);
        match page {
            0 => reply.header("Link", link.replace('@', &format!("{path}?n=1&page=2"))),
            _ => reply,
        }
        .body(body.as_bytes())
    })
    .await
}

/// How many tags and referrers are found on two pages, or the error.
async fn found(server: &Faulty) -> sealift::Result<(usize, usize)> {
    let (client, _) = client();
    let (host, repository): (Host, _) = (host(server.port), repository());
    let tags = client.tags(&host, &repository).await?;
    let referrers = client.referrers(&host, &repository, Digest::of(b"subject")).await?;
    Ok((tags.len(), referrers.expect("the registry has the API").len()))
}

/// distribution-spec 1.1, "Listing Tags" and "Listing Referrers": a list that goes on has a `Link` (RFC 8288) with
/// `rel="next"`. skopeo (containers/image, GetRepositoryTags) reads a target with or without angle brackets and does not
/// look at the relation, so that registries which send such headers are in use.
#[rstest]
#[case::as_specified("<@>; rel=\"next\"")]
#[case::without_quotes("<@>; rel=next")]
#[case::single_quotes("<@>; rel='next'")]
#[case::without_brackets("@; rel=\"next\"")]
#[case::without_relation("<@>")]
#[case::the_target_alone("@")]
#[case::absolute_without_brackets("http://internal:5000@; rel=\"next\"")]
#[case::among_others("</first>; rel=\"first\", <@>; rel=\"next\"")]
#[tokio::test]
async fn a_list_is_followed_in_every_form_of_link(#[case] link: &'static str) {
    let server = two_pages(link).await;
    assert_eq!(found(&server).await.unwrap(), (2, 2));
}

#[tokio::test]
async fn a_link_that_is_about_something_else_is_no_next_page() {
    let server = two_pages("<@>; rel=\"prev\", <@>; rel='last'").await;
    assert_eq!(found(&server).await.unwrap(), (1, 1));
}

#[rstest]
#[case::without_an_end("<@", "without an end")]
#[case::not_text("\u{f6}", "not text")]
#[case::two_next_pages("<@>; rel=next, <@&x>; rel=next", "several")]
#[case::nowhere("<ftp://127.0.0.1/v2/ns/app/tags/list>; rel=next", "nowhere")]
#[tokio::test]
async fn a_link_that_is_not_understood_is_an_error(#[case] link: &'static str, #[case] reason: &str) {
    let server = two_pages(link).await;
    let error = found(&server).await.expect_err(link);
    assert!(error.chain().contains(reason), "{error:?}");
}

/// skopeo issue 1740 (digests among the tags, by Artifactory), container-libs issue 189 (`-ot-beta`, on public.ecr.aws),
/// and what else a list may hold.
#[tokio::test]
async fn entries_that_are_no_tags_are_skipped_with_a_warning() {
    let digest = Digest::of(b"x");
    let long = "x".repeat(140);
    let server = Faulty::start(move |_, _| {
        let others: Vec<String> = (0..40).map(|number| format!(r#","-{number}""#)).collect();
        let others = others.concat();
        let body =
            format!(r#"{{"tags":["1",null,"","{digest}","{long}","-ot-beta","\u001b[2J",{{"a":1}},"2"{others}]}}"#);
        Reply::new("200 OK").body(body.as_bytes())
    })
    .await;
    let (client, log) = client();
    for _ in 0..2 {
        let tags = client.tags(&host(server.port), &repository()).await.unwrap();
        assert_eq!(tags.iter().map(|tag| tag.to_string()).collect::<Vec<_>>(), ["1", "2"]);
    }
    let warnings = log.warnings();
    assert_eq!(warnings.len(), 1, "one for a repository: {warnings:?}");
    let warning = &warnings[0];
    for part in ["ns/app", "null", "\"\"", &digest.to_string(), "-ot-beta", "and 42 more"] {
        assert!(warning.contains(part), "{part} is not in {warning}");
    }
    assert!(warning.len() < 600 && !warning.contains('\u{1b}'), "{warning}");
}

#[tokio::test]
async fn warnings_about_entries_that_are_no_tags_are_few() {
    let server = Faulty::start(|_, _| Reply::new("200 OK").body(br#"{"tags":[null]}"#)).await;
    let (client, log) = client();
    for number in 0..50 {
        let repository = format!("ns/app{number}").parse().unwrap();
        assert!(client.tags(&host(server.port), &repository).await.unwrap().is_empty());
    }
    assert_eq!(log.warnings().len(), 21, "{:?}", log.warnings());
}

/// How a server answers each question for referrers, and how many requests one question takes.
type Answers = fn() -> Reply;

fn status(line: &str) -> Reply {
    Reply::new(line).body(b"{\"errors\":[{\"code\":\"UNSUPPORTED\",\"message\":\"no such thing\"}]}")
}

fn ok(body: &str) -> Reply {
    Reply::new("200 OK").header("Content-Type", "application/json").body(body.as_bytes())
}

/// distribution-spec 1.1, "Listing Referrers", has 404 for registries without the API. In use are 406 (Artifactory:
/// google/go-containerregistry pull request 2026), 400 (accepted there, too), 401 without a challenge (Harbor 2.7:
/// regclient pull request 389), 200 with something else (sigstore-js pull request 1187). An unusual answer may be a fault
/// of one repository, so that each repository is asked once, and retries are made once.
#[rstest]
#[case::not_found(|| status("404 Not Found"), 1, false)]
#[case::bad_request(|| status("400 Bad Request"), 2, true)]
#[case::forbidden(|| status("403 Forbidden"), 2, true)]
#[case::unauthorized_without_a_challenge(|| status("401 Unauthorized"), 2, true)]
#[case::no_such_method(|| status("405 Method Not Allowed"), 1, false)]
#[case::not_acceptable(|| status("406 Not Acceptable"), 2, true)]
#[case::failing(|| status("500 Internal Server Error"), 5, true)]
#[case::not_implemented(|| status("501 Not Implemented"), 1, false)]
#[case::no_content(|| Reply::new("204 No Content"), 1, false)]
#[case::a_web_page(|| Reply::new("200 OK").header("Content-Type", "text/html").body(b"<!doctype html>"), 2, true)]
#[case::nothing(|| ok(""), 2, true)]
#[case::null(|| ok("null"), 2, true)]
#[case::an_empty_list(|| ok("[]"), 2, true)]
#[case::an_empty_list_said_to_be_an_index(|| Reply::new("200 OK").header("Content-Type", INDEX).body(b"[]"), 2, true)]
#[case::another_object(|| ok(r#"{"errors":[]}"#), 2, true)]
#[tokio::test]
async fn a_registry_without_the_referrers_api_is_known_by_its_first_answer(
    #[case] answers: Answers,
    #[case] requests: usize,
    #[case] warned: bool,
) {
    let server = Faulty::start(move |_, _| answers()).await;
    let (client, log) = client();
    for repository in ["ns/app", "ns/other", "ns/app", "ns/other"] {
        let found = client.referrers(&host(server.port), &repository.parse().unwrap(), Digest::of(b"x")).await;
        assert_eq!(found.unwrap(), None);
    }
    assert_eq!(server.seen().len(), requests);
    let warnings = log.warnings();
    assert_eq!(warnings.len(), usize::from(warned), "{warnings:?}");
}

#[tokio::test]
async fn an_unusual_answer_of_one_repository_decides_for_no_other() {
    let server = Faulty::start(move |_, request| match request.path.as_str() {
        path if path.starts_with("/v2/ns/broken/") => status("403 Forbidden"),
        path if path.starts_with("/v2/ns/plain/") => status("404 Not Found"),
        _ => Reply::new("200 OK").header("Content-Type", INDEX).body(br#"{"schemaVersion":2,"manifests":[]}"#),
    })
    .await;
    let (client, log) = client();
    let ask = async |repository: &str| {
        client.referrers(&host(server.port), &repository.parse().unwrap(), Digest::of(b"x")).await
    };
    assert_eq!(ask("ns/broken").await.unwrap(), None);
    assert_eq!(log.warnings().len(), 1);
    assert_eq!(ask("ns/app").await.unwrap(), Some(vec![]));
    // The registry has the API, so that this is a failure.
    assert!(ask("ns/broken").await.expect_err("forbidden").chain().contains("403"));
    assert_eq!(ask("ns/plain").await.unwrap(), None, "one repository may be without it");
    assert_eq!(ask("ns/app").await.unwrap(), Some(vec![]));
}

#[rstest]
#[case::unauthorized(|| status("401 Unauthorized\r\nWWW-Authenticate: Basic realm=x"), "login")]
#[case::too_many(|| status("429 Too Many Requests"), "429")]
#[case::bad_gateway(|| status("502 Bad Gateway"), "502")]
#[case::unavailable(|| status("503 Service Unavailable"), "503")]
#[case::timeout(|| status("504 Gateway Timeout"), "504")]
#[case::cut(|| Reply::hang_up_after(0), "connection")]
#[case::a_damaged_index(|| Reply::new("200 OK").header("Content-Type", INDEX).body(b"{\"manifests\":["), "referrers")]
#[case::an_index_with_a_damaged_entry(|| ok(r#"{"manifests":[{"mediaType":"a","digest":"x","size":1}]}"#), "referrers")]
#[tokio::test]
async fn a_list_of_referrers_that_cannot_be_read_is_an_error(#[case] answers: Answers, #[case] reason: &str) {
    let server = Faulty::start(move |_, _| answers()).await;
    let (client, _) = client();
    let error = client.referrers(&host(server.port), &repository(), Digest::of(b"x")).await.expect_err(reason);
    assert_eq!(error.kind(), Kind::Registry, "{error:?}");
    assert!(error.chain().contains(reason), "{error:?}");
}

/// google/go-containerregistry issue 1760: an index as text/plain.
#[rstest]
#[case::plain("text/plain", r#"{"schemaVersion":2,"manifests":[]}"#)]
#[case::null(INDEX, r#"{"schemaVersion":2,"manifests":null}"#)]
#[case::typed("application/json", "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\"}")]
#[tokio::test]
async fn an_index_is_known_by_its_body(#[case] media_type: &'static str, #[case] body: &'static str) {
    let server = Faulty::start(move |number, _| match number {
        0 => Reply::new("200 OK").header("Content-Type", media_type).body(body.as_bytes()),
        // What has answered once has the API: this is a failure.
        1 => status("403 Forbidden"),
        _ => status("404 Not Found"),
    })
    .await;
    let (client, _) = client();
    let ask = async || client.referrers(&host(server.port), &repository(), Digest::of(b"x")).await;
    assert_eq!(ask().await.unwrap(), Some(vec![]));
    assert!(ask().await.expect_err("forbidden").chain().contains("403"));
    assert_eq!(ask().await.unwrap(), None, "one repository may be without it");
}
