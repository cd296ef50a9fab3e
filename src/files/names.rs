//! Names that some file systems do not hold.

/// Why a medium with FAT, exFAT or NTFS may refuse `name`, as a sentence for a hint; nothing if nothing in it is known to
/// be refused. The rules are those of Windows, which drivers of other systems follow for such media.
pub(crate) fn why_refused(name: &str) -> Option<String> {
    let medium = "a medium with FAT, exFAT or NTFS cannot hold";
    if let Some(c) = name.chars().find(|c| RESERVED.contains(c) || c.is_ascii_control()) {
        return Some(format!("{medium} {c:?} in names"));
    }
    if name.ends_with(['.', ' ']) {
        return Some(format!("{medium} names that end with a dot or a space"));
    }
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_lowercase();
    let numbered = |device: &str| {
        stem.strip_prefix(device).is_some_and(|number| number.len() == 1 && ("1"..="9").contains(&number))
    };
    let is_device = ["con", "prn", "aux", "nul"].contains(&stem.as_str()) || numbered("com") || numbered("lpt");
    is_device.then(|| format!("{medium} a name that begins with {stem:?}, which stands for a device"))
}

const RESERVED: [char; 8] = ['<', '>', ':', '"', '|', '?', '*', '\\'];

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("rel:1.tar", "':' in names")]
    #[case("a?", "'?' in names")]
    #[case("x.", "a dot or a space")]
    #[case("con.tar", "\"con\"")]
    #[case("CON", "\"con\"")]
    #[case("com1.tar.zst", "\"com1\"")]
    fn what_windows_does_not_hold_is_explained(#[case] name: &str, #[case] why: &str) {
        assert!(why_refused(name).unwrap().contains(why), "{:?}", why_refused(name));
    }

    #[rstest]
    #[case("app.tar")]
    #[case("console.tar")]
    #[case("com10")]
    #[case("com")]
    #[case("größe 1")]
    fn other_names_are_not_explained(#[case] name: &str) {
        assert_eq!(why_refused(name), None);
    }
}
