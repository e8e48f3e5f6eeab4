//! Meeting a base: which of a file's components it is, and which of its modules each of the file's is.
//!
//! A path with `_` for its dots cannot be taken apart again, so that the base's modules are spelled as the file spells them, and looked up.
//! Of several components (a UNet, text encoders) the base is the one whose modules it has, in their shapes; what is for others is ignored,
//! and reported. Where it has modules of several, its directory tells, or the file is refused.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use crate::checkpoint::discover::Checkpoint;
use crate::error::adapter::AdapterError;
use crate::error::claim::ClaimError;
use crate::error::{Error, Result};
use crate::tensor::shape::Shape;

use crate::adapters::adapter::{Adapter, AdapterTensor, Unneeded};
use crate::adapters::image::keys::Key;
use crate::adapters::image::original_names::Family;
use crate::adapters::image::unet_names::UnetNames;
use crate::adapters::parts::Grammar;

/// What some versions of transformers have in front of a text encoder's paths, and some have not.
const TEXT_MODEL: &str = "text_model.";
const WEIGHT: &str = ".weight";

/// The adapter with the paths of the base's modules, if its file knows components; else as it is.
///
/// # Errors
/// [`AdapterError::Components`] for a base that two of them fit, [`ClaimError::Unmatched`] for one that none fits, and
/// [`ClaimError::Flattened`] for a name that two modules have.
pub(crate) fn meet(adapter: Adapter, base: &Checkpoint) -> Result<Adapter> {
    if adapter.components.is_none() || adapter.needed().next().is_none() {
        return Ok(adapter);
    }
    let modules = BaseModules::of(base);
    let Some(prefix) = component(&adapter, base, &modules)? else { return Err(no_component(adapter)) };
    let mut adapter = adapter;
    adapter.config = adapter.components.take().and_then(|mut of| of.remove(prefix)).unwrap_or(adapter.config);
    let grammar = Grammar::of(&adapter.kind);
    let mut own = HashMap::new();
    let mut met = Vec::with_capacity(adapter.tensors.len());
    for tensor in std::mem::take(&mut adapter.tensors) {
        let Some(key) = Key::read(&tensor.key) else { continue };
        if key.prefix != prefix {
            met.push(tensor.unneeded(Some(Unneeded::OtherComponent)));
            continue;
        }
        let found = modules.find(&adapter.name, &key)?;
        let module = found.map_or(key.module.as_str(), |module| &module.path);
        if let Some(scale) = adapter.options.own.remove(&key.whole_module()) {
            own.insert(module.to_owned(), scale);
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

/// What the keys begin with of the component that the base is: the only one of which it has modules, or the one that the base's
/// directory is called as; none if it has none of any.
fn component(
    adapter: &Adapter,
    base: &Checkpoint,
    modules: &BaseModules<'_>,
) -> Result<Option<&'static str>> {
    let fits = adapter.fits();
    let mut found: BTreeSet<&'static str> = BTreeSet::new();
    for tensor in adapter.needed() {
        let Some(key) = Key::read(&tensor.key).filter(|key| !found.contains(key.prefix)) else { continue };
        if let Some(module) = modules.find(&adapter.name, &key)?
            && module.shape.is_none_or(|shape| fits(&key.whole_module(), shape))
        {
            found.insert(key.prefix);
        }
    }
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
fn no_component(adapter: Adapter) -> Error {
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
    shape: Option<&'b Shape>,
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
    fn of(base: &'b Checkpoint) -> BaseModules<'b> {
        let tensors = base.catalogue.tensors.iter();
        let modules: Vec<(&str, &Shape)> = tensors
            .filter_map(|tensor| Some((tensor.name.strip_suffix(WEIGHT)?, &tensor.tensor.shape)))
            .collect();
        let unet = UnetNames::of(modules.iter().map(|(module, _)| *module));
        let family = Family::of(modules.iter().map(|(module, _)| *module));
        let is_text = base.config.model_type().is_some();
        let mut found = BaseModules { dotted: HashMap::new(), joined: HashMap::new(), is_text };
        for &(path, shape) in &modules {
            let module = BaseModule { path: path.into(), shape: Some(shape) };
            found.add(path.to_owned(), &module);
            if let Some(original) = unet.as_ref().and_then(|unet| unet.original(path)) {
                found.add(original, &module);
            }
            for (original, whole) in family.into_iter().flat_map(|family| family.originals(path)) {
                let shape = Some(shape).filter(|_| whole == path);
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
