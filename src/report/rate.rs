//! Speed and time left, from how much was done since when.

use std::time::{Duration, Instant};

/// A clock over bytes.
pub(crate) struct Rate {
    started: Instant,
    /// Bytes that were there at the start.
    from: u64,
}

impl Rate {
    /// A clock that starts when so many bytes are done.
    pub(crate) fn from(bytes: u64) -> Rate {
        Rate { started: Instant::now(), from: bytes }
    }

    /// Bytes per second since the start.
    pub(crate) fn per_second(&self, bytes: u64) -> f64 {
        bytes.saturating_sub(self.from) as f64 / self.started.elapsed().as_secs_f64().max(1e-3)
    }

    /// Time that the rest takes at that speed; none before anything is done.
    pub(crate) fn left(&self, bytes: u64, total: u64) -> Option<Duration> {
        let rate = self.per_second(bytes);
        (bytes > self.from).then(|| Duration::from_secs_f64((total.saturating_sub(bytes)) as f64 / rate))
    }
}

/// Seconds as `1h02m`, `3m20s` or `12s`.
pub(crate) fn show(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (200, "3m20s"), (3720, "1h02m")] {
            assert_eq!(show(Duration::from_secs(seconds)), text);
        }
    }
}
