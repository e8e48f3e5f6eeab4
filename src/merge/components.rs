//! A merge into all components of a pipeline of diffusers: each is planned by itself, and the plans are joined.

use std::sync::Arc;

use crate::adapters::adapter::Adapter;
use crate::adapters::dialect::Opening;
use crate::adapters::image::meet::{PipelinePart, no_component};
use crate::adapters::open::open;
use crate::adapters::scan::{Contents, scan};
use crate::checkpoint::diffusers::several;
use crate::checkpoint::discover::{Checkpoint, NO_CHECKPOINT};
use crate::checkpoint::ecosystem::Library;
use crate::checkpoint::header_room::HeaderRoom;
use crate::checkpoint::side_files::pipeline_files;
use crate::error::checkpoint::CheckpointError;
use crate::error::kind::ErrorKind;
use crate::error::request::RequestError;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::hub::resolved::Resolved;
use crate::merge::planned::{PlannedMerge, name_of_base, planner};
use crate::merge::request::Request;
use crate::merge::resolve::Places;
use crate::note::Note;
use crate::plan::build::Planned;
use crate::plan::joined::{ComponentPlan, joined};
use crate::plan::links::keep_inside;
use crate::plan::out_tensor::{CopiedFile, Role};
use crate::plan::planner::Planner;
use crate::storage::location::Location;
use crate::storage::source::Source;
use crate::tensor::reference::FileId;

/// What is asked of a pipeline, and what its adapters hold once they were read.
struct PipelineMerge<'m> {
    request: &'m Request,
    places: &'m Places,
    directories: &'m [String],
    room: &'m HeaderRoom<'m>,
    contents: Vec<Option<Contents>>,
}

/// One component with its adapters, each with its number among all.
struct ComponentMerge {
    base: Checkpoint,
    adapters: Vec<Adapter>,
    numbers: Vec<u32>,
}

/// Plans a merge into the components of the pipeline in `places.base` that have these directories.
///
/// # Errors
/// As planning a merge into one of them; [`RequestError::Usage`] for what is said of one checkpoint alone.
pub(crate) fn plan_components(
    request: &Request,
    places: &Places,
    directories: &[String],
    room: &HeaderRoom<'_>,
) -> Result<PlannedMerge> {
    refuse_for_one(request)?;
    let mut merge =
        PipelineMerge { request, places, directories, room, contents: vec![None; places.adapters.len()] };
    let (mut parts, mut planned, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for directory in directories {
        match merge.component(directory) {
            Ok(part) => match merge.plan(&part) {
                Ok(plan) => {
                    planned.push(plan);
                    parts.push(part);
                }
                Err(error) => errors.push(error),
            },
            // Whichever component it is asked for.
            Err(error) if is_of_pipeline(&error) => return Err(error),
            Err(error) => errors.push(error),
        }
    }
    Error::all(errors)?;
    merge.check_used(&parts)?;
    let (planned, base_name) = merge.joined(&parts, planned)?;
    let (sources, folders) = inputs_of(parts, request.adapters.len())?;
    Ok(PlannedMerge { planned, sources, folders, base_name, library: Library::of_pipelines() })
}

fn is_of_pipeline(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Checkpoint(CheckpointError::Pipeline { .. }))
}

/// Refuses what names another checkpoint beside the base.
fn refuse_for_one(request: &Request) -> Result<()> {
    let accepted = "the base is a pipeline of several checkpoints: name one of its components as `--base`";
    let flags = [("--base16", request.base16.is_some()), ("--gguf-template", request.template.is_some())];
    match flags.into_iter().find(|(_, is_set)| *is_set) {
        Some((flag, _)) => Err(RequestError::Usage { flag, value: String::new(), accepted }.into()),
        None => Ok(()),
    }
}

