//! Flags from the environment: `SHARDFOLD_MAX_RAM` is `--max-ram`, and so for every flag.
//!
//! A flag that is typed wins, and so does one that excludes another: a variable for the latter is as good as unset. What a
//! variable says is put among the arguments, so that it means exactly what it would mean there. A flag that may be repeated
//! takes a line for each time; one without a value takes 1 or 0.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches};

use crate::note::Note;
use crate::note::input::InputNote;

/// What the names of all variables begin with.
const PREFIX: &str = "SHARDFOLD_";

/// How alike a variable and one that a flag has must be, behind what all begin with, for the former to be a slip of the latter.
const ALIKE: f64 = 0.8;

/// Two flags for one thing: where one is typed, the environment sets neither.
const TOGETHER: [&str; 2] = ["adapter", "scaled_adapter"];

/// The variables of a process whose names begin as ours.
pub(crate) struct Variables(BTreeMap<String, OsString>);

/// Arguments with those that the environment adds.
pub(crate) struct Arguments {
    pub(crate) args: Vec<OsString>,
    /// The variables that were used, as `NAME=VALUE`.
    pub(crate) used: Vec<String>,
}

impl Variables {
    /// This process's.
    pub(crate) fn of_this_process() -> Variables {
        Variables::new(std::env::vars_os())
    }

    /// Whether there are none: then nobody need look what they mean.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Of a process without any.
    pub(crate) fn none() -> Variables {
        Variables(BTreeMap::new())
    }

    fn new(variables: impl Iterator<Item = (OsString, OsString)>) -> Variables {
        let own = variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Variables(own.filter(|(name, value)| name.starts_with(PREFIX) && !value.is_empty()).collect())
    }

    /// `args`, which `typed` is what they mean for `command`, and behind the command's name what the environment adds.
    ///
    /// # Errors
    /// A variable of a flag without a value that says neither yes nor no.
    pub(crate) fn complete(
        &self,
        command: &clap::Command,
        typed: &ArgMatches,
        args: &[OsString],
    ) -> Result<Arguments, clap::Error> {
        let mut completed = Arguments { args: args.to_vec(), used: Vec::new() };
        let Some((command, typed)) =
            typed.subcommand().and_then(|(name, typed)| Some((command.find_subcommand(name)?, typed)))
        else {
            return Ok(completed);
        };
        let mut added = Vec::new();
        for flag in command.get_arguments().filter(|flag| !is_settled(command, flag, typed)) {
            let Some((name, value)) = variable(flag).and_then(|name| self.0.get_key_value(&name)) else {
                continue;
            };
            added.extend(tokens(flag, name, value)?);
            completed.used.push(format!("{name}={}", value.to_string_lossy()));
        }
        // The program and the command come first.
        completed.args.splice(2.min(args.len())..2.min(args.len()), added);
        Ok(completed)
    }

    /// A note for each variable that no flag has, and that is nearly one that a flag has.
    pub(crate) fn slips(&self, command: &clap::Command) -> Vec<Note> {
        let all = command.get_subcommands().flat_map(clap::Command::get_arguments).filter_map(variable);
        let known: Vec<String> = all.collect();
        let unknown = self.0.keys().filter(|name| !known.contains(name));
        let slips = unknown.filter_map(|name| {
            let likeness = |other: &String| {
                strsim::normalized_damerau_levenshtein(&name[PREFIX.len()..], &other[PREFIX.len()..])
            };
            let like = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
            (likeness(like) >= ALIKE).then(|| (name.clone(), like.clone()))
        });
        slips.map(|(variable, like)| InputNote::UnknownVariable { variable, like }.into()).collect()
    }
}

/// The variable that sets a flag.
fn variable(flag: &Arg) -> Option<String> {
    let long = flag.get_long().filter(|&long| long != "help" && !flag.is_hide_set())?;
    Some(format!("{PREFIX}{}", long.to_ascii_uppercase().replace('-', "_")))
}

