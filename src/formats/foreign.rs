//! Files of another kind under the name of a container or of JSON, by their first bytes: what a failed download, a wrong link
//! or a renamed file leaves.

/// First bytes and what they are the beginning of.
const STARTS: &[(&[u8], &str)] = &[
    (b"<!doctype", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<head", "an HTML page"),
    (b"<?xml", "an XML document, as stores answer with an error"),
    (b"<error", "an XML document, as stores answer with an error"),
    (b"{\"", "a JSON text"),
    (b"\x1f\x8b", "a gzip file"),
    (b"PK\x03\x04", "a zip file, as `torch.save` writes"),
    (b"\x80\x02", "a pickle, as `torch.save` wrote"),
    (b"\x80\x03", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (b"GGUF", "a GGUF file"),
    (b"GGML", "a GGML file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"BZh", "a bzip2 file"),
    (b"7z\xbc\xaf", "a 7z file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy file"),
    (b"%PDF", "a PDF"),
    (b"\x7fELF", "a program"),
    (b"version ", "a pointer of git-lfs"),
];

/// What a file is that starts so; none where nothing tells. To be asked only of what is not what its name says.
pub(crate) fn foreign(first_bytes: &[u8]) -> Option<&'static str> {
    let text = first_bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first_bytes).trim_ascii_start();
    let starts = |bytes: &[u8], start: &[u8]| {
        bytes.len() >= start.len() && bytes[..start.len()].eq_ignore_ascii_case(start)
    };
    let found = STARTS
        .iter()
        .find(|(start, _)| starts(first_bytes, start) || start[0] == b'<' && starts(text, start));
    found.map(|(_, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_first_bytes() {
        for (first, says) in [
            (&b"<!DOCTYPE html>"[..], "an HTML page"),
            (b"\xef\xbb\xbf\n <html>", "an HTML page"),
            (b"{\"error\":\"Repository not found\"}", "a JSON text"),
            (b"\x1f\x8b\x08\0\0\0\0\0", "a gzip file"),
            (b"PK\x03\x04\x14\0", "a zip file, as `torch.save` writes"),
            (b"\x80\x02\x8a\x0a", "a pickle, as `torch.save` wrote"),
            (b"GGUF\x03\0\0\0", "a GGUF file"),
        ] {
            assert_eq!(foreign(first), Some(says));
        }
        assert_eq!(foreign(b"\x10\0\0\0\0\0\0\0{"), None);
        assert_eq!(foreign(b""), None);
    }
}
