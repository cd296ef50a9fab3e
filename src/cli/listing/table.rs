//! The table for people: at most [`WIDTH`] columns, and no name is ever cut: what is too long goes on in the next line.

use super::{ConfigPlatforms, Row, Totals, rows};
use crate::cli::output::human_size;
use crate::cli::progress::count;
use crate::content::{Absent, Contents, Reason};
use crate::error::Result;
use crate::oci::Digest;
use crate::text::one_line;

/// Images sorted by name, each followed by what is about it; then what is left out; then totals.
pub(crate) fn table(contents: &Contents, platforms: &ConfigPlatforms) -> Result<String> {
    let rows = rows(contents, platforms)?;
    let named: Vec<(String, &Row)> = rows.iter().map(|row| (shown_name(row), row)).collect();
    let fitting = named.iter().map(|(name, _)| name.chars().count()).filter(|width| *width <= WIDEST_NAME);
    let columns = Columns { name: fitting.max().unwrap_or(0).max(4) };
    let mut text = columns.line("NAME", "WHAT", "SIZE", "SHARED", "DIGEST");
    for (name, row) in &named {
        let shared = if row.shared == 0 { "-".into() } else { human_size(row.shared) };
        text += &columns.line(name, row.what, &human_size(row.size), &shared, &row.digest.short());
        text += &details(row);
    }
    text += &absent_lines(&contents.absent);
    text += "\n";
    text += &Totals::of_rows(contents, &rows).to_string();
    text += "\n";
    if rows.iter().any(|row| row.shared > 0) {
        text += "SHARED is the part of SIZE that other images have too; it is carried once.\n";
    }
    Ok(text)
}

/// How wide the first column is; the others are always the same.
struct Columns {
    name: usize,
}

impl Columns {
    fn line(&self, name: &str, what: &str, size: &str, shared: &str, digest: &str) -> String {
        let (before, name) = match name.chars().count() <= self.name {
            true => (String::new(), name),
            false => (fold(name, "    "), ""),
        };
        format!("{before}{name:width$}  {what:11}  {size:>10}  {shared:>10}  {digest}\n", width = self.name)
    }
}

/// Below what it is about, without the repository that both are in.
fn shown_name(row: &Row) -> String {
    let name = shorten_digests(&row.name.to_string());
    match row.depth {
        0 => name,
        depth => format!("{}{}", "  ".repeat(depth.min(8)), &name[row.name.repository().as_str().len()..]),
    }
}

fn details(row: &Row) -> String {
    let indent = "  ".repeat(row.depth.min(8) + if row.depth == 0 { 2 } else { 1 });
    let lists: Vec<String> = row.lists.iter().map(|(what, number)| count(*number, what)).collect();
    let lists = wrap(&format!("{indent}listing "), &lists);
    // What is about another image comes from where that one comes from.
    if row.depth > 0 {
        return lists;
    }
    let known = |platforms: &[String]| -> Vec<String> {
        platforms.iter().filter(|platform| *platform != "unknown/unknown").cloned().collect()
    };
    let mut text = wrap("    for ", &known(&row.platforms)) + &wrap("    without ", &known(&row.platforms_left_out));
    text += &lists;
    if !row.source.is_empty() {
        text += &fold(&format!("    from {}", row.source), "         ");
    }
    text
}

fn absent_lines(absent: &[Absent]) -> String {
    if absent.is_empty() {
        return String::new();
    }
    let lines = absent.iter().map(|absent| {
        let why = match absent.reason {
            Reason::Platform => "platform not asked for",
            Reason::Foreign => "its registry does not hold it",
            Reason::Base => "in an earlier bundle",
        };
        let names: Vec<String> = absent.names.iter().map(|name| shorten_digests(name)).collect();
        let first = format!("  {}  {:>10}  {why:29}  ", absent.digest.short(), human_size(absent.size));
        wrap(&first, &names)
    });
    "\nleft out on purpose:\n".to_owned() + &lines.collect::<String>()
}

/// `first` and the items, with commas between; what does not fit goes on below the first item. Nothing for no items.
fn wrap(first: &str, items: &[String]) -> String {
    let indent = first.chars().count();
    let mut text = String::new();
    let mut line = first.to_owned();
    for (number, item) in items.iter().enumerate() {
        let comma = if number + 1 < items.len() { "," } else { "" };
        let item = format!("{}{comma}", one_line(item, usize::MAX));
        let used = line.chars().count();
        if used > indent && used + 1 + item.chars().count() > WIDTH {
            text += &format!("{line}\n");
            line = " ".repeat(indent);
        } else if used > indent {
            line += " ";
        }
        line += &item;
        // One that is longer than a line: its end stays in hand.
        if line.chars().count() > WIDTH {
            let folded = fold(&line, &" ".repeat(indent));
            let (whole, last) = folded.trim_end_matches('\n').rsplit_once('\n').unwrap_or(("", &folded));
            text += &format!("{whole}\n");
            line = last.to_owned();
        }
    }
    if items.is_empty() { text } else { text + &line + "\n" }
}

