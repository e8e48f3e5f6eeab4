//! What a conversion does with tensors: which parts of which runtime parameters they are afterwards.
//!
//! The operations are run on [`TensorBlock`]s, which know shapes and slices and no values.

use serde_json::Value;

use crate::error::conversion::ConversionProblem;
use crate::model::names::param_slice::StoredSlice;

/// More heads than any model has: each is two slices of a parameter.
const MOST_HEADS: u64 = 1024;

/// One operation of a conversion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConversionOp {
    /// Stacks the tensors of each pattern on a new axis.
    Merge(usize),
    /// Concatenates all tensors along an axis, in the order of patterns.
    Concatenate(usize),
    /// Exchanges two axes.
    Transpose {
        /// The axes.
        axes: (usize, usize),
        /// Whether only if the stored shape is not the parameter's.
        check: bool,
    },
    /// Splits along an axis into equal parts, one for each `to`.
    Chunk(usize),
    /// Splits along an axis into parts of the parameters' sizes.
    Split(usize),
    /// Takes the even positions of an axis, then the odd ones.
    Interleave(usize),
    /// Takes of the rows of each head the even ones, then the odd ones.
    Heads {
        /// The part of the config that says how many heads there are; none for all of it.
        of: Option<String>,
        /// Which parameters this is done to; none for all.
        only: Option<Vec<String>>,
    },
    /// Anything else, by its name.
    Unknown(String),
}

/// Tensors that stand for one tensor of a conversion's course.
#[derive(Clone, Debug)]
pub(crate) struct TensorBlock {
    /// Which of the patterns found it.
    pub from: usize,
    /// Its number in the place of `*`.
    pub number: Option<u64>,
    /// Its shape.
    pub shape: Vec<u64>,
    /// What it is made of.
    pub slices: Vec<StoredSlice>,
}

/// What a conversion has to know beside the tensors.
pub(crate) struct ConversionFacts<'a> {
    /// Number of patterns.
    pub patterns: usize,
    /// Number of parameters that it makes.
    pub targets: usize,
    /// Whether a tensor of that shape is not yet as the parameter is.
    pub must_transpose: &'a dyn Fn(&[u64]) -> bool,
    /// Sizes of the parameters that a tensor of so many rows is split into.
    pub sizes: &'a dyn Fn(u64) -> Option<Vec<u64>>,
    /// How many heads a part of the config says there are.
    pub heads: &'a dyn Fn(Option<&str>) -> Option<u64>,
    /// What the rule calls the parameter that is made.
    pub made: &'a str,
}

/// Shape and slices of a parameter, or why it cannot be read as slices.
pub(crate) type Made = Result<(Vec<u64>, Vec<StoredSlice>), ConversionProblem>;

