//! Adapters as Tinker writes them, merged as its cookbook merges them: bit by bit, whole and in the smallest pieces. See
//! `fixtures/make_tinker.py`, which wrote them and says why the bits must be the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use shardfold::testing::TestHooks;
use shardfold::{Cancel, Style, Terminal, choose};
use shardfold::{Request, Tied, prepare};

use super::oracle::{Tensor, read};
use super::refusals::refused;
use super::support::{copy_folder, fixtures, quick_folder};
use super::work::{Work, edit, edit_json};

/// Cases that must be there.
const CASES: usize = 10;

fn case_of(name: &str) -> std::path::PathBuf {
    fixtures().join("tinker").join(name)
}

/// What a case's folder and flags ask for.
fn request(folder: &Path) -> Request {
    let case = fs::read_to_string(folder.join("case.json")).expect("a case");
    let case: Value = serde_json::from_str(&case).expect("JSON");
    let flags: Vec<&str> =
        case["flags"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let tied = match flags.as_slice() {
        [] => Tied::default(),
        ["--tied", "fold"] => Tied::Fold,
        other => panic!("flags that this test does not know: {other:?}"),
    };
    let adapters = vec![(folder.join("adapter").into(), 1f64.into())];
    Request { base: Some(folder.join("base").into()), adapters, tied, ..Request::default() }
}

fn merge(request: &Request) -> BTreeMap<String, Tensor> {
    let work = quick_folder();
    let output = work.path().join("merged");
    let prepared = prepare(request).unwrap_or_else(|error| panic!("{:?}: {error:?}", request.base));
    let mut reporter = choose(Style::Quiet, Terminal::default(), &Cancel::default());
    let done = prepared.merge(&shardfold::Location::of_path(&output), reporter.as_mut());
    done.unwrap_or_else(|error| panic!("{:?}: {error:?}", request.base));
    read(&output, "model")
}

/// What the output must be: the base's tensors, those that are in `merged/` in place of theirs.
fn right(folder: &Path) -> BTreeMap<String, Tensor> {
    let mut right = read(&folder.join("base"), "model");
    let changed = read(&folder.join("merged"), "model");
    assert!(changed.len() > 2, "{}", folder.display());
    for (name, tensor) in changed {
        let was = right.insert(name, tensor.clone()).expect("a tensor of the base");
        assert!(was.raw != tensor.raw && was.shape == tensor.shape);
    }
    right
}

fn check(folder: &Path, request: &Request) {
    let (right, ours) = (right(folder), merge(request));
    assert!(right.keys().eq(ours.keys()), "{}: names", folder.display());
    for (name, right) in &right {
        let ours = &ours[name];
        assert_eq!((right.dtype, &right.shape), (ours.dtype, &ours.shape), "{}: {name}", folder.display());
        let differing =
            right.values().iter().zip(ours.values()).filter(|(right, ours)| *right != ours).count();
        assert_eq!(differing, 0, "{}: {name}, of {} values", folder.display(), right.values().len());
        assert!(right.raw == ours.raw, "{}: {name}", folder.display());
    }
}

#[test]
fn every_case_is_as_the_cookbook_has_it() {
    let cases = fs::read_dir(fixtures().join("tinker")).expect("the cases");
    let cases: Vec<_> = cases.map(|case| case.expect("an entry").path()).collect();
    assert_eq!(cases.len(), CASES);
    for folder in cases {
        let whole = request(&folder);
        check(&folder, &whole);
        check(
            &folder,
            &Request {
                hooks: TestHooks { forced: Some((4096, 1)), ..TestHooks::default() },
                threads: Some(1),
                ..whole.clone()
            },
        );
        check(
            &folder,
            &Request {
                hooks: TestHooks { forced: Some((8192, 3)), scalar: true, ..TestHooks::default() },
                threads: Some(3),
                ..whole
            },
        );
    }
}

#[test]
fn a_tied_head_gets_a_tensor_of_its_own() {
    for (case, embedding) in
        [("tied", "model.embed_tokens.weight"), ("qwen3-5", "model.language_model.embed_tokens.weight")]
    {
        let folder = case_of(case);
        let mut right = right(&folder);
        let base = read(&folder.join("base"), "model");
        let head = right.insert(embedding.to_owned(), base[embedding].clone()).expect("it is there");
        right.insert("lm_head.weight".to_owned(), head);
        let ours = merge(&Request { tied: Tied::Untie, ..request(&folder) });
        assert!(right.keys().eq(ours.keys()), "{case}");
        assert!(right.iter().all(|(name, tensor)| tensor.raw == ours[name].raw), "{case}");
    }
}

#[test]
fn a_tied_head_inside_the_base_model() {
    let work = work("tied");
    edit(&work.weights(), |tensors| {
        tensors.iter_mut().for_each(|tensor| {
            tensor.name = tensor.name.replace("model.unembed_tokens", "model.lm_head");
        });
    });
    work.succeeds(&["--tied", "fold"]);
    let (right, ours) = (right(&case_of("tied")), read(&work.output, "model"));
    assert!(right.iter().all(|(name, tensor)| tensor.raw == ours[name].raw));
}

/// A case as a merge whose parts can be changed.
fn work(case: &str) -> Work {
    let work = Work::demo();
    for (part, at) in [("base", &work.base), ("adapter", &work.adapter)] {
        fs::remove_dir_all(at).expect("it was there");
        copy_folder(&case_of(case).join(part), at);
    }
    work
}

/// Leaves only those of the adapter's modules.
fn keep(work: &Work, leaves: &[&str]) {
    edit(&work.weights(), |tensors| {
        tensors.retain(|tensor| leaves.iter().any(|leaf| tensor.name.contains(&format!(".{leaf}."))));
    });
}

#[test]
fn one_part_of_a_joined_projection_alone() {
    // The cookbook takes the places of keys and values from the sizes of what else is adapted; the config tells them too.
    let cases = [
        ("qwen3-5", "model.language_model.layers.0.linear_attn.in_proj_qkv.weight", "in_proj_k", 6..12),
        ("nemotron", "backbone.layers.0.mixer.in_proj.weight", "x_proj", 8..16),
    ];
    for (case, name, part, rows) in cases {
        let work = work(case);
        keep(&work, &[part]);
        work.succeeds(&[]);
        let (base, whole, ours) =
            (read(&work.base, "model"), right(&case_of(case)), read(&work.output, "model"));
        let row = ours[name].raw.len() / ours[name].shape[0];
        for (i, found) in ours[name].raw.chunks(row).enumerate() {
            let from = if rows.contains(&i) { &whole } else { &base };
            assert!(found == &from[name].raw[i * row..(i + 1) * row], "{case}: row {i}");
        }
    }
}

#[test]
fn parts_that_do_not_fit_the_joined_projection() {
    let short = |work: &Work, leaf: &str| {
        edit(&work.weights(), |tensors| {
            let key = format!(".{leaf}.lora_B.weight");
            let tensor = tensors.iter_mut().find(|tensor| tensor.name.ends_with(&key)).expect("it is there");
            tensor.shape[0] -= 1;
            tensor.data.truncate(2 * (tensor.shape[0] * tensor.shape[1]) as usize);
        });
    };
    let field = |work: &Work, field: &str, value: Value| {
        edit_json(&work.base.join("config.json"), |config| {
            let text = config.get_mut("text_config").and_then(Value::as_object_mut);
            let fields = match text {
                Some(text) => text,
                None => config,
            };
            fields.insert(field.to_owned(), value);
        });
    };
    for (case, what, change, says) in [
        (
            "qwen3-5",
            "rows of another model",
            &(|work: &Work| short(work, "in_proj_v")) as &dyn Fn(&Work),
            &["in_proj_v", "has shape [7, 16], base tensor has [8, 16]"][..],
        ),
        (
            "qwen3-5",
            "another number of heads",
            &|work| field(work, "linear_num_value_heads", json!(6)),
            &["linear_attn.in_proj_qkv` has 20 rows, config.json says 24"],
        ),
        (
            "qwen3-next",
            "groups that do not come out even",
            &|work| field(work, "linear_num_key_heads", json!(3)),
            &["`model.layers.0.linear_attn.in_proj_ba` holds it, but 4 rows are not 3 equal groups"],
        ),
        (
            "nemotron",
            "no sizes",
            &|work| field(work, "mamba_num_heads", Value::Null),
            &["mixer.in_proj` holds it, but the config gives no `mamba_num_heads` above zero"],
        ),
    ] {
        let work = work(case);
        change(&work);
        refused(what, &work, &["--tied", "fold"], 65, says);
    }
}
