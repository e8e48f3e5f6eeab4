//! The structure of the code, counted: layers, circles, names, and forms that are not wanted.
//!
//! Each check reads the source as syntax trees and gives one [`count::Count`]; [`bounds`] says what a count may be.
//! `make counts` prints them, `make counts LIST=1` with every offender.

mod bounds;
mod circles;
mod count;
mod documents;
mod forms;
mod functions;
mod imports;
mod layers;
mod modules;
mod public;
mod rooms;
mod source;
mod types;

use std::env;
use std::fs;
use std::path::Path;

use count::Count;
use modules::Modules;
use source::Tree;

/// All counts of this repository.
fn counts() -> Vec<Count> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tree = Tree::read(root);
    let modules = Modules::of(&tree);
    let imports = imports::imports(&tree, &modules);
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    vec![
        layers::upward_imports(&tree, &imports, &rooms::LAYERS),
        circles::files_in_circles(&tree, &imports),
        types::doubled_type_names(&tree),
        forms::matches_on_bool(&tree),
        forms::unreachable_calls(&tree),
        forms::path_questions(&tree),
        forms::raw_config_in_claims(&tree),
        functions::long_functions(&tree),
        public::public_items(&tree, &modules),
        documents::readme_words(&readme),
        documents::doc_examples(&tree),
    ]
}

#[test]
fn the_code_keeps_its_structure() {
    let lists_all = env::var_os("LIST").is_some();
    let mut printed = String::from("\n");
    let mut complaints = String::new();
    for count in counts() {
        let verdict = bounds::judge(&count);
        let offenders: String = count.offenders.iter().map(|offender| format!("    {offender}\n")).collect();
        printed += &verdict.line;
        printed.push('\n');
        if lists_all {
            printed += &offenders;
        }
        if let Some(complaint) = verdict.complaint {
            let offenders = if verdict.is_miss { &offenders } else { "" };
            complaints += &format!("{}: {complaint}\n{offenders}", count.name);
        }
    }
    print!("{printed}");
    assert!(complaints.is_empty(), "\n{complaints}");
}