impl ConversionOp {
    /// An operation as the table spells it.
    pub(crate) fn parse(value: &Value) -> Option<ConversionOp> {
        let (name, fields) = (value.get(0)?.as_str()?, value.get(1)?);
        let number = |key: &str| fields.get(key).and_then(Value::as_u64).map(|n| n as usize);
        let flag = |key: &str| fields.get(key).and_then(Value::as_bool).unwrap_or(false);
        let op = match name {
            "MergeModulelist" => number("dim").map(ConversionOp::Merge),
            "Concatenate" => number("dim").map(ConversionOp::Concatenate),
            "Transpose" => number("dim0")
                .zip(number("dim1"))
                .map(|axes| ConversionOp::Transpose { axes, check: flag("check_dims") }),
            "Chunk" => number("dim").map(ConversionOp::Chunk),
            "Split" => number("dim").map(ConversionOp::Split),
            "PermuteForRope" if !flag("inverse") => Some(ConversionOp::Heads {
                of: fields.get("subconfig_key").and_then(Value::as_str).map(str::to_owned),
                only: fields
                    .get("permute_layer_names")
                    .and_then(Value::as_array)
                    .map(|names| names.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
            }),
            "Interleave" if !flag("inverse") => number("dim").map(ConversionOp::Interleave),
            _ => None,
        };
        Some(op.unwrap_or_else(|| ConversionOp::Unknown(name.to_owned())))
    }
}

/// The parameter number `target` that `ops` make of the blocks.
///
/// # Errors
/// With what stands in the way: an operation that is not known, tensors that are missing, or shapes that do not fit.
pub(crate) fn run(
    ops: &[ConversionOp],
    mut blocks: Vec<TensorBlock>,
    facts: &ConversionFacts<'_>,
    target: usize,
) -> Made {
    blocks.sort_unstable_by_key(|block| (block.from, block.number));
    let complete = (0..facts.patterns).all(|from| blocks.iter().any(|block| block.from == from));
    if !complete {
        return Err(ConversionProblem::Incomplete);
    }
    let mut is_cut = false;
    for op in ops {
        blocks = match op {
            ConversionOp::Merge(axis) => merge(blocks, *axis)?,
            ConversionOp::Concatenate(axis) => vec![concatenate(blocks, *axis)?],
            ConversionOp::Chunk(axis) => {
                is_cut = true;
                let sizes = |rows| Some(equal_parts(rows, facts.targets as u64));
                vec![cut(only(blocks)?, *axis, target, sizes)?]
            }
            ConversionOp::Split(axis) => {
                is_cut = true;
                vec![cut(only(blocks)?, *axis, target, facts.sizes)?]
            }
            ConversionOp::Transpose { axes: (a, b), check } => {
                let block = only(blocks)?;
                if block.shape.len() <= *a.max(b) {
                    return Err(ConversionProblem::TransposedAxes { axes: block.shape.len() });
                }
                vec![if *check && !(facts.must_transpose)(&block.shape) {
                    block
                } else {
                    transpose(block, *a, *b)
                }]
            }
            ConversionOp::Interleave(axis) => vec![interleave(only(blocks)?, *axis)?],
            ConversionOp::Heads { only: Some(only), .. }
                if !only.iter().any(|name| facts.made.contains(name.as_str())) =>
            {
                blocks
            }
            ConversionOp::Heads { of, .. } => {
                let heads = (facts.heads)(of.as_deref()).ok_or(ConversionProblem::UnknownHeads)?;
                vec![halve_heads(only(blocks)?, heads)?]
            }
            ConversionOp::Unknown(name) => {
                return Err(ConversionProblem::UnknownOperation { name: name.clone() });
            }
        };
    }
    if facts.targets > 1 && !is_cut {
        return Err(ConversionProblem::UnknownPart);
    }
    let block = only(blocks)?;
    Ok((block.shape, block.slices))
}

/// Sizes of so many parts as torch's `chunk` makes them: the last may be smaller.
fn equal_parts(rows: u64, parts: u64) -> Vec<u64> {
    let size = rows.div_ceil(parts);
    (0..parts).map(|i| size.min(rows.saturating_sub(i * size))).collect()
}

fn only(blocks: Vec<TensorBlock>) -> Result<TensorBlock, ConversionProblem> {
    let count = blocks.len();
    let mut blocks = blocks.into_iter();
    match (blocks.next(), count) {
        (Some(block), 1) => Ok(block),
        _ => Err(ConversionProblem::Several { count }),
    }
}

/// One block for each pattern, its tensors on a new axis in the order of their numbers, which must be 0, 1, 2, ….
fn merge(blocks: Vec<TensorBlock>, axis: usize) -> Result<Vec<TensorBlock>, ConversionProblem> {
    let mut merged: Vec<TensorBlock> = Vec::new();
    for mut block in blocks {
        if merged.last().is_none_or(|last| last.from != block.from) {
            let mut shape = block.shape.clone();
            shape.insert(axis.min(shape.len()), 0);
            merged.push(TensorBlock { from: block.from, number: None, shape, slices: Vec::new() });
        }
        let last = merged.last_mut().expect("one was just added");
        let at = last.shape[axis];
        match block.number {
            Some(number) if number < at => {
                return Err(ConversionProblem::NumberTwice { number });
            }
            Some(number) if number > at => return Err(ConversionProblem::NumberMissing { number: at }),
            _ => {}
        }
        last.shape[axis] += 1;
        block.shape.insert(axis.min(block.shape.len()), at + 1);
        if block.shape != last.shape {
            return Err(ConversionProblem::NumberDiffers { number: at });
        }
        let stacked = |placed: StoredSlice| StoredSlice { slice: placed.slice.stacked(axis, at), ..placed };
        last.slices.extend(block.slices.into_iter().map(stacked));
    }
    if merged.windows(2).any(|pair| pair[0].shape[axis] != pair[1].shape[axis]) {
        return Err(ConversionProblem::UnequalNumbers);
    }
    Ok(merged)
}

fn concatenate(blocks: Vec<TensorBlock>, axis: usize) -> Result<TensorBlock, ConversionProblem> {
    let mut blocks = blocks.into_iter();
    let mut fused = blocks.next().ok_or(ConversionProblem::NoTensors)?;
    if axis >= fused.shape.len() {
        return Err(ConversionProblem::FusedAxes { axes: fused.shape.len(), axis });
    }
    for block in blocks {
        let at = fused.shape[axis];
        let fits = |(i, (a, b)): (usize, (&u64, &u64))| i == axis || a == b;
        if block.shape.len() != fused.shape.len()
            || !fused.shape.iter().zip(&block.shape).enumerate().all(fits)
        {
            return Err(ConversionProblem::UnequalShapes);
        }
        fused.shape[axis] += block.shape[axis];
        let shifted = |placed: StoredSlice| StoredSlice { slice: placed.slice.shifted(axis, at), ..placed };
        fused.slices.extend(block.slices.into_iter().map(shifted));
    }
    Ok(fused)
}

fn transpose(mut block: TensorBlock, a: usize, b: usize) -> TensorBlock {
    block.shape.swap(a, b);
    for placed in &mut block.slices {
        placed.slice = placed.slice.clone().swapped(a, b);
    }
    block
}

/// Part number `target` of those with the sizes that `sizes` gives.
fn cut(
    mut block: TensorBlock,
    axis: usize,
    target: usize,
    sizes: impl Fn(u64) -> Option<Vec<u64>>,
) -> Result<TensorBlock, ConversionProblem> {
    let rows = *block.shape.get(axis).ok_or(ConversionProblem::FewAxes)?;
    let sizes = sizes(rows).ok_or(ConversionProblem::UnknownSizes)?;
    if sizes.iter().sum::<u64>() != rows || sizes.len() <= target {
        return Err(ConversionProblem::Sum { sizes, rows });
    }
    let start = sizes[..target].iter().sum();
    block.shape[axis] = sizes[target];
    block.slices = select(block.slices, axis, start, 1, sizes[target]);
    Ok(block)
}

fn interleave(mut block: TensorBlock, axis: usize) -> Result<TensorBlock, ConversionProblem> {
    let rows = *block.shape.get(axis).ok_or(ConversionProblem::FewAxes)?;
    if rows % 2 != 0 {
        return Err(ConversionProblem::OddRows { rows });
    }
    let half = rows / 2;
    let even = select(block.slices.clone(), axis, 0, 2, half);
    let odd = select(block.slices, axis, 1, 2, half);
    let odd = odd.into_iter().map(|placed| StoredSlice { slice: placed.slice.shifted(axis, half), ..placed });
    block.slices = even.into_iter().chain(odd).collect();
    Ok(block)
}

/// The even rows of each head before its odd ones. Source: transformers, `PermuteForRope`.
fn halve_heads(mut block: TensorBlock, heads: u64) -> Result<TensorBlock, ConversionProblem> {
    let rows = *block.shape.first().ok_or(ConversionProblem::FewAxes)?;
    if heads == 0 || heads > MOST_HEADS || rows % (2 * heads) != 0 {
        return Err(ConversionProblem::HeadRows { rows, heads });
    }
    let half = rows / heads / 2;
    let mut halves = Vec::new();
    for (at, start) in (0..heads).flat_map(|head| [0, 1].map(|odd| (2 * head + odd, 2 * half * head + odd))) {
        let rows = select(block.slices.clone(), 0, start, 2, half).into_iter();
        let shifted =
            |placed: StoredSlice| StoredSlice { slice: placed.slice.shifted(0, at * half), ..placed };
        halves.extend(rows.map(shifted));
    }
    block.slices = halves;
    Ok(block)
}

/// The slices that have some of those positions of an axis, and these alone.
pub(crate) fn select(
    slices: Vec<StoredSlice>,
    axis: usize,
    start: u64,
    step: u64,
    count: u64,
) -> Vec<StoredSlice> {
    let selected = |placed: StoredSlice| {
        let slice = placed.slice.select(axis, start, step, count)?;
        Some(StoredSlice { tensor: placed.tensor, slice })
    };
    slices.into_iter().filter_map(selected).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::param_slice::ParamSlice;

    fn block(tensor: usize, from: usize, number: Option<u64>, shape: &[u64]) -> TensorBlock {
        let slices = vec![StoredSlice { tensor, slice: ParamSlice::whole(shape) }];
        TensorBlock { from, number, shape: shape.to_vec(), slices }
    }

    fn facts(patterns: usize, targets: usize) -> ConversionFacts<'static> {
        ConversionFacts {
            patterns,
            targets,
            must_transpose: &|shape| shape[1] == 4,
            sizes: &|_| Some(vec![4, 1, 1]),
            heads: &|of| if of == Some("vision_config") { Some(2) } else { None },
            made: "attn.q_proj",
        }
    }

