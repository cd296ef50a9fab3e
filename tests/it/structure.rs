//! The design's layers: imports point down one list only, no files import each other in a circle, and what a layer must
//! not know it does not name.
//!
//! An edge is the use of an item by a file, to the file that defines it: `pub use` is followed, and is no edge itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree, Visibility};

/// From the top down; a module may use those on later lines.
const LAYERS: [&str; 24] = [
    "cli",
    "guide",
    "jobs",
    "serve",
    "transfer",
    "plan",
    "select",
    "registry",
    "containers",
    "credentials",
    "layout",
    "dir",
    "bundle",
    "state",
    "trust",
    "files",
    "content",
    "progress",
    "oci",
    "clock",
    "error",
    "text",
    "lib",
    "main",
];

/// The same inside of folders. Files of a folder that are not listed stand above those that are.
const INSIDE: [(&str, &[&str]); 3] = [
    ("bundle", &["archive", "directory", "resume", "format"]),
    ("registry", &["push", "pull", "client", "auth", "http"]),
    ("jobs", &["export", "import", "sync", "verify"]),
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
    let rank = |module: &str| LAYERS.iter().position(|layer| *layer == module);
    let mut wrong = Vec::new();
    for (from, to, path) in Sources::read().edges() {
        let (above, below) = (rank(&from[0]), rank(&to[0]));
        if above.is_none() || below.is_none() || (from[0] != to[0] && above >= below) {
            wrong.push(format!("{} uses {path} of {}", from.join("::"), to.join("::")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn imports_point_down_inside_of_folders() {
    let mut wrong = Vec::new();
    for (from, to, path) in Sources::read().edges() {
        for (folder, order) in INSIDE {
            let rank = |file: &[String]| match file {
                [first, second, ..] if first == folder => order.iter().position(|name| name == second),
                _ => None,
            };
            if from[0] == folder && to[0] == folder && rank(&from) > rank(&to) {
                wrong.push(format!("{} uses {path} of {}", from.join("::"), to.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The file of a folder may use the files in the folder that use it: together they are one thing.
#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut uses: BTreeMap<Names, BTreeSet<Names>> = BTreeMap::new();
    for (from, to, _) in Sources::read().edges() {
        if !to.starts_with(&from) {
            uses.entry(from).or_default().insert(to);
        }
    }
    let reaches_itself = |from: &&Names| {
        let mut seen: BTreeSet<&Names> = BTreeSet::new();
        let mut stack = vec![*from];
        while let Some(file) = stack.pop() {
            stack.extend(uses.get(file).into_iter().flatten().filter(|used| seen.insert(used)));
        }
        seen.contains(*from)
    };
    let in_circles: BTreeSet<&Names> = uses.keys().filter(reaches_itself).collect();
    let shown = in_circles.iter().map(|from| {
        let used = uses[*from].iter().filter(|used| in_circles.contains(used)).map(|used| used.join("::"));
        format!("{} -> {}", from.join("::"), used.collect::<Vec<_>>().join(", "))
    });
    let shown: Vec<String> = shown.collect();
    assert!(shown.is_empty(), "{}", shown.join("\n"));
}

#[test]
fn what_one_layer_owns_no_other_names() {
    let mut wrong = Vec::new();
    for (file, text) in texts() {
        let module = file.split(['/', '.']).next().unwrap_or_default();
        let code = without_comments_and_tests(&text);
        for (name, owners) in OWNED_CRATES {
            if code.contains(&format!("{name}::")) && !owners.contains(&module) {
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

/// Every source file but the two roots and those that are tests, by its path below `src`.
fn texts() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut texts = BTreeMap::new();
    for entry in walkdir::WalkDir::new(&root) {
        let entry = entry.expect("src can be walked");
        let path = entry.path().strip_prefix(&root).expect("below src");
        let name = path.to_string_lossy().into_owned();
        let is_test = name.contains("tests") || name.contains("suite") || name.ends_with("fixture.rs");
        let is_root = ["main.rs", "lib.rs"].contains(&name.as_str());
        if path.extension().is_some_and(|extension| extension == "rs") && !is_test && !is_root {
            texts.insert(name, fs::read_to_string(entry.path()).expect("a source file"));
        }
    }
    assert!(texts.len() > 20, "the walk must find the sources");
    texts
}

fn without_comments_and_tests(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

/// A path of the crate, from its root.
type Names = Vec<String>;

/// What one file says.
#[derive(Default)]
struct Source {
    /// The names that it brings in by `use`, with what they stand for.
    names: HashMap<String, Names>,
    /// The modules of which it brings in everything.
    globs: Vec<Names>,
    /// The paths that it uses.
    used: BTreeSet<Names>,
}

struct Sources(BTreeMap<Names, Source>);

impl Sources {
    fn read() -> Sources {
        let texts = texts();
        let module = |file: &str| -> Names { file.trim_end_matches(".rs").split('/').map(str::to_owned).collect() };
        let modules: BTreeSet<Names> = texts.keys().map(|file| module(file)).collect();
        let read = |(file, text): (&String, &String)| {
            let module = module(file);
            let parsed = syn::parse_file(text).unwrap_or_else(|e| panic!("{file}: {e}"));
            let mut reader = Reader { module: module.clone(), modules: &modules, source: Source::default() };
            reader.visit_file(&parsed);
            (module, reader.source)
        };
        Sources(texts.iter().map(read).collect())
    }

    /// Which file uses which other one, and by which path.
    fn edges(&self) -> BTreeSet<(Names, Names, String)> {
        let mut edges = BTreeSet::new();
        for (from, source) in &self.0 {
            for path in &source.used {
                let to = self.defining(path, 0);
                if let Some(to) = to.filter(|to| to != from) {
                    edges.insert((from.clone(), to, path.join("::")));
                }
            }
        }
        edges
    }

    /// The file that defines what `path` stands for.
    fn defining(&self, path: &[String], depth: usize) -> Option<Names> {
        let length = (1..=path.len()).rev().find(|length| self.0.contains_key(&path[..*length]))?;
        let (module, rest) = path.split_at(length);
        let source = &self.0[module];
        let found = rest.first().filter(|_| depth < 8).and_then(|name| {
            let named = source.names.get(name).cloned();
            let known = named.map(|target| [target, rest[1..].to_vec()].concat());
            known.and_then(|target| self.defining(&target, depth + 1))
        });
        Some(found.unwrap_or_else(|| module.to_vec()))
    }
}

/// Collects what a file brings in and uses, but for its tests.
struct Reader<'a> {
    module: Names,
    modules: &'a BTreeSet<Names>,
    source: Source,
}

impl Reader<'_> {
    /// `path` from the root of the crate; nothing for what is not of this crate.
    fn absolute(&self, path: &[String]) -> Option<Names> {
        let mut base = self.module.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => return Some(path[1..].to_vec()),
            "self" => rest = &path[1..],
            "super" => {}
            name if self.modules.contains(&[base.clone(), vec![name.to_owned()]].concat()) => {}
            _ => return None,
        }
        while rest.first().is_some_and(|name| name == "super") {
            base.pop();
            rest = &rest[1..];
        }
        Some([base, rest.to_vec()].concat())
    }

    fn bring_in(&mut self, tree: &UseTree, before: &Names, is_public: bool) {
        let with = |name: &syn::Ident| [before.clone(), vec![name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.bring_in(&path.tree, &with(&path.ident), is_public),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.bring_in(tree, before, is_public)),
            UseTree::Glob(_) => self.source.globs.extend(self.absolute(before)),
            UseTree::Name(name) if name.ident == "self" => {
                self.name(before.clone(), before.last().cloned().unwrap_or_default(), is_public);
            }
            UseTree::Name(name) => self.name(with(&name.ident), name.ident.to_string(), is_public),
            UseTree::Rename(rename) => self.name(with(&rename.ident), rename.rename.to_string(), is_public),
        }
    }

    fn name(&mut self, path: Names, name: String, is_public: bool) {
        let Some(path) = self.absolute(&path) else { return };
        if !is_public {
            self.source.used.insert(path.clone());
        }
        self.source.names.insert(name, path);
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let list = attribute.meta.require_list();
        attribute.path().is_ident("cfg") && list.is_ok_and(|list| list.tokens.to_string() == "test")
    })
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Mod(module) if is_test(&module.attrs) => {}
            Item::Use(item) if is_test(&item.attrs) => {}
            Item::Use(item) => {
                let is_public = !matches!(item.vis, Visibility::Inherited);
                self.bring_in(&item.tree, &Names::new(), is_public);
            }
            item => visit::visit_item(self, item),
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if let Some(path) = self.absolute(&names).filter(|path| names.len() > 1 && !path.is_empty()) {
            self.source.used.insert(path);
        }
        visit::visit_path(self, path);
    }
}
