//! `sealift export`

use std::io::{IsTerminal, Read};
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::ValueEnum;
use jiff::Timestamp;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::access::Access;
use super::credentials::Credentials;
use super::done::Done;
use super::listing::{self, Totals};
use super::output::{note, print_data, print_json};
use super::{Global, all_done, stderr};
use crate::bundle::Compression;
use crate::credentials::{ForHost, Lookup};
use crate::error::{Error, Result};
use crate::export::{self, Making, Output};
use crate::naming::Naming;
use crate::oci::{Digest, Reference};
use crate::plan::{Plan, PlatformWish, Platforms, Wishes};
use crate::selection::{self, Filter, Selection};
use crate::transfer::Options;
use crate::trust::{KeyId, SigningKey};

/// Write images from registries into a new signed bundle
///
/// An IMAGE is REGISTRY/REPOSITORY:TAG or ...@DIGEST; without tag and digest every tag of the repository is taken.
/// Indexes (multi-platform images) come with all their platforms. Each blob is fetched once and stored once,
/// whatever shares it. Interrupted, the same command goes on where it stopped.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sealift export registry.example.com/team/app:1 --output usb/app --key release.key
  sealift export --from images.txt --output usb/all --key release.key
  sealift export --from images.txt --output usb/all.tar --key release.key
  sealift export quay.io/ns/app:1 --output - --key release.key | ssh importer sealift import - registry.local ...
  sealift export quay.io/ns/app ghcr.io/ns/app --scoped --dry-run
  sealift export quay.io/ns/app --include 'v1.*' --exclude '*-rc*' --latest 3 --dry-run
  sealift export --from sync.yaml --output usb/all --key release.key

