//! A cell that is filled once, where those who come meanwhile wait as the model checker's threads do.

use shuttle::sync::Mutex;

/// As std's.
pub(crate) struct OnceLock<T> {
    filling: Mutex<()>,
    cell: std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> OnceLock<T> {
        OnceLock { filling: Mutex::new(()), cell: std::sync::OnceLock::new() }
    }

    pub(crate) fn get_or_init(&self, fill: impl FnOnce() -> T) -> &T {
        let filling = self.filling.lock().expect("a check that panics ends");
        let value = self.cell.get_or_init(fill);
        drop(filling);
        value
    }
}
