//! What is left of deltas in weights that are encoded again: reported where some of it is lost, and an error where next to all of it is.

use serde_json::{Value, json};

use super::quantized_scaled::{OTHER, case};
use super::support::Ran;
use super::work::{MODULE, Work};

/// Rows and columns of the weights of the cases here.
const SHAPE: [u64; 2] = [24, 40];

/// An adapter that adds one number everywhere, to each of these modules its own.
fn adapt(work: &Work, deltas: &[(&str, f32)]) {
    let [rows, cols] = SHAPE;
    let keys: Vec<[String; 2]> = deltas
        .iter()
        .map(|(module, _)| ["lora_A", "lora_B"].map(|role| format!("{module}.{role}.weight")))
        .collect();
    let (ins, outs) = ([1, cols], [rows, 1]);
    let tensors: Vec<(&str, &[u64], Vec<f32>)> = keys
        .iter()
        .zip(deltas)
        .flat_map(|([a, b], (_, delta))| {
            [(a.as_str(), &ins[..], vec![1.0; cols as usize]), (b, &outs, vec![*delta; rows as usize])]
        })
        .collect();
    let targets: Vec<&str> = deltas.iter().filter_map(|(module, _)| module.rsplit('.').next()).collect();
    work.adapt_by(
        &json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": targets}),
        &tensors,
    );
}

/// What a run says is left.
fn left(ran: &Ran) -> Value {
    let summary: Value = serde_json::from_str(&ran.out).expect("JSON");
    summary["applied"]["encoded_again"].clone()
}

const KEEP: &str = "--keep-quantized";
const ACCEPT: &str = "--accept-loss";

#[test]
fn next_to_nothing_is_an_error_and_some_loss_is_a_note() {
    let (mut refused, mut noted, mut silent) = (0, 0, 0);
    for power in 4..16 {
        let (work, _) = case("ct_fp8_channel");
        adapt(&work, &[(MODULE, 0.5 / f32::from(1u16 << power))]);
        let accepted = work.output.with_file_name("accepted");
        let ran = work.merge_into(&accepted, &[KEEP, ACCEPT, "--json"]);
        if ran.code == 65 {
            assert!(ran.err.contains("has no effect"), "{}", ran.err);
            continue;
        }
        let (left, is_noted) = (left(&ran), ran.err.contains("of the delta is left after encoding"));
        let share = left["median"].as_f64().expect("a share");
        assert_eq!((&left["least"], left["count"].as_u64()), (&left["median"], Some(1)));
        assert_eq!(is_noted, share < 0.9, "{share}: {}", ran.err);
        let ran = work.merge(&[KEEP]);
        if share < 0.1 {
            refused += 1;
            let says = [
                format!(
                    "error: {:.1} % of the delta is left after encoding in the median of 1 quantized weights (worst: \
                     `{MODULE}.weight`, {:.1} %)",
                    100.0 * share,
                    100.0 * share
                ),
                "hint: without `--keep-quantized` the result is written in 16 bit, with all of it; `--accept-loss`".to_owned(),
            ];
            assert!(ran.code == 65 && says.iter().all(|text| ran.err.contains(text)), "{}", ran.err);
            assert!(!work.output.exists());
            work.succeeds(&[KEEP, ACCEPT]);
        } else {
            assert_eq!(ran.code, 0, "{}", ran.err);
            noted += u32::from(is_noted);
            silent += u32::from(!is_noted);
        }
        let model =
            |folder: &std::path::Path| std::fs::read(folder.join("model.safetensors")).expect("a result");
        assert!(model(&work.output) == model(&accepted));
    }
    assert!(refused > 0 && noted > 0 && silent > 0, "{refused} {noted} {silent}");
}

#[test]
fn the_median_counts_and_the_worst_is_named() {
    let (work, _) = case("ct_fp8_channel");
    adapt(&work, &[(MODULE, 0.5), (OTHER, 0.5 / 8192.0)]);
    let ran = work.merge(&[KEEP]);
    let says = ["in the median of 2 quantized weights", &format!("(worst: `{OTHER}.weight`")];
    assert!(ran.code == 65 && says.iter().all(|text| ran.err.contains(text)), "{}", ran.err);
    // In 16 bit nothing is encoded again, so that nothing of it is asked.
    assert!(left(&work.succeeds(&["--json"])).is_null());
    let ran = work.merge(&[ACCEPT]);
    assert!(ran.code == 2 && ran.err.contains("--keep-quantized"), "{}", ran.err);
}

/// A part has not all of the weights: the whole is asked when the parts are joined.
#[test]
fn parts_are_asked_when_they_are_joined() {
    let (work, _) = case("ct_fp8_channel");
    adapt(&work, &[(MODULE, 0.5 / 8192.0)]);
    for (flags, code) in [(&[][..], 65), (&[ACCEPT], 0)] {
        for part in ["0/2", "1/2"] {
            work.succeeds(&[&[KEEP, "--part", part], flags].concat());
        }
        let finish = super::support::ran(
            super::support::command(&["finish"]).arg(&work.output).output().expect("the binary starts"),
        );
        assert_eq!(finish.code, code, "{}", finish.err);
        assert!(finish.err.contains("of the delta is left after encoding"), "{}", finish.err);
        if code == 65 {
            for entry in std::fs::read_dir(work.folder.path()).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("output")) {
                    std::fs::remove_dir_all(path).expect("removed");
                }
            }
        }
    }
}
