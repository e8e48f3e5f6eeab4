//! Items that another crate can name.

use std::collections::BTreeSet;

use syn::{Item, Visibility};

use super::count::Count;
use super::modules::{Modules, Resolved, defined, leaves};
use super::source::{Tree, attributes, child, is_for_testing};

/// Types, traits, functions, constants and macros that can be reached from `lib.rs`, without what is behind the feature
/// `testing`. Methods and variants belong to their types.
pub fn public_items(tree: &Tree, modules: &Modules) -> Count {
    let mut face = Face { tree, modules, seen: BTreeSet::new(), items: BTreeSet::new() };
    face.walk(&[]);
    for file in &tree.files {
        face.exported_macros(&file.path, &file.ast.items);
    }
    Count::of("public items", face.items.into_iter().map(|(path, name)| format!("`{name}` of {path}")))
}

struct Face<'t> {
    tree: &'t Tree,
    modules: &'t Modules,
    /// Modules that were walked.
    seen: BTreeSet<Vec<String>>,
    /// File and name of each item, however many ways lead to it.
    items: BTreeSet<(String, String)>,
}

impl<'t> Face<'t> {
    fn walk(&mut self, module: &[String]) {
        let file = self.modules.file(module).map(|file| &self.tree.files[file]);
        let Some(file) = file.filter(|_| self.seen.insert(module.to_vec())) else { return };
        if is_for_testing(&file.ast.attrs) {
            return;
        }
        let items = inline(&file.ast.items, &module[file.module.len()..]);
        for item in items.iter().filter(|item| is_public(item) && !is_for_testing(attributes(item))) {
            self.add(module, &file.path, item);
        }
    }

    fn add(&mut self, module: &[String], path: &str, item: &Item) {
        if let Item::Mod(inner) = item {
            self.walk(&child(module, &inner.ident));
        } else if let Item::Use(import) = item {
            for leaf in leaves(&import.tree) {
                self.add_reexport(module, path, &leaf.path);
            }
        } else if let Some(name) = defined(item) {
            self.items.insert((path.to_owned(), name.to_string()));
        }
    }

    /// Adds what a `pub use` leads to; a name of another crate is an item of the file that shows it.
    fn add_reexport(&mut self, module: &[String], path: &str, written: &[String]) {
        match self.modules.resolve(module, written) {
            Some(Resolved::Module(inner)) => self.walk(&inner),
            Some(Resolved::Item { file, name }) => {
                self.items.insert((self.tree.files[file].path.clone(), name));
            }
            None => {
                self.items.insert((path.to_owned(), written.join("::")));
            }
        }
    }

    fn exported_macros(&mut self, path: &str, items: &[Item]) {
        for item in items {
            let is_exported =
                attributes(item).iter().any(|attribute| attribute.path().is_ident("macro_export"));
            if let (true, Some(name)) = (is_exported, defined(item)) {
                self.items.insert((path.to_owned(), name.to_string()));
            }
        }
    }
}

/// The items of a module inside a file.
fn inline<'t>(items: &'t [Item], path: &[String]) -> &'t [Item] {
    let Some((first, rest)) = path.split_first() else { return items };
    let mut modules = items.iter().filter_map(|item| match item {
        Item::Mod(inner) if inner.ident == first => inner.content.as_ref(),
        _ => None,
    });
    modules.next().map_or(&[], |(_, items)| inline(items, rest))
}

fn is_public(item: &Item) -> bool {
    let visibility = match item {
        Item::Const(item) => &item.vis,
        Item::Enum(item) => &item.vis,
        Item::Fn(item) => &item.vis,
        Item::Mod(item) => &item.vis,
        Item::Static(item) => &item.vis,
        Item::Struct(item) => &item.vis,
        Item::Trait(item) => &item.vis,
        Item::Type(item) => &item.vis,
        Item::Union(item) => &item.vis,
        Item::Use(item) => &item.vis,
        _ => return false,
    };
    matches!(visibility, Visibility::Public(_))
}

#[test]
fn what_can_be_reached_is_counted_once_and_nothing_else() {
    let tree = Tree::made(&[
        (
            "src/lib.rs",
            "mod a; pub mod b; pub(crate) mod c; pub use a::{A, go as run}; pub use other::Thing; pub use c::shown;
             #[cfg(feature = \"testing\")] pub use c::Faulty; #[cfg(feature = \"testing\")] pub mod t { pub struct T; }
             #[cfg(not(feature = \"testing\"))] pub struct Real;",
        ),
        ("src/a.rs", "pub struct A; impl A { pub fn f(&self) {} } pub fn go() {} pub enum Hidden {}"),
        ("src/b.rs", "pub use crate::a::A; pub const B: u8 = 1; fn private() {} pub mod inner { pub type C = u8; }"),
        ("src/c.rs", "pub struct Faulty; pub mod shown { pub trait D { fn d(); } } #[macro_export] macro_rules! m { () => {} }"),
    ]);
    let count = public_items(&tree, &Modules::of(&tree));
    assert_eq!(
        count.offenders,
        [
            "`A` of src/a.rs",
            "`go` of src/a.rs",
            "`B` of src/b.rs",
            "`C` of src/b.rs",
            "`D` of src/c.rs",
            "`m` of src/c.rs",
            "`Real` of src/lib.rs",
            "`other::Thing` of src/lib.rs",
        ]
    );
}
