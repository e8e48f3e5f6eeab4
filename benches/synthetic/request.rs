//! What the caller asks for: shape, types, sizes and where to write.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Parser, ValueEnum};
use safetensors::Dtype;

use super::Result;

/// Write a made-up checkpoint and an adapter for it
#[derive(Parser)]
pub(crate) struct Request {
    /// Which model's shapes to imitate; untied, but for GPT-2
    #[arg(long)]
    pub(super) shape: Shape,
    /// Folder that gets `base/` and `adapter-rR-TARGETS/`, or `adapter-METHOD-…`
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// What the adapter is
    #[arg(long, default_value = "lora")]
    pub(super) method: Method,
    /// Rank of the adapter; its `lora_alpha` is twice that
    #[arg(long, default_value_t = 16, value_name = "R")]
    pub(super) rank: usize,
    /// `all-linear` (not lm_head), `attention`, or module names with commas; default all-linear, moe: attention
    #[arg(long)]
    pub(super) targets: Option<String>,
    /// Type of the base's plain tensors
    #[arg(long, default_value = "bf16")]
    pub(super) dtype: Float,
    /// Store the linear layers of a Llama as E4M3 codes with a scale per 128 × 128 block; the rest as --dtype
    #[arg(long)]
    pub(super) fp8: bool,
    /// Type of the adapter's factors
    #[arg(long, default_value = "f32")]
    pub(super) adapter_dtype: Float,
    /// Largest shard; default 5G, the MoE shapes: what makes 163 shards
    #[arg(long, value_name = "SIZE")]
    pub(super) shard_size: Option<ByteSize>,
    /// Number of layers, if not the model's own
    #[arg(long, value_name = "N")]
    pub(super) layers: Option<usize>,
    /// Seed of all values
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(super) seed: u64,
    /// Only set the length of the base's shards: all its values are 0 and take no space
    #[arg(long)]
    pub(super) sparse: bool,
    /// Size of the tensor of `one-tensor`
    #[arg(long, default_value = "1G", value_name = "SIZE")]
    pub(super) bytes: ByteSize,
}

/// The models we can imitate.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Shape {
    /// Llama-3-8B: 291 tensors, 16.1 GB in bf16
    #[value(name = "llama-8b")]
    Llama8b,
    /// Llama-3.2-3B with an lm_head of its own: 255 tensors, 7.2 GB
    #[value(name = "llama-3b")]
    Llama3b,
    /// Llama-3-70B: 723 tensors, 141 GB
    #[value(name = "llama-70b")]
    Llama70b,
    /// Llama-3.2-1B with an lm_head of its own: 147 tensors, 3.0 GB
    #[value(name = "llama-1b")]
    Llama1b,
    /// A Llama of two layers, 300 kB
    Tiny,
    /// GPT-2 XL with 30 of its 48 layers, tied, linear layers as Conv1D: 364 tensors, 2.0 GB
    #[value(name = "gpt2-2g")]
    Gpt2,
    /// A GPT-2 of two layers, 300 kB
    #[value(name = "gpt2-tiny")]
    Gpt2Tiny,
    /// One matrix `proj.weight` of --bytes, its rows a multiple of a prime
    OneTensor,
    /// Names and shapes of DeepSeek-V3 in FP8: 91,991 tensors, 688 GB; only with --sparse
    Moe,
    /// The same names and number of tensors with small matrices
    MoeTiny,
    /// A mixture of experts in bf16, 1.37 TiB with 58,224 linear modules; only with --sparse
    MoeWide,
}

/// The kinds of adapter.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Method {
    /// Two factors for each module
    Lora,
    /// The same and a magnitude for each of the module's outputs
    Dora,
    /// Two products of two factors, multiplied value by value
    Loha,
    /// Rotations of blocks of 32 inputs
    Oft,
    /// Rotations of blocks of 4 inputs, and a scale for each output
    Boft,
    /// Two factors of rank 256 that all modules share, and two vectors for each
    Vera,
    /// A thousand frequencies
    #[value(name = "fourierft")]
    FourierFt,
}

impl Method {
    /// The name for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Lora => "LoRA",
            Self::Dora => "DoRA",
            Self::Loha => "LoHa",
            Self::Oft => "OFT",
            Self::Boft => "BOFT",
            Self::Vera => "VeRA",
            Self::FourierFt => "FourierFT",
        }
    }
}

/// The element types a plain tensor may have.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Float {
    Bf16,
    F16,
    F32,
}

impl Float {
    /// The name in safetensors headers.
    pub(super) fn dtype(self) -> Dtype {
        match self {
            Self::Bf16 => Dtype::BF16,
            Self::F16 => Dtype::F16,
            Self::F32 => Dtype::F32,
        }
    }

    /// The name in `config.json`.
    pub(super) fn torch_name(self) -> &'static str {
        match self {
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
            Self::F32 => "float32",
        }
    }
}

impl Request {
    /// Refuses what cannot be meant.
    pub(super) fn check(&self) -> Result<()> {
        if matches!(self.shape, Shape::Moe | Shape::MoeWide) && !self.sparse {
            return Err("this shape has 700 GB of data or more: add `--sparse`, or use `moe-tiny`".into());
        }
        if self.rank == 0 || self.layers == Some(0) {
            return Err("`--rank` and `--layers` must be at least 1".into());
        }
        let llama = [Shape::Llama8b, Shape::Llama3b, Shape::Llama70b, Shape::Llama1b, Shape::Tiny]
            .contains(&self.shape);
        if self.fp8 && !llama {
            return Err("`--fp8` is for the Llama shapes and `tiny` only".into());
        }
        Ok(())
    }

    /// The modules to adapt, as asked for or the default of the shape.
    pub(super) fn targets(&self) -> &str {
        let default = match self.shape {
            Shape::Moe | Shape::MoeTiny => "attention",
            _ => "all-linear",
        };
        self.targets.as_deref().unwrap_or(default)
    }

    /// All that decides the bytes of the base; kept beside it to tell whether it is the one asked for.
    pub(super) fn base_identity(&self) -> String {
        let shape = self.shape.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
        let mut identity = serde_json::json!({
            "shape": shape, "dtype": self.dtype.torch_name(), "layers": self.layers, "seed": self.seed,
            "sparse": self.sparse, "bytes": self.bytes.as_u64(),
            "shard_size": self.shard_size.map(|size| size.as_u64()),
        });
        // Only where codes are drawn, so that what older versions of this command made is still known.
        if self.fp8 || self.shape == Shape::MoeTiny {
            identity["fp8"] = true.into();
        }
        format!("{identity}\n")
    }
}
