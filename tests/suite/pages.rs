//! The page about a merge: by `merge --report`, and by `report` with and without the inputs.

use std::fs;

use super::support::{Ran, command, contents, ran};
use super::work::Work;

/// Runs `report` on the output.
fn report(work: &Work, flags: &[&str]) -> Ran {
    let mut command = command(&["report"]);
    ran(command.arg(&work.output).args(flags).output().unwrap())
}

fn inputs(work: &Work) -> [&str; 4] {
    ["--base", work.base.to_str().unwrap(), "--adapter", work.adapter.to_str().unwrap()]
}

/// The part of a page with the maps and the tables of changes.
fn measured(html: &str) -> &str {
    let from = html.find("<h2>Changes by layer</h2>").expect("maps");
    let to = html.find("<h2>Where the time went</h2>").expect("a timeline");
    &html[from..to]
}

#[test]
fn a_merge_and_a_later_report_show_the_same_changes() {
    let work = Work::demo();
    let page = work.folder.path().join("page.html");
    let plain = Work::demo();
    plain.succeeds(&[]);
    work.succeeds(&["--report", page.to_str().unwrap()]);
    assert!(contents(&work.output) == contents(&plain.output), "the page is no part of the result");
    let by_merge = fs::read_to_string(&page).unwrap();
    let ran = report(&work, &inputs(&work));
    assert_eq!(ran.code, 0, "{}", ran.err);
    // One demo layer for each row, a column for each of its linear layers, and numbers of one sample.
    assert_eq!(measured(&by_merge), measured(&ran.out));
    for text in
        ["self_attn.q_proj", "mlp.down_proj", "‖Δ‖/‖W‖", "model-00001-of-00003.safetensors", "adapter × 1"]
    {
        assert!(by_merge.contains(text), "no `{text}`");
    }
    let file = work.folder.path().join("again.html");
    let flags = [&inputs(&work)[..], &["-q", "-o", file.to_str().unwrap()]].concat();
    let quiet = report(&work, &flags);
    assert_eq!((quiet.code, quiet.out.as_str(), quiet.err.as_str()), (0, "", ""));
    assert_eq!(measured(&fs::read_to_string(&file).unwrap()), measured(&by_merge));
}

#[test]
fn the_norms_are_those_of_the_weights() {
    // Ones, and a delta of 0.5 on each of 16 elements: ‖Δ‖ = 2 and ‖W‖ = 4, all of it retained.
    let work = Work::tiny(shardfold::testing::Dtype::F32, 0.5);
    work.succeeds(&[]);
    let html = report(&work, &inputs(&work)).out;
    assert!(html.contains(">2.000e0</td><td>50.0 %</td><td>100 %</td><td>0 %</td>"), "{html}");
}

#[test]
fn without_inputs_it_tells_what_is_recorded_and_what_is_missing() {
    let work = Work::demo();
    work.succeeds(&[]);
    let ran = report(&work, &[]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.contains("model-00002-of-00003.safetensors") && ran.out.contains("Name the inputs"));
    assert!(!ran.out.contains("Changes by layer"));
}

#[test]
fn what_is_no_result_or_another_is_refused() {
    let work = Work::demo();
    let ran = report(&work, &[]);
    assert_eq!(ran.code, 66, "{}", ran.err);
    let mut base = command(&["report"]);
    let ran = super::support::ran(base.arg(&work.base).output().unwrap());
    assert_eq!(ran.code, 66);
    assert!(ran.err.contains("no `shardfold.json` in"), "{}", ran.err);
    work.succeeds(&[]);
    let [base, at, _, adapter] = inputs(&work);
    let ran = report(&work, &[base, at, "--scaled-adapter", adapter, "0.5"]);
    assert_eq!(ran.code, 65);
    assert!(
        ran.err.contains("is the result of another merge: its adapter `adapter` has weight 1, here 0.5"),
        "{}",
        ran.err
    );
    fs::write(work.output.join("shardfold.json"), "{}").unwrap();
    assert_eq!(report(&work, &[]).code, 65);
}
