//! Meeting a base: which of a file's components it is, and which of its modules each of the file's is.
//!
//! A path with `_` for its dots cannot be taken apart again, so that the base's modules are spelled as the file spells them, and looked up.
//! Of several components (a UNet, text encoders) the base is the one whose modules it has, in their shapes; what is for others is ignored,
//! and reported. Where it has modules of several, its directory tells, or the file is refused. A base in one file has several components
//! itself, each under the directory that it would have in a pipeline.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::checkpoint::catalogue::{Catalogue, FileLayout, RowPart, StoredForm};
use crate::checkpoint::discover::Checkpoint;
use crate::checkpoint::one_file::parts::directories;
use crate::error::adapter::AdapterError;
use crate::error::claim::ClaimError;
use crate::error::{Error, Result};
use crate::tensor::shape::Shape;

use crate::adapters::adapter::{Adapter, AdapterTensor, Unneeded};
use crate::adapters::image::directories::{TEXT, is_in};
use crate::adapters::image::keys::Key;
use crate::adapters::parts::Grammar;
use crate::adapters::peft::config::{AdapterConfig, bad_field};
use crate::checkpoint::one_file::original_names::Family;
use crate::checkpoint::one_file::unet_names::UnetNames;

/// What some versions of transformers have in front of a text encoder's paths, and some have not.
const TEXT_MODEL: &str = "text_model.";
const WEIGHT: &str = ".weight";

/// A base that is a component of a pipeline whose components are all merged.
pub(crate) struct PipelinePart<'p> {
    /// Its directory there.
    pub(crate) directory: &'p str,
    /// The directories of all.
    pub(crate) all: &'p [String],
}

impl PipelinePart<'_> {
    /// The adapter with the paths of this component's modules; none if nothing of it is for this component.
    ///
    /// # Errors
    /// As [`meet`].
    pub(crate) fn meet(&self, adapter: Adapter, base: &Checkpoint) -> Result<Option<Adapter>> {
        let all = || self.all.iter().map(String::as_str);
        let is_own = |prefix: &str| is_in(prefix, self.directory, all());
        let is_for = |tensor: &AdapterTensor| Key::read(&tensor.key).is_some_and(|key| is_own(key.prefix));
        if !adapter.needed().any(is_for) {
            return Ok(None);
        }
        let mut met = meet_as(adapter, base, &is_own)?;
        for tensor in met.tensors.iter_mut().filter(|one| one.unneeded == Some(Unneeded::OtherComponent)) {
            let is_there = |prefix: &str| all().any(|directory| is_in(prefix, directory, all()));
            if Key::read(&tensor.key).is_some_and(|key| is_there(key.prefix)) {
                tensor.unneeded = Some(Unneeded::Sibling);
            }
        }
        Ok(Some(met))
    }
}

/// The adapter with the paths of the base's modules, if its file knows components; else as it is.
///
/// # Errors
/// [`AdapterError::Components`] for a base that two of them fit, [`ClaimError::Unmatched`] for one that none fits, and
/// [`ClaimError::Flattened`] for a name that two modules have.
pub(crate) fn meet(adapter: Adapter, base: &Checkpoint) -> Result<Adapter> {
    if adapter.components.is_none() || adapter.needed().next().is_none() {
        return Ok(adapter);
    }
    meet_as(adapter, base, &|_| true)
}

/// The adapter with the paths of the base's modules, of a component whose keys may begin so.
fn meet_as(adapter: Adapter, base: &Checkpoint, may_be: &dyn Fn(&str) -> bool) -> Result<Adapter> {
    let sections = Section::all(base);
    let found = sections_of(&adapter, base, &sections, may_be)?;
    if found.is_empty() {
        return Err(no_component(adapter));
    }
    let mut adapter = adapter;
    if let Some(configs) = adapter.components.take() {
        let own = configs.into_iter().filter(|(prefix, _)| found.iter().any(|(other, _)| other == prefix));
        adapter.config = one_config(own.map(|(_, config)| config))?.unwrap_or(adapter.config);
    }
    let grammar = Grammar::of(&adapter.kind);
    let mut own = HashMap::new();
    let mut met = Vec::with_capacity(adapter.tensors.len());
    for tensor in std::mem::take(&mut adapter.tensors) {
        let Some(key) = Key::read(&tensor.key) else { continue };
        let Some((_, section)) = found.iter().find(|(prefix, _)| *prefix == key.prefix) else {
            met.push(tensor.unneeded(Some(Unneeded::OtherComponent)));
            continue;
        };
        let module = section.modules.find(&adapter.name, &key)?;
        let module = section.path(module.map_or(key.module.as_str(), |module| &module.path));
        if let Some(scale) = adapter.options.own.remove(&key.whole_module()) {
            own.insert(module.clone().into_owned(), scale);
        }
        // What a tail is beside others of its module was found out when the file was read.
        let tail = tensor.path().strip_prefix(key.whole_module().as_str()).unwrap_or_default();
        let path = format!("{module}{tail}");
        let unneeded = tensor.unneeded;
        met.push(AdapterTensor::new(tensor.key, &path, &grammar, tensor.tensor).unneeded(unneeded));
    }
    adapter.tensors = met;
    adapter.options.own = own;
    Ok(adapter)
}

