//! LoRA on linear layers: `W + s·(B·A)`, with `A [rank, in]` and `B [out, rank]`.
//!
//! Source: Hu et al. 2021 (arXiv:2106.09685), section 4.1; `s = alpha/√rank`: Kalajdzievski 2023 (arXiv:2312.03732). PEFT:
//! `lora/layer.py`, `Linear.get_delta_weight`. The product and the sum run in f32 and the result is rounded once, as PEFT
//! does without `safe_merge`; sums differ from PEFT's in order only.
//!
//! Storage `[in, out]` (transformers' `Conv1D`) needs nothing of its own here: the placement swaps which factor runs along
//! rows.

use crate::adapters::claiming::{Claimed, Effect};
use crate::adapters::config::Field;
use crate::adapters::keys::Tail;
use crate::adapters::{AdapterTensor, Claiming};
use crate::error::{Error, ErrorKind};
use crate::plan::{Factor, FactorIndex, Need, Placement};
use crate::tensor::Shape;

use super::{Block, Method};

/// LoRA's product of two factors.
pub(super) struct Lora;

const A: Tail = Tail { role: ".lora_A", ending: ".weight" };
pub(super) const B: Tail = Tail { role: ".lora_B", ending: ".weight" };

const NOT_YET: &str = "is not merged yet";
const CHANGES_BASE: &str =
    "means that training started from a changed base, so that the factors do not fit this one";

const FIELDS: &[(&str, Field)] = &[
    ("r", Field::Fine),
    ("lora_alpha", Field::Fine),
    ("use_rslora", Field::Fine),
    ("rank_pattern", Field::Fine),
    ("alpha_pattern", Field::Fine),
    ("fan_in_fan_out", Field::Fine),
    ("lora_bias", Field::Fine),
    ("bias", Field::Only(&["none", "all", "lora_only"], "is none of `none`, `all`, `lora_only`")),
    ("init_lora_weights", Field::Only(&["true", "gaussian", "orthogonal", "eva"], CHANGES_BASE)),
    ("use_dora", Field::Only(&[], NOT_YET)),
    ("trainable_token_indices", Field::Only(&[], NOT_YET)),
    ("target_parameters", Field::Only(&[], NOT_YET)),
    ("layer_replication", Field::Only(&[], NOT_YET)),
    ("ensure_weight_tying", Field::Only(&[], NOT_YET)),
    ("use_bdlora", Field::Only(&[], NOT_YET)),
    ("velora_config", Field::Only(&[], NOT_YET)),
    ("monteclora_config", Field::Only(&[], NOT_YET)),
    ("kasa_config", Field::Only(&[], "replaces the base by a truncation of it, which is not merged yet")),
    (
        "use_qalora",
        Field::Only(&[], "gives `lora_A` fewer columns than the base, which PEFT cannot merge either"),
    ),
    ("arrow_config", Field::Only(&[], "routes each token to adapters of its own, which no merge can do")),
    ("alora_invocation_tokens", Field::Only(&[], "is active only after some tokens, which no merge can do")),
    ("qalora_group_size", Field::Fine),
    ("lora_dropout", Field::Fine),
    ("eva_config", Field::Fine),
    ("corda_config", Field::Fine),
    ("lora_ga_config", Field::Fine),
    ("loftq_config", Field::Fine),
    ("megatron_config", Field::Fine),
    ("megatron_core", Field::Fine),
    ("lora_B_layout", Field::Fine),
];

impl Method for Lora {
    fn name(&self) -> &'static str {
        "lora"
    }

    fn peft_type(&self) -> Option<&'static str> {
        Some("LORA")
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, claiming: &mut Claiming<'_>) {
        let (a, mut b) = (claiming.take(A), claiming.take(B));
        for (module, a) in a {
            match b.remove(&module) {
                Some(b) => {
                    if let Err(error) = claim_pair(claiming, &module, a, b) {
                        claiming.refuse(error);
                    }
                }
                None => claiming.lacks_partner(a, &B.key(&module)),
            }
        }
        for (module, b) in b {
            claiming.lacks_partner(b, &A.key(&module));
        }
    }

    fn apply(&self, block: &mut Block<'_>) {
        let (rows, cols) = (&block.window.rows, &block.window.cols);
        let along = |axis| block.factors.iter().find(|factor| factor.axis == axis);
        let (Some(u), Some(v)) = (along(rows.axis), along(cols.axis)) else {
            unreachable!("a lora op has a factor along each axis of its delta")
        };
        let elements = rows.len() * cols.len();
        block.kernels.product(u.rows(&rows.range), v.cols(&cols.range), &mut block.scratch[..elements]);
        let width = cols.len();
        block.add(|_, p| p * width..(p + 1) * width);
    }
}

