//! The four loops, between places in memory.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;

use super::memory::{Memory, MemoryPass, Mood, Recorder};
use super::{Sample, go, go_with, options};
use crate::content::{BlobId, Order, SMALL_BLOB};
use crate::error::Kind;
use crate::transfer::{Input, TransferOptions, run};

pub(super) fn supply(sample: &Sample, one_pass: bool, mood: Mood) -> Input {
    let memory = Memory::new(sample, mood);
    if one_pass {
        let order: Vec<BlobId> = sample.contents.blob_ids().collect();
        Input::Pass(Box::new(MemoryPass { memory, order: order.into_iter() }))
    } else {
        Input::Source(Arc::new(memory))
    }
}

fn assert_everything_landed(sample: &Sample, destination: &Recorder) {
    let state = destination.state.lock().unwrap();
    assert!(state.committed);
    assert_eq!(state.landed.len(), sample.contents.landings.len());
    for blob in &sample.contents.blobs {
        for scope in &blob.wanted {
            let key = (sample.contents.scope(*scope).clone(), blob.digest);
            assert_eq!(state.blobs[&key], sample.blobs[&blob.digest]);
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_loop_moves_each_byte_once_and_lands_everything(
    #[values(false, true)] one_pass: bool,
    #[values(Order::Any, Order::AsPlanned)] order: Order,
    #[values(Mood::Good, Mood::Slow)] mood: Mood,
    #[values(false, true)] slow_destination: bool,
) {
    let sample = Sample::new();
    let destination = Arc::new(Recorder { slow: slow_destination, ..Recorder::new(order) });
    let summary = go(&sample, supply(&sample, one_pass, mood), destination.clone()).await.unwrap();
    assert_everything_landed(&sample, &destination);
    assert_eq!(summary.moved, sample.contents.blobs.len() as u64);
    assert_eq!(summary.moved_bytes, sample.contents.blob_bytes());
    let state = destination.state.lock().unwrap();
    if order == Order::AsPlanned {
        assert_eq!(state.puts, sample.contents.blob_ids().collect::<Vec<_>>());
        assert_eq!(state.most_in_flight, 1);
    } else {
        assert!(state.most_in_flight <= 5, "{}", state.most_in_flight);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_link_sends_the_bytes_again_without_reading_a_medium_twice(#[values(false, true)] one_pass: bool) {
    let sample = Sample::new();
    let destination = Arc::new(Recorder { links: false, ..Recorder::new(Order::Any) });
    go(&sample, supply(&sample, one_pass, Mood::Good), destination.clone()).await.unwrap();
    assert_everything_landed(&sample, &destination);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_blob_lands_nothing_and_commits_nothing(
    #[values(false, true)] one_pass: bool,
    #[values(Order::Any, Order::AsPlanned)] order: Order,
    #[values(Mood::Flipped, Mood::Short, Mood::Long, Mood::Broken)] mood: Mood,
) {
    let sample = Sample::new();
    let destination = Arc::new(Recorder::new(order));
    let error = go(&sample, supply(&sample, one_pass, mood), destination.clone()).await.expect_err("must fail");
    let expected = if mood == Mood::Broken { Kind::Io } else { Kind::Damaged };
    assert_eq!(error.kind(), expected, "{error:?}");
    let state = destination.state.lock().unwrap();
    assert!(state.landed.is_empty() && !state.committed);
    let large = sample.contents.blobs.iter().find(|blob| blob.size > SMALL_BLOB).unwrap();
    assert!(state.blobs.keys().all(|(_, digest)| *digest != large.digest), "a wrong blob must never be complete");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_run_left_is_not_moved_again(
    #[values(false, true)] one_pass: bool,
    #[values(Order::Any, Order::AsPlanned)] order: Order,
) {
    let sample = Sample::new();
    let has: HashSet<BlobId> = sample.contents.blob_ids().step_by(2).collect();
    let destination = Arc::new(Recorder { has: has.clone(), ..Recorder::new(order) });
    let summary = go(&sample, supply(&sample, one_pass, Mood::Good), destination.clone()).await.unwrap();
    assert_eq!(summary.already, has.len() as u64);
    let state = destination.state.lock().unwrap();
    assert!(state.committed && state.puts.iter().all(|id| !has.contains(id)));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_destination_finds_is_not_read_and_is_linked_as_what_was_sent(
    #[values(Order::Any, Order::AsPlanned)] order: Order,
) {
    let sample = Sample::new();
    let finds: HashSet<BlobId> = sample.contents.blob_ids().step_by(2).collect();
    let source = Arc::new(Memory::new(&sample, Mood::Good));
    let destination = Arc::new(Recorder { finds: finds.clone(), ..Recorder::new(order) });
    let summary = go(&sample, Input::Source(source.clone()), destination.clone()).await.unwrap();
    assert_eq!(summary.already, finds.len() as u64);
    assert_eq!(summary.moved, (sample.contents.blobs.len() - finds.len()) as u64);
    let links: usize = sample.contents.blobs.iter().map(|blob| blob.wanted.len() - 1).sum();
    assert_eq!(summary.linked, links as u64);
    let large = |id: &BlobId| sample.contents.blob(*id).size > SMALL_BLOB;
    let opened = source.opened.lock().unwrap();
    // On the way to a destination in order small blobs are read ahead.
    for id in finds.iter().filter(|id| order == Order::Any || large(id)) {
        assert!(!opened.contains_key(&sample.contents.blob(*id).digest), "{id:?} was read");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_hold_no_place_among_blobs_that_move() {
    let sample = Sample::new();
    let one_at_a_time = TransferOptions { jobs: NonZeroUsize::MIN, ..options() };
    // A link that waits for every other blob: whoever moves blobs only after it waits for ever.
    let destination = Arc::new(Recorder { links_after: sample.contents.blobs.len(), ..Recorder::new(Order::Any) });
    let supply = supply(&sample, false, Mood::Good);
    go_with(&one_at_a_time, &sample, supply, destination.clone()).await.unwrap();
    assert_everything_landed(&sample, &destination);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_medium_that_ends_early_or_repeats_itself_is_refused(
    #[values(Order::Any, Order::AsPlanned)] order: Order,
    #[values(false, true)] repeats: bool,
) {
    let sample = Sample::new();
    let mut ids: Vec<BlobId> = sample.contents.blob_ids().collect();
    if repeats {
        ids.push(ids[0]);
    } else {
        ids.pop();
    }
    let pass = MemoryPass { memory: Memory::new(&sample, Mood::Good), order: ids.into_iter() };
    let destination = Arc::new(Recorder::new(order));
    let error = go(&sample, Input::Pass(Box::new(pass)), destination.clone()).await.expect_err("must fail");
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(!destination.state.lock().unwrap().committed);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn cancelling_stops_between_chunks_and_commits_nothing(
    #[values(false, true)] one_pass: bool,
    #[values(Order::Any, Order::AsPlanned)] order: Order,
) {
    let sample = Sample::new();
    let destination = Arc::new(Recorder { slow: true, ..Recorder::new(order) });
    let options = options();
    let cancel = options.cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        cancel.cancel();
    });
    let supply = supply(&sample, one_pass, Mood::Slow);
    let run = run(sample.contents.clone(), supply, destination.clone(), &options);
    let error = tokio::time::timeout(Duration::from_secs(5), run).await.expect("stops soon").expect_err("stopped");
    assert_eq!(error.kind(), Kind::Interrupted);
    assert!(!destination.state.lock().unwrap().committed);
}
