//! bundle-spec says what the program does: its limits, its schema, its paragraphs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use regex::Regex;
use serde_json::Value;

use super::corpus::{lay_out, spec};
use super::good::GOOD;
use super::table::{archive_attacks, attacks};

fn text() -> String {
    fs::read_to_string(spec().join("README.md")).unwrap()
}

#[test]
fn every_limit_of_the_code_is_a_number_in_the_spec() {
    let text = text();
    let limits = text.split("## 8. Limits").nth(1).unwrap().split("## 9.").next().unwrap();
    let mut checked = 0;
    for (file, wanted) in [
        ("src/bundle/format/limits.rs", ""),
        ("src/oci/json.rs", "MAX_"),
        ("src/oci/document.rs", "MAX_"),
        ("src/content/contents.rs", "MAX_"),
    ] {
        let code = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        for line in code.lines().filter(|line| line.starts_with("pub const ") && line.contains(wanted)) {
            let (name, value) = line.split_once(" = ").unwrap();
            let number = human(value.trim_end_matches(';'));
            let there = Regex::new(&format!(r"(^|[^0-9,]){}($|[^0-9,]|,[^0-9])", regex::escape(&number))).unwrap();
            assert!(there.is_match(limits), "{file}: {name} is {number}, which section 8 does not say");
            checked += 1;
        }
    }
    assert!(checked >= 20, "{checked}");
}

/// `16 << 20` as `16 MiB`, `100_000` as `100,000`.
fn human(value: &str) -> String {
    let units = [(" << 10", " KiB"), (" << 20", " MiB"), (" << 30", " GiB"), (" << 40", " TiB")];
    if let Some((shift, unit)) = units.into_iter().find(|(shift, _)| value.ends_with(shift)) {
        return value.replace(shift, unit);
    }
    if value == "(1 << 53) - 1" {
        return "2^53 - 1".into();
    }
    let digits = value.replace('_', "");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[test]
fn every_attack_names_a_paragraph_of_the_spec_and_every_strict_paragraph_has_an_attack() {
    let text = text();
    let mut paragraphs: BTreeMap<String, usize> = BTreeMap::new();
    let mut section = String::new();
    for line in text.lines() {
        let number =
            |line: &str| line.split_once(". ").map(|(number, _)| number.to_owned()).filter(|n| n.parse::<u8>().is_ok());
        if let Some(number) = line.strip_prefix("## ").and_then(number) {
            section = number;
            paragraphs.insert(section.clone(), 0);
        } else if let Some(number) = number(line) {
            paragraphs.insert(format!("{section}.{number}"), 0);
        }
    }
    let bundles = attacks().into_iter().map(|attack| (attack.name, attack.rule));
    for (name, rule) in bundles.chain(archive_attacks().into_iter().map(|attack| (attack.name, attack.rule))) {
        *paragraphs.get_mut(rule).unwrap_or_else(|| panic!("{name}: {rule}")) += 1;
    }
    for section in ["2", "3", "6", "7"] {
        let bare: Vec<_> = paragraphs
            .iter()
            .filter(|(rule, count)| rule.starts_with(&format!("{section}.")) && **count == 0)
            .map(|(rule, _)| rule.as_str())
            .filter(|rule| !NOTHING_TO_ATTACK.contains(rule))
            .collect();
        assert!(bare.is_empty(), "no attack is against {bare:?}");
    }
}

/// What other tools accept; how signatures are checked by hand; opaque configs.
const NOTHING_TO_ATTACK: [&str; 4] = ["2.4", "3.1", "3.6", "7.4"];

#[test]
fn every_good_bundle_is_as_the_schema_says_and_it_can_say_no() {
    let schema: Value = serde_json::from_slice(&fs::read(spec().join("bundle.schema.json")).unwrap()).unwrap();
    for good in GOOD {
        let desk = tempfile::tempdir().unwrap();
        let bundle = lay_out(&format!("good/{}", good.name), desk.path());
        let value: Value = serde_json::from_slice(&fs::read(bundle.join("bundle.json")).unwrap()).unwrap();
        valid(&schema, &schema, &value).unwrap_or_else(|fault| panic!("{}: {fault}", good.name));
    }
    let (mut refused, mut taken) = (0, Vec::new());
    for attack in attacks().iter().filter(|attack| attack.name.starts_with("signed-") && attack.rule == "4") {
        let draft = attack.make();
        match serde_json::from_slice::<Value>(&draft.files["bundle.json"]) {
            Ok(value) if valid(&schema, &schema, &value).is_ok() => taken.push(attack.name),
            _ => refused += 1,
        }
    }
    // Order, dates and what belongs together are beyond a schema.
    assert!(refused >= 12, "{refused} refused, {taken:?} taken");
}

/// As much of JSON Schema as `bundle.schema.json` uses; an unknown keyword is a fault.
fn valid(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let fault = |what: &str| Err(format!("{value} breaks {what} of {schema}"));
    let whole = |number: &Value| number.as_u64().expect("a whole number");
    for (keyword, rule) in schema.as_object().expect("a schema is an object") {
        let holds = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" => true,
            "$ref" => {
                let at = rule.as_str().unwrap().trim_start_matches('#');
                return valid(root, root.pointer(at).expect("a definition"), value);
            }
            "type" => match rule.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "integer" => value.is_u64() || value.is_i64(),
                "null" => value.is_null(),
                other => panic!("type {other}"),
            },
            "const" => value == rule,
            "enum" => rule.as_array().unwrap().contains(value),
            "anyOf" => rule.as_array().unwrap().iter().any(|schema| valid(root, schema, value).is_ok()),
            "oneOf" => rule.as_array().unwrap().iter().filter(|schema| valid(root, schema, value).is_ok()).count() == 1,
            "required" => rule.as_array().unwrap().iter().all(|key| value.get(key.as_str().unwrap()).is_some()),
            "additionalProperties" => {
                let known = &schema["properties"];
                value.as_object().is_none_or(|object| object.keys().all(|key| known.get(key).is_some()))
            }
            "properties" => {
                for (key, schema) in rule.as_object().unwrap() {
                    if let Some(value) = value.get(key) {
                        valid(root, schema, value)?;
                    }
                }
                true
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    valid(root, rule, item)?;
                }
                true
            }
            "pattern" => value.as_str().is_none_or(|text| Regex::new(rule.as_str().unwrap()).unwrap().is_match(text)),
            "minimum" => value.as_u64().is_none_or(|number| number >= whole(rule)),
            "maximum" => value.as_u64().is_none_or(|number| number <= whole(rule)),
            "minItems" => value.as_array().is_none_or(|list| list.len() as u64 >= whole(rule)),
            "maxItems" => value.as_array().is_none_or(|list| list.len() as u64 <= whole(rule)),
            "minLength" => value.as_str().is_none_or(|text| text.chars().count() as u64 >= whole(rule)),
            "maxLength" => value.as_str().is_none_or(|text| text.chars().count() as u64 <= whole(rule)),
            "uniqueItems" => value.as_array().is_none_or(|list| (1..list.len()).all(|n| !list[..n].contains(&list[n]))),
            other => panic!("the schema has a keyword that this test does not know: {other}"),
        };
        if !holds {
            return fault(keyword);
        }
    }
    Ok(())
}
