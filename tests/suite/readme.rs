//! The README repeats the table of exit codes, which must be the one that `--help` prints; commands that it and `docs/` show
//! with their output must print just that.

use std::path::Path;
use std::process::Command;

use shardfold::testing::TABLE;

use super::support::binary;

const README: &str = include_str!("../../README.md");
const GUIDE: &str = include_str!("../../docs/guide.md");
const QUANTIZATION: &str = include_str!("../../docs/quantization.md");

/// The output directory in the documents; the tests write elsewhere.
const OUTPUT: &str = "merged";
/// Beginnings of lines that differ from machine to machine and from run to run.
const VARYING: [&str; 6] = ["budget ", "minimum ", "memory budget ", "memory ", "bytes ", "result "];

#[test]
fn the_readme_has_the_table_of_exit_codes() {
    let section = README.split("\n## ").find(|section| section.starts_with("Exit codes\n"));
    let section = section.expect("a section `Exit codes`");
    let rows =
        section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
    let listed: Vec<_> = rows.filter(|(code, _)| code.starts_with(|c: char| c.is_ascii_digit())).collect();
    let printed = TABLE.lines().filter_map(|line| line.trim_start().split_once("  "));
    assert_eq!(listed, printed.collect::<Vec<_>>());
}

#[test]
fn the_readme_shows_what_commands_print() {
    check(README, 2);
}

#[test]
fn the_guide_shows_what_commands_print() {
    check(GUIDE, 12);
}

#[test]
fn the_page_on_quantization_shows_what_commands_print() {
    check(QUANTIZATION, 3);
}

#[test]
fn the_pages_of_tasks_show_what_commands_print() {
    let pages = [
        (include_str!("../../docs/tasks/laptop.md"), 2),
        (include_str!("../../docs/tasks/moe.md"), 2),
        (include_str!("../../docs/tasks/qlora.md"), 2),
        (include_str!("../../docs/tasks/image-models.md"), 2),
        (include_str!("../../docs/tasks/other-trainers.md"), 1),
        (include_str!("../../docs/tasks/verify.md"), 1),
        (include_str!("../../docs/tasks/differences.md"), 1),
    ];
    for (page, count) in pages {
        check(page, count);
    }
}

#[test]
fn the_book_has_every_page_and_links_lead_somewhere() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let listed = links(include_str!("../../docs/SUMMARY.md"));
    for dir in ["", "tasks"] {
        for entry in std::fs::read_dir(docs.join(dir)).expect("docs") {
            let path = entry.expect("docs").path();
            let name = path.strip_prefix(&docs).expect("in docs").to_string_lossy().into_owned();
            if !name.ends_with(".md") || name == "SUMMARY.md" {
                continue;
            }
            assert!(listed.contains(&name), "`{name}` is not in SUMMARY.md");
            let text = std::fs::read_to_string(&path).expect("UTF-8");
            for link in links(&text).iter().filter(|link| !link.contains("://") && !link.starts_with('#')) {
                let file = link.split('#').next().unwrap_or_default();
                let place = path.parent().expect("a folder").join(file);
                assert!(place.exists(), "`{name}` links to `{link}`");
            }
        }
    }
}

/// Where the links of a page lead.
fn links(text: &str) -> Vec<String> {
    let ends = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    ends.map(|(link, _)| link.to_owned()).collect()
}

/// Runs every command of `text` that stands with its output, of which there are `count`.
fn check(text: &str, count: usize) {
    let shown = shown(text);
    assert_eq!(shown.len(), count);
    for (command, output) in shown {
        let printed = printed(&command);
        assert_eq!(steady(&printed), steady(&output), "`{command}`");
    }
}

/// Commands with their output: in blocks of the kind `console`, each after a `$`.
fn shown(text: &str) -> Vec<(String, String)> {
    let mut shown: Vec<(String, String)> = Vec::new();
    let mut is_console = false;
    for line in text.lines() {
        if line.starts_with("```") {
            is_console = line == "```console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| is_console) {
            shown.push((command.to_owned(), String::new()));
        } else if let Some((_, output)) = shown.last_mut().filter(|_| is_console) {
            output.push_str(line);
            output.push('\n');
        }
    }
    shown
}

/// The output of a command that is run at the root of the repository: notes and budget, then the result.
fn printed(line: &str) -> String {
    let work = tempfile::tempdir().expect("a temporary directory");
    let output = work.path().join(OUTPUT);
    let output = output.to_str().expect("UTF-8");
    let mut words = line.split(' ');
    assert_eq!(words.next(), Some("shardfold"));
    let words = words.map(|word| if word == OUTPUT { output } else { word });
    let mut command = Command::new(binary());
    command.args(words).env("HF_HUB_OFFLINE", "1");
    let ran = command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR"))).output();
    let ran = ran.expect("the binary starts");
    let text = [ran.stderr, ran.stdout].map(|bytes| String::from_utf8(bytes).expect("UTF-8"));
    text.concat().replace(output, OUTPUT)
}

/// The lines of a text, those that vary by their beginning alone.
fn steady(text: &str) -> Vec<&str> {
    let varying = |line: &str| VARYING.into_iter().find(|beginning| line.starts_with(beginning));
    text.lines().map(|line| varying(line).unwrap_or(line)).collect()
}
