//! Paths of single experts, and which part of a fused parameter each of them is.
//!
//! An experts module is a list of small ones (`experts.3.gate_proj`) or has fused parameters (`experts.gate_up_proj`); an
//! adapter may have been trained on the one while the disk has the other. Only a segment `experts` followed by a number is
//! read as an expert, so that shared experts keep their ordinary names.

use std::borrow::Cow;

/// Which of an expert's projections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExpertRole {
    /// The gate: `gate_proj` or `w1`.
    Gate,
    /// What the gate is multiplied by: `up_proj` or `w3`.
    Up,
    /// The way back: `down_proj` or `w2`.
    Down,
    /// Gate and up in one, as one expert's part of a fused parameter.
    GateUp,
}

/// The path of one expert's projection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ExpertPath<'p> {
    /// Path of the experts module.
    pub stack: &'p str,
    /// Which expert.
    pub number: u64,
    /// Which projection.
    pub role: ExpertRole,
    /// What follows: `weight`, `bias`, or nothing.
    pub parameter: &'p str,
}

const ROLES: &[(&str, &str, ExpertRole)] = &[
    ("gate_proj", "w1", ExpertRole::Gate),
    ("up_proj", "w3", ExpertRole::Up),
    ("down_proj", "w2", ExpertRole::Down),
];
/// Gate and up of all experts in one stack.
const GATE_AND_UP: &str = "w13";
/// How some trainers call the lists that they split fused parameters into: the number comes last.
const LISTS: &[(&str, ExpertRole)] =
    &[("gate_up_projs", ExpertRole::GateUp), ("down_projs", ExpertRole::Down)];

/// Where the segments behind `experts` begin.
fn behind_experts(path: &str) -> Option<usize> {
    const MARK: &[u8] = b".experts.";
    // Every name is asked several times: to prepare a search for each costs more than to look at all of so short a text.
    match path.as_bytes().windows(MARK.len()).rposition(|window| window == MARK) {
        Some(at) => Some(at + MARK.len()),
        None => path.starts_with("experts.").then_some("experts.".len()),
    }
}

/// Reads the path of one expert's projection, or of a parameter of it.
pub(crate) fn expert(path: &str) -> Option<ExpertPath<'_>> {
    let at = behind_experts(path)?;
    let stack = &path[..at - 1];
    let (first, rest) = path[at..].split_once('.')?;
    let (second, parameter) = rest.split_once('.').unwrap_or((rest, ""));
    if let Ok(number) = first.parse() {
        let role = ROLES.iter().find(|(name, short, _)| second == *name || second == *short)?.2;
        return Some(ExpertPath { stack, number, role, parameter });
    }
    let role = LISTS.iter().find(|(list, _)| first == *list)?.1;
    Some(ExpertPath { stack, number: second.parse().ok()?, role, parameter })
}

/// The path with `gate_proj`, `up_proj`, `down_proj` for one expert's `w1`, `w3`, `w2`, so that the two spellings are one.
pub(crate) fn canonical(path: &str) -> Cow<'_, str> {
    let Some(at) = behind_experts(path) else { return Cow::Borrowed(path) };
    let mut segments = path[at..].splitn(3, '.');
    let (Some(number), Some(role)) = (segments.next(), segments.next()) else { return Cow::Borrowed(path) };
    match ROLES.iter().find(|(_, short, _)| role == *short) {
        Some((name, ..)) if number.bytes().all(|c| c.is_ascii_digit()) => {
            let rest = segments.next().map(|rest| format!(".{rest}")).unwrap_or_default();
            Cow::Owned(format!("{}{number}.{name}{rest}", &path[..at]))
        }
        _ => Cow::Borrowed(path),
    }
}

/// Reads the path of one projection of all experts, as trainers call it that keep its factors in one stack: `experts.w1`.
pub(crate) fn all_experts(path: &str) -> Option<(&str, ExpertRole)> {
    let (stack, leaf) = path.rsplit_once('.')?;
    let short = ROLES.iter().find(|(_, short, _)| leaf == *short).map(|(.., role)| *role);
    let role = short.or((leaf == GATE_AND_UP).then_some(ExpertRole::GateUp))?;
    is_experts(stack).then_some((stack, role))
}

