//! What stands on the screen: help, sizes, JSON lines, what `--quiet` and `--verbose` show, and the order of tables.

use std::fs;

use serde_json::{Value, json};

use super::support::{Ran, binary, fixtures, ran, run};
use super::work::{Work, edit_json};

/// Every line of stderr as the JSON object that it must be.
fn lines(ran: &Ran) -> Vec<Value> {
    let object = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    ran.err.lines().map(object).collect()
}

fn plan(work: &Work, flags: &[&str]) -> Ran {
    let mut command = super::support::command(&["plan"]);
    command.arg("--base").arg(&work.base).arg("--adapter").arg(&work.adapter).args(flags);
    ran(command.output().expect("the binary starts"))
}

#[test]
fn alone_it_shows_an_example_and_how_to_get_help() {
    let ran = run(&[]);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    for text in ["shardfold merge --base llama-8b", "`shardfold --help`", "`shardfold merge --help`"] {
        assert!(ran.err.contains(text), "no `{text}` in\n{}", ran.err);
    }
    assert!(ran.err.lines().count() < 12, "{}", ran.err);
}

#[test]
fn usage_names_what_is_required() {
    for (command, output) in [("merge", "--output <DIR>"), ("plan", "[OPTIONS]")] {
        let help = run(&[command, "--help"]);
        assert_eq!((help.code, help.err.as_str()), (0, ""));
        let usage = help.out.split_once("Usage: ").expect("a usage").1;
        let first = usage.lines().next().expect("a line");
        assert!(first.contains("--adapter <DIR|NAME>") && first.contains(output), "{first}");
        for heading in
            ["Inputs:", "Output:", "Memory:", "Quantization:", "Experts:", "Escape hatches:", "Reporting:"]
        {
            assert!(help.out.contains(&format!("\n{heading}\n")), "no `{heading}` in\n{}", help.out);
        }
        assert!(!help.out.contains("\nOptions:\n"), "{}", help.out);
    }
}

#[test]
fn the_version_has_commit_target_and_kernels() {
    let ran = run(&["--version"]);
    let version = format!("shardfold {} (", env!("CARGO_PKG_VERSION"));
    let rest = ran.out.trim_end().strip_prefix(&version).and_then(|rest| rest.strip_suffix(')'));
    let parts: Vec<&str> = rest.expect("more than the version").split(", ").collect();
    let [commit, target, kernels] = parts[..] else { panic!("commit, target and kernels: {}", ran.out) };
    assert!(!commit.is_empty() && target.split('-').count() >= 3, "{}", ran.out);
    let known = ["scalar", "baseline", "neon", "avx2", "avx512"].map(|name| format!("{name} kernels"));
    assert!(known.iter().any(|name| name == kernels), "{}", ran.out);
}

#[test]
fn sizes_are_shown_as_they_were_typed() {
    let work = Work::demo();
    let ran = work.succeeds(&["--max-ram", "64M", "--threads", "1"]);
    assert_eq!(ran.err, "memory budget 64M (--max-ram), 1 worker\n");
    assert!(ran.out.contains(", budget 64M\n"), "{}", ran.out);
    let ran = plan(&work, &["--max-ram", "0.5G", "--threads", "1"]);
    assert!(ran.out.contains("\nbudget     0.5G (--max-ram), 1 worker\n"), "{}", ran.out);
    let ran = plan(&work, &["--max-ram", "1024k"]);
    assert!(ran.err.starts_with("error: `--max-ram 1024k` is too small: "), "{}", ran.err);
    // JSON has bytes.
    let document: Value =
        serde_json::from_str(&plan(&work, &["--max-ram", "64M", "--json"]).out).expect("JSON");
    assert_eq!(document["budget"]["total"], 64_000_000);
}

#[test]
fn a_budget_of_its_own_says_where_it_comes_from() {
    let ran = Work::demo().succeeds(&["--threads", "1"]);
    let (first, _) = ran.err.split_once('\n').expect("a line");
    assert!(first.starts_with("memory budget ") && first.contains(" (automatic; "), "{first}");
    assert!(first.ends_with("), 1 worker"), "{first}");
}

#[test]
fn slabs_and_slots_are_for_the_curious() {
    let work = Work::demo();
    for (flags, is_shown) in [(&[][..], false), (&["-v"], true), (&["--verbose"], true)] {
        let shown = plan(&work, flags).out;
        let merged = work.merge_into(&work.folder.path().join(format!("{flags:?}")), flags).err;
        for text in [shown, merged] {
            assert_eq!(text.contains(" slabs of "), is_shown, "{flags:?}: {text}");
            assert_eq!(text.contains("baseline RSS"), is_shown, "{flags:?}: {text}");
        }
    }
}

