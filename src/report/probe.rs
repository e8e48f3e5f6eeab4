//! What a short probe says of the time that a merge will take.

use std::time::Duration;

use serde::Serialize;

use crate::report::rate::show;
use crate::tensor::size::show_rate;

/// What a short probe measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SpeedProbe {
    /// Bytes of the output that were made a second, and not written.
    pub merged_per_second: f64,
    /// Bytes that were written a second where the output will be, with nothing else to do; none if it was not named.
    pub written_per_second: Option<f64>,
    /// Bytes of the output.
    pub output_bytes: u64,
}

impl SpeedProbe {
    /// Seconds that the merge takes: where reading and writing do not hold each other up, and where each waits for the other,
    /// as on one disk.
    pub(crate) fn seconds(&self) -> [f64; 2] {
        let of = |rate: f64| self.output_bytes as f64 / rate.max(1.0);
        let (merge, write) = (of(self.merged_per_second), self.written_per_second.map_or(0.0, of));
        [merge.max(write), merge + write]
    }

    /// In words.
    pub(crate) fn text(&self) -> String {
        let [least, most] =
            self.seconds().map(|seconds| show(Duration::from_secs_f64(seconds.ceil().min(1e15))));
        let merged = show_rate(self.merged_per_second);
        match self.written_per_second {
            None => format!("{merged} merged: about {least}, if writing keeps up (name OUTPUT to probe it)"),
            Some(written) => {
                let times = if least == most { least } else { format!("{least} to {most}") };
                format!("{merged} merged, {} written: about {times}", show_rate(written))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_side_decides_and_one_disk_takes_both() {
        let probe = SpeedProbe {
            merged_per_second: 2e9,
            written_per_second: Some(0.25e9),
            output_bytes: 10_000_000_000,
        };
        assert_eq!(probe.seconds(), [40.0, 45.0]);
        assert_eq!(probe.text(), "1.9 GiB/s merged, 238 MiB/s written: about 40s to 45s");
        let alone = SpeedProbe { written_per_second: None, ..probe };
        assert!(
            alone.text().starts_with("1.9 GiB/s merged: about 5s, if writing keeps up"),
            "{}",
            alone.text()
        );
    }
}