    #[test]
    fn experts_are_stacked_in_the_order_of_numbers() {
        let numbered = |n: u64| (0..2).map(move |from| block(n as usize * 2 + from, from, Some(n), &[3, 4]));
        let blocks: Vec<TensorBlock> =
            [10, 2, 0, 1, 3, 4, 5, 6, 7, 8, 9].into_iter().flat_map(numbered).collect();
        let ops = [ConversionOp::Merge(0), ConversionOp::Concatenate(1)];
        let (shape, slices) = run(&ops, blocks.clone(), &facts(2, 1), 0).expect("fits");
        assert_eq!((shape, slices.len()), (vec![11, 6, 4], 22));
        let up = slices.iter().find(|placed| placed.tensor == 2 * 10 + 1).expect("there");
        assert_eq!((up.slice.fixed[0], up.slice.axes[0].at), ((0, 10), 3));
        let missing = blocks.into_iter().filter(|block| block.number != Some(4)).collect();
        assert_eq!(
            run(&ops, missing, &facts(2, 1), 0).expect_err("refused"),
            ConversionProblem::NumberMissing { number: 4 }
        );
    }

    #[test]
    fn chunks_and_halves() {
        let (shape, slices) =
            run(&[ConversionOp::Chunk(0)], vec![block(5, 0, None, &[9, 4])], &facts(1, 3), 2).expect("fits");
        assert_eq!((shape, slices[0].slice.axes[0].disk), (vec![3, 4], 6));
        let (shape, slices) =
            run(&[ConversionOp::Split(0)], vec![block(5, 0, None, &[6, 4])], &facts(1, 3), 1).expect("fits");
        assert_eq!((shape, slices[0].slice.axes[0].disk), (vec![1, 4], 4));
        let ops = [ConversionOp::Interleave(0), ConversionOp::Chunk(0)];
        let (_, slices) = run(&ops, vec![block(5, 0, None, &[6, 4])], &facts(1, 2), 1).expect("fits");
        let along = slices[0].slice.axes[0];
        assert_eq!((slices.len(), along.at, along.disk, along.step, along.count), (1, 0, 1, 2, 3));
    }

