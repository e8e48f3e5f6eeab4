//! [`HeaderBytes`]: the bytes of a file before its data, whatever its format.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The exact bytes of a file before its data.
///
/// A plan holds them as the writer writes them and is printed as JSON, so they serialize as a pair: in hex what cannot be
/// read, such as a length, and then as text what can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeaderBytes(Vec<u8>);

impl HeaderBytes {
    /// Those bytes; a plan holds them to its end, so that they keep no room to grow.
    pub(crate) fn new(mut bytes: Vec<u8>) -> HeaderBytes {
        bytes.shrink_to_fit();
        HeaderBytes(bytes)
    }
}

impl Deref for HeaderBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for HeaderBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (start, text) = split(&self.0);
        (HexText(start), text).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for HeaderBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HeaderBytes, D::Error> {
        let (hex, text) = <(String, String)>::deserialize(deserializer)?;
        let mut bytes = from_hex(&hex).ok_or_else(|| de::Error::custom("bytes are two hex digits each"))?;
        bytes.extend(text.as_bytes());
        Ok(HeaderBytes(bytes))
    }
}

/// Bytes that are written in hex as they are asked for: there may be megabytes of them.
struct HexText<'b>(&'b [u8]);

impl fmt::Display for HexText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for HexText<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The bytes up to the last that is no text, and the text after it. A zero is no text.
fn split(bytes: &[u8]) -> (&[u8], &str) {
    let mut at = bytes.iter().rposition(|&byte| byte == 0).map_or(0, |last| last + 1);
    loop {
        match std::str::from_utf8(&bytes[at..]) {
            Ok(text) => return (&bytes[..at], text),
            Err(error) => at += error.valid_up_to() + error.error_len().unwrap_or(1),
        }
    }
}

fn from_hex(hex: &str) -> Option<Vec<u8>> {
    let digit = |&byte: &u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some((digit(high)? * 16 + digit(low)?) as u8),
        _ => None,
    };
    hex.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_and_text_stays_text() {
        let cases: [(&[u8], &str); 6] = [
            (b"\xf8\0\0\0\0\0\0\0{\"\xc3\xa9\":1} ", r#"["f800000000000000","{\"é\":1} "]"#),
            (b"{\"a\":1}", r#"["","{\"a\":1}"]"#),
            (b"text\xfftext\xc3\xc3\xa9", r#"["74657874ff74657874c3","é"]"#),
            (b"cut\xc3", r#"["637574c3",""]"#),
            (b"\0", r#"["00",""]"#),
            (b"", r#"["",""]"#),
        ];
        for (bytes, json) in cases {
            let bytes = HeaderBytes::new(bytes.to_vec());
            assert_eq!(serde_json::to_string(&bytes).unwrap(), json);
            assert_eq!(serde_json::from_str::<HeaderBytes>(json).unwrap(), bytes);
        }
        for wrong in [r#"["0",""]"#, r#"["0g",""]"#, r#"["é",""]"#, r#""""#] {
            assert!(serde_json::from_str::<HeaderBytes>(wrong).is_err(), "{wrong}");
        }
    }
}
