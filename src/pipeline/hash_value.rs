//! [`HashValue`]: the 32 bytes of a BLAKE3, kept as bytes and written as hex.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A BLAKE3, or the value of one of its subtrees.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct HashValue(pub(crate) [u8; 32]);

impl fmt::Display for HashValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(blake3::Hash::from(self.0).to_hex().as_str())
    }
}

impl fmt::Debug for HashValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for HashValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(blake3::Hash::from(self.0).to_hex().as_str())
    }
}

impl<'de> Deserialize<'de> for HashValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HashValue, D::Error> {
        deserializer.deserialize_str(Hex)
    }
}

struct Hex;

impl de::Visitor<'_> for Hex {
    type Value = HashValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("64 hexadecimal digits")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<HashValue, E> {
        let hash = blake3::Hash::from_hex(text).map_err(E::custom)?;
        Ok(HashValue(*hash.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_hex_and_read_again() {
        let value = HashValue(*blake3::hash(b"abc").as_bytes());
        let text = serde_json::to_string(&value).expect("a string");
        assert_eq!(text, format!("\"{}\"", blake3::hash(b"abc").to_hex()));
        assert_eq!(serde_json::from_str::<HashValue>(&text).expect("as it was written"), value);
        for wrong in ["\"\"", "\"00\"", "7", "null", &text.replace('a', "g")] {
            assert!(serde_json::from_str::<HashValue>(wrong).is_err(), "{wrong}");
        }
    }
}
