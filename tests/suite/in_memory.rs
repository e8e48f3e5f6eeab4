//! The whole program over one store in memory: base, adapter, output and journal in it, and every call fails once.

use std::collections::BTreeMap;
use std::io::ErrorKind as Io;

use shardfold::testing::{Failure, Faulty, Operation, TestHooks, write_small};
use shardfold::{
    Cancel, Location, Memory, Request, Result, Store, Style, Summary, Terminal, choose, prepare,
};

use super::support::contents;
use super::trial::{Trial, Way};

const EIO: Failure = Failure::Errno(5);
const EACCES: Failure = Failure::Errno(13);

/// A whole merge in one store in memory: base, adapter and output.
struct InMemory {
    inputs: BTreeMap<String, Vec<u8>>,
}

impl InMemory {
    fn new() -> InMemory {
        let tiny = Trial::new(Way::Renamed);
        let mut inputs = BTreeMap::new();
        for dir in ["base", "adapter"] {
            let files = contents(&tiny.at(dir)).into_iter();
            inputs.extend(files.map(|(name, bytes)| (format!("work/{dir}/{name}"), bytes)));
        }
        InMemory { inputs }
    }

    /// A store with the inputs and nothing else.
    fn store(&self) -> Memory {
        let store = Memory::new();
        for (name, bytes) in &self.inputs {
            write_small(&store, name, bytes).expect("memory");
        }
        store
    }

    /// Plans and merges, from the first look at a file to the last.
    fn merge(&self, store: impl Store + 'static) -> Result<Summary> {
        let work = Location::new(store).join("work");
        let request = Request {
            base: Some(work.join("base").into()),
            adapters: vec![(work.join("adapter").into(), 1f64.into())],
            threads: Some(1),
            // A few tiles for each tensor.
            hooks: TestHooks { forced: Some((65_536, 2)), ..TestHooks::default() },
            ..Request::default()
        };
        prepare(&request)?.merge(
            &work.join("output"),
            choose(Style::Quiet, Terminal::default(), &Cancel::default()).as_mut(),
        )
    }

    /// The files of a store below a directory of the work.
    fn files(store: &Memory, dir: &str) -> BTreeMap<String, Vec<u8>> {
        let start = format!("work/{dir}/");
        let names = store.names().into_iter();
        let below = names.filter_map(|name| Some((name.strip_prefix(&start)?.to_owned(), name)));
        below.map(|(below, name)| (below, store.get(&name).expect("it is there").to_vec())).collect()
    }
}

/// How a failure of `operation` is to look.
fn ways(operation: Operation) -> &'static [Failure] {
    match operation {
        Operation::Open | Operation::Stat | Operation::List => &[EIO, EACCES],
        Operation::Read => &[EIO, Failure::Short],
        Operation::Rename | Operation::Remove | Operation::Sync => &[EIO],
        Operation::Create | Operation::Write | Operation::Commit => &[EIO, Failure::Kind(Io::StorageFull)],
    }
}

#[test]
fn every_call_of_the_whole_program_may_fail() {
    let merge = InMemory::new();
    let memory = merge.store();
    let store = Faulty::new(memory.clone());
    let counted = store.clone();
    merge.merge(store).expect("it merges in memory");
    let whole = InMemory::files(&memory, "output");
    assert!(whole.contains_key("shardfold.json") && whole.contains_key("config.json"), "{:?}", whole.keys());
    assert!(InMemory::files(&memory, "output.partial").is_empty());

    let mut tried = 0;
    for operation in Operation::ALL {
        let count = counted.count(operation);
        assert!(count > 0, "{operation:?} is never done");
        for nth in 1..=count {
            // The ways take turns; all of them are had on the first and the last, where most is special.
            let (ways, all) = (ways(operation), nth == 1 || nth == count);
            for (_, &way) in ways.iter().enumerate().filter(|(i, _)| all || nth as usize % ways.len() == *i) {
                fails_whole(&merge, &whole, (operation, nth, way));
                tried += 1;
            }
        }
        println!("{operation:?}: {count} calls");
    }
    println!("{tried} failures tried, every one at another call or in another way");
}

/// One failure, and a run after it without any.
fn fails_whole(merge: &InMemory, whole: &BTreeMap<String, Vec<u8>>, failure: (Operation, u64, Failure)) {
    let what = format!("{failure:?}");
    let memory = merge.store();
    let store = Faulty::new(memory.clone()).failing(failure.0, failure.1, failure.2);
    let error = merge.merge(store).expect_err(&what);
    assert!(error.to_string().contains("`work"), "{what} names no file: {error:?}");
    for dir in ["base", "adapter"] {
        let now = InMemory::files(&memory, dir).into_iter();
        let kept = now.map(|(name, bytes)| (format!("work/{dir}/{name}"), bytes));
        let was = merge.inputs.iter().filter(|(name, _)| name.starts_with(&format!("work/{dir}/")));
        assert!(kept.eq(was.map(|(name, bytes)| (name.clone(), bytes.clone()))), "{what}: {dir} has changed");
    }
    let output = InMemory::files(&memory, "output");
    assert!(output.is_empty() || output == *whole, "{what}: half an output is seen");
    let summary = merge.merge(memory.clone()).unwrap_or_else(|error| panic!("after {what}: {error:?}"));
    let is_whole = InMemory::files(&memory, "output") == *whole;
    assert!(is_whole && InMemory::files(&memory, "output.partial").is_empty(), "after {what}");
    assert_eq!(summary.state == "already done", !output.is_empty(), "after {what}");
}
