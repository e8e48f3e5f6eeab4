//! Grammar of the tails that adapter tensors have behind their module's path: one row for each family of methods.
//!
//! A dialect brings its keys to paths of this grammar, `MODULE TAIL`; claims, the check of targets and `inspect` read them
//! here and nowhere else, so that they cannot disagree on what a tensor is. A row counts only in adapters of its own types,
//! as a module of the model may be called like another method's factor.
//!
//! ```text
//! model.layers.0.self_attn.q_proj.lora_A.default.weight      LORA
//! └──────────── module ─────────┘└role ┘└ name ┘└ending┘     Role::A
//! model.layers.0.mlp.experts.base_layer.lora_B.weight
//! └──────── owner ─────────┘└─ wrapper ┘                     module = owner and wrapper
//! ```

use std::num::NonZeroU8;

/// What a tensor is to its module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The input factor of a product, `[rank, in]`.
    A,
    /// The output factor of a product, `[out, rank]`.
    B,
    /// What is added to the module's bias.
    Bias,
    /// Norms that the merged weight is scaled to.
    Magnitude,
    /// A diagonal between the two factors.
    Middle,
    /// Anything else that belongs to a method.
    Factor,
    /// A frozen copy of what the adapter holds, which nothing is made of.
    Frozen,
    /// A value that stands in place of a parameter.
    Value,
}

/// A role's segment and what follows it in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Begins with a dot: `.lora_A`.
    pub role: &'static str,
    /// `.weight`, `.bias`, or nothing.
    pub ending: &'static str,
}

impl Tail {
    /// One that ends with its role.
    pub(crate) const fn bare(role: &'static str) -> Tail {
        Tail { role, ending: "" }
    }

    /// The module path of `key` if it ends in this tail, with or without an adapter's name.
    pub(crate) fn module<'k>(&self, key: &'k str) -> Option<&'k str> {
        let stem = key.strip_suffix(self.ending)?;
        if let Some(module) = stem.strip_suffix(self.role) {
            return Some(module);
        }
        let (stem, name) = stem.rsplit_once('.')?;
        // An ending must not pass for a name: `.lora_B.weight` is no `.lora_B` called `weight`.
        if name == "weight" || name == "bias" {
            return None;
        }
        stem.strip_suffix(self.role)
    }

    /// The key that a module has under this tail, without an adapter's name.
    pub(crate) fn key(&self, module: &str) -> String {
        format!("{module}{}{}", self.role, self.ending)
    }
}

/// Methods whose tensors are named alike.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Family {
    /// What their modules are called in reports.
    pub name: &'static str,
    /// The `peft_type`s whose adapters may have such tensors.
    pub types: &'static [&'static str],
    /// How the segment behind the module begins.
    starts: &'static str,
    /// Tails whose role is known; whatever else begins so is [`Role::Factor`].
    tails: &'static [(Tail, Role)],
}

/// LoRA's tails and those of methods that share its names; embeddings first.
const LOW_RANK: &[(Tail, Role)] = &[
    (Tail::bare(".lora_embedding_A"), Role::A),
    (Tail::bare(".lora_embedding_B"), Role::B),
    (Tail { role: ".lora_A", ending: ".weight" }, Role::A),
    (Tail { role: ".lora_B", ending: ".weight" }, Role::B),
    (Tail { role: ".lora_B", ending: ".bias" }, Role::Bias),
    (Tail::bare(".lora_magnitude_vector"), Role::Magnitude),
    (Tail { role: ".lora_magnitude_vector", ending: ".weight" }, Role::Magnitude),
    (Tail::bare(".lora_A"), Role::A),
    (Tail::bare(".lora_B"), Role::B),
    (Tail::bare(".lora_E"), Role::Middle),
    (Tail::bare(".lora_diag"), Role::Middle),
];

