//! Meeting a base: which of a file's components it is, and which of its modules each of the file's is.
//!
//! A path with `_` for its dots cannot be taken apart again, so that the base's modules are spelled as the file spells them, and looked up.
//! Of several components (a UNet, text encoders) the base is the one whose modules it has, in their shapes; what is for others is ignored,
//! and reported.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::checkpoint::discover::Checkpoint;
use crate::error::Result;
use crate::error::adapter::AdapterError;
use crate::error::claim::ClaimError;
use crate::tensor::shape::Shape;

use crate::adapters::adapter::{Adapter, AdapterTensor, Unneeded};
use crate::adapters::image::keys::Key;
use crate::adapters::image::unet_names::UnetNames;
use crate::adapters::parts::Grammar;

/// What some versions of transformers have in front of a text encoder's paths, and some have not.
const TEXT_MODEL: &str = "text_model.";
const WEIGHT: &str = ".weight";

/// The adapter with the paths of the base's modules, if its file knows components; else as it is.
///
/// # Errors
/// [`AdapterError::Components`] for a base that two of them fit, [`ClaimError::Flattened`] for a name that two modules have.
pub(crate) fn meet(adapter: Adapter, base: &Checkpoint) -> Result<Adapter> {
    if adapter.components.is_none() {
        return Ok(adapter);
    }
    let modules = BaseModules::of(base);
    let Some(prefix) = component(&adapter, &modules)? else { return Ok(adapter) };
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
        let module = found.map_or(key.module.as_str(), |(module, _)| module);
        if let Some(scale) = adapter.options.own.remove(&key.whole_module()) {
            own.insert(module.to_owned(), scale);
        }
        let path = format!("{module}{}", key.tail.unwrap_or(".alpha"));
        let unneeded = tensor.unneeded;
        met.push(AdapterTensor::new(tensor.key, &path, &grammar, tensor.tensor).unneeded(unneeded));
    }
    adapter.tensors = met;
    adapter.options.own = own;
    Ok(adapter)
}

/// What the keys begin with of the component that the base is: the one of which it has most modules; none if it has none of any.
fn component(adapter: &Adapter, modules: &BaseModules<'_>) -> Result<Option<&'static str>> {
    let fits = adapter.fits();
    let mut found: BTreeMap<&'static str, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
    for tensor in adapter.needed() {
        let Some(key) = Key::read(&tensor.key) else { continue };
        let (met, all) = found.entry(key.prefix).or_default();
        if let Some((_, shape)) = modules.find(&adapter.name, &key)?
            && fits(&key.whole_module(), shape)
        {
            met.insert(key.module.clone());
        }
        all.insert(key.module);
    }
    let most = found.values().map(|(met, _)| met.len()).max().unwrap_or(0);
    let mut best =
        found.iter().filter(|(_, (met, _))| most > 0 && met.len() == most).map(|(prefix, _)| *prefix);
    match (best.next(), best.next()) {
        (Some(first), Some(second)) => {
            let adapter = adapter.name.clone();
            Err(AdapterError::Components { adapter, first: first.to_owned(), second: second.to_owned() }
                .into())
        }
        (best, _) => Ok(best),
    }
}

/// The base's modules by all that files may call them.
struct BaseModules<'b> {
    /// With dots.
    dotted: HashMap<String, (&'b str, &'b Shape)>,
    /// With underscores; none where two have one name.
    joined: HashMap<String, Option<(&'b str, &'b Shape)>>,
}

impl<'b> BaseModules<'b> {
    fn of(base: &'b Checkpoint) -> BaseModules<'b> {
        let tensors = base.catalogue.tensors.iter();
        let modules: Vec<(&str, &Shape)> = tensors
            .filter_map(|tensor| Some((tensor.name.strip_suffix(WEIGHT)?, &tensor.tensor.shape)))
            .collect();
        let unet = UnetNames::of(modules.iter().map(|(module, _)| *module));
        let mut found = BaseModules { dotted: HashMap::new(), joined: HashMap::new() };
        for &(module, shape) in &modules {
            found.add(module.to_owned(), (module, shape));
            if let Some(original) = unet.as_ref().and_then(|unet| unet.original(module)) {
                found.add(original, (module, shape));
            }
            // Where the base has the segment files need not, and the other way round.
            match module.strip_prefix(TEXT_MODEL) {
                Some(rest) => found.add(rest.to_owned(), (module, shape)),
                None => found.add(format!("{TEXT_MODEL}{module}"), (module, shape)),
            }
        }
        found
    }

    fn add(&mut self, name: String, module: (&'b str, &'b Shape)) {
        let joined = self.joined.entry(name.replace('.', "_")).or_insert(Some(module));
        if joined.is_some_and(|(other, _)| other != module.0) {
            *joined = None;
        }
        self.dotted.entry(name).or_insert(module);
    }

    /// The module that a key is for.
    fn find(&self, adapter: &str, key: &Key) -> Result<Option<(&'b str, &'b Shape)>> {
        if !key.is_joined() {
            return Ok(self.dotted.get(&key.module).copied());
        }
        match self.joined.get(&key.module) {
            None => Ok(None),
            Some(Some(module)) => Ok(Some(*module)),
            Some(None) => {
                Err(ClaimError::Flattened { adapter: adapter.to_owned(), module: key.whole_module() }.into())
            }
        }
    }
}
