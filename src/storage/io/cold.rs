//! Whether files would come from the disk or from the page cache.

use std::fs::File;

use crate::storage::os;
use crate::storage::source::Source;

/// Files that are looked at: the first of a checkpoint tell of the others.
const FILES: usize = 8;
/// Looks at each, at odd parts of 32: an identity has read at fifteenths by then.
const LOOKS: u64 = 16;

/// Whether most of `sources` is not in the page cache, as some looks at the first of them tell. What nobody can tell is not cold.
pub(crate) fn are_cold<'s>(sources: impl Iterator<Item = &'s dyn Source>) -> bool {
    let files = sources.take(FILES).filter_map(|source| Some((source.as_file()?, source.len())));
    let found: Vec<bool> = files.flat_map(|(file, len)| looks(&file, len)).collect();
    let cached = found.iter().filter(|is_cached| **is_cached).count();
    2 * cached < found.len()
}

/// For each place looked at, whether it is in the page cache; none where that cannot be asked.
fn looks(file: &File, len: u64) -> Vec<bool> {
    let at = |look: u64| (u128::from(len) * u128::from(2 * look + 1) / u128::from(2 * LOOKS)) as u64;
    (0..LOOKS).map_while(|look| os::is_cached(file, at(look))).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::storage::folder::Folder;
    use crate::storage::store::Store;

    #[test]
    fn files_are_cold_until_they_are_read() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("weights");
        let mut file = File::create(&path).expect("room");
        file.write_all(&vec![1; 8 << 20]).and_then(|()| file.sync_all()).expect("room");
        let source = Folder::new(folder.path()).open("weights").expect("there");
        let are_cold = || are_cold([source.as_ref()].into_iter());
        assert!(!are_cold(), "just written");
        os::drop_cache(&file, 0, None);
        let read = File::open(&path).expect("there");
        let is_told = os::is_cached(&read, 0).is_some() && !os::is_in_memory(&path);
        assert_eq!(are_cold(), is_told, "dropped");
        std::fs::read(&path).expect("there");
        assert!(!are_cold(), "read");
    }
}
