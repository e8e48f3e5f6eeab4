//! `shardfold verify`: every damage is found with its name and its place, and nothing else is.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use shardfold::testing::Dtype;

use super::support::{Ran, command, contents, copy_folder, fixtures, ran};
use super::work::{MODULE, Tensor, Work, edit, edit_json};

const RECORD: &str = "shardfold.json";
const FIRST: &str = "model-00001-of-00003.safetensors";
/// Tile buffers as small as they may be.
const SMALL: [&str; 4] = ["--slab", "4Ki", "--depth", "2"];

fn hashes(dir: &Path) -> Ran {
    ran(command(&["verify", "--hashes-only", "--json"]).arg(dir).output().unwrap())
}

fn inputs(work: &Work, dir: &Path, flags: &[&str]) -> Ran {
    let mut command = command(&["verify", "--json"]);
    command.arg(dir).arg("--base").arg(&work.base).arg("--adapter").arg(&work.adapter).args(flags);
    ran(command.output().unwrap())
}

fn document(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("a document: {}{}", ran.out, ran.err))
}

fn findings(ran: &Ran) -> Vec<Value> {
    let found = document(ran)["findings"].as_array().unwrap().clone();
    assert_eq!(ran.code, if found.is_empty() { 0 } else { 65 }, "{}{}", ran.out, ran.err);
    found
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x20;
    fs::write(path, bytes).unwrap();
}

fn header_len(path: &Path) -> usize {
    let bytes = fs::read(path).unwrap();
    8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize
}

#[test]
fn a_result_is_clean_by_its_hashes_and_by_its_inputs() {
    let work = Work::demo();
    work.succeeds(&[]);
    assert!(findings(&hashes(&work.output)).is_empty());
    for flags in [&[][..], &SMALL, &["--threads", "1", "--max-ram", "40M"]] {
        let ran = inputs(&work, &work.output, flags);
        assert!(findings(&ran).is_empty(), "{}", ran.out);
        let found = document(&ran);
        assert_eq!([&found["tensors"], &found["of_tensors"]], [&json!(39), &json!(39)]);
    }
    // A file that nobody lists is told, and is no finding.
    fs::write(work.output.join("notes.txt"), "").unwrap();
    for ran in [hashes(&work.output), inputs(&work, &work.output, &[])] {
        assert!(findings(&ran).is_empty());
        assert_eq!(document(&ran)["unlisted"], json!(["notes.txt"]));
    }
}

#[test]
fn a_byte_is_found_wherever_it_is() {
    let work = Work::demo();
    work.succeeds(&["--checksums", "sha256"]);
    let first = work.output.join(FIRST);
    let data = header_len(&first);
    // A bit of the fourth element of the first tensor, which is copied.
    let places: [(&str, usize, Value); 5] = [
        (FIRST, data + 6, json!({"kind": "values", "tensor": "model.embed_tokens.weight", "first": [0, 3]})),
        (FIRST, 100, json!({"kind": "bytes", "offset": 100})),
        ("model.safetensors.index.json", 30, json!({"kind": "bytes", "offset": 30})),
        ("config.json", 20, json!({"kind": "bytes", "offset": 20})),
        ("generation_config.json", 9, json!({"kind": "bytes", "offset": 9})),
    ];
    let damaged = work.folder.path().join("damaged");
    for (file, at, expected) in places {
        copy_folder(&work.output, &damaged);
        flip(&damaged.join(file), at);
        let by_hash = findings(&hashes(&damaged));
        assert_eq!(by_hash.len(), 1, "{by_hash:?}");
        assert_eq!([&by_hash[0]["kind"], &by_hash[0]["file"]], [&json!("hash"), &json!(file)]);
        for flags in [&[][..], &SMALL] {
            let found = findings(&inputs(&work, &damaged, flags));
            assert_eq!(found.len(), 1, "{file}: {found:?}");
            assert_eq!(found[0]["file"], file);
            for (key, value) in expected.as_object().unwrap() {
                assert_eq!(&found[0][key], value, "{found:?}");
            }
        }
    }
}

