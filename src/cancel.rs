//! A token that stops a merge in any phase: set by a signal or by the caller, looked at wherever work is long.
//!
//! ```
//! use shardfold::{Cancel, Code};
//!
//! let cancel = Cancel::default();
//! let part = cancel.child();
//! assert!(part.check().is_ok());
//! cancel.cancel();
//! assert_eq!(part.check().unwrap_err().exit_code(), Code::Stopped);
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Result;
use crate::error::kind::ErrorKind;

/// Whether work should stop. Clones are one token.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    own: Arc<AtomicBool>,
    above: Option<Arc<AtomicBool>>,
}

impl Cancel {
    /// The token that a signal handler's flag sets.
    pub fn of_flag(flag: Arc<AtomicBool>) -> Cancel {
        Cancel { own: flag, above: None }
    }

    /// A token for a part of the work: it stops with this one, and can be stopped alone.
    #[must_use]
    pub fn child(&self) -> Cancel {
        Cancel { own: Arc::default(), above: Some(self.own.clone()) }
    }

    /// Asks whoever looks at the token to stop.
    pub fn cancel(&self) {
        self.own.store(true, Ordering::Relaxed);
    }

    /// Whether to stop.
    pub fn is_cancelled(&self) -> bool {
        let is_set = |flag: &Arc<AtomicBool>| flag.load(Ordering::Relaxed);
        is_set(&self.own) || self.above.as_ref().is_some_and(is_set)
    }

    /// Goes on unless work should stop.
    ///
    /// # Errors
    /// [`ErrorKind::Stopped`].
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(ErrorKind::Stopped.into()) } else { Ok(()) }
    }
}
