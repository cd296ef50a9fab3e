//! What an export is to do, worked out from arguments, files and stdin.

use std::io::{IsTerminal, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::{Export, PlatformAs};
use crate::cli::Global;
use crate::cli::bundle_output::{self, BundleRequest, tell_of_earlier};
use crate::cli::output::note;
use crate::containers::{Registries, Rules};
use crate::credentials::{ForHost, Lookup};
use crate::dir::Tree;
use crate::error::{Error, Result};
use crate::jobs::export::BundleWriter;
use crate::oci::Reference;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::select::naming::NamePolicy;
use crate::select::{self, Filter, Selection};
use crate::trust::{KeyId, SigningKey};

/// All that is known before a registry is asked. Worked out while Ctrl-C still ends the program at once, for it may
/// wait for someone to type a list or a password.
pub(crate) struct ExportRequest {
    pub(super) started: Instant,
    pub(super) selection: Selection,
    pub(super) filter: Filter,
    pub(super) naming: NamePolicy,
    pub(super) logins: Arc<dyn Lookup>,
    /// With `--from-dir`, what is read instead of registries.
    pub(super) tree: Option<Tree>,
    /// Of the key that signs, or would.
    pub(super) key_id: Option<KeyId>,
    /// Nothing with `--dry-run`.
    pub(super) making: Option<BundleWriter>,
    /// What an interrupted run of this command planned, if that is continued.
    pub(super) resumed: Option<Plan>,
    pub(super) rules: Rules,
    pub(super) registries: Arc<Registries>,
    pub(super) progress: Arc<dyn Progress>,
}

impl Export {
    /// What is known before a registry is asked; what can be wrong in it is told then.
    pub(crate) fn request(&self, global: &Global) -> Result<ExportRequest> {
        let (started, progress) = (Instant::now(), global.progress());
        let selection = self.selection()?;
        let logins = self.logins(&selection)?;
        let (rules, registries) = (self.files.rules()?, self.files.registries(&*progress)?);
        let tree = self.from_dir.as_deref().map(Tree::scan).transpose()?;
        let filter = Filter::new(&self.include, &self.exclude, self.latest)?;
        let naming = if self.scoped { NamePolicy::Scoped } else { self.names };
        let key = self.key.as_deref().map(SigningKey::load).transpose()?;
        let key_id = key.as_ref().map(|key| key.public_key().key_id());
        let making = match (&self.output, key) {
            _ if self.dry_run => None,
            (Some(output), Some(key)) => {
                let selection = self.from_dir.is_none().then(|| self.carried(&selection, naming, &registries));
                let (compress, json, state) = (self.compress, self.json, &self.state);
                Some(bundle_output::bundle(BundleRequest { output, key, compress, json, state, selection }, &progress)?)
            }
            _ => return Err(Error::usage("--output and --key are needed")),
        };
        // Whether the output can be made is to be known before anything is asked for.
        let mut earlier = making.as_ref().map(BundleWriter::open).transpose()?.unwrap_or_default();
        // A plan that names anything else than what is asked for is not continued, whoever wrote it.
        earlier.plan = earlier.plan.filter(|plan| {
            let sources = plan.contents.images.iter().map(|image| image.source.as_str());
            selection.covers(&plan.contents.images) && rules.allow_all(sources)
        });
        tell_of_earlier(&earlier, self.refresh, global.quiet);
        let plan = earlier.plan.filter(|_| !self.refresh);
        let resumed = making.as_ref().zip(plan).map(|(making, plan)| making.resume(plan));
        Ok(ExportRequest {
            started,
            selection,
            filter,
            naming,
            logins,
            tree,
            key_id,
            making,
            resumed,
            rules,
            registries,
            progress,
        })
    }

    /// All that decides what is carried.
    fn carried(&self, selection: &Selection, naming: NamePolicy, registries: &Registries) -> Value {
        let platforms: Vec<String> = self.platform.iter().map(ToString::to_string).collect();
        json!({
            "command": "export",
            "selection": selection.to_json(),
            "tags": {"include": self.include, "exclude": self.exclude, "latest": self.latest},
            "names": naming.to_string(),
            "platforms": platforms,
            "keepIndex": self.platform_as == Some(PlatformAs::Index),
            "referrers": !self.no_referrers,
            "keepGoing": self.keep_going,
            // What anybody in between may have planned is not continued by a run that checks certificates.
            "registries": registries.fingerprint().to_string(),
            "tlsVerify": self.access.verifies_servers(),
        })
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
            selection = selection.into_valid()?;
        }
        if self.from_dir.is_none() && selection.wanted.is_empty() && selection.failures.is_empty() {
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

/// A list or YAML file; `-` is stdin.
pub(crate) fn read_file(path: &Path) -> Result<String> {
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
    reader.take(select::MAX_FILE as u64 + 1).read_to_end(&mut bytes).map_err(|e| Error::io(what(), e))?;
    as_text(bytes, path)
}

/// UTF-8, perhaps with its mark at the beginning, which the readers of lists and YAML know.
fn as_text(bytes: Vec<u8>, path: &Path) -> Result<String> {
    let shown = path.display();
    // As editors and shells of Windows write it: with a mark or without. No list begins with a zero byte.
    let encoding = match bytes.as_slice() {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        [first, 0, ..] if *first != 0 => Some("UTF-16LE"),
        [0, second, ..] if *second != 0 => Some("UTF-16BE"),
        _ => None,
    };
    match encoding {
        Some(encoding) => Err(Error::usage(format!("{shown} is {encoding} text, and UTF-8 is read")).hint(format!(
            "convert it: iconv -f {encoding} -t UTF-8 {shown} > NEW; in PowerShell: \
             Get-Content {shown} | Set-Content -Encoding utf8 NEW"
        ))),
        None => String::from_utf8(bytes).map_err(|e| {
            Error::usage(format!("{shown} is not UTF-8 text: byte {} does not fit", e.utf8_error().valid_up_to()))
                .hint(format!("convert it, for one from Latin-1: iconv -f ISO-8859-1 -t UTF-8 {shown} > NEW"))
        }),
    }
}
