//! The files of a tokenizer and its chat template, and whether two directories mean the same by theirs.
//!
//! A vocabulary is read as a stream: it may be larger than the memory that a merge has.

use std::fmt;
use std::io::BufReader;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::error::Result;
use crate::formats::json::parse_json_as_python;
use crate::storage::location::Location;
use crate::storage::source::Source;
use crate::storage::store::{Entry, Store};
use crate::storage::stream::SourceReader;

/// Which tokenizer goes into the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenizerChoice {
    /// An adapter's, where it has one whose vocabulary or chat template is not the base's.
    #[default]
    Auto,
    /// The base's.
    Base,
    /// The adapter's.
    Adapter,
}

/// The file that fast tokenizers are read from, vocabulary included.
const FAST: &str = "tokenizer.json";
/// Files without which there is no vocabulary.
const VOCABULARIES: &[&str] = &[
    FAST,
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
];
const CONFIG: &str = "tokenizer_config.json";
const OTHERS: &[&str] = &[CONFIG, "special_tokens_map.json", "added_tokens.json", "merges.txt"];
const TEMPLATE: &str = "chat_template.jinja";
const TEMPLATES: &[&str] = &[TEMPLATE, "chat_template.json"];
const TEMPLATE_KEY: &str = "chat_template";
const MOST_BYTES: u64 = 8 << 20;
/// A vocabulary with more bytes or tokens is not compared; the largest have 40 MB and 300,000.
const MOST_FAST_BYTES: u64 = 64 << 20;
const MOST_TOKENS: usize = 1 << 20;

/// Whether a file is a part of a tokenizer, its chat template apart.
fn is_tokenizer_file(name: &str) -> bool {
    VOCABULARIES.contains(&name) || OTHERS.contains(&name)
}

/// A tokenizer as it lies in a directory.
#[derive(Debug)]
pub(crate) struct Tokenizer {
    files: Vec<Entry>,
    vocabulary: Option<Vocabulary>,
    template: Option<Value>,
}

impl Tokenizer {
    /// The tokenizer in `dir`, if there is anything of one.
    ///
    /// # Errors
    /// As [`Location::files`] and [`Source::read_at`].
    pub(crate) fn find(dir: &Location) -> Result<Option<Tokenizer>> {
        let mut files = dir.files(&|_| true)?;
        files.retain(|file| is_tokenizer_file(&file.name) || TEMPLATES.contains(&file.name.as_str()));
        if files.is_empty() {
            return Ok(None);
        }
        let has_fast = files.iter().any(|file| file.name == FAST);
        let vocabulary = if has_fast { Vocabulary::read(dir.open(FAST)?.as_ref()) } else { None };
        Ok(Some(Tokenizer { files, vocabulary, template: template(dir)? }))
    }

    /// Its files that stand in for those of `base`: all of it if it has a vocabulary, and its template if it has one.
    pub(crate) fn files(&self) -> &[Entry] {
        &self.files
    }

    /// Whether a file of the base has no place beside this tokenizer.
    pub(crate) fn replaces(&self, name: &str) -> bool {
        let has = |name: &str| self.files.iter().any(|file| file.name == name);
        let has_vocabulary = VOCABULARIES.iter().any(|name| has(name));
        has(name)
            || has_vocabulary && is_tokenizer_file(name)
            || self.template.is_some() && TEMPLATES.contains(&name)
    }

    /// Whether it has a vocabulary and `base` has another, as far as both can be read.
    pub(crate) fn has_other_vocabulary(&self, base: Option<&Tokenizer>) -> bool {
        match (self.vocabulary, base.and_then(|base| base.vocabulary)) {
            (Some(own), Some(other)) => own != other,
            _ => false,
        }
    }

    /// Whether it has a chat template and `base` has another.
    pub(crate) fn has_other_template(&self, base: Option<&Tokenizer>) -> bool {
        self.template.is_some() && self.template != base.and_then(|base| base.template.clone())
    }

    /// Whether it has tokens for which a model of so many rows has none.
    pub(crate) fn outgrows(&self, rows: u64) -> bool {
        self.vocabulary.is_some_and(|vocabulary| vocabulary.tokens > rows)
    }
}

