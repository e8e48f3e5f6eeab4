//! One merge from folders to a published result: what the command line, a test or another program calls.
//!
//! [`prepare`] reads headers and adapters, plans, and splits the budget; [`Prepared::merge`] does it. Everything in between
//! is told to a [`Reporter`].

pub(crate) mod resolve;

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, available_parallelism};
use std::time::Instant;

use regex::Regex;

use crate::adapters::adapter::Adapter;
use crate::adapters::claim::expert_layout::ExpertLayout;
use crate::adapters::dialect::Opening;
use crate::adapters::open::open;
use crate::adapters::scan::scan;
use crate::checkpoint::discover::Checkpoint;
use crate::checkpoint::ecosystem::Library;
use crate::error::exit::Code;
use crate::error::kind::ErrorKind;
use crate::error::{Error, Result};
use crate::hub::{Hub, Place};
use crate::kernels::dispatch::Kernels;
use crate::memory::limits::{Environment, Limit, LimitKind};
pub(crate) use crate::model::outline::Tied;
use crate::pipeline::Run;
use crate::pipeline::repack::pack;
use crate::plan::build::{Planned, Planner};
use crate::plan::out_tensor::{Carried, Plan, Role};
use crate::publish;
use crate::publish::card::card;
use crate::publish::record::{RECORD, Record};
use crate::publish::staging::Staging;
use crate::publish::{Output, Way};
use crate::report::summary::{Summary, lost};
use crate::report::{Event, Reporter};
use crate::schedule::budget::{Asked, Schedule, split};
use crate::schedule::repack::{MUCH, Packing, pack_factors, scratch_bytes};
use crate::storage::files::{copy_file, free_bytes, write_small};
use crate::storage::folder::Folder;
use crate::storage::{Source, Store};
use crate::tensor::reference::FileId;

use crate::merge::resolve::Places;

/// What a merge is asked to do.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The base: a folder, or a name to look up in `hub`. Without it, the base that the first adapter's config names.
    pub base: Option<PathBuf>,
    /// The variant of the base's weights, as `fp16`; by default those without one.
    pub variant: Option<String>,
    /// The adapters, folders or names as well, with their weights, in order.
    pub adapters: Vec<(PathBuf, f64)>,
    /// The cache in which names are looked up; by default none, so that all are paths.
    pub hub: Hub,
    /// The memory budget in bytes.
    pub max_ram: Option<u64>,
    /// Worker threads.
    pub threads: Option<usize>,
    /// Config fields to pass over.
    pub ignored_fields: Vec<String>,
    /// What happens to a tied head when an adapter changes one of the two ends.
    pub tied: Tied,
    /// Whether encoded weights stay encoded.
    pub keep_quantized: bool,
    /// How the factors of experts lie, where an adapter does not tell.
    pub experts: ExpertLayout,
    /// Adapter keys that may be left out where no base tensor has their names.
    pub allow_unmatched: Vec<Regex>,
    /// Whether adapters may change nothing.
    pub allow_noop: bool,
    /// Bytes of a slab and number of slabs, for tests.
    pub forced: Option<(usize, usize)>,
    /// Whether to run the reference arithmetic.
    pub scalar: bool,
}

/// A merge that is planned and scheduled.
pub struct Prepared {
    /// What it will do.
    pub plan: Plan,
    /// The plan's digest.
    pub digest: String,
    /// How it will do it here.
    pub schedule: Schedule,
    /// Things worth saying.
    pub notices: Vec<String>,
    /// Why the budget is what it is.
    pub reason: String,
    packings: Vec<Packing>,
    base_name: String,
    library: &'static Library,
    sources: Vec<Box<dyn Source>>,
    base: PathBuf,
    /// The adapters' folders, in order.
    adapters: Vec<PathBuf>,
    kernels: Kernels,
    allow_noop: bool,
}

/// Headers may take so much of the budget.
const HEADER_SHARE: u64 = 4;
/// Headers of this size are read under any budget: one that is too small for them is too small for much else, and only
/// the split can name the smallest that would do.
const HEADER_LEAST: u64 = 1 << 20;
/// Of what is free under the tightest limit, a budget chosen here takes at most so many hundredths.
const FREE_SHARE: u64 = 80;