/// The sections that an adapter's components are, by what their keys begin with.
fn sections_of<'s, 'b>(
    adapter: &Adapter,
    base: &Checkpoint,
    sections: &'s [Section<'b>],
    may_be: &dyn Fn(&str) -> bool,
) -> Result<Vec<(&'static str, &'s Section<'b>)>> {
    if let [Section { directory: None, modules }] = sections {
        let prefix = component(adapter, base, modules, may_be)?;
        return Ok(prefix.map(|prefix| (prefix, &sections[0])).into_iter().collect());
    }
    let keys = adapter.needed().filter_map(|tensor| Key::read(&tensor.key));
    let mut prefixes: Vec<&'static str> = keys.map(|key| key.prefix).collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    let of = |prefix: &&'static str| {
        let all = || sections.iter().filter_map(|section| section.directory);
        let is_its = |section: &&Section<'_>| section.directory.is_some_and(|own| is_in(prefix, own, all()));
        Some((*prefix, sections.iter().find(is_its)?))
    };
    Ok(prefixes.iter().filter_map(of).collect())
}

/// PEFT's config of several components, of which each module has its own scale already: what they agree on, and fields of one alone.
///
/// # Errors
/// [`AdapterError::Field`] for one that they do not agree on.
fn one_config(configs: impl Iterator<Item = AdapterConfig>) -> Result<Option<AdapterConfig>> {
    let mut all: Vec<AdapterConfig> = configs.collect();
    let Some(first) = all.pop() else { return Ok(None) };
    if all.is_empty() {
        return Ok(Some(first));
    }
    let (adapter, mut fields) = (first.adapter.clone(), first.into_fields());
    fields.retain(|field, _| !OF_MODULES.contains(&field.as_str()));
    let others = all.into_iter().flat_map(AdapterConfig::into_fields);
    for (field, value) in others.filter(|(field, _)| !OF_MODULES.contains(&field.as_str())) {
        if fields.get(&field).is_some_and(|other| *other != value) {
            return Err(bad_field(&adapter, &field, &value, "is another for another component"));
        }
        fields.insert(field, value);
    }
    Ok(Some(AdapterConfig::new(adapter, fields)))
}

/// Fields that say of modules what each module's own tensors say.
const OF_MODULES: &[&str] = &["r", "lora_alpha", "rank_pattern", "alpha_pattern", "target_modules"];

/// What the keys begin with of the component that the base is: the only one of which it has modules, or the one that the base's
/// directory is called as; none if it has none of any.
fn component(
    adapter: &Adapter,
    base: &Checkpoint,
    modules: &BaseModules<'_>,
    may_be: &dyn Fn(&str) -> bool,
) -> Result<Option<&'static str>> {
    let fits = adapter.fits();
    let mut found: Vec<&'static str> = Vec::new();
    for tensor in adapter.needed() {
        let is_open = |key: &Key| may_be(key.prefix) && !found.contains(&key.prefix);
        let Some(key) = Key::read(&tensor.key).filter(is_open) else { continue };
        if let Some(module) = modules.find(&adapter.name, &key)?
            && module.shape.as_deref().is_none_or(|shape| fits(&key.whole_module(), shape))
        {
            found.push(key.prefix);
        }
    }
    found.sort_unstable();
    let called = base.location.name().map(|name| format!("{name}."));
    if let Some(own) = found.iter().find(|prefix| called.as_deref() == Some(**prefix)) {
        return Ok(Some(own));
    }
    let mut all = found.into_iter();
    match (all.next(), all.next()) {
        (Some(first), Some(second)) => {
            let (adapter, first, second) = (adapter.name.clone(), first.to_owned(), second.to_owned());
            let error = Error::new(AdapterError::Components { adapter, first, second });
            Err(error.hint(
                "of components that are alike the one counts that the base's directory is called as: `--base PIPELINE/transformer_2`",
            ))
        }
        (only, _) => Ok(only),
    }
}

/// None of the file's modules is the base's: by their plain names they are nothing's, for what they are multiplied by depends on
/// the component.
pub(crate) fn no_component(adapter: Adapter) -> Error {
    let keys: Vec<String> = adapter.needed().map(|tensor| tensor.key.to_string()).collect();
    let (name, count) = (adapter.name, keys.len());
    Error::new(ClaimError::Unmatched { adapter: name, count, keys, nearest: Vec::new() }).hint(
        "such keys are those of a pipeline's components: give the directory of one as --base, \
         or, for a language model, the adapter_config.json beside the file, which says what the factors are multiplied by",
    )
}

/// A module of the base: its path, and the shape of its weight; none where that is several tensors there.
#[derive(Clone, PartialEq)]
struct BaseModule<'b> {
    path: Cow<'b, str>,
    shape: Option<Cow<'b, Shape>>,
}