/// Whether what was typed leaves the environment nothing to say of a flag.
fn is_settled(command: &clap::Command, flag: &Arg, typed: &ArgMatches) -> bool {
    let is_typed = |flag: &Arg| typed.value_source(flag.get_id().as_str()) == Some(ValueSource::CommandLine);
    let excludes = |one: &Arg, other: &Arg| {
        command.get_arg_conflicts_with(one).iter().any(|excluded| excluded.get_id() == other.get_id())
    };
    let is_together = |other: &Arg| [flag, other].iter().all(|one| TOGETHER.contains(&one.get_id().as_str()));
    let is_in_the_way = |other: &Arg| {
        other.get_id() == flag.get_id()
            || excludes(flag, other)
            || excludes(other, flag)
            || is_together(other)
    };
    command.get_arguments().filter(|other| is_typed(other)).any(is_in_the_way)
}

/// A flag as it would be typed.
fn tokens(flag: &Arg, name: &str, value: &OsStr) -> Result<Vec<OsString>, clap::Error> {
    let long = format!("--{}", flag.get_long().unwrap_or_default());
    match flag.get_action() {
        ArgAction::SetTrue => Ok(if is_yes(name, value)? { vec![long.into()] } else { Vec::new() }),
        ArgAction::Append => Ok(lines(value).iter().flat_map(|line| one(&long, flag, line)).collect()),
        _ => Ok(one(&long, flag, value)),
    }
}

/// One time of a flag: with `=`, so that a value may begin with a dash, or its two values behind it.
fn one(long: &str, flag: &Arg, value: &OsStr) -> Vec<OsString> {
    let pair = value.to_str().and_then(|text| text.trim().rsplit_once(char::is_whitespace));
    match pair.filter(|_| flag.get_num_args().is_some_and(|range| range.max_values() == 2)) {
        Some((first, second)) => vec![long.into(), first.trim_end().into(), second.into()],
        None => {
            let mut token = OsString::from(format!("{long}="));
            token.push(value);
            vec![token]
        }
    }
}

/// The lines of a value that are not empty; a value that is no text is one.
fn lines(value: &OsStr) -> Vec<&OsStr> {
    match value.to_str() {
        Some(text) => text.lines().filter(|line| !line.trim().is_empty()).map(OsStr::new).collect(),
        None => vec![value],
    }
}

