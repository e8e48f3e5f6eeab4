//! Compares a tensor with what it should be and with PEFT's.

use safetensors::Dtype;

use super::case::Right;
use super::float::{Tensor, ulp};
use super::running::Running;

/// What comparisons showed.
#[derive(Default)]
pub struct Shown {
    pub elements: usize,
    pub differing: usize,
    pub worst: f64,
    pub most_ulps: f64,
}

/// Says what is wrong with a tensor.
pub fn compare(
    name: &str,
    right: &Right,
    ours: &Tensor,
    peft: &Tensor,
    shown: &mut Shown,
) -> Result<(), String> {
    if (ours.dtype, &ours.shape) != (peft.dtype, &peft.shape) {
        return Err(format!("{name} has another dtype or shape than PEFT's"));
    }
    match right {
        Right::Near(sum) => near(name, sum, ours, peft, shown),
        Right::Codes(sum) => codes(name, sum, ours, peft, shown),
        Right::Bytes(bytes) if *bytes != ours.raw => Err(format!("{name} has not the bytes it should have")),
        Right::Bytes(bytes) if *bytes != peft.raw => Err(format!("{name} has other bytes than PEFT's")),
        Right::Bytes(_) => Ok(()),
    }
}

/// How far rounding to `got` may move a value that is within `bound` of `exact`: half the distance between neighbors,
/// which below a power of two is half of that above.
fn half(exact: f64, bound: f64, got: f64, dtype: Dtype) -> f64 {
    ulp(got.abs().min(exact.abs() + bound), dtype) / 2.0
}

/// Ours: half a unit of the result, plus what f32 may be off, or where it is exact what the reference may be off. PEFT's: twice that, plus its further roundings.
fn near(name: &str, sum: &Running, ours: &Tensor, peft: &Tensor, shown: &mut Shown) -> Result<(), String> {
    let (got, theirs) = (ours.values(), peft.values());
    if got.len() != sum.exact.len() {
        return Err(format!("{name} has {} elements, should have {}", got.len(), sum.exact.len()));
    }
    for (i, (got, theirs)) in got.into_iter().zip(theirs).enumerate() {
        let exact = sum.exact[i];
        let tolerance = half(exact, sum.off(i), got, ours.dtype) + sum.off(i);
        let error = (got - exact).abs();
        if error > tolerance || !got.is_finite() {
            return Err(format!("{name}[{i}] is {got}, should be {exact} within {tolerance}"));
        }
        let unit = ulp(exact.abs().max(got.abs()), ours.dtype);
        if (got - theirs).abs() > unit + 2.0 * sum.bound[i] + sum.slack[i] || !theirs.is_finite() {
            return Err(format!("{name}[{i}] is {got}, PEFT has {theirs}"));
        }
        shown.elements += 1;
        shown.differing += usize::from(got != theirs);
        shown.worst = shown.worst.max(error / tolerance);
        shown.most_ulps = shown.most_ulps.max((got - theirs).abs() / ulp(exact, ours.dtype));
    }
    Ok(())
}

/// The same codes, but where the value lies as near a boundary between two codes as f32 may be off.
fn codes(name: &str, sum: &Running, ours: &Tensor, peft: &Tensor, shown: &mut Shown) -> Result<(), String> {
    let (got, theirs) = (ours.values(), peft.values());
    for (i, &exact) in sum.exact.iter().enumerate() {
        let off = sum.bound[i];
        let fits = |code: f64| (code - exact).abs() <= half(exact, off, code, ours.dtype) + off;
        if !fits(got[i]) {
            return Err(format!("{name}[{i}] has code {}, should be near {exact}", got[i]));
        }
        let is_signed_zero = got[i] == theirs[i] && exact.abs() > off;
        if ours.raw[i] != peft.raw[i] && (!fits(theirs[i]) || is_signed_zero) {
            return Err(format!("{name}[{i}] has code {}, PEFT has {}", got[i], theirs[i]));
        }
        shown.elements += 1;
        shown.differing += usize::from(ours.raw[i] != peft.raw[i]);
    }
    Ok(())
}
