//! An adapter's options as claims and `inspect` ask for them, whatever its dialect calls them and wherever it keeps them.
//!
//! A dialect fills them once, when it opens an adapter. What it found to be of a wrong type is kept as a [`Problem`], which
//! the check of the config reports with all that it refuses.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::checkpoint::config::Config;
use crate::error::{Error, Result};
use crate::model::heads::{Task, task, task_of_class};

use crate::adapters::peft::config::unreadable_pattern;
use crate::adapters::peft::methods::method_options::MethodOptions;
use crate::adapters::peft::patterns::Patterns;
use crate::adapters::problem::Problem;

/// PEFT's default of both rank and alpha, for files that leave them out.
pub(crate) const DEFAULT: f64 = 8.0;

/// Options that decide what an adapter's tensors mean.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Name of the adapter, for messages.
    pub adapter: String,
    /// The rank of modules that have none of their own.
    pub rank: f64,
    /// The alpha of modules that have none of their own.
    pub alpha: f64,
    /// What the config calls alpha, for messages.
    pub alpha_field: &'static str,
    /// Ranks of some modules.
    pub ranks: Patterns,
    /// Alphas of some modules.
    pub alphas: Patterns,
    /// Rank and alpha of modules that say theirs by themselves, by their paths.
    pub own: HashMap<String, RankAlpha>,
    /// The divisor of alpha is the root of the rank.
    pub rslora: bool,
    /// Magnitudes were trained (DoRA).
    pub dora: bool,
    /// The base's linear layers are stored as `[in, out]`, by what the config says.
    pub fan_in_fan_out: bool,
    /// Every output factor has a bias.
    pub lora_bias: bool,
    /// Tied weights were trained as one.
    pub ensure_weight_tying: bool,
    /// Parameters, not modules, that were adapted.
    pub target_parameters: Vec<String>,
    /// The base it was trained on, a path or a name.
    pub base: Option<String>,
    /// The revision of that base.
    pub revision: Option<String>,
    /// The classes and model types of that base.
    pub trained_on: TrainedClasses,
    /// What it was trained for, as transformers names tasks.
    pub task: Option<String>,
    /// The class that it was trained in, where that is known.
    pub class: Option<String>,
    /// Modules that were trained whole, by the ends of their paths; some may be new.
    pub saved: Vec<String>,
    /// Biases of the model were trained with it.
    pub biases: bool,
    /// The names of labels by their number, where it has them.
    pub labels: Option<Map<String, Value>>,
    /// What single methods must know.
    pub methods: MethodOptions,
    /// What is of a wrong type.
    pub problems: Vec<Problem>,
}

/// What an adapter says of the model that it was trained on, beside its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TrainedClasses {
    /// Its classes.
    pub classes: Vec<String>,
    /// Its model types.
    pub types: Vec<String>,
}

impl TrainedClasses {
    /// Adds what the config of a base says of it.
    pub(crate) fn add(&mut self, base: &Config) {
        self.classes.extend(base.classes().into_iter().map(str::to_owned));
        self.types.extend(base.model_type().map(str::to_owned));
    }
}

/// Rank and alpha of one module.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RankAlpha {
    /// Inner dimension of its factors.
    pub rank: f64,
    /// What the rank divides.
    pub alpha: f64,
}

impl Options {
    /// Options of an adapter that says nothing.
    pub(crate) fn new(adapter: String) -> Options {
        Options {
            adapter,
            rank: DEFAULT,
            alpha: DEFAULT,
            alpha_field: "alpha",
            ranks: Patterns::default(),
            alphas: Patterns::default(),
            own: HashMap::new(),
            rslora: false,
            dora: false,
            fan_in_fan_out: false,
            lora_bias: false,
            ensure_weight_tying: false,
            target_parameters: Vec::new(),
            base: None,
            revision: None,
            trained_on: TrainedClasses::default(),
            task: None,
            class: None,
            saved: Vec::new(),
            biases: false,
            labels: None,
            methods: MethodOptions::default(),
            problems: Vec::new(),
        }
    }

