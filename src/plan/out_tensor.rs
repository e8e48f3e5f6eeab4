//! Output tensors, the executed unit, and the shards they stand in.

use std::ops::Range;

use crate::adapters::adapter::Keys;
use crate::adapters::adapter_weight::AdapterWeight;
use crate::checkpoint::identity::Identity;

use serde::{Deserialize, Serialize};

use crate::encodings;
use crate::encodings::logical::Logical;
use crate::formats::header_bytes::HeaderBytes;
use crate::tensor::dtype::Dtype;
use crate::tensor::label::Label;
use crate::tensor::name::Name;
use crate::tensor::rect::View;
use crate::tensor::reference::{FileId, TensorRef};
use crate::tensor::shape::Shape;

use crate::ops::op::{ClaimId, Op};

/// Where the bytes of an output tensor come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Content {
    /// Its bytes are those of one tensor on disk.
    Copy {
        /// Whose bytes.
        from: TensorRef,
        /// The claim that put an adapter's tensor in place of the base's, if one did.
        claim: Option<ClaimId>,
    },
    /// It is decoded, ops are applied in order, and the result is encoded.
    #[serde(rename = "Merge")]
    Compute {
        /// What it starts from.
        start: Logical,
        /// The claim that put an adapter's tensor in place of the base's, if one did.
        claim: Option<ClaimId>,
        /// What is done to it, in order; may be empty when it is only cast.
        ops: Vec<Op>,
        /// The matrix that tiles cut and ops' placements are read in.
        view: View,
        /// The encoded weight in whose form the result is written, where that is not what it starts from; its bytes are read too,
        /// as its scales are kept where they can be.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        form: Option<Box<Logical>>,
        /// Whether all scales are made anew where it is encoded.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        fresh: bool,
    },
}

/// One tensor of the output and all that makes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutTensor {
    /// Name in the header.
    pub name: Name,
    /// Shape in the header.
    pub shape: Shape,
    /// Element type in the header.
    pub dtype: Dtype,
    /// Name of the encoding it is written in; empty for bytes that are only copied.
    pub encoding: Label,
    /// Which part of the encoded weight it is: its data or its scales. 0 for plain numbers.
    pub part: u8,
    /// First byte, from the start of the output shard's file.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// Where its bytes come from.
    #[serde(rename = "making")]
    pub content: Content,
}

impl OutTensor {
    /// Whether it is a part of a quantized weight that an adapter changes.
    pub(crate) fn is_encoded_again(&self) -> bool {
        let is_quantized = encodings::find(&self.encoding).is_some_and(|encoding| encoding.plain().is_none());
        is_quantized && matches!(self.content, Content::Compute { .. })
    }
}

/// The bytes of an output's shard before its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum OutHeader {
    /// Those that an input begins with: it still describes the tensors.
    Copied {
        /// Which.
        from: FileId,
        /// How many there are.
        bytes: u64,
    },
    /// New ones.
    Made(HeaderBytes),
}

impl OutHeader {
    /// How many there are.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            OutHeader::Copied { bytes, .. } => *bytes,
            OutHeader::Made(header) => header.len() as u64,
        }
    }
}

/// One shard of the output. Its tensors follow each other; zeros stand behind one where the next must be aligned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutShard {
    /// File name.
    pub name: String,
    /// The file's bytes before its data.
    pub(crate) header: OutHeader,
    /// Tensors in the order of their bytes.
    pub tensors: Vec<OutTensor>,
    /// Length of the file.
    pub bytes: u64,
}

impl OutShard {
    /// Where what follows a tensor begins: the next one, or the end of the file.
    pub(crate) fn next_start(&self, tensor: usize) -> u64 {
        self.tensors.get(tensor + 1).map_or(self.bytes, |next| next.offset)
    }
}

/// What a file is to the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A shard of the base.
    Base,
    /// The tensors of the adapter at this position of the command line.
    Adapter(u32),
    /// A shard of the 16-bit checkpoint that the base was quantized from.
    Original,
    /// A shard of the checkpoint whose layout the result has.
    Template,
}

/// A file that a plan reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Base or adapter.
    pub role: Role,
    /// File name in its directory.
    pub name: String,
    /// Which state of it was planned with.
    pub identity: Identity,
}

/// An adapter as the command line gave it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdapterUse {
    /// Name for messages and the model card: its directory's name.
    pub name: String,
    /// What its deltas are multiplied by.
    pub weight: AdapterWeight,
    /// `peft_type` of its config.
    pub peft_type: String,
    /// BLAKE3 of its config file.
    pub config: String,
}

