//! Results that lie as a template does (`--to`): its header, names and order of tensors, with all values of the base.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::checkpoint::catalogue::{BaseTensor, Catalogue, FileLayout, StoredAs, StoredForm};
use crate::checkpoint::compare::{holds, open};
use crate::checkpoint::discover::Checkpoint;
use crate::checkpoint::llama_cpp::{are_apart, is_of_config};
use crate::checkpoint::quantized::{TensorRole, Weights};
use crate::checkpoint::weights_name::name_in_type;
use crate::encodings;
use crate::encodings::logical::Logical;
use crate::error::plan::PlanError;
use crate::error::request::RequestError;
use crate::error::{Error, Result};
use crate::model::outline::{Outline, Target};
use crate::model::tied::stored_tie;
use crate::plan::original::Originals;
use crate::plan::out_content::{TensorEdits, copied, merge, out, refuse_other_views};
use crate::plan::out_tensor::{Content, OutShard, OutTensor};
use crate::plan::planner::Planner;
use crate::tensor::dtype::Dtype;
use crate::tensor::name::Name;
use crate::tensor::shape::Shape;

/// The flag that names the types.
const FLAG: &str = "--gguf-type";
/// What it accepts.
const ACCEPTED: &str = "`auto`, `f16`, `bf16`, `f32`, `q8_0` or `template` is accepted";
/// Types by their names.
const NAMED: &[(&str, WrittenTypes)] = &[
    ("f16", WrittenTypes::Of(Dtype::F16)),
    ("bf16", WrittenTypes::Of(Dtype::BF16)),
    ("f32", WrittenTypes::Of(Dtype::F32)),
    ("q8_0", WrittenTypes::Of(Dtype::Q8_0)),
    ("template", WrittenTypes::AsTemplate),
];
/// Buffers that models compute, and checkpoints of old hold.
const COMPUTED: &str = "rotary_emb.inv_freq";

/// Which types tensors are written in that are not as small as vectors, which stay F32 as those that the template has so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WrittenTypes {
    /// All in this one.
    Of(Dtype),
    /// Each in the one that the template has.
    AsTemplate,
}

impl WrittenTypes {
    /// The type of a tensor that the template has in this one.
    fn of(self, template: Dtype, shape: &Shape) -> Dtype {
        let [cols, rank] = [shape.axes().last().copied().unwrap_or(1), shape.axes().len() as u64];
        match self {
            _ if template == Dtype::F32 || rank < 2 => Dtype::F32,
            WrittenTypes::AsTemplate => template,
            // As llama.cpp's conversion does it.
            WrittenTypes::Of(dtype) if !cols.is_multiple_of(dtype.values()) => Dtype::F16,
            WrittenTypes::Of(dtype) => dtype,
        }
    }
}

