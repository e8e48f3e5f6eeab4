//! One delta on every layout that experts have on disk, in every form that adapters have: the merged values are the same
//! (key-mapping.md 13, vectors 1 to 5; Tinker's stacks of factors, 10.3).
//!
//! Values are small whole numbers, so that every sum is exact and "the same" means the same bits. Vectors 8 to 11 are
//! elsewhere, but for what is at the end: 8 in the golden cases `tied-*`, `vocabulary-*` and `save-head-*`, 10 in
//! `both-patterns-rslora`, 11 in `refusals`.

use std::fs;

use serde_json::{Value, json};
use shardfold::testing::Dtype;

use super::refusals::refused;
use super::support::{f32s, write_safetensors};
use super::work::{Work, edit};

const EXPERTS: usize = 3;
const RANK: usize = 2;
/// `lora_alpha / r`.
const SCALE: f32 = 2.0;

/// A tensor to be written: name, shape, values.
type Named = (String, Vec<u64>, Vec<f32>);

/// A row-major matrix.
#[derive(Clone, Debug, PartialEq)]
struct Matrix {
    rows: usize,
    cols: usize,
    values: Vec<f32>,
}

impl Matrix {
    fn new(rows: usize, cols: usize, value: impl Fn(usize, usize) -> f32) -> Matrix {
        let values = (0..rows * cols).map(|i| value(i / cols, i % cols)).collect();
        Matrix { rows, cols, values }
    }

    /// Small whole numbers that differ with the seed.
    fn seeded(seed: usize, rows: usize, cols: usize) -> Matrix {
        Matrix::new(rows, cols, |r, c| ((seed * 31 + r * 7 + c * 3 + r * c) % 11) as f32 - 5.0)
    }

    fn at(&self, row: usize, col: usize) -> f32 {
        self.values[row * self.cols + col]
    }

    fn turned(&self) -> Matrix {
        Matrix::new(self.cols, self.rows, |r, c| self.at(c, r))
    }

    fn times(&self, other: &Matrix) -> Matrix {
        let sum = |r, c| (0..self.cols).map(|k| self.at(r, k) * other.at(k, c)).sum();
        Matrix::new(self.rows, other.cols, sum)
    }

    fn plus(&self, other: &Matrix, scale: f32) -> Matrix {
        Matrix::new(self.rows, self.cols, |r, c| self.at(r, c) + scale * other.at(r, c))
    }

    fn some_rows(&self, rows: impl Iterator<Item = usize>) -> Matrix {
        let rows: Vec<usize> = rows.collect();
        Matrix::new(rows.len(), self.cols, |r, c| self.at(rows[r], c))
    }

    fn above(&self, other: &Matrix) -> Matrix {
        Matrix {
            rows: self.rows + other.rows,
            cols: self.cols,
            values: [&self.values[..], &other.values].concat(),
        }
    }

    fn shape(&self) -> Vec<u64> {
        vec![self.rows as u64, self.cols as u64]
    }
}

/// What an experts module computes with: for each expert gate and up, one on top of the other `[2·inner, hidden]`, and down
/// `[hidden, inner]`.
#[derive(Clone, Debug, PartialEq)]
struct Experts {
    gate_up: Vec<Matrix>,
    down: Vec<Matrix>,
}

/// Sizes of a test, and the low-rank delta of each expert: its factor on the outputs and that on the inputs.
struct Delta {
    hidden: usize,
    inner: usize,
    gate_up: Vec<(Matrix, Matrix)>,
    down: Vec<(Matrix, Matrix)>,
}

impl Delta {
    fn new(hidden: usize, inner: usize) -> Delta {
        let pairs = |seed: usize, out: usize, input: usize| {
            let pair =
                |e| (Matrix::seeded(seed + e, out, RANK), Matrix::seeded(seed + 5 * e + 1, RANK, input));
            (0..EXPERTS).map(pair).collect()
        };
        Delta { hidden, inner, gate_up: pairs(3, 2 * inner, hidden), down: pairs(17, hidden, inner) }
    }

    fn base(&self) -> Experts {
        // No number is beyond 4, as E2M1 has no 5.
        let one = |seed, rows, cols| {
            let all = Matrix::seeded(seed, rows, cols);
            Matrix::new(rows, cols, |r, c| all.at(r, c).clamp(-4.0, 4.0))
        };
        let stack = |seed: usize, rows, cols| (0..EXPERTS).map(|e| one(seed + e, rows, cols)).collect();
        Experts { gate_up: stack(40, 2 * self.inner, self.hidden), down: stack(60, self.hidden, self.inner) }
    }

    /// What the base is once the delta of the parameters that are chosen is added.
    fn merged(&self, (gate_up, down): (bool, bool)) -> Experts {
        let add = |base: Vec<Matrix>, pairs: &[(Matrix, Matrix)], is_on| {
            let one = |(base, (out, input)): (Matrix, &(Matrix, Matrix))| match is_on {
                true => base.plus(&out.times(input), SCALE),
                false => base,
            };
            base.into_iter().zip(pairs).map(one).collect()
        };
        let base = self.base();
        Experts { gate_up: add(base.gate_up, &self.gate_up, gate_up), down: add(base.down, &self.down, down) }
    }
}

