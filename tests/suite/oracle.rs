//! An f64 reference of a golden case, from its files and `case.json` alone: it shares no code with shardfold.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// A tensor as it lies in its file.
#[derive(Clone)]
pub struct Tensor {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub raw: Vec<u8>,
}

pub type Tensors = BTreeMap<String, Tensor>;

/// Significand bits (with the hidden one) and the exponent of the smallest normal number.
fn float(dtype: Dtype) -> (i32, i32) {
    match dtype {
        Dtype::BF16 => (8, -126),
        Dtype::F16 => (11, -14),
        _ => (24, -126),
    }
}

impl Tensor {
    pub fn values(&self) -> Vec<f64> {
        let pair = |b: &[u8]| u16::from_le_bytes([b[0], b[1]]);
        let quad = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        match self.dtype {
            Dtype::BF16 => {
                self.raw.chunks(2).map(|b| f64::from(f32::from_bits(u32::from(pair(b)) << 16))).collect()
            }
            Dtype::F16 => self.raw.chunks(2).map(|b| half::f16::from_bits(pair(b)).to_f64()).collect(),
            _ => self.raw.chunks(4).map(|b| f64::from(f32::from_bits(quad(b)))).collect(),
        }
    }
}

/// The distance between neighbours of a type at the size of `x`.
pub fn ulp(x: f64, dtype: Dtype) -> f64 {
    let (bits, smallest) = float(dtype);
    let exponent = if x == 0.0 { smallest } else { ((x.abs().to_bits() >> 52) as i32 - 1023).max(smallest) };
    2f64.powi(exponent - (bits - 1))
}

/// All tensors of the safetensors files of a folder whose names start with `start`.
pub fn read(folder: &Path, start: &str) -> Tensors {
    let mut tensors = Tensors::new();
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        let name = entry.file_name().into_string().expect("UTF-8");
        if !name.starts_with(start) || !name.ends_with(".safetensors") {
            continue;
        }
        let bytes = fs::read(entry.path()).expect("a file");
        for (name, view) in SafeTensors::deserialize(&bytes).expect("safetensors").tensors() {
            let (dtype, shape, raw) = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
            tensors.insert(name, Tensor { dtype, shape, raw });
        }
    }
    tensors
}

/// A golden case.
pub struct Case {
    pub json: Value,
    pub base: Tensors,
    pub merged: Tensors,
    adapters: Vec<Tensors>,
}

/// What a tensor should be, element by element: the exact sum, and how far one rounded in f32 may be from it.
pub struct Expected {
    pub exact: Vec<f64>,
    pub sums: Vec<f64>,
    pub biggest: Vec<f64>,
    /// Roundings that PEFT does beyond the one: between adapters, and of a replacement that is cast before it is added to.
    pub more_roundings: usize,
}

impl Case {
    pub fn read(folder: &Path) -> Case {
        let json: Value =
            serde_json::from_slice(&fs::read(folder.join("case.json")).expect("case.json")).expect("JSON");
        let adapter = |entry: &Value| {
            let home = folder.join(entry["dir"].as_str().expect("a folder"));
            let found = read(&home, "adapter_model");
            if !found.is_empty() {
                return found;
            }
            let mut inner = fs::read_dir(&home).expect("a folder").filter_map(|entry| {
                let path = entry.expect("an entry").path();
                path.join("adapter_model.safetensors").exists().then_some(path)
            });
            read(&inner.next().expect("one adapter below"), "adapter_model")
        };
        Case {
            adapters: json["adapters"].as_array().expect("a list").iter().map(adapter).collect(),
            base: read(&folder.join("base"), "model"),
            merged: read(&folder.join("merged"), "model"),
            json,
        }
    }

    /// The folders and weights of its adapters.
    pub fn adapters(&self) -> Vec<(String, f64)> {
        let entries = self.json["adapters"].as_array().expect("a list").iter();
        entries
            .map(|e| {
                (e["dir"].as_str().expect("a folder").to_owned(), e["weight"].as_f64().expect("a number"))
            })
            .collect()
    }

    /// The adapter's tensor that stands in place of the base's, if one does.
    pub fn replaced(&self, name: &str) -> Option<&Tensor> {
        let mut all = self.json["replaced"].as_array().expect("a list").iter();
        let entry = all.find(|entry| entry["tensor"] == name)?;
        let adapter = entry["adapter"].as_u64().expect("an index") as usize;
        Some(&self.adapters[adapter][entry["key"].as_str().expect("a key")])
    }