/// A family of one type, whose tensors no one asks more of than that they are its own.
const fn family(name: &'static str, types: &'static [&'static str], starts: &'static str) -> Family {
    Family { name, types, starts, tails: &[] }
}

/// All families that are known, also those that are not merged yet.
pub(crate) static FAMILIES: &[Family] = &[
    Family { name: "lora", types: &["LORA", "LYCORIS"], starts: "lora_", tails: LOW_RANK },
    Family { name: "adalora", types: &["ADALORA"], starts: "lora_", tails: LOW_RANK },
    family("trainable_tokens", &["LORA", "TRAINABLE_TOKENS"], "trainable_tokens_"),
    family("adamss", &["ADAMSS"], "adamss_"),
    family("beft", &["BEFT"], "beft_"),
    family("boft", &["BOFT"], "boft_"),
    family("bone", &["BONE"], "bone_"),
    family("c3a", &["C3A"], "c3a_"),
    family("deft", &["DEFT"], "deft_"),
    family("delora", &["DELORA"], "delora_"),
    family("diff", &["LYCORIS"], "diff_"),
    family("fourierft", &["FOURIERFT"], "fourierft_"),
    family("frod", &["FROD"], "frod_"),
    family("glora", &["GLORA", "LYCORIS"], "glora_"),
    family("gralora", &["GRALORA"], "gralora_"),
    family("hira", &["HIRA"], "hira_"),
    family("hra", &["HRA"], "hra_"),
    family("ia3", &["IA3", "LYCORIS"], "ia3_"),
    family("ln_tuning", &["LN_TUNING"], "ln_tuning_"),
    family("loha", &["LOHA", "LYCORIS"], "hada_"),
    family("lokr", &["LOKR", "LYCORIS"], "lokr_"),
    family("miss", &["MISS"], "miss_"),
    family("oft", &["OFT", "LYCORIS"], "oft_"),
    family("osf", &["OSF"], "osf_"),
    family("peanut", &["PEANUT"], "peanut_"),
    family("psoft", &["PSOFT"], "psoft_"),
    family("pvera", &["PVERA"], "pvera_"),
    family("randlora", &["RANDLORA"], "randlora_"),
    family("road", &["ROAD"], "road_"),
    family("shira", &["SHIRA"], "shira_"),
    family("supertuning", &["SUPERTUNING"], "supertuning_"),
    family("tinylora", &["TINYLORA"], "tinylora_"),
    family("tucker", &["LYCORIS"], "tucker_"),
    family("unilora", &["UNILORA"], "unilora_"),
    family("vblora", &["VBLORA"], "vblora_"),
    family("vera", &["VERA"], "vera_"),
    family("waveft", &["WAVEFT"], "waveft_"),
];

/// The families that adapters of one type may have tensors of: what their paths are read by.
#[derive(Clone, Debug)]
pub(crate) struct Grammar(Vec<(NonZeroU8, &'static Family)>);

impl Grammar {
    /// The grammar of adapters of type `kind`; without families if nobody knows it.
    pub(crate) fn of(kind: &str) -> Grammar {
        let places = (1..).map_while(NonZeroU8::new).zip(FAMILIES);
        Grammar(places.filter(|(_, family)| family.types.contains(&kind)).collect())
    }

    /// Whether the names of such adapters' tensors are known.
    pub(crate) fn is_known(&self) -> bool {
        !self.0.is_empty()
    }

    /// Reads the path of a tensor.
    pub(crate) fn read(&self, path: &str) -> Part {
        let is_role =
            |segment: &str| self.family(segment).is_some() || is_wrapper(segment) || segment == FROZEN;
        let parent = path.rsplit_once('.').map_or("", |(module, _)| module);
        let len = |part: &str| {
            u16::try_from(part.len()).expect("readers of headers refuse names of more than 512 bytes")
        };
        let in_parent = len(parent);
        let owner = len(until(path, is_role).unwrap_or(parent));
        if path.split('.').any(|segment| segment == FROZEN) {
            return Part { family: None, role: Role::Frozen, module: in_parent, owner };
        }
        match self.of_method(path) {
            Some((family, role, module)) => Part { family: Some(family), role, module: len(module), owner },
            None => Part { family: None, role: Role::Value, module: in_parent, owner },
        }
    }

    /// The family whose tensors' segments begin as this one.
    fn family(&self, segment: &str) -> Option<NonZeroU8> {
        self.0.iter().find(|(_, family)| segment.starts_with(family.starts)).map(|(place, _)| *place)
    }

    /// Family's place, role and module of a path that belongs to a method: by its tail, else by the last segment that begins as one.
    fn of_method<'p>(&self, path: &'p str) -> Option<(NonZeroU8, Role, &'p str)> {
        for &(place, family) in &self.0 {
            for (tail, role) in family.tails {
                if let Some(module) = tail.module(path) {
                    return Some((place, *role, module));
                }
            }
        }
        let mut start = path.len();
        for segment in path.rsplit('.') {
            start -= segment.len();
            if let Some(family) = self.family(segment) {
                let module = path[..start].trim_end_matches('.');
                let inner = module.strip_suffix(TOKEN_ADAPTER).and_then(|inner| inner.strip_suffix('.'));
                return Some((family, Role::Factor, inner.unwrap_or(module)));
            }
            start = start.saturating_sub(1);
        }
        None
    }
}

/// What stands between a module's path and its parameter in the keys of wrapped modules.
const MODULE_WRAPPERS: &[&str] = &["token_adapter.base_layer", "base_layer", "modules_to_save"];
/// The segment of the frozen copy that PEFT keeps of a module that is trained whole.
const FROZEN: &str = "original_module";
/// The wrapper of an embedding whose rows are trained; no module of the model.
const TOKEN_ADAPTER: &str = "token_adapter";

/// What the path of a tensor says, as places in it: few bytes, as an adapter may have 120,000 tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The place of the family that it belongs to, from 1; none for a value.
    family: Option<NonZeroU8>,
    /// What it is to its module.
    pub role: Role,
    /// The length of the module's path as the adapter spells it.
    module: u16,
    /// The length of the path of the model's own module, wrappers and all behind them left out.
    owner: u16,
}

impl Part {
    /// The family that it belongs to; none for a value.
    pub(crate) fn family(&self) -> Option<&'static Family> {
        self.family.map(|place| &FAMILIES[usize::from(place.get()) - 1])
    }

    /// The module's path as the adapter spells it, of the path that this was read from.
    pub(crate) fn module<'p>(&self, path: &'p str) -> &'p str {
        &path[..self.module as usize]
    }

    /// The path of the model's own module, of the path that this was read from.
    pub(crate) fn owner<'p>(&self, path: &'p str) -> &'p str {
        &path[..self.owner as usize]
    }
}