impl PipelineMerge<'_> {
    /// Opens a component, and those adapters that have something for it.
    fn component(&self, directory: &str) -> Result<ComponentMerge> {
        let place = self.place(directory);
        let variant = self.request.variant.as_deref();
        let opened = |variant| Checkpoint::open(&place, variant, self.room);
        // Pipelines have a variant of some components, and the others as they are.
        let base = opened(variant).or_else(|error| match error.kind() {
            ErrorKind::Checkpoint(CheckpointError::Variants { wanted: Some(_), .. }) => opened(None),
            _ => Err(error),
        })?;
        let part = PipelinePart { directory, all: self.directories };
        let (mut adapters, mut numbers, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        let all = self.places.adapters.iter().zip(&self.request.adapters);
        for (number, (place, (_, weight))) in (0..).zip(all) {
            let file = FileId((base.catalogue.shards.len() + adapters.len()) as u32);
            let opening = Opening { weight, file, room: self.room };
            let opened = open(place, opening);
            if opened.as_ref().is_ok_and(|adapter| adapter.components.is_none()) {
                return Err(self.not_one());
            }
            match opened.and_then(|adapter| part.meet(adapter, &base)) {
                Ok(None) => {}
                Ok(Some(adapter)) => {
                    let unmatched = self.request.allow_unmatched.clone();
                    let missing = self.request.allow_missing.clone();
                    adapters.push(Adapter { experts: self.request.experts, unmatched, missing, ..adapter });
                    numbers.push(number);
                }
                Err(error) => errors.push(error),
            }
        }
        Error::all(errors)?;
        Ok(ComponentMerge { base, adapters, numbers })
    }

    /// The refusal of an adapter that does not say for which component it is.
    fn not_one(&self) -> Error {
        let path = self.places.base.location.path();
        several(&self.places.base)
            .unwrap_or_else(|| StorageError::Missing { what: NO_CHECKPOINT, path }.into())
    }

    fn place(&self, directory: &str) -> Resolved {
        let base = &self.places.base;
        Resolved { location: base.location.join(directory), snapshot: base.snapshot.clone() }
    }

    /// Plans a component. An adapter is read once, for the first that it is for.
    fn plan(&mut self, part: &ComponentMerge) -> Result<Planned> {
        let ComponentMerge { base, adapters, numbers } = part;
        for (adapter, &number) in adapters.iter().zip(numbers) {
            let contents = &mut self.contents[number as usize];
            if contents.is_none() {
                *contents = Some(scan(adapter, &self.request.cancel)?);
            }
        }
        let contents = numbers.iter().filter_map(|&number| self.contents[number as usize].clone()).collect();
        // What does nothing to one component may do something to another; the run sees whether any does.
        let planner = Planner { allow_noop: true, ..planner(self.request, (base, None), adapters) };
        let planned = planner.plan(|| Ok(contents));
        planned.map_err(|error| self.places.base.explain(error))
    }

    /// Refuses adapters that are for no component of the pipeline, and patterns of weights that are for no module of any.
    fn check_used<'p>(&self, parts: &'p [ComponentMerge]) -> Result<()> {
        let is_used = |number: usize| parts.iter().any(|part| part.numbers.contains(&(number as u32)));
        let mut errors = Vec::new();
        for (number, place) in self.places.adapters.iter().enumerate().filter(|(i, _)| !is_used(*i)) {
            let opening =
                Opening { weight: &self.request.adapters[number].1, file: FileId(0), room: self.room };
            errors.push(open(place, opening).map_or_else(|error| error, no_component));
        }
        for (number, (_, weight)) in (0..).zip(&self.request.adapters) {
            let of_part = |part: &'p ComponentMerge| {
                part.numbers.iter().position(|&of| of == number).map(|i| &part.adapters[i])
            };
            let adapters: Vec<&Adapter> = parts.iter().filter_map(of_part).collect();
            // A pattern may be for one component alone.
            let modules = adapters.iter().flat_map(|adapter| adapter.modules());
            errors.extend(adapters.first().and_then(|first| weight.check(&first.name, modules).err()));
        }
        Error::all(errors)
    }

    /// One plan of all, and what the pipeline is called.
    fn joined(&self, parts: &[ComponentMerge], planned: Vec<Planned>) -> Result<(Planned, String)> {
        let location = &self.places.base.location;
        let (beside, mut notes) = self.beside()?;
        let (mut decisions, mut plans) = (Vec::new(), Vec::new());
        for ((part, directory), planned) in parts.iter().zip(self.directories).zip(planned) {
            add_new(&mut notes, planned.notes);
            add_new(&mut decisions, planned.decisions);
            // Nobody else has it.
            let plan = Arc::unwrap_or_clone(planned.plan);
            let adapters = part.numbers.clone();
            plans.push(ComponentPlan { directory: directory.clone(), plan, adapters });
        }
        let plan = joined(plans, beside)?;
        let digest = plan.digest();
        let first = &parts[0].base;
        let name = self.places.base.name().map(str::to_owned);
        let name = name.or_else(|| location.name().map(str::to_owned));
        let name = name.unwrap_or_else(|| name_of_base(first, &[]));
        Ok((Planned { plan: Arc::new(plan), digest, notes, decisions }, name))
    }

    /// The pipeline's own files.
    fn beside(&self) -> Result<(Vec<CopiedFile>, Vec<Note>)> {
        let location = &self.places.base.location;
        let found = pipeline_files(location, self.directories)?;
        let mut notes = found.notes;
        let copied = found.copied.into_iter();
        let mut copied = copied
            .map(|file| CopiedFile { name: file.name, bytes: file.bytes, beside: Role::Base })
            .collect();
        if !self.request.follow_links {
            keep_inside(|_| location, &mut copied, &mut notes);
        }
        Ok((copied, notes))
    }
}

/// Adds notes that are not there yet: each component tells of an adapter what all do.
fn add_new(notes: &mut Vec<Note>, more: Vec<Note>) {
    for note in more {
        if notes.iter().all(|other| other.to_string() != note.to_string()) {
            notes.push(note);
        }
    }
}

/// The files of a plan, in its order, and where the adapters are.
type Inputs = (Vec<Box<dyn Source>>, Vec<Location>);

/// Those of the joined plan.
fn inputs_of(parts: Vec<ComponentMerge>, count: usize) -> Result<Inputs> {
    let (mut sources, mut of_adapters) = (Vec::new(), Vec::new());
    of_adapters.resize_with(count, || None);
    for ComponentMerge { base, adapters, numbers } in parts {
        sources.extend(base.sources);
        for (adapter, number) in adapters.into_iter().zip(numbers) {
            let found: &mut Option<(Box<dyn Source>, Location)> = &mut of_adapters[number as usize];
            if found.is_none() {
                let location = adapter.location.clone();
                *found = Some((adapter.into_source(&base.config)?, location));
            }
        }
    }
    let mut folders = Vec::new();
    for (source, location) in of_adapters.into_iter().flatten() {
        sources.push(source);
        folders.push(location);
    }
    Ok((sources, folders))
}
