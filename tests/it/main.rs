//! What sealift promises, checked on the program and its library. `tests/README.md` says where a new test goes.

mod attacks;
mod cli;
mod format;
mod memory;
mod registry;
mod resume;
mod selection;
mod serve;
mod structure;
mod support_selftest;
mod sync;
