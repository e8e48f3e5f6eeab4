//! [`Turn`]: results that are made at once and taken in order.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::cancel::Cancel;
use crate::error::Result;

/// How often whoever waits looks whether to stop.
const LOOK: Duration = Duration::from_millis(50);

/// Whose turn it is. Pieces are begun in order, so that the next is always under way.
#[derive(Default)]
pub(crate) struct Turn {
    next: Mutex<usize>,
    changed: Condvar,
}

impl Turn {
    /// Waits for the turn of piece `own`, does `work`, and gives the turn to the next.
    ///
    /// # Errors
    /// What `work` fails with; stopped by `stop`, as the piece before it may have failed.
    pub(crate) fn take(&self, own: usize, stop: &Cancel, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        while *next != own {
            stop.check()?;
            let waited = self.changed.wait_timeout(next, LOOK);
            next = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        work()?;
        *next += 1;
        self.changed.notify_all();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::request::RequestError;
    use crate::merge::at_once::at_once;

    #[test]
    fn pieces_are_taken_in_order_and_none_waits_for_one_that_failed() {
        let (turn, taken) = (Turn::default(), Mutex::new(Vec::new()));
        let work = |piece: usize, stop: &Cancel| {
            turn.take(piece, stop, || {
                taken.lock().unwrap().push(piece);
                Ok(())
            })
        };
        at_once((200, 3), &Cancel::default(), &work, &mut || {}).unwrap();
        assert_eq!(*taken.lock().unwrap(), (0..200).collect::<Vec<_>>());
        let turn = Turn::default();
        let work = |piece: usize, stop: &Cancel| {
            turn.take(piece, stop, || match piece {
                3 => Err(RequestError::Required { flag: "--rank" }.into()),
                _ => Ok(()),
            })
        };
        let error = at_once((200, 3), &Cancel::default(), &work, &mut || {}).unwrap_err();
        assert!(error.to_string().contains("--rank"), "{error}");
    }
}
