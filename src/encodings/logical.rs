//! A logical weight: what a name means, whatever the tensors that hold it; and what an encoding sees of a checkpoint.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::Arc;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::error::claim::ClaimError;
use crate::error::quantized::QuantizedProblem;
use crate::error::{Error, Result};
use crate::tensor::dtype::Dtype;
use crate::tensor::reference::{FileId, TensorRef};
use crate::tensor::shape::Shape;

use crate::encodings::ct_targets::GroupTargets;

/// A logical weight on disk; clones of it share what it holds.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "LogicalFields")]
pub struct Logical(Form);

/// How it is held. The tensor of plain numbers says all of them, and a plan may start 60,000 weights from such.
#[derive(Clone, Debug, PartialEq)]
enum Form {
    Plain(TensorRef),
    Spelled(Arc<LogicalFields>),
}

/// What a logical weight consists of, as a plan's JSON has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LogicalFields {
    /// Name of its encoding (see [`crate::encodings::find`]).
    pub encoding: Cow<'static, str>,
    /// Its shape in values.
    pub shape: Shape,
    /// Rows × columns of values that share a scale; 1 × 1 for plain numbers.
    pub block: (u64, u64),
    /// The tensors that make it up, in any shard; one for plain floats.
    pub parts: Vec<TensorRef>,
    /// Numbers that its values need beside the parts, as no tensor holds them; which, its encoding knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constants: Vec<f32>,
}

impl Logical {
    /// Plain numbers of a type that has an encoding; `None` for all others.
    pub fn plain(tensor: &TensorRef) -> Option<Logical> {
        plain_name(tensor.dtype)?;
        Some(Logical(Form::Plain(tensor.clone())))
    }

    /// Name of its encoding.
    pub fn encoding(&self) -> &str {
        match &self.0 {
            Form::Plain(tensor) => plain_name(tensor.dtype).expect("it is made of no others"),
            Form::Spelled(fields) => &fields.encoding,
        }
    }

    /// Its shape in values.
    pub fn shape(&self) -> &Shape {
        match &self.0 {
            Form::Plain(tensor) => &tensor.shape,
            Form::Spelled(fields) => &fields.shape,
        }
    }

    /// Rows × columns of values that share a scale; 1 × 1 for plain numbers.
    pub fn block(&self) -> (u64, u64) {
        match &self.0 {
            Form::Plain(_) => (1, 1),
            Form::Spelled(fields) => fields.block,
        }
    }

    /// The tensors that make it up, in any shard; one for plain floats.
    pub fn parts(&self) -> &[TensorRef] {
        match &self.0 {
            Form::Plain(tensor) => std::slice::from_ref(tensor),
            Form::Spelled(fields) => &fields.parts,
        }
    }

    /// Numbers that its values need beside the parts; none for plain floats.
    pub(crate) fn constants(&self) -> &[f32] {
        match &self.0 {
            Form::Plain(_) => &[],
            Form::Spelled(fields) => &fields.constants,
        }
    }
}

impl Logical {
    /// The same, of files that count so many further on.
    #[must_use]
    pub(crate) fn behind(&self, files: usize) -> Logical {
        self.in_files(&|file| FileId((files + file.0 as usize) as u32))
    }

    /// The same, of files that have other numbers.
    #[must_use]
    pub(crate) fn in_files(&self, number: &dyn Fn(FileId) -> FileId) -> Logical {
        let moved = |tensor: &TensorRef| TensorRef { file: number(tensor.file), ..tensor.clone() };
        match &self.0 {
            Form::Plain(tensor) => Logical(Form::Plain(moved(tensor))),
            Form::Spelled(fields) => {
                let parts = fields.parts.iter().map(moved).collect();
                Logical(Form::Spelled(Arc::new(LogicalFields { parts, ..LogicalFields::clone(fields) })))
            }
        }
    }
}

impl From<LogicalFields> for Logical {
    fn from(fields: LogicalFields) -> Logical {
        let spelled = Logical(Form::Spelled(Arc::new(fields)));
        let plain = spelled.parts().first().and_then(Logical::plain);
        plain.filter(|plain| plain.is_spelled_as(&spelled)).unwrap_or(spelled)
    }
}

