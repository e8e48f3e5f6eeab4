//! Source files as syntax trees, without their tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use syn::{Attribute, Item, Meta};

/// The condition of what the author of a store gets for tests, without spaces.
const TESTING: &str = "feature=\"testing\"";

/// One file below `src/`, its test code removed.
pub struct SourceFile {
    /// Its path from the root of the repository, as `src/plan/op.rs`.
    pub path: String,
    /// The module that it is, as `[plan, op]`; empty for `lib.rs`, `[main]` for `main.rs`.
    pub module: Vec<String>,
    /// Its text, tests included.
    pub text: String,
    /// Its items, tests left out.
    pub ast: syn::File,
}

/// All files of a crate.
pub struct Tree {
    pub files: Vec<SourceFile>,
}

impl Tree {
    /// The files below `root/src`.
    pub fn read(root: &Path) -> Tree {
        let mut texts = Vec::new();
        gather(root, &root.join("src"), &mut texts);
        texts.sort();
        Tree::from_texts(texts)
    }

    /// A made-up tree, for the tests of the checks.
    pub fn made(files: &[(&str, &str)]) -> Tree {
        Tree::from_texts(files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect())
    }

    fn from_texts(texts: Vec<(String, String)>) -> Tree {
        let texts = texts.into_iter().filter(|(path, _)| !is_test_path(path));
        let mut files: Vec<SourceFile> = texts.map(|(path, text)| parse(path, text)).collect();
        let mut test_modules = BTreeSet::new();
        for file in &mut files {
            drop_tests(&mut file.ast.items, &file.module, &mut test_modules);
        }
        files.retain(|file| !file.ast.attrs.iter().any(is_test_only));
        files.retain(|file| !test_modules.iter().any(|module: &Vec<String>| file.module.starts_with(module)));
        Tree { files }
    }
}

fn gather(root: &Path, directory: &Path, texts: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(root, &path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
            texts.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
}

fn parse(path: String, text: String) -> SourceFile {
    let ast = syn::parse_file(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
    SourceFile { module: module_of(&path), path, text, ast }
}

fn module_of(path: &str) -> Vec<String> {
    let inner = path.strip_prefix("src/").unwrap_or(path);
    let inner = inner.strip_suffix(".rs").unwrap_or(inner);
    let mut module: Vec<String> = inner.split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod") || module == ["lib"] {
        module.pop();
    }
    module
}

fn is_test_path(path: &str) -> bool {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    path.split('/').any(|part| part == "tests") || path.ends_with("_tests")
}

/// Removes test items, and names the test modules that are files of their own.
fn drop_tests(items: &mut Vec<Item>, module: &[String], test_modules: &mut BTreeSet<Vec<String>>) {
    items.retain(|item| {
        let is_test = attributes(item).iter().any(is_test_only);
        if let (true, Item::Mod(declared)) = (is_test, item) {
            test_modules.insert(child(module, &declared.ident));
        }
        !is_test
    });
    for item in items {
        drop_inner_tests(item, module, test_modules);
    }
}

fn drop_inner_tests(item: &mut Item, module: &[String], test_modules: &mut BTreeSet<Vec<String>>) {
    match item {
        Item::Mod(inner) => {
            let name = child(module, &inner.ident);
            if let Some((_, items)) = &mut inner.content {
                drop_tests(items, &name, test_modules);
            }
        }
        Item::Impl(block) => block.items.retain(|item| match item {
            syn::ImplItem::Fn(function) => !function.attrs.iter().any(is_test_only),
            syn::ImplItem::Const(constant) => !constant.attrs.iter().any(is_test_only),
            _ => true,
        }),
        _ => {}
    }
}

/// A module's path and a name in it.
pub fn child(module: &[String], name: &syn::Ident) -> Vec<String> {
    let mut path = module.to_vec();
    path.push(name.to_string());
    path
}

/// Whether an attribute keeps its item for `cfg(test)`, alone or among conditions that must all hold.
fn is_test_only(attribute: &Attribute) -> bool {
    let condition = condition(attribute).unwrap_or_default();
    let is_one_of_all = condition.starts_with("all(") && !condition.contains("not(test");
    condition == "test" || is_one_of_all && words(&condition).any(|word| word == "test")
}

/// Whether one of an item's attributes keeps it for the feature `testing`.
pub fn is_for_testing(attributes: &[Attribute]) -> bool {
    let mut conditions = attributes.iter().filter_map(condition);
    conditions.any(|condition| condition.contains(TESTING) && !condition.contains(&format!("not({TESTING}")))
}

/// The text of a `cfg` attribute's condition, without spaces.
fn condition(attribute: &Attribute) -> Option<String> {
    match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => Some(list.tokens.to_string().replace(' ', "")),
        _ => None,
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// The attributes of an item that can bear a condition.
pub fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[test]
fn tests_are_left_out_in_every_form() {
    let tree = Tree::made(&[
        ("src/lib.rs", "mod a; #[cfg(test)] mod made; #[cfg(all(test, unix))] mod more { struct B; }"),
        (
            "src/a.rs",
            "struct A; impl A { #[cfg(test)] fn f() {} } #[cfg(test)] struct C; mod d { #[cfg(all(unix, not(test)))] fn h() {} #[cfg(test)] fn g() {} }",
        ),
        ("src/a/tests.rs", "struct D;"),
        ("src/a/tests/more.rs", "struct E;"),
        ("src/a_tests.rs", "struct F;"),
        ("src/b.rs", "#![cfg(test)] struct J;"),
        ("src/made.rs", "struct G;"),
        ("src/made/inner.rs", "struct H;"),
    ]);
    let paths: Vec<&str> = tree.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["src/lib.rs", "src/a.rs"]);
    assert_eq!(tree.files[0].ast.items.len(), 1);
    let Item::Impl(block) = &tree.files[1].ast.items[1] else { panic!("an impl") };
    assert!(block.items.is_empty());
    let Item::Mod(inner) = &tree.files[1].ast.items[2] else { panic!("a module") };
    assert_eq!(inner.content.as_ref().unwrap().1.len(), 1);
}
