//! [`Label`]: the name of something of ours, a method or an encoding, in plans.

use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A name out of our own tables, or as a plan's JSON has it. A plan holds 120,000 of them, so that the rare form is boxed twice:
/// then one takes two words.
#[derive(Clone, Debug)]
#[expect(
    clippy::box_collection,
    reason = "a string takes three words, and a box of one leaves room for the form"
)]
pub enum Label {
    /// Out of a table.
    Ours(&'static str),
    /// Out of a file.
    Read(Box<String>),
}

impl Deref for Label {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Label::Ours(label) => label,
            Label::Read(label) => label,
        }
    }
}

impl PartialEq for Label {
    fn eq(&self, other: &Label) -> bool {
        **self == **other
    }
}

impl From<&'static str> for Label {
    fn from(label: &'static str) -> Label {
        Label::Ours(label)
    }
}

impl Serialize for Label {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Label, D::Error> {
        String::deserialize(deserializer).map(|label| Label::Read(Box::new(label)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_what_they_say_and_take_two_words() {
        let ours = Label::from("bf16");
        let read: Label = serde_json::from_str(r#""bf16""#).expect("a string");
        assert_eq!(ours, read);
        assert_eq!(serde_json::to_string(&read).expect("a string"), r#""bf16""#);
        assert_eq!(size_of::<Label>(), 2 * size_of::<usize>());
    }
}