#[test]
fn hashes_say_where_a_long_file_differs() {
    const MIB: usize = 1 << 20;
    let work = Work::tiny(Dtype::F32, 1.0);
    let weight = format!("{MODULE}.weight");
    edit(&work.base.join("model.safetensors"), |tensors| {
        for (name, rows) in [("a", 4), ("b", 10)] {
            let (shape, data) = (vec![rows, 1 << 20], vec![3; rows as usize * 4 * MIB]);
            tensors.push(Tensor { name: name.to_owned(), dtype: "F32".to_owned(), shape, data });
        }
        tensors.swap(0, 2);
    });
    work.succeeds(&[]);
    let shard = work.output.join("model.safetensors");
    assert!(findings(&hashes(&work.output)).is_empty());
    // The order is b of 40 MiB, a of 16, and the small one: b has pieces of its own.
    let data = header_len(&shard);
    let end = fs::metadata(&shard).unwrap().len() as usize;
    let places = [
        (9, [0, data], vec![]),
        (data + 20 * MIB, [16, 32].map(|n| data + n * MIB), vec!["b"]),
        (data + 36 * MIB, [32, 40].map(|n| data + n * MIB), vec!["b"]),
        (data + 41 * MIB, [40, 56].map(|n| data + n * MIB), vec!["a"]),
        (end - 1, [data + 56 * MIB, end], vec![weight.as_str()]),
    ];
    for (at, range, tensors) in places {
        flip(&shard, at);
        let found = findings(&hashes(&work.output));
        assert_eq!(found[0]["ranges"], json!([range]), "{at}");
        assert_eq!(found[0]["tensors"], json!(tensors), "{at}");
        flip(&shard, at);
    }
    // What the record says of a tensor must be so, too.
    let path = work.output.join("shardfold.json");
    let mut record: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    record["shards"][0]["sections"][2]["hash"] = json!("00".repeat(32));
    fs::write(&path, record.to_string()).unwrap();
    assert_eq!(findings(&hashes(&work.output))[0]["tensors"], json!(["a"]));
    assert_eq!(findings(&inputs(&work, &work.output, &[]))[0]["kind"], "recorded");
}

#[test]
fn the_last_bit_of_a_merged_element_is_found_in_what_this_merge_made() {
    let work = Work::demo();
    work.succeeds(&[]);
    let name = "model.layers.0.mlp.down_proj.weight";
    let shard = work.output.join(FIRST);
    let mut bytes = fs::read(&shard).unwrap();
    let data = header_len(&shard);
    let header: Value = serde_json::from_slice(&bytes[8..data]).unwrap();
    let end = data + header[name]["data_offsets"][1].as_u64().unwrap() as usize;
    bytes[end - 2] ^= 1;
    fs::write(&shard, bytes).unwrap();
    for flags in [&[][..], &SMALL] {
        let found = findings(&inputs(&work, &work.output, flags));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!([&found[0]["kind"], &found[0]["tensor"]], ["values", name]);
        assert_eq!([&found[0]["first"], &found[0]["differing"]], [&json!([63, 95]), &json!(1)], "{found:?}");
    }
}

#[test]
fn what_is_missing_cut_or_recorded_otherwise_is_found() {
    let work = Work::demo();
    work.succeeds(&["--checksums", "sha256"]);
    let damaged = work.folder.path().join("damaged");
    let kinds = |damage: &dyn Fn(&Path)| {
        copy_folder(&work.output, &damaged);
        damage(&damaged);
        let kinds = |ran: &Ran| -> Vec<String> {
            findings(ran).iter().map(|found| found["kind"].as_str().unwrap().to_owned()).collect()
        };
        let both = [kinds(&hashes(&damaged)), kinds(&inputs(&work, &damaged, &[]))];
        fs::remove_dir_all(&damaged).unwrap();
        both
    };
    let found = kinds(&|dir| fs::remove_file(dir.join(FIRST)).unwrap());
    assert_eq!(found, [["missing-file"]; 2]);
    let found = kinds(&|dir| fs::remove_file(dir.join("config.json")).unwrap());
    assert_eq!(found, [["missing-file"]; 2]);
    let cut =
        |dir: &Path| fs::File::options().write(true).open(dir.join(FIRST)).unwrap().set_len(9_000).unwrap();
    assert_eq!(kinds(&cut), [["length"]; 2]);
    let found = kinds(&|dir| fs::write(dir.join("SHA256SUMS"), "").unwrap());
    assert_eq!(found, [["checksums"]; 2]);
    let record = |change: &'static dyn Fn(&mut Value)| {
        move |dir: &Path| {
            edit_json(&dir.join(RECORD), |fields| {
                let mut value = Value::Object(fields.clone());
                change(&mut value);
                *fields = value.as_object().unwrap().clone();
            });
        }
    };
    let result = record(&|fields| fields["result"] = "00".into());
    assert_eq!(kinds(&result), [["result", "checksums"]; 2]);
    let hash = record(&|fields| fields["shards"][0]["hash"] = "00".into());
    let [by_hash, by_inputs] = kinds(&hash);
    assert_eq!(by_hash, ["hash", "result", "checksums"]);
    assert_eq!(by_inputs, ["recorded", "result", "checksums"]);
    // A record that cannot be read at all.
    copy_folder(&work.output, &damaged);
    fs::write(damaged.join(RECORD), "{").unwrap();
    assert_eq!(hashes(&damaged).code, 65);
    assert_eq!(findings(&inputs(&work, &damaged, &[]))[0]["kind"], "unreadable");
}

