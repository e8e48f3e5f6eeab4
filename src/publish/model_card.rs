//! The model card: what was merged into what, by which version, with the front matter that the Hugging Face hub reads.
//!
//! The hub draws a tree of models from `base_model` and `base_model_relation` (`adapter`, `merge`, `quantized`,
//! `finetune`). A base with one adapter merged in is a fine-tune of it, as if its weights had been trained; `merge` is a
//! model made of several. Only a repo id makes a link, so a base that is known by a path alone is not named there.

use crate::checkpoint::ecosystem::Library;
use crate::note::printable::is_hidden;
use crate::plan::out_tensor::Plan;

/// The text of `README.md`. `base` names the base as its config or its directory does; `library` is what loads it.
pub(crate) fn model_card(plan: &Plan, base: &str, library: &Library) -> String {
    // What a merge was taken back from is the base again, and made of nothing else.
    let merged_adapters = if plan.is_inverse { 0 } else { plan.adapters.len() };
    let mut text = front_matter(merged_adapters, base, library);
    let merged = match plan.adapters.as_slice() {
        [] => String::new(),
        _ if plan.is_inverse => " with its adapters taken out again".to_owned(),
        [one] => format!(" with {} merged", code(&one.name)),
        several => format!(" with {} adapters merged", several.len()),
    };
    text.push_str(&format!("\n# {}{merged}\n", plain(base)));
    if !plan.adapters.is_empty() {
        text.push_str("\n| adapter | method | weight |\n| --- | --- | --- |\n");
    }
    for adapter in &plan.adapters {
        let (name, method) = (plain(&adapter.name), plain(&adapter.peft_type));
        text.push_str(&format!("| {name} | {method} | {} |\n", adapter.weight));
    }
    if !plan.choices.is_empty() {
        text.push('\n');
    }
    for choice in &plan.choices {
        text.push_str(&format!("- {}\n", prose(choice)));
    }
    text.push_str(&format!(
        "\nTensors: {} byte for byte, by shardfold {}. `shardfold.json` has the hashes of what was read and written.\n",
        plan.counts(),
        plan.version
    ));
    text
}

/// What the hub reads.
fn front_matter(adapters: usize, base: &str, library: &Library) -> String {
    let is_merge = adapters > 1;
    let mut text = "---\n".to_owned();
    if is_repo_id(base) {
        text.push_str(&format!("base_model:\n- {}\n", yaml(base)));
        // The hub has no word for the same weights in another form.
        if adapters > 0 {
            let relation = if is_merge { "merge" } else { "finetune" };
            text.push_str(&format!("base_model_relation: {relation}\n"));
        }
    }
    text.push_str(&format!("library_name: {}\ntags:\n", library.name));
    if is_merge {
        text.push_str("- merge\n");
    }
    text.push_str("- shardfold\n---\n");
    text
}

/// What directories are called that checkpoints are kept in; nobody has these names on the hub.
const DIRECTORIES: &[&str] = &[
    "base",
    "checkpoint",
    "checkpoints",
    "ckpt",
    "ckpts",
    "data",
    "models",
    "out",
    "output",
    "outputs",
    "results",
    "runs",
    "saves",
    "snapshots",
    "tmp",
    "weights",
];

/// Whether a name is `owner/name`, as the hub takes it, and not a path.
pub(crate) fn is_repo_id(name: &str) -> bool {
    let is_part = |part: &str| {
        let is_usual = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_edge = |c: char| c.is_ascii_alphanumeric() || c == '_';
        part.chars().all(is_usual) && part.starts_with(is_edge) && part.ends_with(is_edge)
    };
    let is_owner = |part: &str| is_part(part) && !DIRECTORIES.contains(&part.to_lowercase().as_str());
    name.split_once('/').is_some_and(|(owner, name)| is_owner(owner) && is_part(name))
}

