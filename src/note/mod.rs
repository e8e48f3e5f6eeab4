//! Everything worth reporting that is no error: an enum for each room, and here the one that holds them.
//!
//! A note is shown as text ([`Display`](std::fmt::Display)) and as JSON (its `kind` and its values) from one source, and
//! tests ask for the kind instead of the wording. It is made where something is decided; how it is shown is for `report`.
//!
//! ```
//! use shardfold::{InputNote, Note};
//!
//! let note = Note::from(InputNote::Variant { variant: "fp16".to_owned() });
//! assert!(note.to_string().starts_with("the weights are the variant `fp16`"));
//! assert_eq!(serde_json::to_value(&note)?["kind"], "variant");
//! # Ok::<(), serde_json::Error>(())
//! ```

// What follows is made with it.
#[macro_use]
mod declare;

pub(crate) mod claim;
pub(crate) mod input;
pub(crate) mod names;
pub(crate) mod plan;
pub(crate) mod printable;
pub(crate) mod run;
pub(crate) mod side_file;

use std::fmt;

use serde::Serialize;

use crate::note::claim::ClaimNote;
use crate::note::input::InputNote;
use crate::note::names::NameNote;
use crate::note::plan::PlanNote;
use crate::note::run::RunNote;
use crate::note::side_file::SideFileNote;

impl Note {
    /// Whether it is for those who look closely only.
    pub(crate) fn is_detail(&self) -> bool {
        matches!(
            self,
            Note::Run(RunNote::IoRefused { .. }) | Note::Input(InputNote::FlagsFromEnvironment { .. })
        )
    }
}

/// Makes the enum of all notes from those of the rooms.
macro_rules! rooms {
    ($($(#[$meta:meta])* $room:ident($note:ident)),+ $(,)?) => {
        /// Something to know that is no error.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(untagged)]
        #[non_exhaustive]
        pub enum Note {
            $($(#[$meta])* $room($note)),+
        }

        impl fmt::Display for Note {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Note::$room(note) => note.fmt(f)),+
                }
            }
        }

        $(impl From<$note> for Note {
            fn from(note: $note) -> Note {
                Note::$room(note)
            }
        })+

        /// The variants of all rooms.
        #[cfg(test)]
        const VARIANTS: &[&[&str]] = &[$($note::VARIANTS),+];
    };
}

rooms!(
    /// Of the base, the adapters and where they are.
    Input(InputNote),
    /// Of adapter keys and the tensors they mean.
    Names(NameNote),
    /// Of what an adapter's tensors do.
    Claim(ClaimNote),
    /// Of what all adapters come to.
    Plan(PlanNote),
    /// Of the files beside the weights.
    SideFile(SideFileNote),
    /// Of what the run measured.
    Run(RunNote),
);

#[cfg(test)]
mod tests {
    use super::*;

    // A reader of the JSON lines tells notes apart by `kind` alone.
    #[test]
    fn no_two_notes_are_of_one_kind() {
        let mut kinds: Vec<&str> = VARIANTS.concat();
        let count = kinds.len();
        kinds.sort_unstable();
        kinds.dedup();
        assert!(count > 20);
        assert_eq!(kinds.len(), count, "{kinds:?}");
    }

    #[test]
    fn json_has_the_kind_and_the_values_beside_it() {
        let note = Note::from(RunNote::DeltaLost {
            adapter: "a".to_owned(),
            count: 1,
            of: 4,
            worst: "q_proj".to_owned(),
            retained: 0.25,
        });
        let json = serde_json::to_value(&note).unwrap();
        let expected = serde_json::json!({
            "kind": "delta-lost", "adapter": "a", "count": 1, "of": 4, "worst": "q_proj", "retained": 0.25,
        });
        assert_eq!(json, expected);
    }
}
