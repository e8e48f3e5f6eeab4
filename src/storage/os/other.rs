//! Every other system: nothing is reserved, flushed early or dropped from the cache, and files are still right.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::io::Errno;

/// Closes a file, whose error nobody tells here.
pub(crate) fn close(file: File) -> io::Result<()> {
    drop(file);
    Ok(())
}

/// Does nothing.
pub(crate) fn drop_cache(_file: &File, _from: u64, _to: Option<u64>) {}

/// Reserves nothing: a full disk shows at the write.
pub(crate) fn reserve(_file: &File, _len: u64) -> io::Result<()> {
    Ok(())
}

/// There is no such call here.
pub(crate) const SYNCS_ALL: bool = false;

/// Nothing is left to do: every file lasts already.
pub(crate) fn sync_file_system(_file: &File) -> io::Result<()> {
    Ok(())
}

/// There is no such call here.
pub(crate) fn start_write_back(_file: &File, _from: u64, _len: u64) -> io::Result<bool> {
    Ok(false)
}

/// There is no such call here.
pub(crate) fn finish_write_back(_file: &File, _from: u64, _len: u64) -> io::Result<bool> {
    Ok(false)
}

/// Nothing is shared here.
pub(crate) fn share_range(_from: &File, _offset: u64, _bytes: u64, _to: (&File, u64)) -> io::Result<bool> {
    Ok(false)
}

/// There is no such flag here.
pub(crate) fn open_direct(_file: &File, _writes: bool) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// There is no direct I/O here.
pub(crate) fn is_refusal(_error: &io::Error) -> bool {
    true
}

/// There is no such call here.
pub(crate) fn is_cached(_file: &File, _offset: u64) -> Option<bool> {
    None
}

/// There is no such call here.
pub(crate) fn read_uncached(_file: &File, _buf: &mut [u8], _offset: u64) -> io::Result<Option<usize>> {
    Ok(None)
}

/// There is no such call here.
pub(crate) fn write_uncached(_file: &File, _bytes: &[u8], _offset: u64) -> io::Result<Option<usize>> {
    Ok(None)
}

/// There is no such call here: `ENOSYS`, so that the caller looks first and then renames.
pub(crate) fn rename_no_replace(_from: &Path, _to: &Path) -> io::Result<()> {
    Err(Errno::NOSYS.into())
}

/// Not known here.
pub(crate) fn is_in_memory(_path: &Path) -> bool {
    false
}

/// There is no such call here.
pub(crate) fn prefer_huge_pages(_map: &memmap2::MmapMut) {}

/// Not known here.
pub(crate) fn network_of(_path: &Path) -> Option<&'static str> {
    None
}

/// Not known here.
pub(crate) fn has_local_clock(_path: &Path) -> bool {
    false
}

/// There is no list: device numbers must tell.
pub(crate) fn is_listed_mount(_path: &Path) -> bool {
    false
}
