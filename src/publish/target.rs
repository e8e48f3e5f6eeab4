//! An output as it is found, and what is to be done about it.

use std::collections::HashSet;

use crate::cancel::Cancel;
use crate::error::kind::ErrorKind;
use crate::error::output::OutputError;
use crate::error::parts::PartsError;
use crate::error::{Error, Result};
use crate::pipeline::progress::Snapshot;
use crate::plan::out_tensor::Plan;
use crate::publish::difference::difference;
use crate::publish::finished::Wanted;
use crate::publish::into_place::{IntoPlace, staged_in, take_back};
use crate::publish::journal::{HeadLine, JournalWork, is_of_new_output, is_of_parts, parts_of, write_shared};
use crate::publish::kept::Earlier;
use crate::publish::leftovers::top;
use crate::publish::parts::{PartsDir, PartsJob, no_renames};
use crate::publish::probe::{Ability, check_no_url, is_probe, probe_store, unshared};
use crate::publish::provenance::Provenance;
use crate::publish::rename::{Rename, staged_beside};
use crate::publish::staging::{
    Owner, Staging, StagingPlace, check_own, finished_meanwhile, holds_work, owner,
};
use crate::publish::way::{Publish, State, is_unshared};
use crate::publish::write_once::{WriteOnce, journal_of};
use crate::storage::location::Location;
use crate::storage::memory::Memory;
use crate::storage::rules::FOREIGN;
use crate::storage::store::Store;

/// Every way, in the order in which they are tried.
static WAYS: &[&dyn Publish] = &[&Rename, &IntoPlace, &WriteOnce];

/// What is to be done about an output.
pub(crate) enum Probed {
    /// It is there already: the result of the same plan, as it was written. With its record.
    AlreadyDone(Provenance),
    /// It can be made.
    Ready(OutputTarget),
}

