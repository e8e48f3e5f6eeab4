//! Config fields that decide arithmetic: absent is PEFT's default, null, NaN and what is no number are refused.

use std::fs;

use serde_json::{Value, json};
use shardfold::testing::Dtype;

use super::refusals::refused;
use super::work::{MODULE, Work};

/// A tiny adapter of that method, whose config has those fields as well, in their text.
fn of(kind: &str, field: &str, text: &str) -> Work {
    let work = Work::tiny(Dtype::F32, 1.0);
    let [q, key] = ["", ".weight"].map(|end| format!("{MODULE}{end}"));
    work.rebase(&[(&key, &[4, 4], vec![1.0; 16])]);
    let (tensors, config): (Vec<(&str, &[u64])>, Value) = match kind {
        "LORA" => {
            (vec![("lora_A.weight", &[1, 4]), ("lora_B.weight", &[4, 1])], json!({"r": 1, "lora_alpha": 1}))
        }
        "LOHA" => (
            vec![
                ("hada_w1_a", &[4, 1]),
                ("hada_w1_b", &[1, 4]),
                ("hada_w2_a", &[4, 1]),
                ("hada_w2_b", &[1, 4]),
            ],
            json!({"r": 1, "alpha": 1}),
        ),
        "LOKR" => (vec![("lokr_w1", &[2, 2]), ("lokr_w2", &[2, 2])], json!({"r": 1, "alpha": 1})),
        _ => (vec![("oft_R.weight", &[2, 1])], json!({"oft_block_size": 2, "r": 0, "coft": true})),
    };
    let keys: Vec<String> = tensors.iter().map(|(role, _)| format!("{q}.{role}")).collect();
    let elements = |shape: &[u64]| shape.iter().product::<u64>() as usize;
    let values: Vec<(&str, &[u64], Vec<f32>)> = keys
        .iter()
        .zip(&tensors)
        .map(|(key, (_, shape))| (key.as_str(), *shape, vec![0.5; elements(shape)]))
        .collect();
    work.adapt_by(&config, &values);
    work.configure("peft_type", json!(kind));
    work.configure("target_modules", json!(["q_proj"]));
    work.configure(field, json!("HERE"));
    let config = work.adapter.join("adapter_config.json");
    let edited = fs::read_to_string(&config).expect("a config").replace("\"HERE\"", text);
    fs::write(config, edited).expect("a small file");
    work
}

const NULL: &str = "to `null`, which is no number: leave the field out for PEFT's default";
const NAN: &str = "to `NaN`, which is not a finite number: leave the field out for PEFT's default";
const INFINITE: &str = "Infinity`, which is not a finite number: leave the field out for PEFT's default";
const RANK: &str = "which is not a whole number above zero";
const FLAG: &str = "which is neither true nor false";

