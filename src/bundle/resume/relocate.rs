//! Data from one place in an archive to another, when the plan has changed: in the file itself, without a copy of it.
//!
//! What moves may lie where something else is to go, or where it goes itself. [`order`] puts the steps in an order in
//! which nothing is written over before it was moved; what stands in each other's way is first set down behind the end.
//! A step that overlaps itself is made in pieces no longer than the distance, from the side that is given up last: so
//! a kill between any two writes leaves every byte in one of two places, and how far it came is known ([`Step`]).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::error::{Error, Result};
use crate::oci::Digest;

/// Some bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Of the first.
    pub(crate) offset: u64,
    /// How many.
    pub(crate) length: u64,
}

/// Bytes of a blob on their way from one offset to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Relocation {
    pub(crate) digest: Digest,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// In bytes.
    pub(crate) length: u64,
}

impl Extent {
    /// No bytes.
    pub(crate) const NOTHING: Extent = Extent { offset: 0, length: 0 };

    /// Of the byte after the last.
    pub(crate) fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }
}

/// The steps that bring everything in `wanted` from where it is to where it is to be. Neither the places where things
/// are nor those where they are to be overlap one another.
pub(crate) fn order(wanted: &[Relocation]) -> Vec<Relocation> {
    let mut pending: Vec<Relocation> = wanted.iter().filter(|step| step.from != step.to).copied().collect();
    let mut behind = wanted.iter().map(|step| step.from.max(step.to) + step.length).max().unwrap_or_default();
    let mut graph = Graph::new(&pending);
    let mut steps = Vec::with_capacity(pending.len());
    loop {
        while let Some(next) = graph.next_free() {
            steps.push(pending[next]);
            graph.has_left(next);
            graph.has_arrived(next);
        }
        // Only what stands in one another's way is left: the least of it steps aside.
        let Some(aside) = graph.blocking().min_by_key(|index| (pending[*index].length, *index)) else { break };
        let step = &mut pending[aside];
        steps.push(Relocation { to: behind, ..*step });
        step.from = behind;
        behind += step.length;
        graph.has_left(aside);
    }
    steps
}

/// Who waits for whom to leave.
struct Graph {
    /// By place in the list: those that are to go where it is.
    blocks: Vec<Vec<usize>>,
    /// How many lie where it is to go.
    waits: Vec<usize>,
    arrived: Vec<bool>,
    /// Those that wait for nothing, by where they go: a file is best written in rising order.
    free: BinaryHeap<Reverse<(u64, usize)>>,
    to: Vec<u64>,
}

impl Graph {
    fn new(steps: &[Relocation]) -> Graph {
        let mut by_place: BTreeMap<u64, usize> = BTreeMap::new();
        by_place.extend(steps.iter().enumerate().filter(|(_, step)| step.length > 0).map(|(i, step)| (step.from, i)));
        let mut blocks = vec![Vec::new(); steps.len()];
        let mut waits = vec![0; steps.len()];
        for (index, step) in steps.iter().enumerate().filter(|(_, step)| step.length > 0) {
            let end = step.to + step.length;
            // What begins before may reach into it; it is one at most.
            let before = by_place.range(..step.to).next_back();
            for (_, other) in before.into_iter().chain(by_place.range(step.to..end)) {
                if *other != index && steps[*other].from + steps[*other].length > step.to {
                    blocks[*other].push(index);
                    waits[index] += 1;
                }
            }
        }
        let to: Vec<u64> = steps.iter().map(|step| step.to).collect();
        let free =
            (0..steps.len()).filter(|index| waits[*index] == 0).map(|index| Reverse((to[index], index))).collect();
        Graph { blocks, waits, arrived: vec![false; steps.len()], free, to }
    }

    fn next_free(&mut self) -> Option<usize> {
        self.free.pop().map(|Reverse((_, index))| index)
    }

    fn has_left(&mut self, index: usize) {
        for other in std::mem::take(&mut self.blocks[index]) {
            self.waits[other] -= 1;
            if self.waits[other] == 0 {
                self.free.push(Reverse((self.to[other], other)));
            }
        }
    }

    fn has_arrived(&mut self, index: usize) {
        self.arrived[index] = true;
    }

    /// Those that wait and let others wait.
    fn blocking(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.blocks.len()).filter(|index| !self.arrived[*index] && !self.blocks[*index].is_empty())
    }
}

/// Makes one step, of which so many bytes are `moved` already. After each piece `note` is told how many are: it must
/// remember that before it returns. `shown` is the file, for messages; nothing is done once `go_on` says no.
pub(crate) fn relocate(
    file: &File,
    shown: &str,
    step: &Relocation,
    mut moved: u64,
    go_on: &dyn Fn() -> bool,
    note: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let piece = PIECE.min(step.from.abs_diff(step.to)).min(step.length);
    let mut buffer = vec![0; piece as usize];
    while moved < step.length {
        if !go_on() {
            return Err(Error::interrupted());
        }
        let count = piece.min(step.length - moved);
        let at = if step.to < step.from { moved } else { step.length - moved - count };
        let buffer = &mut buffer[..count as usize];
        let (from, to) = (step.from + at, step.to + at);
        file.read_exact_at(buffer, from).map_err(|e| Error::io(format!("cannot read {shown} at byte {from}"), e))?;
        file.write_all_at(buffer, to).map_err(|e| Error::io(format!("cannot write {shown} at byte {to}"), e))?;
        moved += count;
        note(moved)?;
    }
    Ok(())
}

