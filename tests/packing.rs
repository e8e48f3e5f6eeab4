//! Allocations of a product and of a whole run, counted by an allocator that is this test binary's own.

#![expect(unsafe_code, reason = "a global allocator is unsafe to write")]
#![expect(clippy::disallowed_methods, reason = "it makes its own files")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use shardfold::testing::{Kernels, Matrix, TestHooks, packing_bytes};
use shardfold::{Cancel, IoMode, Location, Request, Style, Terminal, choose, prepare};

struct Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

/// Calls of all threads.
static ALL_CALLS: AtomicUsize = AtomicUsize::new(0);

/// Held by a test while it counts, as the other's calls would be counted too.
static COUNTED: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    COUNTED.lock().unwrap_or_else(PoisonError::into_inner)
}

// SAFETY: every call goes to the system's allocator unchanged; the counters are const thread-locals without destructors
// and allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        ALL_CALLS.fetch_add(1, Ordering::Relaxed);
        BYTES.set(BYTES.get() + layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_product_allocates_at_most_once_and_no_more_than_said() {
    let _alone = alone();
    let kernels = Kernels::detect();
    for rank in [0, 1, 16, 64, 255, 256, 257, 600] {
        for (rows, cols) in [(0, 5), (5, 0), (1, 1), (8, 8), (17, 9), (128, 512), (63, 1024), (65, 1500)] {
            let (u, v) = (vec![1.0; rows * rank], vec![1.0; rank * cols]);
            let mut out = vec![0.0; rows * cols];
            let (calls, bytes) = (CALLS.get(), BYTES.get());
            kernels.product(Matrix::row_major(&u, rows, rank), Matrix::row_major(&v, rank, cols), &mut out);
            let (calls, bytes) = (CALLS.get() - calls, BYTES.get() - bytes);
            let bound = packing_bytes(rank, rows, cols);
            assert!(calls <= 1, "{calls} allocations for {rows} x {rank} x {cols}");
            assert!(bytes <= bound, "{bytes} bytes for {rows} x {rank} x {cols}, said {bound}");
            // The bound is not wasteful where it matters: padding of at most 15 rows and 15 columns.
            let padding = rank.min(256) * 30 * 4;
            assert!(kernels.name() == "scalar" || kernels.name() == "baseline" || bytes + padding >= bound);
        }
    }
}

/// Rows and columns of the tensors of the run: 2 MiB in BF16, and a row of 2 KiB.
const SIDE: usize = 1024;
/// Calls by which two runs may differ: lists that grow to another length, waits of another number.
const FEW: usize = 40;

/// Writes a safetensors file; every value of a tensor is the same two or four bytes.
fn write_file(path: &Path, tensors: &[(&str, &str, &[usize], &[u8])]) {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (name, dtype, shape, value) in tensors {
        let start = data.len();
        data.extend(value.repeat(shape.iter().product()));
        let end = data.len();
        entries.push(format!(
            r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{end}]}}"#
        ));
    }
    let header = format!("{{{}}}", entries.join(","));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    fs::write(path, bytes).expect("room");
}

/// An adapter: fields of its config, and the tensors of a module.
struct Method {
    config: &'static str,
    parts: &'static [(&'static str, &'static [usize])],
}

const LORA: Method = Method {
    config: r#""peft_type": "LORA", "r": 4, "lora_alpha": 8"#,
    parts: &[("lora_A.weight", &[4, SIDE]), ("lora_B.weight", &[SIDE, 4])],
};
const DORA: Method = Method {
    config: r#""peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_dora": true"#,
    parts: &[
        ("lora_A.weight", &[4, SIDE]),
        ("lora_B.weight", &[SIDE, 4]),
        ("lora_magnitude_vector", &[SIDE]),
    ],
};
/// Those that are evaluated as formulas.
const FORMULAS: [Method; 3] = [
    Method {
        config: r#""peft_type": "HIRA", "r": 4"#,
        parts: &[("hira_A", &[4, SIDE]), ("hira_B", &[SIDE, 4])],
    },
    Method {
        config: r#""peft_type": "LOHA", "r": 4, "alpha": 8"#,
        parts: &[
            ("hada_w1_a", &[SIDE, 4]),
            ("hada_w1_b", &[4, SIDE]),
            ("hada_w2_a", &[SIDE, 4]),
            ("hada_w2_b", &[4, SIDE]),
        ],
    },
    Method {
        config: r#""peft_type": "LOKR", "r": 4, "alpha": 8"#,
        parts: &[("lokr_w1", &[16, 16]), ("lokr_w2_a", &[SIDE / 16, 4]), ("lokr_w2_b", &[4, SIDE / 16])],
    },
];
const OFT: Method = Method {
    config: r#""peft_type": "OFT", "r": 0, "oft_block_size": 32"#,
    parts: &[("oft_R.weight", &[SIDE / 32, 496])],
};

/// The type of the two tensors that are merged, and the bytes of a value.
type Stored = (&'static str, &'static [u8]);

const BF16: Stored = ("BF16", &[0x80, 0x3f]);
/// With a scale for every block of 128 × 128.
const BLOCK_FP8: Stored = ("F8_E4M3", &[0x38]);

