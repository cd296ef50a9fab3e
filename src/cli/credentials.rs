//! Logins, the same for every command that speaks to registries: from options, or from the files of docker and podman.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::password;
use crate::credentials::{
    AuthFile, Credential, Files, FirstMatch, ForHost, Lookup, MAX_AUTH_FILE, NoFile, Nobody, Secret,
};
use crate::error::{Error, Result};
use crate::files::{Exposure, exposure};
use crate::oci::Host;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Logins")]
pub(super) struct Credentials {
    /// Take logins from FILE only (podman's auth.json or docker's config.json) [env: REGISTRY_AUTH_FILE]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["no_creds", "creds", "username", "registry_token"])]
    authfile: Option<PathBuf>,
    /// Log in with this; everybody on this machine can see it in the list of processes, so better use sealift
    /// login, or --username with --password-stdin
    #[arg(long, value_name = "USER:PASSWORD", conflicts_with_all = ["no_creds", "username", "registry_token"])]
    creds: Option<Secret>,
    /// Log in as this user
    #[arg(long, value_name = "USER", requires = "password_stdin", conflicts_with_all = ["no_creds", "registry_token"])]
    username: Option<String>,
    /// With --username: the password is the first line of stdin
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// Show this bearer token to the registry; visible like --creds
    #[arg(long, value_name = "TOKEN", conflicts_with = "no_creds")]
    registry_token: Option<Secret>,
    /// Ask as nobody, whatever logins there are
    #[arg(long)]
    no_creds: bool,
}

/// What options say about logins, resolved.
#[derive(Default)]
pub(super) struct LoginOptions {
    /// The only file of logins.
    pub(super) authfile: Option<PathBuf>,
    /// For the one registry of the run.
    pub(super) credential: Option<Credential>,
    /// Nobody, whatever there is.
    pub(super) no_creds: bool,
}

impl Credentials {
    /// See [`Login::lookup`].
    pub(super) fn lookup<'a>(&self, hosts: impl IntoIterator<Item = &'a Host>) -> Result<Arc<dyn Lookup>> {
        self.login()?.lookup(hosts)
    }

    /// See [`Login::lookup_beside`].
    pub(super) fn lookup_beside<'a>(
        &self,
        hosts: impl IntoIterator<Item = &'a Host>,
        written: Vec<ForHost>,
    ) -> Result<Arc<dyn Lookup>> {
        self.login()?.lookup_beside(hosts, written)
    }

    /// Whether stdin is taken by a password.
    pub(super) fn reads_stdin(&self) -> bool {
        self.password_stdin
    }

    fn login(&self) -> Result<LoginOptions> {
        Ok(LoginOptions { authfile: self.authfile.clone(), credential: self.given()?, no_creds: self.no_creds })
    }

    fn given(&self) -> Result<Option<Credential>> {
        if let Some(pair) = &self.creds {
            return Credential::from_pair(pair).map(Some).map_err(|e| e.context("--creds cannot be used"));
        }
        if let Some(user) = &self.username {
            return Credential::login(user, password::from_stdin()?).map(Some);
        }
        match &self.registry_token {
            Some(token) if token.is_empty() => Err(Error::usage("the token of --registry-token is empty")),
            token => Ok(token.clone().map(Credential::RegistryToken)),
        }
    }
}

impl LoginOptions {
    /// Where the logins for a run that speaks to `hosts` are found. One that is given by an option is for one
    /// registry, and no other ever sees it.
    pub(super) fn lookup<'a>(self, hosts: impl IntoIterator<Item = &'a Host>) -> Result<Arc<dyn Lookup>> {
        if self.no_creds {
            return Ok(Arc::new(Nobody));
        }
        let Some(credential) = self.credential else {
            return read_files(self.authfile.as_deref());
        };
        let hosts: BTreeSet<&Host> = hosts.into_iter().collect();
        match Vec::from_iter(hosts)[..] {
            [] => Ok(Arc::new(Nobody)),
            [host] => Ok(Arc::new(ForHost { host: host.clone(), credential })),
            ref several => {
                let names: Vec<&str> = several.iter().map(|host| host.as_str()).collect();
                Err(Error::usage(format!("one login is given, and there are several registries: {}", names.join(", ")))
                    .hint("log in to each of them (sealift login HOST), then run this without the option"))
            }
        }
    }

    /// The same for a run that also has logins from a file of images. These are for their own registries only and win,
    /// as in skopeo; with `--no-creds` they do not count either.
    pub(super) fn lookup_beside<'a>(
        self,
        hosts: impl IntoIterator<Item = &'a Host>,
        written: Vec<ForHost>,
    ) -> Result<Arc<dyn Lookup>> {
        if self.no_creds || written.is_empty() {
            return self.lookup(hosts);
        }
        let mut others = hosts.into_iter().filter(|host| !written.iter().any(|login| login.host == **host)).peekable();
        if others.peek().is_none() && self.credential.is_some() {
            return Err(Error::usage(format!(
                "there are two logins to {}: an option, and the YAML file",
                written[0].host
            ))
            .hint("leave one of them out"));
        }
        let others = self.lookup(others)?;
        let mut places: Vec<Arc<dyn Lookup>> = Vec::new();
        for login in written {
            places.push(Arc::new(login));
        }
        places.push(others);
        Ok(Arc::new(FirstMatch(places)))
    }
}

