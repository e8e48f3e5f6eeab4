//! Kinds that add a delta.

use serde_json::json;

use super::Tiny;

#[test]
fn lora() {
    let shapes: &[(&str, &[usize])] = &[("a", &[2, 3]), ("b", &[2, 2])];
    let entry = json!([{ "a": "a", "b": "b", "scale": 0.5, "transposed": false }]);
    let right = &[-0.2734375, 0.953125, -0.15625, -0.875, 0.359375, -0.7421875];
    Tiny { shape: &[2, 3], factors: shapes, entries: entry, right }
        .tells_from(&[("a turned delta", json!({ "transposed": true }))]);
    // An embedding.
    let entry = json!([{ "a": "a", "b": "b", "scale": 0.5, "transposed": true }]);
    let right = &[-0.2734375, 0.625, 0.203125, -0.515625, -0.03125, -0.7421875];
    Tiny { shape: &[3, 2], factors: shapes, entries: entry, right }
        .tells_from(&[("a delta not turned", json!({ "transposed": false }))]);
    // A convolution.
    let shapes: &[(&str, &[usize])] = &[("a", &[2, 2, 2]), ("b", &[2, 2, 1])];
    let entry = json!([{ "kind": "lora", "a": "a", "b": "b", "scale": 0.5, "transposed": false }]);
    let right = &[-0.109375, 0.8125, -0.296875, -0.6953125, 0.21875, -0.578125, -0.0546875, -0.4453125];
    Tiny { shape: &[2, 2, 2], factors: shapes, entries: entry, right }
        .tells_from(&[("a turned delta", json!({ "transposed": true }))]);
}

/// The right numbers are sums done by hand: −0.125 + 0.5 · 0.5 and 0.75 − 0.5 · 0.25.
#[test]
fn bias() {
    let entry = json!([{ "a": null, "b": "b", "scale": 0.5, "transposed": false }]);
    let tiny = Tiny { shape: &[2], factors: &[("b", &[2])], entries: entry, right: &[0.125, 0.625] };
    tiny.tells_from(&[]);
    tiny.refuses("a delta without its scale", &[0.375, 0.5]);
}

#[test]
fn experts() {
    let entry = |swapped| {
        json!([{ "kind": "lora_experts", "a": "a", "b": "b", "scale": 0.5, "experts": 2, "rank": 2,
            "packing": "rank_major", "swapped": swapped }])
    };
    let packing = ("the other packing", json!({ "packing": "grouped_by_expert" }));
    let shapes: &[(&str, &[usize])] = &[("a", &[4, 2]), ("b", &[3, 4])];
    let right = &[
        -0.3671875, 0.8359375, -0.1015625, -0.7109375, 0.1640625, -0.6328125, 0.203125, -0.46875, 0.328125,
        -0.328125, 0.453125, -0.2890625,
    ];
    Tiny { shape: &[2, 3, 2], factors: shapes, entries: entry(true), right }
        .tells_from(&[packing.clone(), ("no swap", json!({ "swapped": false }))]);
    let right = &[
        -0.3671875, 0.6484375, 0.0390625, -0.6640625, 0.1640625, -0.6328125, 0.203125, -0.546875, 0.328125,
        -0.34375, 0.546875, -0.2890625,
    ];
    Tiny { shape: &[2, 2, 3], factors: shapes, entries: entry(false), right }
        .tells_from(&[packing.clone(), ("a swap", json!({ "swapped": true }))]);
    // Square: no shape tells.
    let shapes: &[(&str, &[usize])] = &[("a", &[4, 2]), ("b", &[2, 4])];
    let right = &[-0.3671875, 0.8359375, -0.1015625, -0.7109375, 0.078125, -0.59375, 0.203125, -0.453125];
    Tiny { shape: &[2, 2, 2], factors: shapes, entries: entry(true), right }
        .tells_from(&[packing.clone(), ("no swap", json!({ "swapped": false }))]);
    let right = &[-0.3671875, 0.6484375, 0.0859375, -0.7109375, 0.078125, -0.671875, 0.28125, -0.453125];
    let tiny = Tiny { shape: &[2, 2, 2], factors: shapes, entries: entry(false), right };
    tiny.tells_from(&[packing, ("a swap", json!({ "swapped": true }))]);
    // Grouped: the same with the two inner columns of B exchanged.
    let mut case = tiny.case(&json!({ "packing": "grouped_by_expert" }), safetensors::Dtype::F32);
    let b = case.adapters[0].get_mut("b").expect("B");
    for row in b.raw.chunks_mut(16) {
        (4..8).for_each(|at| row.swap(at, at + 4));
    }
    let super::Right::Near(sum) = case.right("w") else { panic!("it is computed") };
    assert_eq!(sum.exact, right);
}

