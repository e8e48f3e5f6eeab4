//! A reporter for tests, which stops whatever has begun.

use crate::cancel::Cancel;
use crate::report::event::{Event, Reporter};

/// Cancels its token when a verification begins.
pub(crate) struct Stopping(pub(crate) Cancel);

impl Reporter for Stopping {
    fn event(&mut self, event: &Event<'_>) {
        if matches!(event, Event::Verifying { .. }) {
            self.0.cancel();
        }
    }
}
