//! The advice for a name without a registry, which means Docker Hub, and for a registry without a name.

use crate::error::{Error, Kind};
use crate::oci::Host;
use crate::select::Selection;

/// Adds what an image that was typed without its registry means, if Docker Hub was asked and did not answer as hoped.
/// `typed` is what the user wrote.
pub(super) fn explain<'a>(error: Error, typed: impl IntoIterator<Item = &'a str>, selection: &Selection) -> Error {
    let asked = selection.wanted.iter().any(|image| image.host.as_str() == Host::DOCKER_HUB);
    let mut registry = None;
    for text in typed {
        if text.contains(Host::DOCKER_HUB) {
            return error;
        }
        registry = registry.or_else(|| registry_alone(text));
    }
    match error.kind() {
        Kind::Registry | Kind::NotFound if asked => match registry {
            Some(registry) => error.hint(format!(
                "{registry} seems to be a registry, and a whole registry cannot be named: write {registry}/REPOSITORY \
                 for each repository, or list them in a file"
            )),
            None => error.hint(
                "a name without a registry is Docker Hub's (docker.io); for another one write HOST[:PORT]/REPOSITORY:TAG",
            ),
        },
        _ => error,
    }
}

/// A text that would be a registry if a path followed: `registry.example.com`, `localhost`, `host:5000`.
fn registry_alone(text: &str) -> Option<&str> {
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let is_port = port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port >= 80));
    let is_name = name == "localhost" || name.contains('.') && port.is_none();
    (!text.contains(['/', '@']) && (is_name || is_port && (name == "localhost" || name.contains('.')))).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_alone_is_recognised() {
        for text in ["registry.example.com", "localhost", "localhost:5000", "127.0.0.1:5000", "10.0.0.1"] {
            assert_eq!(registry_alone(text), Some(text));
        }
        for text in ["busybox", "busybox:1.35", "busybox:latest", "my.app:1", "ns/app", "registry.example.com/app"] {
            assert_eq!(registry_alone(text), None, "{text}");
        }
    }
}
