//! Registries on networks as they are: private authorities, proxies, limits, and bad days.

mod bad_days;
mod bounds;
mod echoes;
mod elsewhere;
mod heads;
mod immutable;
mod lies;
mod limits;
mod odd_answers;
mod per_registry;
mod proxies;
mod public;
mod quoted;
mod secrets;
mod stopped;
mod tls;
