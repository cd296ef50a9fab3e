//! Image directories that are written.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::Signatures;
use crate::error::{Error, Result};
use crate::oci::Name;
use crate::place::{BlobId, Body, Chunks, Contents, Destination, LandingId, Linked, Order, Presence, ScopeId};
use crate::progress::Progress;

/// Where an image of the contents goes.
#[derive(Debug, Clone)]
pub struct Placement {
    /// The image, as [`Named::name`](crate::place::Named::name) calls it.
    pub image: Name,
    /// Its directory below the destination, with `/` between; any text that is a path without `.` and `..`.
    pub directory: String,
    /// What is to lie beside its manifests.
    pub signatures: Signatures,
}

/// Writes image directories below one directory, which may be there already, with images in it.
pub struct DirDestination {
    destination: PathBuf,
    placements: Vec<Placement>,
    progress: Arc<dyn Progress>,
}

impl DirDestination {
    /// Images of the contents that have no placement are an error when they are prepared; placements without an image
    /// are not. Touches nothing.
    ///
    /// # Errors
    /// `Usage` when a directory is no path below the destination, or is there twice.
    pub fn new(
        destination: PathBuf,
        placements: Vec<Placement>,
        progress: Arc<dyn Progress>,
    ) -> Result<DirDestination> {
        Ok(DirDestination { destination, placements, progress })
    }

    fn later<T>(&self) -> Result<T> {
        self.progress.event(crate::progress::Event::Warning("directories are not written yet"));
        let count = self.placements.len();
        Err(Error::refused(format!("{count} images cannot be written to {} yet", self.destination.display())))
    }
}

#[async_trait]
impl Destination for DirDestination {
    fn order(&self) -> Order {
        Order::Any
    }

    async fn prepare(&self, _: &Contents) -> Result<HashSet<BlobId>> {
        self.later()
    }

    async fn presence(&self, _: &Contents, _: BlobId, _: ScopeId) -> Result<Presence> {
        self.later()
    }

    async fn put(&self, _: &Contents, _: BlobId, _: ScopeId, _: &mut Body) -> Result<()> {
        self.later()
    }

    async fn link(&self, _: &Contents, _: BlobId, _: ScopeId, _: ScopeId) -> Result<Linked> {
        self.later()
    }

    async fn read_back(&self, _: &Contents, _: BlobId, _: ScopeId) -> Result<Chunks> {
        self.later()
    }

    async fn land(&self, _: &Contents, _: LandingId) -> Result<()> {
        self.later()
    }

    async fn commit(&self, _: &Contents) -> Result<()> {
        self.later()
    }
}
