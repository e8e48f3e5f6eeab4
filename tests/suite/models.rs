//! Tiny models of real families, merged by PEFT and by us. See `fixtures/make_models.py` and `make_diffusers.py`, which wrote
//! them.

use std::path::Path;

use crate::oracle::{Tensor, read, ulp};
use crate::support::{fixtures, folder, run};

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
