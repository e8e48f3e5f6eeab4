//! Signals: the first asks for a clean stop, the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU, SIGXFSZ};
use signal_hook::flag;

use crate::cancel::Cancel;
use crate::error::exit::Code;

/// A token that signals set. `sbatch --signal` sends USR1 or USR2 as an early warning; they count as TERM. So does XCPU, which
/// the kernel sends when the CPU time of a job is nearly spent, and every second after: it never ends the process at once.
pub(crate) fn listen() -> Cancel {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2] {
        // Armed by the first signal, the second ends the process. Where a signal cannot be handled, it acts as always.
        let _ = flag::register_conditional_shutdown(signal, Code::Stopped as i32, stop.clone());
        let _ = flag::register(signal, stop.clone());
    }
    let _ = flag::register(SIGXCPU, stop.clone());
    // Sent when a file grows past RLIMIT_FSIZE; handled, it becomes an error of the write.
    let _ = flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
    Cancel::of_flag(stop)
}
