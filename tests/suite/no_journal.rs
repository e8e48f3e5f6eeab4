//! Results written in place whose journal cannot be kept, or is gone when it is needed: nothing stays that nobody goes on with.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use shardfold::testing::{Failure, Operation};
use shardfold::{Code, Event, Folder, Location, Reporter};

use super::support::ran;
use super::trial::{Trial, Variant, Way, quiet};
use super::work::Work;

const EIO: Failure = Failure::Errno(5);
const ENOSPC: Failure = Failure::Errno(28);
/// Which write of the output's store is that of the last shard.
const LAST_SHARD: u64 = 11;

/// Fails every write of a merge with journals in `state`, each followed by the same command without failures.
fn leaves_nothing(trial: &Trial, state: Option<Location>) {
    let variant = Variant { state, ..trial.variant(&trial.store) };
    let counted = trial.other_store();
    trial.reset();
    trial.merge_as(&counted, &variant).unwrap();
    for operation in [Operation::Write, Operation::Commit, Operation::Create] {
        for nth in 1..=counted.count(operation) {
            trial.reset();
            let store = trial.other_store().failing(operation, nth, ENOSPC);
            // A lock that cannot be had is not missed.
            let Err(error) = trial.merge_as(&store, &variant) else { continue };
            assert!(matches!(error.exit_code(), Code::Io | Code::Output), "{error:?}");
            assert!(trial.is_untouched(), "{operation:?} {nth}: something is left");
            trial.merge_as(&trial.other_store(), &variant).unwrap();
            assert!(trial.output().as_ref() == Some(&trial.whole), "after {operation:?} {nth}");
        }
    }
}

#[test]
fn without_a_place_for_journals_nothing_is_left_in_place() {
    leaves_nothing(&Trial::new(Way::Once), None);
}

#[test]
fn where_no_journal_can_be_kept_nothing_is_left_in_place() {
    let trial = Trial::new(Way::Once);
    fs::write(trial.at("file"), "no directory").unwrap();
    leaves_nothing(&trial, Some(Location::of_path(trial.at("file/state"))));
}

/// A merge that failed when a shard of it was whole: by its journal the next run goes on.
fn interrupted() -> Trial {
    let trial = Trial::new(Way::Once);
    trial.reset();
    trial.store.rearm(Some((Operation::Write, LAST_SHARD, ENOSPC)));
    trial.merge().unwrap_err();
    assert_eq!(trial.output().unwrap().len(), 1, "one shard of two is whole");
    trial
}

#[test]
fn what_was_finished_stays_where_its_journal_cannot_be_written_again() {
    let trial = interrupted();
    let changes = [Operation::Create, Operation::Write, Operation::Commit, Operation::Sync];
    let all = changes.iter().flat_map(|&operation| (1..100).map(move |nth| (operation, nth)));
    let failing = all.fold(trial.other_store(), |store, (what, nth)| store.failing(what, nth, ENOSPC));
    let error = trial.merge_as(&trial.other_store(), &trial.variant(&failing)).unwrap_err();
    assert!(error.to_string().contains("cannot "), "{error:?}");
    assert_eq!(trial.output().unwrap().len(), 1, "{error:?}");
    assert!(trial.succeeds().kept_bytes > 0);
}

#[test]
fn what_cannot_be_removed_keeps_its_journal() {
    let trial = interrupted();
    let refused = Variant { expected: Some("0".repeat(64)), ..trial.variant(&trial.other_store()) };
    // The removals of a result that is thrown away, behind those of the beginning.
    let counted = trial.other_store();
    trial.merge_as(&counted, &refused).unwrap_err();
    assert!(trial.is_untouched());
    for nth in 1..=counted.count(Operation::Remove) {
        trial.reset();
        let store = trial.other_store().failing(Operation::Remove, nth, EIO);
        trial.merge_as(&store, &refused).unwrap_err();
        trial.succeeds();
    }
}

#[test]
fn a_journal_that_goes_while_it_is_needed_leaves_nothing() {
    let trial = Trial::new(Way::Once);
    trial.reset();
    let store = trial.other_store().failing(Operation::Write, LAST_SHARD, ENOSPC);
    let prepared = trial.prepare(&Folder::new(trial.at("")), &trial.variant(&trial.store)).unwrap();
    // The budget is told when it has begun.
    let mut reporter = Forgetting(trial.at("state"));
    trial.merge_telling(&prepared, &store, &mut reporter).unwrap_err();
    assert!(!trial.at("state").exists() && trial.is_untouched());
    trial.succeeds();
}

/// Removes a directory when a run begins.
struct Forgetting(PathBuf);

impl Reporter for Forgetting {
    fn event(&mut self, event: &Event<'_>) {
        if matches!(event, Event::Budget { .. }) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }
}

#[test]
fn an_output_that_an_interrupted_run_made_goes_with_what_is_in_it() {
    // Before anything of it was written, and when a shard of it is whole.
    for nth in 1..=LAST_SHARD {
        let trial = Trial::new(Way::Once);
        trial.reset();
        trial
            .merge_as(
                &trial.other_store().failing(Operation::Write, nth, ENOSPC),
                &trial.variant(&trial.store),
            )
            .unwrap_err();
        assert!(trial.output().is_none_or(|files| !files.is_empty()), "{nth}: an empty directory is left");
        let refused = Variant { expected: Some("0".repeat(64)), ..trial.variant(&trial.store) };
        trial.merge_as(&trial.other_store(), &refused).unwrap_err();
        assert!(trial.is_untouched(), "{nth}");
    }
}

#[test]
fn files_without_a_journal_are_refused_with_what_helps() {
    let trial = interrupted();
    fs::remove_dir_all(trial.at("state")).unwrap();
    let error = trial.merge().unwrap_err();
    assert_eq!(error.exit_code(), Code::Output);
    assert!(error.advice().unwrap().contains("another `XDG_STATE_HOME`), or remove them"), "{error:?}");
    assert_eq!(trial.output().unwrap().len(), 1);
}

#[test]
fn the_result_of_another_merge_is_safe_from_an_old_journal() {
    let trial = interrupted();
    // Meanwhile another merge, which knows of no such journal, has made its result there.
    fs::remove_dir_all(trial.at("output")).unwrap();
    let other = trial.prepare_scaled(0.5).unwrap();
    trial.merge_telling(&other, &trial.other_store(), quiet().as_mut()).unwrap();
    let made = trial.output();
    let error = trial.merge().unwrap_err();
    assert_eq!(error.exit_code(), Code::Output, "{error:?}");
    assert!(trial.output() == made);
}

#[test]
fn the_command_tells_that_no_journal_is_kept_and_works_again() {
    let work = Work::demo();
    let mut merge = work.command(&["--refuse-renames"]);
    merge.env("XDG_STATE_HOME", "/dev/null/state");
    let mut limited = Command::new("sh");
    // A shard has more than 100 blocks.
    limited.args(["-c", "ulimit -f 100; exec \"$0\" \"$@\""]).arg(merge.get_program()).args(merge.get_args());
    let failed = ran(limited.env("XDG_STATE_HOME", "/dev/null/state").output().unwrap());
    assert_eq!(failed.code, 74, "{}", failed.err);
    for text in ["no journal of `", "a run that fails removes what it wrote", "File too large"] {
        assert!(failed.err.contains(text), "no `{text}` in {}", failed.err);
    }
    assert!(!work.output.exists());
    let again = ran(merge.output().unwrap());
    assert_eq!(again.code, 0, "{}", again.err);
}
