//! The base in an adapter's file: a state that was saved whole holds all weights that training left as they were.
//!
//! A trainer that saves `model.state_dict()` of a model that PEFT wrapped writes the base beside the factors:
//! `….q_proj.base_layer.weight`, and plain names where nothing is adapted. Values there are no replacements unless the config
//! says that they were trained. Such a copy is ignored where the base holds the same values; where it does not, the factors belong
//! on another base, and none of it is merged.

use crate::adapters::adapter::AdapterTensor;
use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::locate::join;
use crate::adapters::parts::replaced;
use crate::adapters::peft::selection::is_in;
use crate::error::claim::ClaimError;
use crate::error::{Error, Result};
use crate::model::heads::{is_embedding, is_head};
use crate::model::outline::Target;

/// Copies of the base.
pub(crate) struct FrozenBase;

/// What stands between module and parameter in the path of a copy where the module is adapted.
const ADAPTED: &str = ".base_layer.";
/// What the names of factors of an embedding have in them.
const OF_EMBEDDING: &str = ".lora_embedding_";
const BIAS: &str = "bias";

/// How a copy stands to the base.
enum Against {
    /// The base has no tensor for it, or another vocabulary: others judge it.
    Nothing,
    Same,
    Other,
    /// The base stores it in several tensors.
    Apart,
}

const NOT_COMPARED: &str = "it is a copy of what the base stores in several tensors, and the two are not compared: save the \
                            adapter alone, with PEFT's `save_pretrained`";

impl Claim for FrozenBase {
    fn peft_types(&self) -> &'static [&'static str] {
        &[]
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        let values: Vec<usize> = values(context).collect();
        // PEFT itself saves no such copy but of embeddings and heads, and biases.
        if !values.iter().any(|&tensor| is_of_adapted(context, tensor)) {
            return;
        }
        let (mut same, mut other) = (Vec::new(), Vec::new());
        for tensor in values {
            if is_trained(context, tensor) {
                continue;
            }
            match against_base(context, tensor) {
                Ok(Against::Nothing) => continue,
                Ok(Against::Same) => same.push(tensor),
                Ok(Against::Other) => other.push(tensor),
                Ok(Against::Apart) => findings.refuse_tensor(tensor, NOT_COMPARED),
                Err(error) => findings.refuse(error),
            }
            findings.take_one(tensor);
            context.forget_value(tensor);
        }
        findings.ignore_all(&same, "the base has the same values");
        if other.is_empty() {
            return;
        }
        let keys = other.iter().map(|&tensor| context.tensor(tensor).key.to_string()).collect();
        let error = Error::new(ClaimError::OtherStart { adapter: context.adapter.name.clone(), keys });
        findings.refuse(error.hint(
            "merge into the base that it was trained on, in the precision that it had there, or save the adapter alone, \
             with PEFT's `save_pretrained`; what was trained whole is named by `modules_to_save` in adapter_config.json",
        ));
    }
}

/// Tensors that would stand in place of parameters.
fn values(context: &ClaimContext<'_>) -> impl Iterator<Item = usize> {
    let all = context.adapter.tensors.iter().enumerate();
    all.filter(|(_, tensor)| tensor.is_value() && tensor.unneeded.is_none()).map(|(i, _)| i)
}

/// Whether a value is what an adapted module started from, as PEFT saves for none of that kind.
fn is_of_adapted(context: &ClaimContext<'_>, tensor: usize) -> bool {
    let path = context.path(tensor);
    let (module, parameter) = replaced(path);
    let inner = path
        .strip_suffix(parameter)
        .and_then(|path| path.strip_suffix(ADAPTED)?.strip_suffix(module.as_str()));
    let weight = join(&module, "weight");
    if inner != Some("") || parameter == BIAS || is_embedding(&weight) || is_head(&weight) {
        return false;
    }
    // An embedding may have any name; its factors tell.
    let is_of_table =
        |tensor: &AdapterTensor| tensor.owner() == module && tensor.path().contains(OF_EMBEDDING);
    !context.adapter.tensors.iter().any(is_of_table)
}

/// Whether the config says that a value was trained.
fn is_trained(context: &ClaimContext<'_>, tensor: usize) -> bool {
    let (module, parameter) = replaced(context.path(tensor));
    let options = &context.adapter.options;
    options.saved.iter().any(|entry| is_in(&module, entry)) || options.biases && parameter == BIAS
}

/// Holds a copy against the base.
fn against_base(context: &ClaimContext<'_>, tensor: usize) -> Result<Against> {
    let (module, parameter) = replaced(context.path(tensor));
    let name = join(&module, parameter);
    let value = context.tensor(tensor);
    let target = context.lookup(&module, parameter).or_else(|| {
        let source =
            context.outline.shared_embedding().or(context.outline.head.as_ref().map(|head| head.source));
        source.filter(|_| is_head(&name)).map(Target::Base)
    });
    let place = match target {
        None => return Ok(Against::Nothing),
        Some(Target::Base(place)) => place,
        Some(_) => return Ok(Against::Apart),
    };
    let shape = &context.outline.base.catalogue.tensors[place].tensor.shape;
    if (is_embedding(&name) || is_head(&name)) && *shape != value.tensor.shape {
        return Ok(Against::Nothing);
    }
    let is_same = context.outline.holds(place, (context.adapter.source.as_ref(), &value.tensor))?;
    Ok(if is_same { Against::Same } else { Against::Other })
}
