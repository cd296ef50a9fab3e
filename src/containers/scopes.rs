//! The scopes under which `policy.json` and `registries.d` describe images, the most specific first.

use std::path::Path;

use crate::oci::{Host, Repository, Selector};

/// The scopes of the `docker:` transport that match an image: itself, its repository, the namespaces above it, the host,
/// and `*.` with each domain above the host (without the port).
pub(super) fn of_image(host: &Host, repository: &Repository, selector: Option<&Selector>) -> Vec<String> {
    let name = format!("{host}/{repository}");
    let itself = selector.map(|selector| format!("{name}{selector}"));
    let above = name.match_indices('/').map(|(slash, _)| name[..slash].to_owned());
    let above: Vec<String> = above.collect();
    let domain = host.name();
    let domains = domain.match_indices('.').map(|(dot, _)| format!("*{}", &domain[dot..]));
    itself.into_iter().chain([name.clone()]).chain(above.into_iter().rev()).chain(domains).collect()
}

/// The scopes of the `dir:` transport that match an image in this directory, an absolute path without links: itself and
/// the directories above it, without `/`.
pub(super) fn of_directory(path: &Path) -> Vec<String> {
    let named = path.ancestors().filter(|above| above.parent().is_some());
    named.map(|above| above.to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Reference;

    fn scopes(image: &str) -> Vec<String> {
        let reference: Reference = image.parse().unwrap();
        of_image(&reference.host, &reference.repository, reference.selector.as_ref())
    }

    /// containers-policy.json(5), "docker:": fully expanded names, prefixes of them, and wildcards without a port.
    #[test]
    fn an_image_is_matched_by_itself_and_by_everything_above_it() {
        assert_eq!(
            scopes("busybox:latest"),
            ["docker.io/library/busybox:latest", "docker.io/library/busybox", "docker.io/library", "docker.io", "*.io"]
        );
        assert_eq!(
            scopes("my.registry.example.com:8443/ns/app:1"),
            [
                "my.registry.example.com:8443/ns/app:1",
                "my.registry.example.com:8443/ns/app",
                "my.registry.example.com:8443/ns",
                "my.registry.example.com:8443",
                "*.registry.example.com",
                "*.example.com",
                "*.com"
            ]
        );
        assert_eq!(scopes("localhost:5000/app:1"), ["localhost:5000/app:1", "localhost:5000/app", "localhost:5000"]);
        assert_eq!(scopes("[::1]:5000/app:1"), ["[::1]:5000/app:1", "[::1]:5000/app", "[::1]:5000"]);
    }

    /// containers-policy.json(5), "dir:": the top-level scope "/" is forbidden.
    #[test]
    fn a_directory_is_matched_by_itself_and_by_those_above_it() {
        assert_eq!(of_directory(Path::new("/usb/images/app:1")), ["/usb/images/app:1", "/usb/images", "/usb"]);
        assert_eq!(of_directory(Path::new("/")), [""; 0]);
    }
}
