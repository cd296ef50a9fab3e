//! The design's layers: imports point down one list only, and what a layer must not know it does not name.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// From the top down; a module may use those on later lines, and those on its own line that it owns.
const LAYERS: &[&[&str]] = &[
    &["cli"],
    &["guide"],
    &["export", "import", "sync", "serve"],
    &["verify"],
    &["transfer"],
    &["plan"],
    &["selection"],
    &["naming"],
    &["registry"],
    &["containers", "credentials"],
    &["layout", "dir"],
    &["bundle"],
    &["state"],
    &["trust"],
    &["files"],
    &["place"],
    &["progress"],
    &["oci"],
    &["clock"],
    &["error"],
    &["text"],
    &[],
];

/// Crates that only one module may name.
const OWNED_CRATES: [(&str, &[&str]); 6] = [
    ("clap", &["cli"]),
    ("indicatif", &["cli"]),
    ("reqwest", &["registry"]),
    ("ed25519_dalek", &["trust"]),
    ("axum", &["serve"]),
    ("tracing_subscriber", &["cli"]),
];

/// What the library must leave to `cli`: the terminal, the environment, the process.
const ONLY_CLI: [&str; 7] =
    ["std::env", "println!", "eprintln!", "io::stdout", "io::stderr", "io::stdin", "process::exit"];

#[test]
fn imports_point_down() {
    let rank = |module: &str| LAYERS.iter().position(|layer| layer.contains(&module));
    let mut wrong = Vec::new();
    for (file, (module, code)) in sources() {
        let Some(own) = rank(&module) else {
            wrong.push(format!("{file}: the layer {module} is not in the list"));
            continue;
        };
        for used in crate_paths(&code) {
            let allowed =
                used == module || rank(&used).is_some_and(|used| used > own) || used == "Result" || used == "Error";
            if !allowed {
                wrong.push(format!("{file}: {module} uses {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_one_layer_owns_no_other_names() {
    let mut wrong = Vec::new();
    for (file, (module, code)) in sources() {
        for (name, owners) in OWNED_CRATES {
            if code.contains(&format!("{name}::")) && !owners.contains(&module.as_str()) {
                wrong.push(format!("{file} names {name}"));
            }
        }
        if module != "cli" {
            wrong
                .extend(ONLY_CLI.iter().filter(|word| code.contains(**word)).map(|word| format!("{file} uses {word}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every source file but the two roots: its path, its top module, and its code without comments and tests.
fn sources() -> BTreeMap<String, (String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = BTreeMap::new();
    for entry in walkdir::WalkDir::new(&root) {
        let entry = entry.expect("src can be walked");
        let path = entry.path().strip_prefix(&root).expect("below src").to_path_buf();
        let name = path.to_string_lossy().into_owned();
        let is_test = name.ends_with("tests.rs") || name.contains("suite");
        let is_root = ["main.rs", "lib.rs"].contains(&name.as_str());
        if path.extension().is_none_or(|extension| extension != "rs") || is_test || is_root {
            continue;
        }
        let module = path.components().next().expect("not empty").as_os_str().to_string_lossy().replace(".rs", "");
        let text = fs::read_to_string(entry.path()).expect("a source file");
        sources.insert(name, (module, without_comments_and_tests(&text)));
    }
    assert!(sources.len() > 20, "the walk must find the sources");
    sources
}

fn without_comments_and_tests(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

/// The first segments after `crate::`, also in `use crate::{a, b::C};`.
fn crate_paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for after in code.split("crate::").skip(1) {
        let word =
            |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match after.strip_prefix('{') {
            Some(group) => paths.extend(group.split(['}', ';']).next().unwrap_or_default().split(',').map(word)),
            None => paths.push(word(after)),
        }
    }
    paths.retain(|path| !path.is_empty());
    paths
}
