//! Why a quantized tensor cannot be decoded, encoded, or taken for plain numbers.

use std::fmt;

use crate::tensor::dtype::Dtype;
use crate::tensor::shape::Shape;

/// Why a quantized tensor cannot be decoded, encoded, or taken for plain numbers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the message above each variant says what it is, and its fields are the message's values"
)]
pub enum QuantizedProblem {
    // What only one scheme has, in the words of its own file.
    #[error("{0}")]
    OfScheme(&'static str),

    // Which tensors are there.
    #[error("it has no `{name}`")]
    NoAuxiliary { name: String },
    #[error("it has no `{name}`, and nothing else says how many columns it has")]
    UnknownColumns { name: String },
    #[error("it has `{auxiliary}` and no `{data}`")]
    NoData { auxiliary: String, data: String },
    #[error("it is there twice, as `{first}` and as `{second}`")]
    Twice { first: String, second: String },
    #[error("`{name}` stands beside it too, which is of {titles}")]
    OtherBeside { name: String, titles: String },

    // Their types and shapes.
    #[error("it is empty")]
    Empty,
    #[error("its shape is larger than any file")]
    TooLarge,
    #[error("it has {bytes} bytes, where a few numbers are expected")]
    ManyBytes { bytes: u64 },
    #[error("`{name}` has dtype {found:?}, expected {}", series(expected.iter().map(|dtype| format!("{dtype:?}")), "or"))]
    Dtype { name: String, found: Dtype, expected: &'static [Dtype] },
    #[error("`{name}` has shape {found}, expected {expected:?}")]
    Shape { name: String, found: Shape, expected: Vec<u64> },
    #[error("its quantized data has shape {found}, where two axes are read")]
    NotTwoAxes { found: Shape },
    #[error("`{name}` has shape {found}, expected three axes")]
    NotThreeAxes { name: String, found: Shape },
    #[error("`{name}` has shape {found}, expected four axes")]
    NotFourAxes { name: String, found: Shape },
    #[error("`{name}` has shape {found}, expected {} for blocks of {} × {}", or(expected, "two axes"), block.0, block.1)]
    ScaleShape { name: String, found: Shape, expected: Option<Shape>, block: (u64, u64) },
    #[error("its quantized data has {bytes} bytes in a row, which are no whole number of codes")]
    PartOfCode { bytes: u64 },
    #[error("`{name}` has blocks of {found} bytes, expected {expected}")]
    BlockBytes { name: String, found: u64, expected: u64 },
    #[error(
        "its quantized data has {found} words in a row, expected {} for {columns} columns of {bits} bits",
        or(expected, "fewer")
    )]
    Words { found: u64, expected: Option<u64>, columns: u64, bits: u64 },
    #[error("its codes take {found} bytes, expected {expected} for {values} values")]
    CodeBytes { found: u64, values: u64, expected: u64 },
    #[error("`{name}` is no description of a weight that can be read")]
    Description { name: String },
    #[error("it is packed as {bits} bits each, and {found} bits hold no whole number of them")]
    Fields { found: u64, bits: u64 },
    #[error("{columns} columns of {bits} bits are packed alike in two ways")]
    TwoPackings { columns: u64, bits: u64 },
    #[error("`{name}` says {written} columns, and its groups make {found}")]
    WrittenColumns { name: String, written: u64, found: u64 },
    #[error("`{name}` holds {written:?}, and its quantized data has {rows} rows")]
    WrittenRows { name: String, written: Vec<i64>, rows: u64 },

