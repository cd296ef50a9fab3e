//! Both ends of a sync, opened: what is read, and what is written.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::side::Side;
use super::{Before, From, Sync, To};
use crate::cli::bundle_output::{self, BundleRequest, Compress};
use crate::cli::flags::TRUE;
use crate::cli::output::note;
use crate::cli::registry_args::Connections;
use crate::cli::{Global, export, inspect, open_bundle};
use crate::containers::Registries;
use crate::content::{Contents, NamedImage};
use crate::credentials::ForHost;
use crate::dir::Tree;
use crate::error::{Error, Result};
use crate::jobs::export::BundleWriter;
use crate::jobs::import::ImportTarget;
use crate::jobs::sync::{SyncOptions, SyncTarget, TreeLayout};
use crate::jobs::verify::VerifiedBundle;
use crate::oci::{Host, Reference, Repository};
use crate::plan::Platforms;
use crate::progress::{Event, Progress};
use crate::registry::{Client, RegistryDestination};
use crate::select::Selection;
use crate::text::without_login;
use crate::transfer::Input;
use crate::trust::{KeyId, SigningKey};

/// What is read.
pub(super) enum SyncSource {
    Registries { client: Arc<Client>, selection: Selection },
    Tree(Tree),
    Bundle(VerifiedBundle),
}

/// What is written.
pub(super) enum SyncDestination {
    Registry {
        client: Client,
        target: ImportTarget,
        place: Arc<RegistryDestination>,
    },
    Directory {
        path: PathBuf,
        layout: TreeLayout,
    },
    Bundle {
        path: PathBuf,
        /// Nothing where nothing is to be written.
        making: Option<(BundleWriter, KeyId)>,
    },
}

impl SyncSource {
    pub(super) fn open(
        command: &Sync,
        before: &Before,
        registries: &Arc<Registries>,
        progress: &Arc<dyn Progress>,
        global: &Global,
    ) -> Result<Self> {
        let path = Path::new(&command.source);
        let selection = match command.src {
            From::Dir => return Tree::scan(path).map(SyncSource::Tree),
            From::Bundle => {
                let verified = open_bundle(path, &command.trust.required()?)?;
                if !global.quiet {
                    inspect::signer_lines(&verified.head.seal).lines().for_each(note);
                }
                return Ok(SyncSource::Bundle(verified));
            }
            From::Docker => {
                let reference: Reference = command.source.parse().map_err(|e| {
                    Error::usage("SOURCE is not an image and not a repository")
                        .caused_by(e)
                        .hint("write REGISTRY/REPOSITORY for all tags, or REGISTRY/REPOSITORY:TAG")
                })?;
                Selection { wanted: vec![reference.into()], ..Selection::default() }
            }
            From::Yaml => {
                let selection = Selection::from_yaml(&export::read_file(path)?, &path.display().to_string())?;
                let selection = if command.keep_going { selection } else { selection.into_valid()? };
                let warn = |text: &str| progress.event(Event::Warning(text));
                selection.warnings.iter().for_each(|registry| warn(registry));
                if selection.wanted.is_empty() && selection.failures.is_empty() {
                    let message = format!("{} names no images", path.display());
                    if command.dest == To::Bundle {
                        return Err(Error::usage(message).hint("a bundle without images is not made"));
                    }
                    warn(&format!("{message}: there is nothing to do"));
                }
                selection
            }
        };
        let side = &command.source_side;
        let written = selection.registries.iter().filter_map(|registry| {
            Some(ForHost { host: registry.host.clone(), credential: registry.credential.clone()? })
        });
        let hosts = selection.wanted.iter().map(|wanted| &wanted.host);
        let logins = side.login(command.authfile.as_ref())?.lookup_beside(hosts, written.collect())?;
        let connections = command.connections(before, side)?;
        let settings =
            command.effort.settings(connections, &selection.registries, registries.clone(), progress, logins)?;
        let client = Client::new(before.identified(settings)?)?;
        Ok(SyncSource::Registries { client: Arc::new(client), selection })
    }

    /// How skopeo writes what comes from here.
    pub(super) fn transport(&self) -> &'static str {
        match self {
            SyncSource::Registries { .. } => "docker://",
            SyncSource::Tree(_) => "dir:",
            SyncSource::Bundle(_) => "bundle:",
        }
    }

    /// What blobs are read from.
    pub(super) fn supply(self) -> Result<Input> {
        match self {
            SyncSource::Registries { client, .. } => Ok(Input::Source(client)),
            SyncSource::Tree(tree) => Ok(Input::Source(Arc::new(tree))),
            SyncSource::Bundle(verified) => verified.supply(),
        }
    }
}