/// The files in which logins are looked for, in this order: the one that is named, or podman's, then docker's.
fn read_files(named: Option<&Path>) -> Result<Arc<dyn Lookup>> {
    if let Some(path) = named {
        let file = read_file(path)?.ok_or_else(|| {
            Error::usage(format!("there is no file of logins {}", path.display()))
                .hint("check --authfile, or make the file: sealift login --authfile FILE HOST")
        })?;
        return Ok(Arc::new(Files(vec![file])));
    }
    if let Some(path) = variable("REGISTRY_AUTH_FILE") {
        return match read_file(&path)? {
            Some(file) => Ok(Arc::new(Files(vec![file]))),
            // Session scripts export it before the first login, and podman and skopeo go on without one.
            None => Ok(Arc::new(NoFile(format!(
                "REGISTRY_AUTH_FILE names {}, which does not exist: no logins are used",
                path.display()
            )))),
        };
    }
    let files = default_paths().iter().filter_map(|path| read_file(path).transpose()).collect::<Result<_>>()?;
    Ok(Arc::new(Files(files)))
}

/// Where a login is kept.
pub(super) fn path_to_write(named: Option<&Path>) -> Result<PathBuf> {
    let path = named.map(Path::to_path_buf).or_else(|| variable("REGISTRY_AUTH_FILE"));
    path.or_else(|| default_paths().into_iter().next()).ok_or_else(|| {
        Error::usage("there is no home directory to keep the login in").hint("name a file: --authfile FILE")
    })
}

/// One file; nothing if there is none.
pub(super) fn read_file(path: &Path) -> Result<Option<AuthFile>> {
    let fault = |e| Error::io(format!("cannot read the logins in {}", path.display()), e);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(fault(e)),
    };
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    let read: io::Result<usize> = (&file).take(MAX_AUTH_FILE + 1).read_to_end(&mut bytes);
    read.map_err(fault)?;
    let parsed = AuthFile::parse(&path.display().to_string(), &bytes)?;
    Ok(Some(exposed_logins(&file, path).into_iter().fold(parsed, AuthFile::warn)))
}

/// Who else decides which login is sent where: a helper that is named there is run, too.
fn exposed_logins(file: &File, path: &Path) -> Vec<String> {
    let shown = path.display();
    let mut warnings = Vec::new();
    if let Some(Exposure { how, .. }) = exposure(file, path) {
        warnings.push(format!("the file of logins {shown} {how}: make it private (chmod 600), or log in anew"));
    }
    let owner = file.metadata().ok().filter(Metadata::is_file).map(|file| file.uid());
    // Files of root are as safe as this program.
    let others = owner.filter(|uid| *uid != 0 && *uid != rustix::process::geteuid().as_raw());
    if let Some(uid) = others {
        warnings.push(format!("the file of logins {shown} belongs to another user (uid {uid}), who can change it"));
    }
    warnings
}

/// podman's in the session's own directory and in the home directory, then docker's, the one of old versions last.
/// `DOCKER_CONFIG` takes the place of `~/.docker`, as for docker.
pub(super) fn default_paths() -> Vec<PathBuf> {
    let home = variable("HOME");
    let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
    let podman = |directory: PathBuf| directory.join("containers/auth.json");
    [
        variable("XDG_RUNTIME_DIR").map(podman),
        variable("XDG_CONFIG_HOME").or_else(|| below_home(".config")).map(podman),
        variable("DOCKER_CONFIG").or_else(|| below_home(".docker")).map(|directory| directory.join("config.json")),
        below_home(".dockercfg"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
