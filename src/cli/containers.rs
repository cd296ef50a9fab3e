//! Where `policy.json`, `registries.conf` and `registries.d` are, and what they say: the files that podman, buildah and
//! skopeo share, looked for where the newest skopeo looks (`configfile` of containers/container-libs).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::containers::{MAX_FILE, Policy, Registries, Rules, SignatureStores};
use crate::error::{Error, Result};
use crate::progress::{Event, Progress};

#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Configuration of podman and skopeo")]
pub(super) struct ContainersFiles {
    /// Check images against FILE instead of ~/.config/containers/policy.json or /etc/containers/policy.json
    #[arg(long, value_name = "FILE")]
    pub(super) policy: Option<PathBuf>,
    /// Check images against no policy.json
    #[arg(long)]
    pub(super) insecure_policy: bool,
    /// Read what is blocked, rewritten and mirrored from FILE instead of ~/.config/containers/registries.conf or
    /// /etc/containers/registries.conf [env: CONTAINERS_REGISTRIES_CONF]
    #[arg(long, value_name = "FILE")]
    pub(super) registries_conf: Option<PathBuf>,
    /// Read which images have signatures beside their registry from DIR instead of ~/.config/containers/registries.d or
    /// /etc/containers/registries.d
    #[arg(long = "registries.d", value_name = "DIR")]
    pub(super) registries_d: Option<PathBuf>,
}

impl ContainersFiles {
    /// What is checked of images.
    ///
    /// # Errors
    /// `Io` for a file that is named and cannot be read; `Usage` for one that is not understood.
    pub(super) fn rules(&self) -> Result<Rules> {
        Ok(Rules { policy: self.read_policy()?.map(Arc::new), stores: Arc::new(self.signature_stores()?) })
    }

    /// Nothing where there is no such file; skopeo demands one.
    fn read_policy(&self) -> Result<Option<Policy>> {
        if self.insecure_policy {
            return Ok(None);
        }
        let parse = |path: &Path, text: String| Policy::parse(text.as_bytes(), &path.display().to_string()).map(Some);
        if let Some(named) = self.policy.clone().or_else(|| variable("CONTAINERS_POLICY_JSON")) {
            return parse(&named, read_named(&named)?);
        }
        match first(directories().into_iter().map(|directory| directory.join("policy.json")))? {
            Some((path, text)) => parse(&path, text),
            None => Ok(None),
        }
    }

    /// What is said of registries. What is not honoured is a warning.
    ///
    /// # Errors
    /// `Io` for a file that is named and cannot be read; `Usage` for one that is not understood.
    pub(super) fn registries(&self, progress: &dyn Progress) -> Result<Arc<Registries>> {
        let mut files: Vec<(PathBuf, String)> = Vec::new();
        let by_variable = variable("CONTAINERS_REGISTRIES_CONF").filter(|_| self.registries_conf.is_none());
        let names_all = by_variable.is_some();
        match self.registries_conf.clone().or(by_variable) {
            Some(named) => files.push((named.clone(), read_named(&named)?)),
            None => files.extend(first(directories().into_iter().map(|directory| directory.join("registries.conf")))?),
        }
        // The variable stands for everything, the option for the main file.
        if !names_all {
            files.extend(drop_ins()?);
        }
        if let Some(last) = variable("CONTAINERS_REGISTRIES_CONF_OVERRIDE") {
            files.push((last.clone(), read_named(&last)?));
        }
        let named: Vec<(String, String)> =
            files.into_iter().map(|(path, text)| (path.display().to_string(), text)).collect();
        let registries = Registries::read(named.iter().map(|(name, text)| (name.as_str(), text.as_str())))?;
        if let Some(warning) = registries.warning() {
            progress.event(Event::Warning(&warning));
        }
        Ok(Arc::new(registries))
    }

