//! Linux: page cache advice, reserving room, write-back of a range, the list of mounts.
//!
//! Kernels, file systems and sandboxes lack some of these calls and say so by various error numbers: `ENOSYS` (no such
//! call), `EOPNOTSUPP`, `EINVAL`, `ENODEV`, `ESPIPE` (not for this file), `EPERM` (a seccomp profile).

#![expect(unsafe_code, reason = "`sync_file_range`, `FICLONERANGE` and `cachestat` have no safe wrapper")]

use std::fs::{self, File};
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use memmap2::MmapMut;
use rustix::fs::{Advice, CWD, FallocateFlags, OFlags, RenameFlags};
use rustix::io::{Errno, ReadWriteFlags, preadv2, pwritev2, retry_on_intr};

/// Lets the cache forget the clean pages of `file` from `from` up to `to`, or to the end. A hint only.
pub(crate) fn drop_cache(file: &File, from: u64, to: Option<u64>) {
    let len = match to.map(|to| NonZeroU64::new(to.saturating_sub(from))) {
        Some(None) => return, // a length of 0 would mean "to the end"
        Some(len) => len,
        None => None,
    };
    // Nothing depends on it, so a refusal is no error.
    let _ = rustix::fs::fadvise(file, from, len, Advice::DontNeed);
}

/// Reserves `len` bytes of disk for `file`, or does nothing where that cannot be done.
///
/// The file then has that length. Keeping the length as it is would be refused by NFS, which knows only this way.
///
/// # Errors
/// No room, a spent quota, a length the file system cannot hold.
pub(crate) fn reserve(file: &File, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    match retry_on_intr(|| rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len)) {
        Err(errno) if !is_not_here(errno) => Err(errno.into()),
        _ => Ok(()),
    }
}

/// Whether a whole file system can be made to last by one call.
pub(crate) const SYNCS_ALL: bool = true;

/// Makes all last that was written to the file system of `file`.
///
/// # Errors
/// The disk failed or is full.
pub(crate) fn sync_file_system(file: &File) -> io::Result<()> {
    Ok(retry_on_intr(|| rustix::fs::syncfs(file))?)
}

/// Starts to write the range's dirty pages to disk and does not wait. `false`: there is no such call here.
///
/// # Errors
/// The disk failed or is full; the kernel may say so only this once.
pub(crate) fn start_write_back(file: &File, from: u64, len: u64) -> io::Result<bool> {
    sync_range(file, from, len, libc::SYNC_FILE_RANGE_WRITE)
}

/// Waits until the range's pages are on disk, so that the cache can drop them; this makes nothing durable. `false`: there
/// is no such call here.
///
/// # Errors
/// The disk failed or is full; the kernel may say so only this once.
pub(crate) fn finish_write_back(file: &File, from: u64, len: u64) -> io::Result<bool> {
    let all =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    sync_range(file, from, len, all)
}

fn sync_range(file: &File, from: u64, len: u64, flags: libc::c_uint) -> io::Result<bool> {
    let (Ok(from), Ok(len)) = (from.try_into(), len.try_into()) else { return Ok(false) };
    let call = || {
        // SAFETY: the call takes numbers only, no pointers, and the descriptor is open while `file` is borrowed.
        match unsafe { libc::sync_file_range(file.as_raw_fd(), from, len, flags) } {
            0 => Ok(()),
            _ => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)),
        }
    };
    match retry_on_intr(call) {
        Ok(()) => Ok(true),
        Err(errno) if is_not_here(errno) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether the error number means that the call is missing here, and not that it failed.
fn is_not_here(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL | Errno::NODEV | Errno::SPIPE | Errno::PERM
    )
}

/// The same file, open for writing or for reading past the page cache.
///
/// # Errors
/// The file system refuses it, or there is no `/proc`.
pub(crate) fn open_direct(file: &File, writes: bool) -> io::Result<File> {
    // Opening the path again might find another file.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlags::DIRECT.bits() as i32;
    fs::OpenOptions::new().read(!writes).write(writes).custom_flags(flags).open(path)
}

/// Whether an error of direct I/O means that it is not to be had for this file.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(is_not_here)
}

/// What the kernel calls `file_clone_range`.
#[repr(C)]
struct CloneRange {
    from_fd: i64,
    from: u64,
    bytes: u64,
    to: u64,
}

/// `FICLONERANGE`: a range that two files share until one of them is changed there.
const CLONE_RANGE: rustix::ioctl::Opcode = rustix::ioctl::opcode::write::<CloneRange>(0x94, 13);

