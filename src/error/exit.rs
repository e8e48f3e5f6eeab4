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
    /// OUTPUT cannot be created or holds something else.
    Output = 73,
    /// I/O error or disk full.
    Io = 74,
    /// Stopped by a signal; run the same command again to go on.
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
  73  OUTPUT cannot be created or holds something else
  74  I/O error or disk full
  75  stopped by a signal, run the same command again to go on";

/// The code of one kind of error.
pub(crate) fn code_of(kind: &ErrorKind) -> Code {
    use ErrorKind as K;
    match kind {
        K::Several { errors } => errors.first().map_or(Code::Bug, |first| code_of(first.kind())),
        K::Usage { .. } => Code::Usage,
        K::Missing { .. } => Code::NoInput,
        K::Panicked { .. } | K::Unapplied { .. } => Code::Bug,
        K::Budget { .. } => Code::Budget,
        K::OutputHolds { .. }
        | K::OutputInUse { .. }
        | K::OutputDamaged { .. }
        | K::OutputUnwritable { .. } => Code::Output,
        K::Read { .. } | K::Truncated { .. } | K::Write { .. } | K::DiskFull { .. } => Code::Io,
        K::Stopped => Code::Stopped,
        _ => Code::Data,
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