#[test]
fn what_is_no_number_is_refused() {
    for (kind, alpha) in [("LORA", "lora_alpha"), ("LOHA", "alpha"), ("LOKR", "alpha")] {
        for (field, text, says) in [
            (alpha, "null", NULL),
            (alpha, "NaN", NAN),
            (alpha, "-Infinity", "to `-Infinity`, which is not a finite number: leave the field out"),
            (alpha, "\"16\"", "which is not a number"),
            (alpha, "true", "which is not a number"),
            (alpha, "1e300", "which gives a scale that is not a finite number"),
            ("r", "null", NULL),
            ("r", "Infinity", INFINITE),
            ("r", "1e400", "to `1e400`, which is not a finite number"),
            ("r", "0", RANK),
            ("r", "-1", RANK),
            ("r", "1.5", RANK),
            ("r", "1e300", RANK),
            ("r", "[1]", RANK),
            ("rank_pattern", "null", "which is no object of patterns with their numbers"),
            ("rank_pattern", "[4]", "which is no object of patterns with their numbers"),
            ("rank_pattern", r#"{"q_proj": null}"#, NULL),
            ("rank_pattern", r#"{"q_proj": 0}"#, RANK),
            ("alpha_pattern", "\"q_proj\"", "which is no object of patterns with their numbers"),
            ("alpha_pattern", r#"{"q_proj": Infinity}"#, INFINITE),
            ("alpha_pattern", r#"{"never": NaN}"#, NAN),
        ] {
            let says = [format!("adapter `adapter` sets `{field}` to "), says.to_owned()];
            let says: Vec<&str> = says.iter().map(String::as_str).collect();
            refused(&format!("{kind} {field} {text}"), &of(kind, field, text), &[], 65, &says);
        }
    }
    refused("no list", &of("LORA", "target_parameters", "7"), &[], 65, &["which is no list of names"]);
    let bdlora = r#"{"nblocks": 2, "target_modules_bd_a": "q_proj"}"#;
    refused("blocks", &of("LORA", "use_bdlora", bdlora), &[], 65, &["needs lists of names as its"]);
    for count in ["null", "0", "-2", "1e300"] {
        let bdlora = format!(r#"{{"nblocks": {count}, "target_modules_bd_a": ["q_proj"]}}"#);
        refused("blocks", &of("LORA", "use_bdlora", &bdlora), &[], 65, &["needs a whole number above zero"]);
    }
    let bdlora = r#"{"nblocks": 9223372036854775808, "target_modules_bd_a": ["q_proj"]}"#;
    refused("blocks", &of("LORA", "use_bdlora", bdlora), &[], 65, &["9223372036854775808 blocks"]);
}

#[test]
fn what_rotations_are_made_by_is_refused_too() {
    for (field, text, says) in [
        ("oft_block_size", "-2", "which is not a whole number that a block may have rows"),
        ("oft_block_size", "1e300", "which is not a whole number that a block may have rows"),
        ("oft_block_size", "\"2\"", "which is not a whole number that a block may have rows"),
        ("use_cayley_neumann", "null", FLAG),
        ("use_cayley_neumann", "1", FLAG),
        ("coft", "\"false\"", FLAG),
        ("block_share", "0", FLAG),
        ("coft", "NaN", FLAG),
        ("eps", "null", NULL),
        ("eps", "NaN", NAN),
        ("num_cayley_neumann_terms", "null", NULL),
        ("num_cayley_neumann_terms", "2.5", "which is not a whole number up to 1000"),
    ] {
        refused(&format!("OFT {field} {text}"), &of("OFT", field, text), &[], 65, &[says]);
    }
}

/// Python takes them for true.
#[test]
fn numbers_that_json_does_not_have_switch_nothing_off() {
    for (field, text, says) in [
        ("use_rslora", "NaN", "sets `use_rslora` to `NaN`, which is neither true nor false"),
        ("use_dora", "-Infinity", "sets `use_dora` to `-Infinity`, which is neither true nor false"),
        ("use_qalora", "NaN", "sets `use_qalora` to `NaN`, which "),
        ("gain", "NaN", "sets `gain` to `NaN`, which is a field shardfold does not know"),
        ("gain", "[1e400]", "sets `gain` to `[\"1e400\"]`, which is a field shardfold does not know"),
        ("target_parameters", "NaN", "sets `target_parameters` to `NaN`, which is no list of names"),
    ] {
        refused(&format!("{field} {text}"), &of("LORA", field, text), &[], 65, &[says]);
    }
    let bdlora = r#"{"nblocks": Infinity, "target_modules_bd_a": ["q_proj"]}"#;
    refused(
        "blocks",
        &of("LORA", "use_bdlora", bdlora),
        &[],
        65,
        &["Infinity", "needs a whole number above zero"],
    );
}

#[test]
fn absent_is_the_default_and_null_is_false_where_that_is_it() {
    for (kind, field, text) in [
        ("LORA", "use_rslora", "null"),
        ("LORA", "use_dora", "null"),
        ("LORA", "rank_pattern", "{}"),
        ("LORA", "use_bdlora", "null"),
        ("LORA", "target_parameters", "null"),
        ("LORA", "lora_alpha", "0.5"),
        ("LORA", "lora_alpha", "-1"),
        ("OFT", "coft", "null"),
        ("OFT", "block_share", "null"),
        ("OFT", "r", "null"),
    ] {
        of(kind, field, text).succeeds(&[]);
    }
    // Without `coft` nobody asks for its length.
    let work = of("OFT", "eps", "null");
    work.configure("coft", json!(false));
    work.succeeds(&[]);
    // `r` and `lora_alpha` left out are 8 each.
    let work = Work::tiny(Dtype::F32, 1.0);
    work.adapt(8, 4, 4, 1.0, 1.0);
    for field in ["r", "lora_alpha"] {
        super::work::edit_json(&work.adapter.join("adapter_config.json"), |config| {
            config.remove(field);
        });
    }
    work.succeeds(&[]);
    assert_eq!(work.merged(&format!("{MODULE}.weight")), [9.0; 16]);
}
