//! LoRA: `W + s·(B·A)`, with `A [rank, in]` and `B [out, rank]`, on linear layers, embeddings and convolutions.
//!
//! Source: Hu et al. 2021 (arXiv:2106.09685), section 4.1; `s = alpha/√rank`: Kalajdzievski 2023 (arXiv:2312.03732). PEFT:
//! `lora/layer.py`, `Linear.get_delta_weight`. The product and the sum run in f32 and the result is rounded once, as PEFT
//! does without `safe_merge`; sums differ from PEFT's in order only.
//!
//! Storage `[in, out]` (transformers' `Conv1D`) needs nothing of its own here: the placement swaps which factor runs along
//! rows. An embedding is such a layer, with tokens as inputs. A convolution's inputs and its kernel are one axis, as `B` has
//! a kernel of one (peft-methods.md 3.1).

use crate::adapters::adapter::AdapterTensor;
use crate::adapters::claim::context::Claiming;
use crate::adapters::claim::edits::{Change, Claimed};
use crate::adapters::claim::layers::{Layer, layer_of};
use crate::adapters::peft::config::{Field, Refused};
use crate::adapters::peft::keys::Tail;
use crate::error::Error;
use crate::error::kind::ErrorKind;
use crate::model::outline::{Target, Weight};
use crate::ops::op::Factor;
use crate::ops::placement::Placement;
use crate::tensor::shape::Shape;

use crate::adapters::claim::Method;
use crate::ops::block::Block;

/// LoRA's product of two factors.
pub(crate) struct Lora;

pub(crate) const A: Tail = Tail { role: ".lora_A", ending: ".weight" };
pub(crate) const B: Tail = Tail { role: ".lora_B", ending: ".weight" };

const EMBEDDING_A: Tail = Tail { role: ".lora_embedding_A", ending: "" };
const EMBEDDING_B: Tail = Tail { role: ".lora_embedding_B", ending: "" };

/// Initialisations that leave the base as it was.
const PLAIN_INIT: &[&str] = &["true", "gaussian", "orthogonal", "eva", "mica"];
const CONVERT: &str = "convert the adapter where it was trained: `save_pretrained(..., \
     path_initial_model_for_weight_conversion=...)` writes a plain LoRA for the base as it is";
const RESIDUAL: &str = "merge into the residual base that training made, with `init_lora_weights` set to `true` in the \
     adapter's config; or convert the adapter with PEFT's `path_initial_model_for_weight_conversion`";
const OTHER_INIT: &[Refused] = &[
    Refused {
        starts: "pissa_niter_",
        why: "takes the base's main part out of it, found by a randomised factorisation that nobody can repeat",
        cure: CONVERT,
    },
    Refused {
        starts: "pissa",
        why: "takes the base's main part out of it before training, and redoing that factorisation is not built yet",
        cure: CONVERT,
    },
    Refused {
        starts: "olora",
        why: "takes part of the base out of it before training, and redoing that factorisation is not built yet",
        cure: CONVERT,
    },
    Refused {
        starts: "loftq",
        why: "means that training ran on quantised weights, which the factors make up for",
        cure: "merge into the dequantised weights that LoftQ made, with `init_lora_weights` set to `true` in the \
               adapter's config",
    },
    Refused {
        starts: "corda",
        why: "takes part of the base out of it before training, by statistics that the adapter does not hold",
        cure: RESIDUAL,
    },
    Refused {
        starts: "lora_ga",
        why: "takes part of the base out of it before training, by gradients that the adapter does not hold",
        cure: RESIDUAL,
    },
];