/// How the experts lie on disk.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Disk {
    /// One tensor for each projection of each expert, by these three names.
    Single([&'static str; 3]),
    /// Two for all experts, `[experts, out, in]`.
    OutIn,
    /// Two for all experts, `[experts, in, out]`.
    InOut,
    /// The same with gate and up in alternate columns.
    Interleaved,
    /// As one by one, but as packed integers with a scale for every 32 inputs, as Kimi K2 has them.
    Int4([&'static str; 3]),
    /// The transpose of that before as codes of four bits, `[experts, out, in/32, 16]`, with a scale for every 32.
    Mxfp4,
}

/// One layout of a model.
#[derive(Clone, Copy, Debug)]
struct Layout {
    architecture: &'static str,
    model_type: &'static str,
    /// Path of the experts module on disk.
    stack: &'static str,
    /// The same as transformers 5 calls it.
    runtime: &'static str,
    disk: Disk,
    shards: usize,
    /// Whether the running model has its parameters as `[experts, in, out]`.
    is_in_out: bool,
}

const HF: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];
const MLP: &str = "model.layers.0.mlp.experts";
const MIXTRAL: Layout = Layout {
    architecture: "MixtralForCausalLM",
    model_type: "mixtral",
    stack: "model.layers.0.block_sparse_moe.experts",
    runtime: MLP,
    disk: Disk::Single(["w1", "w3", "w2"]),
    shards: 1,
    is_in_out: false,
};
const QWEN: Layout = Layout {
    architecture: "Qwen3MoeForCausalLM",
    model_type: "qwen3_moe",
    stack: MLP,
    runtime: MLP,
    disk: Disk::Single(HF),
    shards: 3,
    is_in_out: false,
};
const OUT_IN: Layout = Layout { disk: Disk::OutIn, shards: 1, ..QWEN };
const IN_OUT: Layout = Layout {
    architecture: "Llama4ForCausalLM",
    model_type: "llama4_text",
    stack: "model.layers.0.feed_forward.experts",
    runtime: "model.layers.0.feed_forward.experts",
    disk: Disk::InOut,
    shards: 1,
    is_in_out: true,
};
/// Turned while it is loaded.
const TURNED: Layout = Layout {
    architecture: "Qwen3VLMoeForConditionalGeneration",
    model_type: "qwen3_vl_moe",
    stack: "model.language_model.layers.0.mlp.experts",
    runtime: "model.language_model.layers.0.mlp.experts",
    disk: Disk::InOut,
    shards: 1,
    is_in_out: false,
};
const INTERLEAVED: Layout = Layout {
    architecture: "GptOssForCausalLM",
    model_type: "gpt_oss",
    stack: MLP,
    runtime: MLP,
    disk: Disk::Interleaved,
    shards: 1,
    is_in_out: true,
};
/// Its sides along the inputs must be multiples of 32.
const MXFP4: Layout = Layout { disk: Disk::Mxfp4, ..INTERLEAVED };
/// Its inputs must be multiples of 32 too.
const INT4: Layout =
    Layout { architecture: "DeepseekV3ForCausalLM", model_type: "deepseek_v3", disk: Disk::Int4(HF), ..QWEN };
const ALL: [Layout; 6] = [MIXTRAL, QWEN, OUT_IN, IN_OUT, TURNED, INTERLEAVED];

/// The stack `[experts, …]` of matrices.
fn stacked(name: String, matrices: &[Matrix]) -> Named {
    let mut shape = vec![matrices.len() as u64];
    shape.extend(matrices[0].shape());
    (name, shape, matrices.iter().flat_map(|matrix| matrix.values.clone()).collect())
}

/// Gate and up rows in turn, and back.
fn in_turn(matrix: &Matrix) -> Matrix {
    let half = matrix.rows / 2;
    matrix.some_rows((0..matrix.rows).map(|row| row / 2 + row % 2 * half))
}

fn apart(matrix: &Matrix) -> Matrix {
    matrix.some_rows((0..matrix.rows).step_by(2).chain((1..matrix.rows).step_by(2)))
}

impl Layout {
    fn tensors(&self, experts: &Experts) -> Vec<Named> {
        let each = |matrices: &[Matrix], change: &dyn Fn(&Matrix) -> Matrix| -> Vec<Matrix> {
            matrices.iter().map(change).collect()
        };
        let (gate_up, down) = (format!("{}.gate_up_proj", self.stack), format!("{}.down_proj", self.stack));
        match self.disk {
            Disk::Single(names) | Disk::Int4(names) => {
                let mut tensors = Vec::new();
                for (e, (gate_up, down)) in experts.gate_up.iter().zip(&experts.down).enumerate() {
                    let half = gate_up.rows / 2;
                    let parts = [gate_up.some_rows(0..half), gate_up.some_rows(half..2 * half), down.clone()];
                    for (name, part) in names.iter().zip(parts) {
                        tensors.push((
                            format!("{}.{e}.{name}.weight", self.stack),
                            part.shape(),
                            part.values,
                        ));
                    }
                }
                tensors
            }
            Disk::OutIn => vec![stacked(gate_up, &experts.gate_up), stacked(down, &experts.down)],
            Disk::InOut => vec![
                stacked(gate_up, &each(&experts.gate_up, &Matrix::turned)),
                stacked(down, &each(&experts.down, &Matrix::turned)),
            ],
            Disk::Interleaved => vec![
                stacked(gate_up, &each(&experts.gate_up, &|matrix| in_turn(matrix).turned())),
                stacked(down, &each(&experts.down, &Matrix::turned)),
            ],
            Disk::Mxfp4 => Vec::new(),
        }
    }

    /// The experts as codes, and the scales of each.
    fn coded(&self, experts: &Experts) -> Vec<Coded> {
        let gate_up: Vec<Matrix> = experts.gate_up.iter().map(in_turn).collect();
        let both = [("gate_up_proj", &gate_up), ("down_proj", &experts.down)];
        let coded =
            |(name, matrices): (&str, &Vec<Matrix>)| mxfp4(&format!("{}.{name}", self.stack), matrices);
        both.into_iter().flat_map(coded).collect()
    }

    /// Writes the base: tensors go to the shards in turn, so that an expert's gate and up are apart.
    fn write(&self, work: &Work, delta: &Delta, others: &[Named]) {
        let sizes = json!({"model_type": self.model_type, "hidden_size": delta.hidden});
        let mut config = sizes.clone();
        config["architectures"] = json!([self.architecture]);
        if self.model_type == "qwen3_vl_moe" {
            config["text_config"] = json!({"model_type": "qwen3_vl_moe_text", "hidden_size": delta.hidden});
        }
        fs::write(work.base.join("config.json"), config.to_string()).expect("a small file");
        let mut tensors = self.tensors(&delta.base());
        tensors.extend_from_slice(others);
        if let Disk::Int4(_) = self.disk {
            return write_packed(work, &config, &tensors, self.shards);
        }
        if self.disk == Disk::Mxfp4 {
            let coded = self.coded(&delta.base());
            let plain = tensors.iter().map(|(name, shape, values)| {
                (name.clone(), Dtype::F32, shape.clone(), f32s(values.iter().copied()))
            });
            let all: Vec<Coded> = coded.into_iter().chain(plain).collect();
            let all: Vec<_> = all
                .iter()
                .map(|(name, dtype, shape, data)| (&name[..], *dtype, &shape[..], data.clone()))
                .collect();
            config["dtype"] = json!("float32");
            config["quantization_config"] = json!({"quant_method": "mxfp4"});
            fs::write(work.base.join("config.json"), config.to_string()).expect("a small file");
            return write_safetensors(&work.base.join("model.safetensors"), &all);
        }
        if self.shards == 1 {
            return write_all(&work.base.join("model.safetensors"), &tensors);
        }
        fs::remove_file(work.base.join("model.safetensors")).expect("it was there");
        let mut places = serde_json::Map::new();
        for shard in 0..self.shards {
            let name = format!("model-{:05}-of-{:05}.safetensors", shard + 1, self.shards);
            let part: Vec<Named> = tensors.iter().skip(shard).step_by(self.shards).cloned().collect();
            places.extend(part.iter().map(|(tensor, ..)| (tensor.clone(), json!(name))));
            write_all(&work.base.join(&name), &part);
        }
        let index = json!({"metadata": {"total_size": 0}, "weight_map": places});
        fs::write(work.base.join("model.safetensors.index.json"), index.to_string()).expect("a small file");
    }

    /// The experts of the result.
    fn read(&self, work: &Work, delta: &Delta) -> Experts {
        let mut found = std::collections::HashMap::new();
        for entry in fs::read_dir(&work.output).expect("a result").map(|entry| entry.expect("an entry")) {
            if entry.path().extension().is_some_and(|end| end == "safetensors") {
                edit(&entry.path(), |tensors| {
                    for tensor in tensors.iter() {
                        let values =
                            tensor.data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                        found.insert(tensor.name.clone(), values.collect::<Vec<f32>>());
                    }
                });
            }
        }
        let (hidden, inner) = (delta.hidden, delta.inner);
        let matrix = |name: &str, e: usize, rows: usize, cols: usize| {
            let all = &found[&format!("{}.{name}", self.stack)];
            Matrix { rows, cols, values: all[e * rows * cols..][..rows * cols].to_vec() }
        };
        let one = |e: usize| match self.disk {
            Disk::Single([gate, up, down]) | Disk::Int4([gate, up, down]) => {
                let single = |name: &str, rows, cols| matrix(&format!("{e}.{name}.weight"), 0, rows, cols);
                (single(gate, inner, hidden).above(&single(up, inner, hidden)), single(down, hidden, inner))
            }
            Disk::OutIn => {
                (matrix("gate_up_proj", e, 2 * inner, hidden), matrix("down_proj", e, hidden, inner))
            }
            Disk::InOut => (
                matrix("gate_up_proj", e, hidden, 2 * inner).turned(),
                matrix("down_proj", e, inner, hidden).turned(),
            ),
            Disk::Interleaved | Disk::Mxfp4 => (
                apart(&matrix("gate_up_proj", e, hidden, 2 * inner).turned()),
                matrix("down_proj", e, inner, hidden).turned(),
            ),
        };
        let (gate_up, down) = (0..EXPERTS).map(one).unzip();
        Experts { gate_up, down }
    }

    /// The same with its factors of gate and up as the running model has its rows.
    fn outputs(&self, matrix: &Matrix) -> Matrix {
        match self.disk {
            Disk::Interleaved | Disk::Mxfp4 => in_turn(matrix),
            _ => matrix.clone(),
        }
    }
}

/// Writes weights as packed integers: codes in one shard after the other, what belongs to them in the next.
fn write_packed(work: &Work, config: &Value, tensors: &[Named], shards: usize) {
    let mut config = config.clone();
    let weights =
        json!({"num_bits": 4, "type": "int", "symmetric": true, "strategy": "group", "group_size": 32});
    // Kimi K2.5 has it under the text's config.
    config["text_config"] = json!({"dtype": "float32", "quantization_config": {
        "quant_method": "compressed-tensors", "format": "pack-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
    }});
    fs::write(work.base.join("config.json"), config.to_string()).expect("a small file");
    fs::remove_file(work.base.join("model.safetensors")).expect("it was there");
    let mut places = serde_json::Map::new();
    let mut all: Vec<Vec<Coded>> = vec![Vec::new(); shards];
    for (i, (name, shape, values)) in tensors.iter().enumerate() {
        let word = |eight: &[f32]| {
            let field = |value: f32| (value + 8.0) as u32; // the scale is 1
            (0..).zip(eight).map(|(i, value)| field(*value) << (4 * i)).sum::<u32>().to_le_bytes()
        };
        let codes = values.as_chunks::<8>().0.iter().flat_map(|eight| word(eight)).collect();
        let groups = values.len() / 32;
        let sides = shape.iter().flat_map(|side| side.to_le_bytes()).collect();
        all[i % shards].push((format!("{name}_packed"), Dtype::I32, vec![shape[0], shape[1] / 8], codes));
        let beside = &mut all[(i + 1) % shards];
        let scales = f32s((0..groups).map(|_| 1.0));
        beside.push((format!("{name}_scale"), Dtype::F32, vec![shape[0], shape[1] / 32], scales));
        beside.push((format!("{name}_shape"), Dtype::I64, vec![2], sides));
    }
    for (i, tensors) in all.iter().enumerate() {
        let file = format!("model-{:05}-of-{shards:05}.safetensors", i + 1);
        places.extend(tensors.iter().map(|(tensor, ..)| (tensor.clone(), json!(file))));
        let tensors: Vec<_> = tensors
            .iter()
            .map(|(name, dtype, shape, data)| (&name[..], *dtype, &shape[..], data.clone()))
            .collect();
        write_safetensors(&work.base.join(file), &tensors);
    }
    let index = json!({"metadata": {"total_size": 0}, "weight_map": places});
    fs::write(work.base.join("model.safetensors.index.json"), index.to_string()).expect("a small file");
}

/// A tensor of any type: name, dtype, shape, bytes.
type Coded = (String, Dtype, Vec<u64>, Vec<u8>);

/// Blocks and scales of matrices of numbers that E2M1 has, also halved or doubled: so that scales differ, each block in
/// turn is stored as it is, as halves times two, and as doubles times a half.
fn mxfp4(name: &str, matrices: &[Matrix]) -> [Coded; 2] {
    const E2M1: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let (mut codes, mut scales) = (Vec::new(), Vec::new());
    let blocks = matrices.iter().flat_map(|matrix| matrix.values.chunks_exact(32));
    for (i, block) in blocks.enumerate() {
        let is_small = block.iter().all(|value| value.abs() <= 3.0);
        let (scale, factor) = [(127, 1.0), (128, 0.5), if is_small { (126, 2.0) } else { (127, 1.0) }][i % 3];
        let code = |value: f32| {
            let size = E2M1.iter().position(|of| *of == value.abs() * factor).expect("E2M1 has it") as u8;
            size | u8::from(value < 0.0) << 3
        };
        codes.extend(block.chunks_exact(2).map(|pair| code(pair[0]) | code(pair[1]) << 4));
        scales.push(scale);
    }
    let shape = vec![matrices.len() as u64, matrices[0].rows as u64, matrices[0].cols as u64 / 32];
    let with_bytes = [&shape[..], &[16]].concat();
    [
        (format!("{name}_blocks"), Dtype::U8, with_bytes, codes),
        (format!("{name}_scales"), Dtype::U8, shape, scales),
    ]
}

fn write_all(path: &std::path::Path, tensors: &[Named]) {
    let tensors: Vec<_> = tensors
        .iter()
        .map(|(name, shape, values)| (name.as_str(), Dtype::F32, &shape[..], f32s(values.iter().copied())))
        .collect();
    write_safetensors(path, &tensors);
}

/// Writes an adapter with these fields beside those of a LoRA.
fn adapt(work: &Work, fields: &Value, tensors: &[Named]) {
    let mut config = json!({"peft_type": "LORA", "r": RANK, "lora_alpha": RANK as f32 * SCALE});
    for (name, value) in fields.as_object().expect("an object") {
        config[name] = value.clone();
    }
    let tensors: Vec<_> =
        tensors.iter().map(|(name, shape, values)| (name.as_str(), &shape[..], values.clone())).collect();
    work.adapt_by(&config, &tensors);
}

/// An adapter with a pair of factors for each projection of each expert.
fn per_expert(delta: &Delta, stack: &str, names: [&str; 3]) -> Vec<Named> {
    let mut tensors = Vec::new();
    for e in 0..EXPERTS {
        let (gate_up, down) = (&delta.gate_up[e], &delta.down[e]);
        let half = delta.inner;
        let outs = [gate_up.0.some_rows(0..half), gate_up.0.some_rows(half..2 * half), down.0.clone()];
        for ((name, out), input) in names.iter().zip(outs).zip([&gate_up.1, &gate_up.1, &down.1]) {
            let key = |role| format!("{stack}.{e}.{name}.{role}.weight");
            tensors.push((key("lora_A"), input.shape(), input.values.clone()));
            tensors.push((key("lora_B"), out.shape(), out.values));
        }
    }
    tensors
}

/// The factors of one parameter as PEFT's wrapper has them: `A` with the experts slowest, `B` with the experts fastest, or
/// slowest if it is grouped.
fn wrapped(key: &str, pairs: &[(Matrix, Matrix)], is_grouped: bool) -> [Named; 2] {
    let a = Matrix::new(EXPERTS * RANK, pairs[0].0.cols, |row, col| pairs[row / RANK].0.at(row % RANK, col));
    let b = Matrix::new(pairs[0].1.rows, EXPERTS * RANK, |row, col| match is_grouped {
        true => pairs[col / RANK].1.at(row, col % RANK),
        false => pairs[col % EXPERTS].1.at(row, col / EXPERTS),
    });
    [("lora_A", a), ("lora_B", b)].map(|(role, m)| (format!("{key}.{role}.weight"), m.shape(), m.values))
}

/// How a wrapper's factors lie.
#[derive(Clone, Copy)]
struct Form {
    /// `A` is on the last axis of the parameter.
    is_swapped: bool,
    is_grouped: bool,
    /// Gate and up, and down.
    targets: (bool, bool),
}

const BOTH: (bool, bool) = (true, true);

/// An adapter of the joined parameters, and its fields.
fn wrapper(layout: &Layout, delta: &Delta, form: Form) -> (Vec<Named>, Value) {
    // `A` is on the inputs if it is on the last axis of `[out, in]`, or on the first of `[in, out]`.
    let a_is_input = form.is_swapped != layout.is_in_out;
    let sides = |(out, input): &(Matrix, Matrix)| match a_is_input {
        true => (input.clone(), out.clone()),
        false => (out.turned(), input.turned()),
    };
    let gate_up = delta.gate_up.iter().map(|(out, input)| sides(&(layout.outputs(out), input.clone())));
    let gate_up: Vec<(Matrix, Matrix)> = gate_up.collect();
    let down: Vec<(Matrix, Matrix)> = delta.down.iter().map(sides).collect();
    let (mut tensors, mut parameters) = (Vec::new(), Vec::new());
    let inside = match form.targets {
        BOTH => format!("{}.base_layer", layout.runtime),
        _ => layout.runtime.to_owned(),
    };
    if form.targets.0 {
        tensors.extend(wrapped(&inside, &gate_up, form.is_grouped));
        parameters.push("experts.gate_up_proj");
    }
    if form.targets.1 {
        tensors.extend(wrapped(layout.runtime, &down, form.is_grouped));
        parameters.push("experts.down_proj");
    }
    (tensors, json!({"target_parameters": parameters}))
}

/// Merges and compares.
fn gives(what: &str, layout: &Layout, delta: &Delta, adapter: (Vec<Named>, Value), targets: (bool, bool)) {
    let work = Work::tiny(Dtype::F32, 1.0);
    layout.write(&work, delta, &[]);
    adapt(&work, &adapter.1, &adapter.0);
    let ran = work.merge(&[]);
    assert_eq!(ran.code, 0, "{what} on {layout:?}: {}", ran.err);
    assert_eq!(layout.read(&work, delta), delta.merged(targets), "{what} on {layout:?}");
}

#[test]
fn experts_one_by_one_and_wrapped_on_every_layout() {
    let delta = Delta::new(6, 4);
    for layout in &ALL {
        let one_by_one = (per_expert(&delta, layout.runtime, HF), json!({"target_modules": HF}));
        gives("one by one", layout, &delta, one_by_one, BOTH);
        let short = (per_expert(&delta, layout.stack, ["w1", "w3", "w2"]), json!({}));
        gives("one by one, short names", layout, &delta, short, BOTH);
        for is_swapped in [false, true] {
            let form = Form { is_swapped, is_grouped: false, targets: BOTH };
            gives("wrapped", layout, &delta, wrapper(layout, &delta, form), BOTH);
        }
    }
}

/// Vector 5 on gpt-oss as it was published: every form of one delta, from either PEFT, gives the same values.
#[test]
fn every_form_on_codes_of_four_bits() {
    // One of two scales in a row, or one; and a square `down_proj`, whose sibling says how it lies.
    for (hidden, inner) in [(64, 32), (32, 64), (32, 32)] {
        let delta = Delta::new(hidden, inner);
        let gives = |what: &str, adapter, targets| gives(what, &MXFP4, &delta, adapter, targets);
        gives("one by one", (per_expert(&delta, MLP, HF), json!({"target_modules": HF})), BOTH);
        gives("stacks", (in_stacks(&delta, MLP), json!({"target_modules": "all-linear"})), BOTH);
        // Unsloth's lists of linears have their rows in turn already.
        gives("lists", (in_lists(&delta), json!({})), BOTH);
        for (version, is_swapped) in [("0.18.1", false), ("0.19.0", true), ("0.20.0", false)] {
            for (layout, is_grouped) in [("rank_major", false), ("grouped_by_expert", true)] {
                let (tensors, mut fields) =
                    wrapper(&MXFP4, &delta, Form { is_swapped, is_grouped, targets: BOTH });
                (fields["peft_version"], fields["lora_B_layout"]) = (json!(version), json!(layout));
                gives(version, (tensors, fields), BOTH);
            }
        }
        for targets in [(true, false), (false, true)].into_iter().filter(|_| hidden != inner) {
            let form = Form { is_swapped: false, is_grouped: false, targets };
            gives("one parameter", wrapper(&MXFP4, &delta, form), targets);
        }
    }
}

/// Experts one by one as packed integers, as Kimi K2 has them: each form of the delta, from either transformers.
#[test]
fn every_form_on_packed_integers() {
    let delta = Delta::new(64, 32);
    let gives = |what: &str, adapter, targets| gives(what, &INT4, &delta, adapter, targets);
    gives("one by one", (per_expert(&delta, MLP, HF), json!({"target_modules": HF})), BOTH);
    gives("stacks", (in_stacks(&delta, MLP), json!({"target_modules": "all-linear"})), BOTH);
    for (version, is_swapped) in [("0.18.1", false), ("0.20.0", true)] {
        for targets in [BOTH, (true, false), (false, true)] {
            let form = Form { is_swapped, is_grouped: false, targets };
            let (tensors, mut fields) = wrapper(&INT4, &delta, form);
            fields["peft_version"] = json!(version);
            gives(version, (tensors, fields), targets);
        }
    }
}

/// An adapter of Unsloth's for gpt-oss: a linear for each expert in two lists.
fn in_lists(delta: &Delta) -> Vec<Named> {
    let mut tensors = Vec::new();
    for e in 0..EXPERTS {
        let (gate_up, down) = (&delta.gate_up[e], &delta.down[e]);
        let gate_up = (in_turn(&gate_up.0), gate_up.1.clone());
        for (list, (out, input)) in [("gate_up_projs", gate_up), ("down_projs", down.clone())] {
            for (role, factor) in [("lora_A", input), ("lora_B", out)] {
                tensors.push((format!("{MLP}.{list}.{e}.{role}.weight"), factor.shape(), factor.values));
            }
        }
    }
    tensors
}

#[test]
fn experts_that_end_within_a_block() {
    // A worker's block has 128 rows, and an expert 100.
    let delta = Delta::new(1024, 50);
    for layout in [OUT_IN, TURNED] {
        let form = Form { is_swapped: true, is_grouped: false, targets: BOTH };
        gives("blocks of several experts", &layout, &delta, wrapper(&layout, &delta, form), BOTH);
    }
}

#[test]
fn every_peft_gives_the_same_bytes() {
    let delta = Delta::new(6, 4);
    for layout in [OUT_IN, QWEN, INTERLEAVED] {
        // Which modules each version swapped (key-mapping.md 4.3); transposed ones are gpt-oss' alone.
        let is_transposed = layout.model_type == "gpt_oss";
        for (version, is_swapped) in
            [("0.18.1", false), ("0.19.0", is_transposed), ("0.20.0", !is_transposed)]
        {
            let (tensors, mut fields) =
                wrapper(&layout, &delta, Form { is_swapped, is_grouped: false, targets: BOTH });
            fields["peft_version"] = json!(version);
            gives(version, &layout, &delta, (tensors, fields), BOTH);
        }
    }
}

#[test]
fn square_parameters() {
    // The sides of gate and up are equal, then those of down.
    for (hidden, inner, square) in [(8, 4, (true, false)), (6, 6, (false, true))] {
        let delta = Delta::new(hidden, inner);
        for layout in [OUT_IN, QWEN] {
            for (version, is_swapped) in [("0.18.1", false), ("0.20.0", true)] {
                let with = |targets, version: Value| {
                    let (tensors, mut fields) =
                        wrapper(&layout, &delta, Form { is_swapped, is_grouped: false, targets });
                    fields["peft_version"] = version;
                    (tensors, fields)
                };
                // The other parameter decides, whatever the version says; alone, the version does.
                gives("a sibling", &layout, &delta, with(BOTH, json!("0.19.1")), BOTH);
                gives(version, &layout, &delta, with(square, json!(version)), square);
            }
        }
    }
    let delta = Delta::new(6, 6);
    let work = Work::tiny(Dtype::F32, 1.0);
    INTERLEAVED.write(&work, &delta, &[]);
    let form = Form { is_swapped: false, is_grouped: false, targets: (false, true) };
    let (tensors, mut fields) = wrapper(&INTERLEAVED, &delta, form);
    fields["peft_version"] = json!("0.20.0");
    adapt(&work, &fields, &tensors);
    refused("nothing tells", &work, &[], 65, &["orientation of `lora_A` is ambiguous"]);
}

#[test]
fn both_packings() {
    let delta = Delta::new(6, 4);
    for layout in [QWEN, IN_OUT] {
        for (name, is_grouped) in [("rank_major", false), ("grouped_by_expert", true)] {
            let (tensors, mut fields) =
                wrapper(&layout, &delta, Form { is_swapped: true, is_grouped, targets: BOTH });
            fields["lora_B_layout"] = json!(name);
            gives(name, &layout, &delta, (tensors, fields), BOTH);
        }
    }
}

#[test]
fn some_of_the_parameters() {
    let delta = Delta::new(6, 4);
    for layout in &ALL {
        for targets in [(true, false), (false, true)] {
            let form = Form { is_swapped: true, is_grouped: false, targets };
            gives("one parameter", layout, &delta, wrapper(layout, &delta, form), targets);
        }
        // A gate without its up is fine where each is placed on its own.
        let mut gates = per_expert(&delta, layout.runtime, HF);
        gates.retain(|(key, ..)| key.contains("down_proj"));
        gives("down alone", layout, &delta, (gates, json!({})), (false, true));
    }
}

#[test]
fn both_parameters_and_a_bias() {
    let delta = Delta::new(6, 4);
    let work = Work::tiny(Dtype::F32, 1.0);
    let name = format!("{MLP}.gate_up_proj_bias");
    let bias = Matrix::seeded(7, EXPERTS, 8);
    let (out, input) = (Matrix::seeded(8, EXPERTS, RANK), Matrix::seeded(9, RANK, 8));
    INTERLEAVED.write(&work, &delta, &[(name.clone(), bias.shape(), bias.values.clone())]);
    let form = Form { is_swapped: false, is_grouped: false, targets: BOTH };
    let (mut tensors, _) = wrapper(&INTERLEAVED, &delta, form);
    // The first registered is innermost.
    let nested = format!("{MLP}.base_layer.lora");
    tensors
        .iter_mut()
        .for_each(|(key, ..)| *key = key.replace(&nested, &format!("{MLP}.base_layer.base_layer.lora")));
    for (role, factor) in [("lora_A", &input), ("lora_B", &out)] {
        tensors.push((format!("{MLP}.base_layer.{role}.weight"), factor.shape(), factor.values.clone()));
    }
    let parameters = ["experts.down_proj", "experts.gate_up_proj", "experts.gate_up_proj_bias"];
    adapt(&work, &json!({"target_parameters": parameters}), &tensors);
    work.succeeds(&[]);
    assert_eq!(INTERLEAVED.read(&work, &delta), delta.merged(BOTH));
    assert_eq!(work.merged(&name), bias.plus(&out.times(&input), SCALE).values);
}

#[test]
fn lists_that_a_trainer_split_joined_parameters_into() {
    // Unsloth, of a base quantized with bitsandbytes: one linear layer for each expert, its rows as the parameter's columns.
    let delta = Delta::new(6, 4);
    let mut tensors = Vec::new();
    for e in 0..EXPERTS {
        for (list, (out, input)) in [
            ("gate_up_projs", (in_turn(&delta.gate_up[e].0), &delta.gate_up[e].1)),
            ("down_projs", (delta.down[e].0.clone(), &delta.down[e].1)),
        ] {
            let key = |role| format!("{MLP}.{list}.{e}.{role}.weight");
            tensors.push((key("lora_A"), input.shape(), input.values.clone()));
            tensors.push((key("lora_B"), out.shape(), out.values));
        }
    }
    let fields = json!({"target_modules": ["gate_up_projs.0", "down_projs.0"]});
    gives("lists", &INTERLEAVED, &delta, (tensors, fields), BOTH);
}

#[test]
fn parameters_nested_by_their_names() {
    // axolotl 0.15 with `quantize_moe_experts`: `down_proj` inside, where PEFT has `gate_up_proj`.
    let delta = Delta::new(6, 4);
    let turned = |layout: &Layout| {
        let form = Form { is_swapped: !layout.is_in_out, is_grouped: false, targets: BOTH };
        let (mut tensors, fields) = wrapper(layout, &delta, form);
        let inside = format!("{}.base_layer", layout.runtime);
        for (name, ..) in &mut tensors {
            *name = match name.strip_prefix(&inside) {
                Some(rest) => format!("{}{rest}", layout.runtime),
                None => name.replacen(layout.runtime, &inside, 1),
            };
        }
        (tensors, fields)
    };
    for layout in [QWEN, OUT_IN, INTERLEAVED] {
        gives("by names", &layout, &delta, turned(&layout), BOTH);
    }
    let work = Work::tiny(Dtype::F32, 1.0);
    OUT_IN.write(&work, &delta, &[]);
    let (tensors, fields) = turned(&OUT_IN);
    adapt(&work, &fields, &tensors);
    let ran = work.succeeds(&[]);
    assert!(ran.err.contains("are nested in another order than PEFT nests them"), "{}", ran.err);
}

/// An adapter of Tinker's: for each projection the factors of all experts in two stacks.
fn in_stacks(delta: &Delta, stack: &str) -> Vec<Named> {
    let half = delta.inner;
    let gate_up = |rows: std::ops::Range<usize>| -> Vec<(Matrix, Matrix)> {
        delta.gate_up.iter().map(|(out, input)| (out.some_rows(rows.clone()), input.clone())).collect()
    };
    let pairs = [("w1", gate_up(0..half)), ("w3", gate_up(half..2 * half)), ("w2", delta.down.clone())];
    let both = |(name, pairs): (&str, Vec<(Matrix, Matrix)>)| {
        let (out, input): (Vec<Matrix>, Vec<Matrix>) = pairs.into_iter().unzip();
        let key = |role| format!("{stack}.{name}.{role}.weight");
        [stacked(key("lora_A"), &input), stacked(key("lora_B"), &out)]
    };
    pairs.into_iter().flat_map(both).collect()
}

#[test]
fn stacks_of_factors_on_every_layout() {
    let delta = Delta::new(6, 4);
    for layout in &ALL {
        let fields = json!({"target_modules": "all-linear"});
        gives("stacks", layout, &delta, (in_stacks(&delta, layout.runtime), fields), BOTH);
    }
    let work = Work::tiny(Dtype::F32, 1.0);
    adapt(&work, &json!({}), &in_stacks(&delta, MLP));
    let ran = super::support::run(&["inspect", work.adapter.to_str().expect("UTF-8")]);
    assert!(
        ran.code == 0 && ran.out.contains("lora_experts") && ran.out.contains("rank 2"),
        "{}{}",
        ran.out,
        ran.err
    );
}

#[test]
fn a_factor_that_all_experts_share() {
    let mut delta = Delta::new(6, 4);
    let first = |pairs: &[(Matrix, Matrix)]| pairs[0].clone();
    let (gate_up, down) = (first(&delta.gate_up), first(&delta.down));
    delta.gate_up.iter_mut().for_each(|pair| pair.1 = gate_up.1.clone());
    delta.down.iter_mut().for_each(|pair| pair.0 = down.0.clone());
    let shared = |tensors: &mut Vec<Named>, keys: &[&str]| {
        for (_, shape, values) in tensors.iter_mut().filter(|(key, ..)| keys.iter().any(|k| key.contains(k)))
        {
            values.truncate(values.len() / EXPERTS);
            shape[0] = 1;
        }
    };
    for layout in [QWEN, INTERLEAVED] {
        let mut tensors = in_stacks(&delta, layout.runtime);
        shared(&mut tensors, &["w1.lora_A", "w3.lora_A", "w2.lora_B"]);
        gives("shared", &layout, &delta, (tensors.clone(), json!({})), BOTH);
        shared(&mut tensors, &["w1.lora_B"]);
        let work = Work::tiny(Dtype::F32, 1.0);
        layout.write(&work, &delta, &[]);
        adapt(&work, &json!({}), &tensors);
        refused(
            "both are shared",
            &work,
            &[],
            65,
            &["w1.lora_B.weight` has shape [1, ", "is every expert's already"],
        );
    }
}

#[test]
fn stacks_that_do_not_fit() {
    let delta = Delta::new(6, 4);
    for (what, key, change, says) in [
        (
            "two experts",
            "w1.lora_A",
            (|s, v| (s[0] = 2, v.truncate(24)).1) as fn(&mut Vec<u64>, &mut Vec<f32>),
            "has shape [2, 2, 6], expected [3 or 1, rank, 6]",
        ),
        (
            "other inputs",
            "w2.lora_A",
            |s, v| (s[2] = 3, v.truncate(18)).1,
            "has shape [3, 2, 3], expected [3 or 1, rank, 4]",
        ),
        (
            "other outputs",
            "w2.lora_B",
            |s, v| (s[1] = 5, v.truncate(30)).1,
            "has shape [3, 5, 2], expected [3 or 1, 6, 2]",
        ),
        ("a matrix", "w3.lora_A", |s, _| *s = vec![6, 6], "has shape [6, 6], expected [3 or 1, rank, 6]"),
        (
            "no values on one side",
            "w3.lora_A",
            |s, v| (s[0] = 0, v.clear()).1,
            "w3.lora_B.weight` has no partner",
        ),
    ] {
        let work = Work::tiny(Dtype::F32, 1.0);
        QWEN.write(&work, &delta, &[]);
        let mut tensors = in_stacks(&delta, MLP);
        let (_, shape, values) = tensors.iter_mut().find(|(name, ..)| name.contains(key)).expect("a factor");
        change(shape, values);
        adapt(&work, &json!({}), &tensors);
        refused(what, &work, &[], 65, &[says]);
    }
}

#[test]
fn stacks_of_experts_without_gates() {
    let delta = Delta::new(6, 4);
    let stack = "backbone.layers.0.mixer.experts";
    let base = delta.base();
    let mut tensors = Vec::new();
    for (e, (up, down)) in base.gate_up.iter().zip(&base.down).enumerate() {
        tensors.push((format!("{stack}.{e}.up_proj.weight"), up.shape(), up.values.clone()));
        tensors.push((format!("{stack}.{e}.down_proj.weight"), down.shape(), down.values.clone()));
    }
    for prefix in [stack, "model.layers.0.mixer.experts"] {
        let work = Work::tiny(Dtype::F32, 1.0);
        write_all(&work.base.join("model.safetensors"), &tensors);
        let config = json!({"architectures": ["NemotronHForCausalLM"], "model_type": "nemotron_h"});
        fs::write(work.base.join("config.json"), config.to_string()).expect("a small file");
        let mut factors = Vec::new();
        for (name, pairs) in [("w1", &delta.gate_up), ("w2", &delta.down)] {
            let (out, input): (Vec<Matrix>, Vec<Matrix>) = pairs.iter().cloned().unzip();
            factors.push(stacked(format!("{prefix}.{name}.lora_A.weight"), &input));
            factors.push(stacked(format!("{prefix}.{name}.lora_B.weight"), &out));
        }
        factors.push((format!("{prefix}.w3.lora_A.weight"), vec![3, 2, 0], Vec::new()));
        factors.push((format!("{prefix}.w3.lora_B.weight"), vec![3, 0, 2], Vec::new()));
        adapt(&work, &json!({}), &factors);
        let ran = work.succeeds(&[]);
        assert!(ran.err.contains("and 1 more: without values"), "{}", ran.err);
        let right = delta.merged(BOTH);
        for e in 0..EXPERTS {
            assert_eq!(work.merged(&format!("{stack}.{e}.up_proj.weight")), right.gate_up[e].values);
            assert_eq!(work.merged(&format!("{stack}.{e}.down_proj.weight")), right.down[e].values);
        }
    }
}

#[test]
fn one_name_for_the_attention_and_the_head_of_every_model() {
    let delta = Delta::new(6, 4);
    let (q, head) = (Matrix::seeded(1, 6, 6), Matrix::seeded(2, 9, 6));
    let others = [("model.layers.0.self_attn.q_proj.weight", &q), ("lm_head.weight", &head)];
    let others: Vec<Named> =
        others.iter().map(|(name, m)| ((*name).to_owned(), m.shape(), m.values.clone())).collect();
    let work = Work::tiny(Dtype::F32, 1.0);
    INTERLEAVED.write(&work, &delta, &others);
    let mut tensors = in_stacks(&delta, MLP);
    for (module, rows) in [("model.layers.0.attn.q_proj", 6), ("model.unembed_tokens", 9)] {
        for (role, matrix) in
            [("lora_A", Matrix::seeded(4, RANK, 6)), ("lora_B", Matrix::seeded(5, rows, RANK))]
        {
            tensors.push((format!("{module}.{role}.weight"), matrix.shape(), matrix.values));
        }
    }
    adapt(&work, &json!({"target_modules": "all-linear"}), &tensors);
    let ran = work.succeeds(&[]);
    assert!(ran.err.contains("by writing `self_attn` for `attn`"), "{}", ran.err);
    assert_eq!(INTERLEAVED.read(&work, &delta), delta.merged(BOTH));
    for ((name, ..), (base, rows)) in others.iter().zip([(q, 6), (head, 9)]) {
        let right = base.plus(&Matrix::seeded(5, rows, RANK).times(&Matrix::seeded(4, RANK, 6)), SCALE);
        assert_eq!(work.merged(name), right.values, "{name}");
    }
}

#[test]
fn the_first_of_two_patterns_that_match() {
    let work = Work::tiny(Dtype::F32, 1.0);
    work.adapt(4, 4, 4, 1.0, 1.0);
    for (field, value) in [
        ("r", json!(8)),
        ("use_rslora", json!(true)),
        ("rank_pattern", json!({"layers.0.self_attn.q_proj": 4, "q_proj": 16})),
        ("alpha_pattern", json!({"q_proj": 6, "layers.0.self_attn.q_proj": 32})),
    ] {
        work.configure(field, value);
    }
    work.succeeds(&[]);
    // 1 + 4·6/√4.
    assert_eq!(work.merged(&format!("{}.weight", super::work::MODULE)), [13.0; 16]);
}

#[test]
fn ragged_blocks_with_their_scales_in_the_next_shard() {
    // Five blocks of 128 rows, the last of 64, as in DeepSeek's `kv_a_proj_with_mqa`.
    let work = Work::tiny(Dtype::F32, 1.0);
    let name = format!("{}.weight", super::work::MODULE);
    let (rows, cols) = (576u64, 8u64);
    fs::remove_file(work.base.join("model.safetensors")).expect("it was there");
    let files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let scales: Vec<f32> = (0..5).map(|block| (block + 1) as f32).collect();
    let codes = vec![0x38; (rows * cols) as usize];
    write_safetensors(&work.base.join(files[0]), &[(&name, Dtype::F8_E4M3, &[rows, cols], codes)]);
    let scale = format!("{name}_scale_inv");
    write_safetensors(&work.base.join(files[1]), &[(&scale, Dtype::F32, &[5, 1], f32s(scales))]);
    let index = json!({"metadata": {}, "weight_map": {name.clone(): files[0], scale: files[1]}});
    fs::write(work.base.join("model.safetensors.index.json"), index.to_string()).expect("a small file");
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float32",
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    });
    fs::write(work.base.join("config.json"), config.to_string()).expect("a small file");
    work.adapt(1, rows, cols, 1.0, 1.0);
    work.succeeds(&[]);
    let mut found = Vec::new();
    edit(&work.output.join(files[0]), |tensors| {
        found =
            tensors[0].data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    });
    let right: Vec<f32> = (0..rows * cols).map(|i| (i / cols / 128 + 1) as f32 + 1.0).collect();
    assert_eq!(found, right);
}
