//! The registry client against Debian's `docker-registry`, and against servers that misbehave on purpose.

mod content;
mod downloads;
mod faulty;
mod known;
mod lists;
mod real;
mod uploads;
