//! What `scripts/bench` needs and a shell does badly: content of any size, a slow line, programs without fsync, medians.
//!
//! ```text
//! yardstick images OUT COUNT LAYERS BYTES     a tree of made-up images, as scripts/corpus makes it of real ones
//! yardstick store TREE STORAGE                puts such a tree where docker-registry keeps its content
//! yardstick line HOST ROUND-TRIP BANDWIDTH    a proxy that is as slow as that: 50ms 200Mbit, `-` for no limit
//! yardstick nosync COMMAND...                 runs a command whose fsyncs return at once
//! yardstick report RESULTS FACTS JSON         medians, ratios and what they should be
//! ```

mod images;
mod line;
mod nosync;
mod report;
mod store;

use std::process::ExitCode;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["images", out, count, layers, bytes] => images::make(out.as_ref(), count, layers, bytes),
        ["store", tree, storage] => store::store(tree.as_ref(), storage.as_ref()),
        ["line", host, round_trip, bandwidth] => line::serve(host, round_trip, bandwidth),
        ["nosync", program, ref arguments @ ..] => nosync::run(program, arguments),
        ["report", results, facts, json] => report::report(results.as_ref(), facts.as_ref(), json.as_ref()),
        _ => Err("see the head of tests/support/yardstick/main.rs".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("yardstick: {error}");
            ExitCode::FAILURE
        }
    }
}