/// Writes a base of one copied and two merged tensors, and an adapter on both.
fn write_inputs(folder: &Path, method: &Method, (dtype, one): Stored) {
    let (base, adapter) = (folder.join("base"), folder.join("adapter"));
    fs::create_dir(&base).and_then(|()| fs::create_dir(&adapter)).expect("room");
    let is_quantized = dtype == BLOCK_FP8.0;
    let quantized = r#", "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}"#;
    let config = format!(
        r#"{{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": true{}}}"#,
        if is_quantized { quantized } else { "" }
    );
    fs::write(base.join("config.json"), config).expect("room");
    let (square, half) = (&[SIDE, SIDE][..], &[0, 0, 0, 0x3f][..]);
    let weights = ["q_proj", "v_proj"].map(|name| format!("model.layers.0.self_attn.{name}.weight"));
    let scales = weights.clone().map(|name| format!("{name}_scale_inv"));
    let mut tensors = vec![("model.embed_tokens.weight", BF16.0, square, BF16.1)];
    tensors.extend(weights.iter().map(|name| (name.as_str(), dtype, square, one)));
    if is_quantized {
        let blocks = &[SIDE / 128, SIDE / 128][..];
        tensors.extend(scales.iter().map(|name| (name.as_str(), "F32", blocks, half)));
    }
    write_file(&base.join("model.safetensors"), &tensors);
    let config = format!(r#"{{{}, "target_modules": ["q_proj", "v_proj"]}}"#, method.config);
    fs::write(adapter.join("adapter_config.json"), config).expect("room");
    let module = |name: &str| format!("base_model.model.model.layers.0.self_attn.{name}");
    let names: Vec<(String, &[usize])> = ["q_proj", "v_proj"]
        .iter()
        .flat_map(|name| {
            method.parts.iter().map(|(part, shape)| (format!("{}.{part}", module(name)), *shape))
        })
        .collect();
    let tensors: Vec<(&str, &str, &[usize], &[u8])> =
        names.iter().map(|(name, shape)| (name.as_str(), "F32", *shape, half)).collect();
    write_file(&adapter.join("adapter_model.safetensors"), &tensors);
}

/// How often a merge of those inputs allocates after planning, with tile buffers of so many bytes; `scalar` says with which
/// kernels, `io` how files are read and written.
fn calls_of_merge(inputs: &Path, tile_bytes: usize, scalar: bool, io: IoMode) -> usize {
    let request = Request {
        base: Some(inputs.join("base").into()),
        adapters: vec![(inputs.join("adapter").into(), 1f64.into())],
        threads: Some(2),
        io: Some(io),
        // The other products allocate what they pack into at every call, which the other test counts.
        hooks: TestHooks { forced: Some((tile_bytes, 3)), scalar, ..TestHooks::default() },
        ..Request::default()
    };
    let prepared = prepare(&request).expect("it can be merged");
    let output = tempfile::tempdir().expect("a folder");
    let mut reporter = choose(Style::Quiet, Terminal::default(), &Cancel::default());
    let before = ALL_CALLS.load(Ordering::Relaxed);
    let merged = prepared.merge(&Location::of_path(output.path().join("merged")), reporter.as_mut());
    let calls = ALL_CALLS.load(Ordering::Relaxed) - before;
    merged.expect("it merges");
    calls
}

/// Holds merges in small tiles and in large ones to allocate as often, but for `more`.
fn check_allocations(method: &Method, stored: Stored, (tile_bytes, scalar): ([usize; 2], bool), more: usize) {
    let inputs = tempfile::tempdir().expect("a folder");
    write_inputs(inputs.path(), method, stored);
    // The second finds the base cold, as the first drops what it has read: what `auto` takes would differ.
    let calls =
        tile_bytes.map(|tile_bytes| calls_of_merge(inputs.path(), tile_bytes, scalar, IoMode::default()));
    assert!(
        calls[0].abs_diff(calls[1]) <= FEW + more,
        "{calls:?} allocations in small tiles and in large ones: {}",
        method.config
    );
}

/// 1536 tiles, then 96.
const TILES: [usize; 2] = [4096, 65536];
/// Only rows that are measured use the product that allocates: 16 of 1024 in each of two tensors, a row each or all.
const MEASURED: usize = 2 * 16;
/// Formulas are evaluated on as many columns as a quarter of a row has.
const PIECES: usize = 4;

#[test]
fn a_run_does_not_allocate_for_its_tiles() {
    let _alone = alone();
    check_allocations(&DORA, BF16, (TILES, true), 0);
    check_allocations(&OFT, BF16, (TILES, true), 0);
}

#[test]
fn no_way_of_reading_and_writing_allocates_for_tiles() {
    let _alone = alone();
    let inputs = tempfile::tempdir().expect("a folder");
    write_inputs(inputs.path(), &LORA, BF16);
    for name in IoMode::names() {
        let io = IoMode::find(name).expect("it has that name");
        let calls = TILES.map(|tile_bytes| calls_of_merge(inputs.path(), tile_bytes, false, io));
        assert!(calls[0].abs_diff(calls[1]) <= FEW + MEASURED, "{name}: {calls:?} allocations");
    }
}

#[test]
fn the_fused_pass_does_not_allocate_for_its_tiles() {
    let _alone = alone();
    check_allocations(&LORA, BF16, (TILES, false), MEASURED);
}

#[test]
fn formulas_do_not_allocate_for_their_blocks() {
    let _alone = alone();
    for method in &FORMULAS {
        // LoHa has two products.
        check_allocations(method, BF16, (TILES, false), 2 * MEASURED * PIECES);
    }
}

#[test]
fn block_fp8_does_not_allocate_for_its_blocks() {
    let _alone = alone();
    check_allocations(&LORA, BLOCK_FP8, (TILES, false), MEASURED * PIECES);
}
