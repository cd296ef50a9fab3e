//! What a sync says: what would be done, what was done, and the file of digests.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::Sync;
use super::ends::{SyncDestination, SyncSource};
use crate::cli::listing::{self, Totals};
use crate::cli::output::{note, print_json};
use crate::cli::progress::count;
use crate::cli::summary::RunSummary;
use crate::cli::summary::landed;
use crate::cli::{Global, stderr};
use crate::content::{Contents, NamedImage};
use crate::error::{Error, Failure, Result};
use crate::jobs::sync::SyncPlan;
use crate::oci::{Digest, Name};
use crate::transfer::Outcome;

/// What was planned, and what came of it.
pub(super) struct SyncReport {
    pub(super) contents: Arc<Contents>,
    pub(super) failures: Vec<Failure>,
    /// In the order in which it was asked for, then what refers to it.
    lines: Vec<Line>,
}

struct Line {
    name: Name,
    source: String,
    place: String,
    digest: Digest,
    there: bool,
}

impl SyncReport {
    pub(super) fn new(planned: SyncPlan, destination: &SyncDestination, source: &SyncSource) -> Result<Self> {
        let order: HashMap<&str, usize> = planned.order.iter().map(String::as_str).zip(0..).collect();
        let line = |image: &NamedImage, there| {
            let (name, digest) = (image.name.clone(), image.document);
            let source = format!("{}{}", source.transport(), image.source);
            let at = order.get(image.source.as_str()).copied().unwrap_or(usize::MAX);
            Ok((at, Line { name, source, place: destination.place(image)?, digest, there }))
        };
        let there = planned.there.iter().map(|image| line(image, true));
        let moving = planned.contents.images.iter().map(|image| line(image, false));
        let mut lines: Vec<(usize, Line)> = there.chain(moving).collect::<Result<_>>()?;
        lines.sort_by_key(|(at, _)| *at);
        let lines = lines.into_iter().map(|(_, line)| line).collect();
        Ok(SyncReport { contents: planned.contents, failures: planned.failures, lines })
    }

    /// For `--dry-run`.
    pub(super) fn show_plan(&self, json: bool, global: &Global) -> Result<()> {
        if json {
            let mut value = self.json()?;
            value.keep_landed(&self.failures);
            return print_json(&value);
        }
        let line = |line: &Line| {
            let there = if line.there { "  (there already)" } else { "" };
            format!("{} -> {}  {}{there}", line.source, line.place, line.digest)
        };
        // On stderr, where skopeo prints it; --json is for programs.
        if !global.quiet {
            self.lines.iter().for_each(|image| note(&line(image)));
        }
        Ok(())
    }

    /// What is in its place, in the format of skopeo: digest, blank, transport and reference.
    pub(super) fn write_digests(&self, file: &mut File, outcome: Option<&Outcome>) -> Result<()> {
        let missing: HashSet<&str> =
            outcome.iter().flat_map(|outcome| &outcome.failures).map(|failure| failure.image.as_str()).collect();
        let landed =
            |line: &&Line| line.there || (outcome.is_some() && !missing.contains(line.name.to_string().as_str()));
        let lines: String =
            self.lines.iter().filter(landed).map(|line| format!("{} {}\n", line.digest, line.place)).collect();
        file.write_all(lines.as_bytes()).map_err(|e| Error::io("cannot write the file of digests", e))
    }

    /// How it went.
    pub(super) fn tell(
        &mut self,
        command: &Sync,
        destination: &SyncDestination,
        global: &Global,
        outcome: Outcome,
        started: Instant,
    ) -> Result<()> {
        self.contents = landed(&self.contents, &outcome.failures)?;
        self.failures.extend(outcome.failures);
        let done = RunSummary {
            summary: outcome.summary,
            totals: Totals::of(&self.contents)?,
            seconds: started.elapsed().as_secs_f64(),
        };
        let there = self.lines.iter().filter(|line| line.there).count();
        let identity = match destination {
            SyncDestination::Bundle { making: Some((making, key)), .. } => {
                making.identity().map(|digest| (digest, key))
            }
            _ => None,
        };
        if !global.quiet {
            let synced = format!("synced to {}", command.destination);
            let images = count(there, "image");
            let mut lines = match (there, self.contents.images.len()) {
                (0, _) => done.lines(&synced, "copied"),
                (_, 0) => format!("{synced}: {images}, there already, in {:.1} s\n", done.seconds),
                _ => done.lines(&synced, "copied") + &format!("  {images} there already\n"),
            };
            if let Some((identity, key)) = &identity {
                lines += &format!("bundle {identity}, signed by key id {key}");
            }
            let mut value = done.json("copied", self.failures.len());
            value["imagesAlreadyThere"] = json!(there);
            stderr::summary(value, lines.trim_end());
        }
        if command.json {
            let mut value = self.json()?;
            if let Some((identity, _)) = identity {
                value["identity"] = json!(identity.to_string());
            }
            done.add_to(&mut value, "copied");
            value.keep_landed(&self.failures);
            print_json(&value)?;
        }
        Ok(())
    }

    fn json(&self) -> Result<listing::Answer<&Line>> {
        let fields = json!({"totals": Totals::of(&self.contents)?.json()});
        Ok(listing::Answer::new(self.lines.iter().collect(), fields))
    }
}

impl listing::Entry for &Line {
    fn name(&self) -> String {
        self.name.to_string()
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name.to_string(), "source": self.source, "place": self.place,
            "digest": self.digest.to_string(), "there": self.there,
        })
    }
}

/// The file of `--digestfile`, emptied; a dry run writes none.
pub(super) fn digest_file(command: &Sync) -> Result<Option<File>> {
    let Some(path) = command.digestfile.as_ref().filter(|_| !command.dry_run) else { return Ok(None) };
    let file = File::create(path).map_err(|e| Error::io(format!("cannot write {}", path.display()), e))?;
    Ok(Some(file))
}
