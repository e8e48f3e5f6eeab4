//! Whose object stores there are: a row for each, with how its bucket is opened and what helps where it refuses.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{ObjectStore, RetryConfig};

use crate::cancel::Cancel;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::storage::cloud::client::CloudClient;
use crate::storage::cloud::store::CloudStore;
use crate::storage::cloud::wire::Wire;
use crate::storage::http::tries::Patience;
use crate::storage::location::Location;
use crate::storage::rules;

/// One kind of object store.
struct Provider {
    /// How its addresses begin.
    scheme: &'static str,
    /// What messages call the network that it is on.
    name: &'static str,
    /// What helps where access is refused.
    cure: &'static str,
    /// Opens the bucket of that name, with the settings in the environment, for requests that travel so.
    bucket: fn(&str, Wire) -> object_store::Result<Arc<dyn ObjectStore>>,
}

static PROVIDERS: &[Provider] = &[
    Provider {
        scheme: "s3",
        name: "S3",
        cure: "credentials are taken from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or are those of the \
               machine (`aws configure export-credentials --format env` prints those of a profile); AWS_SKIP_SIGNATURE=true \
               reads a public bucket",
        bucket: |name, wire| {
            let builder = AmazonS3Builder::from_env().with_bucket_name(name);
            Ok(Arc::new(builder.with_retry(retries()).with_http_connector(wire).build()?))
        },
    },
    Provider {
        scheme: "gs",
        name: "Google Cloud Storage",
        cure: "credentials are taken from GOOGLE_SERVICE_ACCOUNT or GOOGLE_APPLICATION_CREDENTIALS, the path of a key, or are \
               those of `gcloud auth application-default login` or of the machine; GOOGLE_SKIP_SIGNATURE=true reads a public bucket",
        bucket: |name, wire| {
            let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(name);
            Ok(Arc::new(builder.with_retry(retries()).with_http_connector(wire).build()?))
        },
    },
    Provider {
        scheme: "az",
        name: "Azure Blob Storage",
        cure: "the account is taken from AZURE_STORAGE_ACCOUNT_NAME, and credentials from AZURE_STORAGE_ACCOUNT_KEY, \
               AZURE_STORAGE_SAS_TOKEN or AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_TENANT_ID, or are those of the machine",
        bucket: |name, wire| {
            let builder = MicrosoftAzureBuilder::from_env().with_container_name(name);
            Ok(Arc::new(builder.with_retry(retries()).with_http_connector(wire).build()?))
        },
    },
];

/// How long nothing may come. A store may take its time to make an object of thousands of parts.
fn patience() -> Patience {
    Patience { stall: Duration::from_secs(60), ..Patience::default() }
}

/// How often a request is made again.
fn retries() -> RetryConfig {
    RetryConfig { max_retries: 5, retry_timeout: Duration::from_secs(180), ..RetryConfig::default() }
}

/// The place that an address means: its scheme, and what is behind `://`. Waiting for it ends once `cancel` says so.
///
/// # Errors
/// [`StorageError::Unreadable`] for one that names no bucket, or cannot be opened with the settings in the environment.
pub(crate) fn open((scheme, rest): (&str, &str), cancel: &Cancel) -> Result<Location> {
    let typed = || PathBuf::from(format!("{scheme}://{rest}"));
    let refused =
        |cause: &str| Error::new(StorageError::Unreadable { path: typed() }).because(cause.to_owned());
    let provider = PROVIDERS.iter().find(|provider| provider.scheme == scheme);
    let provider = provider.ok_or_else(|| refused("nobody has such addresses"))?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if bucket.is_empty() || rules::check_dir(prefix).is_err() {
        let error = refused("it names no place in a bucket");
        return Err(
            error.hint(format!("name it as {scheme}://BUCKET/PREFIX, without empty parts, `.` and `..`"))
        );
    }
    let ends = Cancel::default();
    let wire = Wire { ends: ends.clone(), patience: patience() };
    let objects =
        (provider.bucket)(bucket, wire).map_err(|cause| refused(&cause.to_string()).hint(provider.cure))?;
    let root = PathBuf::from(format!("{scheme}://{bucket}"));
    // A token of its own: a store that goes ends what is in flight for it.
    let client = CloudClient::new(objects, root, provider.cure, (cancel.child(), ends))?;
    Ok(Location::new(CloudStore::new(client, provider.name)).join(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_a_bucket_and_what_is_in_it() {
        let open = |text: &str| open(text.split_once("://").unwrap(), &Cancel::default());
        for (typed, shown) in [
            ("s3://bucket/a/b", "s3://bucket/a/b"),
            ("s3://bucket/a/", "s3://bucket/a"),
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
        ] {
            assert_eq!(open(typed).unwrap().to_string(), shown);
        }
        for none in ["s3://", "s3:///a", "s3://bucket//a", "s3://bucket/a/../b", "s3://bucket/./b"] {
            assert!(open(none).is_err(), "{none}");
        }
    }
}
