//! Notes kept as they are shown, for what tells of them later.

use crate::report::event::{Event, Reporter};

/// Shows events, and keeps the text of every note.
pub(crate) struct Noted<'r> {
    shown: &'r mut dyn Reporter,
    /// Texts of the notes so far.
    pub(crate) notes: Vec<String>,
}

impl<'r> Noted<'r> {
    /// What is shown by `shown` is kept, after these.
    pub(crate) fn new(shown: &'r mut dyn Reporter, notes: Vec<String>) -> Noted<'r> {
        Noted { shown, notes }
    }
}

impl Reporter for Noted<'_> {
    fn event(&mut self, event: &Event<'_>) {
        self.shown.event(event);
        if let Event::Note(note) = event
            && !note.is_detail()
        {
            self.notes.push(note.to_string());
        }
    }
}
