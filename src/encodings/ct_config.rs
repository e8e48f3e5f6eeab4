//! What a config of compressed-tensors says of one weight.
//!
//! A config has groups of arguments, each with targets. Headers say which weights are quantized, so that targets only matter
//! where groups differ.

use serde_json::Value;

use crate::error::quantized::QuantizedProblem;

use crate::encodings::ct_targets::GroupTargets;
use crate::encodings::logical::{Candidate, Or};

/// The `quant_method` of such checkpoints.
pub(crate) const METHOD: &str = "compressed-tensors";

/// Groups beyond which a config is refused: every weight asks all of them.
const MOST_GROUPS: usize = 256;

/// A group of arguments.
#[derive(Clone, Copy)]
pub(crate) struct CtGroup<'c> {
    config: &'c Value,
    group: &'c Value,
}

/// What shares a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// All of a weight.
    Tensor,
    /// A row.
    Channel,
    /// So many columns of a row.
    Group(u64),
    /// So many columns of a row, and all of them a second one.
    TensorGroup(u64),
    /// So many rows of so many columns.
    Block(u64, u64),
}

impl Strategy {
    /// Rows × columns that share a scale. One that ends with the weight is as large as can be.
    pub(crate) fn block(self) -> (u64, u64) {
        match self {
            Strategy::Tensor => (u64::MAX, u64::MAX),
            Strategy::Channel => (1, u64::MAX),
            Strategy::Group(cols) | Strategy::TensorGroup(cols) => (1, cols),
            Strategy::Block(rows, cols) => (rows, cols),
        }
    }
}

impl<'c> CtGroup<'c> {
    /// Its `format`, or that of the whole config.
    pub(crate) fn format(self) -> Option<&'c str> {
        let own = self.group.get("format").and_then(Value::as_str);
        own.or_else(|| self.config.get("format").and_then(Value::as_str))
    }

    /// An argument of its weights.
    pub(crate) fn of_weights(self, key: &str) -> Option<&'c Value> {
        self.group.get("weights").and_then(|weights| weights.get(key)).filter(|value| !value.is_null())
    }

    /// One that is a word.
    pub(crate) fn word(self, key: &str) -> Option<&'c str> {
        self.of_weights(key).and_then(Value::as_str)
    }

    /// Whether its weights have no zero points.
    pub(crate) fn is_symmetric(self) -> bool {
        self.of_weights("symmetric").and_then(Value::as_bool).unwrap_or(true)
    }

    /// The bits of its weights, which must be one of those.
    pub(crate) fn bits(self, read: &'static [u64]) -> Or<u64> {
        let found = self.of_weights("num_bits").and_then(Value::as_u64);
        let unread = QuantizedProblem::Number { key: "num_bits", found, read };
        found.filter(|bits| read.contains(bits)).ok_or(unread)
    }

    /// What shares a scale, which must be one of those that `read` names. Where no strategy is named, sizes say it.
    pub(crate) fn strategy(self, read: &'static [&'static str]) -> Or<Strategy> {
        let size = self.of_weights("group_size").and_then(Value::as_i64);
        let block = self.of_weights("block_structure");
        let word = self.word("strategy").unwrap_or(match (size, block) {
            (Some(-1), _) => "channel",
            (Some(1..), _) => "group",
            (_, Some(_)) => "block",
            _ => "tensor",
        });
        let unread = || QuantizedProblem::Word { key: "strategy", found: word.to_owned(), read };
        if !read.contains(&word) {
            return Err(unread());
        }
        let size = size.and_then(|size| u64::try_from(size).ok()).filter(|size| *size > 0);
        let no_size = QuantizedProblem::OfScheme("`strategy` is `group`, and `group_size` is no size");
        match word {
            "tensor" => Ok(Strategy::Tensor),
            "channel" => Ok(Strategy::Channel),
            "group" => size.map(Strategy::Group).ok_or(no_size),
            "tensor_group" => size.map(Strategy::TensorGroup).ok_or(QuantizedProblem::OfScheme(
                "`strategy` is `tensor_group`, and `group_size` is no size",
            )),
            "block" => block.and_then(sizes).map(|(rows, cols)| Strategy::Block(rows, cols)).ok_or(
                QuantizedProblem::OfScheme(
                    "`strategy` is `block`, and `block_structure` is no pair of sizes",
                ),
            ),
            _ => Err(unread()),
        }
    }
}

