//! What was found, on one screen.

use std::fmt;

use super::Options;
use super::elements::Difference;
use super::folder::Checkpoint;

/// Lines of each list that are printed.
const SHOWN: usize = 8;

/// The findings of one comparison.
pub(crate) struct Report {
    heads: [String; 2],
    options: Options,
    /// Tensors that are missing on one side, or of another shape or dtype.
    pub(super) mismatches: Vec<String>,
    identical: usize,
    /// Tensors with any difference, by name.
    differing: Vec<(String, Difference)>,
}

impl Report {
    /// An empty report on two checkpoints.
    pub(super) fn new(a: &Checkpoint, b: &Checkpoint, options: Options) -> Self {
        let head = |checkpoint: &Checkpoint| {
            let bytes: u64 = checkpoint.tensors.values().map(|tensor| tensor.bytes).sum();
            let (tensors, files) = (checkpoint.tensors.len(), checkpoint.files.len());
            let path = checkpoint.path.display();
            format!("{path}: {tensors} tensors, {:.3} GB, files: {files}", bytes as f64 / 1e9)
        };
        let heads = [head(a), head(b)];
        Self { heads, options, mismatches: Vec::new(), identical: 0, differing: Vec::new() }
    }

    /// Takes in the outcome of one tensor.
    pub(super) fn add(&mut self, name: &str, difference: Difference) {
        if difference.differing == 0 {
            self.identical += 1;
        } else {
            self.differing.push((name.to_owned(), difference));
        }
    }

    /// Same names, shapes and dtypes, and nothing beyond the limit.
    pub(crate) fn passed(&self) -> bool {
        let limit = self.options.max_ulp.unwrap_or(u64::MAX);
        self.mismatches.is_empty() && self.differing.iter().all(|(_, tensor)| tensor.max_ulps <= limit)
    }

    /// All differing tensors as one.
    fn sum(&self) -> Difference {
        let mut sum = Difference::default();
        for (_, tensor) in &self.differing {
            sum.elements += tensor.elements;
            sum.differing += tensor.differing;
            sum.max_ulps = sum.max_ulps.max(tensor.max_ulps);
            sum.max_abs = sum.max_abs.max(tensor.max_abs);
            for (total, count) in sum.by_ulps.iter_mut().zip(tensor.by_ulps) {
                *total += count;
            }
        }
        sum
    }

    /// The elements that differ, by how much, and the tensors that differ most.
    fn write_differences(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = self.sum();
        let share = |part: u64, of: u64| 100.0 * part as f64 / of.max(1) as f64;
        writeln!(f, "  of their {} elements {} are not the same:", sum.elements, sum.differing)?;
        let [one, two, more] = sum.by_ulps;
        let only_sign = sum.differing - one - two - more;
        for (count, what) in
            [(only_sign, "equal in value"), (one, "1 ulp"), (two, "2 ulp"), (more, "more than 2 ulp")]
        {
            if count > 0 {
                writeln!(f, "  {count:>14}  {:>9.5} %  {what}", share(count, sum.elements))?;
            }
        }
        let mut worst: Vec<_> = self.differing.iter().collect();
        worst.sort_by(|(_, a), (_, b)| {
            b.max_ulps
                .cmp(&a.max_ulps)
                .then(b.max_abs.total_cmp(&a.max_abs))
                .then(b.differing.cmp(&a.differing))
        });
        writeln!(f, "  max ulp     max abs   share that differs   tensor (worst first)")?;
        for (name, tensor) in worst.iter().take(SHOWN) {
            let ulps = if tensor.max_ulps == u64::MAX { "-".to_owned() } else { tensor.max_ulps.to_string() };
            let percent = share(tensor.differing, tensor.elements);
            writeln!(f, "{ulps:>9}  {:>10.3e}  {percent:>17.5} %   {name}", tensor.max_abs)?;
        }
        writeln_rest(f, worst.len())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "A  {}\nB  {}", self.heads[0], self.heads[1])?;
        let compared = self.identical + self.differing.len();
        let same = if self.options.dtype_aware {
            "equal where rounded, else byte-identical"
        } else {
            "byte-identical"
        };
        writeln!(f, "{} of {compared} compared tensors are {same}", self.identical)?;
        if !self.differing.is_empty() {
            writeln!(f, "{} differ", self.differing.len())?;
            self.write_differences(f)?;
        }
        if !self.mismatches.is_empty() {
            writeln!(f, "{} do not match in name, shape or dtype", self.mismatches.len())?;
            for line in self.mismatches.iter().take(SHOWN) {
                writeln!(f, "  {line}")?;
            }
            writeln_rest(f, self.mismatches.len())?;
        }
        let verdict = if self.passed() { "passed" } else { "FAILED" };
        match self.options.max_ulp {
            Some(limit) => write!(f, "{verdict} (names, shapes, dtypes; values within {limit} ulp)"),
            None => write!(f, "{verdict} (names, shapes, dtypes; values are judged with --max-ulp only)"),
        }
    }
}

/// Says how many lines of a list were left out.
fn writeln_rest(f: &mut fmt::Formatter<'_>, count: usize) -> fmt::Result {
    if count > SHOWN { writeln!(f, "  … and {} more", count - SHOWN) } else { Ok(()) }
}
