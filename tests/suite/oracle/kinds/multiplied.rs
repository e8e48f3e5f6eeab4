//! Kinds that multiply what is there, or stand in its place.

use serde_json::json;

use super::Tiny;

#[test]
fn dora() {
    let shapes: &[(&str, &[usize])] = &[("a", &[2, 3]), ("b", &[2, 2]), ("m", &[2])];
    let entry = |a: &str, b: &str, m: &str, transposed| json!({ "kind": "dora", "a": a, "b": b, "m": m, "scale": 0.5, "transposed": transposed });
    let plain = json!([entry("a", "b", "m", false)]);
    let right = &[-0.0340500437, 0.118688724, -0.0194571678, 0.454842822, -0.186810445, 0.385804179];
    Tiny { shape: &[2, 3], factors: shapes, entries: plain.clone(), right }
        .tells_from(&[("plain LoRA", json!({ "kind": "lora" }))]);
    let right = &[-0.0999233535, -0.355505139, 0.0742287769, 0.29329174, -0.0114198118, 0.422162352];
    let turned = json!([entry("a", "b", "m", true)]);
    Tiny { shape: &[3, 2], factors: shapes, entries: turned, right }
        .tells_from(&[("lengths along rows", json!({ "transposed": false }))]);
    // Square, where no shape tells one axis from the other.
    let shapes: &[(&str, &[usize])] = &[("a", &[2, 2]), ("b", &[2, 2]), ("m", &[1, 2, 1, 1])];
    let right = &[-0.0207477588, 0.123266096, -0.052999894, 0.622748755];
    let square = Tiny { shape: &[2, 2], factors: shapes, entries: plain, right };
    square.tells_from(&[("all turned", json!({ "transposed": true }))]);
    square.refuses("lengths of columns", &[-0.113102338, -0.457511628, 0.0532246295, 0.425802901]);
    square.refuses("magnitudes of columns", &[-0.0207477588, -0.616330482, 0.0105999788, 0.622748755]);
}

/// Two adapters: both lengths are those of the tensor before the first. PEFT before 0.21 did otherwise.
#[test]
fn dora_twice() {
    let shapes: &[(&str, &[usize])] = &[
        ("a", &[2, 3]),
        ("b", &[2, 2]),
        ("m", &[2]),
        ("second.a", &[2, 3]),
        ("second.b", &[2, 2]),
        ("second.m", &[2]),
    ];
    let entries = json!([
        { "kind": "dora", "a": "a", "b": "b", "m": "m", "scale": 0.5 },
        { "kind": "dora", "a": "second.a", "b": "second.b", "m": "second.m", "scale": 0.5 },
    ]);
    let right = &[-0.0547428536, -0.04726978, 0.0940276992, -0.189625324, 0.175593463, -0.219469889];
    let twice = Tiny { shape: &[2, 3], factors: shapes, entries, right };
    twice.tells_from(&[("a first one that only adds", json!({ "kind": "lora" }))]);
    let running = [-0.173051075, -0.149427472, 0.297236869, -0.209728895, 0.194209414, -0.242737501];
    twice.refuses("the length of the running sum", &running);
}

#[test]
fn hira() {
    let shapes: &[(&str, &[usize])] = &[("a", &[2, 3]), ("b", &[2, 2])];
    let plain = json!([{ "kind": "hira", "a": "a", "b": "b", "scale": 1.0, "transposed": false }]);
    let right = &[-0.087890625, 1.0546875, 0.0, -0.5625, 0.18359375, -0.478515625];
    let wrong = ("a sum, not a product", json!({ "kind": "lora" }));
    // An element that is zero stays so: `tells_from` sees that it cannot be another.
    Tiny { shape: &[2, 3], factors: shapes, entries: plain, right }.tells_from(std::slice::from_ref(&wrong));
    let turned = json!([{ "kind": "hira", "a": "a", "b": "b", "scale": 1.0, "transposed": true }]);
    let right = &[-0.087890625, 0.5625, 0.0, -1.1015625, 0.0859375, -0.478515625];
    Tiny { shape: &[3, 2], factors: shapes, entries: turned, right }
        .tells_from(&[wrong, ("no turn", json!({ "transposed": false }))]);
    let shapes: &[(&str, &[usize])] =
        &[("a", &[2, 3]), ("b", &[2, 2]), ("second.a", &[2, 3]), ("second.b", &[2, 2])];
    let entries = json!([
        { "kind": "hira", "a": "a", "b": "b", "scale": 1.0 },
        { "kind": "hira", "a": "second.a", "b": "second.b", "scale": 1.0 },
    ]);
    let right = &[-0.099609375, 0.703125, 0.0, -0.4453125, 0.248046875, -0.33203125];
    let twice = Tiny { shape: &[2, 3], factors: shapes, entries, right };
    twice.tells_from(&[]);
    let chained = [-0.0961303711, 0.560302734, 0.0, -0.474609375, 0.278259277, -0.366363525];
    twice.refuses("the second times the result of the first", &chained);
}

