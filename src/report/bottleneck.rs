//! What a run's threads spent their time on, and so what made it take as long as it did.

use serde::Serialize;

use crate::pipeline::clock::{Activity, ThreadTime};

use crate::report::words::line;

/// A thread that is at one thing for less than this part of its time does not hold up the others.
const BUSY: f64 = 0.5;

/// What the other threads of a run waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bottleneck {
    /// The disk, as far as it is read.
    Reading,
    /// The CPU: the arithmetic of the workers.
    Arithmetic,
    /// The CPU: the hashes of what is written.
    Hashing,
    /// The disk, as far as it is written.
    Writing,
}

impl Bottleneck {
    /// Every kind, with the stage and its activities that tell of it.
    const ALL: [(Bottleneck, &str, &[Activity]); 4] = [
        (Bottleneck::Reading, "reader", &[Activity::Read]),
        (Bottleneck::Arithmetic, "worker", &[Activity::Compute]),
        (Bottleneck::Hashing, "writer", &[Activity::Hash]),
        (Bottleneck::Writing, "writer", &[Activity::Write, Activity::Sync]),
    ];

    /// What the busiest stage is at for most of its time; none if every stage waits for others.
    pub(crate) fn of(threads: &[ThreadTime]) -> Option<Bottleneck> {
        let shares = Bottleneck::ALL.iter().map(|(kind, stage, activities)| {
            let of_stage = || threads.iter().filter(|thread| thread.stage == *stage);
            let sum: f64 = of_stage().map(|thread| thread.share(activities)).sum();
            (*kind, sum / of_stage().count().max(1) as f64)
        });
        let busiest = shares.max_by(|a, b| a.1.total_cmp(&b.1));
        busiest.filter(|(_, share)| *share >= BUSY).map(|(kind, _)| kind)
    }

    /// In words.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Bottleneck::Reading => "the disk: the others wait for what is read",
            Bottleneck::Arithmetic => "the CPU: the others wait for the workers",
            Bottleneck::Hashing => "the CPU: the others wait for the hashes of what is written",
            Bottleneck::Writing => "the disk: the others wait until bytes are written",
        }
    }
}

/// A line for every thread, and one for what they waited for.
pub(crate) fn threads_text(threads: &[ThreadTime], limit: Option<Bottleneck>) -> String {
    let mut text = String::new();
    for thread in threads {
        let shares = thread.shares.iter().filter(|(_, share)| *share >= 0.005);
        let shares: Vec<String> =
            shares.map(|(activity, share)| format!("{} {:.0} %", activity.name(), 100.0 * share)).collect();
        line(&mut text, thread.stage, &shares.join(", ")).expect("a string takes all text");
    }
    if !threads.is_empty() {
        let limit = limit.map_or("none: every thread waits for others", Bottleneck::text);
        line(&mut text, "limit", limit).expect("a string takes all text");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(stage: &'static str, spent: &[(Activity, f64)]) -> ThreadTime {
        ThreadTime { stage, seconds: 10.0, shares: spent.to_vec(), piece_seconds: 1.0, pieces: Vec::new() }
    }

    #[test]
    fn the_stage_that_never_waits_is_the_limit() {
        use Activity::{Compute, Hash, Read, Sync, Wait, Write};
        let run = |read, compute, hash, write, sync| {
            vec![
                thread("reader", &[(Read, read), (Wait, 1.0 - read)]),
                thread("writer", &[(Hash, hash), (Write, write), (Sync, sync)]),
                thread("worker", &[(Compute, compute)]),
                thread("worker", &[(Compute, compute - 0.1)]),
            ]
        };
        assert_eq!(Bottleneck::of(&run(0.9, 0.5, 0.1, 0.2, 0.1)), Some(Bottleneck::Reading));
        assert_eq!(Bottleneck::of(&run(0.3, 0.95, 0.1, 0.2, 0.1)), Some(Bottleneck::Arithmetic));
        assert_eq!(Bottleneck::of(&run(0.3, 0.5, 0.1, 0.4, 0.4)), Some(Bottleneck::Writing));
        assert_eq!(Bottleneck::of(&run(0.3, 0.5, 0.7, 0.2, 0.1)), Some(Bottleneck::Hashing));
        assert_eq!(Bottleneck::of(&run(0.3, 0.4, 0.3, 0.1, 0.1)), None);
        assert_eq!(Bottleneck::of(&[]), None);
        let text = threads_text(&run(0.9, 0.5, 0.1, 0.2, 0.1), Some(Bottleneck::Reading));
        assert!(text.starts_with("reader     read 90 %, wait 10 %\n"), "{text}");
        assert!(text.ends_with("limit      the disk: the others wait for what is read\n"), "{text}");
    }
}
