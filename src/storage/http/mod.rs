//! Files that a server gives by HTTP ranges: a client that is patient, can be stopped, and trusts no answer it did not ask for.
//!
//! [`agent`] keeps connections; [`client`] makes one request and follows where it leads; [`tries`] says how often a request is made
//! again, and when; [`file`] reads ranges of one file, [`download`] all of it; [`store`] is a store of files that somebody listed.
//! Nothing here knows what the server is.

pub(crate) mod agent;
pub(crate) mod answer;
pub(crate) mod client;
pub(crate) mod connect;
pub(crate) mod download;
pub(crate) mod file;
pub(crate) mod problem;
pub(crate) mod store;
pub(crate) mod tries;
pub(crate) mod url;
