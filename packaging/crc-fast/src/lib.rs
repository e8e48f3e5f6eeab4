//! CRC-64/NVME under the names of the crate `crc-fast`: what `object_store` uses of it.

use crc::{CRC_64_NVME, Crc, Table};

static NVME: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_NVME);

/// The one checksum that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrcAlgorithm {
    /// S3's `CRC64NVME`.
    Crc64Nvme,
}

/// A checksum of bytes that come in parts.
pub struct Digest(crc::Digest<'static, u64, Table<16>>);

impl Digest {
    /// That of no bytes yet.
    pub fn new(algorithm: CrcAlgorithm) -> Self {
        match algorithm {
            CrcAlgorithm::Crc64Nvme => Self(NVME.digest()),
        }
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes so far.
    pub fn finalize(&self) -> u64 {
        self.0.clone().finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_catalogue_of_crcs() {
        let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
        assert_eq!(digest.finalize(), 0);
        for part in [&b"12345"[..], b"", b"6789"] {
            digest.update(part);
        }
        assert_eq!(digest.finalize(), 0xae8b_1486_0a79_9888);
    }
}
