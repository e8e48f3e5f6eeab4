//! The model card: what was merged into what, by which version, in the front-matter form that model hubs read.

use crate::checkpoint::Library;
use crate::plan::Plan;

/// The text of `README.md`. `base` names the base as its config or its folder does; `library` is what loads it.
pub fn card(plan: &Plan, base: &str, library: &Library) -> String {
    let mut text = format!(
        "---\nbase_model:\n- {}\nbase_model_relation: merge\nlibrary_name: {}\ntags:\n- merge\n- shardfold\n---\n\n# {} with {}\n\n",
        yaml(base),
        library.name,
        base,
        if plan.adapters.len() == 1 { "one adapter merged" } else { "adapters merged" },
    );
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

/// A string as YAML takes any: JSON is a part of it.
fn yaml(text: &str) -> String {
    serde_json::to_string(text).expect("a string")
}