/// How and where an output will be made.
pub(crate) struct OutputTarget {
    output: Location,
    /// The first way that serves, and where it stages.
    staging: Location,
    /// All of them, in the order in which they are tried.
    ways: Vec<(&'static dyn Publish, Location)>,
    /// Where the journal of what is made in place lies, if it can lie anywhere.
    state: Option<Location>,
    /// Whether nothing was at the output before the first run of this merge.
    is_new: bool,
    /// Whether an earlier run of this merge began it, there.
    is_begun: bool,
}

/// Looks at `output` and decides. Writes nothing.
///
/// # Errors
/// [`OutputError::OutputHolds`] if it, or what is staged for it, is something else; [`OutputError::OutputDamaged`] if it is the
/// result of this plan but not as it was written.
pub(crate) fn probe(
    output: &Location,
    wanted: &Wanted<'_>,
    tick: &mut dyn FnMut(&Snapshot),
) -> Result<Probed> {
    let (output, digest) = (output.clone(), wanted.digest);
    check_no_url(&output)?;
    let journal = wanted.state.map(|state| journal_of(&output, state));
    let state = State::of(&output)?;
    let is_new = state == State::Absent || is_ours_alone(&output, journal.as_ref());
    let target = |ways: Vec<(&'static dyn Publish, Location)>, staging: Location, is_begun| OutputTarget {
        output: output.clone(),
        staging,
        ways,
        state: journal.clone(),
        is_new,
        is_begun,
    };
    let names = wanted.plan.output_files();
    let tops: HashSet<&str> = names.iter().map(|file| top(file.name)).collect();
    let is_planned = |name: &str| tops.contains(name);
    let mut other = None;
    if state == State::Dir {
        let record = Provenance::read(&output)?;
        match record {
            Some(record) if record.plan == digest => {
                wanted.check(&output, &record, tick)?;
                return Ok(Probed::AlreadyDone(record));
            }
            // What is whole is nobody's beginning.
            Some(record) => other = difference(&record, wanted.plan),
            None => {
                if let Some(staging) = begun_inside(&output, digest, &is_planned)? {
                    check_parts(&staging, wanted)?;
                    return Ok(Probed::Ready(target(vec![(&IntoPlace, staging.clone())], staging, true)));
                }
                if is_begun_in_place(&output, journal.as_ref(), wanted)? {
                    return Ok(Probed::Ready(target(
                        vec![(&WriteOnce, output.clone())],
                        output.clone(),
                        true,
                    )));
                }
            }
        }
    }
    if matches!(state, State::Dir | State::Other) {
        return Err(held(&output, state, other, wanted)?);
    }
    // What can only be written once is not tried for more.
    let serves = |way: &&&dyn Publish| way.is_in_place() || !output.is_write_once();
    let ways = WAYS.iter().filter(serves);
    let ways: Vec<_> = ways.filter_map(|way| Some((*way, way.staging(&output, state)?))).collect();
    let Some((_, staging)) = ways.first().cloned() else { return Err(no_way(&output)?) };
    check_staged_before(&staging, wanted, &is_planned)?;
    check_parts(&staging, wanted)?;
    Ok(Probed::Ready(target(ways, staging, false)))
}

/// The refusal of an output that can be made in no way: trying says why.
fn no_way(output: &Location) -> Result<Error> {
    let dir = output.parent().unwrap_or_else(|| output.clone());
    Ok(match probe_store(&dir, output)? {
        Ability::Lacks(error) => error,
        Ability::Serves { .. } => OutputError::OutputUnwritable { path: output.path() }.into(),
    })
}

/// The refusal of an output that holds something, of the `other` merge if that is known.
fn held(output: &Location, state: State, other: Option<String>, wanted: &Wanted<'_>) -> Result<Error> {
    let error = Error::new(ErrorKind::Output(OutputError::OutputHolds { path: output.path() }));
    if other.is_none() && state == State::Dir && holds_planned_alone(output, wanted)? {
        return Ok(error.hint(
            "its files have the names of this merge's: if an interrupted run left them, go on where its journal is (another host, \
             or another `XDG_STATE_HOME`), or remove them",
        ));
    }
    let other = other.map_or_else(String::new, |other| format!("it is of another merge ({other}): "));
    Ok(error.hint(format!("{other}name an output that does not exist yet, or an empty directory")))
}

/// Fails if what is staged is of another merge.
fn check_staged_before(
    staging: &Location,
    wanted: &Wanted<'_>,
    is_planned: &dyn Fn(&str) -> bool,
) -> Result<()> {
    match owner(staging, is_planned)? {
        Owner::Nobody => return Ok(()),
        Owner::Plan(plan) if plan == wanted.digest => return Ok(()),
        Owner::Plan(_) if !holds_work(staging)? => return Ok(()),
        Owner::Plan(_) | Owner::Unknown => {}
    }
    let error = Error::new(OutputError::OutputHolds { path: staging.path() });
    let merge = JournalWork::read(staging)?.merge;
    let other = merge.and_then(|merge| difference(&merge, wanted.plan));
    let other = other.map_or_else(String::new, |other| format!(" ({other})"));
    let hint = format!("it was begun by a merge of other inputs{other}: remove it, or name another output");
    Err(error.hint(hint))
}

/// Whether a merge that is not made in parts has made something in `staging`.
fn is_begun_by_merge(staging: &Location) -> Result<bool> {
    Ok(matches!(HeadLine::read(staging)?, HeadLine::Plan(_)) && holds_work(staging)?)
}

/// Fails if what is staged of the same plan is made in another number of parts.
fn check_parts(staging: &Location, wanted: &Wanted<'_>) -> Result<()> {
    let path = || staging.path();
    if staging.stat("")?.is_none() {
        return Ok(());
    }
    match (parts_of(staging)?, wanted.parts) {
        (None, None) => Ok(()),
        // What has no journal was begun by a part, or is whole.
        (None, Some(_)) if !is_begun_by_merge(staging)? => Ok(()),
        (None, Some(_)) => Err(Error::new(PartsError::NotInParts { path: path() })
            .hint("run it again without `--part`: it goes on where it stopped; or remove the directory")),
        (Some(_), _) if !holds_work(staging)? => Ok(()),
        (Some(count), None) => Err(Error::new(PartsError::InParts { path: path(), count })
            .hint("run the parts that are missing, and then `shardfold finish`; or remove the directory")),
        (Some(found), Some(asked)) if found != asked => {
            let error = Error::new(PartsError::OtherCount { path: path(), found, asked });
            Err(error.hint("give every part the same number behind the slash, or remove the directory"))
        }
        _ => Ok(()),
    }
}

/// Whether an earlier run of the same plan began to make the output in place, and nothing else is there.
fn is_begun_in_place(output: &Location, journal: Option<&Location>, wanted: &Wanted<'_>) -> Result<bool> {
    let Some(journal) = journal else { return Ok(false) };
    if !matches!(HeadLine::read(journal)?, HeadLine::Plan(plan) if plan == wanted.digest) {
        return Ok(false);
    }
    Ok(output.list("")?.is_empty() || holds_planned_alone(output, wanted)?)
}

/// Whether files are in `output`, and none but such as the plan makes.
fn holds_planned_alone(output: &Location, wanted: &Wanted<'_>) -> Result<bool> {
    let planned = wanted.plan.output_files();
    let planned: HashSet<&str> = planned.iter().map(|file| file.name).collect();
    let is_ours = |name: &str| {
        let last = name.split('/').next_back().unwrap_or(name);
        FOREIGN.contains(&last) || is_probe(last) || planned.contains(name)
    };
    let files = output.files(&|name| FOREIGN.contains(&name))?;
    Ok(!files.is_empty() && files.iter().all(|file| is_ours(&file.name)))
}

/// Whether a journal says that an interrupted run made the directory of the output.
fn is_ours_alone(output: &Location, journal: Option<&Location>) -> bool {
    let inside = staged_in(output);
    // What cannot be looked at says nothing.
    journal.into_iter().chain([&inside]).any(|dir| is_of_new_output(dir).unwrap_or(false))
}

/// Where an earlier run of the same plan staged its result inside the output.
fn begun_inside(
    output: &Location,
    digest: &str,
    is_planned: &dyn Fn(&str) -> bool,
) -> Result<Option<Location>> {
    let staging = staged_in(output);
    if staging.stat("")?.is_none() {
        return Ok(None);
    }
    let is_ours = match owner(&staging, is_planned)? {
        Owner::Plan(plan) if plan == digest => true,
        Owner::Plan(_) if holds_work(&staging)? => false,
        // It was cut off before it began: then nothing else is there.
        Owner::Plan(_) | Owner::Nobody => holds_nothing_but(output, &staging)?,
        Owner::Unknown => false,
    };
    Ok(is_ours.then_some(staging))
}

/// Whether `output` holds nothing beside `staging`.
fn holds_nothing_but(output: &Location, staging: &Location) -> Result<bool> {
    let is_nothing = |name: &str| {
        staging.name() == Some(name) || FOREIGN.contains(&name) || is_probe(name) || is_unshared(name)
    };
    Ok(output.list("")?.iter().all(|entry| is_nothing(&entry.name)))
}

impl OutputTarget {
    /// Where the result will be.
    pub(crate) fn output(&self) -> &Location {
        &self.output
    }

