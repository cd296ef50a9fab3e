//! With `keep_going`: a repository that refuses something keeps only its own images back.

use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;

use super::loops::supply;
use super::memory::{Mood, Recorder, Refusal};
use super::{Sample, options};
use crate::content::{Order, RepositoryId};
use crate::error::{Kind, Result};
use crate::transfer::{Outcome, TransferOptions, run};

/// The first repository that wants what both share.
const TOOL: RepositoryId = RepositoryId(0);
const APP: RepositoryId = RepositoryId(1);

/// The names of the images that failed.
async fn failed(one_pass: bool, destination: &Arc<Recorder>) -> Result<Vec<String>> {
    let sample = Sample::new();
    assert_eq!(sample.contents.scope(TOOL).as_str(), "other/tool");
    let options = TransferOptions { keep_going: true, ..options() };
    let supply = supply(&sample, one_pass, Mood::Good);
    let run = run(sample.contents.clone(), supply, destination.clone(), &options);
    let outcome = tokio::time::timeout(Duration::from_secs(60), run).await.expect("a run must not hang");
    let Outcome { failures, .. } = outcome?;
    assert!(destination.state.lock().unwrap().committed);
    Ok(failures.into_iter().map(|failure| failure.image).collect())
}

fn images_of(scope: RepositoryId) -> &'static [&'static str] {
    if scope == TOOL { &["other/tool:1"] } else { &["team/app:1", "team/app:2", "team/app:latest"] }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn blobs_still_go_to_the_other_repositories(
    #[values(false, true)] one_pass: bool,
    #[values(Order::Any, Order::AsPlanned)] order: Order,
    #[values(false, true)] links: bool,
    #[values(TOOL, APP)] scope: RepositoryId,
) {
    let destination = Arc::new(Recorder { links, refuses: Some(Refusal::Put(scope)), ..Recorder::new(order) });
    assert_eq!(failed(one_pass, &destination).await.unwrap(), images_of(scope));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_question_or_link_is_a_failure_of_its_repository(
    #[values(false, true)] one_pass: bool,
    #[values(Refusal::Presence(TOOL), Refusal::Presence(APP), Refusal::Link(APP))] refusal: Refusal,
) {
    let destination = Arc::new(Recorder { refuses: Some(refusal), ..Recorder::new(Order::Any) });
    let scope = if refusal == Refusal::Presence(TOOL) { TOOL } else { APP };
    assert_eq!(failed(one_pass, &destination).await.unwrap(), images_of(scope));
}

/// Small blobs from a medium are in memory, and can be sent again.
#[rstest]
#[case::from_a_source(false, Order::Any)]
#[case::from_a_source_in_order(false, Order::AsPlanned)]
#[case::from_a_medium(true, Order::Any)]
#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_can_be_read_again_go_on_to_the_next_repository(#[case] one_pass: bool, #[case] order: Order) {
    let destination = Arc::new(Recorder { refuses: Some(Refusal::PutAtTheEnd(TOOL)), ..Recorder::new(order) });
    assert_eq!(failed(one_pass, &destination).await.unwrap(), images_of(TOOL));
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_come_once_are_lost_with_the_repository_that_fails_after_reading_them() {
    let refuses = Some(Refusal::PutAtTheEnd(TOOL));
    let destination = Arc::new(Recorder { refuses, ..Recorder::new(Order::AsPlanned) });
    let error = failed(true, &destination).await.expect_err("all images share such a blob");
    assert_eq!(error.kind(), Kind::Registry);
    assert!(error.chain().contains("is read once, and was lost on its way to other/tool"), "{error:?}");
    assert!(!destination.state.lock().unwrap().committed);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_back_is_a_failure_of_the_repository_that_needs_it() {
    let refuses = Some(Refusal::ReadBack);
    let destination = Arc::new(Recorder { links: false, refuses, ..Recorder::new(Order::AsPlanned) });
    assert_eq!(failed(true, &destination).await.unwrap(), images_of(APP));
}