/// The chat template that transformers would take.
fn template(dir: &Location) -> Result<Option<Value>> {
    if let Some(bytes) = dir.read_small(TEMPLATE, MOST_BYTES)? {
        return Ok(Some(String::from_utf8_lossy(&bytes).into_owned().into()));
    }
    for name in [TEMPLATES[1], CONFIG] {
        let bytes = dir.read_small(name, MOST_BYTES)?;
        let fields = bytes.and_then(|bytes| parse_json_as_python(&bytes).ok());
        let found = fields.and_then(|fields| fields.get(TEMPLATE_KEY).cloned());
        if let Some(found) = found.filter(|found| !found.is_null()) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// What tells one vocabulary from another: a sum over its tokens with their numbers, whatever their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Vocabulary {
    sum: u128,
    /// One more than the greatest number of a token.
    tokens: u64,
}

impl Vocabulary {
    /// The vocabulary of a `tokenizer.json`; none of one that is not understood.
    fn read(source: &dyn Source) -> Option<Vocabulary> {
        if source.len() > MOST_FAST_BYTES {
            return None;
        }
        let reader = BufReader::with_capacity(1 << 16, SourceReader::new(source));
        let Parts { mut model, added } = serde_json::from_reader(reader).ok()?;
        // Added tokens may stand in the vocabulary as well, with the same number.
        let mut seen: Vec<(u64, String)> = added.into_iter().map(|token| (token.id, token.content)).collect();
        seen.sort_unstable();
        seen.dedup();
        for (id, content) in seen {
            model.vocab.added.add(&content, id);
        }
        let (listed, added) = (model.vocab.listed, model.vocab.added);
        let tokens = listed.tokens.max(added.tokens);
        // Both sums count, so that a token that moves from one list to the other is another vocabulary at worst.
        Some(Vocabulary { sum: listed.sum.rotate_left(1) ^ added.sum, tokens })
    }

    fn add(&mut self, token: &str, id: u64) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&id.to_le_bytes()).update(token.as_bytes());
        let mut first = [0; 16];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        self.sum = self.sum.wrapping_add(u128::from_le_bytes(first));
        self.tokens = self.tokens.max(id.saturating_add(1));
    }
}

#[derive(Deserialize)]
struct Parts {
    model: Model,
    #[serde(default, rename = "added_tokens")]
    added: Vec<AddedToken>,
}

#[derive(Deserialize)]
struct Model {
    vocab: Tokens,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u64,
    content: String,
}

#[derive(Default)]
struct Tokens {
    listed: Vocabulary,
    added: Vocabulary,
}

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Tokens, D::Error> {
        deserializer.deserialize_any(TokensVisitor)
    }
}

struct TokensVisitor;

impl<'de> Visitor<'de> for TokensVisitor {
    type Value = Tokens;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tokens with their numbers, or in their order")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Tokens, A::Error> {
        let mut tokens = Tokens::default();
        let mut count = 0;
        while let Some((token, id)) = map.next_entry::<String, u64>()? {
            counted(&mut count)?;
            tokens.listed.add(&token, id);
        }
        Ok(tokens)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Tokens, A::Error> {
        let (mut tokens, mut count) = (Tokens::default(), 0);
        while let Some((token, _)) = seq.next_element::<(String, IgnoredAny)>()? {
            tokens.listed.add(&token, count as u64);
            counted(&mut count)?;
        }
        Ok(tokens)
    }
}

/// Counts one more token.
fn counted<E: serde::de::Error>(count: &mut usize) -> std::result::Result<(), E> {
    *count += 1;
    if *count > MOST_TOKENS { Err(E::custom("more tokens than a vocabulary has")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::files::write_small;
    use crate::storage::memory::Memory;

    fn tokenizer(files: &[(&str, &str)]) -> Option<Tokenizer> {
        let dir = Location::new(Memory::new()).join("dir");
        for (name, text) in files.iter().chain(&[("other", "")]) {
            write_small(&dir, name, text.as_bytes()).unwrap();
        }
        Tokenizer::find(&dir).unwrap()
    }

    #[test]
    fn vocabularies_and_templates_are_compared_by_what_they_say() {
        let one = r#"{"version": "1", "added_tokens": [{"id": 2, "content": "<s>", "special": true}], "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]}}"#;
        let same = r#"{"model": {"vocab": {"b": 1, "a": 0}}, "added_tokens": [{"content": "<s>", "id": 2}]}"#;
        let grown = r#"{"model": {"vocab": {"b": 1, "a": 0}}, "added_tokens": [{"content": "<s>", "id": 2}, {"id": 3, "content": "x"}]}"#;
        let base = tokenizer(&[(FAST, one), (CONFIG, r#"{"chat_template": "t"}"#)]);
        let differs = |files: &[(&str, &str)]| {
            let own = tokenizer(files).unwrap();
            (own.has_other_vocabulary(base.as_ref()), own.has_other_template(base.as_ref()))
        };
        assert_eq!(differs(&[(FAST, same), (TEMPLATE, "t")]), (false, false));
        assert_eq!(differs(&[(FAST, grown)]), (true, false));
        assert_eq!(differs(&[(FAST, same), (CONFIG, r#"{"chat_template": "u"}"#)]), (false, true));
        assert_eq!(differs(&[(FAST, "not JSON")]), (false, false));
        assert!(tokenizer(&[]).is_none());
        let own = tokenizer(&[(FAST, grown)]).unwrap();
        assert!(own.outgrows(3) && !own.outgrows(4));
        // A list of pairs is in the order of the numbers.
        let listed = r#"{"model": {"vocab": [["a", -1.5], ["b", -2]]}, "added_tokens": [{"id": 2, "content": "<s>"}]}"#;
        assert_eq!(differs(&[(FAST, listed)]), (false, false));
    }

    #[test]
    fn a_vocabulary_takes_the_place_of_all_and_a_template_of_templates() {
        let whole = tokenizer(&[(FAST, "{}")]).unwrap();
        assert!(whole.replaces("vocab.json") && whole.replaces(CONFIG) && !whole.replaces(TEMPLATE));
        let template = tokenizer(&[(TEMPLATE, "t")]).unwrap();
        assert!(
            template.replaces("chat_template.json") && !template.replaces(CONFIG) && !template.replaces(FAST)
        );
    }
}
