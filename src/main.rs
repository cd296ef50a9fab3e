//! The `sealift` program: parse, run, map the error to an exit code; nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    sealift::cli::main()
}