    /// What a tensor should be; `None` if nothing is added to it. `scale` multiplies every scale, and `turned` swaps
    /// orientations: for tests of this check itself.
    pub fn expected(&self, name: &str, scale: f64, turned: bool) -> Option<Expected> {
        let all = self.json["deltas"].as_array().expect("a list").iter();
        let deltas: Vec<&Value> = all.filter(|delta| delta["tensor"] == name).collect();
        if deltas.is_empty() {
            return None;
        }
        let base = &self.base[name];
        let mut exact = match self.replaced(name) {
            // PEFT rounds it to the base's type first; we add before the one rounding.
            Some(value) => value.values(),
            None => base.values(),
        };
        let (mut sums, mut biggest) =
            (vec![0.0; exact.len()], exact.iter().map(|w| w.abs()).collect::<Vec<_>>());
        for delta in &deltas {
            let (product, magnitude, rank) = self.product(delta, &base.shape, turned);
            let s = delta["scale"].as_f64().expect("a number") * scale;
            for i in 0..exact.len() {
                sums[i] += (rank + 4) as f64 * 2f64.powi(-24) * (exact[i].abs() + s.abs() * magnitude[i]);
                exact[i] += s * product[i];
                biggest[i] = biggest[i].max(exact[i].abs());
            }
        }
        let is_cast = self.replaced(name).is_some_and(|value| value.dtype != base.dtype);
        Some(Expected { exact, sums, biggest, more_roundings: deltas.len() - 1 + usize::from(is_cast) })
    }

    /// `b·a` and `|b|·|a|` as the tensor is stored, and the rank.
    fn product(&self, delta: &Value, shape: &[usize], turned: bool) -> (Vec<f64>, Vec<f64>, usize) {
        let adapter = &self.adapters[delta["adapter"].as_u64().expect("an index") as usize];
        let b = adapter[delta["b"].as_str().expect("a key")].clone();
        let Some(a) = delta["a"].as_str() else {
            let values = b.values();
            let magnitude = values.iter().map(|v| v.abs()).collect();
            return (values, magnitude, 1);
        };
        let a = adapter[a].clone();
        let (rank, input, out) = (a.shape[0], a.shape[1], b.shape[0]);
        let (a, b) = (a.values(), b.values());
        let transposed = delta["transposed"].as_bool().expect("a flag") != turned;
        let n = shape.iter().product();
        let (mut product, mut magnitude) = (vec![0.0; n], vec![0.0; n]);
        for o in 0..out {
            for i in 0..input {
                let at = if transposed { i * out + o } else { o * input + i };
                for k in 0..rank {
                    let term = b[o * rank + k] * a[k * input + i];
                    product[at] += term;
                    magnitude[at] += term.abs();
                }
            }
        }
        (product, magnitude, rank)
    }
}

/// What a comparison showed.
#[derive(Default)]
pub struct Shown {
    pub elements: usize,
    pub differing: usize,
    pub worst: f64,
    pub most_ulps: f64,
}

/// Compares a tensor with what it should be and with PEFT's; says what is wrong.
///
/// Ours: half a unit of the result plus the sums' bound. PEFT's: the same, and one unit for each further rounding, taken
/// at the largest of the sums, since PEFT rounds a sum that the next adapter may cancel.
pub fn compare(
    name: &str,
    expected: &Expected,
    ours: &Tensor,
    peft: &Tensor,
    shown: &mut Shown,
) -> Result<(), String> {
    for (i, (got, theirs)) in ours.values().into_iter().zip(peft.values()).enumerate() {
        let exact = expected.exact[i];
        let half = ulp(exact.abs().max(got.abs()), ours.dtype) / 2.0;
        let tolerance = half + expected.sums[i];
        let error = (got - exact).abs();
        if error > tolerance || !got.is_finite() {
            return Err(format!("{name}[{i}] is {got}, should be {exact} within {tolerance}"));
        }
        let more = expected.more_roundings as f64 * ulp(expected.biggest[i].max(got.abs()), ours.dtype);
        if (got - theirs).abs() > 2.0 * tolerance + more {
            return Err(format!("{name}[{i}] is {got}, PEFT has {theirs}"));
        }
        shown.elements += 1;
        shown.differing += usize::from(got != theirs);
        shown.worst = shown.worst.max(error / tolerance);
        shown.most_ulps = shown.most_ulps.max((got - theirs).abs() / ulp(exact, ours.dtype));
    }
    Ok(())
}
