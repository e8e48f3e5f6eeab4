//! Object stores without a network.

use std::path::PathBuf;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;

use crate::cancel::Cancel;
use crate::error::Result;
use crate::storage::cloud::client::CloudClient;
use crate::storage::cloud::store::CloudStore;
use crate::storage::location::Location;

/// A bucket in memory, with nothing in it.
///
/// # Errors
/// As a thread that cannot be had.
pub fn bucket(cancel: &Cancel) -> Result<Location> {
    bucket_of(Arc::new(InMemory::new()), cancel).map(Location::new)
}

/// The store of a bucket.
pub(crate) fn bucket_of(objects: Arc<dyn ObjectStore>, cancel: &Cancel) -> Result<CloudStore> {
    let root = PathBuf::from("s3://bucket");
    let client = CloudClient::new(objects, root, "give credentials", (cancel.child(), Cancel::default()))?;
    Ok(CloudStore::new(client, "a bucket in memory"))
}