    /// The task with a head of its own that it was trained for: as it says, else as its class is called.
    pub(crate) fn head_task(&self) -> Option<&'static Task> {
        let of_class = || task_of_class(self.class.as_deref()?);
        self.task.as_deref().map_or_else(of_class, task)
    }

    /// Whether a module may be one that training added to the model: it was trained whole, and stands outside stacks of layers.
    ///
    /// PEFT's rule for `modules_to_save`: an entry is the end of a path, whether or not a segment begins there (`classifier`
    /// names `pre_classifier` of DistilBERT too). What stands inside such a module was saved with it.
    pub(crate) fn may_be_new(&self, module: &str) -> bool {
        let ends = module.match_indices('.').map(|(at, _)| at).chain([module.len()]);
        let mut outer = ends.map(|end| &module[..end]).filter(|path| !path.split('.').any(is_number));
        outer.any(|path| self.saved.iter().any(|entry| !entry.is_empty() && path.ends_with(entry.as_str())))
    }

    /// The refusals of all that is of a wrong type.
    pub(crate) fn refused(&self) -> Vec<Error> {
        self.problems.iter().map(|problem| problem.refused(&self.adapter)).collect()
    }

    /// Rank and alpha that were asked for `module`, by its path as the adapter spells it.
    ///
    /// # Errors
    /// [`AdapterError::Pattern`](crate::error::adapter::AdapterError::Pattern) for a pattern on which it takes too long to tell.
    pub(crate) fn planned(&self, module: &str) -> Result<RankAlpha> {
        if let Some(own) = self.own.get(module) {
            return Ok(*own);
        }
        let find = |patterns: &Patterns, default| {
            patterns.number(module).map(|found| found.unwrap_or(default)).map_err(|unread| {
                unreadable_pattern(&self.adapter, unread.field, &unread.pattern, unread.cause)
            })
        };
        Ok(RankAlpha { rank: find(&self.ranks, self.rank)?, alpha: find(&self.alphas, self.alpha)? })
    }

    /// The same for what keys call `module`; none if it may be several parameters that have not the same.
    ///
    /// # Errors
    /// As [`planned`](Self::planned).
    pub(crate) fn planned_by_key(&self, module: &str) -> Result<Option<RankAlpha>> {
        let mut agreed = None;
        for path in self.paths(module) {
            let found = self.planned(&path)?;
            if agreed.is_some_and(|agreed| agreed != found) {
                return Ok(None);
            }
            agreed = Some(found);
        }
        Ok(agreed)
    }

    /// What patterns may call a module: its path, or where `target_parameters` are set the paths of those parameters of it.
    ///
    /// Keys name only the module of such a parameter, and several of one module are told apart by how often `base_layer`
    /// stands behind it, in an order that the model's class decides.
    fn paths(&self, module: &str) -> Vec<String> {
        let mut owner = module;
        while let Some(inner) = owner.strip_suffix(".base_layer") {
            owner = inner;
        }
        let is_of = |of: &str| owner == of || owner.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'));
        let targets = self.target_parameters.iter().filter_map(|target| target.rsplit_once('.'));
        let paths: Vec<String> = targets
            .filter(|(of, _)| is_of(of))
            .map(|(_, parameter)| format!("{owner}.{parameter}"))
            .collect();
        if paths.is_empty() { vec![module.to_owned()] } else { paths }
    }

    /// What the delta of `module` is multiplied by before it is rounded to f32: `weight · alpha / rank`, or `/ √rank`, as often
    /// as the delta is added.
    pub(crate) fn scale(&self, weight: f64, planned: RankAlpha, module: &str) -> f64 {
        let divisor = if self.rslora { planned.rank.sqrt() } else { planned.rank };
        times_added(module) * (weight * planned.alpha / divisor)
    }
}

fn is_number(segment: &str) -> bool {
    !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit())
}

/// How often the delta of a module is added.
///
/// `nn.MultiheadAttention` keeps its three input projections in `in_proj_weight`. PEFT wraps it and its `out_proj` inside
/// the wrapper (`….base_layer.out_proj`), and applies the delta of `out_proj` twice, in training as in its merge
/// (peft-methods.md 3.5; measured with PEFT 0.21.2). Nothing else has a wrapped module inside a wrapped one.
fn times_added(module: &str) -> f64 {
    if wrapped_attention(module).is_some() { 2.0 } else { 1.0 }
}

/// The path of the attention whose `out_proj` is at `module`, inside the wrapper of the attention itself.
pub(crate) fn wrapped_attention(module: &str) -> Option<&str> {
    module.strip_suffix(".base_layer.out_proj")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_modules_are_saved_ones_outside_layers() {
        let mut options = Options::new("style".to_owned());
        options.saved = vec!["classifier".to_owned(), "pooler".to_owned()];
        for (module, is_new) in [
            ("classifier", true),
            ("pre_classifier", true),
            ("classifier.1", true),
            ("pooler.dense", true),
            ("bert.pooler.dense", true),
            ("score", false),
            ("layers.0.pooler.dense", false),
            ("pooler_2.dense", false),
        ] {
            assert_eq!(options.may_be_new(module), is_new, "{module}");
        }
    }

    #[test]
    fn a_scale_is_alpha_by_rank_as_often_as_it_is_added() {
        let mut options = Options::new("style".to_owned());
        let planned = RankAlpha { rank: 4.0, alpha: 8.0 };
        assert_eq!(options.scale(1.0, planned, "m.out_proj"), 2.0);
        assert_eq!(options.scale(0.5, planned, "m.attn.base_layer.out_proj"), 2.0);
        assert_eq!(options.scale(1.0, planned, "m.attn.base_layer.out_proj"), 4.0);
        assert_eq!(options.scale(1.0, planned, "base_layer.out_proj"), 2.0, "nothing is wrapped");
        options.rslora = true;
        assert_eq!(options.scale(1.0, planned, "m.out_proj"), 4.0);
    }
}
