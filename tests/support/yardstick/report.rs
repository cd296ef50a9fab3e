//! What was measured, as a table of medians and ratios, and as JSON.
//!
//! RESULTS has a line for each run: `part fsync name seconds cpu MiB-of-memory MiB-read MiB-written requests`, where
//! requests is `GET-blobs=12,HEAD-blobs=3` or `-`; a part is a corpus under certain conditions, or a point of a curve.
//! FACTS has `name value` lines: what the parts are made of, versions.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::Result;

/// Everything about one contender in one part.
#[derive(Default)]
struct Measured {
    /// A column each: seconds, CPU seconds, MiB of memory, MiB read, MiB written.
    columns: [Vec<f64>; 5],
    requests: BTreeMap<String, u64>,
}

/// What two contenders' medians should be to each other, in seconds.
struct Wanted {
    part: &'static str,
    ours: &'static str,
    theirs: &'static str,
    /// At least so many times faster; below one: at most so much of the time.
    times: f64,
}

type Parts = BTreeMap<(String, String), Vec<(String, Measured)>>;

pub fn report(results: &Path, facts: &Path, json: &Path) -> Result<()> {
    let facts: BTreeMap<String, String> = fs::read_to_string(facts)?
        .lines()
        .filter_map(|line| line.split_once(' ').map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect();
    let mut parts = read(&fs::read_to_string(results)?)?;
    parts.values_mut().for_each(add_pipelines);
    for ((part, fsync), contenders) in parts.iter().filter(|((part, _), _)| !part.contains('=')) {
        print_part(part, fsync, contenders);
        print_carried(part, &facts);
    }
    print_curves(&parts);
    print_wanted(&parts);
    print_line_use(&parts, &facts);
    fs::write(json, format!("{:#}\n", as_json(&parts, &facts)))?;
    println!("\nwritten to {}", json.display());
    Ok(())
}

fn read(text: &str) -> Result<Parts> {
    let mut parts = Parts::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [part, fsync, name, numbers @ .., requests] = &fields[..] else { return Err(line.into()) };
        let numbers: [&str; 5] = numbers.try_into().map_err(|_| format!("not nine fields: {line}"))?;
        let contenders = parts.entry(((*part).to_owned(), (*fsync).to_owned())).or_default();
        let at = contenders.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            contenders.push(((*name).to_owned(), Measured::default()));
            contenders.len() - 1
        });
        let measured = &mut contenders[at].1;
        for (column, number) in measured.columns.iter_mut().zip(numbers) {
            column.push(number.parse()?);
        }
        // Those of the last run: they are the same each time.
        measured.requests = requests.split(',').filter_map(|r| r.split_once('=')).map(count).collect::<Result<_>>()?;
    }
    Ok(parts)
}

fn count((what, count): (&str, &str)) -> Result<(String, u64)> {
    Ok((what.to_owned(), count.parse()?))
}

/// A pipeline is skopeo's run and what a careful user does around it, which was timed by itself: round by round.
fn add_pipelines(contenders: &mut Vec<(String, Measured)>) {
    for job in ["export", "import"] {
        let find = |name: &str| contenders.iter().find(|(known, _)| *known == format!("{job}-{name}")).map(|(_, m)| m);
        let (Some(skopeo), Some(around)) = (find("skopeo"), find("around")) else { continue };
        let mut whole = Measured { requests: skopeo.requests.clone(), ..Measured::default() };
        for (number, column) in whole.columns.iter_mut().enumerate() {
            let (a, b) = (&skopeo.columns[number], &around.columns[number]);
            *column = a.iter().zip(b).map(|(a, b)| if number == MEMORY { a.max(*b) } else { a + b }).collect();
        }
        contenders.push((format!("{job}-pipeline"), whole));
    }
}

fn print_part(part: &str, fsync: &str, contenders: &[(String, Measured)]) {
    println!("\n{part}, fsync {fsync}");
    let head = ["", "seconds", "spread", "CPU s", "MiB", "read MiB", "written", "requests", "x sealift"];
    println!("{:<18}{}", head[0], head[1..].iter().map(|word| format!("{word:>11}")).collect::<String>());
    for (name, measured) in contenders {
        let [seconds, cpu, memory, read, written] = measured.columns.each_ref().map(|column| median(column));
        let spread = measured.columns[SECONDS].iter().copied().fold(f64::NEG_INFINITY, f64::max)
            - measured.columns[SECONDS].iter().copied().fold(f64::INFINITY, f64::min);
        let requests: u64 = measured.requests.values().sum();
        let ours = times_ours(contenders, name, seconds);
        println!(
            "{name:<18}{seconds:>11.2}{spread:>11.2}{cpu:>11.2}{memory:>11.1}{read:>11.0}{written:>11.0}{requests:>11}{ours:>11.2}"
        );
    }
}

/// What the courier carries.
fn print_carried(part: &str, facts: &BTreeMap<String, String>) {
    let megabytes = |name: &str| {
        let bytes = facts.get(&format!("{part}.{name}"))?.parse::<f64>().ok()?;
        Some(format!("{:.0} MB", bytes / 1e6))
    };
    let carried = ["unique_bytes", "bytes_apart", "bundle_bytes", "dir_bytes"];
    let said = ["unique content", "each image by itself", "sealift's bundle", "skopeo's directory"];
    let known: Vec<String> =
        said.iter().zip(carried).filter_map(|(what, name)| Some(format!("{what} {}", megabytes(name)?))).collect();
    println!("{}", known.join(", "));
}

