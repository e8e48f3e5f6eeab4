//! DoRA: the sum of weight and delta, each output's part of it scaled to a learned length.

use super::super::entry::Entry;
use super::super::grid::UNIT;
use super::super::running::Running;
use super::lora;

/// `m / ‖START + delta‖ · (RUNNING + delta)`, the length over all inputs of an output. It comes from the tensor that
/// training saw, whatever was merged since. We sum it in f64; the factor and the product are rounded to f32.
pub fn apply(entry: &Entry, start: &Running, running: &mut Running) {
    let delta = lora::delta(entry);
    let magnitude = entry.grid("m").value;
    let outputs = magnitude.len();
    let inputs = delta.value.len() / outputs;
    assert_eq!(if entry.flag("transposed") { delta.flat().1 } else { delta.flat().0 }, outputs);
    let mut seen = start.clone();
    seen.add(&delta);
    running.add(&delta);
    for (output, length) in magnitude.into_iter().enumerate() {
        let places: Vec<usize> = match entry.flag("transposed") {
            true => (0..inputs).map(|input| input * outputs + output).collect(),
            false => (output * inputs..(output + 1) * inputs).collect(),
        };
        let norm = |of: &[f64]| places.iter().map(|&i| of[i] * of[i]).sum::<f64>().sqrt();
        let (was, off, slack) = (norm(&seen.exact), norm(&seen.bound), norm(&seen.slack));
        // What the length may be off by moves its inverse by a little more.
        let (off, slack) = (off / (was - off), slack / (was - slack));
        for &i in &places {
            running.multiply(i, length / was, off, 4);
            running.slack[i] += running.exact[i].abs() * slack + 4.0 * UNIT * running.slack[i];
        }
    }
}
