//! An adapter as its dialect reads it: tensors with paths of one grammar, options, and what tells of its producer.
//!
//! Nothing here names a file or a field of one trainer. Claims read an [`Adapter`] through its tensors' paths and its
//! [`Options`]; the map of raw fields is kept to account for each of them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use regex::Regex;
use smallvec::SmallVec;

use crate::checkpoint::config::Config;
use crate::checkpoint::side_files::is_beside;
use crate::error::Result;
use crate::error::adapter::AdapterError;
use crate::error::claim::ClaimError;
use crate::hub::resolved::Resolved;
use crate::model::names::geometry::Geometry;
use crate::model::names::lookup::{Names, PathFacts};
use crate::model::names::name_tables::NameTables;
use crate::storage::location::Location;
use crate::storage::source::Source;
use crate::storage::store::Entry;
use crate::tensor::name::Name;
use crate::tensor::reference::TensorRef;
use crate::tensor::shape::Shape;

use crate::adapters::adapter_weight::AdapterWeight;
use crate::adapters::evidence::Evidence;
use crate::adapters::expert_options::ExpertLayout;
use crate::adapters::options::Options;
use crate::adapters::own_model::own_names::OwnModel;
use crate::adapters::parts::{Grammar, Part, Role};
use crate::adapters::peft::config::{AdapterConfig, bad_field};
use crate::adapters::row_order::{InModelOrder, ReorderedRows, RowOrder};

/// Keys of an adapter's tensors: of most claims two, which may be 60,000 claims.
pub(crate) type Keys = SmallVec<[Name; 2]>;

/// Why no merge needs a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unneeded {
    /// Training left it as it was, and holds what it made of it beside it.
    FrozenCopy,
    /// It is no weight.
    Computed,
    /// It has no elements.
    Empty,
    /// It says what a module's delta is multiplied by, which was read.
    Alpha,
    /// The base is another part of a pipeline.
    OtherComponent,
    /// It is for another component that is merged in the same run.
    Sibling,
}

impl Unneeded {
    /// The rule that ignores it, for notes; none if it is not ignored, as it has been read.
    pub(crate) fn rule(self) -> Option<&'static str> {
        match self {
            Unneeded::FrozenCopy => Some("frozen beside what was trained"),
            Unneeded::Computed => Some("computed by the model"),
            Unneeded::Empty => Some("without values"),
            Unneeded::OtherComponent => Some("for another component of the pipeline than the base is"),
            Unneeded::Alpha | Unneeded::Sibling => None,
        }
    }
}

/// Wrappers that a dialect took off keys, and off how many.
pub(crate) type Stripped = BTreeMap<&'static str, usize>;

/// One tensor of an adapter.
#[derive(Clone, Debug)]
pub struct AdapterTensor {
    /// Its key as the file has it.
    pub key: Name,
    /// Its path by the grammar of [`parts`](crate::adapters::parts), without what the dialect puts around it.
    path: Name,
    /// What its path says.
    pub(crate) part: Part,
    /// Why no merge needs it, if none does.
    pub(crate) unneeded: Option<Unneeded>,
    /// Where its bytes are. Its shape is by PEFT's order of axes, whatever its file has.
    pub tensor: TensorRef,
    /// Whether its file has the two axes exchanged.
    pub(crate) is_across: bool,
}

impl AdapterTensor {
    /// A tensor whose dialect reads its key as `path`.
    pub(crate) fn new(key: Name, path: &str, grammar: &Grammar, tensor: TensorRef) -> AdapterTensor {
        let (path, part) = (key.part(path), grammar.read(path));
        AdapterTensor { key, path, part, unneeded: None, tensor, is_across: false }
    }

    /// The same, which no merge needs for that reason, if any.
    #[must_use]
    pub(crate) fn unneeded(self, unneeded: Option<Unneeded>) -> AdapterTensor {
        AdapterTensor { unneeded, ..self }
    }

    /// The same at another path.
    #[must_use]
    pub(crate) fn at_path(self, path: &str, grammar: &Grammar) -> AdapterTensor {
        let (path, part) = (self.key.part(path), grammar.read(path));
        AdapterTensor { path, part, ..self }
    }

