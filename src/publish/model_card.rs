//! The model card: what was merged into what, by which version, with the front matter that the Hugging Face hub reads.
//!
//! The hub draws a tree of models from `base_model` and `base_model_relation` (`adapter`, `merge`, `quantized`,
//! `finetune`). A base with one adapter merged in is a fine-tune of it, as if its weights had been trained; `merge` is a
//! model made of several. Only a repo id makes a link, so a base that is known by a path alone is not named there.

use crate::checkpoint::ecosystem::Library;
use crate::plan::out_tensor::Plan;

/// The text of `README.md`. `base` names the base as its config or its directory does; `library` is what loads it.
pub(crate) fn model_card(plan: &Plan, base: &str, library: &Library) -> String {
    let mut text = front_matter(plan.adapters.len(), base, library);
    let adapters = match plan.adapters.as_slice() {
        [one] => format!("`{}`", one.name),
        several => format!("{} adapters", several.len()),
    };
    text.push_str(&format!("\n# {base} with {adapters} merged\n\n"));
    text.push_str("| adapter | method | weight |\n| --- | --- | --- |\n");
    for adapter in &plan.adapters {
        text.push_str(&format!("| {} | {} | {} |\n", adapter.name, adapter.peft_type, adapter.weight));
    }
    if !plan.choices.is_empty() {
        text.push('\n');
    }
    for choice in &plan.choices {
        text.push_str(&format!("- {choice}\n"));
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
        let relation = if is_merge { "merge" } else { "finetune" };
        text.push_str(&format!("base_model:\n- {}\nbase_model_relation: {relation}\n", yaml(base)));
    }
    text.push_str(&format!("library_name: {}\ntags:\n", library.name));
    if is_merge {
        text.push_str("- merge\n");
    }
    text.push_str("- shardfold\n---\n");
    text
}

/// Whether a name is `owner/name`, as the hub takes it.
fn is_repo_id(name: &str) -> bool {
    let is_part = |part: &str| {
        let is_usual = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        part.chars().all(is_usual) && part.starts_with(|c: char| c.is_ascii_alphanumeric())
    };
    name.split_once('/').is_some_and(|(owner, name)| is_part(owner) && is_part(name))
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
    fn only_a_repo_id_is_a_base_model() {
        for name in
            ["base", "/data/llama", "./llama", "~/llama", "a/b/c", "../x", "org/", "", "C:\\llama/x", "a b/c"]
        {
            let text = front_matter_of(name, 1);
            assert!(!text.contains("base_model"), "{name}: {text}");
        }
        assert!(front_matter_of("meta-llama/Llama-3.1-8B", 1).contains("\"meta-llama/Llama-3.1-8B\""));
    }
}