    /// The directory whose file system must have room.
    pub(crate) fn dir(&self) -> Location {
        self.staging.parent().unwrap_or_else(|| self.staging.clone())
    }

    /// Begins: tries what the store can do, makes the staging directory, locks it, and looks at what an earlier run of the same
    /// plan left in it. Where nothing can be locked nobody can tell whether such a run has ended, so that the directory gets
    /// a name of its own.
    ///
    /// # Errors
    /// [`OutputError::OutputInUse`] if another process has it or had it since it was looked at,
    /// [`OutputError::OutputUnwritable`].
    pub(crate) fn begin(&self, earlier: &Earlier<'_>, tick: &mut dyn FnMut(&Snapshot)) -> Result<Staging> {
        self.begin_staging(earlier, tick).inspect_err(|_| self.remove_new())
    }

    /// Throws away what is staged. The output is then as it was.
    pub(crate) fn discard(&self, staging: Staging) {
        staging.discard();
        self.remove_new();
    }

    /// Leaves what is staged to the next run of the same plan.
    pub(crate) fn leave(&self, staging: Staging) {
        drop(staging);
        self.remove_new();
    }

    /// Removes the output if nothing was there, and nothing is in what is there now: trying, staging inside it and writing in
    /// place make it.
    fn remove_new(&self) {
        if self.is_new {
            // It is only in the way.
            let _ = self.output.remove_empty_dir("");
        }
    }