    /// The same matrix, whose file has its axes exchanged: it has the shape that the file says now. What is none is as it is.
    #[must_use]
    pub(crate) fn across(self) -> AdapterTensor {
        let &[first, second] = self.tensor.shape.axes() else { return self };
        let Some(shape) = Shape::new(&[second, first]) else { return self };
        AdapterTensor { tensor: TensorRef { shape, ..self.tensor }, is_across: !self.is_across, ..self }
    }

    /// Elements of its file from one row of it to the next, and from one column: those of all axes but the first are one.
    pub(crate) fn strides(&self) -> [u64; 2] {
        let axes = self.tensor.shape.axes();
        if self.is_across {
            [1, axes.first().copied().unwrap_or(1)]
        } else {
            [axes.iter().skip(1).product(), 1]
        }
    }

    /// Its path by the grammar.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The module's path as the adapter spells it.
    pub(crate) fn module(&self) -> &str {
        self.part.module(self.path())
    }

    /// A text that may be a part of its path, as one.
    pub(crate) fn part_of_path(&self, text: &str) -> Name {
        self.path.part(text)
    }

    /// The path of the model's module that it belongs to, whatever its method; of a value, the module that owns it.
    pub(crate) fn owner(&self) -> &str {
        self.part.owner(self.path())
    }

    /// Whether it stands in place of a parameter.
    pub(crate) fn is_value(&self) -> bool {
        self.part.role == Role::Value
    }
}

/// What an adapter's tensors say of a weight's shape.
#[derive(Debug, Default)]
struct Extents {
    /// Inputs, a convolution's kernel among them.
    inputs: Option<u64>,
    outputs: Option<u64>,
    /// The shape of what stands in its place.
    whole: Option<Vec<u64>>,
}

impl Extents {
    /// Whether a weight of that shape may be meant: stored either way around.
    fn fit(&self, shape: &Shape) -> bool {
        let axes = shape.axes();
        if let Some(whole) = &self.whole {
            return axes == whole;
        }
        let (Some(&first), rest) = (axes.first(), axes.iter().skip(1).product::<u64>()) else { return false };
        let is = |said: Option<u64>, found: u64| said.is_none_or(|said| said == found);
        is(self.outputs, first) && is(self.inputs, rest) || is(self.outputs, rest) && is(self.inputs, first)
    }
}

/// An adapter, read as far as headers go.
pub struct Adapter {
    /// Name for messages: the directory's, or that of its repository.
    pub name: String,
    /// The dialect that it was read by.
    pub(crate) dialect: &'static str,
    /// The method's type, by PEFT's names: which claims read it.
    pub(crate) kind: String,
    /// The directory that holds its files.
    pub location: Location,
    /// The name of the file of its tensors, or of the index of several.
    pub(crate) file: String,
    /// The names of all files of its tensors.
    pub(crate) files: Vec<String>,
    /// What decides the meaning of its tensors.
    pub(crate) options: Options,
    /// All fields of its config, each of which is honoured or refused; none if the dialect has none.
    pub(crate) config: AdapterConfig,
    /// What tells of its producer.
    pub(crate) evidence: Evidence,
    /// BLAKE3 of what its options were read from, in hex.
    pub config_hash: String,
    /// BLAKE3 of the header of its tensors' file, in hex.
    pub header_hash: String,
    /// Its tensors, in the order of their bytes.
    pub tensors: Vec<AdapterTensor>,
    /// What was taken off their keys that is no part of the format, and off how many.
    pub(crate) stripped: Stripped,
    /// What its deltas are multiplied by.
    pub weight: AdapterWeight,
    /// What the user says of the factors of its experts.
    pub experts: ExpertLayout,
    /// What the user says of keys that may be left out where no base tensor has their names.
    pub unmatched: Vec<Regex>,
    /// What the user says of modules that may be missing though its config promises them.
    pub missing: Vec<Regex>,
    /// The file of its tensors.
    pub source: Box<dyn Source>,
    /// In which order the rows of its output factors are, where that is not the model's.
    pub(crate) reordered: Option<RowOrder>,
    /// Whose names its paths have until it meets a base, where its trainer has models of its own.
    pub(crate) own_model: Option<&'static OwnModel>,
    /// The heads of queries and of keys that it was trained with, where it says so.
    pub(crate) own_heads: Option<[u64; 2]>,
    /// Whether it is one file, and may lie beside anything.
    pub(crate) stands_alone: bool,
    /// Where its keys begin with components of a pipeline, of which no base is known yet: PEFT's config of each that has one.
    pub(crate) components: Option<HashMap<&'static str, AdapterConfig>>,
}