impl SyncDestination {
    pub(super) fn open(
        command: &Sync,
        before: &Before,
        wishes: &SyncOptions,
        source: &SyncSource,
        registries: &Registries,
        progress: &Arc<dyn Progress>,
    ) -> Result<Self> {
        let path = Path::new(&command.destination);
        if command.destination.is_empty() {
            return Err(Error::usage("DESTINATION is empty").hint("name a directory, a bundle or a registry"));
        }
        match command.dest {
            To::Docker => {
                let target = target(&command.destination)?;
                let side = &command.destination_side;
                let logins = side.login(command.authfile.as_ref())?.lookup([&target.host])?;
                let prefix = target.prefix.as_ref().map(|prefix| format!("/{prefix}")).unwrap_or_default();
                let name = format!("{}{prefix}", target.host);
                check_blocked(&name, registries)?;
                let verify = command.verify(before, side.tls_verify).or(registries.is_insecure(&name).then_some(false));
                let connections = Connections { tls_verify: verify, ..command.connections(before, side)? };
                let settings = command.effort.settings(connections, &[], Arc::default(), progress, logins)?;
                let client = Client::new(before.identified(settings)?)?;
                // As in skopeo, a tag with a subject is a tag and nothing else: no fallback tag is written for it.
                let place = RegistryDestination::new(&client, &target.host, target.prefix.clone())
                    .list_referrers(command.referrers);
                Ok(SyncDestination::Registry { client, target, place: Arc::new(place) })
            }
            To::Dir => {
                if let SyncSource::Tree(_) = source {
                    apart(Path::new(&command.source), path)?;
                }
                let names = wishes.plan.names.clone();
                let layout = match source {
                    SyncSource::Tree(tree) => TreeLayout::of_tree(names, tree),
                    SyncSource::Registries { .. } | SyncSource::Bundle(_) => TreeLayout::new(names),
                };
                Ok(SyncDestination::Directory { path: path.to_owned(), layout })
            }
            To::Bundle => {
                // A tree is here, and is read again by each run.
                let selection = match source {
                    SyncSource::Registries { selection, .. } => {
                        Some(carried(command, before, registries, selection, wishes))
                    }
                    SyncSource::Tree(_) | SyncSource::Bundle(_) => None,
                };
                let made = |key: &PathBuf| {
                    let key = SigningKey::load(key)?;
                    let id = key.public_key().key_id();
                    let (compress, json, state) = (Compress::None, command.json, &command.state);
                    let wanted = BundleRequest { output: path, key, compress, json, state, selection };
                    Ok((bundle_output::bundle(wanted, progress)?, id))
                };
                let making = command.key.as_ref().filter(|_| !command.dry_run).map(made).transpose()?;
                Ok(SyncDestination::Bundle { path: path.to_owned(), making })
            }
        }
    }

    /// Refuses to write what `registries.conf` blocks.
    pub(super) fn check_blocked(&self, contents: &Contents, registries: &Registries) -> Result<()> {
        let SyncDestination::Registry { target, .. } = self else { return Ok(()) };
        let prefix = target.prefix.as_ref().map(|prefix| format!("{prefix}/")).unwrap_or_default();
        let names = contents.images.iter().map(|image| image.name.repository());
        let mut names = names.map(|repository| format!("{}/{prefix}{repository}", target.host));
        names.try_for_each(|name| check_blocked(&name, registries))
    }

    pub(super) fn onto(&self) -> SyncTarget {
        match self {
            SyncDestination::Registry { place, .. } => SyncTarget::Registry(place.clone()),
            SyncDestination::Directory { path, .. } => SyncTarget::Directory(path.clone()),
            SyncDestination::Bundle { .. } => SyncTarget::Bundle,
        }
    }

    /// Where an image lands, as skopeo writes it.
    pub(super) fn place(&self, image: &NamedImage) -> Result<String> {
        match self {
            SyncDestination::Registry { target, .. } => {
                let place = target.reference(&image.name)?;
                let hub = place.strip_prefix("docker.io/");
                let familiar = hub.map(|rest| rest.strip_prefix("library/").unwrap_or(rest));
                Ok(format!("docker://{}", familiar.unwrap_or(&place)))
            }
            SyncDestination::Directory { path, layout } => {
                Ok(format!("dir:{}", cleaned(&path.join(layout.directory(image))).display()))
            }
            SyncDestination::Bundle { path, .. } => Ok(format!("bundle:{}/{}", path.display(), image.name)),
        }
    }
}

impl Sync {
    /// To whom and how one side connects.
    fn connections<const N: usize>(&self, before: &Before, side: &Side<N>) -> Result<Connections> {
        let tls_verify = self.verify(before, side.tls_verify);
        Ok(Connections { tls_verify, cert_dir: side.certificates()?, redirects: side.redirects() })
    }

    /// Whether certificates are checked on a side, if that was said.
    fn verify(&self, before: &Before, side: Option<bool>) -> Option<bool> {
        let both = self.tls_verify.as_ref().or(before.tls_verify.as_ref());
        side.or(both.map(|text| TRUE.contains(&text.as_str())))
    }
}

