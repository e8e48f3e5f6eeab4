//! What an adapter is: its config as far as it changes the arithmetic, its modules, and the size of what each adds.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::adapters::adapter::Adapter;
use crate::adapters::options::RankAlpha;
use crate::adapters::parts::Grammar;
use crate::adapters::peft::config::AdapterConfig;
use crate::adapters::scan::Contents;
use crate::adapters::scan::scan;
use crate::cancel::Cancel;
use crate::error::Result;
use crate::model::names::experts::{all_experts, all_experts_spelled};
use crate::note::Note;
use crate::note::input::InputNote;
use crate::tensor::dtype::Dtype;
use crate::tensor::shape::Shape;

use crate::inspect::modules::{Parts, Sorted, sort};
use crate::inspect::norm::{Norms, sizes};
use crate::inspect::totals::{DtypeTotals, Totals, sum};

/// What an adapter is.
#[derive(Clone, Debug, Serialize)]
pub struct AdapterReport {
    /// The directory's name.
    pub name: String,
    /// The dialect that it is written in.
    pub format: &'static str,
    /// `peft_type` of the config.
    pub peft_type: String,
    /// `peft_version` of the config.
    pub peft_version: Option<String>,
    /// The base it was trained on, as the config names it.
    pub base: Option<String>,
    /// `task_type` of the config.
    pub task_type: Option<String>,
    /// BLAKE3 of the file of its tensors, in hex.
    pub blake3: String,
    /// `r`, for LoRA; PEFT's default if the config has none.
    pub r: Option<f64>,
    /// `lora_alpha`, for LoRA; PEFT's default if the config has none.
    pub alpha: Option<f64>,
    /// `use_rslora`: the scale is `alpha/√rank`.
    pub rslora: bool,
    /// `use_dora`.
    pub dora: bool,
    /// Every other field that is set and may change the arithmetic.
    pub settings: Map<String, Value>,
    /// All tensors together.
    pub totals: Totals,
    /// The same by dtype, most bytes first.
    pub dtypes: Vec<DtypeTotals>,
    /// The modules that it changes.
    pub modules: Vec<Module>,
    /// Tensors that stand in place of one of the base (`modules_to_save`, biases).
    pub replacements: Vec<KeyLine>,
    /// Tensors of a method that shardfold does not know.
    pub unknown: Vec<KeyLine>,
    /// Keys of tensors with a value that is not finite.
    pub non_finite: Vec<String>,
    /// Things worth saying.
    #[serde(skip)]
    pub notes: Vec<Note>,
}

/// One module that an adapter changes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Module {
    /// Its path; empty for what belongs to the whole model.
    pub module: String,
    /// What its tensors are: `lora`, `dora`, `lora_embedding`, `ia3` and so on.
    pub kind: &'static str,
    /// Inner dimension of its factors, for LoRA.
    pub rank: Option<u64>,
    /// What the product of its factors is multiplied by, for LoRA.
    pub scale: Option<f64>,
    /// Elements of its tensors.
    pub parameters: u64,
    /// ‖scale·B·A‖, the Frobenius norm; none where the factors alone do not give it.
    pub norm: Option<f64>,
    /// Whether what is added also depends on the base, as DoRA's does.
    pub depends_on_base: bool,
    /// Why it changes nothing, if it does not.
    pub dead: Option<String>,
    /// What is odd about it.
    pub faults: Vec<String>,
}

/// One tensor of an adapter.
#[derive(Clone, Debug, Serialize)]
pub struct KeyLine {
    /// Its key.
    pub key: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape, slowest axis first.
    pub shape: Shape,
}

/// Fields that say where an adapter comes from, what was selected or how it was trained, but not what is added.
const NEUTRAL: &[&str] = &[
    "auto_mapping",
    "base_model_name_or_path",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "revision",
    "target_modules",
    "task_type",
];
/// The type whose modules have ranks and scales.
const LORA: &str = "LORA";
/// Fields of LoRA that have a place of their own in the report.
const SHOWN_APART: &[&str] = &["lora_alpha", "r", "use_dora", "use_rslora"];

