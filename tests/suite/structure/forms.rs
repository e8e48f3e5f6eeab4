//! Forms of code that are not wanted: `match` on a bool, `unreachable!` where a type could rule the case out, questions to
//! the file system outside storage, and claims that read an adapter's raw config.

use proc_macro2::{TokenStream, TokenTree};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Expr, Lit, Pat, Token};

use super::count::Count;
use super::source::{SourceFile, Tree};

/// Rooms in which no function may be `unreachable!`.
const REACHABLE: [&str; 2] = ["adapters", "ops"];

/// Rooms that may ask the file system.
const ASKING: [&str; 2] = ["storage", "memory"];

/// The room whose files see an adapter's typed options alone.
const TYPED: [&str; 2] = ["adapters", "claim"];

/// Methods of `Path` that ask the file system.
const QUESTIONS: [&str; 7] =
    ["exists", "is_dir", "is_file", "is_symlink", "metadata", "symlink_metadata", "try_exists"];

/// Each `match` with `true` or `false` as an arm.
pub fn matches_on_bool(tree: &Tree) -> Count {
    Count::of("`match` on a bool", tree.files.iter().flat_map(|file| found(file).matches))
}

/// Each `unreachable!` in a room that reads or computes what an adapter holds.
pub fn unreachable_calls(tree: &Tree) -> Count {
    let files = tree.files.iter().filter(|file| is_in(file, &REACHABLE));
    Count::of("`unreachable!` in adapters and ops", files.flat_map(|file| found(file).unreachable))
}

/// Each question to the file system outside the rooms that own it.
pub fn path_questions(tree: &Tree) -> Count {
    let files = tree.files.iter().filter(|file| !is_in(file, &ASKING));
    Count::of("`Path` asked outside storage", files.flat_map(|file| found(file).questions))
}

/// Each claim that reads an adapter's raw config, or takes JSON apart.
pub fn raw_config_in_claims(tree: &Tree) -> Count {
    let files = tree.files.iter().filter(|file| file.module.starts_with(&TYPED.map(str::to_owned)));
    Count::of("claims that read a raw config", files.flat_map(|file| found(file).configs))
}

fn is_in(file: &SourceFile, rooms: &[&str]) -> bool {
    file.module.first().is_some_and(|room| rooms.contains(&room.as_str()))
}

#[derive(Default)]
struct Forms<'t> {
    path: &'t str,
    matches: Vec<String>,
    unreachable: Vec<String>,
    questions: Vec<String>,
    configs: Vec<String>,
}

fn found(file: &SourceFile) -> Forms<'_> {
    let mut forms = Forms { path: &file.path, ..Forms::default() };
    forms.visit_file(&file.ast);
    forms
}

impl Forms<'_> {
    fn place(&self, spanned: &impl Spanned) -> String {
        format!("{}:{}", self.path, spanned.span().start().line)
    }

    /// `unreachable!` in the text of a macro that is not a list of expressions.
    fn scan(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if ident == "unreachable" => {
                    self.unreachable.push(self.place(&ident))
                }
                TokenTree::Group(group) => self.scan(group.stream()),
                _ => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Forms<'_> {
    fn visit_expr_match(&mut self, expression: &'ast syn::ExprMatch) {
        if expression.arms.iter().any(|arm| is_bool(&arm.pat)) {
            self.matches.push(self.place(&expression.match_token));
        }
        visit::visit_expr_match(self, expression);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if call.args.is_empty() && QUESTIONS.iter().any(|question| call.method == question) {
            self.questions.push(format!("{} `.{}()`", self.place(&call.method), call.method));
        }
        visit::visit_expr_method_call(self, call);
    }

    /// A field called `config` of anything but the base.
    fn visit_expr_field(&mut self, field: &'ast syn::ExprField) {
        if is_field(&field.member, "config") && !is_base(&field.base) {
            self.configs.push(format!("{} `.config`", self.place(&field.member)));
        }
        visit::visit_expr_field(self, field);
    }

    /// A pattern that takes the field out of a struct.
    fn visit_field_pat(&mut self, field: &'ast syn::FieldPat) {
        if is_field(&field.member, "config") {
            self.configs.push(format!("{} `config`", self.place(&field.member)));
        }
        visit::visit_field_pat(self, field);
    }

    /// The types that a raw config is and is made of, in imports and in paths.
    fn visit_ident(&mut self, ident: &'ast syn::Ident) {
        if ident == "AdapterConfig" || ident == "serde_json" {
            self.configs.push(format!("{} `{ident}`", self.place(ident)));
        }
    }

    fn visit_expr_path(&mut self, expression: &'ast syn::ExprPath) {
        let words: Vec<String> =
            expression.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if let [.., owner, question] = words.as_slice()
            && ["Path", "PathBuf"].contains(&owner.as_str())
            && QUESTIONS.contains(&question.as_str())
        {
            self.questions.push(format!("{} `{owner}::{question}`", self.place(&expression.path)));
        }
        visit::visit_expr_path(self, expression);
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        if called.path.segments.last().is_some_and(|segment| segment.ident == "unreachable") {
            self.unreachable.push(self.place(&called.path));
        }
        match called.parse_body_with(Punctuated::<Expr, Token![,]>::parse_terminated) {
            Ok(arguments) => arguments.iter().for_each(|argument| Forms::visit_inner(self, argument)),
            Err(_) => self.scan(called.tokens.clone()),
        }
    }
}

