//! Type names that stand for more than one type.

use std::collections::BTreeMap;

use syn::Ident;
use syn::visit::{self, Visit};

use super::count::Count;
use super::source::Tree;

/// Names with two or more definitions, in thousandths of all names of types.
pub fn doubled_type_names(tree: &Tree) -> Count {
    let mut names = Names::default();
    for file in &tree.files {
        names.path = &file.path;
        names.visit_file(&file.ast);
    }
    let doubled: Vec<_> = names.places.iter().filter(|(_, places)| places.len() > 1).collect();
    let offenders = doubled.iter().map(|(name, places)| format!("`{name}`: {}", places.join(", ")));
    let found = (doubled.len() * 1000).div_ceil(names.places.len().max(1));
    Count { name: "type names that mean several things, in 1000", found, offenders: offenders.collect() }
}

#[derive(Default)]
struct Names<'t> {
    path: &'t str,
    places: BTreeMap<String, Vec<String>>,
}

impl Names<'_> {
    fn add(&mut self, name: &Ident) {
        let place = format!("{}:{}", self.path, name.span().start().line);
        self.places.entry(name.to_string()).or_default().push(place);
    }
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.add(&item.ident);
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.add(&item.ident);
        visit::visit_item_enum(self, item);
    }

    fn visit_item_union(&mut self, item: &'ast syn::ItemUnion) {
        self.add(&item.ident);
        visit::visit_item_union(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.add(&item.ident);
        visit::visit_item_trait(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.add(&item.ident);
        visit::visit_item_type(self, item);
    }
}

#[test]
fn a_doubled_name_is_found_whatever_kinds_bear_it() {
    let tree = Tree::made(&[
        ("src/lib.rs", "mod a; mod b;\nstruct Place; struct One; trait Two {}"),
        ("src/a.rs", "enum Place {}\nmod inner { type Run = u8; struct Three; }"),
        (
            "src/b.rs",
            "impl Iterator for X { type Item = u8; } impl Iterator for Y { type Item = u8; }\nfn f() { trait Run {} }",
        ),
    ]);
    let count = doubled_type_names(&tree);
    assert_eq!(count.offenders, ["`Place`: src/lib.rs:2, src/a.rs:1", "`Run`: src/a.rs:2, src/b.rs:2"]);
    assert_eq!(count.found, 400);
}