impl Adapter {
    /// What the delta of `module` is multiplied by, not yet rounded to f32; `rank` is what its factors have, where they tell.
    ///
    /// # Errors
    /// [`ClaimError::Rank`] for factors of another rank than the options say, [`AdapterError::Field`] for a scale that no f32
    /// holds, [`AdapterError::Pattern`].
    pub(crate) fn scale(&self, module: &str, rank: Option<u64>) -> Result<f64> {
        let planned = self.options.planned(module)?;
        if let Some(found) = rank.filter(|&rank| planned.rank != rank as f64) {
            let expected = planned.rank as u64;
            let adapter = self.name.clone();
            return Err(ClaimError::Rank { adapter, module: module.to_owned(), found, expected }.into());
        }
        let scale = self.options.scale(1.0, planned, module);
        self.finite_scale(module, scale, (self.options.alpha_field, planned.alpha))
    }

    /// What a method's own scale comes to for `module`, where the number of `field` makes it.
    ///
    /// # Errors
    /// [`AdapterError::Field`] for a scale that no f32 holds.
    pub(crate) fn own_scale(&self, module: &str, field: &str, scale: f64) -> Result<f64> {
        self.finite_scale(module, scale, (field, self.number(field)?))
    }

    /// A scale, which the number of a field makes, times the weight of a module.
    fn finite_scale(&self, module: &str, scale: f64, (field, number): (&str, f64)) -> Result<f64> {
        // PEFT multiplies f32 factors by it, which rounds it; the weight of a merge comes after that.
        let scale = self.weight_of(module) * f64::from(scale as f32);
        if (scale as f32).is_finite() {
            return Ok(scale);
        }
        let value = serde_json::Value::from(number);
        Err(bad_field(&self.name, field, &value, "gives a scale that is not a finite number"))
    }

    /// The weight of a module, which multiplies what it adds: every claim asks for it here.
    pub(crate) fn weight_of(&self, module: &str) -> f64 {
        self.weight.of(module)
    }

    /// The first of its modules that has another weight than 1, for methods that have no part of what they do.
    pub(crate) fn weighted_module(&self) -> Option<(&str, f64)> {
        let mut all = self.modules().map(|module| (module, self.weight_of(module)));
        all.find(|(_, weight)| *weight != 1.0)
    }

    /// A number that its method's config sets.
    ///
    /// # Errors
    /// [`AdapterError::Field`] for what is none.
    pub(crate) fn number(&self, field: &str) -> Result<f64> {
        self.options.methods.settings.number(field).map_err(|problem| problem.refused(&self.name))
    }

