//! Names of a crate resolved to the files that define them, through `use`, re-exports and globs.

use std::collections::HashMap;

use syn::{Item, UseTree};

use super::source::{Tree, child};

/// Imports that lead to imports are followed so far: a circle of re-exports ends here.
const MAX_HOPS: usize = 16;

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Resolved {
    /// An item in the file with this number.
    Item { file: usize, name: String },
    /// A module as a whole.
    Module(Vec<String>),
}

/// The modules of a crate, inline ones included, with the names in their scopes.
pub struct Modules {
    modules: HashMap<Vec<String>, Module>,
}

#[derive(Default)]
struct Module {
    file: usize,
    names: HashMap<String, Name>,
    /// Paths of `use path::*`.
    globs: Vec<Vec<String>>,
}

enum Name {
    Item,
    Import(Vec<String>),
}

/// One name that a `use` brings in, or a glob.
pub struct Leaf {
    /// The path as written; a glob's without the star.
    pub path: Vec<String>,
    /// The name in scope; none for a glob and for `as _`.
    pub name: Option<String>,
    pub is_glob: bool,
    pub line: usize,
}

impl Modules {
    pub fn of(tree: &Tree) -> Modules {
        let mut modules = Modules { modules: HashMap::new() };
        for (number, file) in tree.files.iter().enumerate() {
            modules.add(file.module.clone(), &file.ast.items, number);
        }
        modules
    }

    fn add(&mut self, path: Vec<String>, items: &[Item], file: usize) {
        let mut module = Module { file, ..Module::default() };
        for item in items {
            if let Item::Mod(inner) = item {
                if let Some((_, items)) = &inner.content {
                    self.add(child(&path, &inner.ident), items, file);
                }
            } else if let Item::Use(import) = item {
                module.import(&import.tree);
            } else if let Some(name) = defined(item) {
                module.names.insert(name.to_string(), Name::Item);
            }
        }
        self.modules.insert(path, module);
    }

    /// The file that a module stands in.
    pub fn file(&self, module: &[String]) -> Option<usize> {
        self.modules.get(module).map(|module| module.file)
    }

    /// What `path`, written in `module`, leads to; none outside the crate.
    pub fn resolve(&self, module: &[String], path: &[String]) -> Option<Resolved> {
        self.resolve_within(module, path, MAX_HOPS)
    }

    fn resolve_within(&self, module: &[String], path: &[String], hops: usize) -> Option<Resolved> {
        let hops = hops.checked_sub(1)?;
        let (start, rest) = root(module, path);
        if rest.is_empty() {
            return Some(Resolved::Module(start));
        }
        let found = self.walk(&start, rest, hops);
        let is_rooted = rest.len() < path.len() || self.modules.contains_key(&joined(&start, &rest[..1]));
        found.or_else(|| is_rooted.then(|| self.nearest(&start, rest))?)
    }

    /// Goes down from a module, name by name.
    fn walk(&self, start: &[String], rest: &[String], hops: usize) -> Option<Resolved> {
        let inner = joined(start, &rest[..1]);
        let is_last = rest.len() == 1;
        if !is_last && self.modules.contains_key(&inner) {
            return self.walk(&inner, &rest[1..], hops);
        }
        let module = self.modules.get(start)?;
        match module.names.get(&rest[0]) {
            Some(Name::Item) => return Some(Resolved::Item { file: module.file, name: rest[0].clone() }),
            Some(Name::Import(path)) => {
                let found = self.resolve_within(start, path, hops)?;
                return self.onward(found, &rest[1..], hops);
            }
            None => {}
        }
        if self.modules.contains_key(&inner) {
            return Some(Resolved::Module(inner));
        }
        let mut globs = module.globs.iter();
        globs.find_map(|glob| match self.resolve_within(start, glob, hops)? {
            Resolved::Module(module) if module != start => self.walk(&module, rest, hops.checked_sub(1)?),
            _ => None,
        })
    }

    fn onward(&self, found: Resolved, rest: &[String], hops: usize) -> Option<Resolved> {
        match found {
            Resolved::Module(module) if !rest.is_empty() => self.walk(&module, rest, hops.checked_sub(1)?),
            found => Some(found),
        }
    }

    /// The deepest module of a path whose last name is not seen, as that of an item which a macro makes.
    fn nearest(&self, start: &[String], rest: &[String]) -> Option<Resolved> {
        let depths = (0..rest.len()).rev();
        let mut modules = depths.filter_map(|depth| self.modules.get(&joined(start, &rest[..depth])));
        modules.next().map(|module| Resolved::Item { file: module.file, name: rest[rest.len() - 1].clone() })
    }
}

impl Module {
    fn import(&mut self, tree: &UseTree) {
        for leaf in leaves(tree) {
            if leaf.is_glob {
                self.globs.push(leaf.path);
            } else if let Some(name) = leaf.name {
                // A macro is defined and then re-exported under its own name: the definition counts.
                self.names.entry(name).or_insert(Name::Import(leaf.path));
            }
        }
    }
}

