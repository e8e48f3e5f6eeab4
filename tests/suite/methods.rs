//! Every method that PEFT merges, on every kind of layer that it lets it adapt: `fixtures/methods/`, written by `make_methods.py` with
//! PEFT's own layers in f64. What is merged must be that, rounded once, or as near as the case says.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use shardfold::testing::TestHooks;
use shardfold::{Cancel, Location, Request, Style, Terminal, choose, prepare};

use super::oracle::{Tensor, read, ulp};
use super::support::{fixtures, quick_folder};

/// Cases that must be there, by their methods.
const CASES: &[(&str, usize)] = &[
    ("ADALORA", 6),
    // With deltas of their own.
    ("MISS", 8),
    ("C3A", 4),
    ("BEFT", 2),
    ("SHIRA", 2),
    ("SUPERTUNING", 5),
    ("HRA", 5),
    ("BOFT", 7),
    ("ROAD", 5),
    ("FOURIERFT", 5),
    ("WAVEFT", 12),
];

/// One case.
struct Case {
    folder: PathBuf,
    said: Value,
}

impl Case {
    fn name(&self) -> String {
        self.folder.file_name().expect("a name").to_string_lossy().into_owned()
    }

    fn method(&self) -> &str {
        self.said["method"].as_str().expect("a text")
    }

    fn request(&self) -> Request {
        let adapters = self.said["adapters"].as_array().expect("a list");
        let adapters = adapters.iter().map(|name| self.folder.join(name.as_str().expect("a text")));
        let base = self.folder.with_file_name(self.said["base"].as_str().expect("a text"));
        let adapters = adapters.map(|adapter| (adapter.into(), 1.0)).collect();
        Request { base: Some(base.into()), adapters, ..Request::default() }
    }
}

fn cases() -> Vec<Case> {
    let all = fs::read_dir(fixtures().join("methods")).expect("the cases");
    let mut folders: Vec<PathBuf> = all.map(|case| case.expect("an entry").path()).collect();
    folders.retain(|folder| folder.join("case.json").exists());
    folders.sort_unstable();
    let said = |folder: &Path| {
        let text = fs::read_to_string(folder.join("case.json")).expect("a case");
        serde_json::from_str(&text).expect("JSON")
    };
    folders.into_iter().map(|folder| Case { said: said(&folder), folder }).collect()
}

/// Merges into a fresh folder and reads the result back.
fn merge(request: &Request) -> std::collections::BTreeMap<String, Tensor> {
    let work = quick_folder();
    let output = work.path().join("merged");
    let prepared = prepare(request).unwrap_or_else(|error| panic!("{:?}: {error:?}", request.adapters));
    let mut reporter = choose(Style::Quiet, Terminal::default(), &Cancel::default());
    let done = prepared.merge(&Location::of_path(&output), reporter.as_mut());
    done.unwrap_or_else(|error| panic!("{:?}: {error:?}", request.adapters));
    read(&output, "model")
}

/// Holds a merge against what PEFT makes of the base: where it changes nothing, against the base.
fn check(case: &Case, request: &Request) {
    let (name, share) = (case.name(), case.said["share"].as_f64().expect("a number"));
    let base = read(&case.folder.with_file_name(case.said["base"].as_str().expect("a text")), "model");
    let right = read(&case.folder, "right");
    assert!(!right.is_empty(), "{name}");
    let ours = merge(request);
    assert!(base.keys().eq(ours.keys()), "{name}: names");
    for (tensor, was) in &base {
        let (ours, key) = (&ours[tensor], format!("{name}: {tensor}"));
        assert_eq!((was.dtype, &was.shape), (ours.dtype, &ours.shape), "{key}");
        let Some(right) = right.get(tensor) else {
            assert!(was.raw == ours.raw, "{key} is not the base's");
            continue;
        };
        let values = right.values();
        if share == 0.0 {
            let rounded = Tensor::rounded(&values, &right.shape, was.dtype);
            let differ =
                rounded.values().iter().zip(ours.values()).filter(|(right, ours)| **right != *ours).count();
            assert!(
                differ == 0,
                "{key}: {differ} of {} values are not the exact ones rounded once",
                values.len()
            );
            continue;
        }
        let far = |(right, ours): &(&f64, f64)| {
            (*right - ours).abs() > share * right.abs().max(1.0) + ulp(**right, was.dtype) / 2.0
        };
        let worst = values.iter().zip(ours.values()).find(far);
        assert!(worst.is_none(), "{key}: {worst:?}");
    }
}

#[test]
fn every_method_is_as_peft_has_it() {
    let cases = cases();
    for (method, count) in CASES {
        assert_eq!(cases.iter().filter(|case| case.method() == *method).count(), *count, "{method}");
    }
    assert_eq!(
        cases.len(),
        CASES.iter().map(|(_, count)| count).sum::<usize>(),
        "methods that no row counts"
    );
    for case in cases {
        let whole = case.request();
        check(&case, &whole);
        let small = TestHooks { forced: Some((4096, 1)), ..TestHooks::default() };
        check(&case, &Request { hooks: small, threads: Some(1), ..whole });
    }
}
