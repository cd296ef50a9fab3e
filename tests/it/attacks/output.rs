//! What others may have put where an export writes: journals, partial files, links, devices, plans, lock files. In every
//! case the export either seals exactly what was asked for, to the byte what it seals in an empty directory, or ends with
//! an error that says what is in the way; and no other file changes.
//!
//! Each case is a line in a table: a name, the form of the bundle, what is put there, and how the export ends.

mod directories;
mod journals;
mod links;
mod locks;
mod media;
mod plans;
mod scene;
