//! How the registries of one side are reached: `--src-...` or `--dest-...`, with the names of skopeo.
//!
//! Written out and not derived, so that both sides are one table.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches, value_parser};

use crate::cli::credentials::LoginOptions;
use crate::cli::flags::{FALSE, TRUE};
use crate::cli::password;
use crate::credentials::{Credential, Secret};
use crate::error::{Error, Result};
use crate::registry::{RedirectHost, Redirects};

/// The source's side.
pub(super) type SourceSide = Side<0>;
/// The destination's side.
pub(super) type DestinationSide = Side<1>;

/// What the options of one side say.
#[derive(Debug, Clone)]
pub(super) struct Side<const N: usize> {
    authfile: Option<PathBuf>,
    creds: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    password_stdin: bool,
    no_creds: bool,
    registry_token: Option<Secret>,
    pub(super) cert_dir: Option<PathBuf>,
    pub(super) tls_verify: Option<bool>,
    allow_redirect: Vec<RedirectHost>,
}

impl<const N: usize> Side<N> {
    /// Who we are on this side; `authfile` is for both.
    pub(super) fn login(&self, authfile: Option<&PathBuf>) -> Result<LoginOptions> {
        Ok(LoginOptions {
            authfile: self.authfile.as_ref().or(authfile).cloned(),
            credential: self.credential()?,
            no_creds: self.no_creds,
        })
    }

    /// The directory of certificates, if there is one.
    pub(super) fn certificates(&self) -> Result<Option<PathBuf>> {
        match &self.cert_dir {
            Some(given) if !given.is_dir() => {
                Err(Error::usage(format!("--{} {} is not a directory", CERT_DIR[N], given.display())))
            }
            given => Ok(given.clone()),
        }
    }

    /// To which private servers its public registries may send requests.
    pub(super) fn redirects(&self) -> Redirects {
        Redirects { allowed: self.allow_redirect.clone(), option: ALLOW_REDIRECT_OPTION[N] }
    }

    /// Whether stdin is taken by a password.
    pub(super) fn reads_stdin(&self) -> bool {
        self.password_stdin
    }

    fn credential(&self) -> Result<Option<Credential>> {
        if let Some(pair) = &self.creds {
            return Credential::from_user_or_pair(pair)
                .map(Some)
                .map_err(|e| e.context(format!("--{} cannot be used", CREDS[N])));
        }
        match (&self.username, &self.password, self.password_stdin) {
            (Some(user), Some(password), _) => return Credential::login(user, password.clone()).map(Some),
            (Some(user), None, true) => return Credential::login(user, password::from_stdin()?).map(Some),
            (Some(_), None, false) => {
                return Err(Error::usage(format!("--{} needs a password", USERNAME[N]))
                    .hint(format!("give --{} and the password on stdin, or use sealift login", PASSWORD_STDIN[N])));
            }
            (None, ..) => {}
        }
        match &self.registry_token {
            Some(token) if token.is_empty() => {
                Err(Error::usage(format!("the token of --{} is empty", REGISTRY_TOKEN[N])))
            }
            token => Ok(token.clone().map(Credential::RegistryToken)),
        }
    }
}