/// Claims one module's pair of factors.
fn claim_pair(claiming: &mut Claiming<'_>, module: &str, a: usize, b: usize) -> Result<(), Error> {
    let Some(target) = claiming.target(&[a, b], module, "weight") else { return Ok(()) };
    let (a, b) = (claiming.tensor(a).clone(), claiming.tensor(b).clone());
    let adapter = claiming.adapter.name.clone();
    let two = |tensor: &AdapterTensor, what: &str| match *tensor.tensor.shape.axes() {
        [rows, cols] if rows > 0 && cols > 0 => Ok((rows, cols)),
        _ => Err(Error::new(ErrorKind::FactorShape {
            adapter: adapter.clone(),
            key: tensor.key.clone(),
            found: tensor.tensor.shape.clone(),
            expected: what.to_owned(),
        })),
    };
    let (rank, input) = two(&a, "[rank, in], both above zero")?;
    let (out, b_rank) = two(&b, "[out, rank], both above zero")?;
    if rank != b_rank {
        let (key, found) = (b.key.clone(), b.tensor.shape.clone());
        let expected = format!("[{out}, {rank}], as `{}` has rank {rank}", a.key);
        return Err(ErrorKind::FactorShape { adapter, key, found, expected }.into());
    }
    let transposed = orientation(claiming, target, module, out, input, &a, &b)?;
    let scale = scale(claiming, module, rank)?;
    let placement = Placement::matrix(out, input, transposed);
    let factors = vec![
        Factor {
            tensor: a.tensor,
            start: 0,
            index: Some(FactorIndex { axis: 1, stride: 1 }),
            inner: rank,
            inner_stride: input,
        },
        Factor {
            tensor: b.tensor,
            start: 0,
            index: Some(FactorIndex { axis: 0, stride: rank }),
            inner: rank,
            inner_stride: 1,
        },
    ];
    claiming.claim(Claimed {
        method: "lora",
        module: module.to_owned(),
        keys: vec![a.key, b.key],
        target,
        elements: placement.elements(),
        effect: Effect::Add { placement, factors, scale, need: Need::Elements },
    });
    Ok(())
}

/// Whether the target is stored as `[in, out]`: by its shape, and by the model's family only if it is square.
fn orientation(
    claiming: &mut Claiming<'_>,
    target: usize,
    module: &str,
    out: u64,
    input: u64,
    a: &AdapterTensor,
    b: &AdapterTensor,
) -> Result<bool, Error> {
    let base = claiming.base_tensor(target);
    let shape = base.tensor.shape.clone();
    let family_says = claiming.family.stores_linear_transposed();
    match *shape.axes() {
        [rows, cols] if rows == cols && (rows, cols) == (out, input) => {
            let flag = claiming.adapter.config.is_set("fan_in_fan_out");
            if flag != family_says {
                claiming.notice(format!(
                    "`{module}` is square, so its shape does not tell how it is stored; {} is followed, not \
                     `fan_in_fan_out` of the adapter, which says {flag}",
                    claiming.family.name()
                ));
            }
            Ok(family_says)
        }
        [rows, cols] if (rows, cols) == (out, input) => Ok(false),
        [rows, cols] if (rows, cols) == (input, out) => Ok(true),
        _ => {
            let delta = Shape::new(&[out, input]).expect("both fit a file");
            let factors = format!("`{}` {} and `{}` {}", a.key, a.tensor.shape, b.key, b.tensor.shape);
            let adapter = claiming.adapter.name.clone();
            let tensor = base.name.clone();
            let error =
                Error::new(ErrorKind::DeltaShape { adapter, tensor, delta, base: shape.clone(), factors });
            Err(error.hint(match shape.axes().len() {
                2 => "the adapter was trained on a model with other sizes: is it for this base?",
                _ => "only linear layers are merged yet: convolutions and fused parameters are not",
            }))
        }
    }
}

/// `weight · alpha / rank`, or `/ √rank`, in f64, rounded to f32 once.
pub(super) fn scale(claiming: &Claiming<'_>, module: &str, rank: u64) -> Result<f32, Error> {
    let config = &claiming.adapter.config;
    let number = |name: &str, default: f64| match config.get(name) {
        None => Ok(default),
        Some(value) => value.as_f64().ok_or_else(|| config.bad(name, value, "is not a number")),
    };
    // PEFT's defaults, for files that leave a field out.
    let planned = config.patterned("rank_pattern", number("r", 8.0)?, module)?;
    let alpha = config.patterned("alpha_pattern", number("lora_alpha", 8.0)?, module)?;
    if planned != rank as f64 {
        let adapter = claiming.adapter.name.clone();
        let (module, expected) = (module.to_owned(), planned as u64);
        return Err(ErrorKind::Rank { adapter, module, found: rank, expected }.into());
    }
    let divisor = if config.is_set("use_rslora") { (rank as f64).sqrt() } else { rank as f64 };
    let scale = (claiming.adapter.weight * alpha / divisor) as f32;
    match scale.is_finite() {
        true => Ok(scale),
        false => {
            let value = serde_json::Value::from(alpha);
            Err(config.bad("lora_alpha", &value, "gives a scale that is not a finite number"))
        }
    }
}
