//! What makes requests: connections that are kept, with TLS, that look whether work should stop.

use ureq::unversioned::transport::{ConnectProxyConnector, Connector};
use ureq::{Agent, Proxy, tls};

use crate::cancel::Cancel;
use crate::storage::http::connect::{PatientConnector, PatientResolver};
use crate::storage::http::tries::Patience;

/// Connections that are kept for later requests.
const IDLE_MOST: usize = 16;
/// Bytes of a connection's buffers. An address that is signed has two thousand.
const INPUT_BYTES: usize = 32 << 10;
const OUTPUT_BYTES: usize = 16 << 10;

/// What a server's requests are like. By default they are sent on nowhere, and its certificate must be right.
#[derive(Default)]
pub(crate) struct Manners {
    /// Times that a request is sent on to where an answer says.
    pub(crate) redirects: u32,
    /// Whether only TLS will do.
    pub(crate) is_secure: bool,
    /// Whether any certificate will do.
    pub(crate) trusts_all: bool,
    /// The proxy that is gone through, instead of the environment's.
    pub(crate) proxy: Option<Proxy>,
}

/// An agent whose waits end once `cancel` says so.
pub(crate) fn agent(manners: Manners, patience: Patience, cancel: &Cancel) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(manners.redirects)
        .max_redirects_will_error(false)
        .https_only(manners.is_secure)
        .user_agent(concat!("shardfold/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity")
        .input_buffer_size(INPUT_BYTES)
        .output_buffer_size(OUTPUT_BYTES)
        .max_idle_connections(IDLE_MOST)
        .max_idle_connections_per_host(IDLE_MOST)
        .tls_config(tls_config().disable_verification(manners.trusts_all).build());
    let config = match manners.proxy {
        Some(proxy) => config.proxy(Some(proxy)),
        None => config,
    };
    let connector =
        ().chain(ConnectProxyConnector::default())
            .chain(PatientConnector { cancel: cancel.clone(), patience })
            .chain(tls_connector());
    Agent::with_parts(config.build(), connector, PatientResolver { cancel: cancel.clone(), patience })
}

/// The system's TLS and roots: what is compiled in elsewhere is C, which Linux hosts cannot compile for macOS.
#[cfg(target_os = "macos")]
fn tls_config() -> tls::TlsConfigBuilder {
    let builder = tls::TlsConfig::builder().provider(tls::TlsProvider::NativeTls);
    builder.root_certs(tls::RootCerts::PlatformVerifier)
}

#[cfg(target_os = "macos")]
fn tls_connector() -> ureq::unversioned::transport::NativeTlsConnector {
    Default::default()
}

/// TLS and roots that are compiled in, so that a static binary needs nothing of its host.
#[cfg(not(target_os = "macos"))]
fn tls_config() -> tls::TlsConfigBuilder {
    tls::TlsConfig::builder().provider(tls::TlsProvider::Rustls)
}

#[cfg(not(target_os = "macos"))]
fn tls_connector() -> ureq::unversioned::transport::RustlsConnector {
    Default::default()
}