impl<const N: usize> clap::Args for Side<N> {
    fn augment_args(command: Command) -> Command {
        let heading = ["Source registries", "Destination registry"][N];
        let option = |names: [&'static str; 2], value: &'static str, help: &str| {
            let argument = Arg::new(names[N]).long(names[N]).help(help.to_owned()).help_heading(heading);
            match value {
                "" => argument.action(ArgAction::SetTrue),
                // As in skopeo: whatever stands behind it, as secrets may begin with anything.
                value => argument.value_name(value).allow_hyphen_values(true),
            }
        };
        let path = || value_parser!(PathBuf);
        let secret = || value_parser!(Secret);
        let alone = [NO_CREDS[N], CREDS[N], USERNAME[N], REGISTRY_TOKEN[N]];
        let but = |own: &'static str| alone.into_iter().filter(move |name| *name != own);
        let stdin = [PASSWORD_STDIN[1], PASSWORD[N]];
        command
            .arg(
                option(AUTHFILE, "FILE", "Take logins from FILE only, instead of that of --authfile")
                    .value_parser(path()),
            )
            .arg(
                option(
                    CREDS,
                    "USER:PASSWORD",
                    "Log in with this; everybody on this machine can see it in the list of processes",
                )
                .alias(["screds", "dcreds"][N])
                .value_parser(secret())
                .conflicts_with_all(but(CREDS[N])),
            )
            .arg(option(USERNAME, "USER", "Log in as this user").conflicts_with_all(but(USERNAME[N])))
            .arg(
                option(PASSWORD, "PASSWORD", "With this password, which everybody on this machine can see")
                    .value_parser(secret())
                    .requires(USERNAME[N]),
            )
            .arg(
                option(PASSWORD_STDIN, "", "With the first line of stdin as the password")
                    .requires(USERNAME[N])
                    .conflicts_with_all(stdin.into_iter().filter(|name| *name != PASSWORD_STDIN[N])),
            )
            .arg(option(NO_CREDS, "", "Ask as nobody, whatever logins there are"))
            .arg(
                option(REGISTRY_TOKEN, "TOKEN", "Show this bearer token, which everybody on this machine can see")
                    .value_parser(secret())
                    .conflicts_with_all(but(REGISTRY_TOKEN[N])),
            )
            .arg(
                option(CERT_DIR, "DIR", "A directory with certificates: *.crt of CAs, *.cert and *.key of a client")
                    .value_parser(path()),
            )
            .arg(
                option(TLS_VERIFY, "BOOL", "Whether to demand HTTPS with a valid certificate [default: true]")
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true")
                    .hide_possible_values(true)
                    .value_parser(PossibleValuesParser::new(TRUE.into_iter().chain(FALSE))),
            )
            .arg(
                option(
                    ALLOW_REDIRECT,
                    "HOST",
                    "Let a public registry send requests to HOST also where it has a private address; may be given again",
                )
                .action(ArgAction::Append)
                .value_parser(value_parser!(RedirectHost)),
            )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const N: usize> FromArgMatches for Side<N> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let path = |names: [&str; 2]| matches.get_one::<PathBuf>(names[N]).cloned();
        let secret = |names: [&str; 2]| matches.get_one::<Secret>(names[N]).cloned();
        Ok(Side {
            authfile: path(AUTHFILE),
            creds: secret(CREDS),
            username: matches.get_one::<String>(USERNAME[N]).cloned(),
            password: secret(PASSWORD),
            password_stdin: matches.get_flag(PASSWORD_STDIN[N]),
            no_creds: matches.get_flag(NO_CREDS[N]),
            registry_token: secret(REGISTRY_TOKEN),
            cert_dir: path(CERT_DIR),
            allow_redirect: matches.get_many(ALLOW_REDIRECT[N]).into_iter().flatten().cloned().collect(),
            tls_verify: matches.get_one::<String>(TLS_VERIFY[N]).map(|text| TRUE.contains(&text.as_str())),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

const AUTHFILE: [&str; 2] = ["src-authfile", "dest-authfile"];
const CREDS: [&str; 2] = ["src-creds", "dest-creds"];
const USERNAME: [&str; 2] = ["src-username", "dest-username"];
const PASSWORD: [&str; 2] = ["src-password", "dest-password"];
const PASSWORD_STDIN: [&str; 2] = ["src-password-stdin", "dest-password-stdin"];
const NO_CREDS: [&str; 2] = ["src-no-creds", "dest-no-creds"];
const REGISTRY_TOKEN: [&str; 2] = ["src-registry-token", "dest-registry-token"];
const CERT_DIR: [&str; 2] = ["src-cert-dir", "dest-cert-dir"];
const TLS_VERIFY: [&str; 2] = ["src-tls-verify", "dest-tls-verify"];
const ALLOW_REDIRECT: [&str; 2] = ["src-allow-redirect", "dest-allow-redirect"];
/// As messages name it.
const ALLOW_REDIRECT_OPTION: [&str; 2] = ["--src-allow-redirect", "--dest-allow-redirect"];
