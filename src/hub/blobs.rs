//! Where the files of the hub's cache are: a snapshot is a directory of links, `models--org--name/snapshots/COMMIT`, into
//! `blobs` beside the snapshots.

use std::path::Path;

/// Whether `target` is a file of the cache that the snapshot at `home`, or a directory of one, may link to. Both are absolute
/// and without links.
pub(crate) fn is_blob_of(home: &Path, target: &Path) -> bool {
    let snapshots = home.ancestors().find(|above| above.file_name().is_some_and(|name| name == "snapshots"));
    let repository = snapshots.and_then(Path::parent);
    repository.is_some_and(|repository| target.parent() == Some(&repository.join("blobs")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_lie_beside_the_snapshots() {
        let repository = "/cache/models--a--b";
        for (home, target, is_blob) in [
            ("snapshots/c0ffee", "blobs/1", true),
            ("snapshots/c0ffee/unet", "blobs/1", true),
            ("snapshots/c0ffee", "blobs/1/x", false),
            ("snapshots/c0ffee", "blobs", false),
            ("snapshots/c0ffee", "refs/main", false),
            ("c0ffee", "blobs/1", false),
        ] {
            let path = |name: &str| Path::new(repository).join(name);
            assert_eq!(is_blob_of(&path(home), &path(target)), is_blob, "{home} {target}");
        }
        assert!(!is_blob_of(Path::new("/cache/models--a--b/snapshots/c"), Path::new("/other/blobs/1")));
    }
}
