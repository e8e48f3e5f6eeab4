//! Circles of files that need each other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::count::Count;
use super::imports::{Import, describe};
use super::source::Tree;

/// By file, those that it needs, each with an import that says so.
type Graph<'i> = BTreeMap<usize, BTreeMap<usize, &'i Import>>;

/// Files that stand in a circle. They are counted, not the circles: two circles that grow together are no progress.
pub fn files_in_circles(tree: &Tree, imports: &[Import]) -> Count {
    let graph = graph(imports);
    let circles = circles(&graph);
    let found = circles.iter().map(BTreeSet::len).sum();
    let offenders = circles.iter().map(|circle| text(tree, &graph, circle)).collect();
    Count { name: "files in circles", found, offenders }
}

fn graph(imports: &[Import]) -> Graph<'_> {
    let mut graph = Graph::new();
    for import in imports.iter().filter(|import| import.is_need) {
        graph.entry(import.from).or_default().entry(import.to).or_insert(import);
    }
    graph
}

/// The strongly connected components of more than one file.
fn circles(graph: &Graph) -> Vec<BTreeSet<usize>> {
    let reached: BTreeMap<usize, BTreeSet<usize>> =
        graph.keys().map(|file| (*file, reach(graph, *file))).collect();
    let mut circles = Vec::new();
    let mut done: BTreeSet<usize> = BTreeSet::new();
    for (file, ahead) in reached.iter().filter(|(file, ahead)| ahead.contains(file)) {
        if !done.contains(file) {
            let back = |other: &&usize| reached.get(other).is_some_and(|ahead| ahead.contains(file));
            let circle: BTreeSet<usize> = ahead.iter().filter(back).copied().collect();
            done.extend(&circle);
            circles.push(circle);
        }
    }
    circles
}

/// All files that a file needs, directly or not.
fn reach(graph: &Graph, file: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut open = vec![file];
    while let Some(file) = open.pop() {
        let next = graph.get(&file).into_iter().flat_map(BTreeMap::keys).copied();
        open.extend(next.filter(|file| reached.insert(*file)));
    }
    reached
}

/// The files of a circle, and a shortest way round.
fn text(tree: &Tree, graph: &Graph, circle: &BTreeSet<usize>) -> String {
    let names: Vec<&str> = circle.iter().map(|file| tree.files[*file].path.as_str()).collect();
    let rounds = circle.iter().map(|file| way_round(graph, *file));
    let shortest = rounds.min_by_key(Vec::len).unwrap_or_default();
    let steps: String =
        shortest.iter().map(|import| format!("\n      {}", describe(&tree.files, import))).collect();
    format!("{} files: {}; for one{steps}", names.len(), names.join(", "))
}

/// The imports on a shortest way from a file back to it.
fn way_round<'i>(graph: &Graph<'i>, file: usize) -> Vec<&'i Import> {
    let mut by = BTreeMap::new();
    let mut open = VecDeque::from([file]);
    while let Some(at) = open.pop_front() {
        for (to, import) in graph.get(&at).into_iter().flatten() {
            if !by.contains_key(to) {
                by.insert(*to, *import);
                open.push_back(*to);
            }
        }
    }
    let mut way = Vec::new();
    let mut at = file;
    while let Some(import) = by.get(&at) {
        way.insert(0, *import);
        at = import.from;
        if at == file {
            break;
        }
    }
    way
}

#[cfg(test)]
mod tests {
    use super::super::imports::imports;
    use super::super::modules::Modules;
    use super::*;

    fn count(files: &[(&str, &str)]) -> Count {
        let tree = Tree::made(files);
        files_in_circles(&tree, &imports(&tree, &Modules::of(&tree)))
    }

    #[test]
    fn a_circle_of_two_is_found() {
        let count = count(&[
            ("src/lib.rs", "mod a; mod b; mod c;"),
            ("src/a.rs", "use crate::b::B; pub struct A;"),
            ("src/b.rs", "pub struct B(crate::a::A);"),
            ("src/c.rs", "use crate::a::A; use crate::b::B;"),
        ]);
        assert_eq!(count.found, 2);
        assert_eq!(
            count.offenders,
            ["2 files: src/a.rs, src/b.rs; for one\
            \n      src/a.rs:1 names `crate::b::B` of src/b.rs\
            \n      src/b.rs:1 names `crate::a::A` of src/a.rs"]
        );
    }

    #[test]
    fn a_circle_of_three_is_found() {
        let count = count(&[
            ("src/lib.rs", "mod a; mod b; mod c; mod d;"),
            ("src/a.rs", "use crate::b::B; pub struct A;"),
            ("src/b.rs", "use crate::c; use crate::d::D; pub struct B; fn f() { c::C; }"),
            ("src/c.rs", "pub struct C; use super::a::A;"),
            ("src/d.rs", "pub struct D;"),
        ]);
        assert_eq!(count.found, 3);
        assert!(count.offenders[0].starts_with("3 files: src/a.rs, src/b.rs, src/c.rs; for one"));
    }

    #[test]
    fn a_parent_that_declares_and_re_exports_is_in_no_circle() {
        let child = "use super::Table; use super::y::Y; pub struct X;";
        let parent = "mod x; mod y; mod table; pub use table::Table; pub use x::X;";
        let files = |parent| {
            count(&[
                ("src/lib.rs", "mod a;"),
                ("src/a/mod.rs", parent),
                ("src/a/table.rs", "pub struct Table;"),
                ("src/a/x.rs", child),
                ("src/a/y.rs", "pub struct Y;"),
            ])
        };
        assert_eq!(files(parent).found, 0);
        let logic = "mod x; mod y; use x::X; pub struct Table(X);";
        assert_eq!(files(logic).found, 2);
        let logic = "mod x; mod y; pub use x::X; pub struct Table(X);";
        assert_eq!(files(logic).found, 2);
    }
}
