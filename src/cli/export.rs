//! `sealift export`

use std::io::Read;
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
use super::output::{print_data, print_json};
use super::{Global, all_done, stderr};
use crate::error::{Error, Result};
use crate::export;
use crate::naming::Naming;
use crate::oci::Reference;
use crate::plan::{Plan, PlatformWish, Platforms, Wishes};
use crate::selection;
use crate::transfer::Options;
use crate::trust::SigningKey;

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
  sealift export quay.io/ns/app ghcr.io/ns/app --scoped --dry-run

Names, of registry.example.com/ns/app:1 for one:
  --names path keeps ns/app:1 (the default)
  --names scoped, or --scoped, keeps registry.example.com/ns/app:1
  --names base keeps app:1
An import never changes them.")]
pub(super) struct Export {
    /// What to carry
    #[arg(value_name = "IMAGE", required_unless_present = "from")]
    images: Vec<String>,
    /// Read more images from FILE, one a line (# begins a comment; - is stdin)
    #[arg(long, value_name = "FILE")]
    from: Vec<PathBuf>,
    /// The directory to make; it must not exist
    #[arg(short, long, value_name = "BUNDLE", required_unless_present = "dry_run")]
    output: Option<PathBuf>,
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

pub(super) async fn run(command: &Export, global: &Global, cancel: CancellationToken) -> Result<()> {
    let started = Instant::now();
    let wanted = command.wanted()?;
    let naming = if command.scoped { Naming::Scoped } else { command.names };
    // What can be wrong here is told before anything is fetched.
    let place = match (&command.output, &command.key) {
        _ if command.dry_run => None,
        (Some(output), Some(key)) => Some((output.clone(), SigningKey::load(key)?, created()?)),
        _ => return Err(Error::usage("--output and --key are needed")),
    };
    let progress = global.progress();
    let logins = command.credentials.lookup(wanted.iter().map(|image| &image.host))?;
    let client = command.access.client(&progress, logins)?;
    let options = Options { keep_going: command.keep_going, ..command.access.options(&progress, cancel.clone()) };
    let wishes = Wishes {
        naming,
        platforms: Platforms::new(command.platform.clone(), command.platform_as == Some(PlatformAs::Index)),
        referrers: !command.no_referrers,
        keep_going: command.keep_going,
        jobs: command.access.jobs.get(),
    };
    let Plan { contents, mut failures } = tokio::select! {
        () = cancel.cancelled() => return Err(Error::interrupted()),
        planned = export::plan(&client, &wanted, &wishes) => planned?,
    };
    let Some((output, key, created)) = place else {
        print_plan(&contents, command.json)?;
        return all_done(failures, contents.images.len());
    };
    let key_id = key.public_key().key_id();
    let shown = output.display().to_string();
    let contents = Arc::new(contents);
    let (outcome, identity) = export::export(&client, contents.clone(), output, key, created, &options).await?;
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
    fn wanted(&self) -> Result<Vec<Reference>> {
        let mut wanted = Vec::new();
        for text in &self.images {
            let reference = text.parse().map_err(|e| {
                Error::usage("this is not an image reference")
                    .caused_by(e)
                    .hint("write REGISTRY/REPOSITORY:TAG, such as registry.example.com/ns/app:1")
            })?;
            wanted.push(reference);
        }
        for path in &self.from {
            if path == Path::new("-") && self.credentials.reads_stdin() {
                return Err(Error::usage("--from - and --password-stdin both want to read stdin"));
            }
            wanted.extend(selection::parse_list(&read_list(path)?, &path.display().to_string())?);
        }
        if wanted.is_empty() {
            return Err(Error::usage("there is nothing to export: the list is empty"));
        }
        Ok(wanted)
    }
}

fn read_list(path: &Path) -> Result<String> {
    let what = || format!("cannot read the list {}", path.display());
    let reader: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(|e| Error::io(what(), e))?)
    };
    let mut bytes = Vec::new();
    reader.take(selection::MAX_LIST as u64 + 1).read_to_end(&mut bytes).map_err(|e| Error::io(what(), e))?;
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
