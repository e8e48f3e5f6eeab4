//! Parts and their joining where every call may fail, or end the process: what is run again comes to the bytes of one merge.

use std::fs;
use std::path::Path;

use shardfold::testing::{Failure, Faulty, Operation, TestHooks};
use shardfold::{Cancel, ErrorKind, Finishing, Folder, Location, OutputError, PartNumber, Prepared, Request};
use shardfold::{Result, prepare};

use super::many_hosts::Hosts;
use super::support::{copy_folder, quick_folder};
use super::trial::quiet;

const HOOKS: TestHooks =
    TestHooks { forced: Some((4096, 2)), stride: Some(1 << 10), scalar: false, shares: false };

fn prepared(hosts: &Hosts, part: u32) -> Prepared {
    prepare(&Request {
        base: Some(hosts.at("base").into()),
        adapters: vec![(hosts.at("adapter").into(), 1f64.into())],
        threads: Some(1),
        hooks: HOOKS,
        part: PartNumber::new(part, 3),
        ..Request::default()
    })
    .unwrap()
}

fn finishing(output: Location, shares: bool) -> Finishing {
    let hooks = TestHooks { shares, ..HOOKS };
    Finishing { output, base: None, adapters: Vec::new(), cancel: Cancel::default(), hooks }
}

/// Runs it again while a lock is held: a process that another test has just begun to start has all files of this one until then.
fn in_turn(run: &dyn Fn() -> Result<()>) -> Result<()> {
    for _ in 0..2000 {
        match run() {
            Err(error) if matches!(error.kind(), ErrorKind::Output(OutputError::OutputInUse { .. })) => {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            ended => return ended,
        }
    }
    run()
}

/// Every call of these kinds that `run` makes, failing in turn. `run` gets the store, and `after` sees what came of it.
fn fail_everywhere(
    store: &Faulty<Folder>,
    reset: &dyn Fn(),
    run: &dyn Fn() -> Result<()>,
    after: &dyn Fn(&str),
) -> u64 {
    reset();
    store.rearm(None);
    in_turn(run).unwrap();
    let calls = Operation::ALL.map(|operation| (operation, store.count(operation)));
    let mut failed = 0;
    for (operation, count) in calls {
        for nth in 1..=count {
            reset();
            store.rearm(Some((operation, nth, Failure::Errno(5))));
            failed += u64::from(run().is_err());
            store.rearm(None);
            after(&format!("{operation:?} {nth}"));
        }
    }
    failed
}

#[test]
fn any_call_of_a_part_may_fail() {
    let hosts = Hosts::new();
    let work = quick_folder();
    let store = Faulty::new(Folder::new(work.path()));
    let output = Location::new(store.clone()).join("output");
    let parts = [0, 1, 2].map(|part| prepared(&hosts, part));
    let merge = |part: usize| parts[part].merge(&output, quiet().as_mut()).map(drop);
    for first in [0, 1] {
        let reset = || clear(work.path());
        let after = |what: &str| {
            (0..3).for_each(|part| merge(part).unwrap_or_else(|error| panic!("behind {what}: {error:?}")));
            in_turn(&|| finishing(output.clone(), false).finish(quiet().as_mut()).map(drop)).unwrap();
            assert!(super::support::contents(&work.path().join("output")) == hosts.whole, "behind {what}");
        };
        let failed = fail_everywhere(&store, &reset, &|| merge(first), &after);
        println!("part {first}: {failed} failures");
        assert!(failed > 30, "{failed}");
    }
}

#[test]
fn any_call_of_joining_may_fail() {
    let hosts = Hosts::new();
    hosts.make_parts("made", 3, &[]);
    let work = quick_folder();
    let store = Faulty::new(Folder::new(work.path()));
    let output = Location::new(store.clone()).join("output");
    for shares in [false, true] {
        let reset = || {
            clear(work.path());
            copy_folder(&hosts.at("made.partial"), &work.path().join("output.partial"));
        };
        let run = || finishing(output.clone(), shares).finish(quiet().as_mut()).map(drop);
        let after = |what: &str| {
            in_turn(&run).unwrap_or_else(|error| panic!("behind {what}: {error:?}"));
            assert!(super::support::contents(&work.path().join("output")) == hosts.whole, "behind {what}");
            assert!(!work.path().join("output.partial").exists(), "behind {what}");
        };
        let failed = fail_everywhere(&store, &reset, &run, &after);
        println!("joining, shares {shares}: {failed} failures");
        assert!(failed > 60, "{failed}");
    }
}

#[test]
fn parts_need_no_locks_but_renames() {
    let hosts = Hosts::new();
    let work = quick_folder();
    let folder = Folder::new(work.path());
    let parts = [0, 1, 2].map(|part| prepared(&hosts, part));
    let output = Location::new(Faulty::new(folder.clone()).refusing_locks()).join("output");
    for part in &parts {
        assert_eq!(part.merge(&output, quiet().as_mut()).unwrap().state, "part done");
    }
    finishing(output.clone(), false).finish(quiet().as_mut()).unwrap();
    assert!(super::support::contents(&work.path().join("output")) == hosts.whole);
    // Found before anything is made.
    let output = Location::new(Faulty::new(folder).refusing_dir_renames()).join("other");
    let error = parts[0].merge(&output, quiet().as_mut()).unwrap_err();
    assert!(error.to_string().contains("cannot be made in parts: files cannot be renamed"), "{error}");
}

#[test]
fn a_part_may_end_at_any_call() {
    let hosts = Hosts::new();
    let cut = ["--slab", "4KiB", "--depth", "1", "--stride", "1KiB", "--threads", "1"];
    let mut calls = 0;
    for nth in 1.. {
        let (nth, output) = (nth.to_string(), "output");
        let first = hosts.merge(output, &[&["--part", "1/3", "--abort-at", &nth][..], &cut].concat());
        if first.code == 0 {
            break;
        }
        assert_eq!(first.code, -1, "{}", first.err);
        calls += 1;
        hosts.make_parts(output, 3, &[]);
        hosts.finishes(output);
        clear_output(&hosts, output);
    }
    assert!(calls > 20, "{calls} calls");
}

#[test]
fn joining_may_end_at_any_call() {
    let hosts = Hosts::new();
    hosts.make_parts("made", 3, &[]);
    for shares in [&[][..], &["--shares"]] {
        let mut calls = 0;
        for nth in 1.. {
            let nth = nth.to_string();
            copy_folder(&hosts.at("made.partial"), &hosts.at("output.partial"));
            let flags = [&["--abort-at", &nth, "--stride", "1KiB"][..], shares].concat();
            let first = hosts.finish("output", &flags);
            if first.code == 0 {
                hosts.is_whole("output");
                clear_output(&hosts, "output");
                break;
            }
            assert_eq!(first.code, -1, "{}", first.err);
            calls += 1;
            // A part that is run late changes nothing.
            let late = hosts.part("output", "1/3");
            assert_eq!(
                (late.code, late.out.contains("already done")),
                (0, true),
                "behind call {nth}: {}",
                late.err
            );
            let again = hosts.finish("output", &[]);
            assert_eq!(again.code, 0, "behind call {nth}: {}", again.err);
            hosts.is_whole("output");
            clear_output(&hosts, "output");
        }
        assert!(calls > 20, "{calls} calls");
    }
}

fn clear_output(hosts: &Hosts, output: &str) {
    fs::remove_dir_all(hosts.at(output)).unwrap();
}

fn clear(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
}