/// How much is moved at once, if the distance is not shorter.
const PIECE: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Things of these lengths, in one order with gaps now and in another one afterwards.
    fn steps(lengths: &[u64], gaps: &[u64], shuffled: &[usize], lead: u64) -> Vec<Relocation> {
        let mut steps: Vec<Relocation> = Vec::new();
        let mut from = 0;
        for (number, length) in lengths.iter().enumerate() {
            from += gaps[number];
            let digest = Digest::of(&(number as u64).to_le_bytes());
            steps.push(Relocation { digest, from, to: 0, length: *length });
            from += length;
        }
        let mut to = lead;
        for index in shuffled {
            steps[*index].to = to;
            to += steps[*index].length;
        }
        steps
    }

    fn bytes_of(step: &Relocation) -> Vec<u8> {
        step.digest.hex().bytes().cycle().take(step.length as usize).collect()
    }

    /// Does everything in `wanted`, killed after every so many pieces and begun again from what was noted.
    fn carry_out(wanted: &[Relocation], kill_every: usize, before_noted: bool) {
        let file = tempfile::tempfile().unwrap();
        for step in wanted {
            file.write_all_at(&bytes_of(step), step.from).unwrap();
        }
        let mut now: Vec<Relocation> = wanted.to_vec();
        let mut under_way: Option<(Relocation, u64)> = None;
        for run in 0.. {
            assert!(run < 10_000, "it does not get on");
            let mut left = kill_every;
            let mut make_noted = |step: &Relocation, moved: u64, under_way: &mut Option<(Relocation, u64)>| {
                *under_way = Some((*step, moved));
                relocate(&file, "f", step, moved, &|| true, &mut |moved| {
                    if left == 0 && before_noted {
                        return Err(Error::interrupted());
                    }
                    *under_way = Some((*step, moved));
                    if left == 0 {
                        return Err(Error::interrupted());
                    }
                    left -= 1;
                    Ok(())
                })
            };
            let mut go = || -> Result<()> {
                let resumed = under_way.take();
                if let Some((step, moved)) = resumed {
                    make_noted(&step, moved, &mut under_way)?;
                    now.iter_mut().find(|known| known.digest == step.digest).unwrap().from = step.to;
                    under_way = None;
                }
                for step in order(&now.clone()) {
                    make_noted(&step, 0, &mut under_way)?;
                    now.iter_mut().find(|known| known.digest == step.digest).unwrap().from = step.to;
                    under_way = None;
                }
                Ok(())
            };
            if go().is_ok() {
                break;
            }
        }
        for step in wanted {
            let mut found = vec![0; step.length as usize];
            file.read_exact_at(&mut found, step.to).unwrap();
            assert_eq!(found, bytes_of(step), "{step:?}");
        }
    }

    fn scenes() -> impl Strategy<Value = Vec<Relocation>> {
        (1..9usize).prop_flat_map(|count| {
            let lengths = proptest::collection::vec(0..60u64, count);
            let gaps = proptest::collection::vec(0..20u64, count);
            let shuffled = Just((0..count).collect::<Vec<usize>>()).prop_shuffle();
            (lengths, gaps, shuffled, 0..90u64)
                .prop_map(|(lengths, gaps, shuffled, lead)| steps(&lengths, &gaps, &shuffled, lead))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        #[test]
        fn everything_arrives_whenever_it_was_killed(
            steps in scenes(),
            kill_every in 3..30usize,
            before_noted in any::<bool>(),
        ) {
            carry_out(&steps, kill_every, before_noted);
        }
    }

    #[test]
    fn what_only_moves_forward_is_moved_once_and_in_rising_order() {
        let wanted = steps(&[100, 50, 700, 3], &[10, 0, 200, 1], &[0, 1, 2, 3], 0);
        let steps = order(&wanted);
        assert_eq!(steps, wanted);
    }

    #[test]
    fn what_changes_places_steps_aside_once_and_the_small_one_does() {
        let wanted = steps(&[100, 50], &[0, 0], &[1, 0], 0);
        let steps = order(&wanted);
        let lengths: Vec<u64> = steps.iter().map(|step| step.length).collect();
        assert_eq!(lengths, [50, 100, 50], "{steps:?}");
        carry_out(&wanted, usize::MAX, false);
    }

    #[test]
    fn what_is_in_its_place_is_left_alone() {
        assert!(order(&steps(&[4, 5], &[0, 0], &[0, 1], 0)).is_empty());
    }
}
