//! Object stores: buckets of S3 and what speaks its protocol, of Google Cloud Storage, and containers of Azure.
//!
//! [`provider`] has a row for each and opens what an address names; [`client`] waits for requests and knows what they fail with;
//! [`file`] reads ranges of an object; [`upload`] makes one of parts that are sent while more come; [`store`] is the store;
//! [`wire`] is how requests travel. Nothing but [`provider`] knows whose store it is.

pub(crate) mod client;
pub(crate) mod file;
pub(crate) mod provider;
pub(crate) mod store;
#[cfg(test)]
mod tests;
pub(crate) mod upload;
pub(crate) mod wire;
