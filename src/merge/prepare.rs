//! From a request to a merge that is planned and scheduled: headers and adapters are read, nothing is written.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use crate::adapters::adapter::Adapter;
use crate::adapters::dialect::Opening;
use crate::adapters::image::meet::meet;
use crate::adapters::open::open;
use crate::adapters::own_model::meet::meet_own_model;
use crate::adapters::scan::scan;
use crate::cancel::Cancel;
use crate::checkpoint::discover::Checkpoint;
use crate::checkpoint::ecosystem::{GGUF, Library};
use crate::checkpoint::header::lfs_pointer;
use crate::checkpoint::header_room::HeaderRoom;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::formats::lfs::is_lfs_pointer;
use crate::hub::resolved::Resolved;
use crate::kernels::dispatch::Kernels;
use crate::merge::io::choose_io;
use crate::merge::memory::asked;
use crate::merge::own_part::OwnPart;
use crate::merge::request::Request;
use crate::merge::resolve::{Places, explained};
use crate::note::Note;
use crate::plan::build::Planned;
use crate::plan::out_tensor::{CopiedFile, Plan, Role};
use crate::plan::planner::Planner;
use crate::publish::model_card::is_repo_id;
use crate::schedule::budget::{Schedule, split};
use crate::schedule::repack::{FactorRepack, MUCH, repack_factors};
use crate::storage::io::choice::IoChoice;
use crate::storage::io::settings::Unchanged;
use crate::storage::location::Location;
use crate::storage::source::Source;
use crate::storage::store::Store;
use crate::tensor::reference::FileId;

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
    pub(crate) repacks: Vec<FactorRepack>,
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
    let Places { base: place, beside, variant, adapters, notes: found } =
        Places::find(request)?.stopped_by(&request.cancel);
    let variant = request.variant.as_deref().or(variant.as_deref());
    let base =
        Checkpoint::open(&place, variant, &room).map_err(|error| explained(&place, &adapters, error))?;
    let (base, original) = beside_it(request, base, beside, &room)?;
    let (adapters, errors) = open_adapters(request, &adapters, &base, &room);
    Error::all(errors)?;
    let planner = planner(request, (&base, original.as_ref()), &adapters);
    let Planned { plan, digest, mut notes, decisions } =
        plan(&planner, &request.cancel).map_err(|error| place.explain(error))?;
    notes.splice(0..0, found);
    let base_name = name_of_base(planner.model(), &adapters);
    let folders: Vec<Location> = adapters.iter().map(|adapter| adapter.location.clone()).collect();
    let copied = open_copied(&plan, &place.location, &folders)?;
    let library = if base.catalogue.has_own_names() { &GGUF } else { base.config.library() };
    let of_base = plan.inputs_of(Role::Base);
    let sources = sources_of(base, adapters, original)?;
    // Tests that cut tiles repack all they can, so that both ways are seen to give the same bytes.
    let much = if request.hooks().forced.is_some() { 0 } else { MUCH };
    let part = request.part.map(|number| OwnPart::of(&plan, number));
    let own = part.as_ref().map_or(&*plan, |part| &part.plan);
    let (repacks, locations) = repack_factors(own, much);
    let (asked, reason) = asked(request);
    let schedule = Schedule { locations, ..split(own, &asked)? };
    let io = choose_io(request, &schedule, &place.location, &sources[of_base]);
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
        repacks,
        base_name,
        library,
        sources,
        places: std::iter::once(place.location).chain(folders).collect(),
        copied,
        kernels,
        allow_noop: request.allow_noop,
        accept_loss: request.accept_loss,
        expected: request.expected.clone(),
        trusts_journal: request.trust_journal,
        part,
        state: request.state.clone(),
        stride: request.hooks().stride.unwrap_or(STRIDE),
        cancel: request.cancel.clone(),
    })
}

/// The checkpoint as which the result lies, and the one that weights start from where they do not start there.
fn beside_it(
    request: &Request,
    base: Checkpoint,
    beside: Option<(Resolved, Option<String>)>,
    room: &HeaderRoom<'_>,
) -> Result<(Checkpoint, Option<Checkpoint>)> {
    let open =
        |(place, variant): (Resolved, Option<String>)| Checkpoint::open(&place, variant.as_deref(), room);
    match beside.map(open).transpose()? {
        Some(template) if request.template.is_some() => Ok((template, Some(base))),
        original => Ok((base, original)),
    }
}