    /// A word that its method's config sets.
    ///
    /// # Errors
    /// [`AdapterError::Field`] for what is none that is known.
    pub(crate) fn word(&self, field: &str) -> Result<&'static str> {
        self.options.methods.settings.word(field).map_err(|problem| problem.refused(&self.name))
    }

    /// Its tensors as a merge reads them, with rows in the order of a model of that config.
    ///
    /// # Errors
    /// [`AdapterError::RowOrder`] where the config does not say how many heads there are, or rows are not theirs.
    pub(crate) fn into_source(self, config: &Config) -> Result<Box<dyn Source>> {
        let Some(order) = self.reordered else { return Ok(self.source) };
        let geometry = Geometry::of(config);
        let heads = geometry.heads.zip(geometry.kv_heads).map_or([0, 0], |(queries, keys)| [queries, keys]);
        let mut matrices = Vec::new();
        // Magnitudes are one for each row.
        let of_rows = |tensor: &&AdapterTensor| matches!(tensor.part.role, Role::B | Role::Magnitude);
        for tensor in self.tensors.iter().filter(of_rows) {
            // Of a model of no heads nothing is reordered, but for what would be of one head.
            if order.heads(tensor.path(), [1, 1]) == 0 {
                continue;
            }
            let (heads, rows) =
                (order.heads(tensor.path(), heads), tensor.tensor.shape.axes().first().copied().unwrap_or(0));
            let own = self.own_heads.map_or(heads, |own| order.heads(tensor.path(), own));
            if heads == 0 || own != heads || !rows.is_multiple_of(2 * heads) {
                let (adapter, key, order) = (self.name, tensor.key.to_string(), order.text());
                return Err(AdapterError::RowOrder { adapter, key, rows, heads, order }.into());
            }
            let (head, row_bytes) = (rows / heads, tensor.tensor.bytes() / rows.max(1));
            matrices.push(ReorderedRows { start: tensor.tensor.offset, head, rows, row_bytes });
        }
        matrices.retain(|matrix| matrix.rows > 0 && matrix.row_bytes > 0);
        Ok(Box::new(InModelOrder::new(self.source, matrices)))
    }

    /// Its side files that belong beside the merged model.
    ///
    /// # Errors
    /// As [`Location::files`].
    pub fn side_files(&self) -> Result<Vec<Entry>> {
        if self.stands_alone {
            return Ok(Vec::new());
        }
        let mut found = self.location.files(&|_| true)?;
        found.retain(|file| is_beside(&file.name));
        Ok(found)
    }

    /// Where on disk the parameters are that its keys name.
    ///
    /// # Errors
    /// [`ClaimError::Readings`] if its paths can be read in two ways that do not mean the same tensors.
    pub fn names<'a>(&self, name_tables: &NameTables<'a>) -> Result<Names<'a>> {
        let fits = self.fits();
        let may_be_new = |path: &str| self.options.may_be_new(path);
        Names::new(name_tables, &self.owners(), PathFacts { fits: &fits, may_be_new: &may_be_new })
    }

    /// Whether a weight of a shape may be the one that an owner's tensors are for.
    pub(crate) fn fits(&self) -> impl Fn(&str, &Shape) -> bool {
        let extents = self.extents();
        move |path, shape| extents.get(path).is_none_or(|extents| extents.fit(shape))
    }

    /// What the tensors of each module say of its weight's shape.
    fn extents(&self) -> HashMap<&str, Extents> {
        let mut found: HashMap<&str, Extents> = HashMap::new();
        for tensor in self.needed() {
            let extents = found.entry(tensor.owner()).or_default();
            match (tensor.part.role, tensor.tensor.shape.axes()) {
                (Role::A, [_, inputs @ ..]) if !inputs.is_empty() => {
                    extents.inputs = Some(inputs.iter().product());
                }
                (Role::B, [outputs, ..]) => extents.outputs = Some(*outputs),
                (Role::Value, axes) if tensor.path().ends_with(".weight") => {
                    extents.whole = Some(axes.to_vec())
                }
                _ => {}
            }
        }
        found
    }

    /// Its tensors, but for those that no merge needs.
    pub(crate) fn needed(&self) -> impl Iterator<Item = &AdapterTensor> {
        self.tensors.iter().filter(|tensor| tensor.unneeded.is_none())
    }

    /// The paths of the modules that its tensors are for, as it spells them.
    pub(crate) fn modules(&self) -> impl Iterator<Item = &str> + Clone {
        self.tensors.iter().filter(|tensor| tensor.unneeded.is_none()).map(AdapterTensor::module)
    }

    /// The model's modules that its tensors belong to, each once.
    pub(crate) fn owners(&self) -> Vec<&str> {
        let mut owners: Vec<&str> = Vec::new();
        for owner in self.needed().map(AdapterTensor::owner) {
            // The factors of a module follow each other.
            if owners.last() != Some(&owner) {
                owners.push(owner);
            }
        }
        owners.sort_unstable();
        owners.dedup();
        owners.retain(|owner| !owner.is_empty());
        owners
    }
}

/// What an adapter in `place` is called in messages.
pub(crate) fn name_of(place: &Resolved) -> String {
    place.name().map_or_else(|| last_name(&place.location.path()), str::to_owned)
}

/// The last name of a path.
fn last_name(path: &Path) -> String {
    let name = path.file_name().or_else(|| path.parent()?.file_name());
    name.map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
