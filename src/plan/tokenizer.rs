//! Whose tokenizer goes into the result: with a grown vocabulary or another chat template the base's is wrong.

use crate::adapters::adapter::Adapter;
use crate::checkpoint::tokenizer::{Tokenizer, TokenizerChoice};
use crate::error::Result;
use crate::error::request::RequestError;
use crate::model::heads::is_embedding;
use crate::model::outline::Outline;
use crate::note::Note;
use crate::note::side_file::SideFileNote;
use crate::plan::config_file::vocabulary;
use crate::plan::out_tensor::{CopiedFile, Role};

/// Puts the tokenizer that is chosen in place of the base's among the files that are copied.
///
/// # Errors
/// [`RequestError::Usage`] where an adapter's was asked for and none has one; as [`Tokenizer::find`].
pub(crate) fn choose(
    choice: TokenizerChoice,
    outline: &Outline<'_>,
    adapters: &[Adapter],
    copied: &mut Vec<CopiedFile>,
    notes: &mut Vec<Note>,
) -> Result<()> {
    if choice == TokenizerChoice::Base {
        return Ok(());
    }
    let base = Tokenizer::find(&outline.base.location)?;
    let mut chosen = None;
    for (i, adapter) in adapters.iter().enumerate() {
        let Some(own) = Tokenizer::find(&adapter.location)? else { continue };
        let why = if choice == TokenizerChoice::Adapter {
            Some("as `--tokenizer` says")
        } else {
            why_other(&own, base.as_ref(), outline)
        };
        let outgrown = rows(outline).filter(|rows| own.outgrows(*rows));
        match (why, outgrown) {
            (Some(_), Some(rows)) if choice == TokenizerChoice::Auto => {
                notes.push(SideFileNote::TokenizerOutgrows { adapter: adapter.name.clone(), rows }.into());
            }
            (Some(why), _) => chosen = Some((i, own, why)),
            (None, _) => {}
        }
    }
    let Some((i, own, why)) = chosen else {
        if choice == TokenizerChoice::Adapter {
            let accepted = "no adapter has a tokenizer; `base` and `auto` are accepted";
            let (flag, value) = ("--tokenizer", "adapter");
            return Err(RequestError::Usage { flag, value: value.to_owned(), accepted }.into());
        }
        return Ok(());
    };
    copied.retain(|file| !own.replaces(&file.name));
    let beside = Role::Adapter(i as u32);
    copied.extend(own.files().iter().map(|file| CopiedFile {
        name: file.name.clone(),
        bytes: file.bytes,
        beside,
    }));
    notes.push(
        SideFileNote::AdapterTokenizer { adapter: adapters[i].name.clone(), why: why.to_owned() }.into(),
    );
    Ok(())
}

/// Why an adapter's tokenizer is right and the base's is not, if that is so.
fn why_other(own: &Tokenizer, base: Option<&Tokenizer>, outline: &Outline<'_>) -> Option<&'static str> {
    if vocabulary(outline).is_some() {
        return Some("the vocabulary has another size");
    }
    if own.has_other_vocabulary(base) {
        return Some("its vocabulary is not the base's");
    }
    own.has_other_template(base).then_some("its chat template is not the base's")
}

/// Rows of the embedding in the result.
fn rows(outline: &Outline<'_>) -> Option<u64> {
    if let Some((_, rows)) = vocabulary(outline) {
        return Some(rows);
    }
    let mut tensors = outline.base.catalogue.tensors.iter();
    let embedding = tensors.find(|tensor| is_embedding(&tensor.name))?;
    embedding.tensor.shape.axes().first().copied()
}