/// What is printed without `--json`: each finding on a line of its own, and nothing that a name could paint.
#[test]
fn findings_are_said_in_words() {
    let work = Work::demo();
    work.succeeds(&[]);
    let of = |flags: &[&str]| {
        let mut command = command(&["verify"]);
        command.arg(&work.output).args(flags);
        if !flags.contains(&"--hashes-only") {
            command.arg("--base").arg(&work.base).arg("--adapter").arg(&work.adapter);
        }
        ran(command.output().unwrap())
    };
    let says = |flags: &[&str], code: i32, lines: &[&str]| {
        let ran = of(flags);
        assert_eq!(ran.code, code, "{}", ran.err);
        for line in lines {
            assert!(ran.out.lines().any(|found| found.starts_with(line)), "no `{line}` in\n{}", ran.out);
        }
        let is_raw = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!ran.out.contains(is_raw) && !ran.err.contains(is_raw), "{:?}{:?}", ran.out, ran.err);
    };
    says(&["--hashes-only"], 0, &["verified   `", "files      7 files, ", "clean      no findings"]);
    says(&[], 0, &["verified   `", "tensors    ", "clean      no findings"]);
    says(&["--sample", "3"], 0, &["places     3 of ", "tensors    ", "clean      no findings"]);
    flip(&work.output.join(FIRST), header_len(&work.output.join(FIRST)) + 6);
    flip(&work.output.join("config.json"), 20);
    fs::write(work.output.join("\u{1b}[2J\u{202e}\nclean.txt"), "").unwrap();
    let unlisted = "unlisted   `\\u{1b}[2J\\u{202e}\\nclean.txt` is no file of the result";
    let hash = format!("finding    `{FIRST}` has hash ");
    says(
        &["--hashes-only"],
        65,
        &[unlisted, &hash, "finding    `config.json` has hash ", "not clean  2 findings"],
    );
    let values = format!("finding    `model.embed_tokens.weight` in `{FIRST}`: 1 element is wrong of ");
    says(
        &[],
        65,
        &[unlisted, &values, "finding    `config.json` differs from byte 20 on", "not clean  2 findings"],
    );
    let quiet = of(&["--hashes-only", "--quiet"]);
    assert!(quiet.code == 65 && quiet.out.is_empty(), "{}{}", quiet.out, quiet.err);
}

#[test]
fn another_merge_is_told_apart() {
    let work = Work::demo();
    assert_eq!(work.merge_scaled("0.5").code, 0);
    let found = findings(&inputs(&work, &work.output, &[]));
    assert_eq!(found[0]["kind"], "other-merge");
    assert_eq!(found[0]["difference"], "its adapter `adapter` has weight 0.5, here 1");
    assert_eq!(found.iter().filter(|found| found["kind"] == "values").count(), 28, "{found:?}");
}

#[test]
fn what_peft_merged_differs_by_rounding_and_no_more() {
    let work = Work::demo();
    let merged = fixtures().join("demo/merged");
    for flags in [&[][..], &SMALL] {
        let ran = inputs(&work, &merged, flags);
        assert!(findings(&ran).is_empty(), "{}", ran.out);
        let found = document(&ran);
        assert_eq!(found["rounding"]["elements"], 4, "{found}");
        assert_eq!([&found["tensors"], &found["unlisted"]], [&json!(39), &json!([])]);
    }
    let mut command = command(&["verify"]);
    let text = ran(command
        .arg(&merged)
        .arg("--base")
        .arg(&work.base)
        .arg("--adapter")
        .arg(&work.adapter)
        .output()
        .unwrap());
    assert!(text.out.contains("4 elements of") && text.out.contains("no findings"), "{}", text.out);
}

