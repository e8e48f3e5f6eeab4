//! [`Finding`]: one thing in which a directory is not what it should be.

use std::fmt;

use serde::Serialize;

use crate::plan::output_files::RECORD;
use crate::report::words::counted;

/// One thing in which a directory is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Finding {
    /// There is no such file.
    MissingFile { file: String },
    /// A file is longer or shorter.
    Length { file: String, expected: u64, found: u64 },
    /// A file has another hash than was recorded. Of a long one, the bytes are known between which it differs, and the tensors
    /// that they are of.
    Hash { file: String, expected: String, found: String, ranges: Vec<[u64; 2]>, tensors: Vec<String> },
    /// A file has other bytes than the merge gives it, the first of them there.
    Bytes { file: String, offset: u64 },
    /// The checksums are not those of the files.
    Checksums { file: String },
    /// The record says other hashes of this file than the merge gives.
    Recorded { file: String },
    /// The digest of the result is not that of the files that are listed.
    Result { expected: String, found: String },
    /// The record cannot be read.
    Unreadable,
    /// The record is of another merge, and in what it differs, if that was written down.
    OtherMerge { difference: Option<String> },
    /// A tensor is missing.
    MissingTensor { tensor: String },
    /// A tensor is there that the merge does not give.
    OtherTensor { tensor: String, file: String },
    /// A tensor has another dtype or shape.
    Form { tensor: String, file: String, expected: String, found: String },
    /// A tensor has other values; the first that is wrong is at these coordinates.
    Values { tensor: String, file: String, first: Vec<u64>, differing: u64, rounding: u64, elements: u64 },
    /// A tensor is the base's, and these modules should have changed it.
    Unmerged { tensor: String, file: String, modules: Vec<String> },
}

/// Tensors that are named in one line.
const SHOWN: usize = 3;

