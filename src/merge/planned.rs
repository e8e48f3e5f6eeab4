//! A merge into one checkpoint, planned: headers and adapters are read, and nothing is known yet of this host.

use std::panic::resume_unwind;
use std::thread;

use crate::adapters::adapter::Adapter;
use crate::adapters::dialect::Opening;
use crate::adapters::image::meet::meet;
use crate::adapters::open::open;
use crate::adapters::own_model::meet::meet_own_model;
use crate::adapters::scan::scan;
use crate::cancel::Cancel;
use crate::checkpoint::catalogue::FileLayout;
use crate::checkpoint::discover::Checkpoint;
use crate::checkpoint::ecosystem::{GGUF, Library};
use crate::checkpoint::header_room::HeaderRoom;
use crate::error::{Error, Result};
use crate::hub::resolved::Resolved;
use crate::merge::request::Request;
use crate::merge::resolve::{Places, explained};
use crate::plan::build::Planned;
use crate::plan::planner::Planner;
use crate::publish::model_card::is_repo_id;
use crate::storage::location::Location;
use crate::storage::source::Source;
use crate::tensor::reference::FileId;

/// A merge that is planned, and what it reads.
pub(crate) struct PlannedMerge {
    /// What it will do.
    pub(crate) planned: Planned,
    /// The files of the plan, in its order.
    pub(crate) sources: Vec<Box<dyn Source>>,
    /// Where the adapters are.
    pub(crate) folders: Vec<Location>,
    /// What the base is called.
    pub(crate) base_name: String,
    /// What loads it.
    pub(crate) library: &'static Library,
}

/// Plans a merge into one checkpoint.
pub(crate) fn plan_checkpoint(
    request: &Request,
    places: &Places,
    room: &HeaderRoom<'_>,
) -> Result<PlannedMerge> {
    let Places { base: place, beside, variant, adapters, .. } = places;
    let variant = request.variant.as_deref().or(variant.as_deref());
    let base = Checkpoint::open(place, variant, room).map_err(|error| explained(place, adapters, error))?;
    let (base, original) = beside_it(request, base, beside.clone(), room)?;
    let (adapters, errors) = open_adapters(request, adapters, &base, room);
    Error::all(errors)?;
    let planner = planner(request, (&base, original.as_ref()), &adapters);
    let planned = plan(&planner, &request.cancel).map_err(|error| place.explain(error))?;
    let base_name = name_of_base(planner.model(), &adapters);
    let folders = adapters.iter().map(|adapter| adapter.location.clone()).collect();
    let is_llama_cpp = base.catalogue.layout() == FileLayout::LlamaCpp;
    let library = if is_llama_cpp { &GGUF } else { base.config.library() };
    let sources = sources_of(base, adapters, original)?;
    Ok(PlannedMerge { planned, sources, folders, base_name, library })
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
pub(crate) fn planner<'a>(
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
        changed_only: request.changed_only,
        fresh_scales: request.fresh_scales,
        adapters,
        combination: request.combination,
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
        keep_undo: request.keep_undo,
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
    for (i, (place, (_, weight))) in places.iter().zip(&request.adapters).enumerate() {
        let opening = Opening { weight, file: FileId((base.catalogue.shards.len() + i) as u32), room };
        let opened = open(place, opening).and_then(|adapter| meet(adapter, base));
        match opened.and_then(|adapter| meet_own_model(adapter, base)) {
            Ok(adapter) => {
                errors.extend(adapter.weight.check(&adapter.name, adapter.modules()).err());
                let unmatched = request.allow_unmatched.clone();
                let missing = request.allow_missing.clone();
                adapters.push(Adapter { experts: request.experts, unmatched, missing, ..adapter });
            }
            Err(error) => errors.push(error),
        }
    }
    (adapters, errors)
}

/// What the base is called: by a file that has a name of its own, by its repository, by its own config, else by its directory. What an adapter calls its base may
/// be another, unless the directory has that name.
pub(crate) fn name_of_base(base: &Checkpoint, adapters: &[Adapter]) -> String {
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
