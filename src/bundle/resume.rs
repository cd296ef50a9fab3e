//! What an interrupted export left: its plan, and what is at the output.

pub(crate) mod extent_map;
pub(crate) mod free_space;
pub(crate) mod journal;
pub(crate) mod output;
pub(crate) mod plan;
pub(crate) mod relocate;
pub(crate) mod resume_write;
