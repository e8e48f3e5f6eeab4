//! How fast a merge will be: a part of it made and thrown away, and some bytes written where the output will be.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::error::kind::ErrorKind;
use crate::merge::prepare::Prepared;
use crate::pipeline::clock::Clocks;
use crate::report::probe::SpeedProbe;
use crate::storage::discard::Discard;
use crate::storage::location::Location;
use crate::storage::store::Store;

/// The most that making a part takes.
const MERGING: Duration = Duration::from_secs(3);
/// The most that writing takes, and bytes of it at once and in all.
const WRITING: Duration = Duration::from_secs(2);
const WRITE_STEP: u64 = 4 << 20;
const WRITE_BYTES: u64 = 256 << 20;

impl Prepared {
    /// Measures for some seconds how fast this merge is here. Nothing is left of what is written beside `output`.
    ///
    /// # Errors
    /// As a merge.
    pub fn probe_speed(&self, output: Option<&Location>) -> Result<SpeedProbe> {
        let written_per_second =
            output.and_then(Location::parent).map(|dir| self.write_some(&dir)).transpose()?;
        Ok(SpeedProbe {
            merged_per_second: self.merge_some()?,
            written_per_second,
            output_bytes: self.plan.output_bytes(),
        })
    }

    /// Bytes a second of a merge whose result is thrown away.
    fn merge_some(&self) -> Result<f64> {
        let (cancel, started) = (self.cancel.child(), Instant::now());
        let mut merged = (0, MERGING);
        let mut tick = |bytes: u64| {
            merged = (bytes, started.elapsed());
            if started.elapsed() >= MERGING {
                cancel.cancel();
            }
        };
        let run = self.run_into(
            (&Discard::default(), &Clocks::default(), &cancel),
            &[],
            &mut |_| Ok(()),
            &mut |now| {
                tick(now.written_bytes);
            },
        );
        match run {
            Ok(_) => merged = (self.plan.output_bytes(), started.elapsed()),
            Err(error) if matches!(error.kind(), ErrorKind::Stopped) && !self.cancel.is_cancelled() => {}
            Err(error) => return Err(error),
        }
        Ok(merged.0 as f64 / merged.1.as_secs_f64().max(1e-3))
    }

    /// Bytes a second of writing an unnamed file in `dir` to its disk.
    fn write_some(&self, dir: &Location) -> Result<f64> {
        let (scratch, bytes) = (dir.scratch("", WRITE_BYTES)?, vec![1; WRITE_STEP as usize]);
        let (started, mut written) = (Instant::now(), 0);
        while written < WRITE_BYTES && started.elapsed() < WRITING {
            self.cancel.check()?;
            scratch.write_at(&bytes, written)?;
            written += WRITE_STEP;
        }
        scratch.settle()?;
        Ok(written as f64 / started.elapsed().as_secs_f64().max(1e-3))
    }
}
