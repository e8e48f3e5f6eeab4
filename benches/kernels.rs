//! How fast the kernels are: GB/s of codes of one, two or four bytes per kernel and dtype, and for the product GFLOP/s and what
//! that means in GB/s of bf16 output, at the ranks and sub-tiles a merge may use.
//!
//! And how fast the fused pass is, in GB/s of bf16 and as a share of what the FMA units do in a loop of registers.
//!
//! `cargo bench --bench kernels`, or `-- conversions`, `-- products` or `-- fused` for one part. Each number is the median of several runs on data that has been touched before. Tiles
//! are small enough for the second cache, as they are in a merge; there is one thread.

#![expect(clippy::print_stdout, reason = "a bench prints its numbers")]

use std::hint::black_box;
use std::time::Instant;

use shardfold::testing::{Codes, FloatFormat, FusedScratch, Kernels, Matrix, Term, packing_bytes};

/// Elements of a conversion: a sub-tile of 128 x 512.
const ELEMENTS: usize = 128 * 512;
const SUB_TILES: [(usize, usize); 6] =
    [(64, 512), (128, 256), (128, 512), (256, 512), (128, 1024), (256, 1024)];
const RANKS: [usize; 5] = [8, 16, 64, 128, 256];
/// Columns of the whole `lora_A`, of which a sub-tile takes a slice.
const IN_FEATURES: usize = 4096;

fn main() {
    let named: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |part: &str| named.is_empty() || named.iter().any(|name| name == part);
    if wanted("conversions") {
        conversions();
    }
    if wanted("products") {
        products();
    }
    if wanted("fused") {
        fused();
    }
}

/// Rows and columns of a tile for the fused pass: 1 MB of codes.
const TILE: (usize, usize) = (256, 2048);

/// The fused pass for both formats and every kernel that has one. The least of many runs: a neighbor takes what it takes.
fn fused() {
    println!(
        "\n{:<10} {:<6} {:>5} {:>10} {:>11} {:>10}",
        "kernel", "format", "rank", "GB/s", "s per GB", "of peak"
    );
    let (rows, cols) = TILE;
    for kernels in Kernels::available().into_iter().skip(2) {
        let peak = kernels.fma_peak(least);
        for (name, format) in [("bf16", FloatFormat::BF16), ("f16", FloatFormat::F16)] {
            for rank in [16, 64, 128, 256] {
                let (b, a): (Vec<f32>, Vec<f32>) = (
                    (0..rows * rank).map(|i| (i as f32).sin() * 0.01 / (rank as f32).sqrt()).collect(),
                    (0..rank * cols).map(|i| (i as f32 * 0.7).cos() * 0.01).collect(),
                );
                let base: Vec<f32> = (0..rows * cols).map(|i| (i as f32 * 1.3).sin() * 0.03).collect();
                let mut start = vec![0; 2 * rows * cols];
                match name {
                    "bf16" => kernels.narrow_bf16(&base, &mut start),
                    _ => kernels.narrow_f16(&base, &mut start),
                };
                let terms = [Term {
                    left: Matrix::row_major(&b, rows, rank),
                    right: Matrix::row_major(&a, rank, cols),
                    scale: 1.7,
                }];
                let mut scratch = FusedScratch::new(rank);
                let mut bytes = start.clone();
                let seconds = least(&mut || {
                    let mut codes = Codes { bytes: &mut bytes, stride: 2 * cols, rows, cols, values: None };
                    black_box(kernels.merge_products(format, &mut codes, black_box(&terms), &mut scratch));
                });
                let gigabytes = start.len() as f64 / 1e9;
                println!(
                    "{:<10} {name:<6} {rank:>5} {:>10.2} {:>11.3} {:>8.0} %",
                    kernels.name(),
                    gigabytes / seconds,
                    seconds / gigabytes,
                    100.0 * (rows * cols * rank) as f64 / seconds / peak
                );
            }
        }
    }
}

/// Least seconds of one call, of 60.
fn least(call: &mut dyn FnMut()) -> f64 {
    let seconds = (0..60).map(|_| {
        let start = Instant::now();
        call();
        start.elapsed().as_secs_f64()
    });
    seconds.fold(f64::INFINITY, f64::min)
}

