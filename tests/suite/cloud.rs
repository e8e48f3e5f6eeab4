//! Bases, adapters and results in a bucket: the same bytes as on disk, written once, the record last.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use shardfold::testing::{bucket, write_small};
use shardfold::{
    Cancel, Code, Event, Location, Origin, Reporter, Request, Result, Store, Style, Summary, Terminal,
    choose, prepare,
};

use super::golden::{merged, request};
use super::oracle::Case;
use super::support::{command, contents, fixtures, folder, ran};

type Files = BTreeMap<String, Vec<u8>>;

/// The directories that one is asked for by.
fn path_of(origin: &Origin) -> &Path {
    match origin {
        Origin::Typed(path) => path,
        Origin::At(_) => panic!("cases name paths"),
    }
}

/// Puts a directory into the bucket.
fn put(dir: &Path, to: &Location) -> Origin {
    for (name, bytes) in contents(dir) {
        write_small(to, &name, &bytes).unwrap();
    }
    to.clone().into()
}

/// All that is below a place in the bucket.
fn files_of(place: &Location) -> Files {
    let files = place.files(&|_| false).unwrap().into_iter();
    let read = |name: String| {
        let source = place.open(&name).unwrap();
        let mut bytes = vec![0; source.len() as usize];
        source.read_at(&mut bytes, 0).unwrap();
        (name, bytes)
    };
    files.map(|file| read(file.name)).collect()
}

/// The same merge, of inputs that are put into the bucket.
fn in_bucket(local: &Request, bucket: &Location) -> Request {
    let base = local.base.as_ref().map(|base| put(path_of(base), &bucket.join("models/base")));
    let adapters = local.adapters.iter().enumerate().map(|(i, (adapter, weight))| {
        // The last names are part of what is recorded.
        let name = path_of(adapter).file_name().unwrap().to_str().unwrap().to_owned();
        (put(path_of(adapter), &bucket.join(&format!("adapters/{i}/{name}"))), weight.clone())
    });
    let adapters = adapters.collect();
    let output_memory = bucket.write_memory();
    let (tied, keep_quantized) = (local.tied, local.keep_quantized);
    Request { base, adapters, output_memory, tied, keep_quantized, ..Request::default() }
}

fn merge(request: &Request, output: &Location, reporter: &mut dyn Reporter) -> Result<Summary> {
    prepare(request)?.merge(output, reporter)
}

fn quiet() -> Box<dyn Reporter> {
    choose(Style::Quiet, Terminal::default(), &Cancel::default())
}

#[test]
fn a_merge_in_a_bucket_has_the_bytes_of_one_on_disk() {
    let cases = ["golden/adapter-bf16-base-bf16", "golden/tied-sharded", "demo"];
    let there: Vec<_> = cases.iter().map(|case| fixtures().join(case)).filter(|case| case.is_dir()).collect();
    assert!(there.len() > 1, "{there:?}");
    for case in there {
        let local = request(&case, &Case::read(&case));
        let (expected, _) = merged(&local);
        let bucket = bucket(&Cancel::default()).unwrap();
        let output = bucket.join("out/merged");
        merge(&in_bucket(&local, &bucket), &output, quiet().as_mut()).unwrap();
        let found = files_of(&output);
        assert!(found.keys().eq(expected.keys()), "{:?}", found.keys());
        for (name, bytes) in &expected {
            if name == "shardfold.json" {
                let [ours, theirs] =
                    [&found[name], bytes].map(|json| serde_json::from_slice::<Value>(json).unwrap());
                assert_eq!((&ours["result"], &ours["plan"]), (&theirs["result"], &theirs["plan"]));
            } else {
                assert!(&found[name] == bytes, "{case:?}: {name}");
            }
        }
    }
}

/// Looks at what is in the output whenever something is told.
struct Watching(Location, Vec<Vec<String>>);

