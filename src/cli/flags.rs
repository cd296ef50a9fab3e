//! Boolean options with a value, as Go's programs take them: `--all=false`, `--dry-run="$DRY"`, `-a=true`.
//!
//! clap's flags take no value, and an option with an optional value is shown as `--all[=<ALL>]` everywhere. So the
//! arguments are rewritten before clap reads them: `--all=true` becomes `--all`, `--all=false` removes every `--all`
//! before it. What is not known here stays as it is, and clap says what is wrong with it.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command};

use crate::error::{Error, Result};

/// What Go takes for true (`strconv.ParseBool`).
pub(super) const TRUE: [&str; 6] = ["true", "1", "t", "T", "TRUE", "True"];
/// What Go takes for false.
pub(super) const FALSE: [&str; 6] = ["false", "0", "f", "F", "FALSE", "False"];

/// `arguments` (the first is the program's name) with every boolean option of `command` and its subcommands written
/// without a value.
///
/// # Errors
/// `Usage` for a value that is neither true nor false.
pub(super) fn without_values(
    command: &Command,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Vec<OsString>> {
    let mut rewriting = Rewriting { levels: vec![command], written: Vec::new(), is_value: false };
    let mut arguments = arguments.into_iter();
    rewriting.written.extend(arguments.next().map(|program| (None, program)));
    while let Some(argument) = arguments.next() {
        if argument == "--" && !rewriting.is_value {
            rewriting.keep(argument);
            arguments.by_ref().for_each(|argument| rewriting.keep(argument));
            break;
        }
        rewriting.take(argument)?;
    }
    Ok(rewriting.written.into_iter().map(|(_, argument)| argument).collect())
}

struct Rewriting<'a> {
    /// The program, and its subcommand once that was named.
    levels: Vec<&'a Command>,
    /// What clap is to read; beside a boolean option its id.
    written: Vec<(Option<String>, OsString)>,
    /// Whether the next argument is the value of the option before it.
    is_value: bool,
}

impl<'a> Rewriting<'a> {
    fn take(&mut self, argument: OsString) -> Result<()> {
        if std::mem::take(&mut self.is_value) {
            self.keep(argument);
            return Ok(());
        }
        match argument.to_str() {
            Some(text) if text.starts_with("--") => {
                let text = text.to_owned();
                self.long(argument, &text[2..])
            }
            Some(text) if text.starts_with('-') && text.len() > 1 => {
                let text = text.to_owned();
                self.short(argument, &text[1..])
            }
            text => {
                let named =
                    text.filter(|_| self.levels.len() == 1).and_then(|name| self.levels[0].find_subcommand(name));
                self.levels.extend(named);
                self.keep(argument);
                Ok(())
            }
        }
    }

    fn long(&mut self, argument: OsString, text: &str) -> Result<()> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let known = self.find(|known| {
            known.get_long() == Some(name) || known.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
        });
        match (known, value) {
            (Some(known), value) if is_boolean(known) => self.flag(known, value, || format!("--{name}")),
            (Some(known), None) => {
                self.is_value = takes_next(known);
                self.keep(argument);
                Ok(())
            }
            _ => {
                self.keep(argument);
                Ok(())
            }
        }
    }

    /// `-a`, `-av`, `-sdocker`, `-s docker`, `-a=false`.
    fn short(&mut self, argument: OsString, text: &str) -> Result<()> {
        let mut rest = text;
        while let Some(letter) = rest.chars().next() {
            let after = &rest[letter.len_utf8()..];
            let Some(known) = self.find(|known| known.get_short() == Some(letter)).filter(|known| is_boolean(known))
            else {
                let other = self.find(|known| known.get_short() == Some(letter));
                self.is_value = after.is_empty() && other.is_some_and(takes_next);
                // Nothing of it was rewritten: a negative number, a path, what clap will refuse.
                self.keep(if rest.len() == text.len() { argument } else { OsString::from(format!("-{rest}")) });
                return Ok(());
            };
            let (value, after) = match after.strip_prefix('=') {
                Some(value) => (Some(value), ""),
                None => (None, after),
            };
            self.flag(known, value, || format!("-{letter}"))?;
            rest = after;
        }
        Ok(())
    }

    fn flag(&mut self, known: &Arg, value: Option<&str>, spelt: impl Fn() -> String) -> Result<()> {
        let id = known.get_id().to_string();
        match value {
            Some(value) if FALSE.contains(&value) => {
                self.written.retain(|(written, _)| written.as_ref() != Some(&id));
                Ok(())
            }
            None => {
                self.written.push((Some(id), spelt().into()));
                Ok(())
            }
            Some(value) if TRUE.contains(&value) => {
                self.written.push((Some(id), spelt().into()));
                Ok(())
            }
            Some(value) => Err(Error::usage(format!("{} takes true or false, not {value:?}", spelt()))
                .hint(format!("write {} alone, or {0}=false", spelt()))),
        }
    }

    fn keep(&mut self, argument: OsString) {
        self.written.push((None, argument));
    }

    /// An option of the subcommand, or of the program where it is for every command.
    fn find(&self, is_it: impl Fn(&Arg) -> bool) -> Option<&'a Arg> {
        let here = self.levels.last().into_iter().flat_map(|command| command.get_arguments());
        let everywhere = self.levels[0].get_arguments().filter(|known| known.is_global_set());
        here.chain(everywhere).find(|known| is_it(known))
    }
}

