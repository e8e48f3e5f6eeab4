//! Exit codes: the one table, which `--help` and the README repeat.
//!
//! ```
//! use shardfold::Code;
//!
//! assert_eq!(Code::Budget as u8, 71);
//! ```

use crate::error::kind::ErrorKind;
use crate::error::parts::PartsError;
use crate::error::request::RequestError;
use crate::error::run::RunError;
use crate::error::storage::StorageError;
use crate::error::verify::VerifyError;

/// How a process of shardfold ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Done, or already done.
    Done = 0,
    /// Misuse of the command line.
    Usage = 2,
    /// Bad input data, so that OUTPUT was not created; or `verify` found something.
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
    /// Interrupted by a signal; the same command goes on.
    Stopped = 75,
}

/// The table as `--help` prints it.
pub const TABLE: &str = "\
Exit codes:
   0  done, or already done
   2  misuse of the command line
  65  bad input data (OUTPUT was not created), or findings of `verify`, `diff --exit-code`
  66  input missing
  70  a bug in shardfold
  71  the memory budget cannot be met
  73  OUTPUT cannot be created, or already exists and is not the result of this merge
  74  I/O error or disk full
  75  interrupted by a signal, run the same command again (it goes on where it stopped)";

/// The code of one kind of error. Every kind is named, or its whole room, so that a new one cannot get a code by accident.
pub(crate) fn code_of(kind: &ErrorKind) -> Code {
    match kind {
        ErrorKind::Request(error) => of_request(error),
        ErrorKind::Storage(error) => of_storage(error),
        ErrorKind::Run(error) => of_run(error),
        ErrorKind::Output(_) => Code::Output,
        ErrorKind::Parts(error) => of_parts(error),
        ErrorKind::Verify(error) => of_verify(error),
        ErrorKind::Checkpoint(_) | ErrorKind::Adapter(_) | ErrorKind::Claim(_) | ErrorKind::Plan(_) => {
            Code::Data
        }
        ErrorKind::Stopped => Code::Stopped,
        // Several errors end as their first does, which `Error` looks up.
        ErrorKind::Several { .. } => Code::Bug,
    }
}

fn of_request(error: &RequestError) -> Code {
    match error {
        RequestError::WeightOfNothing { .. }
        | RequestError::Usage { .. }
        | RequestError::OutOfRange { .. }
        | RequestError::MatchesAll { .. }
        | RequestError::Required { .. }
        | RequestError::NoBase { .. }
        | RequestError::BaseNotCached { .. }
        | RequestError::Arguments { .. }
        | RequestError::OtherAdapters { .. }
        | RequestError::NothingToConvert { .. }
        | RequestError::UnknownTensor { .. }
        | RequestError::NoSuchBytes { .. }
        | RequestError::Endpoint { .. }
        | RequestError::Token { .. } => Code::Usage,
        RequestError::UnknownModel { .. }
        | RequestError::UnknownRevision { .. }
        | RequestError::NoRepo { .. }
        | RequestError::NoAccess { .. }
        | RequestError::NoRevision { .. } => Code::NoInput,
        RequestError::HubUnreachable { .. }
        | RequestError::CacheFull { .. }
        | RequestError::WrongBytes { .. }
        | RequestError::NoHash { .. } => Code::Io,
        RequestError::Budget { .. } => Code::Budget,
    }
}

fn of_storage(error: &StorageError) -> Code {
    match error {
        StorageError::Missing { .. } | StorageError::BrokenLink { .. } => Code::NoInput,
        StorageError::LeadsOut { .. } | StorageError::TooLong { .. } => Code::Data,
        StorageError::Unreadable { .. }
        | StorageError::Read { .. }
        | StorageError::Truncated { .. }
        | StorageError::Changed { .. }
        | StorageError::Write { .. }
        | StorageError::DiskFull { .. } => Code::Io,
    }
}

fn of_parts(error: &PartsError) -> Code {
    match error {
        PartsError::OtherCount { .. }
        | PartsError::InParts { .. }
        | PartsError::NotInParts { .. }
        | PartsError::NoRenames { .. }
        | PartsError::Unfinished { .. } => Code::Output,
        PartsError::OtherAdapters { .. } => Code::Usage,
        PartsError::NoParts { .. } | PartsError::Missing { .. } => Code::NoInput,
        PartsError::OtherPlan { .. } | PartsError::Damaged { .. } | PartsError::Torn { .. } => Code::Data,
    }
}

fn of_run(error: &RunError) -> Code {
    match error {
        RunError::NoThread { .. } => Code::Io,
        RunError::NonFiniteResult { .. }
        | RunError::NonFiniteCodes { .. }
        | RunError::BeyondScale { .. }
        | RunError::LostInCodes { .. }
        | RunError::OtherResult { .. } => Code::Data,
        RunError::Panicked { .. } | RunError::Unapplied { .. } | RunError::Unfilled { .. } => Code::Bug,
    }
}

fn of_verify(error: &VerifyError) -> Code {
    match error {
        VerifyError::NoRecord { .. } => Code::NoInput,
        VerifyError::Interrupted { .. } => Code::Stopped,
        VerifyError::UnreadableRecord { .. }
        | VerifyError::OtherAdapter { .. }
        | VerifyError::OtherFlags { .. }
        | VerifyError::UndoDamaged { .. }
        | VerifyError::UndoOfOther { .. }
        | VerifyError::NotTheBase { .. }
        | VerifyError::OtherMerge { .. }
        | VerifyError::Findings { .. }
        | VerifyError::Differs { .. } => Code::Data,
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