/// Makes `to` share `bytes` bytes with `from`: those from `offset` on, at `at`. All three are whole blocks. `false`: the file
/// system cannot, or not for these files.
///
/// # Errors
/// The disk failed or is full.
pub(crate) fn share_range(from: &File, offset: u64, bytes: u64, (to, at): (&File, u64)) -> io::Result<bool> {
    let range = CloneRange { from_fd: from.as_raw_fd().into(), from: offset, bytes, to: at };
    let call = || {
        // SAFETY: the kernel reads one `file_clone_range` through the pointer, which is valid for the call, and both
        // descriptors are open while the files are borrowed.
        match unsafe { libc::ioctl(to.as_raw_fd(), CLONE_RANGE as _, &raw const range) } {
            0 => Ok(()),
            _ => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)),
        }
    };
    match retry_on_intr(call) {
        Ok(()) => Ok(true),
        Err(errno) if is_not_here(errno) || matches!(errno, Errno::XDEV | Errno::NOTTY) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Reads some bytes that the page cache keeps no longer than that. `None`: there is no such call here.
///
/// # Errors
/// What the read says.
pub(crate) fn read_uncached(file: &File, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
    let read = retry_on_intr(|| preadv2(file, &mut [io::IoSliceMut::new(buf)], offset, uncached()));
    found_here(read)
}

/// Whether the page at `offset` is in the page cache. `None`: that cannot be asked here.
///
/// Linux before 6.5 has nothing to ask, and others may not be asked about files of somebody else. A read that must not wait
/// tells as well, but it has the page read all the same, and says that it is there if the disk was quick.
pub(crate) fn is_cached(file: &File, offset: u64) -> Option<bool> {
    cached_pages(file, offset).map(|pages| pages > 0).or_else(|| is_read_at_once(file, offset))
}

/// How many pages are in the page cache of the one at `offset`.
fn cached_pages(file: &File, offset: u64) -> Option<u64> {
    /// `cachestat(2)`: the number is one for all systems.
    const CACHESTAT: libc::c_long = 451;
    /// `struct cachestat_range`.
    #[repr(C)]
    struct Range {
        offset: u64,
        len: u64,
    }
    /// `struct cachestat`: pages cached, dirty, being written, evicted, and evicted not long ago.
    type Stat = [u64; 5];

    let range = Range { offset, len: 1 };
    let mut stat = Stat::default();
    let no_flags: libc::c_uint = 0;
    // SAFETY: the kernel reads one `cachestat_range` and writes one `cachestat` through pointers that are valid for the call,
    // and the descriptor is open while `file` is borrowed.
    let code =
        unsafe { libc::syscall(CACHESTAT, file.as_raw_fd(), &raw const range, &raw mut stat, no_flags) };
    (code == 0).then(|| stat[0])
}

fn is_read_at_once(file: &File, offset: u64) -> Option<bool> {
    let mut byte = [0];
    let read = retry_on_intr(|| {
        preadv2(file, &mut [io::IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT)
    });
    match read {
        Ok(_) => Some(true),
        Err(Errno::AGAIN) => Some(false),
        Err(_) => None,
    }
}

/// Writes some bytes that the page cache keeps until they are on disk. `None`: there is no such call here.
///
/// # Errors
/// What the write says.
pub(crate) fn write_uncached(file: &File, bytes: &[u8], offset: u64) -> io::Result<Option<usize>> {
    let written = retry_on_intr(|| pwritev2(file, &[io::IoSlice::new(bytes)], offset, uncached()));
    found_here(written)
}

/// `RWF_DONTCACHE`, of Linux 6.14.
fn uncached() -> ReadWriteFlags {
    ReadWriteFlags::from_bits_retain(0x80)
}

fn found_here(result: Result<usize, Errno>) -> io::Result<Option<usize>> {
    match result {
        Ok(some) => Ok(Some(some)),
        Err(errno) if is_not_here(errno) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Renames in one step, and only if nothing has the new name.
///
/// # Errors
/// `EEXIST`; `ENOSYS` or `EINVAL` where this is not to be had; and what a rename says.
pub(crate) fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

const TMPFS: u32 = 0x0102_1994;
const RAMFS: u32 = 0x8584_58f6;
/// File systems whose times come from this kernel's clock: ext, XFS, Btrfs, overlayfs, F2FS, bcachefs, ZFS, and memory. A server
/// has a clock of its own.
const LOCAL: [u32; 9] =
    [0xef53, 0x5846_5342, 0x9123_683e, 0x794c_7630, 0xf2f5_2010, 0xca45_1a4e, 0x2fc1_2fc1, TMPFS, RAMFS];

/// File systems behind a network, or behind a process that asks one.
const NETWORK: [(u32, &str); 10] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x0102_1997, "9P"),
    (0x5346_414f, "AFS"),
    (0x6573_5546, "FUSE"),
];

/// Asks for huge pages behind a map, where the system has some.
pub(crate) fn prefer_huge_pages(map: &MmapMut) {
    // Without them requests have more parts.
    let _ = map.advise(memmap2::Advice::HugePage);
}

/// The kind of network file system that `path` is on.
pub(crate) fn network_of(path: &Path) -> Option<&'static str> {
    let found = retry_on_intr(|| rustix::fs::statfs(path)).ok()?.f_type as u32;
    NETWORK.iter().find(|(kind, _)| *kind == found).map(|(_, name)| *name)
}

/// Whether what is written at `path`, which is there, takes memory: a tmpfs or a ramfs.
pub(crate) fn is_in_memory(path: &Path) -> bool {
    is_on(path, &[TMPFS, RAMFS])
}

/// Whether the times of the file at `path` are of the clock of this kernel.
pub(crate) fn has_local_clock(path: &Path) -> bool {
    is_on(path, &LOCAL)
}

/// Whether what is at `path` is on a file system of one of these types.
fn is_on(path: &Path, types: &[u32]) -> bool {
    let found = retry_on_intr(|| rustix::fs::statfs(path));
    found.is_ok_and(|found| types.contains(&(found.f_type as u32)))
}

/// Closes a file: where a store makes something of it only then, it says here what went wrong.
///
/// # Errors
/// What the system says; the file is closed all the same.
pub(crate) fn close(file: File) -> io::Result<()> {
    let descriptor = file.into_raw_fd();
    // SAFETY: `into_raw_fd` gave up the only owner of the descriptor, which is open, and nobody uses it afterwards.
    match unsafe { libc::close(descriptor) } {
        0 => Ok(()),
        // It is closed, whatever interrupted it.
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            error => Err(error),
        },
    }
}

