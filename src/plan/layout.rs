//! The output's shards: the base's, and for every tensor what makes it. A shard in which no tensor changed its name, type
//! or shape keeps its header's bytes.

use std::collections::BTreeMap;

use crate::checkpoint::catalogue::{BaseShard, BaseTensor, FileLayout};
use crate::checkpoint::llama_cpp::stored_name;
use crate::checkpoint::quantized::{QuantizedWeight, TensorRole};
use crate::encodings;
use crate::encodings::logical::Logical;
use crate::error::claim::ClaimError;
use crate::error::quantized::QuantizedProblem;
use crate::error::{Error, Result};
use crate::tensor::dtype::Dtype;
use crate::tensor::name::Name;
use crate::tensor::reference::{FileId, TensorRef};

use crate::model::outline::{Outline, Target};
use crate::plan::original::Originals;
use crate::plan::out_content::{TensorEdits, copied, merge, out, plain, refuse_other_views};
use crate::plan::out_form::{OutForm, ShardCut};
use crate::plan::out_tensor::{Content, OutHeader, OutShard, OutTensor};
use crate::plan::shard_file::{listed, new_header, placed};
use crate::plan::split::{is_changed, resplit};
use crate::plan::template::LikeTemplate;

/// All that decides how the output lies.
pub(crate) struct OutputLayout<'l> {
    /// The output's tensors.
    pub(crate) outline: &'l Outline<'l>,
    /// What is done to them.
    pub(crate) edits: BTreeMap<Target, TensorEdits>,
    /// Whether encoded weights stay encoded.
    pub(crate) keep_quantized: bool,
    /// What those that are encoded again start from, where that is not the base.
    pub(crate) originals: Option<Originals<'l>>,
    /// Whether all their scales are made anew.
    pub(crate) fresh_scales: bool,
    /// What flags ask of types and shards.
    pub(crate) form: OutForm,
}

impl<'l> OutputLayout<'l> {
    /// How tensors are made of a result that starts from the originals wholly.
    fn like_template(&self) -> Option<LikeTemplate<'l>> {
        let (originals, types) = self.originals.zip(self.form.types)?;
        Some(LikeTemplate { outline: self.outline, originals, types })
    }
}