impl Planner<'_> {
    /// Which tensors of the original are no plain numbers.
    pub(crate) fn weights_of_original(&self, errors: &mut Vec<Error>) -> Option<Weights> {
        let (weights, wrong) = Weights::of(self.original?);
        errors.extend(wrong);
        Some(weights)
    }

    /// The types of a result that lies as a template does, if this one does; whatever is wrong with the template goes to `errors`.
    pub(crate) fn written_types(
        &self,
        base: Option<&Weights>,
        errors: &mut Vec<Error>,
    ) -> Option<WrittenTypes> {
        let text = self.types?;
        let named = NAMED.iter().find(|(name, _)| *name == text).map(|(_, types)| *types);
        let types = named.or_else(|| (text == "auto").then(|| WrittenTypes::Of(self.sixteen_bits())));
        if types.is_none() {
            let value = text.to_owned();
            errors.push(RequestError::Usage { flag: FLAG, value, accepted: ACCEPTED }.into());
        }
        match base {
            Some(_) if self.base.catalogue.layout() != FileLayout::LlamaCpp => {
                errors.push(PlanError::NoTemplate { path: self.base.location.path() }.into());
            }
            Some(weights) => errors.extend(self.check_template(weights)),
            None => (),
        }
        types
    }

    /// The type of 16 bits that the base's values lose least in.
    fn sixteen_bits(&self) -> Dtype {
        if self.model().config.dtype() == Some(Dtype::F16) { Dtype::F16 } else { Dtype::BF16 }
    }

    /// All in which the template is not one of the base.
    fn check_template(&self, weights: &Weights) -> Vec<Error> {
        let (template, base) = (self.base, self.model());
        let mut errors = other_sizes(template, base);
        if !errors.is_empty() {
            return errors;
        }
        let named = names_in(&template.catalogue);
        for (place, BaseTensor { name, .. }) in base.catalogue.tensors.iter().enumerate() {
            let name = match weights.get(place) {
                Some(TensorRole::Auxiliary { .. } | TensorRole::Unused) => continue,
                Some(TensorRole::Quantized(weight)) => weight.name.as_ref().unwrap_or(name),
                None => name,
            };
            if !named.contains(&**name) && !name.ends_with(COMPUTED) && !is_copy(base, place) {
                let (tensor, template) = (name.to_string(), template.location.path());
                errors.push(PlanError::NotInTemplate { tensor, template }.into());
            }
        }
        errors
    }
}

/// The names that the model has for what a template holds.
fn names_in(template: &Catalogue) -> HashSet<String> {
    let mut names = HashSet::new();
    for (place, BaseTensor { name, tensor }) in template.tensors.iter().enumerate() {
        names.insert(name.to_string());
        if let Some(StoredForm::Experts(experts)) = template.stored(place).map(|stored| &stored.form) {
            let count = tensor.shape.axes().first().copied().unwrap_or(0);
            names.extend((0..count).map(|number| experts.name(number)));
        }
    }
    names
}

/// Whether a tensor is a head that holds what the embedding holds which it is tied to.
fn is_copy(base: &Checkpoint, place: usize) -> bool {
    let Some(tie) = stored_tie(base).filter(|tie| tie.head == place) else { return false };
    let tensor = &base.catalogue.tensors[tie.embedding].tensor;
    open(base, tensor).and_then(|source| holds(base, place, (source.as_ref(), tensor))).unwrap_or(false)
}

/// What headers and configs say of a model's sizes that is not the same.
fn other_sizes(template: &Checkpoint, base: &Checkpoint) -> Vec<Error> {
    let other = |key: &str, found: &Value, expected: &Value| {
        let (key, [found, expected]) = (key.to_owned(), [found, expected].map(text_of));
        Error::new(PlanError::OtherTemplate { key, found, expected, template: template.location.path() })
            .hint("a template is a GGUF file that was made of the same base, in whatever type")
    };
    let types = template.config.get("model_type").zip(base.config.get("model_type"));
    if let Some((found, expected)) = types
        && found.as_str().zip(expected.as_str()).is_some_and(|(one, other)| are_apart(one, other))
    {
        return vec![other("model_type", found, expected)];
    }
    let Value::Object(said) = template.config.value() else { return Vec::new() };
    let chain = base.config.main_text_config();
    let own = |key: &str| chain.iter().find_map(|config| number_of(config.fields, key));
    let pairs = said.iter().filter_map(|(key, found)| Some((key, found, own(key)?)));
    let differ = pairs.filter(|(_, found, expected)| !is_same_number(found, expected));
    differ.map(|(key, found, expected)| other(key, found, expected)).collect()
}

/// A number of a config, also of what stands in it for positions.
fn number_of<'c>(fields: &'c Map<String, Value>, key: &str) -> Option<&'c Value> {
    let inside = || fields.get("rope_parameters")?.get(key);
    fields.get(key).filter(|value| value.is_number()).or_else(inside).filter(|value| value.is_number())
}

