//! `config.json` of the output: the base's, byte for byte, or with exactly the edits that a case names.

use serde_json::Value;

/// What is wrong with it. `edits` is the case's `config`; dots in a name go into objects.
pub fn wrong(base: &[u8], ours: &[u8], edits: &Value) -> Option<String> {
    if edits.is_null() {
        return (base != ours).then(|| "config.json is not the base's".to_owned());
    }
    let mut right: Value = serde_json::from_slice(base).expect("the base's config");
    for (name, value) in edits["set"].as_object().into_iter().flatten() {
        let (object, field) = place(&mut right, name);
        object[field] = value.clone();
    }
    for name in edits["remove"].as_array().into_iter().flatten() {
        let (object, field) = place(&mut right, name.as_str().expect("a name"));
        let removed = object.as_object_mut().expect("an object").shift_remove(field);
        assert!(removed.is_some(), "the base's config has no `{name}`");
    }
    match serde_json::from_slice::<Value>(ours) {
        Ok(found) if found == right => None,
        Ok(found) => Some(format!("config.json is {found}, should be {right}")),
        Err(error) => Some(format!("config.json: {error}")),
    }
}

/// The object that holds a field, and the field's own name.
fn place<'a, 'b>(config: &'a mut Value, name: &'b str) -> (&'a mut Value, &'b str) {
    match name.split_once('.') {
        Some((object, rest)) => place(&mut config[object], rest),
        None => (config, name),
    }
}

#[test]
fn exactly_the_edits_are_taken() {
    let base = br#"{"tied": true, "text": {"vocab": 3}, "quant": {"bits": 8}}"#;
    let edits = serde_json::json!({ "set": { "tied": false, "text.vocab": 4 }, "remove": ["quant"] });
    let wrong = |ours: &str, edits| wrong(base, ours.as_bytes(), edits);
    assert_eq!(wrong(r#"{"text": {"vocab": 4}, "tied": false}"#, &edits), None);
    assert!(wrong(r#"{"text": {"vocab": 4}, "tied": false, "quant": {}}"#, &edits).is_some());
    assert!(wrong(r#"{"text": {"vocab": 3}, "tied": false}"#, &edits).is_some());
    assert!(wrong(r#"{"text": {"vocab": 4}, "tied": false, "vocab": 4}"#, &edits).is_some());
    assert!(wrong(r#"{"tied": true, "text": {"vocab": 3}, "quant": {"bits": 8 }}"#, &Value::Null).is_some());
    assert_eq!(wrong(std::str::from_utf8(base).expect("text"), &Value::Null), None);
}
