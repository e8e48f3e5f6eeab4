//! [`Verified`]: what was found, in words and as JSON.

use std::fmt;

use serde::Serialize;

use crate::report::words::{counted, line};
use crate::tensor::size::show_size;
use crate::verify::finding::Finding;

/// What a directory was held against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Against {
    /// The hashes of its record.
    #[default]
    Hashes,
    /// What merging its inputs gives.
    Inputs,
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Verified {
    /// The directory.
    pub(crate) path: String,
    /// What it was held against.
    pub(crate) against: Against,
    /// Files that were looked at, and their bytes.
    pub(crate) files: usize,
    /// Bytes that were compared or hashed.
    pub(crate) bytes: u64,
    /// Tensors that were compared.
    pub(crate) tensors: usize,
    /// Tensors of the result.
    pub(crate) of_tensors: usize,
    /// Places that were compared of a sample, and those that there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) places: Option<[u64; 2]>,
    /// What differs by rounding and no more.
    pub(crate) rounding: Rounding,
    /// Files that nothing tells of: they are no finding.
    pub(crate) unlisted: Vec<String>,
    /// In what the directory is not what it should be.
    pub(crate) findings: Vec<Finding>,
}

/// Merged tensors whose elements differ by one unit in the last place at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Rounding {
    /// Tensors.
    pub(crate) tensors: usize,
    /// Elements of them.
    pub(crate) elements: u64,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let against = match self.against {
            Against::Hashes => "the hashes in its record",
            Against::Inputs => "what its inputs give",
        };
        line(f, "verified", &format!("`{}` against {against}", self.path))?;
        if self.files > 0 {
            let files = counted(self.files, ["file", "files"]);
            line(f, "files", &format!("{files}, {}", show_size(self.bytes)))?;
        }
        if let Some([places, of]) = self.places {
            line(f, "places", &format!("{places} of {of} compared, of about 1 MiB each"))?;
        }
        if self.against == Against::Inputs {
            let of = if self.tensors == self.of_tensors {
                String::new()
            } else {
                format!(" of {}", self.of_tensors)
            };
            let compared = format!("{}{of} compared, {}", self.tensors, show_size(self.bytes));
            line(f, "tensors", &compared)?;
        }
        if self.rounding.elements > 0 {
            let elements = counted(self.rounding.elements, ["element", "elements"]);
            let tensors = counted(self.rounding.tensors, ["tensor", "tensors"]);
            let text = format!("{elements} of {tensors} differ by one unit in the last place, none by more");
            line(f, "rounding", &text)?;
        }
        for file in &self.unlisted {
            line(f, "unlisted", &format!("`{file}` is no file of the result"))?;
        }
        for finding in &self.findings {
            line(f, "finding", &finding.to_string())?;
        }
        match self.findings.len() {
            0 => line(f, "clean", "no findings"),
            count => line(f, "not clean", &counted(count, ["finding", "findings"])),
        }
    }
}
