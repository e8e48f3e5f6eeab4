//! Every way to fail: an enum for each room, and here the one that holds them.

use std::mem::discriminant;

use crate::error::adapter::AdapterError;
use crate::error::checkpoint::CheckpointError;
use crate::error::claim::ClaimError;
use crate::error::output::OutputError;
use crate::error::parts::PartsError;
use crate::error::plan::PlanError;
use crate::error::request::RequestError;
use crate::error::run::RunError;
use crate::error::storage::StorageError;
use crate::error::verify::VerifyError;

/// What went wrong. Messages are lower-case fragments that name what, where, expected and found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Several errors, reported together.
    #[error("{count} errors")]
    Several {
        /// How many.
        count: usize,
    },
    /// Files and stores: what is missing, cannot be read or cannot be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Checkpoints: headers, indices, names of weight files.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Adapters as their trainer saved them: format, config, values.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// Adapter tensors that cannot become ops.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// Claims that cannot become one output.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// What only the data of a run shows, and bugs.
    #[error(transparent)]
    Run(#[from] RunError),
    /// OUTPUT and what is there already.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A merge that is made in parts.
    #[error(transparent)]
    Parts(#[from] PartsError),
    /// What was asked for: flags and the memory budget.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A directory that was verified.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Work stopped because it was cancelled.
    #[error("interrupted")]
    Stopped,
}

impl ErrorKind {
    /// Whether two errors differ only in their values.
    pub(crate) fn is_like(&self, other: &ErrorKind) -> bool {
        match (self, other) {
            (Self::Storage(one), Self::Storage(other)) => discriminant(one) == discriminant(other),
            (Self::Checkpoint(one), Self::Checkpoint(other)) => discriminant(one) == discriminant(other),
            (Self::Adapter(one), Self::Adapter(other)) => discriminant(one) == discriminant(other),
            (Self::Claim(one), Self::Claim(other)) => discriminant(one) == discriminant(other),
            (Self::Plan(one), Self::Plan(other)) => discriminant(one) == discriminant(other),
            (Self::Run(one), Self::Run(other)) => discriminant(one) == discriminant(other),
            (Self::Output(one), Self::Output(other)) => discriminant(one) == discriminant(other),
            (Self::Parts(one), Self::Parts(other)) => discriminant(one) == discriminant(other),
            (Self::Request(one), Self::Request(other)) => discriminant(one) == discriminant(other),
            (Self::Verify(one), Self::Verify(other)) => discriminant(one) == discriminant(other),
            _ => discriminant(self) == discriminant(other),
        }
    }
}