/// What stands before the first segment that is one.
fn until(path: &str, is_one: impl Fn(&str) -> bool) -> Option<&str> {
    let mut at = 0;
    for segment in path.split('.') {
        if is_one(segment) {
            return Some(path[..at].trim_end_matches('.'));
        }
        at += segment.len() + 1;
    }
    None
}

fn is_wrapper(segment: &str) -> bool {
    MODULE_WRAPPERS.iter().any(|wrapper| wrapper.split('.').any(|part| part == segment))
}

/// The module and the parameter of a path, wrappers and the adapter's name behind them left out.
pub(crate) fn replaced(path: &str) -> (String, &str) {
    let (module, parameter) = path.rsplit_once('.').unwrap_or(("", path));
    for wrapper in MODULE_WRAPPERS {
        if let Some(module) = module.strip_suffix(wrapper).and_then(|module| module.strip_suffix('.')) {
            return (module.to_owned(), parameter);
        }
        if let Some((module, _name)) = module.rsplit_once('.')
            && let Some(module) = module.strip_suffix(wrapper).and_then(|module| module.strip_suffix('.'))
        {
            return (module.to_owned(), parameter);
        }
    }
    (module.to_owned(), parameter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_take_off_the_adapters_name_and_nothing_else() {
        let a = Tail { role: ".lora_A", ending: ".weight" };
        for (key, module) in [
            ("layers.0.q_proj.lora_A.weight", Some("layers.0.q_proj")),
            ("layers.0.q_proj.lora_A.default.weight", Some("layers.0.q_proj")),
            ("layers.0.lora_A.lora.weight", Some("layers.0")),
            ("layers.0.q_proj.lora_B.weight", None),
            ("layers.0.q_proj.weight", None),
            ("lora_A.x.y.weight", None),
        ] {
            assert_eq!(a.module(key), module, "{key}");
        }
        let bare = Tail::bare(".lora_magnitude_vector");
        assert_eq!(bare.module("q.lora_magnitude_vector"), Some("q"));
        assert_eq!(bare.module("q.lora_magnitude_vector.weight"), None, "that is another tail");
        assert_eq!(a.key("q"), "q.lora_A.weight");
    }

    #[test]
    fn wrappers_are_left_out_only_before_the_parameter() {
        for (path, module, parameter) in [
            ("lm_head.weight", "lm_head", "weight"),
            ("score.modules_to_save.default.weight", "score", "weight"),
            ("score.modules_to_save.bias", "score", "bias"),
            ("a.q_proj.base_layer.bias", "a.q_proj", "bias"),
            ("base_layer.x.weight", "base_layer.x", "weight"),
            ("scale", "", "scale"),
            ("e.token_adapter.base_layer.weight", "e", "weight"),
        ] {
            assert_eq!(replaced(path), (module.to_owned(), parameter), "{path}");
        }
    }

    #[test]
    fn a_path_says_module_owner_and_role() {
        for (kind, path, module, owner, role) in [
            ("LORA", "m.q.lora_A.weight", "m.q", "m.q", Role::A),
            ("LORA", "m.q.lora_B.default.weight", "m.q", "m.q", Role::B),
            ("LORA", "m.q.lora_B.bias", "m.q", "m.q", Role::Bias),
            ("LORA", "m.q.lora_magnitude_vector", "m.q", "m.q", Role::Magnitude),
            ("LORA", "m.q.lora_diag", "m.q", "m.q", Role::Middle),
            ("LORA", "m.q.lora_velora_embed", "m.q", "m.q", Role::Factor),
            ("LORA", "m.experts.base_layer.lora_B.weight", "m.experts.base_layer", "m.experts", Role::B),
            ("LORA", "m.e.token_adapter.trainable_tokens_delta", "m.e", "m.e", Role::Factor),
            (
                "LORA",
                "m.e.token_adapter.base_layer.weight",
                "m.e.token_adapter.base_layer",
                "m.e",
                Role::Value,
            ),
            ("LORA", "lm_head.weight", "lm_head", "lm_head", Role::Value),
            ("LORA", "m.q.base_layer.bias", "m.q.base_layer", "m.q", Role::Value),
            ("LORA", "score.modules_to_save.weight", "score.modules_to_save", "score", Role::Value),
            ("LORA", "score.original_module.weight", "score.original_module", "score", Role::Frozen),
            ("LORA", "oft_block.weight", "oft_block", "oft_block", Role::Value),
            ("LN_TUNING", "m.norm.ln_tuning_layers.default.weight", "m.norm", "m.norm", Role::Factor),
            ("LN_TUNING", "m.norm.ln_tuning_layers.bias", "m.norm", "m.norm", Role::Factor),
            ("IA3", "m.q.ia3_l", "m.q", "m.q", Role::Factor),
            ("LOHA", "m.q.hada_w1_a", "m.q", "m.q", Role::Factor),
            ("OFT", "m.q.oft_R.default.weight", "m.q", "m.q", Role::Factor),
            ("VERA", "vera_A", "", "", Role::Factor),
            ("VERA", "vera.w", "vera", "vera", Role::Value),
        ] {
            let part = Grammar::of(kind).read(path);
            assert_eq!((part.module(path), part.owner(path), part.role), (module, owner, role), "{path}");
        }
    }

    #[test]
    fn a_type_names_its_families() {
        let names = |kind| Grammar::of(kind).0.iter().map(|(_, family)| family.name).collect::<Vec<_>>();
        assert_eq!(names("LORA"), ["lora", "trainable_tokens"]);
        assert_eq!(names("ADALORA"), ["adalora"]);
        assert_eq!(names("NEW_THING"), [""; 0]);
    }
}
