//! The README repeats the table of exit codes, which must be the one that `--help` prints.

use shardfold::error::exit::TABLE;

const README: &str = include_str!("../README.md");

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