#[test]
fn block_diagonal_lora() {
    let entry =
        |side| json!([{ "kind": "bdlora", "a": "a", "b": "b", "scale": 0.5, "side": side, "nblocks": 2 }]);
    let right = &[-0.25, 0.8125, 0.1171875, -0.7734375, 0.03125, -0.578125, 0.40625, -0.53125];
    let a = Tiny { shape: &[2, 4], factors: &[("a", &[2, 2]), ("b", &[2, 2])], entries: entry("a"), right };
    a.tells_from(&[("the other side", json!({ "side": "b" })), ("one block", json!({ "nblocks": 1 }))]);
    let right = &[-0.25, 0.8125, 0.09375, -0.796875, 0.0078125, -0.6015625, 0.40625, -0.53125];
    let b = Tiny { shape: &[4, 2], factors: &[("a", &[2, 2]), ("b", &[4, 1])], entries: entry("b"), right };
    b.tells_from(&[("the other side", json!({ "side": "a" })), ("one block", json!({ "nblocks": 1 }))]);
}

#[test]
fn loha() {
    let shapes: &[(&str, &[usize])] =
        &[("w1_a", &[2, 2]), ("w1_b", &[2, 3]), ("w2_a", &[2, 2]), ("w2_b", &[2, 3])];
    let entry = json!([{ "kind": "loha", "w1_a": "w1_a", "w1_b": "w1_b", "w2_a": "w2_a", "w2_b": "w2_b",
        "t1": null, "t2": null, "scale": 0.5 }]);
    let mixed = ("the factors of both mixed", json!({ "w1_b": "w2_b", "w2_b": "w1_b" }));
    let right = &[-0.1279296875, 0.798828125, 0.04296875, -0.7734375, 0.16650390625, -0.576171875];
    Tiny { shape: &[2, 3], factors: shapes, entries: entry, right }.tells_from(std::slice::from_ref(&mixed));
    let shapes = &[shapes, &[("t1", &[2, 2, 1, 2]), ("t2", &[2, 2, 1, 2])]].concat();
    let entry = json!([{ "kind": "loha", "w1_a": "w1_a", "w1_b": "w1_b", "w2_a": "w2_a", "w2_b": "w2_b",
        "t1": "t1", "t2": "t2", "scale": 0.5 }]);
    let right = &[
        -0.1185455322265625,
        0.747802734375,
        0.00396728515625,
        -0.7505340576171875,
        0.12245559692382812,
        -0.6237602233886719,
        0.2558135986328125,
        -0.502838134765625,
        0.3791961669921875,
        -0.37519073486328125,
        0.4983711242675781,
        -0.24587631225585938,
    ];
    Tiny { shape: &[2, 3, 1, 2], factors: shapes, entries: entry, right }
        .tells_from(&[mixed, ("the cores exchanged", json!({ "t1": "t2", "t2": "t1" }))]);
}

