//! An f64 reference of golden cases, from their files and `case.json` alone: it shares no code with shardfold.
//!
//! `case` reads a case and says what each tensor should be; `formulas` holds one file per idea of how an adapter changes a
//! tensor; `running` and `grid` carry how far f32 may be off; `compare` judges.

mod case;
mod compare;
mod entry;
mod float;
mod formulas;
mod grid;
mod kinds;
mod packed;
mod quantised;
mod running;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::SafeTensors;

pub use case::{Case, Right};
pub use compare::{Shown, compare};
pub use float::{Tensor, ulp};

pub type Tensors = BTreeMap<String, Tensor>;

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
