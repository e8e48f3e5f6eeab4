//! Methods with deltas of their own on a weight of many tiles: entries in any order, several to an element, and more than are brought into rows at
//! a time; kernels that several changes share; and for each that the result does not depend on how the weight is cut.

use serde_json::{Value, json};
use shardfold::testing::Dtype;
use shardfold::{Cancel, Location, Request, Style, Terminal, choose, prepare};

use super::work::{MODULE, Work, in_small_tiles};

/// Outputs and inputs of the weight.
const SIZE: [usize; 2] = [600, 1024];

/// Tensors of an adapter by what follows its module's path.
type Tensors<'t> = &'t [(&'t str, &'t [u64], Vec<f32>)];

/// Whole numbers from 0 to below `most`, always the same.
fn numbers(count: usize, most: u64, mut state: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % most
    })
}

/// Values of few bits between -1 and 1, so that sums of them are exact.
fn values(count: usize, seed: u64) -> Vec<f32> {
    numbers(count, 2049, seed).map(|number| (number as f32 - 1024.0) / 1024.0).collect()
}

/// The base's values.
fn base() -> Vec<f32> {
    values(SIZE[0] * SIZE[1], 7)
}

/// A base of one weight, and an adapter of that method.
fn work(kind: &str, fields: &Value, tensors: Tensors<'_>) -> Work {
    let work = Work::tiny(Dtype::F32, 1.0);
    work.rebase(&[(&format!("{MODULE}.weight"), &SIZE.map(|size| size as u64), base())]);
    std::fs::write(work.base.join("config.json"), json!({"model_type": "llama"}).to_string())
        .expect("a file");
    let mut config = json!({"peft_type": kind, "peft_version": "0.21.2", "target_modules": ["q_proj"]});
    for (name, value) in fields.as_object().expect("an object") {
        config[name] = value.clone();
    }
    let keys: Vec<String> = tensors.iter().map(|(leaf, ..)| format!("{MODULE}.{leaf}")).collect();
    let tensors: Vec<(&str, &[u64], Vec<f32>)> = keys
        .iter()
        .zip(tensors)
        .map(|(key, (_, shape, data))| (key.as_str(), *shape, data.clone()))
        .collect();
    work.adapt_by(&config, &tensors);
    work
}

/// Merges, whole and in small tiles, into values that must be the same.
fn merged(work: &Work) -> Vec<f32> {
    let adapters = vec![(work.adapter.clone().into(), 1.0.into())];
    let whole = Request { base: Some(work.base.clone().into()), adapters, ..Request::default() };
    let mut found = Vec::new();
    for request in [in_small_tiles(&whole), whole] {
        drop(std::fs::remove_dir_all(&work.output));
        let prepared = prepare(&request).expect("it is planned");
        let mut reporter = choose(Style::Quiet, Terminal::default(), &Cancel::default());
        prepared.merge(&Location::of_path(&work.output), reporter.as_mut()).expect("it is merged");
        found.push(work.merged(&format!("{MODULE}.weight")));
    }
    assert!(found[0].iter().zip(&found[1]).all(|(a, b)| a.to_bits() == b.to_bits()), "it depends on tiles");
    found.swap_remove(0)
}

/// Where two lists of values differ first.
fn first_difference(found: &[f32], right: &[f64]) -> Option<(usize, f32, f64)> {
    let pairs = found.iter().zip(right).enumerate();
    pairs
        .map(|(place, (found, right))| (place, *found, *right))
        .find(|(_, found, right)| *found != *right as f32)
}

#[test]
fn entries_are_added_wherever_they_stand() {
    let count = 4000;
    let [mut rows, columns] = [(SIZE[0], 3), (SIZE[1], 5)].map(|(most, seed)| {
        numbers(count, most as u64, seed).map(|place| place as f32).collect::<Vec<f32>>()
    });
    // One row has a tenth of all, so that not all rows are brought into order at once; and some elements have several entries.
    rows.iter_mut().step_by(10).for_each(|row| *row = 599.0);
    let columns: Vec<f32> =
        columns.iter().enumerate().map(|(i, column)| if i % 50 == 0 { 3.0 } else { *column }).collect();
    let added = values(count, 11);
    let mut right: Vec<f64> = base().iter().map(|value| f64::from(*value)).collect();
    for ((row, column), value) in rows.iter().zip(&columns).zip(&added) {
        right[*row as usize * SIZE[1] + *column as usize] += f64::from(*value);
    }
    let places: Vec<f32> = rows.iter().chain(&columns).copied().collect();
    let both: Tensors<'_> =
        &[("shira_indices", &[2, count as u64], places), ("shira_weight", &[count as u64], added.clone())];
    assert_eq!(first_difference(&merged(&work("SHIRA", &json!({}), both)), &right), None);
    let places = rows.iter().zip(&columns).map(|(row, column)| row * SIZE[1] as f32 + column).collect();
    let both: Tensors<'_> =
        &[("supertuning_indices", &[count as u64], places), ("supertuning_values", &[count as u64], added)];
    assert_eq!(first_difference(&merged(&work("SUPERTUNING", &json!({}), both)), &right), None);
}

