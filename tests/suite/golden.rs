//! Golden cases: checkpoints merged by PEFT, merged again by us, whole and in the smallest pieces.

mod config;
mod files;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use shardfold::ErrorKind;
use shardfold::IoMode;
use shardfold::RequestError;
use shardfold::testing::TestHooks;
use shardfold::{Cancel, Style, Terminal, choose};
use shardfold::{Request, prepare};

use crate::oracle::{Case, Right, Shown, Tensor, compare, read};
use crate::support::{contents, fixtures, quick_folder};

/// There are more cases than this: a folder that is lost must not go unnoticed.
const MORE_CASES_THAN: usize = 295;

/// Every case: the golden ones and the demo; with `SHARDFOLD_CASES=dora,tied` only those whose names start so.
pub fn cases() -> Vec<PathBuf> {
    let golden = std::fs::read_dir(fixtures().join("golden")).expect("the golden folder");
    let mut cases: Vec<PathBuf> = golden.map(|entry| entry.expect("an entry").path()).collect();
    cases.sort();
    cases.push(fixtures().join("demo"));
    assert!(cases.len() > MORE_CASES_THAN, "only {} cases", cases.len());
    if let Ok(starts) = std::env::var("SHARDFOLD_CASES") {
        let name = |case: &PathBuf| {
            case.file_name().is_some_and(|n| starts.split(',').any(|s| n.to_string_lossy().starts_with(s)))
        };
        cases.retain(name);
    }
    cases
}

/// The merge of a case, by its name.
pub fn request_of(case: &str) -> Request {
    let folder = fixtures().join("golden").join(case);
    request(&folder, &Case::read(&folder))
}

pub fn request(folder: &Path, case: &Case) -> Request {
    let adapters =
        case.adapters().into_iter().map(|(dir, weight)| (folder.join(dir).into(), weight.into())).collect();
    apply_flags(
        Request { base: Some(folder.join("base").into()), adapters, ..Request::default() },
        &case.flags(),
    )
}

/// What the flags of a case ask for beyond its folders.
fn apply_flags(request: Request, flags: &[&str]) -> Request {
    match flags {
        [] => request,
        ["--tied", "fold", rest @ ..] => {
            apply_flags(Request { tied: shardfold::Tied::Fold, ..request }, rest)
        }
        ["--keep-quantized", rest @ ..] => apply_flags(Request { keep_quantized: true, ..request }, rest),
        unknown => panic!("flags of a golden case that this test does not know: {unknown:?}"),
    }
}

/// Merges and returns every file of the result; the budget's refusal if it is too small.
fn merge(request: &Request) -> Result<BTreeMap<String, Vec<u8>>, ErrorRefused> {
    let work = quick_folder();
    let output = work.path().join("merged");
    let prepared = match prepare(request) {
        Ok(prepared) => prepared,
        Err(error) if matches!(error.kind(), ErrorKind::Request(RequestError::Budget { .. })) => {
            return Err(ErrorRefused);
        }
        Err(error) => panic!("{:?}: {error:?}", request.base),
    };
    let mut reporter = choose(Style::Quiet, Terminal::default(), &Cancel::default());
    let done = prepared.merge(&shardfold::Location::of_path(&output), reporter.as_mut());
    done.unwrap_or_else(|error| panic!("{:?}: {error:?}", request.base));
    Ok(contents(&output))
}

/// The slabs were too small for the case.
struct ErrorRefused;

/// What a merged folder holds, by file and by tensor.
pub fn merged(request: &Request) -> (BTreeMap<String, Vec<u8>>, BTreeMap<String, Tensor>) {
    let work = quick_folder();
    let files = merge(request).ok().expect("no budget was given");
    for (name, bytes) in &files {
        let path = work.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, bytes).expect("a file");
    }
    let tensors = read(work.path(), "model");
    (files, tensors)
}

/// Everything that is wrong with one case.
fn check(folder: &Path, shown: &mut Shown) -> Vec<String> {
    let case = Case::read(folder);
    let names = case.names();
    assert!(case.merged.keys().eq(&names), "{}: merged/ has other names", folder.display());
    let (files, ours) = merged(&request(folder, &case));
    if !ours.keys().eq(&names) {
        let (ours, names) = (ours.keys().map(String::as_str).collect(), &names);
        return vec![format!("names that are missing or too many: {:?}", names ^ &ours)];
    }
    let mut wrong = Vec::new();
    for (name, tensor) in &ours {
        let (dtype, shape) = case.kind(name);
        if (tensor.dtype, &tensor.shape) == (dtype, &shape) {
            wrong.extend(compare(name, &case.right(name), tensor, &case.merged[name], shown).err());
        } else {
            let found = (tensor.dtype, &tensor.shape);
            wrong.push(format!("{name} is {found:?}, should be {dtype:?} {shape:?}"));
        }
    }
    wrong.extend(files::wrong(&contents(&folder.join("base")), &files, &case));
    wrong
}

