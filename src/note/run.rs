//! Notes of what the run measured.

use crate::note::declare::verb;

notes! {
    /// A note of what the run measured.
    RunNote {
        IoRefused { path: String, mode: String } => (
            "the file system of `{path}` refuses {mode} I/O: its files went through the page cache"
        ),
        OutputInMemory { output: String, needed: String, limit: String } => (
            "`{output}` lies in memory (a tmpfs), where the result takes {needed} of what the run may have: {limit}"
        ),
        StartedOver { output: String } => (
            "the base is not what it was when a merge into `{output}` was interrupted: starting over"
        ),
        KeptDamaged { file: String } => (
            "`{file}` is not what an interrupted run of this merge left: made again"
        ),
        WrittenInPlace { output: String } => (
            "files cannot be renamed or synced in `{output}`, so that it is written in place: it is whole once `shardfold.json` is there"
        ),
        EmptyPart { part: String } => (
            "nothing is left for part {part}: there are fewer tensors than parts"
        ),
        NoJournal { output: String } => (
            "no journal of `{output}` can be kept (set `XDG_STATE_HOME` to a directory that can be written): a run that fails removes \
             what it wrote, and one that is killed leaves files that must be removed before the merge is run again"
        ),
        LostInCodes { count: usize, median: f64, least: f64, tensor: String } => (
            "{:.1} % of the delta is left after encoding in the median of {count} quantized {} (least: `{tensor}`, {:.1} %)",
            100.0 * median,
            verb(*count, ["weight", "weights"]),
            100.0 * least
        ),
        InexactUndo { output: String } => (
            "`{output}` is taken back by arithmetic alone: a weight may be off by half a unit in the last place of the merged one, \
             rounded once more (in BF16 by 1/256 of it, in F16 by 1/1024, in F32 by 1/8388608); most are the base's"
        ),
        DeltaLost { adapter: String, count: usize, of: usize, worst: String, retained: f64 } => (
            "{count} of {of} {} of `{adapter}` lost more than half of their delta to rounding (worst: `{worst}`, {:.1} % kept). \
             Merge into a higher-precision base to keep it",
            verb(*of, ["module", "modules"]),
            100.0 * retained
        ),
    }
}
