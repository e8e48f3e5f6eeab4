//! The README repeats the table of exit codes, which must be the one that `--help` prints, and shows what `inspect` prints.

use std::path::Path;
use std::process::Command;

use shardfold::testing::TABLE;

const README: &str = include_str!("../../README.md");

#[test]
fn the_readme_has_the_table_of_exit_codes() {
    let section = README.split("\n## ").find(|section| section.starts_with("Exit codes\n"));
    let section = section.expect("a section `Exit codes`");
    let rows =
        section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
    let said: Vec<_> = rows.filter(|(code, _)| code.starts_with(|c: char| c.is_ascii_digit())).collect();
    let printed = TABLE.lines().filter_map(|line| line.trim_start().split_once("  "));
    assert_eq!(said, printed.collect::<Vec<_>>());
}

#[test]
fn the_readme_shows_what_inspect_prints() {
    let section = README.split("\n## ").find(|section| section.starts_with("Inspect\n"));
    let section = section.expect("a section `Inspect`");
    let blocks: Vec<&str> = section.split("```").skip(1).step_by(2).collect();
    let shown: Vec<_> =
        blocks.chunks(2).map(|pair| (pair[0].strip_prefix("sh\n"), pair[1].strip_prefix("text\n"))).collect();
    assert_eq!(shown.len(), 2);
    for (command, text) in shown {
        let line = command.expect("a command").trim_end();
        let mut words = line.split(' ');
        assert_eq!(words.next(), Some("shardfold"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_shardfold"));
        let ran = command.args(words).current_dir(Path::new(env!("CARGO_MANIFEST_DIR"))).output();
        let printed = String::from_utf8(ran.expect("the binary starts").stdout).expect("UTF-8");
        assert_eq!(printed, text.expect("its output"), "`{line}`");
    }
}