A list has one IMAGE a line. A .yaml or .yml file is that of skopeo sync:
  quay.io:
    images:
      ns/app: [\"1.4\", \"1.5\"]     # tags and digests; [] for every tag
    images-by-tag-regex:
      ns/tool: ^v1\\.
    images-by-semver:
      ns/db: \">= 2.1, < 3\"
    tls-verify: true              # this and the next line win over --tls-verify and --cert-dir
    cert-dir: certs/quay          # *.crt of CAs, *.cert and *.key of a client

Names, of registry.example.com/ns/app:1 for one:
  --names path keeps ns/app:1 (the default)
  --names scoped, or --scoped, keeps registry.example.com/ns/app:1
  --names base keeps app:1
An import never changes them.")]
pub(super) struct Export {
    /// What to carry
    #[arg(value_name = "IMAGE", required_unless_present = "from")]
    images: Vec<String>,
    /// Read more images from FILE: a list, one a line (# begins a comment; - is stdin), or skopeo's YAML (see below)
    #[arg(long, value_name = "FILE")]
    from: Vec<PathBuf>,
    /// Of repositories without a tag: only tags like this, such as '1.*'; may be given again
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Of repositories without a tag: no tags like this, such as '*-rc*'; may be given again
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Of repositories without a tag: the N highest versions each; tags that are no versions do not count
    #[arg(long, value_name = "N")]
    latest: Option<NonZeroUsize>,
    /// What to make, which must not exist: a directory, one file if it ends with .tar or .tar.zst, or - for stdout
    #[arg(short, long, value_name = "BUNDLE", required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    /// With --output -: how to compress the tar
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Compress::None)]
    compress: Compress,
    /// Go by what the tags mean now, also when an interrupted run of this command saw something else
    #[arg(long)]
    refresh: bool,
    /// Sign with this OpenSSH private key (or the .pub of a key in ssh-agent)
    #[arg(short, long, value_name = "KEY", required_unless_present = "dry_run")]
    key: Option<PathBuf>,
    /// Under which names the images will land: path, scoped or base
    #[arg(long, value_name = "HOW", default_value = "path")]
    names: Naming,
    /// Keep the registry in the names, as --names scoped
    #[arg(long, conflicts_with = "names")]
    scoped: bool,
    /// Carry only this platform; may be given again. One platform lands as its own manifest, several keep the index
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Vec<PlatformWish>,
    /// With one --platform: keep the index, so that its digest stays
    #[arg(long, value_enum, value_name = "WHAT", requires = "platform")]
    platform_as: Option<PlatformAs>,
    /// Leave signatures, SBOMs and attestations behind
    #[arg(long)]
    no_referrers: bool,
    /// Go past images that fail; they are named at the end, exit code 4
    #[arg(long)]
    keep_going: bool,
    /// Show what would be carried and under which names, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the result (with --dry-run, the plan) as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    credentials: Credentials,
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PlatformAs {
    /// The index unchanged; what is left out is noted in the bundle. Some registries refuse such an index
    Index,
    /// The platform's own manifest
    Manifest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Compress {
    /// Not at all
    None,
    /// Zstandard
    Zstd,
}

pub(super) async fn run(command: &Export, global: &Global, cancel: CancellationToken) -> Result<()> {
    let started = Instant::now();
    let selection = command.selection()?;
    let filter = Filter::new(&command.include, &command.exclude, command.latest)?;
    let naming = if command.scoped { Naming::Scoped } else { command.names };
    // What can be wrong here is told before anything is fetched.
    let place = match (&command.output, &command.key) {
        _ if command.dry_run => None,
        (Some(output), Some(key)) => Some(command.making(output, key, &selection, naming)?),
        _ => return Err(Error::usage("--output and --key are needed")),
    };
    let recalled = match &place {
        Some((making, _)) if !command.refresh => making.recall()?,
        _ => None,
    };
    let progress = global.progress();
    let logins = command.logins(&selection)?;
    let client = command.access.client_heeding(&selection.registries, &progress, logins)?;
    let options = Options { keep_going: command.keep_going, ..command.access.options(&progress, cancel.clone()) };
    let wishes = Wishes {
        names: naming.into(),
        platforms: Platforms::new(command.platform.clone(), command.platform_as == Some(PlatformAs::Index)),
        referrers: !command.no_referrers,
        keep_going: command.keep_going,
        jobs: command.access.jobs.get(),
    };
    let Plan { contents, mut failures } = if let Some(contents) = recalled {
        if !global.quiet {
            note("going on with what an interrupted run planned (--refresh looks at the tags again)");
        }
        Plan { contents, failures: Vec::new() }
    } else {
        tokio::select! {
            () = cancel.cancelled() => return Err(Error::interrupted()),
            planned = export::plan(&client, &selection, &filter, &wishes) => planned?,
        }
    };
    let Some((making, key_id)) = place else {
        print_plan(&contents, command.json)?;
        return all_done(failures, contents.images.len());
    };
    let shown = command.output.as_ref().map(|output| output.display().to_string()).unwrap_or_default();
    let contents = Arc::new(contents);
    let (outcome, identity) = export::export(&client, contents.clone(), &making, &options).await?;
    let asked = contents.images.len() + failures.len();
    failures.extend(outcome.failures);
    let done =
        Done { summary: outcome.summary, totals: Totals::of(&contents)?, seconds: started.elapsed().as_secs_f64() };
    if !global.quiet {
        let seal = format!("bundle {identity}, signed by key id {key_id}");
        let lines = done.lines(&format!("sealed {shown}"), "fetched") + &seal;
        stderr::summary(done.json("fetched", failures.len()), &lines);
    }
    if command.json {
        let mut value = listing::json(&contents)?;
        value["bundle"] = json!(shown);
        value["identity"] = json!(identity.to_string());
        value["signers"] = json!([{"keyId": key_id.to_string()}]);
        done.add_to(&mut value, "fetched");
        listing::keep_landed(&mut value, &failures);
        print_json(&value)?;
    }
    all_done(failures, asked)
}

impl Export {
    /// The bundle to make, and the id of the key that signs it.
    fn making(&self, output: &Path, key: &Path, selection: &Selection, naming: Naming) -> Result<(Making, KeyId)> {
        let key = SigningKey::load(key)?;
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
        Ok((Making::new(output, key, created, Digest::of(request.as_bytes()))?, id))
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

fn print_plan(contents: &crate::place::Contents, json: bool) -> Result<()> {
    if json {
        return print_json(&listing::json(contents)?);
    }
    print_data(&super::output::escape_controls(&listing::table(contents)?))
}