    #[test]
    fn transposed_if_it_must_be() {
        let ops = [ConversionOp::Transpose { axes: (1, 2), check: true }];
        let run = |shape: &[u64]| run(&ops, vec![block(0, 0, None, shape)], &facts(1, 1), 0).expect("fits");
        assert_eq!(run(&[2, 4, 3]).0, [2, 3, 4]);
        assert_eq!(run(&[2, 3, 4]).0, [2, 3, 4]);
        assert_eq!(run(&[2, 4, 3]).1[0].slice.axes[1].runtime, Some(2));
    }

    #[test]
    fn rows_of_heads_are_halved() {
        let parse = |fields: Value| {
            ConversionOp::parse(&serde_json::json!(["PermuteForRope", fields])).expect("parses")
        };
        let ops = |fields| [ConversionOp::Chunk(0), parse(fields)];
        let run = |fields, target| run(&ops(fields), vec![block(0, 0, None, &[24, 4])], &facts(1, 3), target);
        let halved = serde_json::json!({"subconfig_key": "vision_config", "permute_layer_names": ["q_proj"]});
        let (shape, slices) = run(halved, 1).expect("fits");
        let rows: Vec<_> = slices.iter().map(|placed| placed.slice.axes[0]).collect();
        // torch: x.view(2, 2, 2).transpose(1, 2).reshape(8), of the second eight rows.
        let of_rows =
            rows.iter().flat_map(|axis| (0..axis.count).map(|i| (axis.at + i, axis.disk + i * axis.step)));
        let of_rows: Vec<_> = of_rows.collect();
        assert_eq!(
            of_rows,
            [8, 10, 9, 11, 12, 14, 13, 15]
                .iter()
                .copied()
                .enumerate()
                .map(|(at, row)| (at as u64, row))
                .collect::<Vec<_>>()
        );
        assert_eq!(shape, [8, 4]);
        let other = serde_json::json!({"subconfig_key": "vision_config", "permute_layer_names": ["k_proj"]});
        assert_eq!(run(other, 1).expect("fits").1.len(), 1, "it is not done to all");
        let unknown = run(serde_json::json!({}), 1).expect_err("refused");
        assert_eq!(unknown, ConversionProblem::UnknownHeads);
        let odd = super::run(
            &[parse(serde_json::json!({"subconfig_key": "vision_config"}))],
            vec![block(0, 0, None, &[6])],
            &facts(1, 1),
            0,
        );
        assert_eq!(odd.expect_err("refused"), ConversionProblem::HeadRows { rows: 6, heads: 2 });
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for op in [serde_json::json!(["Pour", {}]), serde_json::json!(["PermuteForRope", {"inverse": true}])]
        {
            let name = op[0].as_str().expect("a name").to_owned();
            let op = ConversionOp::parse(&op).expect("parses");
            let refused = run(&[op], vec![block(0, 0, None, &[2])], &facts(1, 1), 0).expect_err("refused");
            assert_eq!(refused.to_string(), format!("the operation `{name}` is not known"));
        }
    }
}