/// Reads headers and adapters, makes the plan, splits the budget.
///
/// # Errors
/// Every reason to refuse.
pub fn prepare(request: &Request) -> Result<Prepared> {
    let room = request.max_ram.map_or(u64::MAX, |max_ram| (max_ram / HEADER_SHARE).max(HEADER_LEAST));
    let Places { base: place, adapters, notice } = Places::find(request)?;
    let base = Checkpoint::open(&place, request.variant.as_deref(), room)?;
    let (adapters, errors) = open_adapters(request, &adapters, base.catalogue.shards.len(), room);
    Error::all(errors)?;
    let planner = Planner {
        base: &base,
        adapters: &adapters,
        ignored_fields: &request.ignored_fields,
        tied: request.tied,
        keep_quantized: request.keep_quantized,
        allow_noop: request.allow_noop,
    };
    // Adapters are read while the headers are planned with.
    let refused = AtomicBool::new(false);
    let Planned { mut plan, mut notices } = thread::scope(|scope| {
        let scanning = scope.spawn(|| adapters.iter().map(|adapter| scan(adapter, &refused)).collect());
        let planned = planner.plan(|| scanning.join().unwrap_or_else(|panic| resume_unwind(panic)));
        // What headers refuse does not wait for the adapters to be read.
        refused.store(true, Ordering::Relaxed);
        planned
    })?;
    notices.splice(0..0, notice.into_iter().chain(place.lost()));
    let base_name = place.name().map_or_else(|| name_of_base(&base, &adapters), str::to_owned);
    let folders = adapters.iter().map(|adapter| adapter.path.clone()).collect();
    let sources = open_sources(&plan, &place.path, adapters)?;
    let digest = plan.digest();
    let library = Library::of(&base.config);
    drop(base);
    // From here on the plan is this host's: what it reads of packed factors it reads from a scratch file.
    // Tests that cut slabs pack all they can, so that both ways are seen to give the same bytes.
    let packings = pack_factors(&mut plan, if request.forced.is_some() { 0 } else { MUCH });
    let (asked, reason) = asked(request);
    let schedule = split(&plan, &asked)?;
    let kernels = if request.scalar { Kernels::scalar() } else { Kernels::detect() };
    Ok(Prepared {
        plan,
        digest,
        schedule,
        notices,
        reason,
        packings,
        base_name,
        library,
        sources,
        base: place.path,
        adapters: folders,
        kernels,
        allow_noop: request.allow_noop,
    })
}

fn open_adapters(
    request: &Request,
    places: &[Place],
    shards: usize,
    room: u64,
) -> (Vec<Adapter>, Vec<Error>) {
    let (mut adapters, mut errors) = (Vec::new(), Vec::new());
    for (i, (place, &(_, weight))) in places.iter().zip(&request.adapters).enumerate() {
        let opening = Opening { weight, file: FileId((shards + i) as u32), header_room: room };
        match open(place, opening) {
            Ok(adapter) => {
                let unmatched = request.allow_unmatched.clone();
                adapters.push(Adapter { experts: request.experts, unmatched, ..adapter });
            }
            Err(error) => errors.push(error),
        }
    }
    (adapters, errors)
}

/// The plan's inputs in its order.
fn open_sources(plan: &Plan, base: &Path, adapters: Vec<Adapter>) -> Result<Vec<Box<dyn Source>>> {
    let folder = Folder::open(base)?;
    let shards = plan.inputs.iter().filter(|input| input.role == Role::Base);
    let mut sources = shards.map(|input| folder.source(&input.name)).collect::<Result<Vec<_>>>()?;
    sources.extend(adapters.into_iter().map(|adapter| adapter.source));
    Ok(sources)
}

/// What a base that is no snapshot is called: by the first adapter, by its own config, else by its folder.
fn name_of_base(base: &Checkpoint, adapters: &[Adapter]) -> String {
    let is_name = |name: &&str| !name.is_empty() && !name.starts_with(['/', '.', '~']);
    let by_adapter = adapters.first().and_then(|adapter| adapter.options.base.as_deref());
    let by_config = base.config.text("_name_or_path");
    let by_folder = || {
        base.path.file_name().map_or_else(|| "base".to_owned(), |name| name.to_string_lossy().into_owned())
    };
    by_adapter.filter(is_name).or(by_config.filter(is_name)).map_or_else(by_folder, str::to_owned)
}

/// What to ask the split for, and why.
fn asked(request: &Request) -> (Asked, String) {
    let cpus = available_parallelism().map_or(1, |cpus| cpus.get());
    let now = crate::memory::process::process();
    let mut asked = Asked {
        max_ram: request.max_ram,
        ceiling: None,
        workers: request.threads,
        cpus,
        resident: now.resident.max(now.peak),
        forced: request.forced,
    };
    let limits = crate::memory::limits::find(&Environment::of_this_process());
    // Limits on address space count what is never touched, and RLIMIT_RSS limits nothing in Linux.
    let counts = |limit: &&Limit| !matches!(limit.kind, LimitKind::AddressSpace | LimitKind::Resident);
    let tightest = limits.iter().find(counts);
    let reason = match (request.max_ram, tightest) {
        (Some(_), _) => "as `--max-ram` says".to_owned(),
        (None, None) => "what makes it fast; no limit was found".to_owned(),
        (None, Some(limit)) => {
            asked.ceiling = Some(limit.free / 100 * FREE_SHARE);
            format!("what makes it fast, below {FREE_SHARE} % of what is free under the {limit}")
        }
    };
    (asked, reason)
}

