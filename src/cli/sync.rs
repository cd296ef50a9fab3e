//! `sealift sync`

mod answer;
mod ends;
mod side;
mod skopeo;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use tokio_util::sync::CancellationToken;

use super::bundle_output::{tell_of_earlier, tell_what_is_signed};
use super::containers::ContainersFiles;
use super::flags::{FALSE, TRUE};
use super::platform::Override;
use super::registry_args::{RequestLimit, RetryArgs};
use super::signals::TidyUp;
use super::state::StateArgument;
use super::time_limit::{self, TimeLimit};
use super::trust::TrustArguments;
use super::{Global, all_done, hub};
use crate::containers::{Registries, Rules};
use crate::error::{Error, Kind, Result};
use crate::jobs::export;
use crate::jobs::import::{self, ImportOptions, LayerCheck, Proof};
use crate::jobs::sync::{self, Format, SyncOptions, SyncPlan};
use crate::plan::{self, Platforms};
use crate::progress::{Event, Progress};
use crate::registry::ExistingTags;
use crate::select::naming::{NamePolicy, Names};
use crate::transfer::{Outcome, TransferOptions};
use answer::SyncReport;
use ends::{SyncDestination, SyncSource};
use side::{DestinationSide, SourceSide};
pub(super) use skopeo::Before;
use skopeo::Signing;