/// Whether the list of mounts has exactly this path, which is absolute and without symlinks.
pub(crate) fn is_listed_mount(path: &Path) -> bool {
    fs::read("/proc/self/mountinfo").is_ok_and(|list| has_mount(&list, path.as_os_str().as_bytes()))
}

/// Whether a list in the form of proc(5), `mountinfo`, has a mount at `path`: the fifth word of a line.
fn has_mount(list: &[u8], path: &[u8]) -> bool {
    list.split(|&byte| byte == b'\n')
        .filter_map(|line| line.split(|&byte| byte == b' ').nth(4))
        .any(|word| unescaped(word) == path)
}

/// `word` with `\040` and its like (space, tab, newline, backslash) turned back.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, tail)) = rest.split_first() {
        match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if first == b'\\' => {
                bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = after;
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_their_whole_name() {
        let list = b"22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                     30 22 0:25 /x /mnt/my\\040disk rw shared:1 - tmpfs tmpfs rw\n\
                     31 22 0:26 / /odd\\134\\012\\377name rw - tmpfs tmpfs rw\n\
                     broken line\n";
        for path in [&b"/"[..], b"/mnt/my disk", b"/odd\\\n\xffname"] {
            assert!(has_mount(list, path), "{}", String::from_utf8_lossy(path));
        }
        for path in [&b"/mnt"[..], b"/mnt/my", b"/mnt/my\\040disk", b"/x", b""] {
            assert!(!has_mount(list, path), "{}", String::from_utf8_lossy(path));
        }
    }

    #[test]
    fn only_numbers_that_mean_not_here_are_passed_over() {
        for errno in [Errno::NOSYS, Errno::OPNOTSUPP, Errno::INVAL, Errno::SPIPE] {
            assert!(is_not_here(errno));
        }
        for errno in [Errno::IO, Errno::NOSPC, Errno::DQUOT, Errno::FBIG, Errno::BADF] {
            assert!(!is_not_here(errno));
        }
    }

    #[test]
    fn asking_what_is_cached_reads_nothing() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        io::Write::write_all(&mut file, &[1; 8 << 12]).unwrap();
        file.as_file().sync_all().unwrap();
        let is_cached = |page: u64| is_cached(file.as_file(), page << 12).unwrap_or(true);
        assert!((0..8).all(is_cached), "just written");
        drop_cache(file.as_file(), 0, None);
        // Old kernels have nothing to ask, and memory that is the file is not dropped.
        if cached_pages(file.as_file(), 0) == Some(0) {
            for turn in ["first", "second"] {
                assert!(!(0..8).any(is_cached), "{turn}");
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    }

    #[test]
    fn files_that_cannot_be_reserved_or_flushed_are_passed_over() {
        let null = fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
        reserve(&null, 1 << 20).unwrap();
        assert!(!start_write_back(&null, 0, 1 << 20).unwrap());
        let file = tempfile::tempfile().unwrap();
        reserve(&file, 1 << 20).unwrap();
        reserve(&file, 0).unwrap();
        assert!(!start_write_back(&file, u64::MAX, 1).unwrap());
        drop_cache(&file, 5, Some(5));
        drop_cache(&file, 0, None);
    }
}