const FIELDS: &[(&str, Field)] = &[
    ("r", Field::Fine),
    ("lora_alpha", Field::Fine),
    ("use_rslora", Field::Flag),
    ("rank_pattern", Field::Fine),
    ("alpha_pattern", Field::Fine),
    ("fan_in_fan_out", Field::Flag),
    ("lora_bias", Field::Flag),
    ("bias", Field::Only(&["none", "all", "lora_only"], "is none of `none`, `all`, `lora_only`")),
    ("init_lora_weights", Field::Cured(PLAIN_INIT, OTHER_INIT)),
    ("use_dora", Field::Flag),
    ("trainable_token_indices", Field::Fine),
    ("ensure_weight_tying", Field::Flag),
    ("target_parameters", Field::Fine),
    (
        "layer_replication",
        Field::Cured(
            &[],
            &[Refused {
                starts: "",
                why: "gives copies of one layer factors of their own, where the base holds the layer once",
                cure: "write the base with its layers copied under their new numbers first, then merge with this field \
                       set to `null`",
            }],
        ),
    ),
    ("use_bdlora", Field::Fine),
    ("velora_config", Field::Fine),
    ("monteclora_config", Field::Fine),
    (
        "kasa_config",
        Field::Cured(
            &[],
            &[Refused {
                starts: "",
                why: "replaces the base by a truncation of it, which is not built yet",
                cure: "merge it with PEFT, which truncates the base when it loads the adapter",
            }],
        ),
    ),
    (
        "use_qalora",
        Field::Cured(
            &[],
            &[Refused {
                starts: "",
                why: "gives `lora_A` fewer columns than a base quantised with GPTQ, which PEFT cannot merge either",
                cure: "PEFT passes over this field on layers that are not quantised: if all were so, set it to `false`",
            }],
        ),
    ),
    (
        "arrow_config",
        Field::Cured(
            &[],
            &[Refused {
                starts: "",
                why: "routes each token to adapters of its own, which no merge can do",
                cure: "its experts are adapters by themselves: merge one at a time",
            }],
        ),
    ),
    (
        "alora_invocation_tokens",
        Field::Cured(
            &[],
            &[Refused {
                starts: "",
                why: "is active only after some tokens, which no merge can do",
                cure: "serve this adapter beside its base",
            }],
        ),
    ),
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

/// What variants keep beside the factors for training alone: the field that must be set, and a segment of the keys.
const BESIDE: &[(&str, &str, &str)] = &[
    ("velora_config", "lora_velora_embed", "VeLoRA compresses activations with it in training only"),
    ("monteclora_config", "lora_monteclora_sampler", "MonteCLoRA draws samples with it in training only"),
];

impl Method for Lora {
    fn name(&self) -> &'static str {
        "lora"
    }

    fn peft_types(&self) -> &'static [&'static str] {
        &["LORA"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, claiming: &mut Claiming<'_>) {
        for (field, beside, rule) in BESIDE {
            if claiming.adapter.config.get(field).is_some() {
                claiming.ignore_where(|path| path.split('.').any(|segment| segment == *beside), rule);
            }
        }
        for pair in take_pairs(claiming) {
            match resolve(claiming, &pair) {
                Ok(Some(found)) => found.claim(claiming),
                Ok(None) => {}
                Err(error) => claiming.refuse(error),
            }
        }
    }

    fn apply(&self, block: &mut Block<'_>) {
        block.product_of(0, 1);
        block.add_scaled();
    }
}

/// Two factors of one module.
pub(crate) struct Pair {
    /// Module path as the adapter spells it.
    pub(crate) module: String,
    /// `A [rank, in]`.
    pub(crate) a: usize,
    /// `B [out, rank]`.
    pub(crate) b: usize,
    /// Whether they are an embedding's, whose inputs are tokens.
    is_embedding: bool,
    /// The module and its parameter, where the path is that of a parameter.
    pub(crate) parameter: Option<(String, String)>,
}

/// Takes all pairs of factors that nobody has taken; notes those that are half.
pub(crate) fn take_pairs(claiming: &mut Claiming<'_>) -> Vec<Pair> {
    let mut pairs = take_tails(claiming, A, B, false, |_| true);
    pairs.extend(take_tails(claiming, EMBEDDING_A, EMBEDDING_B, true, |_| true));
    pairs
}

/// Takes the pairs of two tails whose modules are some of all.
pub(crate) fn take_tails(
    claiming: &mut Claiming<'_>,
    a_tail: Tail,
    b_tail: Tail,
    is_embedding: bool,
    is_one: impl Fn(&str) -> bool,
) -> Vec<Pair> {
    let (a, mut b) = (claiming.take_where(a_tail, &is_one), claiming.take_where(b_tail, &is_one));
    let mut pairs = Vec::new();
    for (module, a) in a {
        match b.remove(&module) {
            Some(b) => pairs.push(Pair { module, a, b, is_embedding, parameter: None }),
            None => claiming.lacks_partner(a, &b_tail.key(&module)),
        }
    }
    for (module, b) in b {
        claiming.lacks_partner(b, &a_tail.key(&module));
    }
    pairs
}