#[test]
fn kernels_of_small_blocks_are_shared_by_several_changes() {
    for side in [1, 2, 8] {
        let kernel = values(SIZE[0] * SIZE[1] / side, 13);
        let [down, along] = SIZE.map(|size| size / side);
        let shape = [down as u64, along as u64, side as u64];
        let mut right: Vec<f64> = base().iter().map(|value| f64::from(*value)).collect();
        for (place, right) in right.iter_mut().enumerate() {
            let (out, input) = (place / SIZE[1], place % SIZE[1]);
            let within = (input + side - out % side) % side;
            let at = (out / side * along + input / side) * side + within;
            *right += f64::from(kernel[at]) / SIZE[1] as f64;
        }
        let work = work("C3A", &json!({}), &[("c3a_kernel", &shape, kernel)]);
        assert_eq!(first_difference(&merged(&work), &right), None, "blocks of {side}");
    }
}

#[test]
fn what_mixes_inputs_or_outputs_does_not_depend_on_tiles() {
    let [out, input] = SIZE.map(|size| size as u64);
    let matrix = |shape: &'static [u64], seed| {
        let small = values(shape.iter().product::<u64>() as usize, seed);
        small.iter().map(|value| value / 4.0).collect::<Vec<f32>>()
    };
    let all: [(&str, Value, Tensors<'_>); 6] = [
        ("MISS", json!({"init_weights": "bat"}), &[("miss_block", &[75, 8, 8], matrix(&[75, 8, 8], 3))]),
        ("HRA", json!({}), &[("hra_u", &[1024, 3], matrix(&[1024, 3], 3))]),
        ("HRA", json!({"apply_GS": true}), &[("hra_u", &[1024, 3], matrix(&[1024, 3], 3))]),
        (
            "BOFT",
            json!({}),
            &[
                ("boft_R", &[3, 128, 8, 8], matrix(&[3, 128, 8, 8], 3)),
                ("boft_s", &[600, 1], matrix(&[600, 1], 5)),
            ],
        ),
        (
            "ROAD",
            json!({"group_size": 8}),
            &[("road_theta", &[300], matrix(&[300], 3)), ("road_alpha", &[300], matrix(&[300], 5))],
        ),
        ("FOURIERFT", json!({}), &[("fourierft_spectrum", &[50], matrix(&[50], 3))]),
    ];
    for (kind, fields, tensors) in all {
        let found = merged(&work(kind, &fields, tensors));
        let changed = found.iter().zip(base()).filter(|(found, was)| **found != *was).count();
        assert!(changed as u64 > out * input / 2, "{kind}: {changed}");
    }
}

#[test]
fn an_alpha_that_is_left_out_is_twice_the_rank() {
    let entries: [(&str, &[u64], Vec<f32>); 2] =
        [("supertuning_indices", &[1], vec![5.0]), ("supertuning_values", &[1], vec![0.5])];
    let [b, a] = SIZE.map(|size| values(3 * size, 17));
    let factors: [(&str, &[u64], Vec<f32>); 2] = [
        ("supertuning_lora_A.weight", &[3, 1024], a.clone()),
        ("supertuning_lora_B.weight", &[600, 3], b.clone()),
    ];
    let all: Vec<_> = entries.into_iter().chain(factors).collect();
    let found = merged(&work("SUPERTUNING", &json!({"r": 3}), &all));
    let right = base().into_iter().enumerate().map(|(place, value)| {
        let (out, input) = (place / SIZE[1], place % SIZE[1]);
        let product =
            (0..3).map(|k| f64::from(b[out * 3 + k]) * f64::from(a[k * SIZE[1] + input])).sum::<f64>();
        f64::from(value) + 2.0 * product + f64::from(u8::from(place == 5)) / 2.0
    });
    assert_eq!(first_difference(&found, &right.collect::<Vec<f64>>()), None);
}
