//! A set of endings of names. Every name of a checkpoint is held against it, so that those are looked at alone which share
//! the name's last byte.

/// Endings by their last byte.
pub(crate) struct Endings(Vec<(u8, Vec<&'static str>)>);

impl Endings {
    /// A set of these; one without a byte is none.
    pub(crate) fn of(all: impl Iterator<Item = &'static str>) -> Endings {
        let mut by_last: Vec<(u8, Vec<&'static str>)> = Vec::new();
        for ending in all {
            let Some(&last) = ending.as_bytes().last() else { continue };
            match by_last.iter_mut().find(|(byte, _)| *byte == last) {
                Some((_, same)) if same.contains(&ending) => {}
                Some((_, same)) => same.push(ending),
                None => by_last.push((last, vec![ending])),
            }
        }
        Endings(by_last)
    }

    /// Whether a name ends with one of them.
    pub(crate) fn has(&self, name: &str) -> bool {
        let last = name.as_bytes().last();
        let same = self.0.iter().find(|(byte, _)| last == Some(byte));
        same.is_some_and(|(_, endings)| endings.iter().any(|ending| name.ends_with(ending)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_an_ending_or_not() {
        let endings = Endings::of([".weight_scale", "_scale", ".absmax", "", "_scale"].into_iter());
        for (name, has) in [
            ("a.weight_scale", true),
            ("a.up_scale", true),
            ("_scale", true),
            ("a.weight.absmax", true),
            ("absmax", false),
            ("a.scale", false),
            ("a.weight", false),
            ("", false),
        ] {
            assert_eq!(endings.has(name), has, "{name}");
        }
    }
}