    /// Begins the directory in which the parts of the output lie, or finds it.
    ///
    /// # Errors
    /// [`PartsError::NoRenames`]; as [`OutputTarget::begin`].
    pub(crate) fn begin_parts(&self, job: &PartsJob<&Plan>, digest: &str) -> Result<PartsDir> {
        self.begin_parts_here(job, digest).inspect_err(|_| self.remove_new())
    }

    fn begin_parts_here(&self, job: &PartsJob<&Plan>, digest: &str) -> Result<PartsDir> {
        let (way, place, is_locked) = self.choose()?;
        if way.is_in_place() {
            return Err(no_renames(&self.output));
        }
        check_own(&place)?;
        if self.is_taken(way)? {
            return Err(finished_meanwhile(&self.output));
        }
        let parts = PartsDir::begin((&place, &self.output), is_locked, (job, digest))?;
        let staging = parts.staging();
        if !is_of_parts(staging, digest, job.parts)? {
            let merge = Some(Provenance::new(job.plan, digest, Vec::new(), Vec::new()));
            let (is_new, parts) = (self.is_new, Some(job.parts));
            write_shared(staging, digest, &JournalWork { merge, is_new, parts, ..JournalWork::default() })?;
        }
        Ok(parts)
    }

    /// Begins to join the parts that lie where the output is staged.
    ///
    /// # Errors
    /// As [`OutputTarget::begin`].
    pub(crate) fn begin_joining(
        &self,
        earlier: &Earlier<'_>,
        tick: &mut dyn FnMut(&Snapshot),
    ) -> Result<Staging> {
        let (way, place, _) = self.choose()?;
        if self.is_taken(way)? {
            return Err(finished_meanwhile(&self.output));
        }
        Staging::begin(way, self.place(&place, &place), earlier, tick)
    }

    fn begin_staging(&self, earlier: &Earlier<'_>, tick: &mut dyn FnMut(&Snapshot)) -> Result<Staging> {
        let (way, place, is_locked) = self.choose()?;
        let staging = if way.is_in_place() {
            self.begin_in_place(way, &place, earlier, tick)?
        } else if is_locked {
            if self.is_begun {
                let files = earlier.plan.output_files();
                let names: Vec<&str> = files.iter().map(|file| file.name).collect();
                take_back(
                    (&self.output, staged_beside(&self.output)),
                    earlier.digest,
                    &names,
                    earlier.cancel,
                )?;
            }
            Staging::begin(way, self.place(&place, &place), earlier, tick)?
        } else {
            let place = unshared(&place);
            Staging::begin(way, self.place(&place, &place), earlier, tick)?.unshared()
        };
        if self.is_taken(way)? {
            staging.discard();
            return Err(finished_meanwhile(&self.output));
        }
        if is_locked {
            self.drop_staged_beside(earlier.digest);
        }
        Ok(staging)
    }

    /// The same where the result is made in place. Where no journal of it can be kept, a later run would not know it for its own:
    /// then nothing is gone on with, and nothing is left.
    fn begin_in_place(
        &self,
        way: &'static dyn Publish,
        place: &Location,
        earlier: &Earlier<'_>,
        tick: &mut dyn FnMut(&Snapshot),
    ) -> Result<Staging> {
        let keeps =
            |state: &&Location| matches!(probe_store(state, &self.output), Ok(Ability::Serves { .. }));
        // What an earlier run left would be nobody's without its journal: that must serve.
        if let Some(state) = self.state.as_ref().filter(|state| self.is_begun || keeps(state)) {
            return Staging::begin(way, self.place(place, state), earlier, tick);
        }
        let state = Location::new(Memory::new()).join("state");
        Ok(Staging::begin(way, self.place(place, &state), earlier, tick)?.unshared())
    }

