//! What each kind of entry does to a tensor, from its definition alone.

mod dora;
mod experts;
mod hadamard;
mod ia3;
mod kronecker;
mod lora;
mod oft;
mod tokens;

use super::entry::Entry;
use super::running::Running;

/// Whether a kind of entry has nothing but sums and products, so that the result is rounded once; cores are left out.
fn has_one_value(entry: &Entry) -> bool {
    let has_core = ["t1", "t2"].iter().any(|core| entry.maybe_grid(core).is_some());
    !matches!(entry.kind(), "dora" | "oft") && !has_core
}

/// Does what one entry says to a tensor of the given shape. `start` is what it was before the first entry.
pub fn apply(entry: &Entry, start: &Running, running: &mut Running, shape: &[usize]) {
    running.is_exact &= has_one_value(entry);
    match entry.kind() {
        "lora" => running.add(&lora::delta(entry)),
        "lora_experts" => running.add(&experts::delta(entry)),
        "bdlora" => running.add(&lora::block_diagonal(entry)),
        "hira" => lora::add_hira(entry, start, running),
        "dora" => dora::apply(entry, start, running),
        "ia3" => ia3::apply(entry, running, shape),
        "oft" => oft::apply(entry, running, shape),
        "loha" => running.add(&hadamard::delta(entry)),
        "lokr" => running.add(&kronecker::delta(entry)),
        "tokens" => tokens::apply(entry, running, shape),
        other => panic!("no formula for `{other}`"),
    }
}