fn check_blocked(name: &str, registries: &Registries) -> Result<()> {
    match registries.blocked(name) {
        Some(blocked) => Err(Error::refused(blocked).hint("choose another destination, or change that file")),
        None => Ok(()),
    }
}

/// All that decides what is carried.
fn carried(
    command: &Sync,
    before: &Before,
    registries: &Registries,
    selection: &Selection,
    wishes: &SyncOptions,
) -> Value {
    let SyncOptions { plan, format } = wishes;
    let platforms = match &plan.platforms {
        Platforms::All => None,
        Platforms::Only(wish) => Some(vec![wish.to_string()]),
        Platforms::Index(wishes) => Some(wishes.iter().map(ToString::to_string).collect()),
        Platforms::Best(best) => Some(best.iter().map(ToString::to_string).collect()),
    };
    json!({
        "command": "sync",
        "selection": selection.to_json(),
        "names": plan.names.policy.to_string(),
        "suffix": plan.names.suffix,
        "platforms": platforms,
        "referrers": plan.referrers,
        "keepGoing": plan.keep_going,
        "format": format.map(|format| format.to_string()),
        // What anybody in between may have planned is not continued by a run that checks certificates.
        "registries": registries.fingerprint().to_string(),
        "tlsVerify": command.verify(before, command.source_side.tls_verify).unwrap_or(true),
    })
}

/// A tree is not written into the tree that is read: the next run would find its own work there.
fn apart(source: &Path, destination: &Path) -> Result<()> {
    let there = destination.ancestors().find_map(|path| path.canonicalize().ok());
    // A relative path ends with nothing: then it is made here.
    let there = there.or_else(|| std::env::current_dir().ok());
    match (source.canonicalize(), there) {
        (Ok(source), Some(there)) if there.starts_with(&source) => {
            Err(Error::usage(format!("DESTINATION {} is inside SOURCE {}", destination.display(), source.display()))
                .hint("choose a directory beside it"))
        }
        _ => Ok(()),
    }
}

/// `REGISTRY[/PREFIX]`, read as skopeo reads it: what does not look like a registry is a path on Docker Hub.
fn target(text: &str) -> Result<ImportTarget> {
    let rest = cleaned(Path::new(text.strip_prefix("docker://").unwrap_or(text)));
    let rest = rest.to_str().unwrap_or_default();
    let fault = || {
        Error::usage(format!("DESTINATION {:?} is not REGISTRY[/PREFIX]", without_login(text)))
            .hint("write HOST[:PORT], such as registry.local:5000, and perhaps a path in lower case: HOST/mirror")
    };
    if rest.is_empty() || text.trim_start_matches("docker://").contains("://") || rest.contains('@') {
        return Err(fault());
    }
    let reference: Reference = format!("{rest}/x").parse().map_err(|e| fault().caused_by(e))?;
    let prefix = match reference.repository.as_str().rsplit_once('/') {
        None => None,
        // What Docker Hub puts in front by itself.
        Some(("library", _)) if reference.host == docker_hub() && !rest.ends_with("library") => None,
        Some((prefix, _)) => Some(prefix.parse::<Repository>().map_err(|e| fault().caused_by(e))?),
    };
    Ok(ImportTarget { host: reference.host, prefix })
}

fn docker_hub() -> Host {
    Host::DOCKER_HUB.parse().expect("a constant name is one")
}

/// Without what says nothing in a path, as skopeo shows it.
fn cleaned(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(cleaned.components().next_back(), Some(Component::Normal(_))) => {
                cleaned.pop();
            }
            part => cleaned.push(part),
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("registry.local:5000", "registry.local:5000", None)]
    #[case("registry.local/test/", "registry.local", Some("test"))]
    #[case("docker://registry.local/a/b", "registry.local", Some("a/b"))]
    #[case("registry.local//x", "registry.local", Some("x"))]
    #[case("registry.local:5000/./a/../x//", "registry.local:5000", Some("x"))]
    #[case("me", "docker.io", Some("me"))]
    #[case("docker.io", "docker.io", None)]
    #[case("localhost", "localhost", None)]
    fn a_destination_is_read_as_skopeo_does(#[case] text: &str, #[case] host: &str, #[case] prefix: Option<&str>) {
        let target = target(text).unwrap();
        assert_eq!((target.host.as_str(), target.prefix.as_ref().map(Repository::as_str)), (host, prefix));
    }

    #[test]
    fn what_is_no_registry_is_refused() {
        for text in ["", "/", "https://reg.local", "reg.local/UPPER", "reg.local/a:1", "reg.local:99999"] {
            assert!(target(text).is_err(), "{text}");
        }
    }

    #[test]
    fn paths_are_shown_without_what_says_nothing() {
        assert_eq!(cleaned(Path::new("./usb/./a/../b:1")), Path::new("usb/b:1"));
        assert_eq!(cleaned(Path::new("../usb")), Path::new("../usb"));
    }
}
