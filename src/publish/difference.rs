//! In what one merge differs from another, for a message: of several differences, the first that a user can act on.

use crate::plan::out_tensor::{AdapterUse, Input, Plan, Role};
use crate::plan::output_files::{SUMS, UNDO};
use crate::publish::provenance::Provenance;

/// In what the merge of `other` differs from that of `plan`; none if nothing that was written down tells.
pub(crate) fn difference(other: &Provenance, plan: &Plan) -> Option<String> {
    let adapters = || adapters(&other.adapters, &plan.adapters);
    let inputs = || inputs(&other.inputs, &plan.inputs);
    let sums = || match (&other.checksums, plan.sha256) {
        (Some(file), false) => Some(format!("it has `{file}`, this one none")),
        (None, true) => Some(format!("it has no `{SUMS}`")),
        _ => None,
    };
    let undo = || match (&other.undo, plan.undo) {
        (Some(file), false) => Some(format!("it has `{file}`, this one none")),
        (None, true) => Some(format!("it has no `{UNDO}`")),
        _ => None,
    };
    let choices = || choices(&other.choices, &plan.choices);
    adapters().or_else(inputs).or_else(choices).or_else(sums).or_else(undo).or_else(|| {
        let version = &other.shardfold;
        (*version != plan.version).then(|| format!("it is of shardfold {version}"))
    })
}

fn adapters(others: &[AdapterUse], own: &[AdapterUse]) -> Option<String> {
    if others.len() != own.len() {
        let count = |adapters: &[AdapterUse]| match adapters.len() {
            1 => "1 adapter".to_owned(),
            count => format!("{count} adapters"),
        };
        return Some(format!("it has {}, this one {}", count(others), count(own)));
    }
    let (other, own) = others.iter().zip(own).find(|(other, own)| other != own)?;
    Some(if other.name != own.name {
        format!("it has adapter `{}` where this one has `{}`", other.name, own.name)
    } else if other.weight != own.weight {
        format!("its adapter `{}` has weight {}, here {}", own.name, other.weight, own.weight)
    } else {
        format!("adapter_config.json of `{}` is another", own.name)
    })
}

fn inputs(others: &[Input], own: &[Input]) -> Option<String> {
    let is_same = |a: &Input, b: &Input| a.role == b.role && a.name == b.name;
    let missing = own.iter().find(|own| !others.iter().any(|other| is_same(other, own)));
    let changed = || own.iter().find(|own| others.iter().any(|other| is_same(other, own) && other != *own));
    let input = missing
        .or_else(changed)
        .or_else(|| others.iter().find(|other| !own.iter().any(|own| is_same(other, own))))?;
    let of = match input.role {
        Role::Base => "the base",
        Role::Adapter(_) => "an adapter",
        Role::Original => "the 16-bit original",
        Role::Template => "the template",
    };
    Some(format!("`{}` of {of} is another", input.name))
}

/// What was decided in one of two merges alone.
pub(crate) fn choices(others: &[String], own: &[String]) -> Option<String> {
    let only = |these: &[String], those: &[String]| these.iter().find(|text| !those.contains(text)).cloned();
    let theirs = only(others, own).map(|text| format!("there {text}"));
    theirs.or_else(|| only(own, others).map(|text| format!("here {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::identity::Identity;

    fn plan() -> Plan {
        let identity = Identity { bytes: 1, header: String::new(), content: "c".to_owned() };
        Plan {
            version: "1".to_owned(),
            inputs: vec![Input { role: Role::Base, name: "m".to_owned(), identity }],
            adapters: vec![AdapterUse {
                name: "a".to_owned(),
                weight: 1.0.into(),
                peft_type: "LORA".to_owned(),
                config: String::new(),
            }],
            choices: vec!["the head is untied".to_owned()],
            ..Plan::default()
        }
    }

    type Change = fn(&mut Plan);

    #[test]
    fn the_first_difference_is_told() {
        let told = |change: Change| {
            let mut other = plan();
            change(&mut other);
            difference(&Provenance::new(&other, "", Vec::new(), Vec::new()), &plan())
        };
        let changes: [(Change, &str); 9] = [
            (|plan| plan.adapters[0].weight = 0.5.into(), "its adapter `a` has weight 0.5, here 1"),
            (|plan| plan.adapters[0].name = "b".to_owned(), "it has adapter `b` where this one has `a`"),
            (|plan| plan.adapters.push(plan.adapters[0].clone()), "it has 2 adapters, this one 1 adapter"),
            (|plan| plan.adapters[0].config = "x".to_owned(), "adapter_config.json of `a` is another"),
            (|plan| plan.inputs[0].identity.content = "d".to_owned(), "`m` of the base is another"),
            (|plan| plan.choices.clear(), "here the head is untied"),
            (|plan| plan.sha256 = true, "it has `SHA256SUMS`, this one none"),
            (|plan| plan.undo = true, "it has `shardfold.undo`, this one none"),
            (|plan| plan.version = "2".to_owned(), "it is of shardfold 2"),
        ];
        for (change, text) in changes {
            assert_eq!(told(change).as_deref(), Some(text));
        }
        assert_eq!(told(|_| {}), None);
    }
}