impl OutputLayout<'_> {
    /// The output's shards in order; those that would be empty are left out.
    ///
    /// # Errors
    /// [`ClaimError::Quantized`] for what cannot be encoded again.
    pub(crate) fn shards(mut self) -> Result<Vec<OutShard>> {
        let base = &self.outline.base.catalogue;
        let (mut shards, mut errors) = (Vec::new(), Vec::new());
        // What headers say of quantized data goes with it.
        let gone = if self.keep_quantized { Vec::new() } else { self.outline.weights.header_keys() };
        let mut first = 0;
        for (i, beside) in base.shards.iter().enumerate() {
            let file = FileId(i as u32);
            let rest = &base.tensors[first..];
            let own = &rest[..rest.iter().take_while(|tensor| tensor.tensor.file == file).count()];
            let tensors = self.tensors(file, (first, own), &mut errors);
            first += own.len();
            if !tensors.is_empty() || own.is_empty() {
                let stored = (first - own.len()..first).map(|place| base.stored_name(place));
                match shard((file, beside), own.iter().zip(stored), tensors, &gone) {
                    Ok(shard) => shards.push(self.named(shard)),
                    Err(error) => errors.push(error),
                }
            }
        }
        Error::all(errors)?;
        match self.form.cut {
            ShardCut::AsBase => Ok(shards),
            ShardCut::Anew(limit) => resplit(self.outline, shards, (limit, &|_| true), &gone),
            ShardCut::ChangedOnly(limit) => {
                let is_written = |tensor: &OutTensor| is_changed(base, tensor);
                resplit(self.outline, shards, (limit, &is_written), &gone)
            }
        }
    }

    fn named(&self, shard: OutShard) -> OutShard {
        match self.like_template() {
            Some(like) => like.named(shard),
            None => shard,
        }
    }

    /// The output tensors of one shard: those of the base's, the place of the first of which is given, and what is new
    /// beside them.
    fn tensors(
        &mut self,
        file: FileId,
        (first, own): (usize, &[BaseTensor]),
        errors: &mut Vec<Error>,
    ) -> Vec<OutTensor> {
        let mut tensors = Vec::with_capacity(own.len());
        for (i, tensor) in own.iter().enumerate() {
            match self.out_tensor(first + i, tensor) {
                Ok(out) => tensors.extend(out),
                Err(error) => errors.push(error),
            }
        }
        let outline = self.outline;
        for (i, addition) in outline.additions.iter().enumerate() {
            if outline.base.catalogue.tensors[addition.beside].tensor.file == file {
                match self.addition(i) {
                    Ok(out) => tensors.push(out),
                    Err(error) => errors.push(error),
                }
            }
        }
        // There may be 92,000 in all, and a plan holds them to its end.
        tensors.shrink_to_fit();
        tensors
    }

    /// The output tensor of a base tensor; none if it is not in the output.
    fn out_tensor(&mut self, i: usize, base: &BaseTensor) -> Result<Option<OutTensor>> {
        // Several parts of a weight are made by the same ops; of all others there is only one tensor.
        let nothing = TensorEdits::default();
        let stored = self.outline.base.catalogue.stored_name(i);
        let is_touched = self.edits.contains_key(&Target::Base(i));
        if let Some(like) = self.like_template() {
            let edits = self.edits.remove(&Target::Base(i)).unwrap_or_default();
            return like.tensor(i, base, edits).map(Some);
        }
        let mut taken = || self.edits.remove(&Target::Base(i)).unwrap_or_default();
        match (self.outline.weights.get(i), self.keep_quantized) {
            (None, _) => {
                let shape = self.outline.weight(Target::Base(i)).shape;
                let dtype = self.form.cast.of(base.tensor.dtype);
                Ok(Some(plain(stored, dtype, shape, Some(&base.tensor), taken())))
            }
            (Some(TensorRole::Quantized(quantized)), false) if quantized.stands_alone() && !is_touched => {
                Ok(Some(copied((stored, &base.tensor))))
            }
            (Some(TensorRole::Quantized(QuantizedWeight { name, logical, written_as, .. })), false) => {
                let name = name.as_ref().unwrap_or(stored);
                let dtype = self.form.cast.of(written_as.unwrap_or_else(|| self.outline.float_dtype()));
                decoded(name, dtype, logical, taken()).map(Some)
            }
            (Some(_), false) => Ok(None),
            (Some(TensorRole::Quantized(quantized)), true) => {
                let edits = self.edits.get(&Target::Base(i)).unwrap_or(&nothing);
                self.encoded((stored, &base.tensor), quantized, (i, 0), edits).map(Some)
            }
            (Some(&TensorRole::Auxiliary { of, part }), true) => {
                let Some(TensorRole::Quantized(quantized)) = self.outline.weights.get(of) else {
                    unreachable!("an auxiliary tensor belongs to quantized data")
                };
                let edits = self.edits.get(&Target::Base(of)).unwrap_or(&nothing);
                self.encoded((stored, &base.tensor), quantized, (of, part), edits).map(Some)
            }
            (Some(TensorRole::Unused), true) => Ok(Some(copied((stored, &base.tensor)))),
        }
    }

    /// A tensor that the base has not.
    fn addition(&mut self, i: usize) -> Result<OutTensor> {
        let addition = &self.outline.additions[i];
        let shape = self.outline.weight(Target::New(i)).shape;
        let from = addition.copy_of.map(|from| &self.outline.base.catalogue.tensors[from].tensor);
        let edits = self.edits.remove(&Target::New(i)).unwrap_or_default();
        let catalogue = &self.outline.base.catalogue;
        let is_llama_cpp = catalogue.layout() == FileLayout::LlamaCpp;
        let stored = is_llama_cpp.then(|| stored_name(&addition.name)).flatten();
        let name = stored.map_or_else(|| addition.name.clone(), Name::from);
        match addition.copy_of.zip(self.like_template()) {
            Some((from, like)) => like.weight(from, &name, edits),
            None => Ok(plain(&name, self.form.cast.of(addition.dtype), shape, from, edits)),
        }
    }
}