/// A block: two numbers, or `128x128` as old files have it.
fn sizes(block: &Value) -> Option<(u64, u64)> {
    let (rows, cols) = match (block.as_array().map(Vec::as_slice), block.as_str()) {
        (Some([rows, cols]), _) => (rows.as_u64()?, cols.as_u64()?),
        (_, Some(text)) => {
            let (rows, cols) = text.split_once('x')?;
            (rows.parse().ok()?, cols.parse().ok()?)
        }
        _ => return None,
    };
    (rows > 0 && cols > 0).then_some((rows, cols))
}

/// What `read` finds in the group of the weight of `module`.
///
/// # Errors
/// As `read`; and where the codes mean something else than any group says, or nothing says which group it is.
pub(crate) fn in_group<T: PartialEq>(
    found: &Candidate<'_>,
    config: &Value,
    module: &str,
    read: impl Fn(CtGroup<'_>) -> Or<T>,
) -> Or<T> {
    whole(config)?;
    let groups = config.get("config_groups").and_then(Value::as_object).filter(|groups| !groups.is_empty());
    let groups = groups.ok_or(QuantizedProblem::OfScheme("the config has no `config_groups`"))?;
    if groups.len() > MOST_GROUPS {
        return Err(QuantizedProblem::OfScheme("the config has more than 256 `config_groups`"));
    }
    let mut all = groups.values().map(|group| read(CtGroup { config, group }));
    let first = all.next().expect("there is a group");
    if all.all(|other| other == first) {
        return first;
    }
    let targets = found.targets.get_or_init(|| GroupTargets::of(groups.values()));
    let place = targets.as_ref().map_err(Clone::clone)?.group(module)?;
    let group = groups.values().nth(place).expect("the targets are those of these groups");
    read(CtGroup { config, group })
}

/// Refuses zero points of a weight that is symmetric, as [`CtFormat::strategy`] has them all.
pub(crate) fn check_no_zero_point(found: &Candidate<'_>, module: &str) -> Or<()> {
    match (found.find)(&format!("{module}.weight_zero_point")) {
        None => Ok(()),
        Some(_) => Err(QuantizedProblem::OfScheme("it is symmetric, and has a `weight_zero_point`")),
    }
}

/// How the floats or whole numbers of one format are stored.
pub(crate) struct CtFormat {
    /// What `format` says.
    pub names: &'static [&'static str],
    /// What `type` says.
    pub kind: &'static str,
    /// Bits of a code.
    pub bits: &'static [u64],
    /// Values of `strategy` that are read.
    pub strategies: &'static [&'static str],
}

impl CtFormat {
    /// What shares a scale of the weight of `module`, if it is of this format.
    ///
    /// # Errors
    /// As [`in_group`], and where the group contradicts the format or says what is not read.
    pub(crate) fn strategy(&self, found: &Candidate<'_>, module: &str) -> Or<Option<Strategy>> {
        let Some(config) = found.quantization.filter(|_| found.method() == Some(METHOD)) else {
            return Ok(None);
        };
        in_group(found, config, module, |group| {
            if !group.format().is_some_and(|format| self.names.contains(&format)) {
                return Ok(None);
            }
            let kind = group.word("type").unwrap_or("int");
            if kind != self.kind {
                let (found, expected) = (kind.to_owned(), self.kind);
                return Err(QuantizedProblem::Setting { key: "type", found, expected });
            }
            group.bits(self.bits)?;
            if !group.is_symmetric() {
                return Err(QuantizedProblem::OfScheme("it is not symmetric, and zero points are not read"));
            }
            group.strategy(self.strategies).map(Some)
        })
    }
}

/// What says that the codes mean something else than their group says.
fn whole(config: &Value) -> Result<(), QuantizedProblem> {
    let is_none = |value: Option<&Value>| match value {
        None | Some(Value::Null) => true,
        Some(value) => value.as_object().is_some_and(|object| object.is_empty()),
    };
    let status = config.get("quantization_status").and_then(Value::as_str);
    if let Some(other) = status.filter(|status| *status != "compressed") {
        let (key, expected) = ("quantization_status", "compressed");
        return Err(QuantizedProblem::Setting { key, found: other.to_owned(), expected });
    }
    if !is_none(config.get("transform_config")) {
        return Err(QuantizedProblem::OfScheme(
            "`transform_config` says that its weights are stored in another basis",
        ));
    }
    let sparsity = config.get("sparsity_config").filter(|value| !is_none(Some(value)));
    if sparsity.is_some_and(|sparsity| sparsity.get("format").and_then(Value::as_str) != Some("dense")) {
        return Err(QuantizedProblem::OfScheme("`sparsity_config` says that its data is sparse"));
    }
    Ok(())
}
