//! The move of a result into place, file by file: what stops it, and what the next run makes of it.

use std::fs;

use shardfold::testing::{Failure, Operation};
use shardfold::{Cancel, Code};

use super::trial::{Trial, Variant, Way};

/// How often a merge renames something before it moves the files of its result, of which there are six.
fn renames_before(trial: &Trial) -> u64 {
    trial.reset();
    let counted = trial.other_store();
    trial.merge_as(&counted, &trial.variant(&trial.store)).unwrap();
    counted.count(Operation::Rename) - 6
}

/// Bytes of the result's shards, none of which is made again.
fn is_kept_whole(trial: &Trial) {
    let shards = trial.whole.iter().filter(|(name, _)| name.ends_with(".safetensors"));
    let bytes: usize = shards.map(|(_, bytes)| bytes.len()).sum();
    let summary = trial.succeeds();
    assert!(summary.state == "already done" || summary.kept_bytes == bytes as u64, "{summary:?}");
}

#[test]
fn a_move_stops_between_two_files_and_goes_on() {
    for way in [Way::IntoPlace, Way::FromBeside] {
        let trial = Trial::new(way);
        let before = renames_before(&trial);
        // When one is cancelled it is moved all the same, and behind the last there is nothing to stop.
        for nth in 1..6 {
            trial.reset();
            let cancel = Cancel::default();
            let store = trial.other_store().cancelling(Operation::Rename, before + nth, &cancel);
            let error =
                trial.merge_as(&store, &Variant { cancel, ..trial.variant(&trial.store) }).unwrap_err();
            assert_eq!(error.exit_code(), Code::Stopped, "{way:?} {nth}: {error:?}");
            assert!(
                error.advice().unwrap().contains("is not whole yet; run the same command again"),
                "{error:?}"
            );
            assert_eq!(store.count(Operation::Rename), before + nth, "{way:?}: nothing is moved after it");
            assert!(trial.is_none_yet() && !trial.is_untouched(), "{way:?} {nth}");
            is_kept_whole(&trial);
        }
    }
}

#[test]
fn a_move_that_fails_goes_on() {
    for way in [Way::IntoPlace, Way::FromBeside] {
        let trial = Trial::new(way);
        let before = renames_before(&trial);
        for nth in 1..=6 {
            trial.reset();
            trial.store.rearm(Some((Operation::Rename, before + nth, Failure::Errno(5))));
            assert_eq!(trial.merge().unwrap_err().exit_code(), Code::Io);
            is_kept_whole(&trial);
        }
    }
}

#[test]
fn what_cannot_be_moved_to_another_file_system_is_made_there() {
    const EXDEV: Failure = Failure::Errno(18);
    let trial = Trial::new(Way::FromBeside);
    let before = renames_before(&trial);
    trial.reset();
    trial.store.rearm(Some((Operation::Rename, before + 1, EXDEV)));
    trial.merge().unwrap_err();
    trial.store.rearm(Some((Operation::Rename, 1, EXDEV)));
    assert_eq!(trial.merge().unwrap().kept_bytes, 0);
    assert!(trial.output().as_ref() == Some(&trial.whole) && !trial.at("output.partial").exists());
}

#[test]
fn a_result_that_is_refused_after_all_takes_what_was_moved_with_it() {
    for way in [Way::IntoPlace, Way::FromBeside] {
        let trial = Trial::new(way);
        let before = renames_before(&trial);
        trial.reset();
        trial.store.rearm(Some((Operation::Rename, before + 4, Failure::Errno(5))));
        trial.merge().unwrap_err();
        let refused = Variant { expected: Some("0".repeat(64)), ..trial.variant(&trial.store) };
        trial.merge_as(&trial.other_store(), &refused).unwrap_err();
        assert!(
            trial.is_untouched(),
            "{way:?}: {:?}",
            trial.output().map(|files| files.into_keys().collect::<Vec<_>>())
        );
        trial.succeeds();
    }
}

#[test]
fn what_a_run_without_locks_left_inside_is_not_in_the_way() {
    let trial = Trial::unlocked(Way::IntoPlace);
    trial.reset();
    let left = trial.at("output/.shardfold.partial-1-a-0");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("config.json"), "of a run that may still be at work").unwrap();
    trial.succeeds();
    assert_eq!(fs::read_dir(&left).unwrap().count(), 1);
}
