//! Tiny models of real families, merged by PEFT and by us. See `fixtures/make_models.py` and `make_diffusers.py`, which wrote
//! them.

use std::fs;
use std::path::Path;

use serde_json::json;
use shardfold::testing::Dtype;

use crate::oracle::{Tensor, read, ulp};
use crate::refusals::refused;
use crate::support::{fixtures, folder, run};
use crate::work::Work;

/// Samples that must be there.
const SAMPLES: usize = 8;

/// The changed tensors of a sample; panics at what differs.
fn check(sample: &Path) -> usize {
    let work = folder();
    let output = work.path().join("merged");
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let (base, adapter) = (sample.join("base"), sample.join("adapter"));
    let ran =
        run(&["merge", "--base", &path(&base), "--adapter", &path(&adapter), "--output", &path(&output)]);
    assert_eq!(ran.code, 0, "{}: {}", sample.display(), ran.err);
    let tensors = |folder: &Path| read(folder, "");
    let (base, right, ours) = (tensors(&base), tensors(&sample.join("merged")), tensors(&output));
    assert!(base.keys().eq(ours.keys()) && base.keys().eq(right.keys()), "{}: names", sample.display());
    let mut changed = 0;
    for (name, ours) in &ours {
        let (old, right) = (&base[name], &right[name]);
        assert_eq!((ours.dtype, &ours.shape), (old.dtype, &old.shape), "{}: {name}", sample.display());
        if right.raw == old.raw {
            assert!(ours.raw == old.raw, "{}: {name} changed", sample.display());
        } else {
            changed += 1;
            assert!(is_near(old, right, ours), "{}: {name} is not as PEFT has it", sample.display());
        }
    }
    changed
}

/// Both sides round once, hence one unit; PEFT rounds the delta of experts' parameters first, half a unit of it.
fn is_near(old: &Tensor, right: &Tensor, ours: &Tensor) -> bool {
    let (old, right, got) = (old.values(), right.values(), ours.values());
    old.iter().zip(right).zip(got).all(|((old, right), got)| {
        let unit = |x: f64| ulp(x, ours.dtype);
        let delta = (right - old).abs();
        (got - right).abs() <= unit(got.abs().max(right.abs())) + unit(delta + unit(delta)) / 2.0
    })
}

#[test]
fn models_of_real_families() {
    let samples = std::fs::read_dir(fixtures().join("models")).expect("the samples");
    let changed: Vec<usize> = samples.map(|sample| check(&sample.expect("an entry").path())).collect();
    assert_eq!(changed.len(), SAMPLES);
    assert!(changed.iter().all(|&changed| changed > 5), "{changed:?}");
}

/// transformers' gate and up projections of a Dinov2 are rows of one tensor on disk, and so are their biases: a value of one of them stands in
/// place of its rows, before what the same adapter adds to them, and leaves the others.
#[test]
fn values_of_parts_stand_in_place_of_their_rows() {
    const MLP: &str = "encoder.layer.0.mlp";
    let key = |name: &str| format!("{MLP}.{name}");
    let count = |seed: u32, count: u32| {
        (0..count).map(|i| ((i * 37 + seed) % 64) as f32 / 32.0 - 1.0).collect::<Vec<f32>>()
    };
    let work = Work::tiny(Dtype::BF16, 1.0);
    let base = fixtures().join("models/Dinov2Model/base");
    fs::remove_dir_all(&work.base).and_then(|()| fs::create_dir_all(&work.base)).expect("a folder");
    for entry in fs::read_dir(&base).expect("a folder") {
        let from = entry.expect("an entry").path();
        fs::copy(&from, work.base.join(from.file_name().expect("a name"))).expect("a small file");
    }
    let config = json!({
        "peft_type": "LORA", "peft_version": "0.21.2", "r": 2, "lora_alpha": 2, "bias": "lora_only", "lora_bias": true,
        "target_modules": ["gate_proj"], "modules_to_save": ["up_proj"]
    });
    let (gate, up) = (key("gate_proj"), key("up_proj"));
    let names =
        ["lora_A.weight", "lora_B.weight", "lora_B.bias", "bias"].map(|name| format!("{gate}.{name}"));
    let (up_weight, up_bias) = (format!("{up}.weight"), format!("{up}.bias"));
    work.adapt_by(
        &config,
        &[
            (&names[0], &[2, 8], vec![0.0; 16]),
            (&names[1], &[24, 2], count(1, 48)),
            (&names[2], &[24], count(2, 24)),
            (&names[3], &[24], count(3, 24)),
            (&up_weight, &[24, 8], count(4, 192)),
            (&up_bias, &[24], count(5, 24)),
        ],
    );
    // What an earlier adapter added is not thrown away without a word.
    let adapter = work.adapter.to_str().expect("UTF-8");
    refused(
        "twice",
        &work,
        &["--adapter", adapter],
        65,
        &["replaces `", "weights_in.", "which would undo the delta of adapter"],
    );
    let ran = work.merge(&[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let (old, new) = (read(&base, "model"), read(&work.output, "model"));
    let values = |name: &str| (old[&key(name)].values(), new[&key(name)].values());
    let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<f64>>();
    let (was, is) = values("weights_in.weight");
    assert_eq!(is[..192], was[..192], "the gate's rows have a delta of zeros");
    assert_eq!(is[192..], wide(count(4, 192)), "the rows behind them are the value's");
    let (_, bias) = values("weights_in.bias");
    let sum: Vec<f64> =
        wide(count(3, 24)).iter().zip(wide(count(2, 24))).map(|(value, more)| value + more).collect();
    assert_eq!(bias[..24], sum, "what is added to a bias is added to the value in its place");
    assert_eq!(bias[24..], wide(count(5, 24)));
}
