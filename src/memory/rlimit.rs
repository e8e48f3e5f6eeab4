//! Resource limits of this process.

/// Soft resource limits in bytes; `None` where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourceLimits {
    /// RLIMIT_AS.
    pub address_space: Option<u64>,
    /// RLIMIT_DATA.
    pub data: Option<u64>,
    /// RLIMIT_RSS.
    pub resident: Option<u64>,
}

/// The soft limits in force now.
#[cfg(unix)]
pub(crate) fn own_resource_limits() -> ResourceLimits {
    use rustix::process::{Resource, getrlimit};

    ResourceLimits {
        address_space: getrlimit(Resource::As).current,
        data: getrlimit(Resource::Data).current,
        // On macOS it is another name for RLIMIT_AS.
        #[cfg(target_os = "linux")]
        resident: getrlimit(Resource::Rss).current,
        #[cfg(not(target_os = "linux"))]
        resident: None,
    }
}

/// The soft limits in force now.
#[cfg(not(unix))]
pub(crate) fn own_resource_limits() -> ResourceLimits {
    ResourceLimits::default()
}
