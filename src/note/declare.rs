//! How the notes of a room are declared: each variant with its values, and beside it the text that shows them.

/// Declares the enum of a room's notes: `Variant { value: Type } => ("text with {value}")`.
macro_rules! notes {
    (
        $(#[$meta:meta])*
        $name:ident {
            $($variant:ident { $($value:ident: $type:ty),+ $(,)? } => ($($text:tt)+)),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        #[serde(tag = "kind", rename_all = "kebab-case")]
        #[non_exhaustive]
        #[expect(missing_docs, reason = "the text of each variant says what it is, and its fields are the text's values")]
        pub enum $name {
            $($variant { $($value: $type),+ }),+
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $(Self::$variant { $($value),+ } => write!(f, $($text)+)),+
                }
            }
        }

        #[cfg(test)]
        impl $name {
            /// The names of the variants.
            pub(crate) const VARIANTS: &'static [&'static str] = &[$(stringify!($variant)),+];
        }
    };
}

/// The first of several names in backquotes, and how many more there are.
pub(crate) fn first_of(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [only] => format!("`{only}`"),
        [first, rest @ ..] => format!("`{first}` and {} more", rest.len()),
    }
}

/// The form of a verb for one or for several.
pub(crate) fn verb(count: usize, [one, several]: [&'static str; 2]) -> &'static str {
    if count == 1 { one } else { several }
}