#[test]
fn ia3() {
    let entry =
        |axis: &str, transposed| json!([{ "kind": "ia3", "l": "l", "axis": axis, "transposed": transposed }]);
    let right = &[-0.0625, 0.375, 0.0, 0.1875, -0.03125, 0.15625];
    Tiny { shape: &[2, 3], factors: &[("l", &[2, 1])], entries: entry("out", false), right }
        .tells_from(&[("the other axis", json!({ "axis": "in" }))]);
    let right = &[-0.0625, -0.1875, 0.0, -0.375, -0.03125, -0.390625];
    Tiny { shape: &[2, 3], factors: &[("l", &[1, 3])], entries: entry("in", false), right }
        .tells_from(&[("the other axis", json!({ "axis": "out" }))]);
    let square = &[-0.0625, 0.375, 0.0, 0.1875];
    Tiny { shape: &[2, 2], factors: &[("l", &[2, 1])], entries: entry("out", false), right: square }
        .tells_from(&[
            ("the other axis", json!({ "axis": "in" })),
            ("a turn", json!({ "transposed": true })),
        ]);
    // Stored with inputs first.
    let right = &[-0.0625, 0.375, 0.0, 0.1875, 0.078125, -0.390625];
    Tiny { shape: &[3, 2], factors: &[("l", &[1, 3])], entries: entry("in", true), right }
        .tells_from(&[("no turn", json!({ "transposed": false }))]);
    // A bias, by hand.
    Tiny {
        shape: &[2],
        factors: &[("l", &[2, 1])],
        entries: entry("out", false),
        right: &[-0.0625, -0.1875],
    }
    .tells_from(&[("the other axis", json!({ "axis": "in" }))]);
    // Convolutions; the second has two groups, and each output the inputs of its own.
    let right = &[-0.0625, 0.375, 0.0, -0.375, -0.03125, 0.15625, -0.0625, 0.125];
    Tiny { shape: &[2, 2, 1, 2], factors: &[("l", &[1, 2, 1, 1])], entries: entry("out", false), right }
        .tells_from(&[("the other axis", json!({ "axis": "in" }))]);
    let right = &[-0.0625, -0.1875, 0.0, 0.1875, 0.078125, 0.078125, 0.15625, 0.0625];
    let mut entries = entry("in", false);
    entries[0]["groups"] = json!(2);
    let groups = Tiny { shape: &[4, 2, 1, 1], factors: &[("l", &[1, 4, 1, 1])], entries, right };
    groups.tells_from(&[("one group", json!({ "groups": 1 })), ("the other axis", json!({ "axis": "out" }))]);
    groups.refuses("groups by turns", &[-0.0625, -0.1875, 0.0, 0.09375, 0.0625, 0.15625, 0.15625, 0.0625]);
}

