//! Documents into place: children before parents, tags last.

use std::collections::BTreeMap;

use super::Job;
use crate::error::Result;
use crate::place::{Contents, LandingId};
use crate::progress::Event;

pub(super) async fn run(job: &Job) -> Result<()> {
    for level in levels(&job.contents) {
        job.each(level, land).await?;
    }
    Ok(())
}

async fn land(job: Job, id: LandingId) -> Result<()> {
    job.destination.land(&job.contents, id).await?;
    let landing = job.contents.landing(id);
    if let Some(image) = landing.image {
        let name = &job.contents.images[image as usize].name;
        job.progress.event(Event::Landed { name, digest: landing.document });
    }
    Ok(())
}

/// Landings that may happen at the same time, in the order in which their groups must.
fn levels(contents: &Contents) -> Vec<Vec<LandingId>> {
    let mut level_of: Vec<usize> = Vec::with_capacity(contents.landings.len());
    let mut levels: BTreeMap<usize, Vec<LandingId>> = BTreeMap::new();
    for id in contents.landing_ids() {
        let landing = contents.landing(id);
        // Nothing depends on a tag, so all of them can come after everything else.
        let level = match landing.tag {
            Some(_) => usize::MAX,
            None => landing.after.iter().map(|before| level_of[before.0 as usize] + 1).max().unwrap_or(0),
        };
        level_of.push(level);
        levels.entry(level).or_default().push(id);
    }
    levels.into_values().collect()
}
