//! Misuse that clap finds, and requests for help or the version.

use std::ffi::{OsStr, OsString};

use clap::error::ErrorKind;
use serde_json::{Value, json};

use crate::error::exit::Code;
use crate::note::Note;
use crate::note::input::InputNote;
use crate::report::choose;
use crate::report::event::Event;
use crate::report::say::say;
use crate::report::style::Style;
use crate::report::terminal::Terminal;

use crate::cancel::Cancel;
use crate::cli::args::Misuse;

/// What `shardfold` alone prints.
const SHORT: &str = "\
Merge fine-tuning adapters into checkpoints larger than memory

Usage: shardfold <COMMAND>

Example:
  shardfold plan  --base llama-8b --adapter style-lora
  shardfold merge --base llama-8b --adapter style-lora -o merged --max-ram 16G

`shardfold --help` lists the commands, `shardfold merge --help` the flags of one.
";

/// Prints what clap has to say, and returns the code that the process ends with.
pub(crate) fn show(Misuse { error, variables }: &Misuse, args: &[OsString]) -> Code {
    if !error.use_stderr() {
        // Help and version go to stdout.
        return if error.print().is_ok() { Code::Done } else { Code::Io };
    }
    let style = if is_json(args) { Style::Json } else { Style::Verbose };
    if style == Style::Json {
        say(&format!("{}\n", as_json(error)));
    } else if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        say(SHORT);
    } else {
        let _ = error.print();
    }
    if !variables.is_empty() {
        show_variables(variables, style);
    }
    Code::Usage
}

/// Tells which flags were not typed, in case that one of them is what was misused.
pub(crate) fn show_variables(variables: &[String], style: Style) {
    let style = if style == Style::Json { style } else { Style::Verbose };
    let note = Note::from(InputNote::FlagsFromEnvironment { variables: variables.to_vec() });
    choose(style, Terminal::of_stderr(), &Cancel::default()).event(&Event::Note(&note));
}

/// Whether `--json` was typed: what could not be parsed can only be looked through.
fn is_json(args: &[OsString]) -> bool {
    args.iter().skip(1).take_while(|arg| *arg != OsStr::new("--")).any(|arg| arg == "--json")
}

/// What is wrong, and the cure if there is one.
pub(crate) fn message_and_tip(error: &clap::Error) -> (String, Option<String>) {
    let text = error.render().to_string();
    let mut paragraphs =
        text.split("\n\n").map(|lines| lines.split_whitespace().collect::<Vec<_>>().join(" "));
    let message = paragraphs.next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    let tip = paragraphs.find_map(|text| text.strip_prefix("tip: ").map(str::to_owned));
    (message.to_owned(), tip)
}

/// The same object as for every other error.
fn as_json(error: &clap::Error) -> Value {
    let (message, tip) = message_and_tip(error);
    let mut object = json!({"event": "error", "exit_code": Code::Usage as u8, "message": message});
    if let Some(tip) = tip {
        object["hint"] = tip.into();
    }
    object
}