/// A pair of factors and where its delta falls.
pub(crate) struct Resolved {
    /// Module path as the adapter spells it.
    pub(crate) module: String,
    /// The keys it uses.
    pub(crate) keys: Vec<String>,
    /// The tensor it is for.
    pub(crate) target: Target,
    /// Outputs of the delta.
    pub(crate) out: u64,
    /// Whether the tensor is stored as `[in, out]`.
    pub(crate) is_transposed: bool,
    /// What it does to the tensor: `A` and `B` are its first factors.
    pub(crate) change: Change,
}

impl Resolved {
    /// Records it as a claim of the method that applies it.
    pub(crate) fn claim(self, claiming: &mut Claiming<'_>) {
        let method = self.change.method;
        claiming.claim(Claimed::change(method, &self.module, self.keys, self.target, vec![self.change]));
    }
}

/// Finds the tensor of a pair and checks its shapes; `None` if what is wrong is noted already.
pub(crate) fn resolve(claiming: &mut Claiming<'_>, pair: &Pair) -> Result<Option<Resolved>, Error> {
    let layer = match &pair.parameter {
        Some((module, parameter)) => Layer { module: module.clone(), parameter: parameter.clone() },
        None => layer_of(claiming, &pair.module),
    };
    let Some(placed) = place(claiming, pair, &layer)? else { return Ok(None) };
    let scale = scale(claiming, &pair.module, placed.rank)? as f32;
    let change = Change::new("lora", placed.placement(), placed.factors(), scale);
    let (module, keys) = (pair.module.clone(), placed.keys());
    let Placed { target, out, is_transposed, .. } = placed;
    Ok(Some(Resolved { module, keys, target, out, is_transposed, change }))
}

/// Where the product of a pair falls.
pub(crate) struct Placed {
    /// The tensor it is for.
    pub(crate) target: Target,
    /// What both factors have.
    rank: u64,
    /// Outputs of the product.
    out: u64,
    /// Its inputs, a convolution's kernel among them.
    input: u64,
    /// Whether the tensor is stored as `[in, out]`.
    is_transposed: bool,
    a: AdapterTensor,
    b: AdapterTensor,
}

impl Placed {
    /// The elements it falls on.
    pub(crate) fn placement(&self) -> Placement {
        Placement::matrix(self.out, self.input, self.is_transposed)
    }

    /// `A`, then `B`.
    pub(crate) fn factors(&self) -> Vec<Factor> {
        let (a, b, rank) = (self.a.tensor.clone(), self.b.tensor.clone(), self.rank);
        vec![Factor::along(1, a, 1, rank, self.input), Factor::along(0, b, rank, rank, 1)]
    }

    /// The keys of both.
    pub(crate) fn keys(&self) -> Vec<String> {
        vec![self.a.key.clone(), self.b.key.clone()]
    }
}

/// Finds where the product of a pair falls and checks its shapes; `None` if what is wrong is noted already.
pub(crate) fn place(
    claiming: &mut Claiming<'_>,
    pair: &Pair,
    layer: &Layer,
) -> Result<Option<Placed>, Error> {
    let Some(target) = claiming.target(&[pair.a, pair.b], &layer.module, &layer.parameter) else {
        return Ok(None);
    };
    let (rank, input) = matrix(claiming, pair.a, "[rank, in, ...], all above zero")?;
    let (out, b_rank) = factor_b(claiming, pair.b)?;
    let (a, b) = (claiming.tensor(pair.a).clone(), claiming.tensor(pair.b).clone());
    if rank != b_rank {
        return Err(claiming.factor_shape(pair.b, format!("[{out}, {rank}], as `{}` has rank {rank}", a.key)));
    }
    let is_transposed = match pair.is_embedding {
        true => embedding(claiming, target, (out, input), &a, &b)?,
        // A parameter is what it is, whatever the family does with the weights of its linear layers.
        false if pair.parameter.is_some() && claiming.weight(target).shape.axes() == [out, input] => false,
        false => orientation(claiming, target, &pair.module, (out, input), &a, &b)?,
    };
    Ok(Some(Placed { target, rank, out, input, is_transposed, a, b }))
}

