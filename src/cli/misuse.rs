//! Misuse that clap finds, and requests for help or the version.

use std::ffi::{OsStr, OsString};

use clap::error::ErrorKind;
use serde_json::{Value, json};

use crate::error::exit::Code;
use crate::report::say::say;

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
pub(crate) fn show(error: &clap::Error, args: &[OsString]) -> Code {
    if !error.use_stderr() {
        // Help and version go to stdout.
        return if error.print().is_ok() { Code::Done } else { Code::Io };
    }
    if is_json(args) {
        say(&format!("{}\n", as_json(error)));
    } else if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        say(SHORT);
    } else {
        let _ = error.print();
    }
    Code::Usage
}

/// Whether `--json` was typed: what could not be parsed can only be looked through.
fn is_json(args: &[OsString]) -> bool {
    args.iter().skip(1).take_while(|arg| *arg != OsStr::new("--")).any(|arg| arg == "--json")
}

/// The same object as for every other error.
fn as_json(error: &clap::Error) -> Value {
    let text = error.render().to_string();
    let mut paragraphs =
        text.split("\n\n").map(|lines| lines.split_whitespace().collect::<Vec<_>>().join(" "));
    let message = paragraphs.next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    let tip = paragraphs.find_map(|text| text.strip_prefix("tip: ").map(str::to_owned));
    let mut object = json!({"event": "error", "exit_code": Code::Usage as u8, "message": message});
    if let Some(tip) = tip {
        object["hint"] = tip.into();
    }
    object
}
