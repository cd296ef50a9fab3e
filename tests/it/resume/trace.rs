//! Faults that the kernel is made to answer with, and kills at chosen system calls, by strace.

use std::path::Path;
use std::process::Command;

/// What a run is wrapped into so that system calls on these files fail or kill; nothing where tracing is forbidden.
/// `inject` is as strace(1) has it: `pwrite64:error=EIO:when=3+`.
pub(crate) fn strace(files: &[&Path], inject: &[&str]) -> Option<Vec<String>> {
    if !Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: strace is missing, or the kernel forbids to trace");
        return None;
    }
    let mut line: Vec<String> = ["strace", "-f", "-qq", "-o", "/dev/null"].map(str::to_owned).into();
    let calls: Vec<&str> = inject.iter().filter_map(|what| what.split(':').next()).collect();
    line.extend(["-e".to_owned(), format!("trace={}", calls.join(","))]);
    for file in files {
        line.extend(["-P".to_owned(), file.display().to_string()]);
    }
    for what in inject {
        line.extend(["-e".to_owned(), format!("inject={what}")]);
    }
    Some(line)
}

/// As it is given to a command.
pub(crate) fn words(line: &[String]) -> Vec<&str> {
    line.iter().map(String::as_str).collect()
}
