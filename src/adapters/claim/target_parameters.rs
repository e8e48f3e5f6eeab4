//! LoRA on parameters (`target_parameters`): the fused weights of experts, `[experts, d1, d2]`, and 2-D parameters.
//!
//! PEFT: `lora/layer.py`, `ParamWrapper.get_delta_weight`. The keys name the module that owns the parameter, not the
//! parameter; several parameters of one module are nested in the order in which the module registers them, the first
//! innermost (key-mapping.md 4.1). One expert is one low-rank delta on one slice:
//! `Δ[e] = s·Σ_k B_e[·, k]·A_e[k, ·]`, `A` with the experts slowest, `B` with the experts fastest (or slowest, as Unsloth
//! wrote it until September 2026). Which of the two axes `A` lies on changed with PEFT 0.19 and is seen by the shapes.

use std::collections::BTreeMap;

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::dora::lacks_magnitude;
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::claim::expert_layout;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::pair_op::resolve;
use crate::adapters::claim::pairs::{A, B, Pair, take_tails};
use crate::adapters::parts::Tail;
use crate::error::claim::ClaimError;
use crate::error::{Error, Result};
use crate::model::names::table::expert_orders;
use crate::model::outline::Target;
use crate::note::claim::ClaimNote;
use crate::ops::factor::Factor;
use crate::ops::low_rank::LowRank;
use crate::ops::op::Op;
use crate::ops::placement::{Axis, Placement};
use crate::tensor::name::Name;

/// Low-rank deltas of parameters.
pub(crate) struct TargetParameters;

/// What stands between a module and the wrapper inside its wrapper.
const NESTED: &str = ".base_layer";

/// The order in which modules register parameters that have all of these names, if it is known.
fn order_of(names: &[String]) -> Option<&'static [String]> {
    let has_all = |order: &&Vec<String>| names.iter().all(|name| order.contains(name));
    expert_orders().iter().find(has_all).map(Vec::as_slice)
}

impl Claim for TargetParameters {
    fn peft_types(&self) -> &'static [&'static str] {
        &["LORA"]
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        let entries: Vec<String> = context.adapter.options.target_parameters.clone();
        if entries.is_empty() {
            return;
        }
        let mut modules: BTreeMap<String, Vec<(usize, Pair)>> = BTreeMap::new();
        for pair in take_wrapped(context, findings, &entries) {
            if lacks_magnitude(context, findings, &pair) {
                continue;
            }
            let (module, depth) = unnested(&pair.module);
            modules.entry(module.to_owned()).or_default().push((depth, pair));
        }
        let (mut stacks, mut reordered) = (Vec::new(), Vec::new());
        for (module, mut pairs) in modules {
            pairs.sort_by_key(|(depth, _)| std::cmp::Reverse(*depth));
            let pairs = pairs.into_iter().map(|(_, pair)| pair).collect();
            match parameters(context, findings, &module, pairs, &entries, &mut reordered) {
                Ok(found) => stacks.extend(found),
                Err(error) => findings.refuse(error),
            }
        }
        if let Some(first) = reordered.first() {
            let (module, more) = (first.clone(), reordered.len() - 1);
            findings.note(ClaimNote::ParametersReordered { module, more });
        }
        claim_all(context, findings, stacks);
    }
}

/// Takes the pairs that belong to modules with a targeted parameter.
fn take_wrapped<'c>(
    context: &mut ClaimContext<'c>,
    findings: &mut Findings<'_>,
    entries: &[String],
) -> Vec<Pair<'c>> {
    let tails: [(Tail, Tail); 1] = [(A, B)];
    let mut owners: Vec<String> = Vec::new();
    for i in 0..context.adapter.tensors.len() {
        if let Some(path) = A.module(context.path(i)) {
            let (module, _) = unnested(path);
            if !targeted(context, module, entries).is_empty() {
                owners.push(module.to_owned());
            }
        }
    }
    owners.sort_unstable();
    owners.dedup();
    let is_one = |path: &str| owners.binary_search_by(|owner| owner.as_str().cmp(unnested(path).0)).is_ok();
    tails.into_iter().flat_map(|(a, b)| take_tails(context, findings, a, b, false, is_one)).collect()
}

/// A path without its nesting, and how deep it was.
fn unnested(path: &str) -> (&str, usize) {
    match path.strip_suffix(NESTED) {
        Some(outer) => {
            let (module, depth) = unnested(outer);
            (module, depth + 1)
        }
        None => (path, 0),
    }
}

