//! `sealift login` and `sealift logout`

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::credentials::{default_paths, path_to_write, read_file};
use super::output::note;
use super::registry_args::AccessArgs;
use super::{Global, password};
use crate::credentials::{AuthFile, Credential, ForHost, HelperReply, LoginKey, Secret};
use crate::error::{Error, Result};

/// Log in to a registry, and keep the login for every later command
///
/// The login is tried, then kept where podman and skopeo keep and find theirs: --authfile, $REGISTRY_AUTH_FILE,
/// $XDG_RUNTIME_DIR/containers/auth.json, or ~/.config/containers/auth.json; in docker's format, so that docker's
/// config.json may be named too. If that file leaves the registry to a credential helper, the helper keeps the login.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sealift login registry.example.com
  pass show registry | sealift login --username robot --password-stdin registry.example.com
  sealift login --authfile robot.json quay.io/team      only for repositories below quay.io/team")]
pub(super) struct LoginArgs {
    /// The registry, perhaps with a path that the login is for
    #[arg(value_name = "HOST[:PORT][/PATH]")]
    registry: String,
    /// Who to be; asked for on a terminal
    #[arg(short, long, value_name = "USER")]
    username: Option<String>,
    /// The password is the first line of stdin; asked for on a terminal without it
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// Keep the login in FILE
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    #[command(flatten)]
    access: AccessArgs,
}

/// Forget the login for a registry
#[derive(Debug, clap::Args)]
pub(super) struct Logout {
    /// The registry, as it was given to login
    #[arg(value_name = "HOST[:PORT][/PATH]")]
    registry: String,
    /// Forget it in FILE
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
}

/// What was asked for, before anything is contacted: nobody can type while a job runs.
pub(super) struct LoginRequest {
    key: LoginKey,
    path: PathBuf,
    user: String,
    password: Secret,
}

impl LoginArgs {
    pub(super) fn ask(&self) -> Result<LoginRequest> {
        let key: LoginKey = self.registry.parse()?;
        let path = path_to_write(self.authfile.as_deref())?;
        let user = match &self.username {
            Some(user) => user.clone(),
            None => password::ask_openly(&format!("User name for {key}"))?,
        };
        let password = match self.password_stdin {
            true => password::from_stdin()?,
            false => password::ask(&format!("Password of {user} for {key}"))?,
        };
        if password.is_empty() {
            return Err(Error::usage(format!("the password of user {user} is empty")));
        }
        Ok(LoginRequest { key, path, user, password })
    }
}

pub(super) async fn run(
    command: &LoginArgs,
    wanted: LoginRequest,
    global: &Global,
    cancel: CancellationToken,
) -> Result<()> {
    let LoginRequest { key, path, user, password } = wanted;
    // Whether the file can be used is known before the password is sent anywhere.
    let mut file = read_or_new(&path)?;
    let helper = file.helper(&key.host)?;
    let credential = Credential::login(&user, password.clone())?;
    let lookup = Arc::new(ForHost { host: key.host.clone(), credential });
    let client = command.access.client(&global.progress(), lookup)?;
    let asked = tokio::select! {
        () = cancel.cancelled() => return Err(Error::interrupted()),
        asked = client.check_login(&key.host) => asked?,
    };
    let place = match helper {
        Some(helper) => {
            helper.store(&user, &password)?;
            // An older login in the file itself would come first.
            if file.remove(&key) {
                write_file(&path, &file)?;
            }
            format!("by {}", helper.program())
        }
        None => {
            file.set(&key, &user, &password);
            write_file(&path, &file)?;
            format!("in {}", path.display())
        }
    };
    if !asked {
        note(&format!("warning: {} asks nobody for a login, so this one could not be tried", key.host));
    }
    if !global.quiet {
        note(&format!("logged in to {key} as {user}; the login is kept {place}"));
    }
    Ok(())
}

pub(super) fn run_logout(command: &Logout, global: &Global) -> Result<()> {
    let key: LoginKey = command.registry.parse()?;
    let path = path_to_write(command.authfile.as_deref())?;
    let mut file = read_or_new(&path)?;
    let helper = file.helper(&key.host)?;
    let mut known = false;
    if let Some(helper) = helper {
        match helper.get()? {
            HelperReply::NotInstalled => {
                note(&format!("warning: {} is not installed, so what it keeps stays there", helper.program()));
            }
            answer => {
                known |= matches!(answer, HelperReply::Login(_));
                helper.erase()?;
            }
        }
    }
    if file.remove(&key) {
        write_file(&path, &file)?;
        known = true;
    }
    let mut elsewhere = Vec::new();
    if command.authfile.is_none() {
        for other in default_paths().into_iter().filter(|other| *other != path) {
            if read_file(&other)?.is_some_and(|mut file| file.remove(&key)) {
                elsewhere.push(other.display().to_string());
            }
        }
    }
    for other in &elsewhere {
        note(&format!("a login for {key} is also in {other}: sealift logout --authfile {other} {key}"));
    }
    match known {
        true if global.quiet => {}
        true => note(&format!("logged out of {key}")),
        false if !elsewhere.is_empty() => {}
        false => {
            return Err(Error::not_found(format!("there is no login for {key} in {}", path.display()))
                .hint("name the file that has it: --authfile FILE"));
        }
    }
    Ok(())
}

fn read_or_new(path: &Path) -> Result<AuthFile> {
    match read_file(path)? {
        Some(file) => {
            file.take_warnings().iter().for_each(|warning| note(&format!("warning: {warning}")));
            Ok(file)
        }
        None => AuthFile::parse(&path.display().to_string(), b"{}"),
    }
}

/// Puts the new file in the old one's place in one step, readable by its owner only.
fn write_file(path: &Path, file: &AuthFile) -> Result<()> {
    // A link stays one; what it points to is replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let write = || -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        // Made with mode 0600.
        let mut new = tempfile::Builder::new().prefix(".sealift-login-").tempfile_in(directory)?;
        new.write_all(file.to_text().as_bytes())?;
        new.as_file().sync_all()?;
        new.persist(&path).map_err(|e| e.error)?;
        fs::File::open(directory)?.sync_all()
    };
    write().map_err(|e| Error::io(format!("cannot keep the login in {}", path.display()), e))
}
