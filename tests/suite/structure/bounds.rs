//! What each count may be.

use super::count::Count;

/// A bound of a count.
#[derive(Clone, Copy)]
pub enum Bound {
    AtMost(usize),
    AtLeast(usize),
}

use Bound::{AtLeast, AtMost};

/// By name of the count.
const BOUNDS: &[(&str, Bound)] = &[
    ("imports upwards", AtMost(0)),
    ("files in circles", AtMost(0)),
    ("type names that mean several things, in 1000", AtMost(25)),
    ("`match` on a bool", AtMost(0)),
    ("`unreachable!` in adapters and ops", AtMost(0)),
    ("`Path` asked outside storage", AtMost(0)),
    ("claims that read a raw config", AtMost(0)),
    ("functions over 60 lines", AtMost(0)),
    ("public items", AtMost(80)),
    ("words of the README", AtMost(1500)),
    ("examples that run", AtLeast(20)),
];

/// What counts that miss their bound have come to. An entry moves towards the bound with the count, never away from it,
/// and goes when the bound is reached.
const UNFINISHED: &[(&str, usize)] = &[];

impl Bound {
    fn holds(self, found: usize) -> bool {
        match self {
            AtMost(most) => found <= most,
            AtLeast(least) => found >= least,
        }
    }

    fn text(self) -> String {
        match self {
            AtMost(most) => format!("at most {most}"),
            AtLeast(least) => format!("at least {least}"),
        }
    }

    /// Whether `found` is nearer to the bound than `than`.
    fn is_nearer(self, found: usize, than: usize) -> bool {
        match self {
            AtMost(_) => found < than,
            AtLeast(_) => found > than,
        }
    }
}

/// A count beside what it may be.
pub struct Verdict {
    /// One line: what, found, allowed.
    pub line: String,
    /// What is wrong, if anything is.
    pub complaint: Option<String>,
    /// Whether the count is worse than it may be, so that the offenders are of interest.
    pub is_miss: bool,
}

/// Holds a count against its bound.
pub fn judge(count: &Count) -> Verdict {
    judge_by(count, BOUNDS, UNFINISHED)
}

fn judge_by(count: &Count, bounds: &[(&str, Bound)], unfinished: &[(&str, usize)]) -> Verdict {
    let bound = entry(bounds, count.name).unwrap_or_else(|| panic!("no bound for {}", count.name));
    let known = entry(unfinished, count.name);
    let mut line = format!("{:<46}{:>6}  {}", count.name, count.found, bound.text());
    if let Some(known) = known {
        line += &format!(", {known} until finished");
    }
    let is_miss = match known {
        Some(known) => bound.is_nearer(known, count.found),
        None => !bound.holds(count.found),
    };
    Verdict { line, complaint: complaint(count.found, bound, known), is_miss }
}

fn complaint(found: usize, bound: Bound, known: Option<usize>) -> Option<String> {
    match known {
        None if bound.holds(found) => None,
        None => Some(format!("{found}, and {} is allowed", bound.text())),
        Some(_) if bound.holds(found) => {
            Some("the bound is reached: its entry in UNFINISHED goes".to_owned())
        }
        Some(known) if bound.is_nearer(found, known) => {
            Some(format!("better than UNFINISHED has it: the entry becomes {found}"))
        }
        Some(known) if found != known => Some(format!("{found}, and UNFINISHED allows {known}")),
        Some(_) => None,
    }
}

fn entry<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|(of, _)| *of == name).map(|(_, value)| *value)
}

#[test]
fn every_entry_belongs_to_a_count() {
    for (name, _) in UNFINISHED {
        assert!(entry(BOUNDS, name).is_some(), "{name}");
    }
}

#[test]
fn a_count_is_held_to_its_bound_and_to_what_was_reached() {
    let complaint = |bound, known, found| complaint(found, bound, known).is_some();
    for (bound, known, fine, wrong) in [
        (AtMost(3), None, vec![0, 3], vec![4]),
        (AtLeast(3), None, vec![3, 9], vec![2]),
        (AtMost(3), Some(7), vec![7], vec![8, 6, 3, 0]),
        (AtLeast(20), Some(7), vec![7], vec![6, 8, 20]),
    ] {
        assert!(fine.iter().all(|found| !complaint(bound, known, *found)), "{} {known:?}", bound.text());
        assert!(wrong.iter().all(|found| complaint(bound, known, *found)), "{} {known:?}", bound.text());
    }
}

#[test]
fn a_verdict_says_what_was_found_and_what_is_allowed() {
    let count = Count { name: "things", found: 9, offenders: Vec::new() };
    let verdict = judge_by(&count, &[("things", AtMost(3))], &[("things", 8)]);
    assert_eq!(
        verdict.line.split_whitespace().collect::<Vec<_>>().join(" "),
        "things 9 at most 3, 8 until finished"
    );
    assert_eq!(verdict.complaint.as_deref(), Some("9, and UNFINISHED allows 8"));
    assert!(verdict.is_miss);
    let better = judge_by(&count, &[("things", AtMost(3))], &[("things", 10)]);
    assert_eq!(better.complaint.as_deref(), Some("better than UNFINISHED has it: the entry becomes 9"));
    assert!(!better.is_miss);
}
