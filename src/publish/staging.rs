//! The directory in which a result is made before it is seen, with its journal and its lock.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::error::kind::ErrorKind;
use crate::error::output::OutputError;
use crate::error::{Error, Result};
use crate::pipeline::milestone::{Milestone, ShardDone, whole_shards};
use crate::pipeline::progress::Snapshot;
use crate::plan::output_files::{JOB, PARTS};
use crate::publish::journal::{HeadLine, JOURNAL, Journal, JournalWork, is_unfinished};
use crate::publish::kept::{Earlier, Kept};
use crate::publish::leftovers::{Leftovers, others, top};
use crate::publish::probe::unwritable;
use crate::publish::provenance::Provenance;
use crate::publish::way::Publish;
use crate::storage::location::Location;
use crate::storage::store::{EntryKind, HeldDir, Lock, Store};

/// A staging directory that this process holds.
pub(crate) struct Staging {
    /// What files are written to: by its handle, where it is held.
    dir: Location,
    /// The same by its name.
    place: Location,
    held: Option<Box<dyn HeldDir>>,
    way: &'static dyn Publish,
    /// Where its journal lies, if not in it: then it is the output itself.
    state: Option<Location>,
    /// Names of all files of the output.
    planned: Vec<String>,
    /// Held until the result is shown: the journal goes before that.
    lock: Lock,
    journal: Journal,
    /// The shards that this run wrote.
    shards: Vec<ShardDone>,
    /// What an earlier run left.
    kept: Kept,
    /// Whether a later run of the same plan would find it.
    is_shared: bool,
    /// Whether the parts that it is joined from lie in it.
    has_parts: bool,
}

/// Where a result is staged.
#[derive(Clone, Copy)]
pub(crate) struct StagingPlace<'p> {
    /// The directory.
    pub(crate) dir: &'p Location,
    /// Where its journal lies, if the result is made in place.
    pub(crate) state: &'p Location,
    /// The output.
    pub(crate) output: &'p Location,
    /// Whether nothing was there.
    pub(crate) is_new: bool,
}

/// Whose a staging directory is.
pub(crate) enum Owner {
    /// Nobody's: there is nothing in it, or nothing but a beginning.
    Nobody,
    /// The merge of the plan with this digest.
    Plan(String),
    /// Nothing there tells.
    Unknown,
}

/// Whose the staging directory `dir` is. `is_planned` tells the names of the output that it is looked at for.
///
/// # Errors
/// As [`Store::stat`], [`Store::list`] and [`Location::read_small`].
pub(crate) fn owner(dir: &Location, is_planned: &dyn Fn(&str) -> bool) -> Result<Owner> {
    match HeadLine::read(dir)? {
        HeadLine::Plan(digest) => return Ok(Owner::Plan(digest)),
        HeadLine::Torn => {
            let is_ours = |name: &str| is_planned(name) || name.starts_with('.') && name.ends_with(".tmp");
            let is_nobodys = others(dir)?.iter().all(|entry| is_ours(&entry.name));
            return Ok(if is_nobodys { Owner::Nobody } else { Owner::Unknown });
        }
        HeadLine::Unknown => return Ok(Owner::Unknown),
        HeadLine::Absent => {}
    }
    // The journal goes just before the result is shown: what is whole and not yet shown has its record.
    if let Some(record) = Provenance::read(dir)? {
        return Ok(Owner::Plan(record.plan));
    }
    let is_begun = match dir.stat("")?.map(|stat| stat.kind) {
        None => true,
        Some(EntryKind::Dir) => is_beginning(dir)?,
        Some(_) => false,
    };
    if is_begun {
        return Ok(Owner::Nobody);
    }
    // Another part of the same merge may have begun it since there was no journal.
    Ok(match HeadLine::read(dir)? {
        HeadLine::Plan(digest) => Owner::Plan(digest),
        _ => Owner::Unknown,
    })
}