impl Reporter for Watching {
    fn event(&mut self, event: &Event<'_>) {
        if !matches!(event, Event::Finished(_)) {
            self.1.push(self.0.list("").unwrap_or_default().into_iter().map(|entry| entry.name).collect());
        }
    }
}

#[test]
fn an_output_is_begun_where_nothing_is_and_known_when_it_is_done() {
    let demo = fixtures().join("demo");
    let bucket = bucket(&Cancel::default()).unwrap();
    let request = in_bucket(&request(&demo, &Case::read(&demo)), &bucket);
    let output = bucket.join("merged");
    write_small(&output, "notes.txt", b"mine").unwrap();
    let error = merge(&request, &output, quiet().as_mut()).unwrap_err();
    assert_eq!(error.exit_code(), Code::Output);
    assert_eq!(files_of(&output).len(), 1);
    output.remove("notes.txt").unwrap();

    let mut watching = Watching(output.clone(), Vec::new());
    merge(&request, &output, &mut watching).unwrap();
    assert!(watching.1.iter().any(|names| names.is_empty()));
    for names in &watching.1 {
        assert!(!names.iter().any(|name| name == "shardfold.json"), "seen before it was whole: {names:?}");
    }
    let before = files_of(&output);
    assert!(before.keys().all(|name| !name.starts_with('.')), "{:?}", before.keys());
    merge(&request, &output, quiet().as_mut()).unwrap();
    assert!(before == files_of(&output));
    let inside = merge(&request, &bucket.join("models/base/merged"), quiet().as_mut()).unwrap_err();
    assert!(inside.exit_code() == Code::Output && inside.to_string().contains("models/base"), "{inside:?}");
    // A result that was begun, and that nobody goes on with.
    output.remove("shardfold.json").unwrap();
    assert_eq!(merge(&request, &output, quiet().as_mut()).unwrap_err().exit_code(), Code::Output);
}

#[test]
fn a_merge_that_fails_leaves_nothing_in_a_bucket() {
    let demo = fixtures().join("demo");
    let bucket = bucket(&Cancel::default()).unwrap();
    let request = in_bucket(&request(&demo, &Case::read(&demo)), &bucket);
    let output = bucket.join("merged");
    let refused = Request { expected: Some("0".repeat(64)), ..request.clone() };
    assert_eq!(merge(&refused, &output, quiet().as_mut()).unwrap_err().exit_code(), Code::Data);
    assert!(output.stat("").unwrap().is_none(), "{:?}", output.list(""));
    merge(&request, &output, quiet().as_mut()).unwrap();
}

#[test]
fn the_budget_counts_the_parts_that_are_on_their_way() {
    let demo = fixtures().join("demo");
    let bucket = bucket(&Cancel::default()).unwrap();
    let request = in_bucket(&request(&demo, &Case::read(&demo)), &bucket);
    let memory = bucket.write_memory();
    assert!(memory > 24 << 20);
    let smallest = |request: &Request| prepare(request).unwrap().schedule.budget.smallest;
    let without = smallest(&Request { output_memory: 0, ..request.clone() });
    let with = smallest(&request);
    assert!(with >= without + memory - (4 << 20), "{without} and {with}");
}

#[test]
fn an_address_that_cannot_be_used_is_refused_by_what_is_wrong() {
    let work = folder();
    for (flag, typed) in [("--base", "s3://"), ("--base", "s3://bucket//a"), ("--output", "s3:///a")] {
        let demo = fixtures().join("demo");
        let (base, adapter) = (demo.join("base"), demo.join("adapter"));
        let mut args = vec!["merge", "--adapter", adapter.to_str().unwrap(), flag, typed];
        let output = work.path().join("out");
        match flag {
            "--base" => args.extend(["--output", output.to_str().unwrap()]),
            _ => args.extend(["--base", base.to_str().unwrap()]),
        }
        let ran = ran(command(&args).output().unwrap());
        assert_eq!(ran.code, Code::Io as i32, "{}", ran.err);
        assert!(ran.err.contains("s3://BUCKET/PREFIX"), "{}", ran.err);
    }
}