/// A component of the base: all of it, or one of a file of several.
struct Section<'b> {
    /// The directory that it would have in a pipeline, with which the names of its tensors begin; none for all of the base.
    directory: Option<&'static str>,
    modules: BaseModules<'b>,
}

impl<'b> Section<'b> {
    fn all(base: &'b Checkpoint) -> Vec<Section<'b>> {
        let modules = || weights(&base.catalogue);
        if base.catalogue.layout() != FileLayout::OneFile {
            let is_text = base.config.model_type().is_some();
            return vec![Section { directory: None, modules: BaseModules::of(modules(), is_text) }];
        }
        let mut directories: Vec<&'static str> = directories().collect();
        directories.sort_unstable();
        directories.dedup();
        let section = |directory: &'static str| {
            let within = |(module, shape): (&'b str, Cow<'b, Shape>)| {
                Some((module.strip_prefix(directory)?.strip_prefix('.')?, shape))
            };
            let own = modules().filter_map(within);
            Section { directory: Some(directory), modules: BaseModules::of(own, directory.starts_with(TEXT)) }
        };
        directories.into_iter().map(section).filter(|section| !section.modules.dotted.is_empty()).collect()
    }

    /// The path of one of its modules in the base.
    fn path<'p>(&self, module: &'p str) -> Cow<'p, str> {
        self.directory.map_or(Cow::Borrowed(module), |directory| format!("{directory}.{module}").into())
    }
}

/// The modules of a checkpoint that have a weight, and its shape: also of those whose rows lie in one tensor with others'.
fn weights(catalogue: &Catalogue) -> impl Iterator<Item = (&str, Cow<'_, Shape>)> {
    let module = |name| str::strip_suffix(name, WEIGHT);
    (0..catalogue.tensors.len()).flat_map(move |place| {
        let tensor = &catalogue.tensors[place];
        let own = module(&*tensor.name).map(|module| (module, Cow::Borrowed(&tensor.tensor.shape)));
        let parts = match catalogue.stored(place).map(|stored| &stored.form) {
            Some(StoredForm::Rows(parts)) => &parts[..],
            _ => &[],
        };
        let rest = tensor.tensor.shape.axes().get(1..).unwrap_or_default();
        let of_part = move |part: &'_ RowPart| Shape::new(&[&[part.rows], rest].concat());
        let parts =
            parts.iter().filter_map(move |part| Some((module(&*part.name)?, Cow::Owned(of_part(part)?))));
        own.into_iter().chain(parts)
    })
}

/// The base's modules by all that files may call them.
struct BaseModules<'b> {
    /// With dots.
    dotted: HashMap<String, BaseModule<'b>>,
    /// With underscores; none where two have one name.
    joined: HashMap<String, Option<BaseModule<'b>>>,
    /// Whether the base is a model of transformers, as text encoders are.
    is_text: bool,
}

impl<'b> BaseModules<'b> {
    fn of(modules: impl Iterator<Item = (&'b str, Cow<'b, Shape>)>, is_text: bool) -> BaseModules<'b> {
        let modules: Vec<(&str, Cow<'_, Shape>)> = modules.collect();
        let unet = UnetNames::of(modules.iter().map(|(module, _)| *module));
        let family = Family::of(modules.iter().map(|(module, _)| *module));
        let mut found = BaseModules { dotted: HashMap::new(), joined: HashMap::new(), is_text };
        for (path, shape) in modules {
            let module = BaseModule { path: path.into(), shape: Some(shape.clone()) };
            found.add(path.to_owned(), &module);
            if let Some(original) = unet.as_ref().and_then(|unet| unet.original(path)) {
                found.add(original, &module);
            }
            for (original, whole) in family.into_iter().flat_map(|family| family.originals(path)) {
                let shape = Some(shape.clone()).filter(|_| whole == path);
                found.add(original, &BaseModule { path: whole.into(), shape });
            }
            // Where the base has the segment files need not, and the other way round.
            match path.strip_prefix(TEXT_MODEL) {
                Some(rest) => found.add(rest.to_owned(), &module),
                None => found.add(format!("{TEXT_MODEL}{path}"), &module),
            }
        }
        found
    }

    fn add(&mut self, name: String, module: &BaseModule<'b>) {
        let joined = self.joined.entry(name.replace('.', "_")).or_insert_with(|| Some(module.clone()));
        if joined.as_ref().is_some_and(|other| other.path != module.path) {
            *joined = None;
        }
        self.dotted.entry(name).or_insert_with(|| module.clone());
    }

    /// The module that a key is for.
    fn find(&self, adapter: &str, key: &Key) -> Result<Option<&BaseModule<'b>>> {
        if !key.is_joined() {
            // `transformer.h.0.…` of a GPT-2 is no component of a pipeline, and a file of it does not say its scale.
            let is_one = !self.is_text || key.is_text();
            return Ok(self.dotted.get(&key.module).filter(|_| is_one));
        }
        match self.joined.get(&key.module) {
            None => Ok(None),
            Some(Some(module)) => Ok(Some(module)),
            Some(None) => {
                Err(ClaimError::Flattened { adapter: adapter.to_owned(), module: key.whole_module() }.into())
            }
        }
    }
}
