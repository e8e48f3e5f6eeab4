//! Every method that PEFT merges, on every kind of layer that it lets it adapt: `fixtures/methods/`, written by `make_methods.py` with
//! PEFT's own layers in f64. What is merged must be that, rounded once, or as near as the case says.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use shardfold::testing::TestHooks;
use shardfold::{Cancel, Location, MergedReader, Request, Style, Terminal, choose, prepare};

use super::oracle::{Tensor, Tensors, read, ulp};
use super::support::{fixtures, quick_folder};

const METHODS: &str = include_str!("../../docs/methods.md");
/// Methods as the documents call them, in their order, with how many cases must be there.
const CASES: &[(&str, usize)] = &[
    ("LoRA", 8),
    ("DoRA", 5),
    ("OLoRA", 2),
    ("PiSSA", 3),
    ("KaSA", 2),
    ("OSF", 3),
    ("FRoD", 4),
    ("HiRA", 5),
    ("IA³", 4),
    ("LoHa", 4),
    ("LoKr", 6),
    ("OFT", 8),
    ("LN tuning", 2),
    ("AdaLoRA", 6),
    ("VeRA", 7),
    ("PVeRA", 4),
    ("RandLoRA", 5),
    ("DeLoRA", 4),
    ("VB-LoRA", 7),
    ("Uni-LoRA", 3),
    ("TinyLoRA", 6),
    ("GraLoRA", 6),
    ("GLoRA", 7),
    ("DEFT", 6),
    ("PEANuT", 6),
    ("MiSS", 8),
    ("C3A", 4),
    ("BEFT", 2),
    ("SHiRA", 2),
    ("Super-Tuning", 5),
    ("HRA", 5),
    ("BOFT", 7),
    ("RoAd", 5),
    ("FourierFT", 5),
    ("WaveFT", 12),
];
/// Kinds of layers, as the documents have them.
const KINDS: [&str; 7] = ["linear", "Conv1D", "embedding", "conv1d", "conv2d", "conv3d", "norm"];
/// Methods whose ops are no sums, or are rounded to f32 one by one, so that half of one twice is not all of it; most take no weight.
const NO_SUMS: &[&str] = &["FourierFT", "DoRA", "IA³", "OFT", "LN tuning", "HRA", "BOFT", "RoAd"];

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
        self.said["label"].as_str().expect("a text")
    }

    fn has(&self, kind: &str) -> bool {
        self.said["kinds"].as_array().expect("a list").iter().any(|of| of == kind)
    }

    fn request(&self) -> Request {
        let adapters = self.said["adapters"].as_array().expect("a list");
        let adapters = adapters.iter().map(|name| self.folder.join(name.as_str().expect("a text")));
        let base = self.folder.with_file_name(self.said["base"].as_str().expect("a text"));
        let adapters = adapters.map(|adapter| (adapter.into(), 1f64.into())).collect();
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
fn merge(request: &Request) -> Result<Tensors, String> {
    let work = quick_folder();
    let output = work.path().join("merged");
    let mut reporter = choose(Style::Quiet, Terminal::default(), &Cancel::default());
    let merged =
        prepare(request).and_then(|found| found.merge(&Location::of_path(&output), reporter.as_mut()));
    match merged {
        Ok(_) => Ok(read(&output, "model")),
        Err(error) => Err(format!("{:?}: {error:?}", request.adapters)),
    }
}

/// Holds a merge against what PEFT makes of the base, and where that is the base, against it; says what is wrong.
fn check(case: &Case, request: &Request) -> Vec<String> {
    let (name, share) = (case.name(), case.said["share"].as_f64().expect("a number"));
    let base = read(&case.folder.with_file_name(case.said["base"].as_str().expect("a text")), "model");
    let right = read(&case.folder, "right");
    assert!(!right.is_empty(), "{name}");
    let (mut wrong, ours) = match merge(request) {
        Ok(ours) => (Vec::new(), ours),
        Err(error) => return vec![error],
    };
    assert!(base.keys().eq(ours.keys()), "{name}: names");
    for (tensor, was) in &base {
        let (ours, key) = (&ours[tensor], format!("{name}: {tensor}"));
        assert_eq!((was.dtype, &was.shape), (ours.dtype, &ours.shape), "{key}");
        let Some(right) = right.get(tensor) else {
            if was.raw != ours.raw {
                wrong.push(format!("{key} is not the base's"));
            }
            continue;
        };
        let bound = |right: f64| match share {
            0.0 => 0.0,
            share => share * right.abs().max(1.0) + ulp(right, was.dtype) / 2.0,
        };
        let exact = right.values();
        let right =
            if share == 0.0 { Tensor::rounded(&exact, &right.shape, was.dtype).values() } else { exact };
        let far: Vec<(&f64, f64)> = right
            .iter()
            .zip(ours.values())
            .filter(|(right, ours)| (*right - ours).abs() > bound(**right))
            .collect();
        wrong.extend(far.first().map(|first| format!("{key}: {} of {}: {first:?}", far.len(), right.len())));
    }
    wrong
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
    let mut wrong = Vec::new();
    for case in cases {
        let whole = case.request();
        wrong.extend(check(&case, &whole));
        let small = TestHooks { forced: Some((4096, 1)), ..TestHooks::default() };
        wrong.extend(check(&case, &Request { hooks: small, threads: Some(1), ..whole }));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The first case of every method that replaces nothing; of MiSS one that only adds.
fn one_of_each() -> Vec<Case> {
    let mut all = cases();
    all.retain(|case| !case.name().contains("bias") && !case.name().contains("-bat"));
    let mut seen = Vec::new();
    all.retain(|case| {
        let is_new = !seen.contains(&case.method().to_owned());
        seen.push(case.method().to_owned());
        is_new
    });
    all
}

#[test]
fn the_documents_count_the_cases_of_each_method_and_layer() {
    let cases = cases();
    let mut table = format!("| method | {} |\n| --- |{}\n", KINDS.join(" | "), " ---: |".repeat(KINDS.len()));
    for (method, _) in CASES {
        let count =
            |kind: &&str| cases.iter().filter(|case| case.method() == *method && case.has(kind)).count();
        let cells =
            KINDS.iter().map(count).map(|count| if count == 0 { "–".to_owned() } else { count.to_string() });
        table += &format!("| {method} | {} |\n", cells.collect::<Vec<_>>().join(" | "));
    }
    assert!(METHODS.contains(&table), "the table of docs/methods.md is to be\n{table}");
}

#[test]
fn the_bytes_do_not_depend_on_threads_and_buffers() {
    for case in one_of_each() {
        let request = case.request();
        let right = merge(&request).expect("it is merged");
        for (threads, forced) in [(1, None), (3, Some((16 << 10, 3))), (4, None)] {
            let hooks = TestHooks { forced, ..TestHooks::default() };
            let ours = merge(&Request { threads: Some(threads), hooks, ..request.clone() });
            let ours = ours.expect("it is merged");
            assert!(right.iter().all(|(name, tensor)| tensor.raw == ours[name].raw), "{}", case.name());
        }
    }
}

#[test]
fn half_an_adapter_twice_is_the_adapter() {
    for case in one_of_each().into_iter().filter(|case| !NO_SUMS.contains(&case.method())) {
        let request = case.request();
        let (adapter, _) = request.adapters[0].clone();
        let half = Request {
            adapters: vec![(adapter.clone(), 0.5.into()), (adapter, 0.5.into())],
            ..request.clone()
        };
        let (whole, halves) = (merge(&request).expect("it is merged"), merge(&half).expect("it is merged"));
        assert!(whole.iter().all(|(name, tensor)| tensor.raw == halves[name].raw), "{}", case.name());
    }
}

#[test]
fn what_is_read_one_by_one_is_what_is_merged() {
    for case in one_of_each() {
        let request = case.request();
        let right = merge(&request).expect("it is merged");
        let reader = MergedReader::open(&request).expect("it is planned");
        for (name, tensor) in &right {
            let mut bytes = vec![0xa5; tensor.raw.len()];
            let all = 0..bytes.len() as u64;
            let read = reader.read(name, std::slice::from_ref(&all), &mut bytes, &Cancel::default());
            read.expect("it is made");
            assert!(bytes == tensor.raw, "{}: {name}", case.name());
        }
    }
}
