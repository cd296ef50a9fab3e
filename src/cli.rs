//! The command line: one file a command. The only place that knows clap, the terminal, the environment and the
//! home directory.
//!
//! Arguments are parsed once, resolved into what a job needs, and the job is run; its error becomes lines on
//! stderr and an exit code. Data goes to stdout, everything else to stderr.

pub(crate) mod bundle_output;
mod containers;
mod credentials;
mod escape;
mod exit_code;
mod export;
mod flags;
mod help;
mod hub;
mod import;
mod inspect;
mod keygen;
mod listing;
mod login;
mod output;
mod password;
mod platform;
mod progress;
mod reference;
pub(crate) mod registry_args;
mod serve;
mod signals;
mod state;
mod stderr;
pub(crate) mod summary;
mod sync;
mod time_limit;
mod trust;
mod verify;

use std::borrow::Cow;
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, CommandFactory, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::error::{Error, Failure, Result, exit};
use crate::jobs::verify::VerifiedBundle;
use crate::progress::{Progress, Silent};
use crate::text::secrets;
use crate::trust::Trust;
use progress::ProgressKind;
use signals::TidyUp;

/// Parses the process's arguments, runs the command, and says how it went.
pub fn main() -> ExitCode {
    output::remember_secrets(std::env::args_os());
    let arguments = match flags::without_values(&Arguments::command(), std::env::args_os()) {
        Ok(arguments) => Arguments::try_parse_from(arguments).unwrap_or_else(|error| wrong_usage(error)),
        Err(error) => {
            output::print_error(&error);
            return ExitCode::from(exit_code::exit_code(error.kind()));
        }
    };
    stderr::set_voice(arguments.global.progress.voice(arguments.global.noisy()));
    output::init_tracing(if arguments.skopeo.debug { 2 } else { arguments.global.verbose });
    match run(&arguments) {
        Ok(()) => ExitCode::from(exit::DONE),
        Err(error) if output::is_broken_pipe(&error) => ExitCode::from(exit::DONE),
        Err(error) => {
            output::print_error(&error);
            ExitCode::from(exit_code::exit_code(error.kind()))
        }
    }
}

/// Ends the program with what clap says, and with what to do next where it does not say that.
fn wrong_usage(mut error: clap::Error) -> ! {
    // Options that the help does not list are no advice either.
    if let Some(ContextValue::String(option)) = error.get(ContextKind::SuggestedArg)
        && is_hidden(option)
    {
        error.remove(ContextKind::SuggestedArg);
    }
    let text = error.render().to_string();
    match secrets::redact(&text) {
        // Help goes to stdout, errors to stderr.
        Cow::Borrowed(_) => drop(error.print()),
        Cow::Owned(redacted) => output::print_plain(&redacted),
    }
    let missing = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
    if error.kind() == ErrorKind::MissingRequiredArgument {
        for (argument, hint) in MISSING.iter().filter(|(argument, _)| missing.contains(argument)) {
            output::print_hint(&format!("{argument}: {hint}"));
        }
    }
    std::process::exit(error.exit_code());
}

/// Whether an option is hidden in each command that has it.
fn is_hidden(option: &str) -> bool {
    let command = Arguments::command();
    let commands = std::iter::once(&command).chain(command.get_subcommands());
    let is_it = |known: &&clap::Arg| known.get_long().is_some_and(|name| option.strip_prefix("--") == Some(name));
    commands.flat_map(|command| command.get_arguments().filter(is_it)).all(clap::Arg::is_hide_set)
}

/// What to do about arguments whose use is not told by their names.
const MISSING: [(&str, &str); 4] = [
    ("<IMAGE>", "REGISTRY/REPOSITORY:TAG, such as registry.example.com/team/app:1"),
    ("--output", "the bundle to make, such as --output usb/app"),
    ("--key", "whose seal it is; a key is made once, by sealift keygen release.key > allowed_signers"),
    ("<REGISTRY", "where the images are to land, such as registry.local:5000"),
];

/// Seal container images, lift them over an air gap, set them down unchanged.
///
/// On a machine with internet, `sealift export` writes images from registries into a signed bundle. Carry it. In
/// the isolated network `sealift import` verifies it and pushes it into the local registry: names unchanged,
/// digests unchanged.
#[derive(Debug, Parser)]
#[command(name = "sealift", version, max_term_width = 100, args_override_self = true, disable_help_subcommand = true)]
#[command(after_help = format!("{EXAMPLES}\n\n{}\n\n{EXIT_CODES}", help::list_of_guides()))]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(flatten)]
    skopeo: sync::Before,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Move one image. Where there is internet (make the key only once):
  sealift keygen release.key > allowed_signers
  sealift export registry.example.com/team/app:1 --output usb/app --key release.key
Carry the directory usb/app; hand over allowed_signers once, by a way that both sides trust.
In the isolated network:
  sealift verify usb/app --trust allowed_signers
  sealift import usb/app registry.local:5000 --trust allowed_signers
Now it is registry.local:5000/team/app:1, with the same digest.

