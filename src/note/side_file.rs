//! Notes of the files beside the weights.

use crate::note::declare::{first_of, verb};

notes! {
    /// A note of the files beside the weights.
    SideFileNote {
        OtherModules { files: Vec<String> } => (
            "{} {} weights of other modules; copied as {}",
            first_of(files),
            verb(files.len(), ["holds", "hold"]),
            verb(files.len(), ["it is", "they are"])
        ),
        AdapterTokenizer { adapter: String, why: String } =>
            ("the tokenizer is that of `{adapter}`: {why}"),
        TokenizerOutgrows { adapter: String, rows: u64 } => (
            "the tokenizer of `{adapter}` has tokens beyond the {rows} rows of the embedding: the base's is taken \
             (`--tokenizer adapter` takes the other)"
        ),
        LinksLeftOut { files: Vec<String> } => (
            "{} {} not copied: {} out of the directory (`--follow-links` copies what links lead to)",
            first_of(files),
            verb(files.len(), ["is", "are"]),
            verb(files.len(), ["a link leads", "links lead"])
        ),
        LeftOut { files: Vec<String>, why: String } =>
            ("{} {} not copied: {why}", first_of(files), verb(files.len(), ["is", "are"])),
    }
}