/// Text of a card without code, in which whatever a name holds is shown as it is: no markup, no tag, no new line.
fn plain(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let is_word = |i: Option<usize>| i.and_then(|i| chars.get(i)).is_some_and(|c| c.is_alphanumeric());
    let mut plain = String::new();
    for (i, &c) in chars.iter().enumerate() {
        match c {
            '<' => plain.push_str("&lt;"),
            '>' => plain.push_str("&gt;"),
            '&' => plain.push_str("&amp;"),
            '_' if is_word(i.checked_sub(1)) && is_word(Some(i + 1)) => plain.push(c),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' | '$' => plain.extend(['\\', c]),
            c => plain.push_str(&visible(c)),
        }
    }
    plain
}

/// A name as code, in a row of a table too.
fn code(name: &str) -> String {
    if name.contains(['`', '|']) { plain(name) } else { format!("`{}`", visible_all(name)) }
}

/// A sentence that has names in backquotes: these stay, unless a name has some of its own.
fn prose(text: &str) -> String {
    if text.contains("``") || text.matches('`').count() % 2 == 1 {
        return plain(text);
    }
    let shown =
        |(i, part): (usize, &str)| if i % 2 == 1 { format!("`{}`", visible_all(part)) } else { plain(part) };
    text.split('`').enumerate().map(shown).collect()
}

fn visible_all(text: &str) -> String {
    text.chars().map(visible).collect()
}

/// A character, or its number if nobody would see it, or it would turn what follows around.
fn visible(c: char) -> String {
    if is_hidden(c) { c.escape_unicode().to_string() } else { c.to_string() }
}

/// A string as YAML takes any: JSON is a part of it.
fn yaml(text: &str) -> String {
    serde_json::to_string(text).expect("a string")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::checkpoint::config::Config;

    fn front_matter_of(base: &str, adapters: usize) -> String {
        front_matter(adapters, base, Config::from(json!({})).library())
    }

    #[test]
    fn one_adapter_makes_a_finetune_and_several_a_merge() {
        assert_eq!(
            front_matter_of("org/name", 1),
            "---\nbase_model:\n- \"org/name\"\nbase_model_relation: finetune\nlibrary_name: transformers\ntags:\n- shardfold\n---\n"
        );
        let several = front_matter_of("org/name", 2);
        assert!(
            several.contains("base_model_relation: merge\n") && several.contains("- merge\n"),
            "{several}"
        );
    }

    #[test]
    fn names_are_shown_and_mean_nothing() {
        for (name, shown) in [
            ("style-lora_2", "style-lora_2"),
            ("<img src=x>", "&lt;img src=x&gt;"),
            ("[x](http://y) | *a* __b__", r"\[x\](http://y) \| \*a\* \_\_b\_\_"),
            ("a\nb\u{202e}c", r"a\u{a}b\u{202e}c"),
        ] {
            assert_eq!(plain(name), shown);
        }
        assert_eq!((code("a_b"), code("a`<b>")), ("`a_b`".to_owned(), r"a\`&lt;b&gt;".to_owned()));
        assert_eq!(prose("`a<b>` is <i>new</i>"), "`a<b>` is &lt;i&gt;new&lt;/i&gt;");
        assert_eq!(prose("`a`<b>`` is new"), r"\`a\`&lt;b&gt;\`\` is new");
        assert_eq!(prose("`a`<b>` is"), r"\`a\`&lt;b&gt;\` is");
    }

    #[test]
    fn only_a_repo_id_is_a_base_model() {
        for name in [
            "base",
            "/data/llama",
            "./llama",
            "~/llama",
            "a/b/c",
            "../x",
            "org/",
            "",
            "C:\\llama/x",
            "a b/c",
            "org/a b",
            "models/llama",
            "Outputs/run-1",
            "C:\\models\\llama",
            "\\\\host\\share",
            "org/-x",
            "org/x.",
            "org\n/x",
        ] {
            let text = front_matter_of(name, 1);
            assert!(!text.contains("base_model"), "{name}: {text}");
        }
        assert!(front_matter_of("meta-llama/Llama-3.1-8B", 1).contains("\"meta-llama/Llama-3.1-8B\""));
    }
}
