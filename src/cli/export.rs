//! `sealift export`

mod request;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::bundle_output::{Compress, tell_what_is_signed};
use super::containers::ContainersFiles;
use super::credentials::Credentials;
use super::escape::escape_controls;
use super::listing::{self, Totals};
use super::output::{print_data, print_json};
use super::registry_args::{AccessArgs, RequestLimit};
use super::state::StateArgument;
use super::summary;
use super::time_limit::{self, TimeLimit};
use super::{Global, all_done, hub, inspect, stderr};
use crate::cli::summary::RunSummary;
use crate::content::{self, Contents};
use crate::dir::Tree;
use crate::error::{Error, Failure, Result};
use crate::jobs::export;
use crate::jobs::sync;
use crate::plan::{self, Plan, PlanOptions, PlatformFilter, Platforms, SignaturePolicy};
use crate::progress::{Event, Progress};
use crate::registry::Client;
use crate::select::naming::NamePolicy;
use crate::select::{Filter, Selection};
use crate::transfer::{Input, TransferOptions};
use crate::trust::KeyId;
pub(super) use request::{ExportRequest, read_file};

/// Write images from registries into a new signed bundle
///
/// An IMAGE is REGISTRY/REPOSITORY:TAG or ...@DIGEST; without tag and digest every tag of the repository is taken.
/// Indexes (multi-platform images) come with all their platforms. Each blob is fetched once and stored once,
/// whatever shares it. Interrupted, the same command goes on where it stopped; a pipe or .tar.zst begins anew.
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
  sealift export --from-dir usb/skopeo-tree --output usb/all --key release.key

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
    #[arg(value_name = "IMAGE", required_unless_present_any = ["from", "from_dir"])]
    images: Vec<String>,
    /// Read more images from FILE: a list, one a line (# begins a comment; - is stdin), or skopeo's YAML (see below)
    #[arg(long, value_name = "FILE")]
    from: Vec<PathBuf>,
    /// Seal a tree of image directories, as skopeo sync and sealift sync --dest dir write them; names are the paths
    /// below DIR
    #[arg(long, value_name = "DIR", conflicts_with_all = ["images", "from", "include", "exclude", "latest", "scoped"])]
    from_dir: Option<PathBuf>,
    /// With --from-dir: leave the signatures of skopeo behind, which only such a tree can hold
    #[arg(long, requires = "from_dir")]
    remove_signatures: bool,
    /// Of repositories without a tag: only tags like this, such as '1.*'; may be given again
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Of repositories without a tag: no tags like this, such as '*-rc*'; may be given again
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Of repositories without a tag: the N highest versions each; tags that are no versions do not count
    #[arg(long, value_name = "N")]
    latest: Option<NonZeroUsize>,
    /// What to make: a directory, one file if it ends with .tar or .tar.zst, or - for stdout. It must not exist, and
    /// the directory around it must
    #[arg(short, long, value_name = "BUNDLE", required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    /// With --output -: how to compress the tar
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Compress::None)]
    compress: Compress,
    /// Resolve the tags again, also when an interrupted run of this command left its plan; its data is used again
    #[arg(long)]
    refresh: bool,
    /// Sign with this OpenSSH private key (or the .pub of a key in ssh-agent)
    #[arg(short, long, value_name = "KEY", required_unless_present = "dry_run")]
    key: Option<PathBuf>,
    /// Under which names the images will land: path, scoped or base
    #[arg(long, value_name = "HOW", default_value = "path")]
    names: NamePolicy,
    /// Keep the registry in the names, as --names scoped
    #[arg(long, conflicts_with = "names")]
    scoped: bool,
    /// Carry only this platform; may be given again. One platform lands as its own manifest, several keep the index. Of
    /// several versions of Windows, one is chosen as windows/amd64:10.0.20348.1
    #[arg(long, value_name = "OS/ARCH[/VARIANT][:OS.VERSION]")]
    platform: Vec<PlatformFilter>,
    /// With one --platform: keep the index, so that its digest stays
    #[arg(long, value_enum, value_name = "WHAT", requires = "platform")]
    platform_as: Option<PlatformAs>,
    /// Leave signatures, SBOMs and attestations behind
    #[arg(long)]
    no_referrers: bool,
    /// Go past images that fail; they are named at the end, exit code 4 (3 if one is damaged or refused)
    #[arg(long)]
    keep_going: bool,
    /// Show what would be carried and under which names, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the result (with --dry-run, the plan) as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    time_limit: TimeLimit,
    #[command(flatten)]
    state: StateArgument,
    #[command(flatten)]
    credentials: Credentials,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    files: ContainersFiles,
    #[command(flatten)]
    request_limit: RequestLimit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PlatformAs {
    /// The index unchanged; what is left out is noted in the bundle. Some registries refuse such an index
    Index,
    /// The platform's own manifest
    Manifest,
}

pub(super) async fn run(
    command: &Export,
    request: ExportRequest,
    global: &Global,
    cancel: CancellationToken,
) -> Result<()> {
    let limit = command.time_limit.limit();
    time_limit::within(limit, cancel, |cancel| export(command, request, global, cancel)).await
}