/// `A` as a matrix: the first axis, and all others as one (a convolution's inputs and its kernel).
pub(crate) fn matrix(claiming: &Claiming<'_>, i: usize, expected: &str) -> Result<(u64, u64), Error> {
    match claiming.tensor(i).tensor.shape.axes() {
        [rows, rest @ ..] if !rest.is_empty() && *rows > 0 && rest.iter().all(|&axis| axis > 0) => {
            Ok((*rows, rest.iter().product()))
        }
        _ => Err(claiming.factor_shape(i, expected.to_owned())),
    }
}

/// `B` as a matrix: a convolution's has a kernel of one.
pub(crate) fn factor_b(claiming: &Claiming<'_>, i: usize) -> Result<(u64, u64), Error> {
    match *claiming.tensor(i).tensor.shape.axes() {
        [out, rank, ref kernel @ ..] if out > 0 && rank > 0 && kernel.iter().all(|&axis| axis == 1) => {
            Ok((out, rank))
        }
        _ => Err(claiming.factor_shape(i, "[out, rank], both above zero".to_owned())),
    }
}

/// An embedding is stored as `[tokens, width]`, which is `[in, out]`.
fn embedding(
    claiming: &Claiming<'_>,
    target: Target,
    (out, input): (u64, u64),
    a: &AdapterTensor,
    b: &AdapterTensor,
) -> Result<bool, Error> {
    let weight = claiming.weight(target);
    if weight.shape.axes() == [input, out] {
        return Ok(true);
    }
    let delta = Shape::new(&[input, out]).expect("both fit a file");
    let error = delta_shape(claiming, &weight, delta, a, b);
    Err(match weight.shape.axes() {
        [rows, cols] if *cols == out && *rows != input => error.hint(
            "the vocabulary was changed in training and the adapter does not hold the new embedding: save it again with \
             `save_embedding_layers=True`",
        ),
        _ => error,
    })
}

fn delta_shape(
    claiming: &Claiming<'_>,
    weight: &Weight,
    delta: Shape,
    a: &AdapterTensor,
    b: &AdapterTensor,
) -> Error {
    let factors = format!("`{}` {} and `{}` {}", a.key, a.tensor.shape, b.key, b.tensor.shape);
    let (adapter, tensor, base) = (claiming.adapter.name.clone(), weight.name.clone(), weight.shape.clone());
    ErrorKind::DeltaShape { adapter, tensor, delta, base, factors }.into()
}

/// Whether the target is stored as `[in, out]`: by its shape, and by the model's family only if it is square.
pub(crate) fn orientation(
    claiming: &mut Claiming<'_>,
    target: Target,
    module: &str,
    (out, input): (u64, u64),
    a: &AdapterTensor,
    b: &AdapterTensor,
) -> Result<bool, Error> {
    let weight = claiming.weight(target);
    let family_says = claiming.stores_transposed(&weight.name);
    match *weight.shape.axes() {
        [rows, cols] if rows == cols && (rows, cols) == (out, input) => {
            let flag = claiming.adapter.options.fan_in_fan_out;
            if flag != family_says {
                claiming.notice(format!(
                    "`{module}` is square, so its shape does not tell how it is stored; {} is followed, not \
                     `fan_in_fan_out` of the adapter, which says {flag}",
                    if family_says { "the Conv1D storage of its model type" } else { "plain storage" }
                ));
            }
            Ok(family_says)
        }
        [rows, cols] if (rows, cols) == (out, input) => Ok(false),
        [rows, cols] if (rows, cols) == (input, out) => Ok(true),
        // A convolution: inputs and kernel are one axis.
        [rows, ref rest @ ..] if rest.len() > 1 && (rows, rest.iter().product()) == (out, input) => Ok(false),
        ref axes => {
            let hint = match axes {
                [_, per_group, kernel @ ..]
                    if !kernel.is_empty()
                        && input.is_multiple_of(per_group * kernel.iter().product::<u64>()) =>
                {
                    "it is a grouped convolution, which PEFT cannot merge LoRA into either"
                }
                _ => "the adapter was trained on a model with other sizes: is it for this base?",
            };
            let delta = Shape::new(&[out, input]).expect("both fit a file");
            Err(delta_shape(claiming, &weight, delta, a, b).hint(hint))
        }
    }
}

/// As [`Adapter::scale`](crate::adapters::adapter::Adapter::scale). Whoever makes an op of it rounds it to f32 once.
pub(crate) fn scale(claiming: &Claiming<'_>, module: &str, rank: u64) -> Result<f64, Error> {
    claiming.adapter.scale(module, Some(rank))
}
