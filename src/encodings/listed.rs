//! The page on quantization lists every scheme as the tables of this room have them.

use crate::encodings::{ENCODINGS, in_training, unsupported};

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
        rows[at].count += 1;
        rows[at].kept += usize::from(encoding.decode_only().is_none());
    }
    rows
}

/// The list as the page must have it.
fn list() -> String {
    let mut text = "| scheme | decoded | changed and kept (`--keep-quantized`) | made of a 16-bit base (`--base-as`) |\n\
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
