//! The hash by which the hub keeps a file, made as its bytes come: SHA-256 of a large one, git's name of any other.

use std::io::Write;

use sha1::{Digest, Sha1};

use crate::storage::checksummed::Sha256Writer;

/// What the hub keeps a file by, from its [`content_id`](crate::storage::source::Source::content_id).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ContentHash<'i> {
    /// The function as it is called in messages.
    pub(crate) function: &'static str,
    /// In hex: the name of the file's blob in the cache.
    pub(crate) hex: &'i str,
}

impl<'i> ContentHash<'i> {
    /// `None` for an identity by which nothing can be checked.
    pub(crate) fn of(content_id: &'i str) -> Option<ContentHash<'i>> {
        let (function, hex) = content_id.split_once(':')?;
        let function = match function {
            "sha256" => "SHA-256",
            "git" => "git's SHA-1",
            _ => return None,
        };
        Some(ContentHash { function, hex })
    }

    /// What hashes a file of so many bytes as this was made.
    pub(crate) fn begin(&self, bytes: u64) -> ContentSum {
        if self.function == "SHA-256" {
            return ContentSum::Large(Sha256Writer::default());
        }
        let mut hash = Sha1::new();
        hash.update(format!("blob {bytes}\0"));
        ContentSum::Git(hash)
    }
}

/// A hash that is being made.
pub(crate) enum ContentSum {
    Large(Sha256Writer),
    Git(Sha1),
}

impl ContentSum {
    /// Adds bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            // A hash takes all bytes, always.
            ContentSum::Large(hash) => drop(hash.write_all(bytes)),
            ContentSum::Git(hash) => hash.update(bytes),
        }
    }

    /// The hash in hex.
    pub(crate) fn finish(self) -> String {
        match self {
            ContentSum::Large(hash) => hash.finish().1,
            ContentSum::Git(hash) => hex(hash),
        }
    }
}

fn hex(hash: Sha1) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What git calls a file of these bytes, in hex.
#[cfg(feature = "testing")]
pub fn git_blob_name(bytes: &[u8]) -> String {
    hex(Sha1::new().chain_update(format!("blob {}\0", bytes.len())).chain_update(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_hashed_as_the_hub_keeps_it() {
        // `printf abc | git hash-object --stdin`, and `printf abc | sha256sum`.
        let git = "git:f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f";
        let large = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for id in [git, large] {
            let hash = ContentHash::of(id).unwrap();
            let mut sum = hash.begin(3);
            sum.update(b"a");
            sum.update(b"bc");
            assert_eq!(sum.finish(), hash.hex, "{id}");
        }
        assert_eq!(ContentHash::of("etag:1"), None);
        assert_eq!(ContentHash::of("1"), None);
    }
}