impl AdapterReport {
    /// What `adapter` is. Its file is read twice at most, a small piece at a time.
    ///
    /// # Errors
    /// Patterns and numbers of the config that are none, and as [`Source::read_at`](crate::storage::source::Source::read_at).
    pub fn new(adapter: &Adapter, cancel: &Cancel) -> Result<AdapterReport> {
        let config = &adapter.config;
        if let Some(wrong) = adapter.options.refused().into_iter().next() {
            return Err(wrong);
        }
        let (totals, dtypes) = sum(adapter.tensors.iter().map(|tensor| &tensor.tensor));
        let contents = scan(adapter, cancel)?;
        let is_known = Grammar::of(&adapter.kind).is_known();
        let Sorted { modules, replacements, unknown } = sort(&adapter.tensors, is_known);
        let is_lora = adapter.kind == LORA;
        let mut reader = Reader { adapter, contents: &contents, norms: Norms::new(adapter.source.as_ref()) };
        let modules = modules.into_iter().map(|parts| reader.module(parts)).collect::<Result<Vec<_>>>()?;
        let non_finite =
            adapter.tensors.iter().zip(&contents.tensors).filter(|(_, contents)| !contents.finite);
        let mut notes = Vec::new();
        if !is_known {
            notes.push(InputNote::UnknownPeftType { peft_type: adapter.kind.clone() }.into());
        }
        let options = &adapter.options;
        Ok(AdapterReport {
            name: adapter.name.clone(),
            format: adapter.dialect,
            peft_version: config.text("peft_version").filter(|text| !text.is_empty()).map(str::to_owned),
            base: options.base.clone(),
            task_type: options.task.clone(),
            blake3: contents.hash.clone(),
            r: is_lora.then_some(options.rank),
            alpha: is_lora.then_some(options.alpha),
            rslora: options.rslora,
            dora: options.dora,
            settings: settings(config, is_lora),
            totals,
            dtypes,
            modules,
            replacements: replacements.into_iter().map(|i| key_line(adapter, i)).collect(),
            unknown: unknown.into_iter().map(|i| key_line(adapter, i)).collect(),
            non_finite: non_finite.map(|(tensor, _)| tensor.key.to_string()).collect(),
            notes,
            peft_type: adapter.kind.clone(),
        })
    }
}

fn key_line(adapter: &Adapter, i: usize) -> KeyLine {
    let tensor = &adapter.tensors[i];
    KeyLine { key: tensor.key.to_string(), dtype: tensor.tensor.dtype, shape: tensor.tensor.shape.clone() }
}

/// The fields that are set and not known to leave the arithmetic alone.
fn settings(config: &AdapterConfig, is_lora: bool) -> Map<String, Value> {
    let is_usual = |name: &str, value: &Value| match name {
        "bias" => value == "none",
        "init_lora_weights" | "init_weights" => value == true,
        // Dropout acts while training only.
        _ if name.ends_with("dropout") => true,
        _ => NEUTRAL.contains(&name) || is_lora && SHOWN_APART.contains(&name),
    };
    let set = config.active().filter(|(name, value)| !is_usual(name, value));
    set.map(|(name, value)| (name.to_owned(), value.clone())).collect()
}

/// What it takes to report modules.
struct Reader<'r> {
    adapter: &'r Adapter,
    contents: &'r Contents,
    norms: Norms<'r>,
}