impl Forms<'_> {
    fn visit_inner(&mut self, argument: &Expr) {
        Visit::visit_expr(self, argument);
    }
}

fn is_field(member: &syn::Member, name: &str) -> bool {
    matches!(member, syn::Member::Named(ident) if ident == name)
}

/// Whether an expression is something called `base`.
fn is_base(expression: &Expr) -> bool {
    match expression {
        Expr::Field(field) => is_field(&field.member, "base"),
        Expr::Path(path) => path.path.is_ident("base"),
        _ => false,
    }
}

/// Whether a whole pattern is `true` or `false`, with a guard or among alternatives too.
fn is_bool(pattern: &Pat) -> bool {
    match pattern {
        Pat::Lit(literal) => matches!(literal.lit, Lit::Bool(_)),
        Pat::Guard(guarded) => is_bool(&guarded.pat),
        Pat::Or(alternatives) => alternatives.cases.iter().any(is_bool),
        Pat::Paren(inner) => is_bool(&inner.pat),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Tree {
        Tree::made(&[("src/ops/a.rs", &format!("fn f() {{\n{text}\n}}"))])
    }

    #[test]
    fn a_match_on_a_bool_is_found_in_each_form() {
        for text in [
            "match x { true => 1, false => 2 }",
            "match x { true => 1, _ => 2 }",
            "match x { true if y => 1, _ => 2 }",
            "match x { (true) => 1, _ => 2 }",
            "match x { true | false => 1 }",
            "print!(\"{}\", match x { false => 1, _ => 2 })",
            "vec![match x { false => 1, _ => 2 }]",
        ] {
            assert_eq!(matches_on_bool(&body(text)).offenders, ["src/ops/a.rs:2"], "{text}");
        }
    }

    #[test]
    fn a_bool_inside_a_pattern_is_no_match_on_a_bool() {
        for text in [
            "match (a, b) { (true, _) => 1, _ => 2 }",
            "match x { Some(true) => 1, _ => 2 }",
            "matches!(x, true)",
        ] {
            assert_eq!(matches_on_bool(&body(text)).found, 0, "{text}");
        }
    }

    #[test]
    fn unreachable_is_found_in_adapters_and_ops_alone() {
        let files = ["src/adapters/claim/a.rs", "src/ops/b.rs", "src/ops.rs", "src/pipeline/c.rs"];
        let text = "fn f() { unreachable!(\"no\") }";
        let tree = Tree::made(&files.map(|path| (path, text)));
        let places = ["src/adapters/claim/a.rs:1", "src/ops/b.rs:1", "src/ops.rs:1"];
        assert_eq!(unreachable_calls(&tree).offenders, places);
        for text in [
            "x.unwrap_or_else(|| unreachable!())",
            "match x { _ => std::unreachable!() }",
            "vec![unreachable!()]",
            "odd!(x => unreachable!())",
        ] {
            assert_eq!(unreachable_calls(&body(text)).offenders, ["src/ops/a.rs:2"], "{text}");
        }
    }

    #[test]
    fn a_raw_config_is_found_in_claims_alone() {
        for (text, what) in [
            ("fn f(c: &C) { c.adapter.config.get(\"r\"); }", "`.config`"),
            ("fn f(a: &A) { let config = &a.config; }", "`.config`"),
            ("fn f(a: &A) { let A { config, .. } = a; }", "`config`"),
            ("use crate::adapters::peft::config::{AdapterConfig, Field};", "`AdapterConfig`"),
            ("fn f(value: &serde_json::Value) {}", "`serde_json`"),
        ] {
            let files = ["src/adapters/claim/a.rs", "src/adapters/peft/b.rs"];
            let found = raw_config_in_claims(&Tree::made(&files.map(|path| (path, text))));
            assert_eq!(found.offenders, [format!("src/adapters/claim/a.rs:1 {what}")], "{text}");
        }
        let base = "fn f(c: &C) { c.outline.base.config.model_type(); base.config.classes(); }";
        assert_eq!(raw_config_in_claims(&Tree::made(&[("src/adapters/claim/a.rs", base)])).found, 0);
    }

    #[test]
    fn a_path_is_asked_in_storage_and_memory_alone() {
        let text = "fn f() { p.is_dir(); store.exists(name); files.filter(Path::is_file); std::path::PathBuf::exists(p); }";
        let files = ["src/storage/a.rs", "src/memory/b.rs", "src/plan/c.rs"];
        let tree = Tree::made(&files.map(|path| (path, text)));
        let found = path_questions(&tree).offenders;
        assert_eq!(
            found,
            [
                "src/plan/c.rs:1 `.is_dir()`",
                "src/plan/c.rs:1 `Path::is_file`",
                "src/plan/c.rs:1 `PathBuf::exists`",
            ]
        );
    }
}
