//! Files and directories that an attacker or a broken tool might leave, from the table `fixtures/hostile/inputs.json`: each
//! ends with the exit code and the words that the table says, and nothing in it reaches a terminal unescaped. Its README has
//! the keys.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::support::{Ran, fixtures, ran};
use super::work::{Tensor, Work, edit_json, write};

/// What a run may take above one of sound files, in KiB, and in seconds.
const MOST_KIB: u64 = 64 << 10;
const MOST_SECONDS: f64 = 1.0;
const BUDGET: [&str; 2] = ["--max-ram", "64M"];
/// Cases that run at a time: most of each is waiting.
const THREADS: usize = 4;
/// Repetitions from which on an input is large.
const LARGE: u64 = 50_000;
/// Runs a command and says what it took at most, in KiB.
const MEASURE: &str = "import os,sys\npid=os.spawnv(os.P_NOWAIT,sys.argv[1],sys.argv[1:])\n_,status,used=os.wait4(pid,0)\n\
                       print('\\n%d' % used.ru_maxrss)\nsys.exit(os.waitstatus_to_exitcode(status))";

fn table() -> Vec<Value> {
    let text = fs::read(fixtures().join("hostile/inputs.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// The entries of an object of the case, or none.
fn entries<'c>(case: &'c Value, key: &str) -> impl Iterator<Item = (&'c str, &'c Value)> {
    let fields = case[key].as_object().into_iter().flatten();
    fields.map(|(path, value)| (path.as_str(), value))
}

fn names<'c>(case: &'c Value, key: &str) -> impl Iterator<Item = &'c str> {
    case[key].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// `[head, unit, times, tail]` as one text; `$n` of the unit counts.
fn filled(parts: &Value) -> String {
    let part = |i: usize| parts[i].as_str().unwrap();
    let mut text = part(0).to_owned();
    for i in 0..parts[2].as_u64().unwrap() {
        let mut pieces = part(1).split("$n");
        text += pieces.next().unwrap_or_default();
        pieces.for_each(|piece| text += &format!("{i}{piece}"));
    }
    text + part(3)
}

fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// A tensor `[name, dtype, shape, byte or "hex:…"]`.
fn tensor(spec: &Value) -> Tensor {
    let shape: Vec<u64> = spec[2].as_array().unwrap().iter().map(|axis| axis.as_u64().unwrap()).collect();
    let dtype = spec[1].as_str().unwrap();
    let size = match dtype {
        "I64" => 8,
        "F32" | "I32" => 4,
        "BF16" => 2,
        _ => 1,
    };
    let bytes = shape.iter().fold(size, |all: u64, axis| all.saturating_mul(*axis)).min(1 << 20);
    let data = match spec[3].as_str().and_then(|hex| hex.strip_prefix("hex:")) {
        Some(hex) => {
            (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
        }
        None => vec![spec[3].as_u64().unwrap_or(0x3f) as u8; bytes as usize],
    };
    Tensor { name: spec[0].as_str().unwrap().to_owned(), dtype: dtype.to_owned(), shape, data }
}

/// Makes the files of a case.
fn work_of(case: &Value) -> Work {
    let work = Work::quick(case["start"].as_str());
    let at = |path: &str| work.folder.path().join(path);
    let put = |path: &str, bytes: &[u8]| {
        fs::create_dir_all(at(path).parent().unwrap()).unwrap();
        fs::write(at(path), bytes).unwrap();
    };
    names(case, "gone").for_each(|path| fs::remove_file(at(path)).unwrap());
    names(case, "directories").for_each(|path| fs::create_dir_all(at(path)).unwrap());
    entries(case, "text").for_each(|(path, text)| put(path, text.as_str().unwrap().as_bytes()));
    entries(case, "fill").for_each(|(path, parts)| put(path, filled(parts).as_bytes()));
    for (path, parts) in entries(case, "header") {
        put(path, &safetensors(&filled(parts), &vec![0; parts[4].as_u64().unwrap() as usize]));
    }
    for (path, specs) in entries(case, "tensors") {
        write(&at(path), specs.as_array().unwrap().iter().map(tensor).collect());
    }
    edit_configs(case, &at);
    for (path, target) in entries(case, "links") {
        fs::create_dir_all(at(path).parent().unwrap()).unwrap();
        let _ = fs::remove_file(at(path));
        symlink(target.as_str().unwrap(), at(path)).unwrap();
    }
    for path in names(case, "pipes") {
        assert!(Command::new("mkfifo").arg(at(path)).status().unwrap().success());
    }
    work
}

/// Changes JSON files: fields set, or made of many entries.
fn edit_configs(case: &Value, at: &dyn Fn(&str) -> std::path::PathBuf) {
    let count = |text: &Value, i: u64| text.as_str().map(|text| text.replace("$n", &i.to_string()));
    let times = |number: &Value| number.as_u64().unwrap();
    for (path, fields) in entries(case, "set") {
        edit_json(&at(path), |object| object.extend(fields.as_object().unwrap().clone()));
    }
    for (path, spec) in entries(case, "long") {
        let text = filled(&json!([spec[1], spec[2], spec[3], spec[4]]));
        set(&at(path), &spec[0], text.into());
    }
    for (path, spec) in entries(case, "map") {
        let all = (0..times(&spec[2])).map(|i| (count(&spec[1], i).unwrap(), spec[3].clone()));
        set(&at(path), &spec[0], Value::Object(all.collect::<Map<_, _>>()));
    }
    for (path, spec) in entries(case, "list") {
        let all = (0..times(&spec[2])).map(|i| count(&spec[1], i).map_or_else(|| json!(i), Value::from));
        set(&at(path), &spec[0], all.collect());
    }
    for (path, spec) in entries(case, "ignored") {
        let all: Value = (0..times(&spec[1])).map(|i| count(&spec[0], i).unwrap()).collect();
        let quantization = json!({"quant_method": "compressed-tensors", "ignore": all});
        set(&at(path), &json!("quantization_config"), quantization);
    }
    for (path, pair) in entries(case, "replace") {
        let text = fs::read_to_string(at(path)).unwrap();
        let new = text.replace(pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
        assert_ne!(text, new);
        fs::write(at(path), new).unwrap();
    }
}

fn set(path: &Path, field: &Value, value: Value) {
    edit_json(path, |object| drop(object.insert(field.as_str().unwrap().to_owned(), value)));
}

/// The command of a case.
fn command(case: &Value, work: &Work) -> Command {
    let output = work.folder.path().join(case["output"].as_str().unwrap_or("output"));
    let flags: Vec<&str> = names(case, "flags").collect();
    let mut command = work.command_into(&output, &[&BUDGET[..], &flags].concat());
    command.env("XDG_STATE_HOME", work.folder.path().join("state"));
    command
}

/// What is wrong with how a case ended.
fn wrong(case: &Value, ran: &Ran) -> Option<String> {
    let (name, says) = (case["name"].as_str().unwrap(), case["says"].as_str().unwrap());
    let is_raw = |c: char| c != '\n' && (c.is_control() || matches!(c, '\u{202a}'..='\u{202e}'));
    let why = if i64::from(ran.code) != case["code"].as_i64().unwrap() {
        format!("exit code {}", ran.code)
    } else if !ran.err.contains(says) {
        format!("no `{says}`")
    } else if ran.err.chars().chain(ran.out.chars()).any(is_raw) {
        "a control character".to_owned()
    } else {
        return None;
    };
    Some(format!("{name}: {why} in {:.600}", ran.err.escape_debug()))
}

#[test]
fn each_ends_as_the_table_says() {
    let small: Vec<Value> = table().into_iter().filter(|case| !is_large(case)).collect();
    assert!(small.len() >= 200);
    end_as_told(&small);
}

#[test]
#[ignore = "takes half a minute to make: `make hostile`"]
fn large_ones_end_as_the_table_says() {
    let large: Vec<Value> = table().into_iter().filter(is_large).collect();
    assert!(large.len() >= 30);
    end_as_told(&large);
}

/// Whether it takes a while to make the files of a case: something is repeated very often.
fn is_large(case: &Value) -> bool {
    match case {
        Value::Number(number) => number.as_u64().is_some_and(|count| (LARGE..1 << 30).contains(&count)),
        Value::Array(values) => values.iter().any(is_large),
        Value::Object(fields) => fields.values().any(is_large),
        _ => false,
    }
}

fn end_as_told(cases: &[Value]) {
    let check = |case: &Value| {
        let work = work_of(case);
        let ran = ran(command(case, &work).output().unwrap());
        // Where something is refused nothing is left behind.
        let is_new = ran.code != 0 && !case.to_string().contains("\"output");
        let is_left = is_new && (work.output.exists() || work.partial().exists());
        wrong(case, &ran).or_else(|| is_left.then(|| format!("{}: something is left", case["name"])))
    };
    let errors: Vec<String> = std::thread::scope(|scope| {
        let chunks = cases.chunks(cases.len().div_ceil(THREADS));
        let all: Vec<_> =
            chunks.map(|part| scope.spawn(|| part.iter().filter_map(check).collect::<Vec<_>>())).collect();
        all.into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    assert!(errors.is_empty(), "{} of {}:\n{}", errors.len(), cases.len(), errors.join("\n"));
}

#[test]
#[ignore = "measures time: `make hostile`"]
fn each_takes_little_memory_and_time() {
    let measured = |case: &Value| {
        let work = work_of(case);
        let merge = command(case, &work);
        let mut python = Command::new("python3");
        python.args(["-c", MEASURE]).arg(merge.get_program()).args(merge.get_args());
        let started = Instant::now();
        let ran = ran(python.output().unwrap());
        let kib: u64 = ran.out.lines().last().unwrap().parse().unwrap();
        (kib, started.elapsed().as_secs_f64())
    };
    let (sound, _) = measured(&json!({}));
    let (mut errors, mut worst) = (Vec::new(), (0, 0.0f64));
    for case in table() {
        let (kib, seconds) = measured(&case);
        worst = (worst.0.max(kib), worst.1.max(seconds));
        if kib > sound + MOST_KIB || seconds > MOST_SECONDS {
            errors.push(format!("{}: {kib} KiB, {seconds:.2} s", case["name"]));
        }
    }
    eprintln!("sound files take {sound} KiB; at most {} KiB and {:.2} s were taken", worst.0, worst.1);
    assert!(errors.is_empty(), "sound files take {sound} KiB\n{}", errors.join("\n"));
}

#[test]
fn links_lead_out_only_if_that_is_asked_for() {
    let work = Work::demo();
    let secret = work.folder.path().join("secret.txt");
    fs::write(&secret, "precious").unwrap();
    symlink(&secret, work.base.join("notes.txt")).unwrap();
    symlink("config.json", work.base.join("same.json")).unwrap();
    let ran = work.succeeds(&[]);
    assert!(
        ran.err.contains("note: `notes.txt` is not copied: a link leads out of the directory"),
        "{}",
        ran.err
    );
    assert!(!work.output.join("notes.txt").exists() && work.output.join("same.json").exists());
    fs::remove_dir_all(&work.output).unwrap();
    work.succeeds(&["--follow-links"]);
    assert_eq!(fs::read(work.output.join("notes.txt")).unwrap(), b"precious");

    // Without its config a result is none; what is in it would leave with the result.
    let work = Work::demo();
    let elsewhere = work.folder.path().join("elsewhere.json");
    fs::rename(work.base.join("config.json"), &elsewhere).unwrap();
    symlink(&elsewhere, work.base.join("config.json")).unwrap();
    let ran = work.merge(&[]);
    assert!(ran.code == 65 && ran.err.contains("is a link that leads out of its directory"), "{}", ran.err);
    work.succeeds(&["--follow-links"]);

    // An adapter's tokenizer.
    let work = Work::demo();
    symlink(&secret, work.adapter.join("tokenizer.json")).unwrap();
    fs::write(&secret, "{}").unwrap();
    work.succeeds(&["--tokenizer", "adapter"]);
    assert!(!work.output.join("tokenizer.json").exists());
}

#[test]
fn others_may_do_no_more_with_a_result_than_with_its_inputs() {
    let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    let files = ["config.json", "model-00001-of-00003.safetensors", "README.md", "shardfold.json"];
    let work = Work::demo();
    work.succeeds(&[]);
    let usual = work.folder.path().join("usual");
    fs::create_dir(&usual).unwrap();
    assert_eq!(mode(&work.output), mode(&usual), "as any new directory");
    assert!(files.iter().all(|name| mode(&work.output.join(name)) == mode(&work.base.join("config.json"))));

    let work = Work::demo();
    chmod(&work.shard(2), 0o600);
    fs::create_dir(&work.output).unwrap();
    chmod(&work.output, 0o2750);
    work.succeeds(&[]);
    assert_eq!(mode(&work.output), 0o2750, "as it was");
    assert!(files.iter().all(|name| mode(&work.output.join(name)) == 0o600));
}
