//! One format that adapters come in: a file of its own, and a row in [`DIALECTS`](crate::adapters::open::DIALECTS).
//!
//! A dialect says by content whether something is its own, and reads it into an [`Adapter`]: it brings each key to a path of
//! the one grammar of [`parts`](crate::adapters::parts), its fields to [`Options`](crate::adapters::options::Options), and
//! what it sees of the producer to evidence. Nothing behind it knows which dialect it was.

use crate::checkpoint::header_room::HeaderRoom;
use crate::error::Result;
use crate::hub::resolved::Resolved;
use crate::storage::location::Location;
use crate::tensor::reference::FileId;

use crate::adapters::adapter::Adapter;
use crate::adapters::adapter_weight::AdapterWeight;

/// How sure a dialect is that something is an adapter of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detection {
    /// It is not.
    No,
    /// It looks like one, or holds one; what is wrong with it is for the dialect to say.
    Likely,
    /// It is, whatever else lies there.
    Certain,
}

/// How an adapter is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening<'b> {
    /// What its deltas are multiplied by.
    pub weight: &'b AdapterWeight,
    /// The file that its tensors are said to lie in.
    pub file: FileId,
    /// The room of its headers.
    pub room: &'b HeaderRoom<'b>,
}

/// The base that an adapter was trained on, as it says.
pub(crate) struct TrainedOn {
    /// The adapter's name.
    pub adapter: String,
    /// A path or a name.
    pub base: Option<String>,
    /// Its revision.
    pub revision: Option<String>,
}

/// One format of adapters.
pub(crate) trait Dialect: Sync {
    /// Whose format it is.
    fn name(&self) -> &'static str;

    /// Whether what `dir` holds is of this format, by its content.
    ///
    /// # Errors
    /// A directory that cannot be read.
    fn detect(&self, dir: &Location) -> Result<Detection>;

    /// Whether a file of that name is one that its directories hold.
    fn has(&self, file: &str) -> bool;

    /// Reads the adapter in `place` as far as headers go.
    ///
    /// # Errors
    /// Whatever keeps it from being read.
    fn open(&self, place: &Resolved, opening: Opening<'_>) -> Result<Adapter>;

    /// The base that the adapter in `place` names, without reading its tensors.
    ///
    /// # Errors
    /// As [`open`](Self::open), as far as that goes.
    fn trained_on(&self, place: &Resolved) -> Result<TrainedOn>;
}
