//! From a request to a merge that is planned and scheduled: headers and adapters are read, nothing is written.

use std::sync::Arc;

use crate::cancel::Cancel;
use crate::checkpoint::diffusers::components;
use crate::checkpoint::ecosystem::Library;
use crate::checkpoint::header::lfs_pointer;
use crate::checkpoint::header_room::HeaderRoom;
use crate::error::budget::BudgetNeed;
use crate::error::request::RequestError;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::formats::lfs::is_lfs_pointer;
use crate::kernels::dispatch::Kernels;
use crate::merge::components::plan_components;
use crate::merge::inverse::Inverse;
use crate::merge::io::choose_io;
use crate::merge::memory::asked;
use crate::merge::own_part::OwnPart;
use crate::merge::planned::{PlannedMerge, plan_checkpoint};
use crate::merge::request::Request;
use crate::merge::resolve::Places;
use crate::merge::unmerge::MergedDir;
use crate::note::Note;
use crate::plan::build::Planned;
use crate::plan::out_tensor::{CopiedFile, OutHeader, OutShard, Plan, Role};
use crate::schedule::budget::{Asked, Schedule, split};
use crate::schedule::repack::{MUCH, ScratchFactors, repack_factors};
use crate::storage::io::choice::IoChoice;
use crate::storage::io::settings::Unchanged;
use crate::storage::location::Location;
use crate::storage::source::Source;
use crate::storage::store::Store;
use crate::tensor::size::flag_size;
use crate::undo::file::UndoFile;

/// A merge that is planned and scheduled.
pub struct Prepared {
    /// What it will do.
    pub plan: Arc<Plan>,
    /// The plan's digest.
    pub digest: String,
    /// How it will do it here.
    pub schedule: Schedule,
    /// Things worth saying.
    pub notes: Vec<Note>,
    /// What was decided beyond adding deltas: the plan's text tells it, a merge reports it.
    pub decisions: Vec<Note>,
    /// Why the budget is what it is.
    pub reason: String,
    /// Which way files are read and written.
    pub io: IoChoice,
    pub(crate) unchanged: Unchanged,
    /// Whether it is taken for granted that blocks can be shared.
    pub(crate) shares: bool,
    pub(crate) scratch: ScratchFactors,
    pub(crate) base_name: String,
    pub(crate) library: &'static Library,
    pub(crate) sources: Vec<Box<dyn Source>>,
    /// Where the base and the adapters are.
    pub(crate) places: Vec<Location>,
    /// The files that the plan copies, in its order.
    pub(crate) copied: Vec<Box<dyn Source>>,
    pub(crate) kernels: Kernels,
    pub(crate) allow_noop: bool,
    pub(crate) accept_loss: bool,
    /// The digest that the result must have.
    pub(crate) expected: Option<String>,
    pub(crate) trusts_journal: bool,
    /// The part that is made, if not all of the plan is.
    pub(crate) part: Option<OwnPart>,
    /// Where programs keep their state, if they have such a place.
    pub(crate) state: Option<Location>,
    /// What takes the merge back, where what undoes it is to be written.
    pub(crate) inverse: Option<Inverse>,
    /// What puts tiles right, where a merge is taken back.
    pub(crate) undo: Option<UndoFile>,
    /// Bytes from one milestone of the run to the next.
    pub(crate) stride: u64,
    pub(crate) cancel: Cancel,
}

/// Bytes of a shard that are made before they are kept: with what is under way, a run that is cut off loses less than 1 GiB.
const STRIDE: u64 = 768 << 20;

/// Reads headers and adapters, makes the plan, splits the budget.
///
/// # Errors
/// Every reason to refuse.
pub fn prepare(request: &Request) -> Result<Prepared> {
    let room = HeaderRoom::of(request.max_ram.as_ref());
    let places = Places::find(request)?.stopped_by(&request.cancel);
    let merged = MergedDir::of(request, &places.base.location)?;
    let as_merged = merged.as_ref().map(|merged| merged.request(request));
    let request = as_merged.as_ref().unwrap_or(request);
    let mut merge = planned(request, &places, &room)?;
    let undo = match merged {
        Some(merged) => {
            let (planned, undo) = merged.take_back(request, merge.planned)?;
            merge.planned = planned;
            undo
        }
        None => None,
    };
    let inverse = request.keep_undo.then(|| Inverse::of(&merge.planned.plan)).transpose()?;
    let Places { base: place, notes: found, .. } = places;
    merge.planned.notes.splice(0..0, found);
    check_converts(request, &merge.planned.plan, &place.location)?;
    Ok(Prepared { inverse, undo, ..schedule(request, merge, place.location)? })
}