/// An encoded weight that is written as plain numbers.
pub(crate) fn decoded(name: &Name, dtype: Dtype, logical: &Logical, edits: TensorEdits) -> Result<OutTensor> {
    let (start, claim) = match edits.replaced.as_deref() {
        Some((value, claim)) => {
            (Logical::plain(value).expect("claims of other dtypes are refused"), Some(*claim))
        }
        None => (logical.clone(), None),
    };
    let shape = start.shape().clone();
    let content = merge(start, claim, edits.ops);
    refuse_other_views(name, &content)?;
    Ok(out(name, dtype, shape, encodings::plain(dtype), 0, content))
}

impl OutputLayout<'_> {
    /// One part of an encoded weight that stays encoded. `of` is the place of its data, and which part.
    fn encoded(
        &self,
        base: (&Name, &TensorRef),
        quantized: &QuantizedWeight,
        of: (usize, usize),
        edits: &TensorEdits,
    ) -> Result<OutTensor> {
        let ((name, tensor), (place, part), logical) = (base, of, &quantized.logical);
        if edits.is_nothing() {
            return Ok(copied(base));
        }
        let refused = |why| {
            let kind = ClaimError::Quantized { tensor: name.to_string(), why };
            Error::new(kind).hint("without `--keep-quantized` the result is written in 16 bit")
        };
        if edits.replaced.is_some() {
            return Err(refused(QuantizedProblem::Replaced));
        }
        let encoding = encodings::find(logical.encoding()).expect("the table made it");
        if let Some(why) = encoding.decode_only(logical) {
            return Err(refused(QuantizedProblem::OfScheme(why)));
        }
        if let Some(why) = encoding.keeps_scales(logical).filter(|_| self.fresh_scales) {
            return Err(refused(QuantizedProblem::OfScheme(why)));
        }
        let axes = logical.shape().axes();
        if axes.len() > 2 && !axes[axes.len() - 2].is_multiple_of(encoding.block_shape(logical).0) {
            return Err(refused(QuantizedProblem::BlockAcrossMatrices));
        }
        let weight = self.outline.weight(Target::Base(place));
        let original = self
            .originals
            .map(|originals| {
                originals.of(&weight, self.outline.base.catalogue.stored(place), quantized.order)
            })
            .transpose()?;
        let form = original.is_some().then(|| Box::new(logical.clone()));
        let start = original.unwrap_or_else(|| logical.clone());
        let mut content = merge(start, None, edits.ops.clone());
        if let Content::Compute { form: written_as, fresh, .. } = &mut content {
            (*written_as, *fresh) = (form, self.fresh_scales);
        }
        refuse_other_views(name, &content)?;
        if encoding.is_kept(logical, part) {
            return Ok(copied(base));
        }
        Ok(out(name, tensor.dtype, tensor.shape.clone(), Some(encoding), part, content))
    }
}

/// A shard: the base's header if it still describes the tensors, else a new one.
fn shard<'a>(
    (file, base): (FileId, &BaseShard),
    own: impl ExactSizeIterator<Item = (&'a BaseTensor, &'a Name)>,
    tensors: Vec<OutTensor>,
    lists: &[&str],
) -> Result<OutShard> {
    let is_same = |(base, name): (&BaseTensor, &Name), out: &OutTensor| {
        *name == out.name && base.tensor.dtype == out.dtype && base.tensor.shape == out.shape
    };
    let gone = listed(base, lists)?;
    let name = &base.written_as;
    let unchanged = !base.has_stale
        && *name == base.name
        && gone.is_empty()
        && own.len() == tensors.len()
        && own.zip(&tensors).all(|(base, out)| is_same(base, out));
    let header = if unchanged {
        OutHeader::Copied { from: file, bytes: base.header_bytes }
    } else {
        OutHeader::Made(new_header(base, &gone, &tensors)?)
    };
    placed(base, name, header, tensors)
}
