//! [`Differences`]: what two checkpoints come to, in words and as JSON.

use std::fmt;

use serde_json::{Value, json};

use crate::report::groups::group;
use crate::report::table::{Row, Rows};
use crate::report::words::{counted, line, peak_rss, shorter};
use crate::tensor::name::Name;
use crate::tensor::shape::Shape;

use crate::diff::sums::DifferenceSums;

/// How two tensors of one name are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Likeness {
    /// All values have the same bits.
    Equal,
    /// Every element that differs is the neighbor of the other in the coarser of both types.
    Rounding,
    /// Some element differs by more.
    Moved,
    /// Only the first checkpoint has it.
    OnlyFirst,
    /// Only the second has it.
    OnlySecond,
    /// They have other shapes.
    OtherShape,
    /// Their values cannot be held against each other, and why.
    Incomparable(&'static str),
}

impl Likeness {
    /// What it is called in JSON.
    fn key(self) -> &'static str {
        match self {
            Likeness::Equal => "equal",
            Likeness::Rounding => "rounding",
            Likeness::Moved => "moved",
            Likeness::OnlyFirst => "only_in_a",
            Likeness::OnlySecond => "only_in_b",
            Likeness::OtherShape => "other_shape",
            Likeness::Incomparable(_) => "not_compared",
        }
    }

    /// What a row of the table says.
    fn text(self) -> &'static str {
        match self {
            Likeness::Rounding => "moved by rounding",
            Likeness::OnlyFirst => "only in A",
            Likeness::OnlySecond => "only in B",
            Likeness::OtherShape => "other shape",
            Likeness::Incomparable(_) => "not compared",
            Likeness::Equal | Likeness::Moved => self.key(),
        }
    }
}

/// What the tensors of one name come to.
#[derive(Clone, Debug)]
pub(crate) struct TensorDifference {
    /// The name.
    pub(crate) name: Name,
    /// How they are to each other.
    pub(crate) likeness: Likeness,
    /// How each is stored, if it is there.
    pub(crate) types: [Option<String>; 2],
    /// The shape of each, if it is there.
    pub(crate) shapes: [Option<Shape>; 2],
    /// What their elements come to.
    pub(crate) sums: DifferenceSums,
}

impl TensorDifference {
    /// ‖B − A‖ / ‖A‖; none where A is zero.
    fn relative(&self) -> Option<f64> {
        ratio(self.sums.square(), self.sums.first_square())
    }

    /// The share of the elements that differ.
    fn share(&self) -> f64 {
        self.sums.differing as f64 / self.sums.elements.max(1) as f64
    }

    /// Whether both are there, and stored as different types.
    fn has_other_type(&self) -> bool {
        matches!(&self.types, [Some(first), Some(second)] if first != second)
    }

    /// It as JSON. Norms are there of floats that were compared.
    fn json(&self) -> Value {
        let Self { name, likeness, types: [a, b], shapes: [of_a, of_b], sums } = self;
        let mut json =
            json!({"name": &**name, "state": likeness.key(), "types": [a, b], "shapes": [of_a, of_b]});
        match likeness {
            Likeness::Incomparable(why) => json["why"] = (*why).into(),
            Likeness::Equal | Likeness::Rounding | Likeness::Moved => {
                let size = sums.norm();
                json["elements"] = sums.elements.into();
                json["differing"] = sums.differing.into();
                json["not_finite"] = sums.not_finite.into();
                json["most"] = sums.most.into();
                json["norm"] = size.into();
                json["relative"] = self.relative().into();
            }
            Likeness::OnlyFirst | Likeness::OnlySecond | Likeness::OtherShape => {}
        }
        json
    }
}

/// The root of a quotient of squares; none of nothing.
fn ratio(square: f64, of: f64) -> Option<f64> {
    (of > 0.0).then(|| (square / of).sqrt())
}

/// What two checkpoints come to.
#[derive(Clone, Debug)]
pub(crate) struct Differences {
    /// Where they are.
    pub(crate) paths: [String; 2],
    /// Every name, in the order of the first checkpoint, then what only the second has.
    pub(crate) tensors: Vec<TensorDifference>,
    /// The most memory that the process had.
    pub(crate) peak_rss: u64,
}

/// States in the order in which they are counted.
const COUNTED: [&str; 7] =
    ["equal", "rounding", "moved", "other_shape", "not_compared", "only_in_a", "only_in_b"];
/// Those that the summary has words for wherever there is one.
const WORDS: [&str; 7] =
    ["equal", "moved by rounding", "moved", "of other shapes", "not compared", "only in A", "only in B"];
/// How many of the tensors that moved most are named.
const NAMED: usize = 5;

impl Differences {
    /// Names whose tensors are not equal.
    pub(crate) fn differing(&self) -> usize {
        self.tensors.len() - self.count("equal")
    }

