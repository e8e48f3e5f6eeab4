//! Trainable tokens: rows of an embedding that replace the base's, `W[index_j] = row_j`.
//!
//! PEFT calls the tensor `trainable_tokens_delta`, but its rows are values (`TrainableTokensLayer.get_merged_weights`;
//! peft-methods.md 3.8). The method of its own (`TRAINABLE_TOKENS`) and LoRA's `trainable_token_indices` write the same.
//! Rows stand in the order of the config's list, sorted or not. A head that is tied to the embedding follows it.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::claim::findings::Findings;
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::{Field, bad_field};
use crate::error::adapter::AdapterError;
use crate::error::claim::ClaimError;
use crate::error::plan::PlanError;
use crate::error::{Error, Result};
use crate::model::outline::Target;
use crate::ops::factor::Factor;
use crate::ops::op::Op;
use crate::ops::placement::{Axis, Placement};
use crate::ops::rows::ReplaceRows;

/// Rows in place of rows.
pub(crate) struct TrainableTokens;

const ROWS: Tail = Tail::bare(".trainable_tokens_delta");

const FIELDS: &[(&str, Field)] =
    &[("token_indices", Field::Fine), ("init_weights", Field::Fine), ("ensure_weight_tying", Field::Flag)];

impl Claim for TrainableTokens {
    fn peft_types(&self) -> &'static [&'static str] {
        &["TRAINABLE_TOKENS", "LORA"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        // PEFT gives a tied head the rows of the embedding.
        if context.adapter.options.methods.tokens.is_set {
            findings.trains_tied_as_one();
        }
        for (path, rows) in findings.take(context, ROWS) {
            let module = path.strip_suffix(".token_adapter").unwrap_or(path);
            if let Err(error) = claim_rows(context, findings, module, rows) {
                findings.refuse(error);
            }
        }
    }
}

fn claim_rows(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    rows: usize,
) -> Result<()> {
    let Some(target) = context.target(findings, &[rows], module, "weight") else { return Ok(()) };
    let tensor = context.tensor(rows).clone();
    let weight = context.weight(target);
    let &[tokens, width] = weight.shape.axes() else {
        return Err(
            context.factor_shape(rows, format!("rows of `{}`, which is {}", weight.name, weight.shape))
        );
    };
    let (field, indices) = indices(context, module)?;
    if tensor.tensor.shape.axes() != [indices.len() as u64, width] {
        let expected = format!("[{}, {width}], a row for each of `{field}`", indices.len());
        return Err(context.factor_shape(rows, expected));
    }
    check(context, field, indices, tokens)?;
    reserve(context, target, &weight.name, indices)?;
    let weight = context.adapter.weight_of(module);
    if weight != 1.0 {
        let adapter = context.adapter.name.clone();
        let why = "rows that replace others have no scale";
        return Err(ClaimError::Weighted { adapter, what: tensor.key.to_string(), weight, why }.into());
    }
    let ops = runs(indices).into_iter().map(|(token, row, count)| {
        let axes = [Axis { count, stride: width }, Axis { count: width, stride: 1 }].into();
        let factor = Factor::along(0, tensor.tensor.clone(), width, width, 1).starting(row * width);
        Op::new(ReplaceRows, Placement { start: token * width, axes }, vec![factor], 1.0)
    });
    if context.outline.is_tied_embedding(target) {
        match context.head_module() {
            None => findings.head_follows(),
            Some(head) if findings.does_head_follow() || has_rows(context, &head) => {}
            Some(head) => return Err(head_has_more(context, tensor.key.to_string(), &head)),
        }
    }
    findings.claim(ClaimedModule::change("tokens", module, [tensor.key], target, ops.collect()));
    Ok(())
}

/// Whether rows of its own are in the adapter for a module.
fn has_rows(context: &ClaimContext<'_>, module: &str) -> bool {
    ["", ".token_adapter"]
        .iter()
        .any(|wrapper| context.at_path(&format!("{module}{wrapper}{}", ROWS.role)).is_some())
}

/// PEFT gives a tied head the embedding's rows before what it has of its own, saves them once, and cannot merge that.
fn head_has_more(context: &ClaimContext<'_>, key: String, head: &str) -> Error {
    let adapter = context.adapter.name.clone();
    Error::new(ClaimError::HeadHasMore { adapter, key, head: head.to_owned() })
        .hint("PEFT cannot merge this adapter either: serve it beside its base, or train it on a base with untied embeddings")
}

/// The tokens of a module, and the field that lists them.
fn indices<'a>(context: &ClaimContext<'a>, module: &str) -> Result<(&'static str, &'a [u64])> {
    let options = &context.adapter.options.methods.tokens;
    match options.of(module) {
        Some(tokens) => Ok((options.field, tokens)),
        None => {
            let (adapter, module) = (context.adapter.name.clone(), module.to_owned());
            let (field, value) = (options.field, options.shown.clone());
            Err(AdapterError::NoTokens { adapter, field, value, module }.into())
        }
    }
}

fn check(context: &ClaimContext<'_>, field: &'static str, indices: &[u64], tokens: u64) -> Result<()> {
    let adapter = &context.adapter.name;
    let mut sorted = indices.to_vec();
    sorted.sort_unstable();
    if let Some(&token) = sorted.last().filter(|&&last| last >= tokens) {
        let adapter = adapter.clone();
        return Err(Error::new(AdapterError::NoSuchToken { adapter, field, token, tokens })
            .hint("the vocabulary was made larger before training: grow the base first, or save the adapter with its embedding"));
    }
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(bad_field(adapter, field, &pair[0].into(), "names the token twice")),
        None => Ok(()),
    }
}

/// Two adapters must not replace the same row, as in PEFT.
fn reserve(context: &mut ClaimContext<'_>, target: Target, name: &str, indices: &[u64]) -> Result<()> {
    let adapter = context.adapter.name.clone();
    match context.outline.reserve(target, indices, &adapter) {
        None => Ok(()),
        Some((token, earlier)) => {
            let kind = PlanError::TokenTwice { tensor: name.to_owned(), token, earlier, later: adapter };
            Err(Error::new(kind).hint("only one of them can be what the model learnt for that token"))
        }
    }
}

/// TrainableTokens that follow each other, with their rows: first token, first row, how many.
fn runs(indices: &[u64]) -> Vec<(u64, u64, u64)> {
    let mut runs: Vec<(u64, u64, u64)> = Vec::new();
    for (row, &token) in indices.iter().enumerate() {
        match runs.last_mut() {
            Some((first, _, count)) if *first + *count == token => *count += 1,
            _ => runs.push((token, row as u64, 1)),
        }
    }
    runs.sort_unstable();
    runs
}

#[cfg(test)]
mod tests {
    use crate::adapters::claim::trainable_tokens::runs;

    #[test]
    fn tokens_that_follow_each_other_are_one_run() {
        assert_eq!(runs(&[5, 6, 7, 2, 3, 9]), [(2, 3, 2), (5, 0, 3), (9, 5, 1)]);
        assert_eq!(runs(&[]), []);
    }
}