    // What the config says of it.
    #[error("`{name}` belongs to it, but config.json has no `quantization_config`")]
    NoConfig { name: String },
    #[error("it is stored as {scheme}{}, but `quant_method` is {}, not `{expected}`", shown_by(tensors), method(found.as_deref()))]
    Method { scheme: &'static str, tensors: Vec<String>, found: Option<String>, expected: &'static str },
    #[error("its quantized data is packed, but their `format` is `{found}`, not `{expected}`")]
    Format { found: String, expected: &'static str },
    #[error("`{key}` is `{found}`, not `{expected}`")]
    Setting { key: &'static str, found: String, expected: &'static str },
    #[error("`{key}` is {}, expected a number above 0, or -1 for one group", or(found, "nothing"))]
    GroupSize { key: &'static str, found: Option<i64> },
    #[error("`{key}` is {}; {} read", or(found, "nothing"), are(read.iter()))]
    Number { key: &'static str, found: Option<u64>, read: &'static [u64] },
    #[error("`{key}` is `{found}`; {} read", are(read.iter().map(|word| format!("`{word}`"))))]
    Word { key: &'static str, found: String, read: &'static [&'static str] },
    #[error("the target `{target}` of `config_groups` is a pattern that is not supported")]
    Target { target: String },
    #[error("it has scales, and `quantization_config` lists its module as plain")]
    ListedPlain,

    // What is to become of it.
    #[error("a delta on it runs across the rows of its quantized data")]
    AcrossRows,
    #[error("a value that replaces it has no scales to be encoded with")]
    Replaced,
    #[error("its matrices end within a block of rows, so that they cannot be encoded one by one")]
    BlockAcrossMatrices,
    #[error("its encoding is not supported ({titles}), and the rest of the base is decoded")]
    UnreadData { titles: String },
    #[error("its encoding is not supported (its name is one of {titles}, its dtype {dtype:?})")]
    UnreadName { titles: String, dtype: Dtype },
    #[error("by its name it belongs to quantized data, which is not there or is decoded without it")]
    LeftOver,

    // What an adapter takes it for.
    #[error("it is an auxiliary tensor of another")]
    IsAuxiliary,
    #[error("the base has its auxiliary tensor `{name}`")]
    HasAuxiliary { name: String },
    #[error("it is stored as {dtype:?} of {titles}{}", optional(", with `", beside, "` beside it"))]
    StoredAs { dtype: Dtype, titles: String, beside: Option<String> },
    #[error("it is stored as `{name}`{}", optional(" of ", titles, ""))]
    StoredUnder { name: String, titles: Option<String> },
}

/// The value, or what stands for none.
fn or(value: &Option<impl fmt::Display>, none: &str) -> String {
    value.as_ref().map_or_else(|| none.to_owned(), ToString::to_string)
}

/// The value with what is around it, if there is one.
fn optional(before: &str, value: &Option<String>, after: &str) -> String {
    value.as_ref().map_or_else(String::new, |value| format!("{before}{value}{after}"))
}

/// A `quant_method`, or that there is none.
fn method(found: Option<&str>) -> String {
    found.map_or_else(|| "missing".to_owned(), |found| format!("`{found}`"))
}

/// The tensors by which a scheme is known: the auxiliary tensor alone, or all.
fn shown_by(tensors: &[String]) -> String {
    match tensors {
        [] => String::new(),
        [one] => format!(" (`{one}` belongs to it)"),
        all => format!(" ({})", series(all.iter().map(|name| format!("`{name}`")), "and")),
    }
}

/// All of them, and that they are.
fn are(all: impl ExactSizeIterator<Item = impl fmt::Display>) -> String {
    let verb = if all.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", series(all, "and"))
}

/// All of them, with a word before the last.
fn series(all: impl Iterator<Item = impl fmt::Display>, word: &str) -> String {
    let all: Vec<String> = all.map(|one| one.to_string()).collect();
    match all.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [before @ .., last] => format!("{} {word} {last}", before.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(problem: &QuantizedProblem, text: &str) {
        assert_eq!(problem.to_string(), text);
    }

    #[test]
    fn values_are_put_in_words() {
        use QuantizedProblem::{
            Dtype as Type, Method, Number, ScaleShape, StoredAs, StoredUnder, Word, Words,
        };
        let (name, found) = ("a.s".to_owned(), Shape::new(&[2, 3]).expect("small"));
        let dtype = |expected| Type { name: name.clone(), found: Dtype::I8, expected };
        says(&dtype(&[Dtype::U8]), "`a.s` has dtype I8, expected U8");
        says(&dtype(&[Dtype::I64, Dtype::I32]), "`a.s` has dtype I8, expected I64 or I32");
        says(&dtype(&[Dtype::F32, Dtype::BF16, Dtype::F16]), "`a.s` has dtype I8, expected F32, BF16 or F16");
        let scale =
            |expected| ScaleShape { name: name.clone(), found: found.clone(), expected, block: (4, 5) };
        says(&scale(None), "`a.s` has shape [2, 3], expected two axes for blocks of 4 × 5");
        says(&scale(Shape::new(&[1, 1])), "`a.s` has shape [2, 3], expected [1, 1] for blocks of 4 × 5");
        let words = Words { found: 5, expected: None, columns: 0, bits: 4 };
        says(&words, "its quantized data has 5 words in a row, expected fewer for 0 columns of 4 bits");
        says(&Number { key: "n", found: None, read: &[3, 4, 8] }, "`n` is nothing; 3, 4 and 8 are read");
        let word = Word { key: "k", found: "x".to_owned(), read: &["y", "z"] };
        says(&word, "`k` is `x`; `y` and `z` are read");
        let word = Word { key: "k", found: "x".to_owned(), read: &["y"] };
        says(&word, "`k` is `x`; `y` is read");
        let stored = |beside| StoredAs { dtype: Dtype::U8, titles: "T".to_owned(), beside };
        says(&stored(None), "it is stored as U8 of T");
        says(&stored(Some(name.clone())), "it is stored as U8 of T, with `a.s` beside it");
        let under = |titles| StoredUnder { name: name.clone(), titles };
        says(&under(None), "it is stored as `a.s`");
        says(&under(Some("T".to_owned())), "it is stored as `a.s` of T");
        let method = |tensors: &[&str], found: Option<&str>| Method {
            scheme: "S",
            tensors: tensors.iter().map(|name| (*name).to_owned()).collect(),
            found: found.map(str::to_owned),
            expected: "m",
        };
        says(&method(&[], Some("x")), "it is stored as S, but `quant_method` is `x`, not `m`");
        says(
            &method(&["a"], None),
            "it is stored as S (`a` belongs to it), but `quant_method` is missing, not `m`",
        );
        says(
            &method(&["a", "b"], None),
            "it is stored as S (`a` and `b`), but `quant_method` is missing, not `m`",
        );
    }
}
