//! The table of all ways.

use crate::storage::io::buffered::Buffered;
use crate::storage::io::direct::Direct;
use crate::storage::io::dontcache::DontCache;
use crate::storage::io::parallel::Parallel;
use crate::storage::io::way::IoWay;

/// Every way; the first serves everywhere.
pub(crate) static IO_WAYS: &[&dyn IoWay] = &[&Buffered, &Direct, &DontCache, &Parallel];