impl Prepared {
    /// Merges into `output`, or finds that it is done already.
    ///
    /// # Errors
    /// Whatever went wrong first; `output` is then as it was.
    pub fn merge(
        &self,
        output: &Path,
        interrupted: &AtomicBool,
        reporter: &mut dyn Reporter,
    ) -> Result<Summary> {
        let started = Instant::now();
        let way = match publish::look(output, &self.digest)? {
            Output::AlreadyDone => {
                let summary = self.summary(output);
                reporter.event(&Event::Finished(&summary));
                return Ok(summary);
            }
            Output::Open(way) => way,
        };
        reporter.event(&Event::Budget { schedule: &self.schedule, reason: &self.reason });
        if interrupted.load(Ordering::Relaxed) {
            return Err(ErrorKind::Stopped.into());
        }
        let mut staging = way.begin(&self.digest)?;
        match self.fill(&way, &mut staging, interrupted, reporter, started) {
            Ok(summary) => {
                way.publish(staging)?;
                reporter.event(&Event::Finished(&summary));
                Ok(summary)
            }
            Err(error) => {
                // What is staged serves a later run only if that run can do better.
                if !matches!(error.exit_code(), Code::Io | Code::Stopped) {
                    staging.discard();
                }
                Err(error)
            }
        }
    }

    /// Runs the plan into the staging folder and adds all other files.
    fn fill(
        &self,
        way: &Way,
        staging: &mut Staging,
        interrupted: &AtomicBool,
        reporter: &mut dyn Reporter,
        started: Instant,
    ) -> Result<Summary> {
        self.check_room(way.folder())?;
        let store = Folder::new(staging.folder()).write_step(self.schedule.window_bytes as u64);
        let scratch = pack(&self.packings, &self.sources, staging.folder(), interrupted)?;
        let inputs = self.sources.iter().map(|source| source.as_ref());
        let sources: Vec<&dyn Source> =
            inputs.chain(scratch.as_ref().map(|file| file as &dyn Source)).collect();
        let run = Run {
            plan: &self.plan,
            schedule: &self.schedule,
            sources: &sources,
            store: &store,
            kernels: self.kernels,
            interrupted,
            allow_noop: self.allow_noop,
        };
        let mut read_bytes = 0;
        let applied = run.run(&mut |shard| staging.shard_done(shard), &mut |now| {
            read_bytes = now.read_bytes;
            reporter.event(&Event::Progress(now));
        })?;
        for lost in lost(&applied) {
            reporter.event(&Event::Notice(&lost));
        }
        self.write_others(&store, staging)?;
        Ok(self.summary(way.output()).done(applied, read_bytes, started.elapsed()))
    }

    fn summary(&self, output: &Path) -> Summary {
        Summary::already_done(&self.plan, &self.digest, &self.schedule, output)
    }

    fn check_room(&self, folder: &Path) -> Result<()> {
        let needed = self.plan.disk_bytes() + scratch_bytes(&self.packings);
        match free_bytes(folder) {
            Ok(free) if free < needed => {
                Err(ErrorKind::DiskFull { path: folder.to_owned(), needed, free }.into())
            }
            // A file system that does not tell is found out by writing.
            _ => Ok(()),
        }
    }

    /// The files beside the shards: those carried over, the index, the card, the record.
    fn write_others(&self, store: &Folder, staging: &Staging) -> Result<()> {
        let mut buf = vec![0; 1 << 18];
        for Carried { name, beside, .. } in &self.plan.carried {
            let folder = match beside {
                Role::Base => &self.base,
                Role::Adapter(i) => &self.adapters[*i as usize],
            };
            copy_file(Folder::open(folder)?.source(name)?.as_ref(), store, name, &mut buf)?;
        }
        for file in &self.plan.files {
            write_small(store, &file.name, file.content.as_bytes())?;
        }
        write_small(store, "README.md", card(&self.plan, &self.base_name, self.library).as_bytes())?;
        write_small(
            store,
            RECORD,
            Record::new(&self.plan, &self.digest, staging.shards()).to_json().as_bytes(),
        )
    }
}