A registry that wants a login: sealift login HOST. One without HTTPS: --tls-verify=false.
To see first what would happen: export --dry-run, inspect, import --dry-run.
No registry there? sealift serve usb/app --trust allowed_signers is one.";

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 cannot read, reach or write; 2 wrong usage, or no trust given;
3 bundle or image is damaged, not trusted or refused; 4 partly done; 130 stopped by Ctrl-C, 143 by SIGTERM.";

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Everywhere")]
struct Global {
    /// Say more; twice for every request
    #[arg(short, long, action = ArgAction::Count, global = true)]
    verbose: u8,
    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// How to show on stderr what happens: auto (bars on a terminal, else plain), plain (a line now and then), json
    /// (an object a line; sealift help programs lists them) or none
    #[arg(long, value_enum, hide_possible_values = true, default_value_t = ProgressKind::Auto, global = true, value_name = "HOW")]
    progress: ProgressKind,
}

#[derive(Debug, Subcommand)]
enum Command {
    Keygen(keygen::Keygen),
    Export(Box<export::Export>),
    Verify(verify::Verify),
    Inspect(inspect::Inspect),
    Import(import::Import),
    Sync(Box<sync::Sync>),
    Serve(serve::Serve),
    Login(login::LoginArgs),
    Logout(login::Logout),
    Man(reference::Man),
    Completions(reference::Completions),
    Help(help::Help),
}

fn run(arguments: &Arguments) -> Result<()> {
    let global = &arguments.global;
    match arguments.command {
        Command::Sync(_) => {}
        // clap tells the option of the command to this one, too.
        Command::Export(_) | Command::Import(_) => arguments.skopeo.only_for_sync(true)?,
        _ => arguments.skopeo.only_for_sync(false)?,
    }
    match &arguments.command {
        Command::Keygen(command) => keygen::run(command, global.quiet),
        Command::Inspect(command) => inspect::run(command),
        Command::Export(command) => {
            let request = command.request(global)?;
            with_runtime(TidyUp::Medium, |cancel| export::run(command, request, global, cancel))
        }
        Command::Verify(command) => {
            let verified = verify::open(command)?;
            with_runtime(TidyUp::Medium, |cancel| verify::run(command, verified, global, cancel))
        }
        Command::Import(command) => {
            let request = command.request()?;
            with_runtime(TidyUp::Network, |cancel| import::run(command, request, global, cancel))
        }
        Command::Sync(command) => {
            let request = command.request(&arguments.skopeo, global)?;
            with_runtime(command.tidy_up(), |cancel| sync::run(command, request, global, cancel))
        }
        Command::Login(command) => {
            let wanted = command.ask()?;
            with_runtime(TidyUp::Medium, |cancel| login::run(command, wanted, global, cancel))
        }
        Command::Man(command) => reference::run_man(command, global.quiet),
        Command::Completions(command) => reference::run_completions(command),
        Command::Help(command) => help::run(command),
        Command::Logout(command) => login::run_logout(command, global),
        Command::Serve(command) => with_runtime(TidyUp::Network, |cancel| serve::run(command, global, cancel)),
    }
}

impl Global {
    /// Whether diagnostics are written to stderr line by line: then nothing can be redrawn there.
    fn noisy(&self) -> bool {
        self.verbose >= 2
    }

    fn progress(&self) -> Arc<dyn Progress> {
        if self.quiet || self.progress == ProgressKind::None {
            Arc::new(Silent)
        } else {
            self.progress.progress(self.verbose > 0, self.noisy())
        }
    }
}

/// With `--keep-going`: an error that names what was left out, if anything was.
fn all_done(failures: Vec<Failure>, asked: usize) -> Result<()> {
    if failures.is_empty() { Ok(()) } else { Err(Failure::report_partial(failures, asked)) }
}

/// A bundle by its path, or from stdin by `-`: verified but for its layers.
fn open_bundle(path: &Path, trust: &Trust) -> Result<VerifiedBundle> {
    let now = clock::now()?;
    match stdin_for(path)? {
        Some(input) => crate::jobs::verify::open_stream(input, STDIN, trust, now),
        None => crate::jobs::verify::open(path, trust, now),
    }
}

/// Stdin, if that is what `path` means.
fn stdin_for(path: &Path) -> Result<Option<Box<dyn Read + Send>>> {
    if path != Path::new("-") {
        return Ok(None);
    }
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(Error::usage("a bundle does not come from a terminal").hint("pipe it in, or name a file"));
    }
    let own = stdin.as_fd().try_clone_to_owned().map_err(|e| Error::io("cannot read stdin", e))?;
    Ok(Some(Box::new(File::from(own))))
}

/// What messages call it.
const STDIN: &str = "stdin";

/// Runs `job` until it is done or a signal stops it.
fn with_runtime<F: Future<Output = Result<()>>>(
    tidy_up: TidyUp,
    job: impl FnOnce(CancellationToken) -> F,
) -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).max(MIN_THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|e| Error::io("cannot start the worker threads", e))?;
    // Beyond `ulimit -f` a write is to fail, with an error that says so, and not to kill.
    let handled = {
        let _entered = runtime.enter();
        signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))
    };
    let _handled = handled.map_err(|e| Error::io("cannot handle signals", e))?;
    let cancel = CancellationToken::new();
    signals::cancel_on_signal(cancel.clone(), tidy_up)?;
    let done = runtime.block_on(job(cancel));
    runtime.shutdown_background();
    done
}

const MIN_THREADS: usize = 4;
