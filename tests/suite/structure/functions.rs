//! Functions that are too long.

use syn::visit::{self, Visit};
use syn::{Block, Signature};

use super::count::Count;
use super::source::Tree;

/// Lines that a function may have, from its signature to its closing brace.
const MAX_LINES: usize = 60;

/// Functions and methods of more lines; closures and functions inside count as lines of theirs.
pub fn long_functions(tree: &Tree) -> Count {
    let mut lengths = Lengths::default();
    for file in &tree.files {
        lengths.path = &file.path;
        lengths.visit_file(&file.ast);
    }
    Count::of("functions over 60 lines", lengths.long)
}

#[derive(Default)]
struct Lengths<'t> {
    path: &'t str,
    long: Vec<String>,
}

impl Lengths<'_> {
    fn measure(&mut self, signature: &Signature, block: &Block) {
        let first = signature.fn_token.span.start().line;
        let lines = block.brace_token.span.close().end().line + 1 - first;
        if lines > MAX_LINES {
            self.long.push(format!("{}:{first} `{}` has {lines} lines", self.path, signature.ident));
        }
    }
}

impl<'ast> Visit<'ast> for Lengths<'_> {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.measure(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

#[test]
fn a_function_of_sixty_one_lines_is_found_and_one_of_sixty_is_not() {
    let function =
        |name: &str, lines: usize| format!("/// Doc.\nfn {name}() {{\n{}}}\n", "x();\n".repeat(lines - 2));
    let text = [
        function("fits", 60),
        function("long", 61),
        format!("impl A {{\n{}}}\n", function("method", 61)),
        format!("trait B {{\n{}}}\n", function("given", 61)),
        format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function("tested", 99)),
    ];
    let tree = Tree::made(&[("src/a.rs", &text.concat())]);
    assert_eq!(
        long_functions(&tree).offenders,
        [
            "src/a.rs:63 `long` has 61 lines",
            "src/a.rs:126 `method` has 61 lines",
            "src/a.rs:190 `given` has 61 lines",
        ]
    );
}