#[test]
fn oft() {
    let entry = |block, neumann, coft_eps: Option<f64>, embedding| {
        json!([{ "kind": "oft", "r": "r", "block": block, "neumann": neumann, "coft_eps": coft_eps,
            "embedding": embedding }])
    };
    let other_way = ("the other way round", json!({ "embedding": true }));
    let exact = ("the exact rotation", json!({ "neumann": 0 }));
    let right =
        &[0.4921875, 0.515625, 0.3515625, -0.6591796875, -0.3984375, -0.4453125, 0.4541015625, -0.322265625];
    Tiny { shape: &[2, 4], factors: &[("r", &[2, 1])], entries: entry(2, 5, None, false), right }
        .tells_from(&[other_way.clone(), exact.clone(), ("one term fewer", json!({ "neumann": 4 }))]);
    let three: &[(&str, &[usize])] = &[("r", &[2, 3])];
    let right = &[
        0.673828125,
        -0.1689453125,
        -0.5390625,
        -0.571533203125,
        -0.12939453125,
        0.9013671875,
        -0.27392578125,
        0.454345703125,
        0.552734375,
        -0.296875,
        0.370849609375,
        0.52490234375,
    ];
    let terms = Tiny { shape: &[2, 6], factors: three, entries: entry(3, 3, None, false), right };
    terms.tells_from(&[other_way.clone(), exact.clone(), ("one term fewer", json!({ "neumann": 2 }))]);
    let right =
        &[0.625, 0.875, -1.0, -1.71875, -0.0625, 0.5, -0.4375, -0.28125, 1.125, -0.875, 0.40625, 0.3125];
    Tiny { shape: &[2, 6], factors: three, entries: entry(3, 2, None, false), right }
        .tells_from(&[other_way.clone(), ("one term fewer", json!({ "neumann": 1 }))]);
    let right = &[
        -0.3818807339449542,
        0.08944954128440377,
        0.6513761467889908,
        0.4133663366336635,
        0.16707920792079206,
        -0.8774752475247525,
        0.6077981651376146,
        -0.15137614678899083,
        -0.24655963302752298,
        0.21658415841584164,
        0.5198019801980198,
        -0.3688118811881188,
    ];
    Tiny { shape: &[2, 6], factors: three, entries: entry(3, 0, None, false), right }
        .tells_from(&[other_way.clone(), ("the series", json!({ "neumann": 5 }))]);
    let right = &[
        -0.30930966352039285,
        0.6312642963881916,
        0.2897549312063952,
        -0.36197832463623264,
        0.17070202683676924,
        -0.8992121610206152,
        0.43637971823199234,
        -0.4934084032595878,
        0.1387295538398034,
        -0.17615389805862236,
        0.5226522852848821,
        -0.38591371170929223,
    ];
    Tiny { shape: &[2, 6], factors: three, entries: entry(3, 0, Some(0.5), false), right }.tells_from(&[
        ("no limit", json!({ "coft_eps": null })),
        ("the limit of one block", json!({ "coft_eps": 0.5 * 2f64.sqrt() })),
    ]);
    let right = &[
        0.30029296875,
        0.138671875,
        -0.2259521484375,
        -0.54412841796875,
        -0.241424560546875,
        -0.699127197265625,
        -0.0047607421875,
        0.091796875,
        0.397552490234375,
        -0.0374755859375,
        -0.01336669921875,
        -0.41522216796875,
    ];
    Tiny { shape: &[2, 6], factors: &[("r", &[1, 3])], entries: entry(3, 5, None, false), right }
        .tells_from(&[other_way, exact.clone()]);
    let right = &[
        -0.14501953125,
        0.064453125,
        0.3677978515625,
        0.27520751953125,
        0.118011474609375,
        -0.58306884765625,
        0.4034423828125,
        -0.0380859375,
        -0.047760009765625,
        0.144195556640625,
        0.4951171875,
        -0.220703125,
    ];
    Tiny { shape: &[2, 6], factors: three, entries: entry(3, 5, None, true), right }
        .tells_from(&[exact.clone(), ("rows as of a matrix", json!({ "embedding": false }))]);
    // A convolution: channel and place together make the row.
    let right = &[
        0.30029296875,
        0.138671875,
        -0.2259521484375,
        -0.54217529296875,
        -0.040191650390625,
        0.36614990234375,
        0.268310546875,
        0.044921875,
        0.2689208984375,
        0.1884765625,
        0.185791015625,
        -0.466796875,
        0.50189208984375,
        0.319854736328125,
        0.68145751953125,
        0.158203125,
        -0.7166748046875,
        -0.074951171875,
        -0.48956298828125,
        -0.10418701171875,
        -0.5538330078125,
        -0.218505859375,
        0.050811767578125,
        0.53863525390625,
    ];
    let shapes: &[(&str, &[usize])] = &[("r", &[4, 3])];
    Tiny { shape: &[2, 3, 2, 2], factors: shapes, entries: entry(3, 5, None, false), right }
        .tells_from(&[exact]);
}

#[test]
fn tokens() {
    let entry = json!([{ "kind": "tokens", "rows": "rows", "indices": [2, 0] }]);
    let right = &[0.625, -0.125, 0.0, -0.75, 0.5, -0.25, 0.25, -0.5];
    let tiny = Tiny { shape: &[4, 2], factors: &[("rows", &[2, 2])], entries: entry, right };
    tiny.tells_from(&[
        ("the next rows", json!({ "indices": [3, 1] })),
        ("sorted rows", json!({ "indices": [0, 2] })),
        ("one row more than there is", json!({ "indices": [2, 4] })),
    ]);
    tiny.refuses("rows that are added", &[0.5, 0.625, 0.0, -0.75, 0.625, -0.875, 0.25, -0.5]);
}
