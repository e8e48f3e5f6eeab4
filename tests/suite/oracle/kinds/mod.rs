//! Tests of the reference itself, before any fixture: for each kind of entry a tensor of a few numbers, what it should
//! become, and wrong readings of the entry that the comparison must notice.
//!
//! The right numbers are what layers of PEFT 0.21.2 gave in f64, unless a test says otherwise.

mod added;
mod multiplied;
mod starts;

use std::panic::{AssertUnwindSafe, catch_unwind};

use safetensors::Dtype;
use serde_json::{Value, json};

use super::case::{Case, Right};
use super::compare::{Shown, compare};
use super::float::Tensor;

const NAME: &str = "w";

/// Eighths from −6 to 6 in an order that differs with the seed: every format holds them.
fn pattern(shape: &[usize], seed: usize, dtype: Dtype) -> Tensor {
    let n: usize = shape.iter().product();
    let values: Vec<f64> = (0..n).map(|i| (((i * 7 + seed * 5) % 13) as f64 - 6.0) / 8.0).collect();
    Tensor::rounded(&values, shape, dtype)
}

/// A base of one tensor, seed 1; one adapter whose tensors have the seeds 2, 3, …; and what the tensor should become.
struct Tiny<'a> {
    shape: &'a [usize],
    factors: &'a [(&'a str, &'a [usize])],
    entries: Value,
    right: &'a [f64],
}

impl Tiny<'_> {
    /// The comparison takes what is right, in both formats; and neither an untouched base, nor a larger scale, nor any
    /// of the named readings.
    fn tells_from(&self, wrong: &[(&str, Value)]) {
        let one_percent = self.entries[0]["scale"].as_f64().map(|scale| json!({ "scale": scale * 1.01 }));
        for dtype in [Dtype::F32, Dtype::BF16] {
            let check = |values: &[f64]| self.check(&json!({}), values, dtype);
            assert_eq!(check(self.right), Ok(()), "{dtype:?}");
            assert!(check(&pattern(self.shape, 1, dtype).values()).is_err(), "the base itself");
            for (reading, change) in wrong {
                // A reading that fits no shape panics, which is as good.
                let found = catch_unwind(AssertUnwindSafe(|| self.check(change, self.right, dtype)));
                assert!(!matches!(found, Ok(Ok(()))), "{dtype:?}: {reading} is not noticed");
            }
        }
        for last in 0..self.right.len() {
            let mut off = self.right.to_vec();
            off[last] += 1e-5;
            assert!(self.check(&json!({}), &off, Dtype::F32).is_err(), "element {last} off by 0.00001");
        }
        if let Some(change) = one_percent {
            assert!(self.check(&change, self.right, Dtype::F32).is_err(), "another scale");
        }
    }

    /// The comparison does not take these values.
    fn refuses(&self, what: &str, values: &[f64]) {
        for dtype in [Dtype::F32, Dtype::BF16] {
            assert!(self.check(&json!({}), values, dtype).is_err(), "{dtype:?}: {what} is not noticed");
        }
    }

    /// Compares values, as ours and as PEFT's, with the first entry as it is but for the changed fields.
    fn check(&self, change: &Value, values: &[f64], dtype: Dtype) -> Result<(), String> {
        let case = self.case(change, dtype);
        let ours = Tensor::rounded(values, self.shape, dtype);
        compare(NAME, &case.right(NAME), &ours, &ours, &mut Shown::default())
    }

    fn case(&self, change: &Value, dtype: Dtype) -> Case {
        let factor = |(i, (key, shape)): (usize, &(&str, &[usize]))| {
            (key.to_string(), pattern(shape, i + 2, Dtype::F32))
        };
        let mut entries = self.entries.clone();
        for entry in entries.as_array_mut().expect("a list") {
            (entry["tensor"], entry["adapter"]) = (json!(NAME), json!(0));
        }
        for (field, value) in change.as_object().expect("fields") {
            entries[0][field] = value.clone();
        }
        Case {
            base: [(NAME.to_owned(), pattern(self.shape, 1, dtype))].into(),
            merged: [].into(),
            adapters: vec![self.factors.iter().enumerate().map(factor).collect()],
            json: json!({ "adapters": [{ "dir": "adapter", "weight": 1.0 }], "deltas": entries }),
        }
    }
}

#[test]
fn what_peft_rounds_more_is_allowed_for_and_no_more() {
    let entry = json!({ "a": "a", "b": "b", "scale": 0.5 });
    let check = |entries: Value, units_off: f64| {
        let tiny = Tiny { shape: &[1, 1], factors: &[("a", &[1, 1]), ("b", &[1, 1])], entries, right: &[] };
        let case = tiny.case(&json!({}), Dtype::BF16);
        let Right::Near(sum) = case.right(NAME) else { panic!("it is computed") };
        let ours = Tensor::rounded(&sum.exact, &[1, 1], Dtype::BF16);
        let unit = super::float::ulp(ours.values()[0], Dtype::BF16);
        let peft = Tensor::rounded(&[ours.values()[0] + units_off * unit], &[1, 1], Dtype::BF16);
        compare(NAME, &Right::Near(sum), &ours, &peft, &mut Shown::default()).is_ok()
    };
    assert!(check(json!([entry]), 1.0), "one rounding each");
    assert!(!check(json!([entry]), 2.0));
    assert!(check(json!([entry, entry]), 2.0), "another between two adapters");
    assert!(!check(json!([entry, entry]), 3.0));
    let mut twice = entry;
    twice["peft_roundings"] = json!(1);
    assert!(check(json!([twice]), 2.0), "another of the delta");
    assert!(!check(json!([twice]), 3.0));
}