#[test]
fn a_module_that_was_not_merged_is_told() {
    let work = Work::demo();
    let mut base = Vec::new();
    for number in 1..=3 {
        edit(&work.shard(number), |tensors| base.extend(tensors.clone()));
    }
    let dir = work.folder.path().join("other");
    copy_folder(&fixtures().join("demo/merged"), &dir);
    let name = "model.layers.2.mlp.up_proj.weight";
    edit(&dir.join("model.safetensors"), |tensors| {
        let own = base.iter().find(|tensor| tensor.name == name).unwrap();
        tensors.iter_mut().find(|tensor| tensor.name == name).unwrap().data = own.data.clone();
    });
    for flags in [&[][..], &SMALL] {
        let found = findings(&inputs(&work, &dir, flags));
        assert_eq!(
            found,
            [json!({
                "kind": "unmerged", "tensor": name, "file": "model.safetensors",
                "modules": ["model.layers.2.mlp.up_proj"],
            })]
        );
    }
    // One that is gone, one that nobody asked for, one of another type.
    edit(&dir.join("model.safetensors"), |tensors| {
        tensors.retain(|tensor| tensor.name != name);
        let mut other = tensors[0].clone();
        other.name = "other".to_owned();
        tensors.push(other);
        tensors.iter_mut().find(|tensor| tensor.name == "model.norm.weight").unwrap().dtype =
            "F16".to_owned();
    });
    let found = findings(&inputs(&work, &dir, &[]));
    let kinds: Vec<&str> = found.iter().map(|found| found["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["missing-tensor", "form", "other-tensor"], "{found:?}");
}

#[test]
fn a_sample_is_of_the_seed_and_finds_what_is_in_it() {
    let work = Work::demo();
    work.succeeds(&[]);
    let all = work.output.join(FIRST);
    // All but the header is wrong: whichever tensors are chosen of this shard are found.
    let data = header_len(&all);
    let mut bytes = fs::read(&all).unwrap();
    bytes[data..].iter_mut().for_each(|byte| *byte ^= 0x55);
    fs::write(&all, bytes).unwrap();
    let found = |seed: &str, count: &str| {
        let ran = inputs(&work, &work.output, &["--sample", count, "--seed", seed, "--threads", "1"]);
        assert_eq!(document(&ran)["places"][0].to_string(), count);
        findings(&ran)
    };
    let names =
        |found: &[Value]| -> Vec<String> { found.iter().map(|found| found["tensor"].to_string()).collect() };
    let [one, again, other] = [found("1", "12"), found("1", "12"), found("2", "12")];
    assert!(!one.is_empty() && one.len() < 12 && one == again && names(&one) != names(&other), "{one:?}");
    assert_eq!(found("1", "39").len(), 14);
}

#[test]
fn a_sample_is_of_places_and_reads_no_more_than_they_need() {
    let work = Work::demo();
    // One matrix of 8 places: rows of 1 MiB.
    let (rows, cols) = (8u64, 1 << 18);
    let name = format!("{MODULE}.weight");
    work.rebase(&[(&name, &[rows, cols], vec![1.0; (rows * cols) as usize])]);
    for file in fs::read_dir(&work.base).unwrap().map(|file| file.unwrap().path()) {
        if file.to_string_lossy().contains("model-0") || file.to_string_lossy().ends_with("index.json") {
            fs::remove_file(file).unwrap();
        }
    }
    work.adapt(1, rows, cols, 1.0, 0.5);
    work.succeeds(&[]);
    let shard = work.output.join("model.safetensors");
    let sound = fs::read(&shard).unwrap();
    let verify = |flags: &[&str]| inputs(&work, &work.output, flags);
    let sample = ["--sample", "2", "--seed", "3"];
    let ran = verify(&sample);
    let said = document(&ran);
    assert!(findings(&ran).is_empty() && said["places"] == json!([2, 8]), "{}", ran.out);
    assert_eq!(said["bytes"], 2 * 4 * cols);
    // The row that is wrong is found by the same seeds, whatever the budget and the threads.
    let found_with = |seed: u64, flags: &[&str]| {
        let seed = seed.to_string();
        let flags = [&["--sample", "4", "--seed", &seed], flags].concat();
        findings(&verify(&flags)).len()
    };
    let mut bytes = sound.clone();
    let at = header_len(&shard) + 3 * 4 * cols as usize + 400;
    bytes[at] ^= 0x40;
    fs::write(&shard, &bytes).unwrap();
    let found: Vec<usize> = (0..6).map(|seed| found_with(seed, &[])).collect();
    assert!(found.contains(&0) && found.contains(&1), "{found:?}");
    for flags in [&["--max-ram", "40M", "--threads", "1"][..], &["--slab", "64Ki", "--depth", "2"]] {
        let again: Vec<usize> = (0..6).map(|seed| found_with(seed, flags)).collect();
        assert_eq!(again, found, "{flags:?}");
    }
    assert_eq!(findings(&verify(&["--sample", "8"])).len(), 1);
}

#[test]
fn merges_with_reductions_experts_and_codes_are_clean() {
    for case in ["dora-sharded", "gpt-oss", "fp8-sharded", "oft-llama", "tied-sharded", "vocabulary-saved"] {
        let folder = super::support::quick_folder();
        copy_folder(&fixtures().join("golden").join(case), folder.path());
        let at = |name: &str| folder.path().join(name);
        let names = ["adapter", "adapter-1", "adapter-2"];
        let run = |words: &[&str], dir: Option<&str>, more: &[&str]| {
            let mut command = command(words);
            command.args(dir.map(at));
            command.arg("--base").arg(at("base"));
            for adapter in names.map(at).into_iter().filter(|path| path.is_dir()) {
                command.arg("--adapter").arg(adapter);
            }
            ran(command.args(more).output().unwrap())
        };
        let merged = run(&["merge", "-q"], None, &["-o", at("output").to_str().unwrap()]);
        assert_eq!(merged.code, 0, "{}", merged.err);
        for flags in [&[][..], &["--slab", "16Ki", "--depth", "2"], &["--sample", "3"]] {
            let ran = run(&["verify", "--json"], Some("output"), flags);
            assert!(findings(&ran).is_empty(), "{case} {flags:?}: {}", ran.out);
        }
    }
}

#[test]
fn a_small_delta_is_unmerged_where_much_of_it_is_missing() {
    // Every element moves by one unit in the last place: by rounding alone, the base would pass.
    let work = Work::tiny(Dtype::BF16, 0.007_812_5);
    work.succeeds(&[]);
    let other = work.folder.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::copy(work.base.join("model.safetensors"), other.join("model.safetensors")).unwrap();
    let found = findings(&inputs(&work, &other, &[]));
    assert_eq!(found[0]["kind"], "unmerged", "{found:?}");
    assert_eq!(found[0]["modules"], json!([MODULE]));
}

#[test]
fn what_cannot_be_verified_is_said() {
    let work = Work::demo();
    work.succeeds(&[]);
    let of = |dir: &Path, flags: &[&str]| ran(command(&["verify"]).arg(dir).args(flags).output().unwrap());
    let verify = |flags: &[&str]| of(&work.output, flags);
    let ran = verify(&[]);
    assert!(ran.code == 2 && ran.err.contains("--hashes-only"), "{}", ran.err);
    assert_eq!(verify(&["--hashes-only", "--sample", "3"]).code, 2);
    assert_eq!(verify(&["--adapter", "a", "--sample", "x"]).code, 2);
    let ran = hashes(&work.base);
    assert!(ran.code == 66 && ran.err.contains("no `shardfold.json`"), "{}", ran.err);
    // What is not there is said before what else the command would need.
    let nowhere = work.folder.path().join("nowhere");
    for flags in [&[][..], &["--hashes-only"], &["--base", "b", "--adapter", "a"]] {
        let ran = of(&nowhere, flags);
        let says = format!("no directory at `{}`", nowhere.display());
        assert!(ran.code == 66 && ran.err.contains(&says), "{flags:?}: {}", ran.err);
        assert!(!ran.err.contains("--adapter"), "{flags:?}: {}", ran.err);
    }
    let ran = of(&work.base.join("config.json"), &[]);
    assert!(ran.err.contains("it is not a directory"), "{}", ran.err);
    assert!(contents(&work.output).contains_key(RECORD));
}
