//! Words of the README, and examples in the documentation of the code.

use super::count::Count;
use super::source::Tree;

/// Marks of a fence whose code rustdoc compiles and runs.
const RUN: [&str; 3] = ["", "rust", "should_panic"];

/// Words outside code fences; a word has a letter or a digit.
pub fn readme_words(text: &str) -> Count {
    let mut is_code = false;
    let mut found = 0;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            found += line.split_whitespace().filter(|word| word.contains(char::is_alphanumeric)).count();
        }
    }
    Count { name: "words of the README", found, offenders: Vec::new() }
}

/// Examples in doc comments that run as tests.
pub fn doc_examples(tree: &Tree) -> Count {
    Count::of("examples that run", tree.files.iter().flat_map(|file| examples(&file.path, &file.text)))
}

fn examples(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_open = false;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        let Some(doc) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else {
            is_open = false;
            continue;
        };
        let Some(marks) = doc.trim_start().strip_prefix("```") else { continue };
        is_open = !is_open;
        if is_open && marks.trim().split(',').all(|mark| RUN.contains(&mark.trim())) {
            found.push(format!("{path}:{}", number + 1));
        }
    }
    found
}

#[test]
fn words_are_counted_outside_code() {
    let text =
        "# A title\n\nTwo | words - here\n\n```sh\nnot these\n```\n  ```\nnor these\n  ```\nand 1 more.\n";
    assert_eq!(readme_words(text).found, 8);
}

#[test]
fn examples_that_run_are_counted() {
    let text = "//! ```\n//! a();\n//! ```\n//! ```text\n//! b\n//! ```\n\n/// ```ignore\n/// c();\n/// ```\n\
                /// ```rust\n/// d();\n/// ```\n/// ```no_run\n/// e();\n/// ```\nfn f() { \"```\"; }\n";
    let tree = Tree::made(&[("src/a.rs", text)]);
    assert_eq!(doc_examples(&tree).offenders, ["src/a.rs:1", "src/a.rs:11"]);
}