async fn export(command: &Export, request: ExportRequest, global: &Global, cancel: CancellationToken) -> Result<()> {
    let ExportRequest {
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
    } = request;
    let source = match tree {
        Some(tree) => Source::Tree(Arc::new(tree)),
        None => Source::Registries(command.access.client_with_overrides(
            &selection.registries,
            registries,
            &progress,
            logins,
        )?),
    };
    let options =
        TransferOptions { keep_going: command.keep_going, ..command.access.options(&progress, cancel.clone()) };
    let wishes = PlanOptions {
        names: naming.into(),
        platforms: Platforms::new(command.platform.clone(), command.platform_as == Some(PlatformAs::Index)),
        referrers: !command.no_referrers,
        keep_going: command.keep_going,
        jobs: command.access.effort.jobs.get(),
        max_requests: command.request_limit.max_requests_per_image,
        command: plan::CallingCommand::Export,
        rules,
    };
    let Plan { contents, mut failures, warnings } = match resumed {
        Some(plan) => plan,
        None => tokio::select! {
            () = cancel.cancelled() => return Err(Error::interrupted()),
            planned = command.plan(&source, &selection, &filter, &wishes, &*progress) => planned?,
        },
    };
    for warning in warnings.into_iter().chain(plan::notes(&contents, &wishes.platforms)?) {
        progress.event(Event::Warning(&warning));
    }
    // Nobody asked for referrers one by one.
    let asked = Totals::of(&contents)?.asked() + failures.len();
    let Some(making) = making else {
        print_plan(command, &source, &contents, key_id, &failures).await?;
        return all_done(failures, asked);
    };
    let shown = command.output.as_ref().map(|output| output.display().to_string()).unwrap_or_default();
    let contents = Arc::new(contents);
    making.set_skipped(&failures);
    if let Some(key) = key_id {
        tell_what_is_signed(&contents, key, global.quiet);
    }
    let (outcome, identity) =
        export::export(Input::Source(source.blobs()), contents.clone(), &making, &options).await?;
    let contents = summary::landed(&contents, &outcome.failures)?;
    failures.extend(outcome.failures);
    let done = RunSummary {
        summary: outcome.summary,
        totals: Totals::of(&contents)?,
        seconds: started.elapsed().as_secs_f64(),
    };
    let signer = key_id.map(|id| id.to_string()).unwrap_or_default();
    if !global.quiet {
        let seal = format!("bundle {identity}\nsigned by key id {signer}");
        let lines = done.lines(&format!("sealed {shown}"), "fetched") + &seal;
        stderr::summary(done.json("fetched", failures.len()), &lines);
    }
    if command.json {
        // Configs went by as blobs; what they say of platforms is read where they are now.
        let platforms = command.output.as_deref().map(inspect::platforms_in).unwrap_or_default();
        let mut value = listing::json(&contents, &platforms)?;
        value["bundle"] = json!(shown);
        value["identity"] = json!(identity.to_string());
        value["signers"] = json!([{"keyId": signer}]);
        done.add_to(&mut value, "fetched");
        value.keep_landed(&failures);
        print_json(&value)?;
    }
    all_done(failures, asked)
}

/// Where images come from.
enum Source {
    Registries(Client),
    Tree(Arc<Tree>),
}

impl Source {
    fn blobs(&self) -> Arc<dyn content::Source> {
        match self {
            Source::Registries(client) => Arc::new(client.clone()),
            Source::Tree(tree) => tree.clone(),
        }
    }
}

impl Export {
    async fn plan(
        &self,
        source: &Source,
        selection: &Selection,
        filter: &Filter,
        wishes: &PlanOptions,
        progress: &dyn Progress,
    ) -> Result<Plan> {
        match source {
            Source::Registries(client) => {
                let typed = self.images.iter().map(String::as_str);
                export::plan(client, selection, filter, wishes).await.map_err(|e| hub::explain(e, typed, selection))
            }
            Source::Tree(tree) => {
                let signatures = if self.remove_signatures { SignaturePolicy::Drop } else { SignaturePolicy::Refuse };
                sync::read_tree(tree, wishes, signatures, progress)
            }
        }
    }
}

async fn print_plan(
    command: &Export,
    source: &Source,
    contents: &Contents,
    key_id: Option<KeyId>,
    failures: &[Failure],
) -> Result<()> {
    let mut platforms = listing::ConfigPlatforms::default();
    let blobs = source.blobs();
    let mut configs = stream::iter(listing::configs(contents))
        .map(async |id| (contents.blob(id).digest, export::config(&*blobs, contents, id).await))
        .buffer_unordered(command.access.effort.jobs.get());
    while let Some((digest, config)) = configs.next().await {
        // Without it the platform is not shown. That it cannot be had is told by the export itself.
        if let Ok(bytes) = config {
            platforms.add(digest, &bytes);
        }
    }
    if command.json {
        let mut value = listing::json(contents, &platforms)?;
        value["signers"] = key_id.iter().map(|id| json!({"keyId": id.to_string()})).collect();
        value.keep_landed(failures);
        return print_json(&value);
    }
    let mut text = listing::table(contents, &platforms)?;
    if let Some(id) = key_id {
        text += &format!("It would be signed by key id {id}.\n");
    }
    print_data(&escape_controls(&text))
}
