//! Every parser, given files of the fixtures that were damaged at random: none panics, or takes a second.
//!
//! The mutations come from a fixed seed, so that a run is the same everywhere; `make fuzz` goes on for minutes from others.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use shardfold::testing::{FUZZ_TARGETS, FuzzTarget};

use super::support::fixtures;
use super::work::Work;

/// Executions of each parser in the quick run.
const QUICK: u64 = 1500;
const MOST: Duration = Duration::from_secs(1);
/// Bytes beyond which a mutated file is cut.
const MOST_BYTES: usize = 1 << 16;

/// What JSON and patterns are made of, and numbers at limits.
const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "null",
    "true",
    "NaN",
    "-Infinity",
    "1e400",
    "-1",
    "0",
    "4294967296",
    "18446744073709551616",
    "9223372036854775807",
    "\"\\ud800\"",
    "\u{202e}",
    "\u{1b}",
    "\0",
    "(?:",
    "(?=",
    "(?!",
    ")",
    "*",
    "+",
    "{1000}",
    "{0,1000}",
    "|",
    "\\1",
    "\\b",
    "[^",
    "(?P<n>",
    "..",
    "/",
    "re:",
    "data_offsets",
    "__metadata__",
    "weight_map",
    "text_config",
    "quantization_config",
    "modules_to_not_convert",
    "GGUF",
    "general.alignment",
    "llama.attention.head_count",
    "blk.0.attn_q.weight",
    "rank_pattern",
    "target_modules",
    "PK\u{1}\u{2}",
    "PK\u{5}\u{6}",
    "data.pkl",
    "ctorch._utils\n_rebuild_tensor_v2\n",
    "ccollections\nOrderedDict\n",
];

/// Numbers that look random, the same for one seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }

    /// One of the files, changed in a few places.
    fn mutated(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes, corpus);
        }
        bytes.truncate(MOST_BYTES);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let (at, len) = (self.below(bytes.len() + 1), self.below(32));
        let end = (at + len).min(bytes.len());
        let word = WORDS[self.below(WORDS.len())].as_bytes();
        match self.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = self.below(256) as u8,
            2 => drop(bytes.drain(at..end)),
            3 => drop(bytes.splice(at..end, word.iter().copied())),
            4 => drop(bytes.splice(at..at, word.repeat(1 + self.below(40)))),
            5 => bytes.truncate(at),
            6 => {
                let other = &corpus[self.below(corpus.len())];
                let from = self.below(other.len() + 1);
                let piece = &other[from..(from + self.below(256)).min(other.len())];
                drop(bytes.splice(at..end, piece.iter().copied()));
            }
            _ => drop(bytes.splice(at..at, bytes[at..end].to_vec().repeat(1 + self.below(64)))),
        }
    }
}

/// Files of that name below the fixtures.
fn found(dir: &Path, name: &str, all: &mut Vec<Vec<u8>>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            found(&entry.path(), name, all);
        } else if entry.file_name() == name {
            all.extend(fs::read(entry.path()).ok());
        }
    }
}

fn files(name: &str) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    found(&fixtures().join("golden"), name, &mut all);
    found(&fixtures().join("demo"), name, &mut all);
    all.sort();
    all.dedup();
    all
}

/// What a parser begins with.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    match target {
        "header" => headers(),
        "gguf" => ggufs(),
        "pytorch" => pickles(),
        "index" => files("model.safetensors.index.json"),
        "model-config" => files("config.json"),
        "adapter-config" => files("adapter_config.json"),
        "journal" | "provenance" => records(target),
        _ => patterns(),
    }
}

/// Headers of GGUF files, with the beginning of their data.
fn ggufs() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for name in ["base.gguf", "lora.gguf", "original.gguf"] {
        found(&fixtures().join("gguf"), name, &mut all);
    }
    all
}

/// Files of torch, whole and broken.
fn pickles() -> Vec<Vec<u8>> {
    let files = fs::read_dir(fixtures().join("pytorch")).unwrap();
    let mut all: Vec<_> = files.filter_map(|file| fs::read(file.unwrap().path()).ok()).collect();
    all.sort();
    all
}

/// Those of the table of hostile files.
fn headers() -> Vec<Vec<u8>> {
    let text = fs::read(fixtures().join("hostile/safetensors.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&text).unwrap();
    let file = |case: &Value| {
        let header = case["header"].as_str()?;
        let data = vec![0; case["data"].as_u64()? as usize];
        Some([&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat())
    };
    cases.iter().filter_map(file).collect()
}

/// What a merge wrote, and a journal whose plan is that of it.
fn records(target: &str) -> Vec<Vec<u8>> {
    let work = Work::quick(None);
    work.succeeds(&[]);
    let record = fs::read(work.output.join("shardfold.json")).unwrap();
    if target == "provenance" {
        return vec![record];
    }
    let merge: Value = serde_json::from_slice(&record).unwrap();
    let stamp = r#"{"name":"model.safetensors","bytes":7,"written":[1,2],"changed":[3,4]}"#;
    let shard = r#"{"reached":{"shard":{"name":"model.safetensors","bytes":7,"hash":"00"}},"counts":{}}"#;
    let head = r#"{"shardfold":"0.1.0","plan":"00","run":"1"}"#;
    vec![format!("{head}\n{{\"base\":[{stamp}],\"merge\":{merge}}}\n{shard}\n{shard}\n").into_bytes()]
}

fn patterns() -> Vec<Vec<u8>> {
    let all = [
        r"^(language_model|model\.language_model)(?=\.).*\.(q_proj|k_proj)$",
        r"(?:.*?(?:language|text).*?(?:self_attn|mlp).*?(?:k_proj|q_proj|up_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}\.(?:mlp))",
        r"^(?!.*(?:visual|merger)).*(?:q_proj|proj).*",
        r"(?P<n>\w+)\.(?P=n)|(\w+)\.\2",
        r".*(?<!vision\.)q_proj",
        r"(?:(\w|\w\w)*)*\1!",
    ];
    all.iter().map(|pattern| pattern.as_bytes().to_vec()).collect()
}

/// Calls a parser with damaged files for as long as `goes_on` says so. How often that was.
fn fuzz((name, target): (&str, FuzzTarget), seed: u64, goes_on: &dyn Fn(u64) -> bool) -> u64 {
    let (corpus, mut random, mut count) = (corpus(name), Random(seed), 0);
    for sound in &corpus {
        target(sound);
    }
    while goes_on(count) {
        let bytes = random.mutated(&corpus);
        let started = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(|| target(&bytes)));
        let took = started.elapsed();
        assert!(ended.is_ok() && took < MOST, "{name}, {took:?}: {}", bytes.escape_ascii());
        count += 1;
    }
    count
}

#[test]
fn no_parser_panics_on_damaged_files() {
    for target in FUZZ_TARGETS {
        fuzz(*target, 0x5eed_f01d, &|count| count < QUICK);
    }
}

#[test]
#[ignore = "takes minutes: `make fuzz`"]
fn no_parser_panics_for_minutes() {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(180);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let only = std::env::var("FUZZ_PARSER").ok();
    for target in FUZZ_TARGETS.iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == name)) {
        let (started, seed) = (Instant::now(), now.as_nanos() as u64 | 1);
        let count = fuzz(*target, seed, &|_| started.elapsed() < Duration::from_secs(seconds));
        eprintln!("{}: {count} executions in {seconds} s from seed {seed}", target.0);
    }
}