impl Logical {
    /// Whether both say the same, however they are held.
    fn is_spelled_as(&self, other: &Logical) -> bool {
        let say = |logical: &Logical| (logical.encoding().to_owned(), logical.block());
        say(self) == say(other)
            && self.shape() == other.shape()
            && self.parts() == other.parts()
            && self.constants() == other.constants()
    }
}

impl Serialize for Logical {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let constants = self.constants();
        let mut fields = serializer.serialize_struct("Logical", 4 + usize::from(!constants.is_empty()))?;
        fields.serialize_field("encoding", self.encoding())?;
        fields.serialize_field("shape", self.shape())?;
        fields.serialize_field("block", &self.block())?;
        fields.serialize_field("parts", self.parts())?;
        if constants.is_empty() {
            fields.skip_field("constants")?;
        } else {
            fields.serialize_field("constants", constants)?;
        }
        fields.end()
    }
}

/// The name of the encoding of plain numbers of a type. It is that of the type, which the table of encodings holds to.
fn plain_name(dtype: Dtype) -> Option<&'static str> {
    match dtype {
        Dtype::BF16 => Some("bf16"),
        Dtype::F16 => Some("f16"),
        Dtype::F32 => Some("f32"),
        _ => None,
    }
}

/// Something of a quantized weight, or why it cannot be had.
pub(crate) type Or<T> = std::result::Result<T, QuantizedProblem>;

/// Holds the shape of a tensor of a module against what it must be.
pub(crate) fn expect_shape(module: &str, leaf: &str, tensor: &TensorRef, axes: &[u64]) -> Or<()> {
    if tensor.shape.axes() == axes {
        return Ok(());
    }
    let (name, found, expected) = (format!("{module}.{leaf}"), tensor.shape.clone(), axes.to_vec());
    Err(QuantizedProblem::Shape { name, found, expected })
}

/// A weight that an encoding detected.
pub(crate) struct Detected {
    /// What it is called as plain numbers, which is its name where it is written so; its codes may be called otherwise.
    pub name: String,
    /// What it is made of.
    pub logical: Logical,
    /// Tensors beside its parts that only the quantized data needs, and no value is made from.
    pub auxiliary: Vec<TensorRef>,
}

/// A tensor of a checkpoint, as an encoding looks at it to see whether it is one of its own.
pub(crate) struct Candidate<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where it is.
    pub tensor: &'a TensorRef,
    /// What the checkpoint says of its quantization: its `quantization_config`, else a quantizer's file beside it.
    pub quantization: Option<&'a Value>,
    /// The other tensors, by name.
    pub find: &'a dyn Fn(&str) -> Option<TensorRef>,
    /// The targets of the config's groups, once they were asked for.
    pub targets: &'a OnceCell<Or<GroupTargets>>,
    /// The bytes of a small tensor, for what no header says. Each call is a read.
    pub read: &'a dyn Fn(&TensorRef) -> Result<Vec<u8>>,
    /// What the header of a tensor's file says beside its tensors, by key.
    pub said: &'a dyn Fn(&TensorRef, &str) -> Result<Option<String>>,
}

impl Candidate<'_> {
    /// The error that says why `tensor` cannot be decoded.
    pub(crate) fn wrong(tensor: &str, why: QuantizedProblem) -> Error {
        Error::new(ClaimError::Quantized { tensor: tensor.to_owned(), why })
    }

    /// The tensor of that name, if it is there.
    ///
    /// # Errors
    /// When its type is none of `expected`.
    pub(crate) fn beside(&self, name: &str, expected: &'static [Dtype]) -> Or<Option<TensorRef>> {
        match (self.find)(name) {
            Some(tensor) if !expected.contains(&tensor.dtype) => {
                Err(QuantizedProblem::Dtype { name: name.to_owned(), found: tensor.dtype, expected })
            }
            tensor => Ok(tensor),
        }
    }

    /// The tensor of a module that its weight cannot do without.
    ///
    /// # Errors
    /// When it is not there, or its type is none of `expected`.
    pub(crate) fn needed(&self, module: &str, leaf: &str, expected: &'static [Dtype]) -> Or<TensorRef> {
        let name = format!("{module}.{leaf}");
        self.beside(&name, expected)?.ok_or(QuantizedProblem::NoAuxiliary { name })
    }

    /// `quant_method` of the config.
    pub(crate) fn method(&self) -> Option<&str> {
        self.quantization?.get("quant_method")?.as_str()
    }
}