/// Lines of at most [`WIDTH`] columns with the whole text in them, all but the first after `indent`. What a stranger wrote
/// makes no lines of its own.
fn fold(text: &str, indent: &str) -> String {
    let text = &*one_line(text, usize::MAX);
    let mut lines = String::new();
    let mut line = String::new();
    let mut used = 0;
    for letter in text.chars() {
        if used == WIDTH {
            lines += &format!("{line}\n");
            indent.clone_into(&mut line);
            used = indent.chars().count();
        }
        line.push(letter);
        used += 1;
    }
    lines + &line + "\n"
}

/// 64 hex digits become the first 12 and a sign that there are more.
fn shorten_digests(text: &str) -> String {
    for mark in ["sha256:", "sha256-"] {
        if let Some((before, rest)) = text.split_once(mark)
            && let Some(hex) = rest.get(..64)
            && Digest::from_hex(hex).is_some()
        {
            return format!("{before}{mark}{}…{}", &hex[..12], &rest[64..]);
        }
    }
    text.to_owned()
}

const WIDTH: usize = 100;
/// What the other columns leave.
const WIDEST_NAME: usize = WIDTH - (2 + 11 + 2 + 10 + 2 + 10 + 2 + 12);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{Builder, NamedImage};
    use crate::oci::{Document, MediaType};
    use bytes::Bytes;

    fn manifest(config_type: &str, layers: &[&str], more: &str) -> Document {
        let blob = |media_type: &str, seed: &str| {
            let (digest, size) = (Digest::of(seed.as_bytes()), seed.len() << 20);
            format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
        };
        let layers: Vec<String> = layers.iter().map(|seed| blob("layer", seed)).collect();
        let config = blob(config_type, "c");
        let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{}]{more}}}"#, layers.join(","));
        Document::parse(Bytes::from(text), &MediaType::new(MediaType::OCI_MANIFEST)).unwrap()
    }

    const IMAGE: &str = "application/vnd.oci.image.config.v1+json";

    fn sample() -> Contents {
        let (one, two) = (manifest(IMAGE, &["shared layer", "one"], ""), manifest(IMAGE, &["shared layer"], ""));
        let child = |document: &Document, platform: &str| {
            let (os, architecture) = platform.split_once('/').unwrap();
            format!(
                r#"{{"mediaType":"{}","digest":"{}","size":{},"platform":{{"os":"{os}","architecture":"{architecture}"}}}}"#,
                document.media_type(),
                document.digest(),
                document.size()
            )
        };
        let left_out = manifest(IMAGE, &["left out"], "");
        let children: Vec<String> = [
            (&one, "linux/amd64"),
            (&two, "linux/arm64"),
            (&left_out, "linux/riscv64"),
            (&left_out, "unknown/unknown"),
        ]
        .map(|(document, platform)| child(document, platform))
        .to_vec();
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, children.join(","));
        let index = Document::parse(Bytes::from(index), &MediaType::new(MediaType::OCI_INDEX)).unwrap();
        let subject = format!(
            r#","artifactType":"application/spdx+json","subject":{{"mediaType":"m","digest":"{}","size":1}}"#,
            one.digest()
        );
        let sbom = manifest("application/vnd.oci.empty.v1+json", &["sbom"], &subject);
        let signature = manifest(IMAGE, &["signature"], "");
        let long = format!("{}/app:1.2.3-rc.4", ["a-rather-long-part-of-a-path"; 8].join("/"));
        let mut builder = Builder::default();
        for document in [&one, &two, &index, &sbom, &signature] {
            builder.document(document).unwrap();
        }
        for (name, document) in [
            ("team/app:1", &index),
            (&*format!("team/app:sha256-{}.sig", index.digest().hex()), &signature),
            (&format!("team/app@{}", sbom.digest()), &sbom),
            (&long, &two),
        ] {
            let source = format!("registry.example.com/{name}");
            builder.image(NamedImage { name: name.parse().unwrap(), source, document: document.digest() }, None);
        }
        builder.absent(Absent {
            digest: left_out.digest(),
            size: left_out.size(),
            reason: Reason::Platform,
            names: vec!["team/app:1".into()],
        });
        builder.finish().unwrap()
    }

    /// The config of every sample says the same.
    fn platforms() -> ConfigPlatforms {
        let mut platforms = ConfigPlatforms::default();
        platforms.add(Digest::of(b"c"), br#"{"architecture":"arm64","os":"linux","variant":"v8","rootfs":{}}"#);
        platforms
    }

    #[test]
    fn a_person_can_decide_on_the_table() {
        let text = table(&sample(), &platforms()).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn the_json_has_everything_in_full() {
        let value = crate::cli::listing::json(&sample(), &platforms()).unwrap();
        insta::assert_snapshot!(serde_json::to_string_pretty(&value).unwrap());
    }

    #[test]
    fn long_lists_go_on_below_their_first_item() {
        let items: Vec<String> = (0..40).map(|n| format!("linux/arch{n}")).collect();
        let text = wrap("    for ", &items);
        assert!(text.lines().count() > 4 && text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("        linux/")), "{text}");
    }

    #[test]
    fn no_name_is_cut_and_no_line_is_too_long() {
        let names: Vec<String> = [20, 49, 50, 100, 101, 255].iter().map(|n| "n".repeat(*n)).collect();
        let text = wrap("  first  ", &names);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert_eq!(text.replace([' ', '\n'], ""), format!("first{}", names.join(",")));
        assert_eq!(fold(&"n".repeat(250), "  ").replace([' ', '\n'], ""), "n".repeat(250));
    }
}
