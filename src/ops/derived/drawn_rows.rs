//! Rows of a random matrix times a value each, which a seed tells: what torch's `uniform_` gives on a CPU, between `±√3·√2/√w` for rows of `w` values, as `kaiming_uniform_` has it. The formula is PEFT's (`vera/model.py`, `_kaiming_init`); the numbers are measured of torch 2.15.
//!
//! The source are the values, by rows; of each row the first columns are taken, as many as the factor has.

use serde::{Deserialize, Serialize};

use crate::kernels::mersenne::Mersenne;
use crate::ops::derived::bad_source::BadSource;
use crate::ops::derived::{DerivedFrom, NextRow, Recipe};

/// Rows of a matrix that is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DrawnRows {
    /// What it is drawn by.
    pub seed: u32,
    /// How many numbers were drawn before it.
    pub before: u64,
    /// Values of a row.
    pub width: u64,
}

impl Recipe for DrawnRows {
    fn make(&self, _: usize, _: &DerivedFrom<'_>, _: &mut [f32]) -> Result<(), BadSource> {
        Ok(())
    }

    fn in_order(&self) -> Option<Box<dyn NextRow>> {
        let mut generator = Mersenne::new(self.seed);
        generator.skip(self.before);
        let bound = 3f64.sqrt() * (2f64.sqrt() / (self.width as f64).sqrt());
        Some(Box::new(Drawing { generator, bound: bound as f32, width: self.width }))
    }
}

/// A matrix under way.
struct Drawing {
    generator: Mersenne,
    bound: f32,
    width: u64,
}

impl Drawing {
    /// The next number between the bounds. torch multiplies and adds in one rounding, on every CPU that has such an instruction; f64 holds what is rounded.
    fn uniform(&mut self) -> f32 {
        let (unit, bound) = (f64::from(self.generator.unit()), self.bound);
        (unit * f64::from(bound + bound) - f64::from(bound)) as f32
    }
}

impl NextRow for Drawing {
    fn next(&mut self, sources: &DerivedFrom<'_>, values: &mut [f32]) {
        let by = sources.rows[0][0];
        for value in &mut *values {
            *value = (f64::from(self.uniform()) * by) as f32;
        }
        self.generator.skip(self.width.saturating_sub(values.len() as u64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_of_torch() {
        // g = torch.Generator().manual_seed(7)
        // torch.nn.init.kaiming_uniform_(torch.empty(2, 5), generator=g), and (3, 2) behind it
        let wide: [[f32; 5]; 2] = [
            [0.07651146, -0.65988916, 0.34881535, 0.34372938, -0.5854901],
            [-0.16418225, -0.6417424, 0.28423813, -0.29507753, 0.76959044],
        ];
        let tall: [[f32; 2]; 3] =
            [[1.2295592, 0.17644474], [-0.7384113, -1.0173395], [-0.19021322, -0.48744777]];
        let rows = |before, width, cols: usize, count: usize| {
            let mut next = DrawnRows { seed: 7, before, width }.in_order().expect("it is drawn in order");
            let mut made = vec![0.0; count * cols];
            for row in made.chunks_exact_mut(cols) {
                next.next(&DerivedFrom { whole: &[], rows: &[&[1.0]] }, row);
            }
            made
        };
        assert_eq!(rows(0, 5, 5, 2), wide.concat());
        assert_eq!(rows(10, 2, 2, 3), tall.concat());
        let first: Vec<f32> = wide.iter().flat_map(|row| row[..3].to_vec()).collect();
        assert_eq!(rows(0, 5, 3, 2), first, "the first columns");
    }
}
