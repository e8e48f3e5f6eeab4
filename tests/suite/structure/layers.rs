//! Imports against the order of the rooms.

use std::collections::BTreeSet;

use super::count::Count;
use super::imports::{Import, describe};
use super::rooms::Layers;
use super::source::{SourceFile, Tree};

impl Layers {
    fn level(&self, room: &str) -> Option<usize> {
        self.levels.iter().position(|rooms| rooms.contains(&room))
    }

    /// The room that a module belongs to: the longest part of its path that stands in the table, or else its first name.
    fn room(&self, module: &[String]) -> String {
        let depths = (1..=module.len()).rev();
        let mut prefixes = depths.map(|depth| module[..depth].join("::"));
        prefixes.find(|prefix| self.level(prefix).is_some()).unwrap_or_else(|| module[0].clone())
    }

    fn is_beside(&self, from: &str, to: &str) -> bool {
        self.beside.iter().any(|(above, below, _)| (*above, *below) == (from, to))
    }

    /// What is wrong with an import from one room to another.
    fn offence(&self, from: &str, to: &str) -> Option<&'static str> {
        let (above, below) = (self.level(from)?, self.level(to)?);
        if from == to || above < below || self.is_beside(from, to) {
            return None;
        }
        Some(if above == below { "sideways" } else { "upwards" })
    }
}

/// Rooms without a level, files that import from a room above or beside theirs, and pairs that nothing uses.
pub fn upward_imports(tree: &Tree, imports: &[Import], layers: &Layers) -> Count {
    let mut offenders: BTreeSet<String> =
        tree.files.iter().filter_map(|file| unknown(file, layers)).collect();
    let mut seen = BTreeSet::new();
    let mut pairs = BTreeSet::new();
    for import in imports {
        let (from, to) = (&tree.files[import.from], &tree.files[import.to]);
        if !is_in_a_room(from) || !is_in_a_room(to) {
            continue;
        }
        let (above, below) = (layers.room(&from.module), layers.room(&to.module));
        if let Some(way) = layers.offence(&above, &below)
            && seen.insert((import.from, import.to))
        {
            offenders.insert(format!("{way}: {}", describe(&tree.files, import)));
        }
        pairs.insert((above, below));
    }
    offenders.extend(stale_pairs(tree, &pairs, layers));
    Count::of("imports upwards", offenders)
}

/// Pairs of rooms, both built, of which the first does not import the second.
fn stale_pairs(tree: &Tree, used: &BTreeSet<(String, String)>, layers: &Layers) -> Vec<String> {
    let files = tree.files.iter().filter(|file| is_in_a_room(file));
    let built: BTreeSet<String> = files.map(|file| layers.room(&file.module)).collect();
    let pairs = layers.beside.iter();
    let pairs = pairs.filter(|(from, to, _)| built.contains(*from) && built.contains(*to));
    let stale = pairs.filter(|(from, to, _)| !used.contains(&(from.to_string(), to.to_string())));
    stale.map(|(from, to, _)| format!("{from} does not import {to}: the pair goes")).collect()
}

/// `lib.rs` and `main.rs` stand outside: the one shows what there is, the other starts it.
fn is_in_a_room(file: &SourceFile) -> bool {
    !file.module.is_empty() && file.module != ["main"]
}

fn unknown(file: &SourceFile, layers: &Layers) -> Option<String> {
    if !is_in_a_room(file) {
        return None;
    }
    let room = layers.room(&file.module);
    layers.level(&room).is_none().then(|| format!("room `{room}` has no level"))
}

#[cfg(test)]
mod tests {
    use super::super::imports::imports;
    use super::super::modules::Modules;
    use super::*;

    const SMALL: Layers = Layers {
        levels: &[&["top"], &["left", "right", "middle"], &["bottom", "left::notes"]],
        beside: &[("left", "right", "left stands on right")],
    };

    fn offenders(files: &[(&str, &str)]) -> Vec<String> {
        let tree = Tree::made(files);
        let imports = imports(&tree, &Modules::of(&tree));
        upward_imports(&tree, &imports, &SMALL).offenders
    }

    fn made(bottom: &'static str, left: &'static str, right: &'static str) -> Vec<String> {
        offenders(&[
            (
                "src/lib.rs",
                "mod top; mod left; mod right; mod bottom; pub use bottom::Bottom; pub use top::Top;",
            ),
            ("src/top.rs", "use crate::bottom::Bottom; use crate::left::Left; pub struct Top;"),
            ("src/left/mod.rs", left),
            ("src/left/notes.rs", "pub struct Notes;"),
            ("src/right.rs", right),
            ("src/bottom.rs", bottom),
        ])
    }

    #[test]
    fn imports_downwards_and_by_a_listed_pair_are_fine() {
        let left = "use crate::right::Right; pub mod notes; pub struct Left;";
        let right = "use crate::left::notes::Notes; pub struct Right;";
        assert_eq!(made("pub struct Bottom;", left, right), [""; 0]);
    }

    #[test]
    fn an_import_upwards_or_sideways_is_found() {
        let found = made(
            "pub struct Bottom; fn f() { crate::top::Top; }",
            "pub mod notes; pub struct Left; use crate::right::Right;",
            "use crate::left::Left; use crate::left::Left as Again; pub struct Right;",
        );
        assert_eq!(
            found,
            [
                "sideways: src/right.rs:1 names `crate::left::Left` of src/left/mod.rs",
                "upwards: src/bottom.rs:1 names `crate::top::Top` of src/top.rs",
            ]
        );
    }

    #[test]
    fn a_re_export_and_a_whole_module_are_imports_too() {
        let left = "pub mod notes; use crate::right::Right;";
        let found = made("pub use crate::top::Top;", left, "pub struct Right; use crate::top;");
        assert_eq!(
            found,
            [
                "upwards: src/bottom.rs:1 names `crate::top::Top` of src/top.rs",
                "upwards: src/right.rs:1 names `crate::top` of src/top.rs",
            ]
        );
    }

    #[test]
    fn a_room_without_a_level_and_a_pair_without_a_use_are_found() {
        let found = offenders(&[
            ("src/lib.rs", "mod attic; mod left; mod right;"),
            ("src/attic/mod.rs", ""),
            ("src/attic/box.rs", ""),
            ("src/left.rs", ""),
            ("src/right.rs", ""),
        ]);
        assert_eq!(found, ["left does not import right: the pair goes", "room `attic` has no level"]);
    }
}
