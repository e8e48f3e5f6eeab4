//! What a shell brings and takes: variables that are flags, a log file beside the terminal, completions.

use std::fs;

use serde_json::Value;

use super::support::{command, contents, ran, run};
use super::work::Work;

#[test]
fn a_merge_by_the_environment_alone() {
    let typed = Work::demo();
    typed.succeeds(&["--max-ram", "64M", "--threads", "1"]);
    let work = Work::demo();
    let mut merge = command(&["merge"]);
    merge.env("SHARDFOLD_BASE", &work.base).env("SHARDFOLD_ADAPTER", &work.adapter);
    merge.env("SHARDFOLD_OUTPUT", &work.output).env("SHARDFOLD_MAX_RAM", "64M").env("SHARDFOLD_THREADS", "1");
    let ran = ran(merge.output().unwrap());
    assert_eq!((ran.code, ran.err.as_str()), (0, "memory budget 64M (--max-ram), 1 worker\n"));
    assert!(contents(&work.output) == contents(&typed.output));
}

#[test]
fn what_is_wrong_with_a_variable_is_told_with_its_name() {
    let wrong = |name: &str, value: &str, flags: &[&str]| {
        let mut plan =
            command(&["plan", "--base", "fixtures/demo/base", "--adapter", "fixtures/demo/adapter"]);
        ran(plan.args(flags).env(name, value).output().unwrap())
    };
    // By clap, by the meaning of the value, and by the variable's own reading.
    for (name, value) in
        [("SHARDFOLD_TIED", "loosely"), ("SHARDFOLD_MAX_RAM", "much"), ("SHARDFOLD_FOLLOW_LINKS", "perhaps")]
    {
        let ran = wrong(name, value, &[]);
        assert_eq!(ran.code, 2, "{}", ran.err);
        assert!(ran.err.contains(&format!("{name}={value}")), "{}", ran.err);
    }
    let line = wrong("SHARDFOLD_MAX_RAM", "much", &["--json"]).err;
    let notes: Vec<Value> = line.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(notes.iter().any(|note| note["kind"] == "flags-from-environment"), "{line}");
    // A slip is no flag, and is not passed over without a word.
    let ran = wrong("SHARDFOLD_MAXRAM", "64M", &[]);
    assert_eq!(ran.code, 0);
    let slip =
        "the environment has `SHARDFOLD_MAXRAM`, which no flag has: ignored (is it `SHARDFOLD_MAX_RAM`?)";
    assert!(ran.err.contains(slip), "{}", ran.err);
}

#[test]
fn a_log_file_has_everything_whatever_the_terminal_shows() {
    let work = Work::demo();
    let log = work.folder.path().join("log.jsonl");
    let flags = ["--log-file", log.to_str().unwrap()];
    let events = || -> Vec<Value> {
        let text = fs::read_to_string(&log).unwrap();
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let ran = work.succeeds(&[&flags[..], &["--quiet"]].concat());
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""));
    let first = events();
    let kinds: Vec<&str> = first.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["started", "budget", "finished", "ended"]);
    assert!(first.iter().all(|event| event["time"].as_f64().unwrap() > 1.7e9));
    assert_eq!(first[2]["state"], "done");
    assert_eq!(first[3]["exit_code"], 0);
    // A second run is added to it, and so is an error.
    let mut wrong = command(&["plan", "--base", "nowhere", "--adapter", "nowhere"]);
    assert_eq!(super::support::ran(wrong.args(flags).output().unwrap()).code, 66);
    let both = events();
    assert_eq!(both[..4], first[..]);
    let error = both.iter().find(|event| event["event"] == "error").expect("an error");
    assert_eq!(error["exit_code"], 66);
    assert_eq!(both.last().unwrap()["exit_code"], 66);
}

#[test]
fn a_log_file_that_cannot_be_written_stops_nothing() {
    let work = Work::demo();
    let ran = work.succeeds(&["--log-file", "/nowhere/log"]);
    assert!(
        ran.err.contains("`--log-file /nowhere/log` cannot be written, so that there is no log: "),
        "{}",
        ran.err
    );
    Work::demo().succeeds(&["--log-file", "/dev/full"]);
}

#[test]
fn completions_know_commands_and_flags() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = run(&["completions", shell]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
        for word in ["verify", "max-ram", "scaled-adapter"] {
            assert!(ran.out.contains(word), "no `{word}` for {shell}");
        }
    }
    assert_eq!(run(&["completions", "cmd"]).code, 2);
}
