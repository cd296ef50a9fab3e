//! Which platforms this machine runs, the most capable first: as podman and skopeo choose from an index.

use crate::oci::Platform;

/// What is put in the place of what this machine is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Override {
    pub(super) os: Option<String>,
    pub(super) architecture: Option<String>,
    pub(super) variant: Option<String>,
}

impl Override {
    /// The platforms that fit, in the order of preference; never empty.
    pub(super) fn platforms(&self) -> Vec<Platform> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let (architecture, own_variant) = match given(&self.architecture) {
            // Nothing is known of the machine that is meant.
            Some(architecture) => (architecture, None),
            None => (architecture().to_owned(), variant()),
        };
        let os = given(&self.os).unwrap_or_else(|| os().to_owned());
        let known: &[&str] = match architecture.as_str() {
            "arm" => &["v8", "v7", "v6", "v5"],
            "arm64" => &["v8"],
            _ => &[],
        };
        // One that is known runs those after it; the one without a variant fits always.
        let variants: Vec<Option<String>> = match given(&self.variant).or(own_variant) {
            Some(variant) => match known.iter().position(|known| *known == variant) {
                Some(at) => known[at..].iter().map(|variant| Some((*variant).to_owned())).chain([None]).collect(),
                None => vec![Some(variant), None],
            },
            None => [None].into_iter().chain(known.iter().map(|variant| Some((*variant).to_owned()))).collect(),
        };
        variants.iter().map(|variant| Platform::new(&os, &architecture, variant.as_deref())).collect()
    }
}

/// As Go, and so every index, calls it.
fn os() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        os => os,
    }
}

/// As Go, and so every index, calls it.
fn architecture() -> &'static str {
    let little = cfg!(target_endian = "little");
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" if little => "ppc64le",
        "powerpc64" => "ppc64",
        "mips64" if little => "mips64le",
        "mips" if little => "mipsle",
        "loongarch64" => "loong64",
        architecture => architecture,
    }
}

/// What sort of ARM this is.
fn variant() -> Option<String> {
    match architecture() {
        "arm64" => Some("v8".to_owned()),
        "arm" => arm_variant(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
        _ => None,
    }
}

fn arm_variant(cpuinfo: &str) -> Option<String> {
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_lowercase())
    };
    match field("CPU architecture")?.as_str() {
        // The first Raspberry Pi says 7 and is none.
        "7" if field("model name").is_some_and(|model| model.starts_with("armv6-compatible")) => Some("v6".to_owned()),
        "8" | "aarch64" => Some("v8".to_owned()),
        "7" | "7m" | "?(12)" | "?(13)" | "?(14)" | "?(15)" | "?(16)" | "?(17)" => Some("v7".to_owned()),
        "6" | "6tej" => Some("v6".to_owned()),
        "5" | "5t" | "5te" | "5tej" => Some("v5".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("", "amd64", "", "linux/amd64")]
    #[case("windows", "amd64", "", "windows/amd64")]
    #[case("", "arm", "", "linux/arm linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5")]
    #[case("", "arm", "v7", "linux/arm/v7 linux/arm/v6 linux/arm/v5 linux/arm")]
    #[case("", "arm64", "v8", "linux/arm64/v8 linux/arm64")]
    #[case("", "amd64", "v3", "linux/amd64/v3 linux/amd64")]
    fn platforms_are_tried_in_the_order_of_skopeo(
        #[case] os: &str,
        #[case] architecture: &str,
        #[case] variant: &str,
        #[case] expected: &str,
    ) {
        let [os, architecture, variant] = [os, architecture, variant].map(|text| Some(text.to_owned()));
        let found = Override { os, architecture, variant }.platforms();
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.join(" "), expected.replace("linux", super::os()));
    }

    #[test]
    fn arm_is_told_by_what_the_kernel_says() {
        assert_eq!(arm_variant("CPU architecture: 7\n").as_deref(), Some("v7"));
        assert_eq!(
            arm_variant("model name\t: ARMv6-compatible processor\nCPU architecture: 7\n").as_deref(),
            Some("v6")
        );
        assert_eq!(arm_variant(""), None);
    }
}