/// The parameters of a module that entries of `target_parameters` name, in the order of registration as far as it is known.
fn targeted(context: &ClaimContext<'_>, module: &str, entries: &[String]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for entry in entries {
        // An entry is the end of `module.parameter`; its own last segment is the parameter.
        let parameter = entry.rsplit('.').next().unwrap_or(entry);
        let full = format!("{module}.{parameter}");
        let is_named =
            full == *entry || full.strip_suffix(entry.as_str()).is_some_and(|rest| rest.ends_with('.'));
        let fits = match context.lookup(module, parameter) {
            // A bare leaf must not be taken for a linear layer of that name.
            Some(target) => matches!(context.weight(target).shape.axes().len(), 2 | 3),
            // It is one, and is refused once it is looked for.
            None => context.unreadable(module, parameter).is_some(),
        };
        if is_named && fits && !found.iter().any(|other| other == parameter) {
            found.push(parameter.to_owned());
        }
    }
    match order_of(&found) {
        Some(order) => order.iter().filter(|name| found.contains(name)).cloned().collect(),
        None => found,
    }
}

/// One parameter and its pair of factors.
struct Stack<'c> {
    module: String,
    parameter: String,
    pair: Pair<'c>,
    target: Target,
    /// Experts, and the two other axes of the parameter.
    axes: [u64; 3],
    /// Axis sizes of `A` and `B` beside the rank.
    a: u64,
    b: u64,
}

/// Gives each pair its parameter. 2-D parameters are claimed at once, as linear layers.
///
/// Modules in which the pairs fit their parameters in another order than that of registration alone go into `reordered`:
/// axolotl 0.15 nested parameters that it had quantized by their names.
fn parameters<'c>(
    context: &mut ClaimContext<'c>,
    findings: &mut Findings<'_>,
    module: &str,
    pairs: Vec<Pair<'c>>,
    entries: &[String],
    reordered: &mut Vec<String>,
) -> Result<Vec<Stack<'c>>> {
    let names = targeted(context, module, entries);
    if names.len() != pairs.len() {
        let (adapter, found) = (context.adapter.name.clone(), pairs.len());
        return Err(ClaimError::ParameterCount {
            adapter,
            module: module.to_owned(),
            parameters: names,
            found,
        }
        .into());
    }
    let names = in_order(context, module, &pairs, names, reordered)?;
    let mut stacks = Vec::new();
    for (parameter, mut pair) in names.into_iter().zip(pairs) {
        let Some(target) = context.target(findings, &[pair.a, pair.b], module, &parameter) else { continue };
        let path = format!("{module}.{parameter}");
        match *context.weight(target).shape.axes() {
            [experts, d1, d2] => {
                let side = |i: usize, axis: usize| match context.tensor(i).tensor.shape.axes() {
                    &[x, y] => Ok([x, y][axis]),
                    _ => Err(context.factor_shape(i, "two axes".to_owned())),
                };
                let (a, b) = (side(pair.a, 1)?, side(pair.b, 0)?);
                pair.module = path.into();
                stacks.push(Stack {
                    module: module.to_owned(),
                    parameter,
                    pair,
                    target,
                    axes: [experts, d1, d2],
                    a,
                    b,
                });
            }
            _ => {
                pair.parameter = Some(Box::new((module.to_owned(), parameter)));
                pair.module = path.into();
                if let Some(found) = resolve(context, findings, &pair)? {
                    found.claim(findings, "lora", None);
                }
            }
        }
    }
    Ok(stacks)
}

/// The module's parameters in the order of the pairs: that of registration, or the one in which they fit, which is then
/// `reordered`.
fn in_order(
    context: &ClaimContext<'_>,
    module: &str,
    pairs: &[Pair],
    names: Vec<String>,
    reordered: &mut Vec<String>,
) -> Result<Vec<String>> {
    let is_known = names.len() < 2 || order_of(&names).is_some();
    let fit = names.iter().zip(pairs).all(|(name, pair)| fits(context, module, pair, name));
    if !is_known {
        by_shapes(context, module, pairs, names)
    } else if fit {
        Ok(names)
    } else if let Ok(order) = by_shapes(context, module, pairs, names.clone()) {
        reordered.push(module.to_owned());
        Ok(order)
    } else {
        // What does not fit in any order is reported of the usual one.
        Ok(names)
    }
}

