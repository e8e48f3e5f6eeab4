//! Pointers of git-lfs: small texts that stand in place of files that were not fetched.

const START: &[u8] = b"version https://git-lfs";

/// Whether a file that starts with these bytes is a git-lfs pointer; at least its first eight are needed.
pub(crate) fn is_lfs_pointer(first_bytes: &[u8]) -> bool {
    let given = first_bytes.len().min(START.len());
    given >= 8 && first_bytes[..given] == START[..given]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_known_by_their_start() {
        assert!(is_lfs_pointer(b"version https://git-lfs.github.com/spec/v1\noid"));
        assert!(is_lfs_pointer(b"version "), "all that a header's first read has");
        assert!(!is_lfs_pointer(b"version 2 of a file") && !is_lfs_pointer(b"version"));
        assert!(!is_lfs_pointer(b"{}") && !is_lfs_pointer(b""));
    }
}