/// Whether nothing is in `dir` but what comes before a journal: its beginning, or what its parts are to share.
fn is_beginning(dir: &Location) -> Result<bool> {
    for entry in dir.list("")? {
        let is_begun =
            if entry.name == PARTS { is_begun_for_parts(dir)? } else { is_unfinished(&entry.name) };
        if !is_begun {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the staging directory `dir` holds more than a journal, which alone is no work of anybody.
///
/// # Errors
/// As [`Store::list`].
pub(crate) fn holds_work(dir: &Location) -> Result<bool> {
    for entry in others(dir)? {
        let is_begun =
            if entry.name == PARTS { is_begun_for_parts(dir)? } else { is_unfinished(&entry.name) };
        if !is_begun {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether nothing lies with the parts yet but what they share.
fn is_begun_for_parts(dir: &Location) -> Result<bool> {
    let is_shared = |name: &str| name == JOB || name.starts_with('.') && name.ends_with(".tmp");
    Ok(dir.list(PARTS)?.iter().all(|below| is_shared(&below.name)))
}

impl Staging {
    /// Makes the directory if it is not there, holds it for the output, takes its lock, and clears what an earlier run left in it
    /// but for what it can go on behind.
    ///
    /// # Errors
    /// [`OutputError::OutputInUse`], [`OutputError::OutputUnwritable`], [`OutputError::StagingForeign`]; as [`Store::list`] and
    /// [`Earlier::find`].
    pub(crate) fn begin(
        way: &'static dyn Publish,
        StagingPlace { dir: place, state, output, is_new }: StagingPlace<'_>,
        earlier: &Earlier<'_>,
        tick: &mut dyn FnMut(&Snapshot),
    ) -> Result<Staging> {
        let unwritable = |error: Error| unwritable(place, error);
        let state = way.is_in_place().then(|| state.clone());
        check_own(state.as_ref().unwrap_or(place))?;
        let held = place.held_for(output).map_err(unwritable).map_err(explained)?;
        let by_handle = held.as_ref().map(|held| Location::of_store(held.files()));
        let dir = &by_handle.unwrap_or_else(|| place.clone());
        let journal_dir = state.as_ref().unwrap_or(dir);
        let lock = journal_dir.lock("").map_err(unwritable)?;
        check_named(held.as_deref(), place)?;
        // Whoever had the lock before may have finished it.
        if state.is_some() && Provenance::read(dir)?.is_some() {
            return Err(finished_meanwhile(output));
        }
        let kept = earlier.find((dir, journal_dir), tick)?;
        let counted = if kept.is_counted { kept.milestones.clone() } else { Vec::new() };
        let work = JournalWork {
            base: earlier.base.map(<[_]>::to_vec),
            merge: Some(Provenance::new(earlier.plan, earlier.digest, Vec::new(), Vec::new())),
            milestones: counted,
            is_new,
            parts: earlier.parts,
        };
        let journal = Journal::begin(journal_dir, earlier.digest, &work).map_err(unwritable)?;
        let planned = earlier.plan.output_files().iter().map(|file| file.name.to_owned()).collect();
        let staging = Staging {
            dir: dir.clone(),
            place: place.clone(),
            held,
            way,
            state,
            planned,
            lock,
            journal,
            shards: Vec::new(),
            kept,
            is_shared: true,
            has_parts: earlier.parts.is_some(),
        };
        staging.clear().map_err(unwritable)?;
        Ok(staging)
    }

    /// Removes what an earlier run left and this one does not go on behind.
    fn clear(&self) -> Result<()> {
        let kept = self.kept.files();
        let leftovers = Leftovers::new(&kept, &self.planned).keeping_parts(self.has_parts);
        if self.state.is_none() {
            return leftovers.clear(&self.dir, &self.place);
        }
        let mut others = self.planned.iter().filter(|name| !leftovers.is_kept(name));
        others.try_for_each(|name| self.dir.remove(name))
    }

    /// The same under a name that no other run finds.
    pub(crate) fn unshared(self) -> Staging {
        Staging { is_shared: false, ..self }
    }

    /// Whether a later run of the same plan would find it.
    pub(crate) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Whether a later run of the same plan will find it: its journal lasts, and is still there. One that cannot be looked at now
    /// may be looked at then.
    pub(crate) fn is_found_again(&self) -> bool {
        self.is_shared && self.journal.is_there().unwrap_or(true)
    }

    /// The directory, by its handle where it is held.
    pub(crate) fn dir(&self) -> &Location {
        &self.dir
    }

    /// Where files are written.
    pub(crate) fn store(&self) -> Location {
        self.way.store(&self.dir)
    }

    /// How it becomes visible.
    pub(crate) fn way(&self) -> &'static dyn Publish {
        self.way
    }

    /// What an earlier run left, which is gone on behind.
    pub(crate) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Bytes on the disk that were there before.
    ///
    /// # Errors
    /// As [`Store::stat`].
    pub(crate) fn kept_bytes_on_disk(&self) -> Result<u64> {
        let files = self.kept.files();
        let sizes = files.iter().map(|name| Ok(self.dir.stat(name)?.map_or(0, |stat| stat.bytes)));
        sizes.sum()
    }

    /// Records that something is whole and will last.
    ///
    /// # Errors
    /// [`StorageError::Write`](crate::error::storage::StorageError::Write).
    pub(crate) fn record(&mut self, milestone: &Milestone) -> Result<()> {
        self.journal.append(milestone)?;
        self.shards.extend(milestone.shard().cloned());
        Ok(())
    }

    /// The shards that are whole, in order.
    pub(crate) fn shards(&self) -> Vec<ShardDone> {
        whole_shards(&self.kept.milestones).chain(&self.shards).cloned().collect()
    }

    /// Throws away all that is staged.
    pub(crate) fn discard(self) {
        // Nothing is lost if this fails: the next run clears it.
        let Some(state) = &self.state else {
            if check_named(self.held.as_deref(), &self.place).is_ok() {
                let _ = self.place.remove_dir("");
            }
            return;
        };
        // By its journal the next run knows what could not be removed.
        if self.remove_planned() {
            let _ = state.remove_dir("");
        }
    }

    /// Removes the files of a result that is made in place, and the directories that they leave empty. Returns whether all files
    /// are gone.
    fn remove_planned(&self) -> bool {
        let (mut dirs, mut is_gone) = (BTreeSet::new(), true);
        for name in &self.planned {
            is_gone &= self.dir.remove(name).is_ok();
            dirs.extend(name.match_indices('/').map(|(end, _)| &name[..end]));
        }
        for dir in dirs.iter().rev() {
            let _ = self.dir.remove_empty_dir(dir);
        }
        is_gone
    }

    /// Takes the journal out of what is staged, which is then only the result, and hands its lock on. `files` are all that
    /// must be there, with their lengths: another run may have written there, where locks are refused or lie. Others may do no
    /// more with them than `access` says, bits of a mode.
    ///
    /// # Errors
    /// [`OutputError::StagingDisturbed`], [`OutputError::OutputInUse`]; as [`Store::remove`] and [`Store::sync`].
    pub(crate) fn finish(self, files: &[(String, u64)], access: u32) -> Result<(Location, Lock)> {
        let Staging { dir, place, held, state, lock, journal, has_parts, .. } = self;
        check_staged(&dir, files, (state.is_none(), has_parts))?;
        journal.remove()?;
        held.as_ref().map_or(Ok(()), |held| held.open_up(access))?;
        if has_parts {
            // They know of the merge what its journal did, and are the last to go.
            dir.remove_dir(PARTS)?;
        }
        match state {
            None => dir.sync("")?,
            Some(state) => state.remove_dir("")?,
        }
        check_named(held.as_deref(), &place)?;
        Ok((place, lock))
    }
}

/// Fails unless `dir` is this user's own, and no link.
///
/// # Errors
/// [`OutputError::StagingForeign`]; as [`Store::is_own_dir`].
pub(crate) fn check_own(dir: &Location) -> Result<()> {
    if dir.is_own_dir("")? {
        return Ok(());
    }
    Err(explained(OutputError::StagingForeign { path: dir.path() }.into()))
}

/// The refusal of an output that another process has finished since it was looked at.
pub(crate) fn finished_meanwhile(output: &Location) -> Error {
    let error = Error::new(OutputError::OutputInUse { path: output.path() });
    error.hint("it has finished just now: run the command again to see whether it is the same merge")
}

/// What helps where a staging directory is somebody else's.
fn explained(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Output(OutputError::StagingForeign { .. }) => {
            error.hint("remove it if nobody needs it, or name another output")
        }
        _ => error,
    }
}

/// Fails if something else has the name of what is held.
fn check_named(held: Option<&dyn HeldDir>, place: &Location) -> Result<()> {
    if held.is_none_or(HeldDir::is_still_named) {
        return Ok(());
    }
    Err(OutputError::OutputInUse { path: place.path() }.into())
}

/// Fails unless `dir` holds these files and, if it is of this run `alone`, no other but for the journal and `has_parts`, those that
/// they were joined from.
fn check_staged(dir: &Location, files: &[(String, u64)], (alone, has_parts): (bool, bool)) -> Result<()> {
    let disturbed = |file: &str| {
        let (path, file) = (dir.path(), file.to_owned());
        Error::new(OutputError::StagingDisturbed { path, file }).hint("let one merge at a time write there")
    };
    let found = dir.files(&|_| false)?;
    let there: HashMap<&str, u64> = found.iter().map(|file| (file.name.as_str(), file.bytes)).collect();
    let known: HashSet<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    if let Some((name, _)) = files.iter().find(|(name, bytes)| there.get(name.as_str()) != Some(bytes)) {
        return Err(disturbed(name));
    }
    // NFS keeps what was removed while it was open.
    let is_known = |name: &str| {
        let is_part = has_parts && top(name) == PARTS;
        name == JOURNAL || name.starts_with(".nfs") || known.contains(name) || is_part
    };
    let other = found.iter().find(|file| alone && !is_known(&file.name));
    other.map_or(Ok(()), |file| Err(disturbed(&file.name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Cancel;
    use crate::plan::out_tensor::{CopiedFile, Plan, Role};
    use crate::publish::rename::Rename;
    use crate::publish::write_once::WriteOnce;
    use crate::storage::files::write_small;
    use crate::storage::memory::Memory;

    fn nothing_earlier<'e>(plan: &'e Plan, cancel: &'e Cancel) -> Earlier<'e> {
        Earlier {
            plan,
            digest: "plan",
            base: None,
            is_base_older: &|_| Ok(false),
            trusts_journal: false,
            parts: None,
            cancel,
        }
    }

    #[test]
    fn only_what_this_run_wrote_is_published() {
        let files = [("a".to_owned(), 1), ("b/c".to_owned(), 2)];
        let plan = Plan::default();
        let finish = |change: &dyn Fn(&Location)| {
            let dir = Location::new(Memory::new()).join("staging");
            let (cancel, plan) = (Cancel::default(), &plan);
            let earlier = nothing_earlier(plan, &cancel);
            let place = StagingPlace { dir: &dir, state: &dir, output: &dir, is_new: true };
            let staging = Staging::begin(&Rename, place, &earlier, &mut |_| {}).unwrap();
            write_small(&dir, "a", b"1").unwrap();
            write_small(&dir, "b/c", b"22").unwrap();
            change(&dir);
            staging.finish(&files, 0o666).map(drop)
        };
        finish(&|_| {}).unwrap();
        finish(&|dir| write_small(dir, ".nfs000012", b"").unwrap()).unwrap();
        let changes: [&dyn Fn(&Location); 3] =
            [&|dir| dir.remove("a").unwrap(), &|dir| write_small(dir, "b/c", b"3").unwrap(), &|dir| {
                write_small(dir, ".a.1-0.tmp", b"").unwrap()
            }];
        for change in changes {
            let error = finish(change).unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::Output(OutputError::StagingDisturbed { .. })),
                "{error:?}"
            );
        }
        // Begun again by a run that does not know of this one.
        let other = "{\"shardfold\":\"0.1.0\",\"plan\":\"plan\",\"run\":\"another\"}\n";
        let error = finish(&|dir| write_small(dir, JOURNAL, other.as_bytes()).unwrap()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Output(OutputError::OutputInUse { .. })), "{error:?}");
    }

    #[test]
    fn what_is_written_in_place_is_held_and_goes_whole() {
        let copied = |name: &str| CopiedFile { name: name.to_owned(), bytes: 1, beside: Role::Base };
        let plan = Plan { copied: vec![copied("a"), copied("b/c/d")], ..Plan::default() };
        let folder = tempfile::tempdir().unwrap();
        let all = Location::of_path(folder.path());
        let begin = |name: &str| {
            let (cancel, plan) = (Cancel::default(), &plan);
            let earlier = nothing_earlier(plan, &cancel);
            let (dir, state) = (all.join(name), all.join("state"));
            let place = StagingPlace { dir: &dir, state: &state, output: &dir, is_new: true };
            Staging::begin(&WriteOnce, place, &earlier, &mut |_| {}).unwrap()
        };
        let staging = begin("output");
        ["a", "b/c/d"].iter().for_each(|name| write_small(&staging.store(), name, b"1").unwrap());
        staging.discard();
        assert!(all.list("output").unwrap().is_empty() && all.stat("state").unwrap().is_none());
        // Another directory gets its name meanwhile: nothing of that is touched or taken for the result.
        let staging = begin("output");
        all.rename_dir("output", "away").unwrap();
        write_small(&all, "output/x", b"").and_then(|()| all.remove("output/x")).unwrap();
        write_small(&staging.store(), "a", b"1").unwrap();
        let error = staging.finish(&[("a".to_owned(), 1)], 0o666).map(drop).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Output(OutputError::OutputInUse { .. })), "{error:?}");
        assert!(all.list("output").unwrap().is_empty() && all.has_file("away/a").unwrap());
    }
}
