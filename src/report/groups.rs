//! Names alike but for their numbers, as one row: `model.layers.{0..31}.self_attn.q_proj.weight`.
//!
//! A number is a segment between dots that is all digits. Names whose other segments agree, and whose kind does, form a
//! group; for each number of its pattern the group knows which values occur. Groups come in [`natural`] order, in which
//! layer 2 stands before layer 10. One pass with a hash map, and a sort of numbers and of groups: n log n.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;

use crate::report::words::printable;

/// Ranges of one number that are written out before the rest is cut.
const RANGES: usize = 4;

/// Names that differ in their numbers only.
#[derive(Clone, Debug)]
pub(crate) struct Group<K> {
    /// What the members have in common beside their names.
    pub(crate) kind: K,
    /// Places of the members among the items that were grouped, in order.
    pub(crate) members: Vec<usize>,
    /// Segments of the pattern; none where a number stands.
    segments: Vec<Option<String>>,
    /// For each number of the pattern, the values that occur, sorted.
    numbers: Vec<Vec<u32>>,
}

impl<K> Group<K> {
    /// How many names the pattern would cover with every combination of its numbers.
    ///
    /// Larger than the number of members where some layers or experts lack the tensor.
    fn combinations(&self) -> u64 {
        self.numbers.iter().fold(1, |product, values| product.saturating_mul(values.len() as u64))
    }

    /// The name that has the smallest of each number.
    fn first_name(&self) -> String {
        let mut numbers = self.numbers.iter().filter_map(|values| values.first());
        let segment = |segment: &Option<String>| match segment {
            Some(text) => text.clone(),
            None => numbers.next().map(ToString::to_string).unwrap_or_default(),
        };
        self.segments.iter().map(segment).collect::<Vec<_>>().join(".")
    }

    /// Its size: `32`, or `58 of 61` where some combinations of the numbers are not there.
    pub(crate) fn count(&self) -> String {
        let found = self.members.len();
        let whole = self.combinations();
        if found as u64 == whole { found.to_string() } else { format!("{found} of {whole}") }
    }
}

/// Groups items of a name and a kind, in natural order of their names.
pub(crate) fn group<'n, K: Clone + Eq + Hash>(
    items: impl IntoIterator<Item = (&'n str, K)>,
) -> Vec<Group<K>> {
    let mut groups: Vec<Group<K>> = Vec::new();
    let mut by_pattern: HashMap<(Vec<Option<&'n str>>, K), usize> = HashMap::new();
    for (i, (name, kind)) in items.into_iter().enumerate() {
        let numbers = name.split('.').filter_map(number);
        let pattern: Vec<Option<&str>> =
            name.split('.').map(|segment| number(segment).is_none().then_some(segment)).collect();
        let at = *by_pattern.entry((pattern, kind)).or_insert_with_key(|(pattern, kind)| {
            let segments: Vec<_> = pattern.iter().map(|segment| segment.map(str::to_owned)).collect();
            let numbers = vec![Vec::new(); segments.iter().filter(|segment| segment.is_none()).count()];
            groups.push(Group { kind: kind.clone(), members: Vec::new(), segments, numbers });
            groups.len() - 1
        });
        groups[at].members.push(i);
        for (values, number) in groups[at].numbers.iter_mut().zip(numbers) {
            values.push(number);
        }
    }
    for values in groups.iter_mut().flat_map(|group| &mut group.numbers) {
        values.sort_unstable();
        values.dedup();
    }
    let mut order: Vec<(String, usize)> =
        groups.iter().enumerate().map(|(i, group)| (group.first_name(), i)).collect();
    order.sort_by(|(one, _), (other, _)| natural(one, other));
    let mut groups: Vec<Option<Group<K>>> = groups.into_iter().map(Some).collect();
    order.into_iter().filter_map(|(_, i)| groups[i].take()).collect()
}

/// The order in which people count: runs of digits by their value, all else by its bytes.
pub(crate) fn natural(one: &str, other: &str) -> Ordering {
    let mut one = one.as_bytes();
    let mut other = other.as_bytes();
    loop {
        let digits = digits_of(one);
        let more = digits_of(other);
        let order = if digits.is_empty() || more.is_empty() {
            one.first().cmp(&other.first())
        } else {
            by_value(digits, more)
        };
        if order.is_ne() || one.is_empty() {
            return order;
        }
        one = &one[digits.len().max(1)..];
        other = &other[more.len().max(1)..];
    }
}

/// The digits that a text begins with.
fn digits_of(text: &[u8]) -> &[u8] {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    &text[..count]
}

/// Digits without the zeros in front.
fn without_zeros(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    &digits[zeros..]
}

/// Numbers of any length by value; of equal ones the shorter text is first.
fn by_value(one: &[u8], other: &[u8]) -> Ordering {
    let a = without_zeros(one);
    let b = without_zeros(other);
    a.len().cmp(&b.len()).then_with(|| a.cmp(b)).then_with(|| one.len().cmp(&other.len()))
}

/// The number that a segment is: digits as a number is written, below a thousand million.
fn number(segment: &str) -> Option<u32> {
    let is_number = (1..=9).contains(&segment.len())
        && segment.bytes().all(|byte| byte.is_ascii_digit())
        && (segment == "0" || !segment.starts_with('0'));
    is_number.then(|| segment.parse().ok()).flatten()
}

/// The pattern, with the values of each number: `a.{0..3}.b`, `a.7.b`, `a.{1, 4..6}.b`.
impl<K> fmt::Display for Group<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut numbers = self.numbers.iter();
        for (i, segment) in self.segments.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { "." })?;
            match (segment, numbers.as_slice()) {
                (Some(text), _) => f.write_str(&printable(text))?,
                (None, [values, ..]) => {
                    f.write_str(&ranges(values))?;
                    numbers.next();
                }
                (None, []) => {}
            }
        }
        Ok(())
    }
}