/// Splits the budget for a merge that is planned, into the base at `place`.
///
/// # Errors
/// As [`split`], and for files to copy that cannot be read.
pub(crate) fn schedule(request: &Request, merge: PlannedMerge, place: Location) -> Result<Prepared> {
    let PlannedMerge { planned, sources, folders, base_name, library } = merge;
    let Planned { plan, digest, notes, decisions } = planned;
    let copied = open_copied(&plan, &place, &folders)?;
    let of_base = plan.inputs_of(Role::Base);
    // Tests that cut tiles repack all they can, so that both ways are seen to give the same bytes.
    let much = if request.hooks().forced.is_some() { 0 } else { MUCH };
    let part = request.part.map(|number| OwnPart::of(&plan, number));
    let own = part.as_ref().map_or(&*plan, |part| &part.plan);
    let (scratch, locations) = repack_factors(own, much);
    let (asked, reason) = asked(request);
    let schedule = Schedule { locations, ..split(own, &asked)? };
    check_made(&scratch, &asked)?;
    let io = choose_io(request, &schedule, &place, &sources[of_base]);
    let kernels = if request.hooks().scalar { Kernels::scalar() } else { Kernels::detect() };
    Ok(Prepared {
        plan,
        digest,
        schedule,
        notes,
        decisions,
        reason,
        io,
        unchanged: request.unchanged,
        shares: request.hooks().shares,
        scratch,
        base_name,
        library,
        sources,
        places: std::iter::once(place).chain(folders).collect(),
        copied,
        kernels,
        allow_noop: request.allow_noop,
        accept_loss: request.accept_loss,
        expected: request.expected.clone(),
        trusts_journal: request.trust_journal,
        part,
        state: request.state.clone(),
        inverse: None,
        undo: None,
        stride: request.hooks().stride.unwrap_or(STRIDE),
        cancel: request.cancel.clone(),
    })
}

/// Fails if what is held while factors are made does not fit the budget; that is given back before tiles are made.
fn check_made(scratch: &ScratchFactors, asked: &Asked) -> Result<()> {
    let held = scratch.whole_bytes();
    let needed = asked.resident.saturating_add(held).saturating_add(MADE_BESIDE);
    match &asked.max_ram {
        Some(budget) if held > 0 && needed > budget.bytes() => {
            let (budget, what) = (budget.clone(), BudgetNeed::Factors);
            let error = Error::new(RequestError::Budget { budget, needed, what });
            Err(error.hint(format!("`--max-ram {}` is enough", flag_size(needed))))
        }
        _ => Ok(()),
    }
}

/// Strips of rows while factors are made, and what the allocator keeps of them.
const MADE_BESIDE: u64 = 8 << 20;

/// The plan of a merge into one checkpoint, or into those of a pipeline.
fn planned(request: &Request, places: &Places, room: &HeaderRoom<'_>) -> Result<PlannedMerge> {
    let place = &places.base;
    let components = components(&place.location).map_err(|error| place.explain(error))?;
    if components.is_empty() {
        plan_checkpoint(request, places, room)
    } else {
        plan_components(request, places, &components, room)
    }
}

/// Without adapters something must change: files, or what is asked for.
fn check_converts(request: &Request, plan: &Plan, base: &Location) -> Result<()> {
    let is_asked = request.dtype.is_some() || request.max_shard_size.is_some() || request.template.is_some();
    let is_same = |shard: &OutShard| matches!(shard.header, OutHeader::Copied { .. });
    if !request.adapters.is_empty() || is_asked || !plan.shards.iter().all(is_same) {
        return Ok(());
    }
    let error = Error::new(RequestError::NothingToConvert { path: base.path() });
    Err(error.hint("`--dtype` sets another type, `--max-shard-size` the size of shards"))
}

/// The files that the plan copies, opened: one that cannot be read is found before anything is written.
///
/// # Errors
/// All that cannot be opened or are pointers of git-lfs, together.
pub(crate) fn open_copied(
    plan: &Plan,
    base: &Location,
    adapters: &[Location],
) -> Result<Vec<Box<dyn Source>>> {
    let (mut sources, mut errors) = (Vec::new(), Vec::new());
    for CopiedFile { name, beside, bytes } in &plan.copied {
        let dir = match beside {
            Role::Adapter(i) => &adapters[*i as usize],
            Role::Base | Role::Original | Role::Template => base,
        };
        match open_side_file(dir, name) {
            Ok(source) if source.len() != *bytes => {
                errors.push(StorageError::Changed { path: dir.path_of(name) }.into());
            }
            Ok(source) => sources.push(source),
            Err(error) => errors.push(error),
        }
    }
    Error::all(errors)?;
    Ok(sources)
}

/// Opens a side file and reads its first bytes, which some file systems refuse only then.
fn open_side_file(dir: &Location, name: &str) -> Result<Box<dyn Source>> {
    let source = dir.open(name)?;
    let mut start = [0; 32];
    let start = &mut start[..source.len().min(32) as usize];
    source.read_at(start, 0)?;
    if is_lfs_pointer(start) {
        return Err(lfs_pointer(&dir.path_of(name)));
    }
    Ok(source)
}
