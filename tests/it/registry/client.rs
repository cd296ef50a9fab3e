//! The registry client against Debian's `docker-registry`, and against servers that misbehave on purpose.

mod cancelled;
mod chunked;
mod commits;
mod content;
mod downloads;
mod faulty;
mod known;
mod lists;
mod missing;
mod read_back;
mod real;
mod referrers_lists;
mod refusals;
mod uploads;