#[test]
fn quiet_shows_errors_only() {
    let work = Work::demo();
    fs::write(work.base.join("consolidated.safetensors"), "x").expect("a small file");
    assert!(work.merge_into(&work.folder.path().join("loud"), &[]).err.contains("note: "));
    let ran = work.succeeds(&["-q"]);
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""));
    let ran = work.merge(&["--quiet", "--max-ram", "1M"]);
    assert!(ran.code == 71 && ran.err.starts_with("error: "), "{}", ran.err);
    for other in ["--verbose", "--json"] {
        assert_eq!(work.merge(&["--quiet", other]).code, 2, "{other}");
    }
}

#[test]
fn with_json_every_line_of_stderr_is_an_object() {
    let work = Work::demo();
    fs::write(work.base.join("consolidated.safetensors"), "x").expect("a small file");
    let done = work.succeeds(&["--json"]);
    let events = lines(&done);
    let names: Vec<_> = events.iter().map(|event| event["event"].clone()).collect();
    assert_eq!(names, ["note", "budget"]);
    assert_eq!(events[0]["kind"], "not-in-index");
    assert_eq!(events[0]["files"], json!(["consolidated.safetensors"]));
    assert!(events[0]["text"].as_str().is_some_and(|text| text.contains("is not in the index")));

    let refused = work.merge(&["--json", "--max-ram", "1M"]);
    let [error] = &lines(&refused)[..] else { panic!("{}", refused.err) };
    assert_eq!((refused.code, &error["exit_code"]), (71, &json!(71)));
    assert!(
        error["message"].as_str().is_some_and(|text| text.contains("`--max-ram 1M` is too small")),
        "{error}"
    );
    assert!(error["hint"].as_str().is_some_and(|text| text.starts_with("`--max-ram ")), "{error}");

    let nowhere = run(&["merge", "--base", "./a", "--adapter", "./b", "--output", "./c", "--json"]);
    assert!(
        nowhere.code == 66 && lines(&nowhere).iter().all(|error| error["event"] == "error"),
        "{}",
        nowhere.err
    );

    for args in [
        &["merge", "--json", "--no-such-flag"][..],
        &["merge", "--json", "--quiet"],
        &["merge", "--ouptut", "x", "--json"],
        &["merge", "--json"],
        &["inspect", "--json"],
        &["shred", "--json"],
    ] {
        let ran = run(args);
        let [error] = &lines(&ran)[..] else { panic!("{args:?}: {}", ran.err) };
        assert_eq!(
            (ran.code, &error["event"], &error["exit_code"]),
            (2, &json!("error"), &json!(2)),
            "{args:?}"
        );
        let message = error["message"].as_str().expect("a message");
        assert!(!message.is_empty() && !message.starts_with("error"), "{args:?}: {message}");
    }
    let typo = run(&["merge", "--ouptut", "x", "--json"]);
    assert!(lines(&typo)[0]["hint"].as_str().is_some_and(|hint| hint.contains("--output")), "{}", typo.err);
    // Behind `--` it is no flag.
    assert!(run(&["inspect", "--variant", "--", "--json"]).err.starts_with("error: "));
}

#[test]
fn threads_have_one_bound() {
    let work = Work::demo();
    for (threads, code) in [("64", 0), ("65", 2), ("100", 2)] {
        let ran = plan(&work, &["--threads", threads]);
        assert_eq!(ran.code, code, "{threads}: {}", ran.err);
        let says = if code == 0 { "64 workers" } else { "a whole number from 1 to 64 is accepted" };
        assert!(format!("{}{}", ran.out, ran.err).contains(says), "{threads}: {}{}", ran.out, ran.err);
    }
}