/// The experts module and the names by which [`all_experts`] may know a projection that a trainer calls as the model's
/// fused parameters or single projections are called, the likeliest first. Without gates the way up is `w1`.
pub(crate) fn all_experts_spelled(path: &str) -> Option<(&str, &'static [&'static str])> {
    let (stack, leaf) = path.rsplit_once('.')?;
    let names: &[&str] = match leaf {
        "gate_up_proj" => &[GATE_AND_UP],
        "gate_proj" => &["w1"],
        "up_proj" => &["w3", "w1"],
        "down_proj" => &["w2"],
        _ => return None,
    };
    is_experts(stack).then_some((stack, names))
}

fn is_experts(stack: &str) -> bool {
    stack == "experts" || stack.ends_with(".experts")
}

impl ExpertRole {
    /// How the projection of a single expert is called.
    pub(crate) fn single(self) -> &'static str {
        ROLES.iter().find(|(.., role)| *role == self).map_or("gate_up_proj", |(name, ..)| name)
    }
}

impl ExpertPath<'_> {
    /// Names that the fused parameter of which it is a slice may have; the last is that of experts without a gate.
    pub(crate) fn fused(&self) -> Vec<String> {
        let end = if self.parameter == "bias" { "_bias" } else { "" };
        let leaves: &[&str] = match self.role {
            ExpertRole::Gate | ExpertRole::GateUp => &["gate_up_proj"],
            ExpertRole::Up => &["gate_up_proj", "up_proj"],
            ExpertRole::Down => &["down_proj"],
        };
        leaves.iter().map(|leaf| format!("{}.{leaf}{end}", self.stack)).collect()
    }
}

/// An experts module, and the projections of its experts that its fused parameter `name` is made of, in order.
pub(crate) fn stacked(name: &str) -> Option<(&str, &'static [&'static str], &'static str)> {
    let (stack, leaf) = name.rsplit_once('.')?;
    if !is_experts(stack) {
        return None;
    }
    let (leaf, parameter) = leaf.strip_suffix("_bias").map_or((leaf, "weight"), |leaf| (leaf, "bias"));
    let roles: &[&str] = match leaf {
        "gate_up_proj" => &["gate_proj", "up_proj"],
        "gate_proj" => &["gate_proj"],
        "up_proj" => &["up_proj"],
        "down_proj" => &["down_proj"],
        _ => return None,
    };
    Some((stack, roles, parameter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_experts() {
        let expected =
            ExpertPath { stack: "m.mlp.experts", number: 12, role: ExpertRole::Gate, parameter: "weight" };
        assert_eq!(expert("m.mlp.experts.12.w1.weight"), Some(expected));
        let list = expert("m.mlp.experts.gate_up_projs.7").expect("reads");
        assert_eq!((list.number, list.role, list.parameter), (7, ExpertRole::GateUp, ""));
        for path in
            ["m.shared_experts.gate_proj", "m.experts.gate_up_proj", "m.experts.0.norm", "m.mlp.gate_proj"]
        {
            assert_eq!(expert(path), None, "{path}");
        }
    }

    #[test]
    fn projections_of_all_experts() {
        assert_eq!(all_experts("m.mlp.experts.w3"), Some(("m.mlp.experts", ExpertRole::Up)));
        assert_eq!(ExpertRole::Up.single(), "up_proj");
        assert_eq!(all_experts("experts.w13"), Some(("experts", ExpertRole::GateUp)));
        assert_eq!(all_experts_spelled("m.experts.gate_up_proj"), Some(("m.experts", &["w13"][..])));
        assert_eq!(all_experts_spelled("m.mlp.down_proj"), None);
        for path in ["m.mlp.experts.3.w3", "m.mlp.w1", "m.shared_experts.w1", "m.mlp.experts.down_proj", "w1"]
        {
            assert_eq!(all_experts(path), None, "{path}");
        }
    }

    #[test]
    fn two_spellings_are_one() {
        assert_eq!(canonical("m.experts.3.w2.weight"), "m.experts.3.down_proj.weight");
        assert_eq!(canonical("m.experts.3.w2"), "m.experts.3.down_proj");
        for same in ["m.experts.3.down_proj.weight", "m.w1.weight", "m.experts.x.w1", "m.experts.w1.y"] {
            assert_eq!(canonical(same), same);
        }
    }

    #[test]
    fn joined_parameters_of_lists() {
        assert_eq!(
            stacked("m.experts.gate_up_proj"),
            Some(("m.experts", &["gate_proj", "up_proj"][..], "weight"))
        );
        assert_eq!(stacked("m.experts.down_proj_bias").expect("reads").2, "bias");
        assert!(stacked("m.shared_experts.gate_up_proj").is_none() && stacked("m.mlp.down_proj").is_none());
    }
}