/// Where a path starts, and what of it is left: `crate`, `self` and `super` are taken off.
fn root<'p>(module: &[String], path: &'p [String]) -> (Vec<String>, &'p [String]) {
    let mut start = module.to_vec();
    let mut rest = path;
    while let Some((first, others)) = rest.split_first() {
        match first.as_str() {
            "crate" | "shardfold" if rest.len() == path.len() => start.clear(),
            "self" => {}
            "super" => {
                start.pop();
            }
            _ => break,
        }
        rest = others;
    }
    (start, rest)
}

fn joined(module: &[String], rest: &[String]) -> Vec<String> {
    [module, rest].concat()
}

/// The names that a `use` brings in.
pub fn leaves(tree: &UseTree) -> Vec<Leaf> {
    let mut found = Vec::new();
    gather(tree, &mut Vec::new(), &mut found);
    found
}

fn gather(tree: &UseTree, path: &mut Vec<String>, found: &mut Vec<Leaf>) {
    match tree {
        UseTree::Path(inner) => {
            path.push(inner.ident.to_string());
            gather(&inner.tree, path, found);
            path.pop();
        }
        UseTree::Group(group) => group.items.iter().for_each(|inner| gather(inner, path, found)),
        UseTree::Name(name) => found.push(leaf(path, &name.ident, &name.ident)),
        UseTree::Rename(rename) => found.push(leaf(path, &rename.ident, &rename.rename)),
        UseTree::Glob(glob) => {
            let line = glob.star_token.spans[0].start().line;
            found.push(Leaf { path: path.clone(), name: None, is_glob: true, line });
        }
    }
}

fn leaf(path: &[String], ident: &syn::Ident, name: &syn::Ident) -> Leaf {
    let mut path = path.to_vec();
    if ident != "self" {
        path.push(ident.to_string());
    }
    let name = if name == "self" { path.last().cloned() } else { Some(name.to_string()) };
    Leaf { path, name: name.filter(|name| name != "_"), is_glob: false, line: ident.span().start().line }
}

/// The name that an item defines in its module.
pub fn defined(item: &Item) -> Option<&syn::Ident> {
    match item {
        Item::Const(item) => Some(&item.ident),
        Item::Enum(item) => Some(&item.ident),
        Item::Fn(item) => Some(&item.sig.ident),
        Item::Macro(item) => item.ident.as_ref(),
        Item::Static(item) => Some(&item.ident),
        Item::Struct(item) => Some(&item.ident),
        Item::Trait(item) => Some(&item.ident),
        Item::Type(item) => Some(&item.ident),
        Item::Union(item) => Some(&item.ident),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        Tree::made(&[
            ("src/lib.rs", "mod a; mod b; pub use a::A;"),
            ("src/a/mod.rs", "mod card; mod x; pub use card::card; pub use x::*; pub use x::A as Other;"),
            ("src/a/card.rs", "pub fn card() {} pub struct Card;"),
            ("src/a/x.rs", "pub struct A; made! {} pub mod inner { pub struct Deep; }"),
            ("src/b.rs", "use std::fs; use crate::a as room; use super::a::{self, card};"),
        ])
    }

    fn path(text: &str) -> Vec<String> {
        text.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn a_path_leads_to_the_file_that_defines_its_item() {
        let tree = tree();
        let modules = Modules::of(&tree);
        for (from, written, file) in [
            ("b", "crate::a::x::A", "src/a/x.rs"),
            ("b", "crate::A", "src/a/x.rs"),
            ("b", "super::a::Other", "src/a/x.rs"),
            ("b", "room::A", "src/a/x.rs"),
            ("b", "a::card", "src/a/card.rs"),
            ("b", "card", "src/a/card.rs"),
            ("b", "crate::a::card::Card", "src/a/card.rs"),
            ("b", "crate::a::x::inner::Deep", "src/a/x.rs"),
            ("b", "crate::a::x::FromMacro", "src/a/x.rs"),
            ("a::x::inner", "super::super::card", "src/a/card.rs"),
            ("a::x::inner", "self::Deep", "src/a/x.rs"),
        ] {
            match modules.resolve(&path(from), &path(written)) {
                Some(Resolved::Item { file: found, .. }) => {
                    assert_eq!(tree.files[found].path, file, "`{written}`");
                }
                other => panic!("`{written}`: {other:?}"),
            }
        }
    }

    #[test]
    fn modules_and_other_crates_are_told_apart() {
        let modules = Modules::of(&tree());
        assert_eq!(modules.resolve(&path("b"), &path("room")), Some(Resolved::Module(path("a"))));
        assert_eq!(modules.resolve(&path("b"), &path("fs::read")), None);
        assert_eq!(modules.resolve(&path("b"), &path("Vec::new")), None);
        assert_eq!(modules.resolve(&path("b"), &path("local")), None);
    }
}