fn is_yes(name: &str, value: &OsStr) -> Result<bool, clap::Error> {
    match value.to_string_lossy().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        other => {
            let text = format!("`{name}={other}`: 1 or 0 is accepted\n");
            Err(clap::Error::raw(ErrorKind::InvalidValue, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Command, Typed, command, parse};

    fn environment(variables: &[(&str, &str)]) -> Variables {
        Variables::new(variables.iter().map(|&(name, value)| (name.into(), value.into())))
    }

    fn typed(line: &str, variables: &[(&str, &str)]) -> Typed {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        parse(&args, &environment(variables)).unwrap_or_else(|misuse| panic!("{}", misuse.error))
    }

    fn merge(line: &str, variables: &[(&str, &str)]) -> crate::cli::args::MergeArgs {
        match typed(line, variables).command {
            Command::Merge(args) => args,
            _ => panic!("`{line}` is a merge"),
        }
    }

    #[test]
    fn every_flag_has_a_variable_that_sets_it() {
        let command = command();
        let mut count = 0;
        for sub in command.get_subcommands() {
            for flag in sub.get_arguments().filter(|flag| variable(flag).is_some()) {
                count += 1;
                let value = match flag.get_action() {
                    ArgAction::SetTrue => "1".to_owned(),
                    _ => match flag.get_possible_values().first() {
                        Some(value) => value.get_name().to_owned(),
                        None if flag.get_num_args().is_some_and(|range| range.max_values() == 2) => {
                            "a 1".to_owned()
                        }
                        None => "1".to_owned(),
                    },
                };
                let name = variable(flag).unwrap();
                let positional: Vec<&str> =
                    sub.get_positionals().filter(|arg| arg.is_required_set()).map(|_| "bash").collect();
                let mut args = vec!["shardfold".into(), sub.get_name().into()];
                args.extend(positional.iter().map(OsString::from));
                let matches = command.clone().try_get_matches_from(&args).unwrap();
                let completed = environment(&[(&name, &value)]).complete(&command, &matches, &args).unwrap();
                assert_eq!(completed.used, [format!("{name}={value}")], "{}", sub.get_name());
                assert!(completed.args.len() > args.len());
            }
        }
        assert!(count > 60, "{count}");
    }

    #[test]
    fn a_variable_is_as_good_as_a_flag() {
        let args = merge(
            "shardfold merge",
            &[
                ("SHARDFOLD_BASE", "-odd name"),
                ("SHARDFOLD_ADAPTER", "a\n\nb c\n"),
                ("SHARDFOLD_MAX_RAM", "16G"),
                ("SHARDFOLD_DRY_RUN", "yes"),
                ("SHARDFOLD_FOLLOW_LINKS", "0"),
                ("SHARDFOLD_THREADS", ""),
            ],
        );
        assert_eq!(args.inputs.base, Some("-odd name".into()));
        assert_eq!(args.inputs.adapters, [("a".into(), None), ("b c".into(), None)]);
        assert_eq!(args.memory.max_ram.as_deref(), Some("16G"));
        assert!(args.out.dry_run && !args.rules.adapters.follow_links && args.memory.threads.is_none());
        let scaled = merge("shardfold merge", &[("SHARDFOLD_SCALED_ADAPTER", "my dir -0.5\nb 2")]);
        let weight = |text: &str| Some(text.to_owned());
        assert_eq!(scaled.inputs.adapters, [("my dir".into(), weight("-0.5")), ("b".into(), weight("2"))]);
    }

    #[test]
    fn what_is_typed_wins() {
        let variables = [("SHARDFOLD_ADAPTER", "a"), ("SHARDFOLD_QUIET", "1"), ("SHARDFOLD_MAX_RAM", "1G")];
        let args = merge("shardfold merge --scaled-adapter b 2 --json --max-ram 2G", &variables);
        assert_eq!(args.inputs.adapters, [("b".into(), Some("2".to_owned()))]);
        assert!(args.json && !args.quiet);
        assert_eq!(args.memory.max_ram.as_deref(), Some("2G"));
        let verify = typed("shardfold verify dir --hashes-only", &[("SHARDFOLD_BASE", "a")]);
        assert!(matches!(verify.command, Command::Verify(args) if args.inputs.base.is_none()));
    }

    #[test]
    fn nonsense_is_refused_and_names_the_variable() {
        let args: Vec<OsString> = ["shardfold", "merge"].map(OsString::from).to_vec();
        let misuse =
            |variables: &[(&str, &str)]| parse(&args, &environment(variables)).err().expect("nonsense");
        assert!(misuse(&[("SHARDFOLD_JSON", "maybe")]).error.to_string().contains("SHARDFOLD_JSON=maybe"));
        let misuse = misuse(&[("SHARDFOLD_TIED", "loosely")]);
        assert_eq!(misuse.variables, ["SHARDFOLD_TIED=loosely"]);
    }

    #[test]
    fn slips_are_noted_and_foreign_variables_are_not() {
        let variables = [
            ("SHARDFOLD_MAXRAM", "1G"),
            ("SHARDFOLD_MAX_RAM", "1G"),
            ("SHARDFOLD_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("SHARDFOLD_SERVICE_HOST", "10.0.0.1"),
            // Of this package's own build.
            ("SHARDFOLD_TARGET", "x86_64-unknown-linux-gnu"),
            ("SHARDFOLD_COMMIT", "0123456789ab"),
        ];
        let slips = environment(&variables).slips(&command());
        let expected = InputNote::UnknownVariable {
            variable: "SHARDFOLD_MAXRAM".into(),
            like: "SHARDFOLD_MAX_RAM".into(),
        };
        assert_eq!(slips, [expected.into()]);
    }
}