/// Whether a pair's sizes are those of a parameter of the module, whichever way they lie.
fn fits(context: &ClaimContext<'_>, module: &str, pair: &Pair<'_>, name: &str) -> bool {
    let Some(target) = context.lookup(module, name) else { return false };
    let (a, b) = (&context.tensor(pair.a).tensor.shape, &context.tensor(pair.b).tensor.shape);
    match (a.axes(), b.axes(), context.weight(target).shape.axes()) {
        (&[_, a], &[b, _], &[_, d1, d2]) => (a, b) == (d1, d2) || (a, b) == (d2, d1),
        (&[_, a], &[b, _], &[d0, d1]) => (a, b) == (d1, d0),
        _ => false,
    }
}

/// The one order of `names` in which every pair fits its parameter.
fn by_shapes(
    context: &ClaimContext<'_>,
    module: &str,
    pairs: &[Pair],
    names: Vec<String>,
) -> Result<Vec<String>> {
    let mut orders = Vec::new();
    permutations(names.clone(), 0, &mut |order| {
        if order.iter().zip(pairs).all(|(name, pair)| fits(context, module, pair, name)) {
            orders.push(order.to_vec());
        }
    });
    match orders.len() {
        1 => Ok(orders.remove(0)),
        found => {
            let (adapter, module) = (context.adapter.name.clone(), module.to_owned());
            let kind = ClaimError::ParameterOrder { adapter, module, parameters: names, found };
            Err(Error::new(kind)
                .hint("the keys do not name the parameters, and their order in this module is not known"))
        }
    }
}

fn permutations(mut names: Vec<String>, from: usize, visit: &mut impl FnMut(&[String])) {
    if from + 1 >= names.len() {
        return visit(&names);
    }
    for i in from..names.len() {
        names.swap(from, i);
        permutations(names.clone(), from + 1, visit);
        names.swap(from, i);
    }
}

/// Claims fused parameters: their orientation is known once all of the adapter's shapes are.
fn claim_all(context: &mut ClaimContext<'_>, findings: &mut Findings<'_>, stacks: Vec<Stack>) {
    let sides: Vec<expert_layout::Sides> = stacks
        .iter()
        .map(|stack| expert_layout::Sides {
            module: &stack.module,
            parameter: &stack.parameter,
            axes: stack.axes,
            a: stack.a,
            b: stack.b,
        })
        .collect();
    let swapped = match expert_layout::orientations(context, &sides) {
        Ok(swapped) => swapped,
        Err(errors) => return errors.into_iter().for_each(|error| findings.refuse(error)),
    };
    for (stack, swapped) in stacks.into_iter().zip(swapped) {
        if let Err(error) = claim_stack(context, findings, stack, swapped) {
            findings.refuse(error);
        }
    }
}

/// One delta for each expert.
fn claim_stack(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    stack: Stack,
    swapped: bool,
) -> Result<()> {
    let Stack { pair, target, axes: [experts, d1, d2], a: a_width, b: b_width, .. } = stack;
    let (a, b) = (context.tensor(pair.a).clone(), context.tensor(pair.b).clone());
    expert_layout::check_count(context, &pair.module, experts)?;
    let (a_rows, b_cols) = (a.tensor.shape.axes()[0], b.tensor.shape.axes()[1]);
    if experts == 0 || a_rows == 0 || a_rows % experts != 0 {
        return Err(context.factor_shape(pair.a, format!("[rank · {experts} experts, ...]")));
    }
    let rank = a_rows / experts;
    if b_cols != a_rows {
        return Err(
            context.factor_shape(pair.b, format!("[{b_width}, {a_rows}], as `{}` has {a_rows} rows", a.key))
        );
    }
    let scale = context.adapter.scale(&pair.module, Some(rank))? as f32;
    let is_grouped = expert_layout::is_grouped(context, rank, experts, &b.key)?;
    let (a_axis, b_axis) = if swapped { (1, 0) } else { (0, 1) };
    let ops = (0..experts).map(|e| {
        let axes = [Axis { count: d1, stride: d2 }, Axis { count: d2, stride: 1 }].into();
        let placement = Placement { start: e * d1 * d2, axes };
        let a = Factor::along(a_axis, a.tensor.clone(), 1, rank, a_width).starting(e * rank * a_width);
        // Where `b`'s columns of one expert start, and how far apart they are.
        let (start, apart) = if is_grouped { (e * rank, 1) } else { (e, experts) };
        let b = Factor::along(b_axis, b.tensor.clone(), a_rows, rank, apart).starting(start);
        Op::new(LowRank::ADDED, placement, vec![a, b], scale)
    });
    let keys = [&a.key, &b.key].map(Name::clone);
    findings.claim(ClaimedModule::change("lora_parameter", &*pair.module, keys, target, ops.collect()));
    Ok(())
}