/// A small file of the output whose content the plan decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideFile {
    /// File name.
    pub name: String,
    /// All of it.
    pub content: String,
}

/// A file of the output that is copied from beside the inputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedFile {
    /// Relative name, the same there and in the output.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Whether it lies beside the base's shards or an adapter's tensors.
    pub beside: Role,
}

/// Brings copied files into the order of their names.
pub(crate) fn sort_copied(files: &mut [CopiedFile]) {
    files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
}

/// The unit of accounting: some tensors of one adapter that belong together, and how many elements of the output they
/// must reach. A run that reaches fewer fails.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClaimRecord {
    /// Position of the adapter on the command line, from 0.
    pub adapter: u32,
    /// Module path as the adapter spells it.
    pub module: Name,
    /// Name of the method that claimed it.
    pub method: Label,
    /// The adapter's tensors that it uses, by key.
    pub keys: Keys,
    /// The output tensor it changes.
    pub tensor: Name,
    /// Elements of the output that it must reach.
    pub elements: u64,
    /// The claim in whose op its delta is, where several were combined into one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) combined_in: Option<ClaimId>,
}

/// All that a merge will do: plain data made from headers and adapters, which knows no budget, thread or path.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Plan {
    /// Version of shardfold that made it.
    pub version: String,
    /// Files to read; `FileId` counts in this list.
    pub inputs: Vec<Input>,
    /// The adapters, in order.
    pub adapters: Vec<AdapterUse>,
    /// What was decided beyond adding deltas, in words: weights untied, a base decoded.
    pub choices: Vec<String>,
    /// Output shards, in order.
    pub shards: Vec<OutShard>,
    /// What every op and replacement must reach.
    pub claims: Vec<ClaimRecord>,
    /// Small files that are written with this content: the index, and configs that the weights force to change.
    pub files: Vec<SideFile>,
    /// Files that are copied as they are.
    #[serde(rename = "carried")]
    pub copied: Vec<CopiedFile>,
    /// Whether `SHA256SUMS` stands beside them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) sha256: bool,
    /// Whether `shardfold.undo` stands beside them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) undo: bool,
    /// Whether it takes a merge back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_inverse: bool,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Counts { merged, replaced, decoded, copied } = self;
        write!(f, "{merged} merged, {replaced} replaced, ")?;
        if *decoded > 0 {
            write!(f, "{decoded} decoded, ")?;
        }
        write!(f, "{copied} copied")
    }
}

impl Plan {
    /// The input that `file` means.
    pub fn input(&self, file: FileId) -> &Input {
        &self.inputs[file.0 as usize]
    }

    /// Which inputs are files of that role, which lie one behind the other.
    pub(crate) fn inputs_of(&self, role: Role) -> Range<usize> {
        let is_one = |input: &Input| input.role == role;
        let first = self.inputs.iter().position(is_one).unwrap_or(self.inputs.len());
        first..first + self.inputs[first..].iter().take_while(|input| is_one(input)).count()
    }

    /// Bytes of all output shards.
    pub fn output_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.bytes).sum()
    }

    /// Bytes of all files of the output, as the free-space check counts them.
    pub fn disk_bytes(&self) -> u64 {
        let files: u64 = self.files.iter().map(|file| file.content.len() as u64).sum();
        self.output_bytes() + files + self.copied.iter().map(|file| file.bytes).sum::<u64>()
    }

    /// All tensors, shard by shard.
    pub fn tensors(&self) -> impl Iterator<Item = &OutTensor> {
        self.shards.iter().flat_map(|shard| &shard.tensors)
    }

    /// How many tensors are merged, replaced and copied.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for tensor in self.tensors() {
            match &tensor.content {
                Content::Compute { ops, .. } if !ops.is_empty() => counts.merged += 1,
                Content::Compute { claim: None, .. } => counts.decoded += 1,
                Content::Compute { .. } | Content::Copy { claim: Some(_), .. } => counts.replaced += 1,
                Content::Copy { claim: None, .. } => counts.copied += 1,
            }
        }
        counts
    }
}

/// Tensors of the output by what is done to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// A delta is added.
    pub merged: usize,
    /// An adapter's tensor stands in their place.
    pub replaced: usize,
    /// The base's values in another type, as its quantization is dropped or all are cast.
    pub decoded: usize,
    /// Byte for byte the base's.
    pub copied: usize,
}
