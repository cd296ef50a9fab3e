use regex::bytes::RegexBuilder;
use serde_json::Value;

use crate::oci::Tag;
use crate::select::re2::*;
use crate::select::tags::TagRegex;

/// What `regexp.Compile` and `MatchString` of Go 1.19.8 answered, made once.
const GO: &str = include_str!("go.json");

#[test]
fn every_expression_means_what_it_means_to_go() {
    let table: Vec<Value> = serde_json::from_str(GO).unwrap();
    let texts = |value: &Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap() };
    let tags: Vec<Tag> = texts(&table[0]["tags"]).iter().map(|tag| tag.parse().unwrap()).collect();
    assert!(table.len() > 400, "{}", table.len());
    let mut wrong = Vec::new();
    for row in &table[1..] {
        let expression = row["expression"].as_str().unwrap();
        let ours = TagRegex::new(expression).map(|regex| -> Vec<String> {
            tags.iter().filter(|tag| regex.matches(tag)).map(ToString::to_string).collect()
        });
        match (row.get("matches"), ours) {
            (None, Err(_)) => {}
            (Some(theirs), Ok(ours)) if texts(theirs) == ours => {}
            (theirs, ours) => wrong.push(format!("{expression:.60}\n  Go {theirs:?}\n  here {ours:?}")),
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_group_may_be_named_as_in_go_1_22() {
    let expression = translated("^(?<year>[0-9]{4})$").unwrap();
    assert!(RegexBuilder::new(&expression).build().is_ok());
    assert!(translated("(?<>a)").is_err());
}

/// The size that the program is compiled to is bounded, whatever is asked for.
#[test]
fn large_expressions_are_refused_or_fit() {
    for text in [
        "(?:[a-z]{1000}[0-9]{1000})".repeat(80),
        "(a|b".repeat(500) + &")".repeat(500),
        "(?:x".repeat(990) + &")+".repeat(990),
    ] {
        let begun = std::time::Instant::now();
        let _ = TagRegex::new(&text);
        assert!(begun.elapsed().as_secs() < 60);
    }
}
