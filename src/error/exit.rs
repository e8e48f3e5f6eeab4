//! Exit codes: the one table, which `--help` and the README repeat.

use crate::error::kind::ErrorKind;

/// How a process of shardfold ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Done, or already done.
    Done = 0,
    /// Misuse of the command line.
    Usage = 2,
    /// Bad input data; OUTPUT was not created.
    Data = 65,
    /// Input missing.
    NoInput = 66,
    /// A bug in shardfold.
    Bug = 70,
    /// The memory budget cannot be met.
    Budget = 71,
    /// OUTPUT cannot be created, or already exists and is not the result of this merge.
    Output = 73,
    /// I/O error or disk full.
    Io = 74,
    /// Interrupted by a signal; the same command starts over.
    Stopped = 75,
}

/// The table as `--help` prints it.
pub const TABLE: &str = "\
Exit codes:
   0  done, or already done
   2  misuse of the command line
  65  bad input data (OUTPUT was not created)
  66  input missing
  70  a bug in shardfold
  71  the memory budget cannot be met
  73  OUTPUT cannot be created, or already exists and is not the result of this merge
  74  I/O error or disk full
  75  interrupted by a signal, run the same command again (it starts over)";

/// The code of one kind of error. Every kind is named, so that a new one cannot get a code by accident.
pub(crate) fn code_of(kind: &ErrorKind) -> Code {
    use ErrorKind as K;
    match kind {
        K::Several { errors } => errors.first().map_or(Code::Bug, |first| code_of(first.kind())),
        K::Usage { .. } | K::Required { .. } | K::NoBase { .. } => Code::Usage,
        K::Missing { .. } | K::UnknownModel { .. } | K::UnknownRevision { .. } => Code::NoInput,
        K::Panicked { .. } | K::Unapplied { .. } => Code::Bug,
        K::Budget { .. } => Code::Budget,
        K::OutputHolds { .. }
        | K::OutputInUse { .. }
        | K::OutputDamaged { .. }
        | K::OutputUnwritable { .. } => Code::Output,
        K::Read { .. } | K::Truncated { .. } | K::Write { .. } | K::DiskFull { .. } => Code::Io,
        K::Stopped => Code::Stopped,
        K::Header { .. }
        | K::Index { .. }
        | K::Json { .. }
        | K::LfsPointer { .. }
        | K::NoIndex { .. }
        | K::Variants { .. }
        | K::Pipeline { .. }
        | K::TensorTwice { .. }
        | K::IndexDisagrees { .. }
        | K::NotInIndex { .. }
        | K::Ref { .. }
        | K::LeadsOut { .. }
        | K::PeftType { .. }
        | K::AdapterFormat { .. }
        | K::Field { .. }
        | K::EmptyAdapter { .. }
        | K::NoEffect { .. }
        | K::Unmatched { .. }
        | K::Readings { .. }
        | K::Unclaimed { .. }
        | K::NoPartner { .. }
        | K::KeyTwice { .. }
        | K::Overlap { .. }
        | K::ExpertCount { .. }
        | K::DeltaShape { .. }
        | K::ReplacementShape { .. }
        | K::FactorShape { .. }
        | K::FactorDtype { .. }
        | K::Rank { .. }
        | K::TargetWithoutTensor { .. }
        | K::TargetsUnmet { .. }
        | K::TargetDtype { .. }
        | K::Converted { .. }
        | K::InPieces { .. }
        | K::Quantized { .. }
        | K::Tied { .. }
        | K::TiedBothWays { .. }
        | K::Vocabulary { .. }
        | K::TokenTwice { .. }
        | K::ParameterCount { .. }
        | K::ParameterOrder { .. }
        | K::ExpertShape { .. }
        | K::ExpertsDisagree { .. }
        | K::Unclear { .. }
        | K::Weighted { .. }
        | K::WeightedReplacement { .. }
        | K::ReplacedDelta { .. }
        | K::NoBaseBias { .. }
        | K::ReplacementDtype { .. }
        | K::Pattern { .. }
        | K::NonFiniteFactor { .. }
        | K::NonFiniteResult { .. }
        | K::NonFiniteCodes { .. } => Code::Data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_table_has_every_code() {
        use Code::*;
        for code in [Done, Usage, Data, NoInput, Bug, Budget, Output, Io, Stopped] {
            let start = format!("{:4}  ", code as u8);
            assert!(TABLE.lines().any(|line| line.starts_with(&start)), "no line for {code:?}");
        }
    }
}