/// That there are more than so many.
fn more(all: usize, shown: usize) -> String {
    if all > shown { format!(" and {} more", all - shown) } else { String::new() }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::MissingFile { file } => write!(f, "`{file}` is missing"),
            Finding::Length { file, expected, found } => {
                write!(f, "`{file}` has {found} bytes, {expected} are expected")
            }
            Finding::Hash { file, expected, found, ranges, tensors } => {
                write!(f, "`{file}` has hash {found}, `{RECORD}` says {expected}")?;
                if let Some([start, end]) = ranges.first() {
                    write!(f, ": it differs between bytes {start} and {end}{}", more(ranges.len(), 1))?;
                }
                let shown: Vec<String> = tensors.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
                if shown.is_empty() {
                    return Ok(());
                }
                write!(f, ", in {}{}", shown.join(", "), more(tensors.len(), SHOWN))
            }
            Finding::Bytes { file, offset } => write!(f, "`{file}` differs from byte {offset} on"),
            Finding::Checksums { file } => write!(f, "`{file}` is not what belongs to `{RECORD}`"),
            Finding::Recorded { file } => {
                write!(f, "`{RECORD}` has another hash of `{file}` than the merge gives")
            }
            Finding::Result { expected, found } => {
                write!(f, "`{RECORD}` has result {found}, and the files that it lists give {expected}")
            }
            Finding::Unreadable => write!(f, "`{RECORD}` cannot be read"),
            Finding::OtherMerge { difference } => {
                let difference = difference.as_deref().unwrap_or("its plan is another");
                write!(f, "`{RECORD}` is of another merge: {difference}")
            }
            Finding::MissingTensor { tensor } => write!(f, "`{tensor}` is missing"),
            Finding::OtherTensor { tensor, file } => {
                write!(f, "`{tensor}` in `{file}` is no tensor that the merge gives")
            }
            Finding::Form { tensor, file, expected, found } => {
                write!(f, "`{tensor}` in `{file}` is {found}, {expected} is expected")
            }
            Finding::Values { tensor, file, first, differing, rounding, elements } => {
                let wrong = counted(differing - rounding, ["element is wrong", "elements are wrong"]);
                write!(f, "`{tensor}` in `{file}`: {wrong} of {elements}, the first at {first:?}")?;
                match rounding {
                    0 => Ok(()),
                    rounding => write!(f, "; {rounding} more differ by rounding"),
                }
            }
            Finding::Unmerged { tensor, file, modules } => {
                write!(
                    f,
                    "`{tensor}` in `{file}` is unmerged: it is the base's, and `{}`",
                    modules.join("`, `")
                )?;
                f.write_str(if modules.len() == 1 { " changes it" } else { " change it" })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_is_said_with_its_place() {
        let [tensor, file, found, expected] = ["t", "f", "x", "y"].map(str::to_owned);
        let hash = |ranges: &[[u64; 2]], tensors: &[&str]| Finding::Hash {
            file: "f".to_owned(),
            expected: "y".to_owned(),
            found: "x".to_owned(),
            ranges: ranges.to_vec(),
            tensors: tensors.iter().map(|name| (*name).to_owned()).collect(),
        };
        let values = |differing, rounding| Finding::Values {
            tensor: "t".to_owned(),
            file: "f".to_owned(),
            first: vec![0, 3],
            differing,
            rounding,
            elements: 16,
        };
        let unmerged = |modules: &[&str]| Finding::Unmerged {
            tensor: "t".to_owned(),
            file: "f".to_owned(),
            modules: modules.iter().map(|name| (*name).to_owned()).collect(),
        };
        let difference = Some("its adapter `a` has weight 2, here 1".to_owned());
        for (finding, text) in [
            (Finding::MissingFile { file: file.clone() }, "`f` is missing"),
            (
                Finding::Length { file: file.clone(), expected: 2, found: 1 },
                "`f` has 1 bytes, 2 are expected",
            ),
            (hash(&[], &[]), "`f` has hash x, `shardfold.json` says y"),
            (
                hash(&[[4, 8]], &[]),
                "`f` has hash x, `shardfold.json` says y: it differs between bytes 4 and 8",
            ),
            (
                hash(&[[4, 8], [16, 20]], &["a", "b"]),
                "`f` has hash x, `shardfold.json` says y: it differs between bytes 4 and 8 and 1 more, in `a`, `b`",
            ),
            (
                hash(&[[4, 8]], &["a", "b", "c", "d", "e"]),
                "`f` has hash x, `shardfold.json` says y: it differs between bytes 4 and 8, in `a`, `b`, `c` and 2 more",
            ),
            (Finding::Bytes { file: file.clone(), offset: 9 }, "`f` differs from byte 9 on"),
            (Finding::Checksums { file: file.clone() }, "`f` is not what belongs to `shardfold.json`"),
            (
                Finding::Recorded { file: file.clone() },
                "`shardfold.json` has another hash of `f` than the merge gives",
            ),
            (
                Finding::Result { expected: expected.clone(), found: found.clone() },
                "`shardfold.json` has result x, and the files that it lists give y",
            ),
            (Finding::Unreadable, "`shardfold.json` cannot be read"),
            (
                Finding::OtherMerge { difference: None },
                "`shardfold.json` is of another merge: its plan is another",
            ),
            (
                Finding::OtherMerge { difference },
                "`shardfold.json` is of another merge: its adapter `a` has weight 2, here 1",
            ),
            (Finding::MissingTensor { tensor: tensor.clone() }, "`t` is missing"),
            (
                Finding::OtherTensor { tensor: tensor.clone(), file: file.clone() },
                "`t` in `f` is no tensor that the merge gives",
            ),
            (Finding::Form { tensor, file, expected, found }, "`t` in `f` is x, y is expected"),
            (values(1, 0), "`t` in `f`: 1 element is wrong of 16, the first at [0, 3]"),
            (
                values(5, 3),
                "`t` in `f`: 2 elements are wrong of 16, the first at [0, 3]; 3 more differ by rounding",
            ),
            (unmerged(&["m"]), "`t` in `f` is unmerged: it is the base's, and `m` changes it"),
            (unmerged(&["m", "n"]), "`t` in `f` is unmerged: it is the base's, and `m`, `n` change it"),
        ] {
            assert_eq!(finding.to_string(), text);
        }
    }
}