fn conversions() {
    println!("{:<10} {:<12} {:>8}", "kernel", "operation", "GB/s");
    for kernels in Kernels::available() {
        let mut values: Vec<f32> = (0..ELEMENTS).map(|i| (i as f32).sin()).collect();
        let mut delta = values.clone();
        let mut bytes = vec![0; 4 * ELEMENTS];
        let (one, two, four) = (ELEMENTS, 2 * ELEMENTS, 4 * ELEMENTS);
        let line = |operation: &str, bytes: usize, seconds: f64| {
            println!("{:<10} {operation:<12} {:>8.2}", kernels.name(), bytes as f64 / seconds / 1e9);
        };
        line("narrow_bf16", two, median(|| kernels.narrow_bf16(black_box(&values), &mut bytes[..two])));
        line("widen_bf16", two, median(|| kernels.widen_bf16(black_box(&bytes[..two]), &mut values)));
        line("narrow_f16", two, median(|| kernels.narrow_f16(black_box(&values), &mut bytes[..two])));
        line("widen_f16", two, median(|| kernels.widen_f16(black_box(&bytes[..two]), &mut values)));
        line("narrow_f32", four, median(|| kernels.narrow_f32(black_box(&values), &mut bytes)));
        line("widen_f32", four, median(|| kernels.widen_f32(black_box(&bytes), &mut values)));
        line("narrow_e4m3", one, median(|| kernels.narrow_e4m3(black_box(&values), &mut bytes[..one])));
        line("widen_e4m3", one, median(|| kernels.widen_e4m3(black_box(&bytes[..one]), &mut values)));
        line("add_scaled", four, median(|| kernels.add_scaled(&mut values, black_box(&mut delta), 1.0)));
    }
}

/// The product alone, and a whole bf16 tile: widen, product, add, narrow.
fn products() {
    let kernels = Kernels::detect();
    println!("\nproduct and merged tile with `{}`; GB/s are of bf16 output", kernels.name());
    println!(
        "{:<10} {:>5} {:>9} {:>13} {:>11} {:>13}",
        "sub-tile", "rank", "GFLOP/s", "product GB/s", "tile GB/s", "packing KiB"
    );
    for (rows, cols) in SUB_TILES {
        for rank in RANKS {
            let b: Vec<f32> = (0..rows * rank).map(|i| (i as f32).sin()).collect();
            let a: Vec<f32> = (0..rank * IN_FEATURES).map(|i| (i as f32).cos()).collect();
            let u = Matrix::row_major(&b, rows, rank);
            let v = Matrix { data: &a, rows: rank, cols, row_stride: IN_FEATURES, col_stride: 1 };
            let mut delta = vec![0.0; rows * cols];
            let mut values = vec![0.0; rows * cols];
            let mut bytes = vec![0; 2 * rows * cols];
            let product = median(|| kernels.product(black_box(u), black_box(v), &mut delta));
            let tile = median(|| {
                let finite = kernels.widen_bf16(black_box(&bytes), &mut values);
                kernels.product(black_box(u), black_box(v), &mut delta);
                kernels.add_scaled(&mut values, &mut delta, 1e-3);
                (finite, kernels.narrow_bf16(&values, &mut bytes))
            });
            let output = (2 * rows * cols) as f64;
            println!(
                "{:<10} {rank:>5} {:>9.1} {:>13.2} {:>11.2} {:>13}",
                format!("{rows}x{cols}"),
                output * rank as f64 / product / 1e9,
                output / product / 1e9,
                output / tile / 1e9,
                packing_bytes(rank, rows, cols) >> 10
            );
        }
    }
}

/// Median seconds of one call, over 15 rounds of about 5 ms.
fn median<R>(mut call: impl FnMut() -> R) -> f64 {
    let start = Instant::now();
    black_box(call());
    let calls = (5e-3 / start.elapsed().as_secs_f64()).clamp(1.0, 1e5) as usize;
    let mut rounds: Vec<f64> = (0..15)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..calls {
                black_box(call());
            }
            start.elapsed().as_secs_f64() / calls as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}