    fn count(&self, key: &str) -> usize {
        self.tensors.iter().filter(|tensor| tensor.likeness.key() == key).count()
    }

    /// ‖B − A‖ and ‖A‖ of all tensors that were compared.
    fn norms(&self) -> [f64; 2] {
        let squares = |of: fn(&DifferenceSums) -> f64| -> f64 {
            self.tensors.iter().map(|tensor| of(&tensor.sums)).sum()
        };
        [squares(DifferenceSums::square), squares(DifferenceSums::first_square)].map(f64::sqrt)
    }

    /// All of it as one document.
    pub(crate) fn json(&self) -> Value {
        let [norm, of] = self.norms();
        let counts = COUNTED.map(|key| (key.to_owned(), Value::from(self.count(key))));
        let tensors: Vec<Value> = self.tensors.iter().map(TensorDifference::json).collect();
        json!({
            "a": self.paths[0],
            "b": self.paths[1],
            "equal": self.differing() == 0,
            "counts": Value::Object(counts.into_iter().collect()),
            "norm": norm,
            "relative": ratio(norm * norm, of * of),
            "peak_rss": self.peak_rss,
            "tensors": tensors,
        })
    }

    /// The tensors that moved most beside their size.
    fn movers(&self) -> Vec<&TensorDifference> {
        let size = |tensor: &TensorDifference| tensor.relative().unwrap_or(f64::INFINITY);
        let moved =
            self.tensors.iter().filter(|tensor| tensor.sums.differing > 0 && tensor.sums.norm() > 0.0);
        let mut movers: Vec<&TensorDifference> = moved.collect();
        movers.sort_unstable_by(|one, other| {
            size(other).total_cmp(&size(one)).then_with(|| one.name.cmp(&other.name))
        });
        movers.truncate(NAMED);
        movers
    }

    /// One row for names alike.
    fn rows(&self) -> Rows {
        let items = self.tensors.iter().map(|tensor| (&*tensor.name, (tensor.likeness, &tensor.types)));
        let rows = group(items).into_iter().map(|group| {
            let members: Vec<&TensorDifference> = group.members.iter().map(|&i| &self.tensors[i]).collect();
            Row { name: group.to_string(), count: group.count(), cells: cells(&members) }
        });
        Rows(rows.collect())
    }
}

/// What tensors in one row have in common.
fn cells(members: &[&TensorDifference]) -> Vec<String> {
    let (mut square, mut of, mut most, mut differing, mut elements) = (0.0, 0.0, 0.0f64, 0, 0);
    for TensorDifference { sums, .. } in members {
        (square, of) = (square + sums.square(), of + sums.first_square());
        (most, differing, elements) =
            (most.max(sums.most), differing + sums.differing, elements + sums.elements);
    }
    let likeness = members[0].likeness;
    let mut cells = vec![likeness.text().to_owned()];
    if differing > 0 {
        let share = 100.0 * differing as f64 / elements.max(1) as f64;
        cells.push(format!("{} % differ", shorter(share)));
        cells.push(format!("max {}", shorter(most)));
        cells.push(
            ratio(square, of).map_or_else(String::new, |ratio| format!("{} %", shorter(100.0 * ratio))),
        );
    }
    if let [Some(a), Some(b)] = &members[0].types
        && a != b
    {
        cells.push(format!("{a}, {b}"));
    }
    cells
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, "A", &self.paths[0])?;
        line(f, "B", &self.paths[1])?;
        let counts = COUNTED.into_iter().zip(WORDS).filter_map(|(key, words)| match self.count(key) {
            0 => None,
            count => Some(format!("{count} {words}")),
        });
        let counts: Vec<String> = counts.collect();
        line(f, "tensors", &format!("{}: {}", self.tensors.len(), counts.join(", ")))?;
        let types = self.tensors.iter().filter(|tensor| tensor.has_other_type()).count();
        if types > 0 {
            line(f, "types", &format!("{} of another type", counted(types, ["tensor", "tensors"])))?;
        }
        let [norm, of] = self.norms();
        if let Some(ratio) = ratio(norm * norm, of * of).filter(|ratio| *ratio > 0.0) {
            line(f, "difference", &format!("norm {}, {} % of A", shorter(norm), shorter(100.0 * ratio)))?;
        }
        for (i, tensor) in self.movers().into_iter().enumerate() {
            let relative = tensor.relative().map_or_else(
                || "A is zero".to_owned(),
                |relative| format!("{} % of A", shorter(100.0 * relative)),
            );
            let share = shorter(100.0 * tensor.share());
            let text =
                format!("`{}`: {relative}, max {}, {share} % differ", tensor.name, shorter(tensor.sums.most));
            line(f, if i == 0 { "largest" } else { "" }, &text)?;
        }
        line(f, "memory", &peak_rss(self.peak_rss))?;
        f.write_str("\n")?;
        self.rows().fmt(f)
    }
}