#[test]
fn every_case_equals_peft() {
    let mut failures = Vec::new();
    println!("{:32} {:>8} {:>12} {:>9} {:>9}", "case", "elements", "not as PEFT", "max ulp", "error/tol");
    for folder in cases() {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let mut shown = Shown::default();
        // One that cannot be merged at all must not hide the others.
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&folder, &mut shown)));
        let wrong =
            checked.unwrap_or_else(|why| vec![why.downcast_ref::<String>().cloned().unwrap_or_default()]);
        let share = 100.0 * shown.differing as f64 / shown.elements.max(1) as f64;
        println!("{name:32} {:8} {share:11.3}% {:9.2} {:9.3}", shown.elements, shown.most_ulps, shown.worst);
        let case = Case::read(&folder);
        assert!(case.names().iter().any(|name| case.is_touched(name)), "{name} merges nothing");
        failures.extend(wrong.into_iter().map(|wrong| format!("{name}: {wrong}")));
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// The reference and PEFT agree, whatever we do: a wrong entry of `case.json` fails here.
#[test]
fn the_reference_equals_peft() {
    let mut failures = Vec::new();
    for folder in cases() {
        let case = Case::read(&folder);
        for name in case.names() {
            let (right, peft) = (case.right(name), &case.merged[name]);
            let (dtype, shape) = case.kind(name);
            let rounded = match &right {
                Right::Near(sum) => Tensor::rounded(&sum.exact, &shape, dtype),
                Right::Bytes(raw) => Tensor { dtype, shape, raw: raw.clone() },
                Right::Codes(_) => peft.clone(),
            };
            let wrong = compare(name, &right, &rounded, peft, &mut Shown::default()).err();
            failures.extend(wrong.map(|wrong| format!("{}: {wrong}", folder.display())));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn bytes_do_not_depend_on_the_cut() {
    let mut larger = Vec::new();
    for folder in cases() {
        let whole = request(&folder, &Case::read(&folder));
        let expected = merge(&whole).ok().expect("no budget was given");
        let mut slab = 4096;
        while merge(&Request {
            hooks: TestHooks { forced: Some((slab, 1)), ..TestHooks::default() },
            threads: Some(1),
            ..whole.clone()
        })
        .is_err()
        {
            slab += 4096;
        }
        if slab > 4096 {
            larger.push(format!("{} ({slab})", folder.file_name().expect("a name").to_string_lossy()));
        }
        for (what, request) in [
            (
                "smallest slabs, depth 1",
                Request {
                    hooks: TestHooks { forced: Some((slab, 1)), ..TestHooks::default() },
                    threads: Some(1),
                    ..whole.clone()
                },
            ),
            (
                "3 workers",
                Request {
                    hooks: TestHooks { forced: Some((slab, 1)), ..TestHooks::default() },
                    threads: Some(3),
                    ..whole.clone()
                },
            ),
            (
                "depth 3",
                Request {
                    hooks: TestHooks { forced: Some((2 * slab, 3)), ..TestHooks::default() },
                    threads: Some(3),
                    ..whole.clone()
                },
            ),
            (
                "direct I/O, smallest slabs, depth 1",
                Request {
                    hooks: TestHooks { forced: Some((slab, 1)), ..TestHooks::default() },
                    io: IoMode::find("direct"),
                    ..whole.clone()
                },
            ),
            (
                "a cache that keeps nothing, depth 3",
                Request {
                    hooks: TestHooks { forced: Some((2 * slab, 3)), ..TestHooks::default() },
                    io: IoMode::find("dontcache"),
                    ..whole.clone()
                },
            ),
            // The budget counts all that this test process holds.
            ("512 MB", Request { max_ram: Some(512_000_000.into()), threads: Some(1), ..whole.clone() }),
            ("4 GB", Request { max_ram: Some(4_000_000_000.into()), ..whole.clone() }),
            (
                "scalar kernels",
                Request {
                    hooks: TestHooks { forced: None, scalar: true, ..TestHooks::default() },
                    ..whole.clone()
                },
            ),
        ] {
            let found = merge(&request).ok().unwrap_or_else(|| panic!("{what} refused {}", folder.display()));
            for (name, bytes) in &expected {
                assert!(found.get(name) == Some(bytes), "{}: {name} differs with {what}", folder.display());
            }
            assert_eq!(found.len(), expected.len());
        }
    }
    println!("slabs larger than 4096 bytes: {}", larger.join(", "));
    assert!(larger.len() <= 8, "too many cases need larger slabs: {larger:?}");
}

#[test]
fn the_check_can_fail() {
    let folder = fixtures().join("demo");
    let mut case = Case::read(&folder);
    let (_, ours) = merged(&request(&folder, &case));
    let name = "model.layers.0.self_attn.q_proj.weight";
    let (tensor, peft) = (ours[name].clone(), case.merged[name].clone());
    let entry = case.json["deltas"].as_array().expect("a list").iter().position(|d| d["tensor"] == name);
    let entry = entry.expect("it is merged");
    let base = case.base[name].clone();
    let mut check = |field: &str, value: serde_json::Value, tensor: &Tensor| {
        let was = std::mem::replace(&mut case.json["deltas"][entry][field], value);
        let taken = compare(name, &case.right(name), tensor, &peft, &mut Shown::default()).is_ok();
        case.json["deltas"][entry][field] = was;
        taken
    };
    let scale = Case::read(&folder).json["deltas"][entry]["scale"].as_f64().expect("a number");
    assert!(check("scale", scale.into(), &tensor));
    assert!(!check("scale", (1.05 * scale).into(), &tensor), "another scale");
    assert!(!check("transposed", true.into(), &tensor), "another orientation");
    assert!(!check("scale", scale.into(), &base), "the base itself");
    let mut flipped = tensor.clone();
    flipped.raw[100] ^= 4;
    assert!(!check("scale", scale.into(), &flipped), "four units in the last place of one element");
}