/// Whether numbers are the same, one of which a header holds in f32.
fn is_same_number(one: &Value, other: &Value) -> bool {
    let [Some(one), Some(other)] = [one, other].map(Value::as_f64) else { return true };
    one == other || one as f32 == other as f32
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// How output tensors are made that lie as a template has them and start from the base.
pub(crate) struct LikeTemplate<'c> {
    /// The template's tensors.
    pub(crate) outline: &'c Outline<'c>,
    /// The base's.
    pub(crate) originals: Originals<'c>,
    /// The types that they are written in.
    pub(crate) types: WrittenTypes,
}

impl LikeTemplate<'_> {
    /// A shard by the name that it has in the type in which it is written.
    pub(crate) fn named(&self, shard: OutShard) -> OutShard {
        let name = match self.types {
            WrittenTypes::Of(dtype) => name_in_type(&shard.name, dtype),
            WrittenTypes::AsTemplate => None,
        };
        OutShard { name: name.unwrap_or_else(|| shard.name.clone()), ..shard }
    }

    /// The output tensor for one of the template's.
    pub(crate) fn tensor(
        &self,
        place: usize,
        template: &BaseTensor,
        edits: TensorEdits,
    ) -> Result<OutTensor> {
        let name = self.outline.base.catalogue.stored_name(place);
        let is_stack = matches!(self.stored(place), Some(StoredAs { form: StoredForm::Experts(_), .. }));
        if template.name != *name || is_stack {
            return self.weight(place, name, edits);
        }
        // What the model has no name for is no weight: it may be made of the config alone.
        if is_of_config(name) {
            return Ok(copied((name, &template.tensor)));
        }
        Err(self.refused(name, "transformers has no name for it"))
    }

    fn stored(&self, place: usize) -> Option<&StoredAs> {
        self.outline.base.catalogue.stored(place)
    }

    fn refused(&self, name: &Name, why: &'static str) -> Error {
        let (tensor, template) = (name.to_string(), self.outline.base.location.path());
        PlanError::TemplateTensor { tensor, template, why }.into()
    }

    /// The output tensor that lies as the template's at that place, called so.
    pub(crate) fn weight(&self, place: usize, name: &Name, edits: TensorEdits) -> Result<OutTensor> {
        let template = &self.outline.base.catalogue.tensors[place].tensor;
        let wanted = self.outline.weight(Target::Base(place));
        let (start, claim) = match edits.replaced.as_deref() {
            Some((value, claim)) => {
                (Logical::plain(value).expect("claims of other dtypes are refused"), Some(*claim))
            }
            None => (self.originals.of(&wanted, self.stored(place), None)?, None),
        };
        let (dtype, shape) = (self.types.of(template.dtype, &wanted.shape), start.shape().clone());
        let plain = encodings::plain(dtype);
        if edits.ops.is_empty() && plain.is_some_and(|plain| plain.name() == start.encoding()) {
            let content = Content::Copy { from: start.parts()[0].clone(), claim };
            return Ok(out(name, dtype, shape, plain, 0, content));
        }
        let mut content = merge(start, claim, edits.ops);
        refuse_other_views(name, &content)?;
        let Some(unwritten) = encodings::unwritten(dtype, &shape) else {
            return Ok(out(name, dtype, shape, plain, 0, content));
        };
        let encoding = encodings::find(unwritten.encoding()).expect("the table made it");
        if let Some(why) = encoding.decode_only(&unwritten) {
            return Err(self.refused(name, why));
        }
        if let Content::Compute { form, fresh, .. } = &mut content {
            (*form, *fresh) = (Some(Box::new(unwritten)), true);
        }
        Ok(out(name, dtype, blocks_of(&shape, dtype), Some(encoding), 0, content))
    }
}

/// The shape of a weight in elements that hold several values each.
fn blocks_of(shape: &Shape, dtype: Dtype) -> Shape {
    let mut axes = shape.axes().to_vec();
    if let Some(cols) = axes.last_mut() {
        *cols /= dtype.values();
    }
    Shape::new(&axes).expect("it has fewer elements than values")
}
