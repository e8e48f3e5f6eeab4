//! One count: what was looked for, and what was found.

/// What a check found.
pub struct Count {
    /// The name under which `bounds.rs` has its bound.
    pub name: &'static str,
    pub found: usize,
    /// Each with its place, for whoever has to mend it.
    pub offenders: Vec<String>,
}

impl Count {
    /// As many as there are offenders.
    pub fn of(name: &'static str, offenders: impl IntoIterator<Item = String>) -> Count {
        let offenders: Vec<String> = offenders.into_iter().collect();
        Count { name, found: offenders.len(), offenders }
    }
}
