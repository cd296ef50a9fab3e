//! From what was read to a [`Plan`]: images that cannot be carried as they are published end the run or are left out.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Draft, Plan, PlannedImage, REFERRER, notes};
use crate::content::{Absent, Fit};
use crate::error::{Failure, Result};
use crate::oci::Digest;

impl Draft<'_> {
    pub(super) async fn finish(mut self, asked: usize) -> Result<Plan> {
        self.look_for_foreign_layers().await?;
        let images = std::mem::take(&mut self.images);
        let images = self.without_spent(images);
        let mut images = self.without_unread(images);
        // Of two images that contradict each other the first by name is carried, in whatever order they were read.
        images.sort_by_cached_key(|planned| planned.image.name.to_string());
        let (images, fit) = self.without_misfits(images);
        if !self.failures.is_empty() && !self.wishes.keep_going {
            return Err(Failure::report(self.failures, asked));
        }
        for absent in self.absent(&images, &fit) {
            self.builder.absent(absent);
        }
        let mut attestations = BTreeMap::new();
        for PlannedImage { image, origin, position, .. } in images {
            if let Some(count) = self.attestations.get(&position).filter(|count| **count > 0) {
                attestations.insert(image.name.to_string(), *count);
            }
            self.builder.image(image, Some(origin));
        }
        self.failures.sort_by(|a, b| a.image.cmp(&b.image));
        self.failures.dedup_by(|a, b| a.image == b.image);
        self.warnings.extend(notes::attestations(&attestations));
        if self.more_warnings > 0 {
            self.warnings.push(format!("and {} more warnings of this sort", self.more_warnings));
        }
        Ok(Plan { contents: self.builder.finish()?, failures: self.failures, warnings: self.warnings })
    }

    /// The images that took no more requests than they may. Of the others nothing is carried: no one knows what of their
    /// referrers was not read.
    fn without_spent(&mut self, mut images: Vec<PlannedImage>) -> Vec<PlannedImage> {
        let spent = images.extract_if(.., |planned| planned.allowance.is_spent());
        let asked = spent.filter(|planned| planned.position != REFERRER);
        self.failures.extend(
            asked
                .map(|PlannedImage { image, allowance, .. }| Failure { image: image.source, error: allowance.error() }),
        );
        images
    }

    /// The images below which everything could be read; the others become failures.
    fn without_unread(&mut self, images: Vec<PlannedImage>) -> Vec<PlannedImage> {
        let mut kept = Vec::with_capacity(images.len());
        for planned in images {
            let Some((parent, child)) = self.first_broken(planned.image.document) else {
                kept.push(planned);
                continue;
            };
            if let Some(others) = self.without_list(&planned) {
                kept.extend(others);
                continue;
            }
            let error = self.unread(parent, child);
            self.failures.push(match self.referrers.get(&planned.image.name) {
                Some(referrer) => referrer.failure(&error),
                None => Failure { image: planned.image.source, error },
            });
        }
        // What a list named may have been found by the API, too.
        let mut names = HashSet::new();
        kept.retain(|planned| names.insert(planned.image.name.clone()));
        kept
    }

    /// The images that are whole and agree with each other; the others become failures.
    fn without_misfits(&mut self, images: Vec<PlannedImage>) -> (Vec<PlannedImage>, Fit) {
        let documents: Vec<Digest> = images.iter().map(|planned| planned.image.document).collect();
        let left_out = |digest| self.left_out.contains_key(&digest) && !self.builder.has(digest);
        let fit = self.builder.fit(&documents, left_out);
        for (position, misfit) in &fit.misfits {
            let error = self.misfit(&images, *position, misfit);
            self.failures.push(Failure { image: images[*position].image.source.clone(), error });
        }
        let kept = images.into_iter().enumerate().filter(|(position, _)| !fit.misfits.contains_key(position));
        (kept.map(|(_, planned)| planned).collect(), fit)
    }

    /// The first document or foreign layer below an image that could not be read, with the document that refers to it.
    fn first_broken(&self, document: Digest) -> Option<(Digest, Digest)> {
        if self.broken.is_empty() {
            return None;
        }
        let mut seen = HashSet::from([document]);
        let mut stack = vec![document];
        while let Some(parent) = stack.pop() {
            let below = self.below.get(&parent).map(Vec::as_slice).unwrap_or_default();
            if let Some(child) = below.iter().find(|child| self.broken.contains_key(child)) {
                return Some((parent, *child));
            }
            stack.extend(below.iter().rev().filter(|child| seen.insert(**child)));
        }
        None
    }

    /// What is left out of the images that are carried, with their names.
    fn absent(&self, images: &[PlannedImage], fit: &Fit) -> Vec<Absent> {
        let mut names: HashMap<Digest, Vec<String>> = HashMap::new();
        for PlannedImage { image, .. } in images {
            for digest in self.reached(image.document) {
                if self.left_out.contains_key(&digest) && !self.builder.has(digest) {
                    names.entry(digest).or_default().push(image.name.to_string());
                }
            }
        }
        let mut absent: Vec<Absent> = names
            .into_iter()
            .map(|(digest, mut names)| {
                names.sort();
                let (size, reason) = self.left_out[&digest];
                Absent { digest, size: fit.size(digest).unwrap_or(size), reason, names }
            })
            .collect();
        absent.sort_by_key(|absent| absent.digest);
        absent
    }
}