    fn place<'p>(&'p self, dir: &'p Location, state: &'p Location) -> StagingPlace<'p> {
        StagingPlace { dir, state, output: &self.output, is_new: self.is_new }
    }

    /// The first way whose calls the store has, where it stages, and whether files can be locked there.
    fn choose(&self) -> Result<(&'static dyn Publish, Location, bool)> {
        let mut refused = None;
        for (way, staging) in &self.ways {
            match way.probe(staging, &self.output)? {
                Ability::Serves { is_locked } => return Ok((*way, staging.clone(), is_locked)),
                // What the first lacks is what helps to know.
                Ability::Lacks(error) => drop(refused.get_or_insert(error)),
            }
        }
        Err(refused.unwrap_or_else(|| OutputError::OutputUnwritable { path: self.output.path() }.into()))
    }

    /// Whether another process has put something at the output since it was looked at.
    fn is_taken(&self, way: &dyn Publish) -> Result<bool> {
        if way.is_in_place() {
            // It was looked at when it was locked: now it is this run's own.
            return Ok(false);
        }
        if self.is_inside() {
            return Ok(Provenance::read(&self.output)?.is_some());
        }
        Ok(matches!(State::of(&self.output)?, State::Dir | State::Other))
    }

    fn is_inside(&self) -> bool {
        self.staging.path().starts_with(self.output.path())
    }

    /// Removes what was staged beside an output into which it could only be moved file by file, and the move was cut off.
    fn drop_staged_beside(&self, digest: &str) {
        let Some(beside) = staged_beside(&self.output).filter(|_| self.is_inside()) else { return };
        let is_same = |owner: Owner| matches!(owner, Owner::Plan(plan) if plan == digest);
        if beside.is_directory().unwrap_or(false)
            && owner(&beside, &|_| false).is_ok_and(is_same)
            && beside.lock("").is_ok_and(|lock| lock.is_held())
        {
            // It is only in the way, and the next run tries again.
            let _ = beside.remove_dir("");
        }
    }

    /// Publishes what was staged, once it is seen that all of `files` is there. Others may do no more with them than `access`
    /// says.
    ///
    /// # Errors
    /// As [`Staging::finish`] and [`Publish::publish`].
    pub(crate) fn publish(
        &self,
        staging: Staging,
        (files, access): (&[(String, u64)], u32),
        cancel: &Cancel,
    ) -> Result<()> {
        let (is_shared, way) = (staging.is_shared(), staging.way());
        let is_staged = !way.is_in_place();
        let (dir, _lock) = staging.finish(files, access)?;
        let published = way.publish(&dir, &self.output, cancel);
        // Nobody would go on with it.
        if published.is_err() && is_staged && !is_shared {
            let _ = dir.remove_dir("");
        }
        published
    }
}

/// Removes what is left beside the files of an `output` that is whole: a run was cut off when it had moved the last of them into
/// place.
pub(crate) fn drop_leftovers(output: &Location, digest: &str) {
    for left in [Some(staged_in(output)), staged_beside(output)].into_iter().flatten() {
        let is_ours = match owner(&left, &|_| false) {
            Ok(Owner::Plan(plan)) => plan == digest,
            Ok(Owner::Nobody) => true,
            Ok(Owner::Unknown) | Err(_) => false,
        };
        let is_left = left.is_directory().unwrap_or(false) && left.is_own_dir("").unwrap_or(false);
        if is_ours
            && is_left
            && holds_work(&left).is_ok_and(|holds| !holds)
            && left.lock("").is_ok_and(|lock| lock.is_held())
        {
            // It is only in the way.
            let _ = left.remove_dir("");
        }
    }
}
