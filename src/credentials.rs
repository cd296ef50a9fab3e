//! Who we are to which registry: what people log in with, and where it is looked up.
//!
//! Knows the two files in which docker and podman keep logins, as bytes, and the credential helpers that they name.
//! It must not know where those files are (that is the command line's business) nor how a registry is logged in to.

mod file;
mod helper;
mod key;
mod secret;

use std::fmt;
use std::sync::Arc;

pub use file::{AuthFile, MAX_AUTH_FILE};
pub use helper::{Helper, HelperReply};
pub use key::LoginKey;
pub use secret::Secret;

use crate::error::{Error, Result};
use crate::oci::{Host, Repository};
use crate::text::secrets;

/// What is shown to a registry.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Credential {
    /// A user name and a password, shown to the registry or to its token service.
    Login {
        /// Without a colon, which Basic authentication cannot carry (RFC 7617).
        user: String,
        /// Perhaps an access token that stands for a password.
        password: Secret,
    },
    /// A refresh token, shown only to the registry's token service (OAuth2, RFC 6749 section 6).
    IdentityToken {
        /// Empty when it is not known.
        user: String,
        /// The password beside it, for a registry that asks for user and password (Basic).
        password: Option<Secret>,
        /// The refresh token.
        token: Secret,
    },
    /// A bearer token, shown to the registry as it is.
    RegistryToken(Secret),
}

/// Finds what to show to a registry. It may block: a credential helper is a program.
pub trait Lookup: Send + Sync {
    /// What to show to `host`, for work in `repository` if that is known; nothing means to ask as nobody.
    ///
    /// # Errors
    /// When there should be something that cannot be had: a broken file, a helper that fails. It is never passed over; a
    /// helper that is not installed is skipped with a warning.
    fn find(&self, host: &Host, repository: Option<&Repository>) -> Result<Option<Credential>>;

    /// Warnings that came up since the last call.
    fn take_warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Logs in nowhere.
#[derive(Debug, Clone, Copy)]
pub struct Nobody;

/// One credential, for one registry only.
pub struct ForHost {
    /// The registry; no other ever sees the credential.
    pub host: Host,
    /// What it sees.
    pub credential: Credential,
}

/// One place after the other, the first that knows something wins.
pub struct FirstMatch(pub Vec<Arc<dyn Lookup>>);

/// A file of logins that does not exist, with the warning that says so. Logs in nowhere.
pub struct NoFile(pub String);

/// Several files, the first that knows something wins.
pub struct Files(pub Vec<AuthFile>);

impl Credential {
    /// A user name and a password, which may be empty: some registries take a token as the user.
    ///
    /// # Errors
    /// `Usage` when the name is empty or cannot be sent.
    pub fn login(user: &str, password: Secret) -> Result<Credential> {
        if user.is_empty() || user.contains(':') || user.chars().any(char::is_control) {
            return Err(Error::usage(
                "this user name cannot be one: it is empty or has a colon or a control character",
            ));
        }
        secrets::remember_login(user, password.expose());
        Ok(Credential::Login { user: user.to_owned(), password })
    }

    /// From `USER:PASSWORD`; the text is never repeated in the error.
    ///
    /// # Errors
    /// `Usage` when it is not that: a password alone must not be taken for a user name, which messages show.
    pub fn from_pair(pair: &Secret) -> Result<Credential> {
        match pair.expose().contains(':') {
            true => Credential::from_user_or_pair(pair),
            false => Err(Error::usage("these credentials have no colon between user and password")),
        }
    }

    /// From `USER[:PASSWORD]`, as skopeo has it; the text is never repeated in the error.
    ///
    /// # Errors
    /// `Usage` when the name is empty or cannot be sent.
    pub fn from_user_or_pair(pair: &Secret) -> Result<Credential> {
        let (user, password) = pair.expose().split_once(':').unwrap_or((pair.expose(), ""));
        Credential::login(user, Secret::new(password))
    }

    /// Who it is, for messages: `user alice`.
    pub fn who(&self) -> String {
        match self {
            Credential::Login { user, .. } => format!("user {user}"),
            Credential::IdentityToken { user, .. } if user.is_empty() => "the identity token".to_owned(),
            Credential::IdentityToken { user, .. } => format!("the identity token of user {user}"),
            Credential::RegistryToken(_) => "the registry token".to_owned(),
        }
    }
}

impl Lookup for Nobody {
    fn find(&self, _: &Host, _: Option<&Repository>) -> Result<Option<Credential>> {
        Ok(None)
    }
}

impl Lookup for ForHost {
    fn find(&self, host: &Host, _: Option<&Repository>) -> Result<Option<Credential>> {
        Ok((*host == self.host).then(|| self.credential.clone()))
    }
}

impl Lookup for FirstMatch {
    fn find(&self, host: &Host, repository: Option<&Repository>) -> Result<Option<Credential>> {
        for place in &self.0 {
            if let Some(found) = place.find(host, repository)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn take_warnings(&self) -> Vec<String> {
        self.0.iter().flat_map(|place| place.take_warnings()).collect()
    }
}

impl Lookup for NoFile {
    fn find(&self, _: &Host, _: Option<&Repository>) -> Result<Option<Credential>> {
        Ok(None)
    }

    fn take_warnings(&self) -> Vec<String> {
        vec![self.0.clone()]
    }
}

impl Lookup for Files {
    fn find(&self, host: &Host, repository: Option<&Repository>) -> Result<Option<Credential>> {
        for file in &self.0 {
            if let Some(found) = file.find(host, repository)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn take_warnings(&self) -> Vec<String> {
        self.0.iter().flat_map(AuthFile::take_warnings).collect()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({})", self.who())
    }
}