/// Parts that are called `CURVE=POINT`, point by point, and how the last steps compare: as many times as much of one
/// thing should take as many times as long.
fn print_curves(parts: &Parts) {
    let mut curves: BTreeMap<(&str, &str), BTreeMap<u64, &Measured>> = BTreeMap::new();
    for ((part, _), contenders) in parts {
        let Some((curve, Ok(point))) = part.split_once('=').map(|(curve, point)| (curve, point.parse())) else {
            continue;
        };
        for (name, measured) in contenders {
            curves.entry((curve, name)).or_default().insert(point, measured);
        }
    }
    for ((curve, name), points) in curves {
        println!("\n{curve}, {name}{:>24}{:>11}{:>11}{:>14}", "seconds", "CPU s", "MiB", "CPU s growth");
        let mut before: Option<(u64, f64)> = None;
        for (point, measured) in points {
            let [seconds, cpu, memory, ..] = measured.columns.each_ref().map(|column| median(column));
            let growth = before.map_or_else(String::new, |(smaller, took)| {
                format!("{:.1}x for {:.1}x", cpu / took, point as f64 / smaller as f64)
            });
            println!("{point:>30}{seconds:>11.2}{cpu:>11.2}{memory:>11.1}   {growth}");
            before = Some((point, cpu));
        }
    }
}

fn print_wanted(parts: &Parts) {
    println!("\nwhat it should be");
    for Wanted { part, ours, theirs, times } in WANTED {
        for ((known, fsync), contenders) in parts.iter().filter(|((known, _), _)| known == part) {
            let (Some(a), Some(b)) = (seconds_of(contenders, ours), seconds_of(contenders, theirs)) else { continue };
            let mark = if b / a >= *times { "reached" } else { "NOT REACHED" };
            println!("{known}, fsync {fsync}: {ours} {:.2}x faster than {theirs}, wanted {times:.2}x: {mark}", b / a);
        }
    }
    let memory = parts.values().flatten().filter(|(name, _)| is_ours(name));
    let most = memory.flat_map(|(_, measured)| measured.columns[MEMORY].iter().copied()).fold(0.0, f64::max);
    println!("sealift's peak memory anywhere: {most:.1} MiB, wanted below 64");
}

/// How much of a line with a bandwidth was used: unique bytes by time.
fn print_line_use(parts: &Parts, facts: &BTreeMap<String, String>) {
    for ((part, fsync), contenders) in parts {
        let number = |name: String| facts.get(&name).and_then(|value| value.parse::<f64>().ok());
        let Some((bytes, rate)) = number(format!("{part}.unique_bytes")).zip(number(format!("{part}.megabits"))) else {
            continue;
        };
        for (name, measured) in contenders {
            let used = 100.0 * bytes * 8.0 / 1e6 / rate / median(&measured.columns[SECONDS]);
            println!("{part}, fsync {fsync}: {name} uses {used:.1} % of {rate:.0} Mbit/s");
        }
    }
}

fn as_json(parts: &Parts, facts: &BTreeMap<String, String>) -> Value {
    let mut all = Map::new();
    for ((part, fsync), contenders) in parts {
        let mut of_part = Map::new();
        for (name, measured) in contenders {
            let [seconds, cpu, memory, read, written] = measured.columns.each_ref().map(|column| median(column));
            let value = json!({
                "seconds": seconds, "times_sealift": times_ours(contenders, name, seconds), "cpu_seconds": cpu, "peak_mib": memory, "read_mib": read, "written_mib": written,
                "requests": measured.requests, "rounds": measured.columns[SECONDS].len(), "all_seconds": measured.columns[SECONDS],
            });
            of_part.insert(name.clone(), value);
        }
        let entry = all.entry(part.clone()).or_insert_with(|| json!({}));
        entry[format!("fsync_{fsync}")] = Value::Object(of_part);
    }
    json!({"facts": facts, "parts": all})
}

fn seconds_of(contenders: &[(String, Measured)], name: &str) -> Option<f64> {
    contenders.iter().find(|(known, _)| known == name).map(|(_, measured)| median(&measured.columns[SECONDS]))
}

/// How many times as long as sealift's run with a tar, of the same job.
fn times_ours(contenders: &[(String, Measured)], name: &str, seconds: f64) -> f64 {
    let job = name.split('-').next().unwrap_or_default();
    seconds_of(contenders, &format!("{job}-tar")).map_or(f64::NAN, |ours| seconds / ours)
}

fn is_ours(name: &str) -> bool {
    ["tar", "directory"].iter().any(|form| name.ends_with(form))
}

fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => (sorted[length / 2 - 1] + sorted[length / 2]) / 2.0,
    }
}

const SECONDS: usize = 0;
const MEMORY: usize = 2;

#[rustfmt::skip]
const WANTED: &[Wanted] = &[
    Wanted { part: "corpus", ours: "export-tar", theirs: "export-pipeline", times: 15.0 },
    Wanted { part: "corpus", ours: "export-tar", theirs: "export-skopeo", times: 5.0 },
    Wanted { part: "corpus", ours: "export-tar", theirs: "export-floor", times: 1.0 / 0.9 },
    Wanted { part: "corpus", ours: "import-tar", theirs: "import-skopeo", times: 2.5 },
    Wanted { part: "corpus", ours: "import-tar", theirs: "import-pipeline", times: 8.0 },
    Wanted { part: "big", ours: "export-tar", theirs: "export-pipeline", times: 3.0 },
    Wanted { part: "big", ours: "export-tar", theirs: "export-skopeo", times: 1.2 },
    Wanted { part: "big", ours: "import-tar", theirs: "import-skopeo", times: 1.0 },
    Wanted { part: "latency", ours: "export-tar", theirs: "export-skopeo", times: 5.0 },
];
