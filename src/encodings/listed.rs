//! The page on quantization lists every scheme as the tables of this room have them.

use crate::encodings::encoding::Encoding;
use crate::encodings::logical::{Logical, LogicalFields};
use crate::encodings::{ENCODINGS, find, in_training, unsupported};
use crate::tensor::dtype::Dtype;
use crate::tensor::reference::{FileId, TensorRef};
use crate::tensor::shape::Shape;

/// Where the list begins and ends.
const BEGIN: &str = "<!-- schemes: as `cargo test --lib listed` prints them -->\n\n";
const END: &str = "\n<!-- end of schemes -->";

/// What becomes of the weights of a scheme, for each way that there is.
#[derive(Default)]
struct Row {
    title: &'static str,
    count: usize,
    kept: usize,
}

fn rows() -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for encoding in ENCODINGS {
        let Some(scheme) = encoding.scheme() else { continue };
        let at = rows.iter().position(|row| row.title == scheme.title).unwrap_or_else(|| {
            rows.push(Row { title: scheme.title, ..Row::default() });
            rows.len() - 1
        });
        let samples = samples(encoding.name());
        rows[at].count += samples.len();
        rows[at].kept += samples.into_iter().filter(|sample| is_kept(*encoding, sample)).count();
    }
    rows
}

/// Whether a weight is encoded again, in the order in which it is written.
fn is_kept(encoding: &dyn Encoding, sample: &Logical) -> bool {
    match encoding.across(sample) {
        Some((_, across)) => {
            find(across.encoding()).is_some_and(|encoding| encoding.decode_only(&across).is_none())
        }
        None => encoding.decode_only(sample).is_none(),
    }
}

/// Weights of an encoding that have fewer parts or more: some have zero points, or scales of scales, which are not made again.
fn samples(encoding: &'static str) -> Vec<Logical> {
    let shape = Shape::new(&[8, 64]).expect("a small shape");
    let part = TensorRef { file: FileId(0), offset: 0, dtype: Dtype::F32, shape: shape.clone() };
    let of = |count| LogicalFields {
        encoding: encoding.into(),
        shape: shape.clone(),
        block: (1, 32),
        parts: vec![part.clone(); count],
        constants: vec![0.0; 4],
    };
    (2..6).map(|count| of(count).into()).collect()
}

/// The list as the page must have it.
fn list() -> String {
    let mut text = "| scheme | decoded | changed and kept (`--keep-quantized`, `--base16`) | made of a 16-bit base (`--base-as`) |\n\
                    | --- | --- | --- | --- |\n"
        .to_owned();
    for Row { title, count, kept } in rows() {
        let kept = match kept {
            0 => "no",
            kept if kept == count => "yes",
            _ => "some",
        };
        text += &format!("| {title} | yes | {kept} | no |\n");
    }
    for title in in_training::titles() {
        text += &format!("| {title}, as training with bitsandbytes saw it | | | yes |\n");
    }
    for scheme in unsupported::SCHEMES {
        text += &format!("| {} | refused | no | no |\n", scheme.title);
    }
    text
}

#[test]
fn the_page_on_quantization_lists_every_scheme() {
    let page = include_str!("../../docs/quantization.md");
    let (_, behind) = page.split_once(BEGIN).expect("the page has a list");
    let (found, _) = behind.split_once(END).expect("the list ends");
    let list = list();
    assert!(found == list, "the page must have:\n{list}");
}
