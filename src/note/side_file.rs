//! Notes of the files beside the weights.

use crate::note::declare::{first_of, verb};

notes! {
    /// A note of the files beside the weights.
    SideFileNote {
        OtherModules { files: Vec<String> } => (
            "{} {} weights of other modules; carried over as {}",
            first_of(files),
            verb(files.len(), ["holds", "hold"]),
            verb(files.len(), ["it is", "they are"])
        ),
        LeftOut { files: Vec<String>, why: String } =>
            ("{} {} not carried over: {why}", first_of(files), verb(files.len(), ["is", "are"])),
    }
}
