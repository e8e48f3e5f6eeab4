//! How an adapter's paths are read where they are not simply names on disk: a note tells of it, and two ways that mean
//! different tensors are refused.

use std::fmt;

use serde::Serialize;

/// How an adapter's paths are read: how they are changed, and in which names they are looked up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PathReading {
    /// How they are changed.
    pub change: PathChange,
    /// The library and its version whose names are meant, as `transformers 5`; none for those on disk.
    pub library: Option<&'static str>,
    /// The class whose names they are, or what stands for it.
    pub class: Option<String>,
}

/// How an adapter's paths are changed before they are looked up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PathChange {
    /// Not at all.
    None,
    /// A path is put in front.
    Prepended {
        /// The path.
        prefix: String,
    },
    /// A path in front is taken away.
    Dropped {
        /// The path.
        prefix: String,
    },
    /// They are names of an older version of the library.
    Older,
    /// Segments are written for others.
    Written {
        /// What is written, and for what.
        pairs: Vec<(String, String)>,
    },
    /// What stands in front is inferred from names that end alike.
    Inferred {
        /// What is put in front, and of what.
        prefixes: Vec<(String, String)>,
    },
}

/// The end of "resolved …", as in `by dropping "model.", against the names on disk`.
impl fmt::Display for PathReading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.change {
            PathChange::None => {}
            PathChange::Prepended { prefix } => write!(f, "by prepending `{prefix}`, ")?,
            PathChange::Dropped { prefix } => write!(f, "by dropping `{prefix}`, ")?,
            PathChange::Older => f.write_str("as older names, ")?,
            PathChange::Written { pairs } => write!(f, "by writing {}, ", each(pairs, "for", " and "))?,
            PathChange::Inferred { prefixes } => {
                let each = each(prefixes, "before", ", ");
                return write!(f, "by writing {each}, inferred from names that end alike");
            }
        }
        match (self.library, &self.class) {
            (Some(library), Some(class)) => write!(f, "against the {library} names for {class}"),
            _ => f.write_str("against the names on disk"),
        }
    }
}

/// Pairs of names with a word between the two.
fn each(pairs: &[(String, String)], word: &str, separator: &str) -> String {
    let shown = pairs.iter().map(|(first, second)| format!("`{first}` {word} `{second}`"));
    shown.collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_shown_with_its_names() {
        let pair = |first: &str, second: &str| (first.to_owned(), second.to_owned());
        let prefix = || "model.".to_owned();
        let pairs = vec![pair("self_attn", "attn"), pair("lm_head", "model.lm_head")];
        let prefixes = vec![pair("net.", "blocks"), pair("", "out")];
        for (change, text) in [
            (PathChange::None, "against the transformers 5 names for A"),
            (
                PathChange::Prepended { prefix: prefix() },
                "by prepending `model.`, against the transformers 5",
            ),
            (PathChange::Dropped { prefix: prefix() }, "by dropping `model.`, against the transformers 5"),
            (PathChange::Older, "as older names, against the transformers 5 names for A"),
            (
                PathChange::Written { pairs },
                "by writing `self_attn` for `attn` and `lm_head` for `model.lm_head`, aga",
            ),
            (
                PathChange::Inferred { prefixes },
                "by writing `net.` before `blocks`, `` before `out`, inferred from names that end alike",
            ),
        ] {
            let reading =
                PathReading { change, library: Some("transformers 5"), class: Some("A".to_owned()) };
            assert!(reading.to_string().starts_with(text), "{reading}");
        }
        let on_disk = PathReading { change: PathChange::Older, library: None, class: None };
        assert_eq!(on_disk.to_string(), "as older names, against the names on disk");
    }
}