/// Sorted values as `7`, or as `{0..3, 8}`.
fn ranges(values: &[u32]) -> String {
    if let [value] = values {
        return value.to_string();
    }
    let pieces: Vec<&[u32]> = values.chunk_by(|left, right| left + 1 == *right).collect();
    let mut shown: Vec<String> = pieces.iter().take(RANGES).map(|piece| range(piece)).collect();
    if let [.., last] = pieces.as_slice()
        && pieces.len() > RANGES
    {
        shown.truncate(RANGES - 1);
        shown.extend(["…".to_owned(), range(last)]);
    }
    format!("{{{}}}", shown.join(", "))
}

/// Values that follow each other.
fn range(values: &[u32]) -> String {
    match values {
        [] => String::new(),
        [one] => one.to_string(),
        [first, .., last] if values.len() == 2 => format!("{first}, {last}"),
        [first, .., last] => format!("{first}..{last}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(names: &[&str]) -> Vec<String> {
        let groups = group(names.iter().map(|name| (*name, ())));
        groups.iter().map(|group| format!("{} × {group}", group.count())).collect()
    }

    #[test]
    fn names_alike_are_one_line() {
        let names = ["embed.weight", "layers.0.q.weight", "layers.0.k.weight", "layers.1.q.weight"];
        assert_eq!(
            lines(&names),
            ["1 × embed.weight", "1 × layers.0.k.weight", "2 × layers.{0, 1}.q.weight"]
        );
        let experts: Vec<String> = (3..6)
            .flat_map(|layer| (0..4).map(move |expert| format!("layers.{layer}.experts.{expert}.up")))
            .collect();
        let experts: Vec<&str> = experts.iter().map(String::as_str).collect();
        assert_eq!(lines(&experts), ["12 × layers.{3..5}.experts.{0..3}.up"]);
        assert_eq!(lines(&experts[1..]), ["11 of 12 × layers.{3..5}.experts.{0..3}.up"]);
    }

    #[test]
    fn numbers_are_counted_not_spelled() {
        let mut names =
            ["b", "layers.10.q", "layers.2.q", "layers.02.q", "a10b", "a9b", "layers.2", "", "a9"];
        names.sort_unstable_by(|one, other| natural(one, other));
        assert_eq!(
            names,
            ["", "a9", "a9b", "a10b", "b", "layers.2", "layers.2.q", "layers.02.q", "layers.10.q"]
        );
        let huge = ["9".repeat(40), format!("1{}", "0".repeat(40))];
        assert_eq!(natural(&huge[0], &huge[1]), Ordering::Less);
        let shuffled: Vec<String> = (0..61).map(|i| format!("model.layers.{}.q", i * 17 % 61)).collect();
        let shuffled: Vec<&str> = shuffled.iter().map(String::as_str).collect();
        assert_eq!(lines(&shuffled), ["61 × model.layers.{0..60}.q"]);
    }

    #[test]
    fn groups_that_differ_by_layer_come_in_numeric_order() {
        let names = ["layers.0.q", "layers.1.q", "layers.10.q", "layers.2.q"];
        let groups = group(names.iter().zip([0, 1, 10, 2]).map(|(name, kind)| (*name, kind)));
        let kinds: Vec<_> = groups.iter().map(|group| group.kind).collect();
        assert_eq!(kinds, [0, 1, 2, 10]);
    }

    #[test]
    fn kinds_are_kept_apart() {
        let groups = group([("h.0.w", 'a'), ("h.1.w", 'b'), ("h.2.w", 'a'), ("h.3.w", 'b')]);
        let shown: Vec<_> =
            groups.iter().map(|group| (group.to_string(), group.kind, group.members.clone())).collect();
        assert_eq!(
            shown,
            [("h.{0, 2}.w".to_owned(), 'a', vec![0, 2]), ("h.{1, 3}.w".to_owned(), 'b', vec![1, 3])]
        );
    }

    #[test]
    fn only_whole_numbers_are_collapsed() {
        for name in ["a.w1.b", "a.007.b", "a.1234567890.b", "a.-1.b", "a.١.b", "a..b", ""] {
            let other = name.replace('1', "2");
            assert_eq!(lines(&[name]), [format!("1 × {name}")]);
            assert!(other == name || lines(&[name, &other]).len() == 2, "{name} and {other}");
        }
        assert_eq!(lines(&["0", "1", "2"]), ["3 × {0..2}"]);
    }

    #[test]
    fn many_ranges_are_cut_and_names_are_printable() {
        let names: Vec<String> = (0..20).map(|i| format!("h.{}.w", 3 * i)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(lines(&names), ["20 × h.{0, 3, 6, …, 57}.w"]);
        assert_eq!(lines(&["a\u{1b}[2J.0"]), ["1 × a\\u{1b}[2J.0"]);
    }

    #[test]
    fn a_hundred_thousand_names_take_no_time() {
        let names: Vec<String> = (0..100_000)
            .map(|i| format!("model.layers.{}.mlp.experts.{}.w.weight", i / 512, i % 512))
            .collect();
        let groups = group(names.iter().map(|name| (name.as_str(), ())));
        assert_eq!(groups.len(), 1);
        assert_eq!(groups[0].count(), "100000 of 100352");
    }
}