/// Copy images between registries, directory trees and bundles, as skopeo sync does
///
/// Manifests and layers are never changed, so digests stay. An image that is at its destination already costs one
/// request a side; run again, only what changed is moved. Two different images that would land on one name are refused
/// before a layer is read.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Sync {
    /// What SOURCE is: docker (REGISTRY/REPOSITORY, all tags or one image), dir (a tree of image directories), yaml (a
    /// file that names images) or bundle (needs --trust)
    #[arg(short, long, value_enum, hide_possible_values = true, value_name = "TRANSPORT")]
    src: From,
    /// What DESTINATION is: docker (REGISTRY[/PREFIX]), dir (the top of a tree) or bundle (needs --key)
    #[arg(short, long, value_enum, hide_possible_values = true, value_name = "TRANSPORT")]
    dest: To,
    /// Where from
    source: String,
    /// Where to
    destination: String,
    /// Copy indexes with all their platforms; else what this machine would run lands in the place of an index
    #[arg(short, long)]
    all: bool,
    /// Keep the registry and the namespace in the names, as --names scoped
    #[arg(long)]
    scoped: bool,
    /// Under which names images land: base (app:1, skopeo's way without --scoped), path (ns/app:1) or scoped
    /// (registry.example.com/ns/app:1) [default: base; from dir: path, which is all of the path below SOURCE]
    #[arg(long, value_name = "HOW", conflicts_with = "scoped")]
    names: Option<NamePolicy>,
    /// Put TEXT behind every tag
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, allow_hyphen_values = true)]
    append_suffix: String,
    /// Carry signatures, SBOMs and attestations that refer to the images, too
    #[arg(long)]
    referrers: bool,
    /// Write DIGEST and PLACE of every image that is there in the end, one a line
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    /// Show what would be copied where, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Go past images that fail; they are named at the end, exit code 4
    #[arg(long)]
    keep_going: bool,
    /// Leave the signatures of a directory tree behind, which only another such tree can hold
    #[arg(long)]
    remove_signatures: bool,
    /// Refuse images that are not of this format: oci or v2s2; nothing is converted
    #[arg(short, long, value_enum, hide_possible_values = true, value_name = "FORMAT")]
    format: Option<Wanted>,
    /// Keep every digest, which is what is always done
    #[arg(long)]
    preserve_digests: bool,
    /// Choose from indexes for this operating system
    #[arg(long, value_name = "OS")]
    override_os: Option<String>,
    /// Choose from indexes for this architecture, such as arm64
    #[arg(long, value_name = "ARCH")]
    override_arch: Option<String>,
    /// Choose from indexes for this variant of the architecture, such as v7
    #[arg(long, value_name = "VARIANT")]
    override_variant: Option<String>,
    #[command(flatten)]
    time_limit: TimeLimit,
    /// Print the result (with --dry-run, the plan) as JSON
    #[arg(long)]
    json: bool,
    /// With --dest bundle: sign with this OpenSSH private key (or the .pub of a key in ssh-agent)
    #[arg(short, long, value_name = "KEY")]
    key: Option<PathBuf>,
    /// With --dest bundle: resolve the tags again, also when an interrupted run of this command left its plan
    #[arg(long)]
    refresh: bool,
    #[command(flatten)]
    state: StateArgument,
    #[command(flatten)]
    trust: TrustArguments,
    /// Take logins of both sides from FILE only [env: REGISTRY_AUTH_FILE]
    #[arg(long, value_name = "FILE", help_heading = "Registries")]
    authfile: Option<PathBuf>,
    /// For both sides, as skopeo had it once.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = TRUE.into_iter().chain(FALSE).collect::<Vec<_>>())]
    tls_verify: Option<String>,
    #[command(flatten)]
    effort: RetryArgs,
    #[command(flatten)]
    request_limit: RequestLimit,
    #[command(flatten)]
    source_side: SourceSide,
    #[command(flatten)]
    destination_side: DestinationSide,
    #[command(flatten)]
    files: ContainersFiles,
    #[command(flatten)]
    signing: Signing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum From {
    Docker,
    Dir,
    Yaml,
    Bundle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum To {
    Docker,
    Dir,
    Bundle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wanted {
    Oci,
    V2s1,
    V2s2,
}

/// All that is known before a registry is asked. Worked out while Ctrl-C still ends the program at once, for it may wait
/// for a pipe or a password.
pub(super) struct SyncRequest {
    started: Instant,
    wishes: SyncOptions,
    registries: Arc<Registries>,
    source: SyncSource,
    destination: SyncDestination,
    digests: Option<File>,
    limit: Option<Duration>,
    progress: Arc<dyn Progress>,
}

impl Sync {
    /// What it still does after a signal.
    pub(super) fn tidy_up(&self) -> TidyUp {
        match self.dest {
            To::Docker => TidyUp::Network,
            To::Dir | To::Bundle => TidyUp::Medium,
        }
    }

    pub(super) fn request(&self, before: &Before, global: &Global) -> Result<SyncRequest> {
        self.check(before)?;
        let (started, progress) = (Instant::now(), global.progress());
        let files = self.files(before);
        let rules = if self.src == From::Bundle { Rules::default() } else { files.rules()? };
        let registries = files.registries(&*progress)?;
        let wishes = self.wishes(before, rules)?;
        let source = SyncSource::open(self, before, &registries, &progress, global)?;
        let destination = SyncDestination::open(self, before, &wishes, &source, &registries, &progress)?;
        let digests = answer::digest_file(self)?;
        let limit = self.time_limit.limit().or(before.command_timeout).filter(|limit| !limit.is_zero());
        Ok(SyncRequest { started, wishes, registries, source, destination, digests, limit, progress })
    }
}

pub(super) async fn run(
    command: &Sync,
    request: SyncRequest,
    global: &Global,
    cancel: CancellationToken,
) -> Result<()> {
    time_limit::within(request.limit, cancel, |cancel| sync(command, request, global, cancel)).await
}

async fn sync(command: &Sync, request: SyncRequest, global: &Global, cancel: CancellationToken) -> Result<()> {
    let SyncRequest { started, wishes, registries, source, destination, mut digests, progress, .. } = request;
    let planned = tokio::select! {
        () = cancel.cancelled() => return Err(Error::interrupted()),
        planned = plan(command, &source, &destination, &wishes, &*progress, global) => planned?,
    };
    planned.warnings.iter().for_each(|warning| progress.event(Event::Warning(warning)));
    destination.check_blocked(&planned.contents, &registries)?;
    let asked = planned.asked();
    let mut answer = SyncReport::new(planned, &destination, &source)?;
    if command.dry_run {
        answer.show_plan(command.json, global)?;
        return all_done(answer.failures, asked);
    }
    let options = TransferOptions { keep_going: command.keep_going, ..command.effort.options(&progress, cancel) };
    if let SyncDestination::Bundle { making: Some((_, key)), .. } = &destination {
        tell_what_is_signed(&answer.contents, *key, global.quiet);
    }
    let moved = transfer(command, source, &destination, &answer, &options).await;
    if let Some(file) = &mut digests {
        answer.write_digests(file, moved.as_ref().ok())?;
    }
    answer.tell(command, &destination, global, moved?, started)?;
    all_done(answer.failures, asked)
}

async fn plan(
    command: &Sync,
    source: &SyncSource,
    destination: &SyncDestination,
    wishes: &SyncOptions,
    progress: &dyn Progress,
    global: &Global,
) -> Result<SyncPlan> {
    if let SyncDestination::Bundle { making: Some((making, _)), .. } = destination {
        let mut earlier = making.open()?;
        // A plan that names anything else than what is asked for is not continued, whoever wrote it.
        earlier.plan = earlier.plan.filter(|plan| match source {
            SyncSource::Registries { selection, .. } => {
                let sources = plan.contents.images.iter().map(|image| image.source.as_str());
                selection.covers(&plan.contents.images) && wishes.plan.rules.allow_all(sources)
            }
            SyncSource::Tree(_) | SyncSource::Bundle(_) => false,
        });
        tell_of_earlier(&earlier, command.refresh, global.quiet);
        if let Some(plan) = earlier.plan.filter(|_| !command.refresh) {
            let resumed = making.resume(plan);
            return Ok(SyncPlan { failures: resumed.failures, ..SyncPlan::of(Arc::new(resumed.contents)) });
        }
    }
    let signatures = match (command.remove_signatures, destination) {
        (true, _) => plan::SignaturePolicy::Drop,
        (false, SyncDestination::Directory { .. }) => plan::SignaturePolicy::Keep,
        (false, _) => plan::SignaturePolicy::Refuse,
    };
    let planned = match source {
        SyncSource::Registries { client, selection } => {
            let typed = (command.src == From::Docker).then_some(command.source.as_str());
            let planned = sync::from_registries(&**client, selection, wishes, &destination.onto()).await;
            planned.map_err(|e| hub::explain(e, typed, selection))?
        }
        SyncSource::Tree(tree) => sync::from_tree(tree, wishes, signatures, &destination.onto(), progress).await?,
        // The import says what a bundle is without.
        SyncSource::Bundle(verified) => return sync::from_bundle(verified.head.contents.clone(), wishes),
    };
    for note in plan::notes(&planned.contents, &wishes.plan.platforms)? {
        progress.event(Event::Warning(&note));
    }
    Ok(planned)
}

async fn transfer(
    command: &Sync,
    source: SyncSource,
    destination: &SyncDestination,
    answer: &SyncReport,
    options: &TransferOptions,
) -> Result<Outcome> {
    let contents = answer.contents.clone();
    match (destination, source) {
        (SyncDestination::Registry { client, target, .. }, SyncSource::Bundle(verified)) => {
            let manner =
                ImportOptions { layers: LayerCheck::AsTheyAreSent, tags: ExistingTags::Move, proof: Proof::Tags };
            import::import(client, &verified, contents, target, manner, options).await
        }
        (SyncDestination::Registry { place, .. }, source) => {
            sync::run(contents, source.supply()?, place.clone(), options).await
        }
        (SyncDestination::Directory { path, layout }, source) => {
            let signatures = match &source {
                SyncSource::Tree(tree) if !command.remove_signatures => sync::signatures(tree, &contents)?,
                _ => sync::KeptSignatures::new(),
            };
            let tree = sync::directory(path.clone(), &contents, layout, signatures, options.progress.clone())?;
            sync::run(contents, source.supply()?, Arc::new(tree), options).await
        }
        (SyncDestination::Bundle { making, .. }, source) => {
            let Some((making, _)) = making else { return Err(Error::usage("--dest bundle needs --key")) };
            let supply = source.supply()?;
            making.set_skipped(&answer.failures);
            export::export(supply, contents, making, options).await.map(|(outcome, _)| outcome)
        }
    }
    .map_err(|error| match command.src {
        From::Dir if error.kind() == Kind::Damaged => {
            error.hint("nothing that needs it has landed: make that directory again")
        }
        _ => error,
    })
}

impl Sync {
    /// Refuses what does not go together, and what skopeo has and sealift has not.
    fn check(&self, before: &Before) -> Result<()> {
        before.check()?;
        self.signing.check()?;
        let usage = |message: &str, hint: &str| Err(Error::usage(message).hint(hint));
        if (self.src, self.dest) == (From::Bundle, To::Bundle) {
            return usage(
                "a bundle is not made of a bundle",
                "copy it as it is; sealift verify says whether it is whole",
            );
        }
        if self.key.is_some() != (self.dest == To::Bundle) {
            return match self.key {
                Some(_) => usage("--key goes with --dest bundle", "nothing else is signed"),
                None if self.dry_run => Ok(()),
                None => usage("--dest bundle needs --key", "make a key with sealift keygen, then give --key KEY"),
            };
        }
        if self.refresh && self.dest != To::Bundle {
            return usage("--refresh goes with --dest bundle", "every other sync looks at the tags in any case");
        }
        if self.src != From::Bundle && self.trust.given() {
            return usage("--trust goes with --src bundle", "nothing vouches for what comes from elsewhere");
        }
        let renames = self.scoped || self.names.is_some() || !self.append_suffix.is_empty();
        if self.src == From::Bundle && (renames || self.chooses(before) != Override::default()) {
            return usage(
                "a bundle is carried as it was sealed: its names and platforms cannot be chosen any more",
                "leave out --scoped, --names, --append-suffix and --override-*; a PREFIX behind the registry is possible",
            );
        }
        if self.referrers && matches!(self.src, From::Dir | From::Bundle) {
            return usage(
                "--referrers goes with --src docker and yaml",
                "from a bundle referrers come in any case; a tree has none",
            );
        }
        if self.format == Some(Wanted::V2s1) {
            return usage("--format v2s1 asks for a conversion", "manifests are carried unchanged: leave --format out");
        }
        if (self.source_side.reads_stdin() || self.destination_side.reads_stdin()) && self.source == "-" {
            return usage("SOURCE and a password both want to read stdin", "put one of them into a file");
        }
        Ok(())
    }

    /// The files that are named before `sync` or behind it.
    fn files(&self, before: &Before) -> ContainersFiles {
        let (own, before) = (self.files.clone(), &before.files);
        ContainersFiles {
            policy: own.policy.or_else(|| before.policy.clone()),
            insecure_policy: own.insecure_policy || before.insecure_policy,
            registries_conf: own.registries_conf.or_else(|| before.registries_conf.clone()),
            registries_d: own.registries_d.or_else(|| before.registries_d.clone()),
        }
    }

    fn wishes(&self, before: &Before, rules: Rules) -> Result<SyncOptions> {
        let way = match (self.scoped, self.names, self.src) {
            (true, ..) => NamePolicy::Scoped,
            (_, Some(way), _) => way,
            (_, None, From::Dir | From::Bundle) => NamePolicy::Path,
            (_, None, From::Docker | From::Yaml) => NamePolicy::Base,
        };
        let platforms = if self.all || self.src == From::Bundle {
            Platforms::All
        } else {
            Platforms::Best(self.chooses(before).platforms())
        };
        Ok(SyncOptions {
            plan: plan::PlanOptions {
                names: Names { policy: way, suffix: self.append_suffix.clone(), in_directories: self.dest == To::Dir },
                platforms,
                referrers: self.referrers,
                keep_going: self.keep_going,
                jobs: self.effort.jobs.get(),
                max_requests: self.request_limit.max_requests_per_image,
                command: plan::CallingCommand::Sync,
                rules,
            },
            format: match self.format {
                None | Some(Wanted::V2s1) => None,
                Some(Wanted::Oci) => Some(Format::Oci),
                Some(Wanted::V2s2) => Some(Format::DockerSchema2),
            },
        })
    }

    fn chooses(&self, before: &Before) -> Override {
        let either = |here: &Option<String>, before: &Option<String>| here.clone().or_else(|| before.clone());
        Override {
            os: either(&self.override_os, &before.override_os),
            architecture: either(&self.override_arch, &before.override_arch),
            variant: either(&self.override_variant, &before.override_variant),
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  sealift sync --src docker --dest dir --scoped --all registry.example.com/ns/app usb/images
  sealift sync --src dir --dest docker usb/images registry.local:5000
  sealift sync --src yaml --dest docker --keep-going --digestfile digests sync.yaml registry.local
A bundle as one end:
  sealift sync -s yaml -d bundle --all --names path --key release.key sync.yaml usb/all
  sealift sync -s docker -d bundle --key release.key --refresh --state ~/plans quay.io/ns/app usb/app
  sealift sync -s bundle -d dir --trust allowed_signers usb/all usb/images
  sealift sync -s bundle -d dir --trust exporters --trust-any-namespace usb/all usb/images
  sealift sync -s bundle -d dir --trust usb/exporters --trust-writable usb/all usb/images
What would happen, for a person or a program:
  sealift sync -s docker -d docker --dry-run --json quay.io/ns/app registry.local
What lands, and under which name:
  sealift sync -s docker -d docker --append-suffix -mirror --referrers quay.io/ns/app:1 my.local
  sealift sync -s docker -d dir --override-arch arm --override-variant v7 quay.io/ns/app usb
  sealift sync -s docker -d dir --override-os windows quay.io/ns/app usb
  sealift sync -s dir -d docker --format oci --preserve-digests --remove-signatures usb my.local
Logins, certificates, limits; -s docker -d docker quay.io/ns/app registry.local and
  --authfile both.json, or --src-authfile in.json --dest-authfile out.json
  --src-username robot --src-password-stdin --dest-username me --dest-password SECRET
  --src-username robot --src-password SECRET, or --dest-username me --dest-password-stdin
  --src-creds robot:SECRET --dest-creds me:SECRET, or --src-no-creds --dest-no-creds
  --src-registry-token TOKEN --dest-registry-token TOKEN
  --src-cert-dir certs/quay --src-tls-verify=true
  --dest-cert-dir certs/local --dest-tls-verify=false
  --src-allow-redirect minio.example.com --dest-allow-redirect 10.0.0.5
  --retry-times 8 --retry-delay 500ms --jobs 2 --limit-rate 20MiB --command-timeout 2h
  --registries-conf mirrors.conf --registries.d signatures.d --policy strict.json, or --insecure-policy
  --stall-timeout 30m --max-requests-per-image 50000
  -vv for every request, --progress plain for lines instead of bars, --quiet for errors alone

The YAML is that of skopeo-sync(1); sealift export --help shows it. Options that skopeo takes
before sync may stand there, too. Signing while copying (--sign-by and its like) is not here:
seal with --dest bundle --key, or sign where the images are.";