#[test]
fn lokr() {
    let whole = json!([{ "kind": "lokr", "w1": "w1", "w2": "w2", "scale": 0.5 }]);
    let turned = ("the other order", json!({ "w1": "w2", "w2": "w1" }));
    let right = &[
        -0.25, 0.84375, -0.09375, -0.6875, 0.078125, -0.578125, 0.375, -0.5625, 0.53125, -0.4375, 0.53125,
        -0.328125, 0.46875, -0.0078125, 0.6328125, 0.03125, -0.7734375, 0.1484375, -0.46875, 0.171875,
        -0.3046875, 0.34375, -0.359375, 0.4609375,
    ];
    let shapes: &[(&str, &[usize])] = &[("w1", &[2, 2]), ("w2", &[2, 3])];
    Tiny { shape: &[4, 6], factors: shapes, entries: whole.clone(), right }
        .tells_from(std::slice::from_ref(&turned));
    // Both of low rank; alpha 2, rank 1.
    let shapes: &[(&str, &[usize])] =
        &[("w1_a", &[2, 1]), ("w1_b", &[1, 3]), ("w2_a", &[2, 1]), ("w2_b", &[1, 3])];
    let entry = json!([{ "kind": "lokr", "w1_a": "w1_a", "w1_b": "w1_b", "w2_a": "w2_a", "w2_b": "w2_b",
        "scale": 2.0 }]);
    let right = &[
        -0.171875,
        0.75,
        0.046875,
        -0.71484375,
        0.125,
        -0.66015625,
        0.21484375,
        -0.5,
        0.41015625,
        -0.140625,
        0.5,
        -0.484375,
        0.44921875,
        -0.125,
        0.92578125,
        0.17578125,
        -0.75,
        -0.05078125,
        -0.6015625,
        0.25,
        -0.5234375,
        0.357421875,
        -0.375,
        0.517578125,
        -0.232421875,
        0.625,
        -0.142578125,
        0.6328125,
        0.0,
        -0.6328125,
        0.212890625,
        -0.625,
        0.162109375,
        -0.587890625,
        0.375,
        -0.287109375,
    ];
    let mixed = ("the factors of both mixed", json!({ "w1_b": "w2_b", "w2_b": "w1_b" }));
    Tiny { shape: &[4, 9], factors: shapes, entries: entry, right }.tells_from(&[mixed]);
    // A convolution of two dimensions.
    let two = &[
        -0.25, 0.84375, -0.09375, -0.625, 0.1875, -0.671875, 0.296875, -0.5625, 0.3125, -0.21875, 0.46875,
        -0.0625, 0.65625, -0.203125, 0.765625, -0.09375, -0.90625, 0.2421875, -0.7421875, 0.40625, -0.46875,
        0.3515625, -0.3515625, 0.46875, -0.328125, 0.8203125, -0.1640625, 0.984375, 0.015625, -0.7890625,
        0.1328125, -0.671875,
    ];
    let shapes: &[(&str, &[usize])] = &[("w1", &[2, 2]), ("w2", &[2, 2, 1, 2])];
    let tiny = Tiny { shape: &[4, 4, 1, 2], factors: shapes, entries: whole.clone(), right: two };
    tiny.tells_from(&[turned]);
    // Of one: PEFT multiplies other axes. What it would be were it done as above is refused, and the reverse.
    let one = &[
        -0.25, 0.84375, 0.0625, -0.796875, 0.03125, -0.5, 0.296875, -0.5625, 0.21875, -0.2578125, 0.53125,
        -0.2734375, 0.5078125, 0.03125, 0.7734375, -0.03125, -0.8125, 0.28125, -0.59375, 0.171875, -0.53125,
        0.5625, -0.359375, 0.40625, -0.328125, 0.8203125, -0.109375, 0.7109375, -0.0390625, -0.515625,
        0.1328125, -0.671875,
    ];
    tiny.refuses("the product for one dimension", one);
    let shapes: &[(&str, &[usize])] = &[("w1", &[2, 2]), ("w2", &[2, 2, 2])];
    let tiny = Tiny { shape: &[4, 4, 2], factors: shapes, entries: whole, right: one };
    tiny.tells_from(&[]);
    tiny.refuses("the product for two dimensions", two);
    // With a core; alpha 2, rank 1.
    let shapes: &[(&str, &[usize])] =
        &[("w1", &[2, 2]), ("w2_a", &[1, 3]), ("w2_b", &[1, 2]), ("t2", &[1, 1, 1, 2])];
    let entry =
        json!([{ "kind": "lokr", "w1": "w1", "w2_a": "w2_a", "w2_b": "w2_b", "t2": "t2", "scale": 2.0 }]);
    let right = &[
        -0.171875,
        0.75,
        0.234375,
        -0.75,
        0.1484375,
        -0.625,
        0.1328125,
        -0.5,
        0.41015625,
        -0.375,
        0.32421875,
        -0.25,
        0.607421875,
        -0.125,
        0.837890625,
        0.0,
        -0.78515625,
        0.125,
        -0.44921875,
        0.25,
        -0.482421875,
        0.375,
        -0.462890625,
        0.5,
        -0.30859375,
        0.625,
        0.16796875,
        0.75,
        0.01171875,
        -0.75,
        0.06640625,
        -0.625,
        0.2939453125,
        -0.5,
        0.1552734375,
        -0.375,
        0.4912109375,
        -0.25,
        0.6689453125,
        -0.125,
        0.7060546875,
        0.0,
        -0.5302734375,
        0.125,
        -0.6162109375,
        0.25,
        -0.5439453125,
        0.375,
    ];
    Tiny { shape: &[6, 4, 1, 2], factors: shapes, entries: entry, right }
        .tells_from(&[("no core", json!({ "t2": null }))]);
}
