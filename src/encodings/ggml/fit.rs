//! How ggml's quantizer finds scales: it tries some, and takes the one of the least weighted error.
//!
//! Sums and products are f32 in its order, so that the results are its own.
//!
//! What several types share is not inlined: few blocks are made anew, and copies for each type are as large as all the rest.

use crate::encodings::ggml::open_block::nearest;

/// A largest magnitude that counts as 0.
pub(crate) const NOTHING: f32 = 1e-15;

/// Sums of weight · code · value and of weight · code², for codes that are made of values by a factor.
pub(crate) type FactorSums<'s> = dyn Fn(f32) -> [f32; 2] + 's;

/// Of some factors the one by which codes come nearest, and the scale of those codes.
#[inline(never)]
pub(crate) fn best_factor(
    first: f32,
    others: impl Iterator<Item = f32>,
    sums: &FactorSums<'_>,
) -> (f32, f32) {
    let [products, squares] = sums(first);
    let mut scale = if squares == 0.0 { 0.0 } else { products / squares };
    let (mut factor, mut best) = (first, scale * products);
    for other in others {
        let [products, squares] = sums(other);
        if squares > 0.0 && products * products > best * squares {
            (factor, scale) = (other, products / squares);
            best = scale * products;
        }
    }
    (factor, scale)
}

/// The sums of whole numbers from −`half` on, whose weights are the squares of the values.
#[inline(never)]
pub(crate) fn whole_sums(values: &[f32], half: i32, factor: f32) -> [f32; 2] {
    values.iter().fold([0.0; 2], |[products, squares], value| {
        let (code, weight) = (whole(value * factor, half) as f32, value * value);
        [products + (weight * value) * code, squares + (weight * code) * code]
    })
}

/// The nearest of the codes from −`half` on.
pub(crate) fn whole(value: f32, half: i32) -> i32 {
    nearest(value).clamp(-half, half - 1)
}

/// Codes from −`half` on and their scale, each code in turn moved to where it fits the others, in some rounds.
pub(crate) fn fit_in_rounds(values: &[f32], first: f32, half: i32, codes: &mut [i8]) -> f32 {
    codes.iter_mut().zip(values).for_each(|(code, value)| *code = whole(value * first, half) as i8);
    let [mut products, mut squares] = whole_sums(values, half, first);
    for _ in 0..5 {
        let mut is_same = true;
        for (code, value) in codes.iter_mut().zip(values) {
            let (weight, old) = (value * value, f32::from(*code));
            let of_others = products - (weight * value) * old;
            if of_others <= 0.0 {
                continue;
            }
            let other_squares = squares - (weight * old) * old;
            let new = whole(value * other_squares / of_others, half);
            let with = new as f32;
            let (new_products, new_squares) =
                (of_others + (weight * value) * with, other_squares + (weight * with) * with);
            let is_better = (new_products * new_products) * squares > (products * products) * new_squares;
            if new != i32::from(*code) && new_squares > 0.0 && is_better {
                (*code, products, squares, is_same) = (new as i8, new_products, new_squares, false);
            }
        }
        if is_same {
            break;
        }
    }
    if squares > 0.0 { products / squares } else { 0.0 }
}

/// How a line is fitted.
pub(crate) struct LineFit {
    /// The largest code; the least is 0.
    pub most: u8,
    /// What the largest value is tried as at first, beyond that code.
    pub first: f32,
    /// Tries after the first.
    pub tries: u8,
    /// Whether errors count by their magnitude, not by their square.
    pub is_absolute: bool,
}

impl LineFit {
    /// Codes of values, and the scale and minimum with which `scale · code − min` comes nearest. The minimum is not below 0.
    pub(crate) fn fit(&self, values: &[f32], weights: &[f32], codes: &mut [i8]) -> (f32, f32) {
        let pairs = || values.iter().zip(weights);
        let sum_w = weights.iter().fold(0.0, |sum, weight| sum + weight);
        let sum_x = pairs().fold(0.0, |sum, (value, weight)| sum + weight * value);
        let largest = values.iter().fold(values[0], |most, value| if *value > most { *value } else { most });
        let mut start = values.iter().fold(0.0, |least, value| if *value < least { *value } else { least });
        if largest == start {
            codes.fill(0);
            return (0.0, -start);
        }
        let most = f32::from(self.most);
        let factor = most / (largest - start);
        let mut scale = 1.0 / factor;
        self.place(values, start, factor, codes);
        let mut best = self.error(values, weights, codes, (scale, start));
        let mut tried = [0; 32];
        let tried = &mut tried[..codes.len()];
        for i in 0..=self.tries {
            let factor = ((self.first + 0.1 * f32::from(i)) + most) / (largest - start);
            self.place(values, start, factor, tried);
            let (mut sum_l, mut sum_l2, mut sum_xl) = (0.0, 0.0, 0.0);
            for ((value, weight), code) in pairs().zip(&*tried) {
                let code = f32::from(*code);
                sum_l += weight * code;
                sum_l2 += (weight * code) * code;
                sum_xl += (weight * code) * value;
            }
            let determinant = sum_w * sum_l2 - sum_l * sum_l;
            if determinant <= 0.0 {
                continue;
            }
            let mut line = (
                (sum_w * sum_xl - sum_x * sum_l) / determinant,
                (sum_l2 * sum_x - sum_l * sum_xl) / determinant,
            );
            if line.1 > 0.0 {
                line = (sum_xl / sum_l2, 0.0);
            }
            let error = self.error(values, weights, tried, line);
            if error < best {
                codes.copy_from_slice(tried);
                // The tries that follow begin where this line does.
                (best, scale, start) = (error, line.0, line.1);
            }
        }
        (scale, -start)
    }

    fn place(&self, values: &[f32], start: f32, factor: f32, codes: &mut [i8]) {
        for (code, value) in codes.iter_mut().zip(values) {
            *code = nearest(factor * (value - start)).clamp(0, self.most.into()) as i8;
        }
    }

    fn error(&self, values: &[f32], weights: &[f32], codes: &[i8], (scale, start): (f32, f32)) -> f32 {
        values.iter().zip(weights).zip(codes).fold(0.0, |sum, ((value, weight), code)| {
            let error = scale * f32::from(*code) + start - value;
            sum + weight * if self.is_absolute { error.abs() } else { error * error }
        })
    }
}
