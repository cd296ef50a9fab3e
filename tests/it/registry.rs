//! Registries: the client, networks, logins, numbers of requests.

mod auth;
mod client;
mod network;
mod requests;
