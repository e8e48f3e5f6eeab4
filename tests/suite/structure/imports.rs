//! Imports of a crate: which file names what of which other file, by `use` and by paths in code.

use proc_macro2::{TokenStream, TokenTree};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Expr, Token};

use super::modules::{Modules, Resolved, leaves};
use super::source::{SourceFile, Tree, child};

/// One name of another module that a file uses.
pub struct Import {
    /// The number of the file that imports.
    pub from: usize,
    pub line: usize,
    /// The path as written.
    pub path: String,
    /// The number of the file that is imported.
    pub to: usize,
    /// Whether it makes the one file need the other: a re-export hands a name on, and a module alone is not yet a use.
    pub is_need: bool,
}

/// The imports of all files.
pub fn imports(tree: &Tree, modules: &Modules) -> Vec<Import> {
    let mut found = Vec::new();
    for (number, file) in tree.files.iter().enumerate() {
        let mut reader = Reader { modules, number, module: file.module.clone(), found: Vec::new() };
        reader.visit_file(&file.ast);
        found.extend(reader.found.into_iter().filter(|import| import.to != number));
    }
    found
}

/// `src/a.rs:12 names `crate::b::C` of src/b.rs`.
pub fn describe(files: &[SourceFile], import: &Import) -> String {
    let Import { from, line, path, to, .. } = import;
    format!("{}:{line} names `{path}` of {}", files[*from].path, files[*to].path)
}

/// Collects the imports of one file.
struct Reader<'m> {
    modules: &'m Modules,
    number: usize,
    /// The module that is being read, inline ones included.
    module: Vec<String>,
    found: Vec<Import>,
}

impl Reader<'_> {
    fn add(&mut self, path: &[String], line: usize, is_reexport: bool) {
        let Some((to, is_item)) = self.file_of(path) else { return };
        let path = path.join("::");
        self.found.push(Import { from: self.number, line, path, to, is_need: is_item && !is_reexport });
    }

    fn file_of(&self, path: &[String]) -> Option<(usize, bool)> {
        match self.modules.resolve(&self.module, path)? {
            Resolved::Item { file, .. } => Some((file, true)),
            Resolved::Module(module) => Some((self.modules.file(&module)?, false)),
        }
    }

    fn add_path(&mut self, path: &syn::Path) {
        if path.leading_colon.is_none() {
            let line = path.segments[0].ident.span().start().line;
            let path: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.add(&path, line, false);
        }
    }

    /// Paths in the text of a macro that is not a list of expressions.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.add_words(&mut path, line);
                        line = ident.span().start().line;
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.add_words(&mut path, line);
                    self.add_tokens(group.stream());
                }
                _ => self.add_words(&mut path, line),
            }
        }
        self.add_words(&mut path, line);
    }

    fn add_words(&mut self, path: &mut Vec<String>, line: usize) {
        if path.len() > 1 || path.first().is_some_and(|word| is_upper(word)) {
            self.add(path, line, false);
        }
        path.clear();
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module = child(&self.module, &item.ident);
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_reexport = !matches!(item.vis, syn::Visibility::Inherited);
        for leaf in leaves(&item.tree) {
            if leaf.is_glob && !is_reexport {
                // The names are not seen one by one: the module's file stands for them.
                if let Some((to, _)) = self.file_of(&leaf.path) {
                    let path = leaf.path.join("::") + "::*";
                    self.found.push(Import { from: self.number, line: leaf.line, path, to, is_need: true });
                }
            } else {
                self.add(&leaf.path, leaf.line, is_reexport);
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        // A single lower-case word is a variable as a rule; where it is called, see below.
        if path.segments.len() > 1 || is_upper(&path.segments[0].ident.to_string()) {
            self.add_path(path);
        }
        visit::visit_path(self, path);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let Expr::Path(function) = &*call.func
            && function.path.get_ident().is_some_and(|ident| !is_upper(&ident.to_string()))
        {
            self.add_path(&function.path);
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        if called.path.segments.len() > 1 {
            self.add_path(&called.path);
        }
        match called.parse_body_with(Punctuated::<Expr, Token![,]>::parse_terminated) {
            Ok(arguments) => Reader::visit_arguments(self, &arguments),
            Err(_) => self.add_tokens(called.tokens.clone()),
        }
    }

    // Neither imports anything.
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}

impl Reader<'_> {
    fn visit_arguments(&mut self, arguments: &Punctuated<Expr, Token![,]>) {
        for argument in arguments {
            Visit::visit_expr(self, argument);
        }
    }
}

fn is_upper(word: &str) -> bool {
    word.starts_with(char::is_uppercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(String, String, bool)> {
        let tree = Tree::made(&[
            ("src/lib.rs", "mod a; mod b;"),
            ("src/a.rs", text),
            ("src/b/mod.rs", "mod c; pub use c::C; pub use c::f;"),
            ("src/b/c.rs", "pub struct C; pub fn f() {}"),
        ]);
        let found = imports(&tree, &Modules::of(&tree));
        let of_a = found.into_iter().filter(|import| tree.files[import.from].path == "src/a.rs");
        of_a.map(|import| (import.path, tree.files[import.to].path.clone(), import.is_need)).collect()
    }

    fn import(path: &str, to: &str, is_need: bool) -> (String, String, bool) {
        (path.to_owned(), to.to_owned(), is_need)
    }

    #[test]
    fn an_import_is_seen_however_it_is_written() {
        for text in [
            "use crate::b::C;",
            "fn g() { let c = crate::b::C; }",
            "fn g() -> Vec<crate::b::C> { todo() }",
            "fn g() { print!(\"{:?}\", vec![crate::b::C]) }",
            "fn g() { odd!(x => crate::b::C) }",
            "fn g() { crate::b::C!() }",
        ] {
            assert_eq!(found(text), [import("crate::b::C", "src/b/c.rs", true)], "{text}");
        }
        assert_eq!(found("use super::{b::C};"), [import("super::b::C", "src/b/c.rs", true)]);
        assert_eq!(
            found("use crate::b; fn g() { b::f() }"),
            [import("crate::b", "src/b/mod.rs", false), import("b::f", "src/b/c.rs", true)]
        );
        assert_eq!(found("use crate::b::*;"), [import("crate::b::*", "src/b/mod.rs", true)]);
    }

    #[test]
    fn a_re_export_hands_on_and_its_use_in_code_needs() {
        assert_eq!(found("pub use crate::b::C;"), [import("crate::b::C", "src/b/c.rs", false)]);
        let used = found("pub(crate) use crate::b::C; fn g(c: C) {}");
        assert_eq!(used[1], import("C", "src/b/c.rs", true));
        let called = found("pub use crate::b::f; fn g() { f() }");
        assert_eq!(called[1], import("f", "src/b/c.rs", true));
    }

    #[test]
    fn other_names_are_no_imports() {
        assert_eq!(found("use std::fs; pub(in crate::b) fn g(b: u8) -> u8 { b }"), []);
    }
}
