//! A merge whose result is thrown away, for measuring: it reads, merges, hashes and counts as any other.

use std::time::Instant;

use crate::error::Result;
use crate::merge::prepare::Prepared;
use crate::pipeline::clock::Clocks;
use crate::report::event::{Event, Reporter};
use crate::report::summary::Summary;
use crate::storage::discard::Discard;
use crate::storage::location::Location;

impl Prepared {
    /// Merges as into `output`, and writes nothing.
    ///
    /// # Errors
    /// As a merge, but for writing.
    pub(crate) fn merge_and_discard(
        &self,
        output: &Location,
        reporter: &mut dyn Reporter,
    ) -> Result<Summary> {
        let (started, clocks) = (Instant::now(), Clocks::default());
        let (schedule, reason) = (&self.schedule, &self.reason);
        reporter.event(&Event::Budget { schedule, reason, io: &self.io });
        let mut read_bytes = 0;
        let applied =
            self.run_into((&Discard::default(), &clocks, &self.cancel), &[], &mut |_| Ok(()), &mut |now| {
                read_bytes = now.read_bytes;
                reporter.event(&Event::Progress(now));
            })?;
        let summary = self.summary(output).done(Some(applied), [0, read_bytes, 0], started.elapsed());
        let mut summary = summary.timed(clocks.threads());
        summary.state = "discarded";
        reporter.event(&Event::Finished(&summary));
        Ok(summary)
    }
}
