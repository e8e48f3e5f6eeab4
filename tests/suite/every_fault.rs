//! Every call to a store, failing in every way that fits it, in each way of publishing: one clear error, nothing half, and the same
//! command goes on.

use std::error::Error as _;
use std::iter::successors;

use shardfold::testing::{Failure, Faulty, Operation};
use shardfold::{Code, Error, ErrorKind, Folder, OutputError, Result, Summary};

use super::trial::{Trial, Way, quiet};

/// A call of a kind, and what fails it.
type Fault = (Operation, u64, Cause);

/// How a call fails, with what the system calls it.
type Cause = (Failure, &'static str);

const ENOSPC: Cause = (Failure::Errno(28), "No space left on device");
const EIO: Cause = (Failure::Errno(5), "Input/output error");
const EDQUOT: Cause = (Failure::Errno(122), "quota exceeded");
const EFBIG: Cause = (Failure::Errno(27), "File too large");
const EMFILE: Cause = (Failure::Errno(24), "Too many open files");
const EACCES: Cause = (Failure::Errno(13), "Permission denied");
/// A file that ends early, and a disk that takes half and no more.
const ENDS: Cause = (Failure::Short, "its header promises");
const HALF: Cause = (Failure::Short, "write zero");

/// The causes that a call may have.
fn causes(operation: Operation) -> &'static [Cause] {
    match operation {
        Operation::Open | Operation::List => &[EIO, EMFILE, EACCES],
        Operation::Read => &[EIO, ENDS],
        Operation::Stat => &[EIO, EACCES],
        Operation::Create => &[ENOSPC, EIO, EDQUOT, EFBIG, EMFILE],
        Operation::Write => &[ENOSPC, EIO, EDQUOT, EFBIG, HALF],
        Operation::Commit => &[ENOSPC, EIO, EDQUOT, EFBIG],
        Operation::Rename | Operation::Sync => &[ENOSPC, EIO, EDQUOT],
        Operation::Remove => &[EIO],
    }
}

/// What failures came to.
#[derive(Default)]
struct Count {
    /// All of them.
    failed: u64,
    /// Those that were of no matter: the result was whole all the same.
    harmless: u64,
}

impl Count {
    fn text(&self, calls: &[(Operation, u64)]) -> String {
        let Count { failed, harmless } = self;
        let calls: u64 = calls.iter().map(|(_, count)| count).sum();
        format!("{failed} failures at {calls} calls, {harmless} of no matter")
    }

    /// How a merge ended with a failure, and the same command after it without any.
    fn ended(&mut self, trial: &Trial, (operation, nth, cause): Fault, result: Result<Summary>) {
        let what = format!("{operation:?} {nth} with {cause:?}");
        self.failed += 1;
        match result {
            Ok(_) => self.harmless += 1,
            Err(error) => is_clear(trial, &error, (operation, nth, cause)),
        }
        assert!(trial.has_its_inputs(), "{what}: an input has changed");
        assert!(trial.is_whole() || trial.is_none_yet(), "{what}: half an output is seen");
        trial.succeeds();
        trial.reset();
    }
}

/// Fails unless an error is one, names file, place and cause, and ends as it should.
fn is_clear(trial: &Trial, error: &Error, (operation, nth, (_, text)): Fault) {
    let what = format!("{operation:?} {nth} with {text}: {error:?}");
    let folder = trial.at("base");
    let folder = folder.parent().unwrap().to_str().unwrap();
    let causes: Vec<String> =
        successors(error.source(), |cause| (*cause).source()).map(ToString::to_string).collect();
    let told = format!("{error}: {}", causes.join(": "));
    assert_eq!(error.each().len(), 1, "several errors: {what}");
    assert!(error.to_string().contains(folder), "no file is named: {what}");
    assert!(told.contains(text), "another cause: {what}");
    let has_place = matches!(operation, Operation::Read | Operation::Write);
    assert!(!has_place || told.contains(" at byte "), "no place is told: {what}");
    let is_refused = matches!(error.kind(), ErrorKind::Output(OutputError::OutputUnwritable { .. }));
    let code = if is_refused { Code::Output } else { Code::Io };
    assert_eq!(error.exit_code(), code, "another exit code: {what}");
}

/// Fails every call to what the output and its journal lie in, and says how many failures that were.
fn fail_everywhere(trial: &Trial) -> String {
    trial.reset();
    trial.store.rearm(None);
    trial.merge().unwrap();
    trial.reset();
    let calls = Operation::ALL.map(|operation| (operation, trial.store.count(operation)));
    let mut all = Count::default();
    for (operation, nth, cause) in faults(&calls) {
        trial.store.rearm(Some((operation, nth, cause.0)));
        let result = trial.merge();
        all.ended(trial, (operation, nth, cause), result);
    }
    all.text(&calls)
}

/// Every call, with each of its causes.
fn faults(calls: &[(Operation, u64)]) -> Vec<Fault> {
    let each = |&(operation, count): &(Operation, u64)| {
        (1..=count).flat_map(move |nth| causes(operation).iter().map(move |&cause| (operation, nth, cause)))
    };
    calls.iter().flat_map(each).collect()
}

#[test]
fn any_call_may_fail_where_a_result_is_renamed() {
    println!("renamed: {}", fail_everywhere(&Trial::new(Way::Renamed)));
}

#[test]
fn any_call_may_fail_where_a_result_is_moved_into_place() {
    println!("moved into place: {}", fail_everywhere(&Trial::new(Way::IntoPlace)));
}

#[test]
fn any_call_may_fail_where_a_result_is_moved_from_beside() {
    println!("moved from beside: {}", fail_everywhere(&Trial::new(Way::FromBeside)));
}

#[test]
fn any_call_may_fail_where_a_result_is_written_once() {
    println!("written once: {}", fail_everywhere(&Trial::new(Way::Once)));
}

#[test]
fn any_call_may_fail_where_nothing_can_be_locked() {
    for way in [Way::Renamed, Way::IntoPlace, Way::FromBeside, Way::Once] {
        println!("{way:?} without locks: {}", fail_everywhere(&Trial::unlocked(way)));
    }
}

#[test]
fn any_call_to_the_inputs_may_fail() {
    let trial = Trial::new(Way::Renamed);
    let run = |store: &Faulty<Folder>| {
        let prepared = trial.prepare(store, &trial.variant(&trial.store))?;
        trial.merge_telling(&prepared, &trial.store, quiet().as_mut())
    };
    trial.reset();
    trial.store.rearm(None);
    let store = trial.other_store();
    run(&store).unwrap();
    trial.reset();
    let calls = Operation::ALL.map(|operation| (operation, store.count(operation)));
    let mut all = Count::default();
    for (operation, nth, cause) in faults(&calls) {
        let failing = trial.other_store().failing(operation, nth, cause.0);
        all.ended(&trial, (operation, nth, cause), run(&failing));
    }
    println!("inputs: {}", all.text(&calls));
}
