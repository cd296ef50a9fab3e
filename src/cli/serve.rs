//! `sealift serve`

use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::output::{note, print_data};
use super::registry_args::DEFAULT_JOBS;
use super::trust::TrustArguments;
use super::{Global, inspect};
use crate::error::{Error, Result};
use crate::jobs::verify;
use crate::layout::Layout;
use crate::serve::{SealedStore, Service, serve};
use crate::{clock, transfer};

/// Be a registry: for a bundle, or for an image layout directory
///
/// A bundle is verified in full before anything is served, so --trust is needed. A layout directory has no seal;
/// with --writable images can be pushed into it. Plain HTTP without logins: listen on a loopback address, or put a
/// proxy before it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sealift serve usb/release --trust allowed_signers
  sealift serve --writable ./registry --listen 127.0.0.1:5000")]
pub(super) struct Serve {
    /// A bundle (a directory or a tar), or an OCI image layout directory
    path: PathBuf,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000")]
    listen: String,
    /// Take pushes; makes the layout directory if there is none
    #[arg(long, conflicts_with = "trust")]
    writable: bool,
    #[command(flatten)]
    trust: TrustArguments,
}

pub(super) async fn run(command: &Serve, global: &Global, cancel: CancellationToken) -> Result<()> {
    if command.path.as_os_str() == "-" {
        return Err(Error::usage("a registry answers in any order, and a pipe goes by once")
            .hint("keep the bundle as a file (cat > BUNDLE.tar) and serve that"));
    }
    let service = if command.writable {
        let layout = Layout::create(&command.path)?;
        if layout.sealed() {
            return Err(Error::usage(format!(
                "{} is a sealed bundle, which cannot be written to",
                command.path.display()
            ))
            .hint("serve it without --writable, or import it into another directory that is served"));
        }
        Service::writable(Arc::new(layout))?
    } else {
        let sealed = command.path.is_file() || command.path.join("SHA256SUMS").symlink_metadata().is_ok();
        let trust = command.trust.load()?;
        // Whoever gives trust wants a seal: a bundle whose seal was removed must not pass for a plain layout.
        if sealed || trust.is_some() {
            let trust = trust.map_or_else(|| command.trust.required(), Ok)?;
            let verified = verify::open(&command.path, &trust, clock::now()?)?;
            let bundle = verified.bundle()?.clone();
            let progress = global.progress();
            let options =
                transfer::TransferOptions { jobs: DEFAULT_JOBS, progress, cancel: cancel.clone(), keep_going: false };
            verify::layers(&verified, &options).await?;
            if !global.quiet {
                note(inspect::signer_lines(&verified.head.seal).trim_end());
            }
            Service::new(Arc::new(SealedStore::new(bundle, verified.head.contents.clone())?))
        } else {
            if !global.quiet {
                note("this layout has no seal: nobody vouches for what is served");
            }
            Service::new(Arc::new(Layout::open(&command.path)?))
        }
    };
    let cannot_listen = |e| {
        Error::io(format!("cannot listen on {}", command.listen), e)
            .hint("another program may have the port: choose one with --listen 127.0.0.1:PORT")
    };
    let listener = TcpListener::bind(&command.listen).await.map_err(cannot_listen)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    if !address.ip().is_loopback() && !global.quiet {
        note("warning: anybody who reaches this address can use this registry; there are no logins and no TLS");
    }
    print_data(&format!("listening on http://{address}\n"))?;
    serve(listener, service.router(), cancel).await
}
