//! What an export is to do, worked out from arguments, files and stdin.

use std::io::{IsTerminal, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use super::{Compress, Export};
use crate::bundle::Compression;
use crate::cli::output::note;
use crate::credentials::{ForHost, Lookup};
use crate::error::{Error, Result};
use crate::export::{Making, Output};
use crate::naming::Naming;
use crate::oci::{Digest, Reference};
use crate::place::Contents;
use crate::selection::{self, Filter, Selection};
use crate::trust::{KeyId, SigningKey};

/// All that is known before a registry is asked. Worked out while Ctrl-C still ends the program at once, for it may
/// wait for someone to type a list or a password.
pub(in crate::cli) struct Request {
    pub(super) started: Instant,
    pub(super) selection: Selection,
    pub(super) filter: Filter,
    pub(super) naming: Naming,
    pub(super) logins: Arc<dyn Lookup>,
    /// Of the key that signs, or would.
    pub(super) key_id: Option<KeyId>,
    /// Nothing with `--dry-run`.
    pub(super) making: Option<Making>,
    /// What an interrupted run of this command planned.
    pub(super) recalled: Option<Contents>,
}

impl Export {
    /// What is known before a registry is asked; what can be wrong in it is told then.
    pub(in crate::cli) fn request(&self) -> Result<Request> {
        let started = Instant::now();
        let selection = self.selection()?;
        let logins = self.logins(&selection)?;
        let filter = Filter::new(&self.include, &self.exclude, self.latest)?;
        let naming = if self.scoped { Naming::Scoped } else { self.names };
        let key = self.key.as_deref().map(SigningKey::load).transpose()?;
        let key_id = key.as_ref().map(|key| key.public_key().key_id());
        let making = match (&self.output, key) {
            _ if self.dry_run => None,
            (Some(output), Some(key)) => Some(self.making(output, key, &selection, naming)?),
            _ => return Err(Error::usage("--output and --key are needed")),
        };
        // Looked at in any case: whether the output can be made is to be known before anything is asked for.
        let recalled = making.as_ref().map(Making::recall).transpose()?.flatten();
        // What was left out of a plan is not in it: only a new one can name it.
        let recalled = recalled.filter(|_| !self.refresh && !self.keep_going);
        Ok(Request { started, selection, filter, naming, logins, key_id, making, recalled })
    }

    fn making(&self, output: &Path, key: SigningKey, selection: &Selection, naming: Naming) -> Result<Making> {
        let id = key.public_key().key_id();
        let created = created()?;
        // All that decides what is carried: another request must not go on with this one's plan.
        let epoch = std::env::var("SOURCE_DATE_EPOCH").ok();
        let tags = (&self.include, &self.exclude, self.latest);
        let carried = (&self.platform, self.platform_as, self.no_referrers, self.keep_going);
        let request = format!("{id} {naming:?} {epoch:?} {tags:?} {carried:?} {:?}", selection.wanted);
        let output = match (output.to_str(), self.compress) {
            (Some("-"), Compress::None) => to_stdout(Compression::None)?,
            (Some("-"), Compress::Zstd) => to_stdout(Compression::Zstd)?,
            (_, Compress::Zstd) => {
                return Err(Error::usage("--compress goes with --output -").hint("name the file with .tar.zst"));
            }
            (Some(name), _) if name.ends_with(".tar.zst") => Output::Packed(output.to_owned()),
            (Some(name), _) if name.ends_with(".tar") => Output::Archive(output.to_owned()),
            _ => Output::Directory(output.to_owned()),
        };
        Making::new(output, key, created, Digest::of(request.as_bytes()))
    }

    fn selection(&self) -> Result<Selection> {
        let mut selection = Selection::default();
        for text in &self.images {
            let reference: Reference = text.parse().map_err(|e| {
                Error::usage("this is not an image reference")
                    .caused_by(e)
                    .hint("write REGISTRY/REPOSITORY:TAG, such as registry.example.com/ns/app:1")
            })?;
            selection.wanted.push(reference.into());
        }
        for path in &self.from {
            if path == Path::new("-") && self.credentials.reads_stdin() {
                return Err(Error::usage("--from - and --password-stdin both want to read stdin"));
            }
            let (text, origin) = (read_file(path)?, path.display().to_string());
            let yaml = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
            let read = if yaml { Selection::from_yaml } else { Selection::from_list };
            selection.add(read(&text, &origin)?)?;
        }
        if !self.keep_going {
            selection = selection.sound()?;
        }
        if selection.wanted.is_empty() && selection.failures.is_empty() {
            return Err(Error::usage("there is nothing to export: the list is empty"));
        }
        Ok(selection)
    }

    /// Who we are to whom, from options and files.
    fn logins(&self, selection: &Selection) -> Result<Arc<dyn Lookup>> {
        let written = selection.registries.iter().filter_map(|registry| {
            Some(ForHost { host: registry.host.clone(), credential: registry.credential.clone()? })
        });
        self.credentials.lookup_beside(selection.wanted.iter().map(|image| &image.host), written.collect())
    }
}

fn to_stdout(compression: Compression) -> Result<Output> {
    let stdout = std::io::stdout();
    if stdout.is_terminal() {
        return Err(Error::usage("a bundle is not for a terminal").hint("pipe it into another program or a file"));
    }
    // Not line by line, as a terminal would have it.
    let file = stdout.as_fd().try_clone_to_owned().map_err(|e| Error::io("cannot write to stdout", e))?;
    Ok(Output::Stream(Box::new(std::fs::File::from(file)), "standard output".into(), compression))
}

fn read_file(path: &Path) -> Result<String> {
    let what = || format!("cannot read the list {}", path.display());
    let reader: Box<dyn Read> = if path == Path::new("-") {
        if std::io::stdin().is_terminal() {
            note("type one image a line; Ctrl-D ends the list");
        }
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(|e| Error::io(what(), e))?)
    };
    let mut bytes = Vec::new();
    reader.take(selection::MAX_FILE as u64 + 1).read_to_end(&mut bytes).map_err(|e| Error::io(what(), e))?;
    String::from_utf8(bytes).map_err(|_| Error::usage(format!("{} is not UTF-8 text", path.display())))
}

/// Now, or what SOURCE_DATE_EPOCH says (reproducible-builds.org), so that the same export can be made twice.
fn created() -> Result<Timestamp> {
    let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") else { return Ok(Timestamp::now()) };
    let seconds = text.parse::<i64>().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    seconds.ok_or_else(|| Error::usage(format!("SOURCE_DATE_EPOCH is {text:?}, not a number of seconds since 1970")))
}