fn is_boolean(known: &Arg) -> bool {
    matches!(known.get_action(), ArgAction::SetTrue | ArgAction::Count)
}

/// Whether its value is the next argument.
fn takes_next(known: &Arg) -> bool {
    known.get_action().takes_values() && !known.is_require_equals_set()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::Arguments;

    fn rewritten(line: &str) -> Result<String> {
        let arguments = line.split(' ').map(OsString::from);
        let written = without_values(&Arguments::command(), arguments)?;
        Ok(written.join(OsStr::new(" ")).into_string().expect("ASCII"))
    }

    /// Every boolean option of `sync` and of every command, as `sync` takes it.
    #[test]
    fn every_boolean_option_takes_a_value_and_the_last_wins() {
        let mut command = Arguments::command();
        command.build();
        let sync = command.find_subcommand("sync").expect("sync").clone();
        let booleans = sync.get_arguments().filter(|known| matches!(known.get_action(), ArgAction::SetTrue));
        let names: Vec<(String, String)> = booleans
            .map(|known| (known.get_id().to_string(), known.get_long().expect("a long name").to_owned()))
            .collect();
        assert!(names.len() >= 15, "{names:?}");
        for (id, name) in names {
            let value = |options: &[String]| {
                let arguments = ["sealift", "sync", "-s", "dir", "-d", "dir", "a", "b", "--trust", "t"];
                // What some of them need beside them.
                let beside = ["--src-username", "u", "--dest-username", "v"];
                let arguments = arguments.iter().chain(&beside).map(|text| (*text).to_owned());
                let arguments = arguments.chain(options.iter().cloned()).map(OsString::from);
                let written = without_values(&Arguments::command(), arguments).expect("booleans");
                let matches = Arguments::command().try_get_matches_from(written);
                let matches = matches.unwrap_or_else(|e| panic!("{options:?}: {e}"));
                matches.subcommand().expect("sync").1.get_flag(&id)
            };
            let (bare, yes, no) = (format!("--{name}"), format!("--{name}=true"), format!("--{name}=F"));
            assert!(!value(&[]) && !value(std::slice::from_ref(&no)), "{name}");
            // Without a login: these two exclude it.
            if name.ends_with("no-creds") {
                continue;
            }
            assert!(value(std::slice::from_ref(&bare)) && value(std::slice::from_ref(&yes)), "{name}");
            assert!(value(&[no.clone(), bare.clone()]) && value(&[bare.clone(), yes.clone()]), "{name}");
            assert!(!value(&[bare, yes, no]), "{name}");
        }
    }

    #[test]
    fn only_boolean_options_are_rewritten() {
        for (line, expected) in [
            ("sealift --quiet=1 sync --all=false --scoped=t a", "sealift --quiet sync --scoped a"),
            ("sealift -q sync --quiet=false a", "sealift sync a"),
            ("sealift sync -as docker -a=false -vv", "sealift sync -s docker -v -v"),
            ("sealift sync -sdocker -d=dir -a=t", "sealift sync -sdocker -d=dir -a"),
            ("sealift sync --append-suffix --all=false --all", "sealift sync --append-suffix --all=false --all"),
            ("sealift sync --src-password --all=false", "sealift sync --src-password --all=false"),
            ("sealift sync --screds -a=false", "sealift sync --screds -a=false"),
            ("sealift sync --src-tls-verify --all=false", "sealift sync --src-tls-verify"),
            ("sealift sync --src-tls-verify=false a", "sealift sync --src-tls-verify=false a"),
            ("sealift sync -- --all=false", "sealift sync -- --all=false"),
            ("sealift --verbose --verbose=false sync a", "sealift sync a"),
            ("sealift export sync --dry-run=true", "sealift export sync --dry-run"),
            ("sealift sync --unknown=false -x=1 -", "sealift sync --unknown=false -x=1 -"),
        ] {
            assert_eq!(rewritten(line).expect(line), expected);
        }
        let error = rewritten("sealift sync --all=perhaps").expect_err("no boolean");
        assert!(error.chain().contains("--all takes true or false, not \"perhaps\""), "{error:?}");
    }

    #[test]
    fn options_of_skopeo_may_stand_before_and_after_the_command() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{line}: {e}"));
        // Those of policies and registries are options of `sync`, too, which puts both places together.
        let options = "--debug --tmpdir t --command-timeout 1m --override-os o --override-arch a --override-variant v \
                       --user-agent-prefix x --require-signed --tls-details f";
        let (before, after) = (
            parse(&format!("sealift {options} sync -s dir -d dir a b")),
            parse(&format!("sealift sync {options} -s dir -d dir a b")),
        );
        assert_eq!(format!("{:?}", before.skopeo), format!("{:?}", after.skopeo));
        assert!(before.skopeo.debug);
    }
}
