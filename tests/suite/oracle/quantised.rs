//! Bases stored as codes of eight bits, each times the scale of its block: what they mean, and what they become where the
//! output stays so.

use serde_json::Value;

use super::case::Case;
use super::float::Tensor;
use super::grid::UNIT;
use super::running::Running;

/// The largest number that a code stands for.
const LARGEST: f64 = 448.0;

/// How a tensor of codes is cut into blocks.
struct Blocks<'a> {
    scales: &'a Tensor,
    /// The block of each element.
    of: Vec<usize>,
}

fn blocks<'a>(case: &'a Case, name: &str) -> Option<Blocks<'a>> {
    let entry = case.json["quantised"].get(name)?;
    let side = |axis: usize| entry["block"][axis].as_u64().expect("two sizes") as usize;
    let scales = &case.base[entry["scale"].as_str().expect("a name")];
    let shape = &case.base[name].shape;
    let across = shape[1].div_ceil(side(1));
    assert_eq!(
        scales.shape.iter().product::<usize>(),
        shape[0].div_ceil(side(0)) * across,
        "scales of `{name}`"
    );
    let of = |i: usize| i / shape[1] / side(0) * across + i % shape[1] / side(1);
    Some(Blocks { scales, of: (0..shape[0] * shape[1]).map(of).collect() })
}

/// What the codes of a tensor of the output mean in the base, computed in f32; `None` if it holds no codes.
pub fn decoded(case: &Case, name: &str) -> Option<Running> {
    let entry = case.json["quantised"].get(name)?;
    if let Some(values) = super::packed::decoded(case, entry) {
        let bound = values.iter().map(|x| x.abs() * UNIT).collect();
        return Some(Running { bound, is_exact: false, ..Running::exactly(values) });
    }
    let blocks = blocks(case, name)?;
    let (codes, scales) = (case.base[name].values(), blocks.scales.values());
    let exact: Vec<f64> = codes.iter().zip(&blocks.of).map(|(code, &block)| code * scales[block]).collect();
    let bound = exact.iter().map(|x| x.abs() * UNIT).collect();
    Some(Running { bound, is_exact: false, ..Running::exactly(exact) })
}

/// The scales of an output that stays quantised, if `name` holds them and their codes are changed: the base's, but for
/// blocks that hold a number beyond the largest code; there the largest number becomes the largest code.
pub fn scales(case: &Case, name: &str) -> Option<Running> {
    let all = case.json["quantised"].as_object()?;
    let (codes, _) =
        all.iter().find(|(codes, entry)| entry["scale"] == name && !case.deltas(codes).is_empty())?;
    let is_kept = case.json["keep_quantized"] == Value::Bool(true);
    is_kept.then(|| new_scales(case, codes, &case.sum(codes, &case.deltas(codes))))
}

fn new_scales(case: &Case, codes: &str, sum: &Running) -> Running {
    let blocks = blocks(case, codes).expect("it holds codes");
    let mut scales = Running { is_exact: false, ..Running::exactly(blocks.scales.values()) };
    let old = scales.exact.clone();
    for (i, &block) in blocks.of.iter().enumerate() {
        let fresh = sum.exact[i].abs() / LARGEST;
        let off = sum.bound[i] / LARGEST + fresh * UNIT;
        if fresh + off > old[block] && fresh > scales.exact[block] {
            scales.exact[block] = fresh;
        }
        if fresh + off > scales.exact[block] {
            scales.bound[block] = scales.bound[block].max(off);
        }
    }
    scales
}

/// A sum divided by the scales of the output: what its codes should be near. Beyond the largest code all is that code.
pub fn codes(case: &Case, name: &str, sum: &Running) -> Running {
    let blocks = blocks(case, name).expect("it holds codes");
    let scales = new_scales(case, name, sum);
    let rounded = Tensor::rounded(&scales.exact, &blocks.scales.shape, blocks.scales.dtype).values();
    let mut codes = sum.clone();
    for (i, &block) in blocks.of.iter().enumerate() {
        let scale = rounded[block].abs();
        codes.exact[i] = (sum.exact[i] / rounded[block]).clamp(-LARGEST, LARGEST);
        // The quotient is rounded to f32, and so was a fresh scale.
        let error = scales.bound[block] / scale + 3.0 * UNIT;
        codes.bound[i] = sum.bound[i] / scale + codes.exact[i].abs() * error;
    }
    codes
}