/// A base of twelve layers, and an adapter on all of them.
fn twelve_layers() -> Work {
    let work = Work::demo();
    let names: Vec<String> = (0..12).map(|i| format!("model.layers.{i}.self_attn.q_proj")).collect();
    let weights: Vec<String> = names.iter().map(|name| format!("{name}.weight")).collect();
    let base: Vec<(&str, &[u64], Vec<f32>)> =
        weights.iter().map(|name| (name.as_str(), &[4, 4][..], vec![1.0; 16])).collect();
    fs::remove_dir_all(&work.base).expect("it was there");
    fs::create_dir(&work.base).expect("a folder");
    fs::write(work.base.join("config.json"), r#"{"model_type": "llama"}"#).expect("a small file");
    work.rebase(&base);
    let keys: Vec<String> = names
        .iter()
        .flat_map(|name| ["lora_A", "lora_B"].map(|role| format!("{name}.{role}.weight")))
        .collect();
    let factors: Vec<(&str, &[u64], Vec<f32>)> = keys
        .iter()
        .map(|key| {
            let shape: &[u64] = if key.contains("lora_A") { &[1, 4] } else { &[4, 1] };
            (key.as_str(), shape, vec![1.0; 4])
        })
        .collect();
    let config = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"]});
    work.adapt_by(&config, &factors);
    work
}

#[test]
fn layers_are_one_row_in_the_order_of_their_numbers() {
    let work = twelve_layers();
    let text = plan(&work, &[]).out;
    let row = "  model.layers.{0..11}.self_attn.q_proj.weight  12 × lora  rank 1  scale 1\n";
    assert!(text.contains(row), "{text}");
    let document: Value = serde_json::from_str(&plan(&work, &["--json"]).out).expect("JSON");
    let claims = document["plan"]["claims"].as_array().expect("a list");
    let tensors: Vec<_> = claims.iter().map(|claim| claim["tensor"].as_str().unwrap_or_default()).collect();
    let expected: Vec<_> = (0..12).map(|i| format!("model.layers.{i}.self_attn.q_proj.weight")).collect();
    assert_eq!(tensors, expected);
    let inspected = run(&["inspect", work.base.to_str().expect("UTF-8")]).out;
    assert!(
        inspected.contains("  model.layers.{0..11}.self_attn.q_proj.weight  12 × F32 [4, 4]\n"),
        "{inspected}"
    );

    // One of another rank is a row of its own, where its number stands.
    work.configure("alpha_pattern", json!({"layers.2.self_attn.q_proj": 2}));
    let text = plan(&work, &[]).out;
    let rows: Vec<_> = text.lines().filter(|line| line.contains(" × lora")).collect();
    let alike = "  model.layers.{0, 1, 3..11}.self_attn.q_proj.weight  11 × lora  rank 1  scale 1";
    assert_eq!(
        rows,
        [alike, "  model.layers.2.self_attn.q_proj.weight               1 × lora  rank 1  scale 2"]
    );
}

#[test]
fn only_what_has_a_rank_shows_one() {
    for (case, has_rank) in [
        ("llama-f32-single", true),
        ("dora-f32", true),
        ("loha-f32", true),
        ("ia3-f32", false),
        ("lokr-f32", true),
        ("oft-f32", false),
    ] {
        let document: Value =
            serde_json::from_str(&plan(&Work::golden(case), &["--json"]).out).expect("JSON");
        let claims = document["plan"]["claims"].as_array().expect("a list");
        assert!(claims.iter().any(|claim| claim["scale"].is_number()), "{case}: {document}");
        let ranks = claims.iter().filter(|claim| claim["rank"].is_number()).count();
        assert_eq!(ranks > 0, has_rank, "{case}: {document}");
    }
}

#[test]
fn the_provenance_has_a_layout_and_names_its_hash() {
    let work = Work::demo();
    work.succeeds(&[]);
    let path = work.output.join("shardfold.json");
    let provenance: Value = serde_json::from_slice(&fs::read(&path).expect("a file")).expect("JSON");
    assert_eq!((&provenance["schema"], &provenance["hash"]), (&json!(2), &json!("blake3")));
    let shard = provenance["shards"][0].as_object().expect("an object");
    assert_eq!(shard.keys().collect::<Vec<_>>(), ["name", "bytes", "hash", "sections"]);
    // One of before it had a layout has other hashes; one of a later layout is not ours.
    for (change, code) in [(Some(2), 0), (None, 73), (Some(3), 73)] {
        edit_json(&path, |fields| {
            fields.remove("schema");
            fields.extend(change.map(|schema| ("schema".to_owned(), json!(schema))));
        });
        assert_eq!(work.merge(&[]).code, code, "schema {change:?}");
    }
}

#[test]
fn a_base_that_is_a_path_is_not_named_as_a_model() {
    let work = Work::demo();
    work.configure("base_model_name_or_path", json!("/home/me/models/llama"));
    work.succeeds(&[]);
    let card = fs::read_to_string(work.output.join("README.md")).expect("a card");
    assert!(!card.contains("base_model") && !card.contains("/home/me"), "{card}");
    assert!(card.contains("library_name: transformers\n"), "{card}");
}

#[test]
fn nothing_is_colored_where_nobody_looks() {
    let demo = fixtures().join("demo");
    let ran = run(&["merge", "--base", demo.join("base").to_str().expect("UTF-8"), "--adapter", "./nowhere"]);
    assert!(!ran.err.contains('\u{1b}'), "{:?}", ran.err);
}

#[test]
#[cfg(target_os = "linux")]
fn errors_are_colored_as_claps_on_a_terminal() {
    const RED: &str = "\u{1b}[1m\u{1b}[31merror:\u{1b}[0m `--adapter <DIR|NAME>` is required";
    let typed = format!("'{}' merge", binary().display());
    for (variables, is_colored) in [
        (&[("TERM", "xterm-256color")][..], true),
        (&[("TERM", "xterm-256color"), ("NO_COLOR", "1")], false),
        (&[("TERM", "dumb")], false),
    ] {
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &typed, "/dev/null"]).env_remove("NO_COLOR").envs(variables.iter().copied());
        let Ok(output) = script.stdin(std::process::Stdio::null()).output() else {
            eprintln!("skipped: there is no `script` here");
            return;
        };
        let shown = ran(output).out;
        assert!(shown.contains("is required"), "{variables:?}: {shown:?}");
        assert_eq!(shown.contains(RED), is_colored, "{variables:?}: {shown:?}");
    }
}
