//! The factors of products that an adapter has already, as those of one matrix: blocks stand beside each other, with zeros around them.

use crate::encodings;
use crate::error::Result;
use crate::kernels::dispatch::Kernels;
use crate::linear::low_rank::SketchSize;
use crate::merge::values::CheckpointValues;
use crate::ops::factor::{Factor, FactorIndex};
use crate::ops::op::Op;
use crate::ops::placement::GridLine;
use crate::tensor::rect::View;

/// Whether ops add nothing but products whose axes run along the rows and the columns of a matrix.
pub(crate) fn are_products(ops: &[Op], size: SketchSize) -> bool {
    let view = View { rows: size.rows as u64, cols: size.cols as u64 };
    ops.iter().all(|op| {
        let is_along = |line: &GridLine| line.axis.is_some();
        let grid = op.placement.grid(view).filter(|grid| is_along(&grid.rows) && is_along(&grid.cols));
        grid.is_some()
            && op.delta().product().is_some_and(|pair| pair.iter().all(|i| op.factors[*i].index().is_some()))
    })
}

/// The rank and the alpha of all products together: their ranks add up, and alpha makes their scale, where it is one for all.
pub(crate) fn product_rank(ops: &[Op]) -> (u64, f64) {
    let rank = ops.iter().map(|op| op.factors[0].inner).sum::<u64>();
    (rank, alpha(one_scale(ops).unwrap_or(1.0), rank as f64))
}

/// The alpha that gives a scale: as people write it, if that is near, else the product, which is exact as both have few digits.
fn alpha(scale: f32, rank: f64) -> f64 {
    let exact = f64::from(scale) * rank;
    let short = (exact * 1e6).round() / 1e6;
    if (short / rank) as f32 == scale { short } else { exact }
}

/// The scale that all ops have.
fn one_scale(ops: &[Op]) -> Option<f32> {
    let first = ops.first()?.scale;
    ops.iter().all(|op| op.scale == first).then_some(first)
}

/// The factors `[rows, rank]` and `[rank, cols]` of all products. Where their scales differ, the first has them.
///
/// # Errors
/// As reading.
pub(crate) fn products(
    values: &CheckpointValues,
    ops: &[Op],
    size: SketchSize,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let view = View { rows: size.rows as u64, cols: size.cols as u64 };
    let rank = product_rank(ops).0 as usize;
    let (mut tall, mut wide) = (vec![0.0; size.rows * rank], vec![0.0; rank * size.cols]);
    let mut before = 0;
    for op in ops {
        let (Some(grid), Some(pair)) = (op.placement.grid(view), op.delta().product()) else { continue };
        let inner = op.factors[0].inner as usize;
        let scale = if one_scale(ops).is_some() { 1.0 } else { op.scale };
        for factor in pair.map(|i| &op.factors[i]) {
            let is_down = factor.index().map(|index| index.axis) == grid.rows.axis;
            let line = if is_down { grid.rows } else { grid.cols };
            let of_file = read(values, factor)?;
            for position in 0..line.count {
                let place = (line.at + position * line.step) as usize;
                for k in 0..inner {
                    let value = of_file[element(factor, position, k as u64)];
                    if is_down {
                        tall[place * rank + before + k] = value * scale;
                    } else {
                        wide[(before + k) * size.cols + place] = value;
                    }
                }
            }
        }
        before += inner;
    }
    Ok((tall, wide))
}

/// Where the value `k` of a position stands in its tensor.
fn element(factor: &Factor, position: u64, k: u64) -> usize {
    let stride = factor.index().map_or(0, |FactorIndex { stride, .. }| stride);
    (factor.start + position * stride + k * factor.inner_stride) as usize
}

/// All values of the tensor that a factor is of.
fn read(values: &CheckpointValues, factor: &Factor) -> Result<Vec<f32>> {
    let tensor = &factor.tensor;
    let encoding = encodings::plain(tensor.dtype).expect("claims take factors of plain numbers alone");
    let mut bytes = vec![0; tensor.bytes() as usize];
    values.source(tensor.file).read_at(&mut bytes, tensor.offset)?;
    let mut decoded = vec![0.0; tensor.shape.elements() as usize];
    encoding.decode_flat(Kernels::detect(), &bytes, &mut decoded);
    Ok(decoded)
}

/// The most bytes that the factors of products take while they are made.
pub(crate) fn product_bytes(ops: &[Op], size: SketchSize) -> u64 {
    let (rank, sides) = (product_rank(ops).0, (size.rows + size.cols) as u64);
    // As they are made, as they are turned, and one of them as its file has it and decoded.
    4 * sides.saturating_mul(rank).saturating_mul(size_of::<f32>() as u64)
}

#[cfg(test)]
mod tests {
    use super::alpha;

    #[test]
    fn an_alpha_is_short_where_it_gives_the_scale() {
        assert_eq!(alpha((11.0f64 / 3.0) as f32, 3.0), 11.0);
        assert_eq!(alpha((2.5f64 / 3.0) as f32, 3.0), 2.5);
        for (scale, rank) in [(1.0 / 2.0f64.sqrt(), 7.0), (1e-9, 5.0), (0.0, 4.0), (-2.0, 16.0), (1e30, 3.0)]
        {
            let scale = scale as f32;
            assert_eq!((alpha(scale, rank) / rank) as f32, scale, "{scale} {rank}");
        }
    }
}
