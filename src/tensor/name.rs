//! [`Name`]: a name as a part of a text that many names share.
//!
//! A checkpoint may have 60,000 tensors and an adapter twice as many, of which catalogue, claims and plan each keep the names. In
//! blocks of their own these took half as much again, and a module's path is a part of its tensors' names.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A name. Clones, and parts of it, share its text.
#[derive(Clone)]
pub struct Name {
    text: Arc<Box<str>>,
    start: u32,
    end: u32,
}

impl Name {
    /// `part` as a part of this name, if it is one; else by itself.
    pub(crate) fn part(&self, part: &str) -> Name {
        let at_end = self.ends_with(part).then(|| self.len() - part.len());
        let at_start = || self.starts_with(part).then_some(0);
        match at_end.or_else(at_start).or_else(|| self.find(part)) {
            Some(at) => {
                let start = self.start + at as u32;
                Name { text: self.text.clone(), start, end: start + part.len() as u32 }
            }
            None => part.into(),
        }
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text[self.start as usize..self.end as usize]
    }
}

impl From<String> for Name {
    fn from(name: String) -> Name {
        let end = u32::try_from(name.len()).expect("headers, which names are from, are shorter than 4 GiB");
        Name { text: Arc::new(name.into_boxed_str()), start: 0, end }
    }
}

impl From<&str> for Name {
    fn from(name: &str) -> Name {
        name.to_owned().into()
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        **self == **other
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        String::deserialize(deserializer).map(Name::from)
    }
}

/// Names that come one after the other, to share one text.
#[derive(Debug, Default)]
pub(crate) struct NameList {
    text: String,
    ends: Vec<u32>,
}

impl NameList {
    /// Adds one. All together they are shorter than 4 GiB.
    pub(crate) fn push(&mut self, name: &str) {
        self.text.push_str(name);
        self.ends.push(u32::try_from(self.text.len()).expect("a header is shorter than 4 GiB"));
    }

    /// The names, in the order in which they came.
    pub(crate) fn names(self) -> impl Iterator<Item = Name> {
        let text = Arc::new(self.text.into_boxed_str());
        let mut start = 0;
        self.ends.into_iter().map(move |end| {
            let name = Name { text: text.clone(), start, end };
            start = end;
            name
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_list_and_their_parts_share_a_text() {
        let mut list = NameList::default();
        ["layers.0.up.lora_A", "", "é"].into_iter().for_each(|name| list.push(name));
        let names: Vec<Name> = list.names().collect();
        assert_eq!(names, ["layers.0.up.lora_A".into(), "".into(), Name::from("é")]);
        let module = names[0].part("layers.0.up");
        assert!(*module == *"layers.0.up" && Arc::ptr_eq(&module.text, &names[2].text));
        let other = names[0].part("layers.1.up");
        assert!(*other == *"layers.1.up" && !Arc::ptr_eq(&other.text, &names[0].text));
        assert_eq!(serde_json::to_string(&module).expect("a string"), r#""layers.0.up""#);
    }
}
