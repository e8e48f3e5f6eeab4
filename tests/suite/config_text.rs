//! `config.json` is edited in its text: what need not change keeps its bytes, however it is spelled.

use std::fs;

use super::work::Work;

/// Texts beside the flag of a tied head: spelled as Python and people write them, and as no other writer would spell them.
const BESIDE: &[&str] = &[
    r#""big": 1000000000000000019884624838656"#,
    r#""limit": Infinity, "low": -Infinity, "none": NaN"#,
    r#""eps": 1e-06, "theta": 1E+6, "one": 1.0, "exact": 0.10000000000000000555"#,
    r#""huge": 1e400, "minus": -0.0, "small": 5e-324"#,
    r#""text": "caf\u00e9 \/ \ud83d\ude00 \"tie_word_embeddings\": true""#,
    r#""nested": {"tie_word_embeddings_not": [true, {"a": {}}, [ ]], "z":null ,"a" : 1}"#,
    r#""big_list": [18446744073709551616, -9223372036854775809, 123456789012345678901234567890.5]"#,
];

fn untied(text: &str) -> String {
    let work = Work::golden("tied-head");
    let path = work.base.join("config.json");
    fs::write(&path, text).expect("written");
    work.succeeds(&[]);
    fs::read_to_string(work.output.join("config.json")).expect("a config")
}

#[test]
fn only_the_flag_of_an_untied_head_changes() {
    const FLAG: &str = "\"tie_word_embeddings\": ";
    let head = r#""architectures": ["LlamaForCausalLM"], "model_type": "llama""#;
    for beside in BESIDE {
        for text in [
            format!("{{{head}, {FLAG}true, {beside}}}"),
            format!("{{\n  {head},\n\t{beside},\r\n  {FLAG}true\n}}\n"),
            format!("  {{ {beside} , {FLAG}true ,{head} }}  \r\n"),
            format!("\u{feff}{{{FLAG}true,{head},{beside}}}"),
        ] {
            assert_eq!(untied(&text), text.replacen(&format!("{FLAG}true"), &format!("{FLAG}false"), 1));
        }
    }
}

#[test]
fn the_flag_of_a_text_config_changes_with_it() {
    let text = r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","text_config":{"x":Infinity,"tie_word_embeddings":true,"y":1e-06}}"#;
    let done = untied(text);
    let without = done.replace("\"tie_word_embeddings\":false", "\"tie_word_embeddings\":true");
    assert!(without.starts_with(text.strip_suffix('}').expect("an object")), "{done}");
    assert!(done.contains(r#""x":Infinity,"tie_word_embeddings":false,"y":1e-06"#), "{done}");
}

#[test]
fn a_dropped_description_takes_nothing_else_along() {
    for beside in BESIDE {
        let work = Work::golden("fp8");
        let path = work.base.join("config.json");
        let text = fs::read_to_string(&path).expect("a config");
        let text = text.trim_end().strip_suffix('}').expect("an object").trim_end().to_owned();
        fs::write(&path, format!("{text},\n  {beside}\n}}\n")).expect("written");
        work.succeeds(&[]);
        let done = fs::read_to_string(work.output.join("config.json")).expect("a config");
        assert!(done.contains(beside), "{done}");
        assert!(!done.contains("quantization_config"), "{done}");
    }
}
