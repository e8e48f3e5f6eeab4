//! What a merge will do, decided from headers and adapters alone and checked before anything is written.
//!
//! A [`Plan`] is plain, serialisable data with a digest. It knows no budget, thread count or absolute path; any process
//! with the same inputs makes the same one and could run a part of it.

mod apart;
mod build;
mod check;
mod digest;
mod ends;
mod explain;
mod files;
mod gathered;
mod idle;
mod layout;
mod op;
mod out_tensor;
mod outline;
mod overlap;
mod placement;
mod same;

pub use build::{Planned, Planner};
pub(crate) use explain::ClaimLine;
pub use explain::Explained;
pub use op::{Claim, ClaimId, Factor, FactorIndex, FactorRuns, Need, Op};
pub use out_tensor::{
    AdapterUse, Carried, Counts, Identity, Input, Making, OutShard, OutTensor, Plan, Role, SideFile,
};
pub use outline::{Addition, Joined, Outline, Target, Tied, Weight};
pub use placement::{Axis, Grid, Line, Placement, Run, Window};