    fn signature_stores(&self) -> Result<SignatureStores> {
        let directory = match &self.registries_d {
            Some(named) => Some(named.clone()),
            None => {
                let places = user_directory().into_iter().chain([PathBuf::from(SYSTEM)]);
                places.map(|directory| directory.join("registries.d")).find(|directory| directory.exists())
            }
        };
        let mut files = Vec::new();
        for path in directory.iter().map(|directory| listed(directory, ".yaml")).collect::<Result<Vec<_>>>()?.concat() {
            if let Some(text) = read(&path)? {
                files.push((path.display().to_string(), text));
            }
        }
        let stores = SignatureStores::read(files.iter().map(|(name, text)| (name.as_str(), text.as_str())))?;
        // containers-registries.d(5), "Built-in Defaults".
        let built_in = match rustix::process::geteuid().is_root() {
            true => Some(PathBuf::from("/var/lib/containers/sigstore")),
            false => variable("HOME").map(|home| home.join(".local/share/containers/sigstore")),
        };
        let built_in = built_in.filter(|store| store.is_dir());
        Ok(stores.with_built_in(built_in.map(|store| format!("file://{}", store.display()))))
    }
}

/// Drop-in files in the order of their names. One of a directory that counts more takes the place of one of the same name.
fn drop_ins() -> Result<Vec<(PathBuf, String)>> {
    let mut directories: Vec<PathBuf> = Vec::new();
    let user = rustix::process::geteuid();
    for system in [VENDOR, SYSTEM] {
        let below = |name: String| Path::new(system).join(name);
        // From the one that counts least to the one that counts most.
        let kind = if user.is_root() { "rootful" } else { "rootless" };
        if !user.is_root() {
            directories.push(below(format!("registries.rootless.conf.d/{}", user.as_raw())));
        }
        directories.push(below(format!("registries.{kind}.conf.d")));
        directories.push(below("registries.conf.d".to_owned()));
    }
    directories.extend(user_directory().map(|user| user.join("registries.conf.d")));
    let mut by_name = BTreeMap::new();
    for directory in directories {
        for path in listed(&directory, ".conf")? {
            by_name.insert(path.file_name().map(ToOwned::to_owned), path);
        }
    }
    let mut files = Vec::new();
    for path in by_name.into_values() {
        files.extend(read(&path)?.map(|text| (path, text)));
    }
    Ok(files)
}

/// The files of a directory with this ending, sorted; nothing if there is no such directory.
fn listed(directory: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let fault = |e| Error::io(format!("cannot list {}", directory.display()), e);
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(fault(e)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(fault)?.path();
        if path.as_os_str().as_encoded_bytes().ends_with(ending.as_bytes()) && !path.is_dir() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The directories of configuration files, the one that counts most first.
fn directories() -> Vec<PathBuf> {
    user_directory().into_iter().chain([SYSTEM, VENDOR].map(PathBuf::from)).collect()
}

fn user_directory() -> Option<PathBuf> {
    let home = || variable("HOME").map(|home| home.join(".config"));
    variable("XDG_CONFIG_HOME").or_else(home).map(|config| config.join("containers"))
}

/// The first of these files that is there.
fn first(paths: impl IntoIterator<Item = PathBuf>) -> Result<Option<(PathBuf, String)>> {
    for path in paths {
        if let Some(text) = read(&path)? {
            return Ok(Some((path, text)));
        }
    }
    Ok(None)
}

/// A file that somebody named, and that must be there.
fn read_named(path: &Path) -> Result<String> {
    read(path)?.ok_or_else(|| {
        Error::usage(format!("there is no file {}", path.display()))
            .hint("check the option, or the variable, that names it")
    })
}

/// One file; nothing if there is none.
fn read(path: &Path) -> Result<Option<String>> {
    let fault = |e| Error::io(format!("cannot read {}", path.display()), e);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(fault(e)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Error::usage(format!("{} has more than {MAX_FILE} bytes", path.display())));
    }
    let text = String::from_utf8(bytes).map_err(|_| Error::usage(format!("{} is not UTF-8 text", path.display())))?;
    Ok(Some(text))
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// What the administrator configures.
const SYSTEM: &str = "/etc/containers";
/// What the distribution ships.
const VENDOR: &str = "/usr/share/containers";