impl Reader<'_> {
    fn module(&mut self, parts: Parts) -> Result<Module> {
        let elements = parts.tensors.iter().map(|&i| self.adapter.tensors[i].tensor.shape.elements());
        let mut module = Module {
            kind: self.kind(&parts),
            rank: None,
            scale: None,
            parameters: elements.fold(0, u64::saturating_add),
            norm: None,
            depends_on_base: parts.magnitude.is_some(),
            dead: None,
            faults: Vec::new(),
            module: parts.module.clone(),
        };
        if parts.twice {
            module.faults.push("a tensor is there in two spellings".to_owned());
        }
        match (parts.a, parts.b) {
            (Some(a), Some(b)) if parts.family == "lora" => self.factors(&mut module, &parts, a, b)?,
            (Some(_), Some(_)) => {}
            (Some(_), None) => module.faults.push("its B is missing".to_owned()),
            (None, Some(_)) => module.faults.push("its A is missing".to_owned()),
            (None, None) if matches!(parts.family, "lora" | "adalora") => {
                module.faults.push("its factors are missing".to_owned())
            }
            (None, None) => {}
        }
        Ok(module)
    }

    /// The kind of a module by its tensors.
    fn kind(&self, parts: &Parts) -> &'static str {
        let factor = parts.a.or(parts.b);
        let is_embedding =
            factor.is_some_and(|i| self.adapter.tensors[i].path().contains(".lora_embedding_"));
        match parts.family {
            "lora" if parts.middle.is_some() => "kasa",
            "lora" => match (parts.magnitude.is_some(), is_embedding) {
                (true, true) => "dora_embedding",
                (true, false) => "dora",
                (false, true) => "lora_embedding",
                (false, false) => "lora",
            },
            family => family,
        }
    }

    /// Rank, scale and norm of a module with both factors.
    fn factors(&mut self, module: &mut Module, parts: &Parts, a: usize, b: usize) -> Result<()> {
        let shape = &self.adapter.tensors[a].tensor.shape;
        let rows = shape.axes().first().copied().unwrap_or(0);
        module.dead = self.dead_factor(parts, a, b);
        let options = &self.adapter.options;
        let Some(RankAlpha { rank: planned, alpha }) = options.planned_by_key(&parts.module)? else {
            let why = "its parameters have different ranks or alphas, and the file does not say which of them this is";
            module.faults.push(why.to_owned());
            return Ok(());
        };
        let scale = |rank| {
            let scale = options.scale(
                self.adapter.weight_of(&parts.module),
                RankAlpha { rank, alpha },
                &parts.module,
            );
            Some(scale).filter(|scale| scale.is_finite())
        };
        // Parameters of many experts have one pair of factors for all of them, expert by expert.
        let is_stacked = !options.target_parameters.is_empty()
            && planned >= 1.0
            && planned != rows as f64
            && rows as f64 % planned == 0.0;
        let names_stack =
            all_experts(&parts.module).is_some() || all_experts_spelled(&parts.module).is_some();
        let in_stacks = shape.axes().len() == 3 && names_stack;
        if is_stacked || in_stacks {
            module.kind = "lora_experts";
            module.rank = Some(planned as u64);
            module.scale = scale(planned);
            return Ok(());
        }
        module.rank = Some(rows);
        module.scale = scale(rows as f64);
        if planned != rows as f64 {
            module.faults.push(format!("its A has rank {rows}, the config says {planned}"));
        }
        self.norm(module, parts, a, b)
    }

    /// The norm of a module's delta, and what it tells.
    fn norm(&mut self, module: &mut Module, parts: &Parts, a: usize, b: usize) -> Result<()> {
        let config = &self.adapter.config;
        let a_ref = &self.adapter.tensors[a].tensor;
        let b_ref = &self.adapter.tensors[b].tensor;
        let is_plain =
            parts.middle.is_none() && !["use_bdlora", "use_qalora"].iter().any(|field| is_on(config, field));
        if sizes(&a_ref.shape, &b_ref.shape).is_none() {
            if is_plain {
                module.faults.push(format!("its A {} and B {} do not fit", a_ref.shape, b_ref.shape));
            }
        } else if is_plain && let Some(scale) = module.scale {
            // Of the transpose of a product the norm is the same.
            let stored = |i: usize| self.adapter.tensors[i].clone().across().tensor;
            let is_across = [a, b].iter().all(|&i| self.adapter.tensors[i].is_across);
            let norm = if is_across {
                self.norms.product(&stored(b), &stored(a))?
            } else {
                self.norms.product(a_ref, b_ref)?
            };
            module.norm = norm.map(|norm| scale.abs() * norm).filter(|norm| norm.is_finite());
        }
        if module.dead.is_none() && module.norm == Some(0.0) && self.is_all(parts) {
            module.dead = Some(
                if module.scale == Some(0.0) { "its scale is 0" } else { "its factors cancel" }.to_owned(),
            );
        }
        Ok(())
    }

    /// Which factor makes a module change nothing.
    fn dead_factor(&self, parts: &Parts, a: usize, b: usize) -> Option<String> {
        let zero = |i: usize| self.contents.tensors[i].zero;
        let why = match (zero(a), zero(b)) {
            _ if !self.is_all(parts) => return None,
            (true, true) => "both factors are all zero",
            (true, false) => "its A is all zero",
            (false, true) => "its B is all zero",
            (false, false) => return None,
        };
        Some(why.to_owned())
    }

    /// Whether the factors are all that a module adds: DoRA's magnitudes rescale the base even where the factors add
    /// nothing, and a bias may be added.
    fn is_all(&self, parts: &Parts) -> bool {
        parts.magnitude.is_none() && parts.bias.is_none_or(|bias| self.contents.tensors[bias].zero)
    }
}

/// Whether a field is set to more than null and false.
fn is_on(config: &AdapterConfig, field: &str) -> bool {
    config.active().any(|(name, _)| name == field)
}