/// The files of a plan, in the order in which it counts them.
fn sources_of(
    base: Checkpoint,
    adapters: Vec<Adapter>,
    original: Option<Checkpoint>,
) -> Result<Vec<Box<dyn Source>>> {
    let mut sources = base.sources;
    for adapter in adapters {
        sources.push(adapter.into_source(&base.config)?);
    }
    sources.extend(original.into_iter().flat_map(|original| original.sources));
    Ok(sources)
}

/// What is planned with.
fn planner<'a>(
    request: &'a Request,
    (base, original): (&'a Checkpoint, Option<&'a Checkpoint>),
    adapters: &'a [Adapter],
) -> Planner<'a> {
    Planner {
        base,
        original,
        types: request.template.is_some().then(|| request.template_type.as_deref().unwrap_or("auto")),
        dtype: request.dtype.as_deref(),
        max_shard_size: request.max_shard_size.as_ref(),
        fresh_scales: request.fresh_scales,
        adapters,
        ignored_fields: &request.ignored_fields,
        tied: request.tied,
        tokenizer: request.tokenizer,
        keep_quantized: request.keep_quantized || request.base16.is_some(),
        base_as: request.base_as.as_deref(),
        allow_unmerged_files: &request.allow_unmerged_files,
        allow_other_base: request.allow_other_base,
        follow_links: request.follow_links,
        allow_noop: request.allow_noop,
        sha256: request.sha256,
    }
}

/// Plans with the headers while the adapters are read. What the headers show to be wrong does not wait for the reading.
fn plan(planner: &Planner<'_>, cancel: &Cancel) -> Result<Planned> {
    let reading = cancel.child();
    thread::scope(|scope| {
        let scan_all = || planner.adapters.iter().map(|adapter| scan(adapter, &reading)).collect();
        // Without a thread for it the adapters are read when their contents are asked for.
        let planned = match thread::Builder::new().spawn_scoped(scope, scan_all) {
            Ok(scanning) => planner.plan(|| scanning.join().unwrap_or_else(|panic| resume_unwind(panic))),
            Err(_) => planner.plan(scan_all),
        };
        reading.cancel();
        planned
    })
}

fn open_adapters(
    request: &Request,
    places: &[Resolved],
    base: &Checkpoint,
    room: &HeaderRoom<'_>,
) -> (Vec<Adapter>, Vec<Error>) {
    let (mut adapters, mut errors) = (Vec::new(), Vec::new());
    for (i, (place, &(_, weight))) in places.iter().zip(&request.adapters).enumerate() {
        let opening = Opening { weight, file: FileId((base.catalogue.shards.len() + i) as u32), room };
        match open(place, opening)
            .and_then(|adapter| meet(adapter, base))
            .and_then(|adapter| meet_own_model(adapter, base))
        {
            Ok(adapter) => {
                let unmatched = request.allow_unmatched.clone();
                let missing = request.allow_missing.clone();
                adapters.push(Adapter { experts: request.experts, unmatched, missing, ..adapter });
            }
            Err(error) => errors.push(error),
        }
    }
    (adapters, errors)
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

/// What the base is called: by a file that has a name of its own, by its repository, by its own config, else by its directory. What an adapter calls its base may
/// be another, unless the directory has that name.
fn name_of_base(base: &Checkpoint, adapters: &[Adapter]) -> String {
    if let Some(name) = base.catalogue.own_name() {
        return name;
    }
    let by_config = base.config.text("_name_or_path").filter(|name| is_repo_id(name));
    let path = base.location.path();
    let resolved = Location::of_resolved_path(&path).path();
    let folder = path.file_name().or_else(|| resolved.file_name());
    let folder = folder.map_or_else(|| "base".to_owned(), |name| name.to_string_lossy().into_owned());
    let is_this = |name: &&str| name.split('/').next_back() == Some(folder.as_str()) && is_repo_id(name);
    let by_adapter = adapters.iter().find_map(|adapter| adapter.options.base.as_deref().filter(is_this));
    let name = base.name.as_deref().or(by_config).or(by_adapter);
    name.map_or(folder.clone(), str::to_owned)
}
