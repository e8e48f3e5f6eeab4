//! [`Temporary`]: a file while it is made.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::fs::{AtFlags, CWD, OFlags};

use crate::storage::interrupted::uninterrupted;
use crate::storage::os;

/// Names of temporary files are cut to this many bytes before the suffix: file systems allow 255.
const NAME_BYTES: usize = 200;

/// A new file that nobody may see yet, removed when dropped unless it was renamed or is to be kept.
///
/// The order of fields matters: not every file system takes a name away from a file that is open.
pub(crate) struct Temporary {
    pub(crate) file: Arc<File>,
    name: Name,
}

/// The name of such a file.
struct Name {
    path: PathBuf,
    /// Whether it is somebody else's now, or nobody's.
    is_gone: bool,
    /// Whether what is written may be gone on with later.
    is_kept: bool,
}

impl Temporary {
    /// Makes a new file in `folder` whose name tells of `target`, opened as `options` say and for writing.
    ///
    /// A process number is not unique for long, nor across hosts, so a name that is taken means the next number.
    pub(crate) fn create(folder: &Path, target: &Path, options: &OpenOptions) -> io::Result<Temporary> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = target.file_name().and_then(|name| name.to_str()).unwrap_or("file");
        let name = &name[..name.floor_char_boundary(NAME_BYTES)];
        loop {
            let number = NEXT.fetch_add(1, Relaxed);
            let path = folder.join(format!(".{name}.{}-{number}.tmp", std::process::id()));
            match options.clone().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Temporary::named(file, path, false)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Opens the file at `path`, of which the first `kept` bytes are wanted, or makes a new one if none are. No link is followed.
    pub(crate) fn kept(path: PathBuf, kept: u64) -> io::Result<Temporary> {
        if kept == 0 {
            remove_if_there(&path)?;
        }
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let file = OpenOptions::new().write(true).create_new(kept == 0).custom_flags(flags).open(&path)?;
        let found = uninterrupted(|| file.metadata())?;
        // One with another name is somebody else's too: it is never written into.
        if !found.is_file() || found.len() < kept || found.nlink() > 1 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "what was kept of it is not there"));
        }
        Ok(Temporary::named(file, path, true))
    }

    fn named(file: File, path: PathBuf, is_kept: bool) -> Temporary {
        Temporary { file: Arc::new(file), name: Name { path, is_gone: false, is_kept } }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.name.path
    }

    /// Whether what is written may be gone on with later.
    pub(crate) fn is_kept(&self) -> bool {
        self.name.is_kept
    }

    /// Takes its name away while it is open, so that nothing is left however the process ends. Where that cannot be, it goes
    /// when this is dropped.
    pub(crate) fn take_name_away(&mut self) {
        self.name.is_gone = uninterrupted(|| fs::remove_file(&self.name.path)).is_ok();
    }

    /// Puts the file `from` in its place: whatever it was is gone. `false`: that cannot be, and nothing changed.
    ///
    /// # Errors
    /// What the system says; then it may be gone.
    pub(crate) fn become_link(&self, from: &File) -> io::Result<bool> {
        let path = &self.name.path;
        let beside = path.with_added_extension("link");
        remove_if_there(&beside)?;
        if !link(from, &beside)? {
            return Ok(false);
        }
        let renamed = uninterrupted(|| fs::rename(&beside, path));
        if renamed.is_err() {
            remove_if_there(&beside)?;
        }
        renamed.map(|()| true)
    }

    /// Closes it, and shows it under its name.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn rename(self, to: &Path) -> io::Result<()> {
        let Temporary { file, mut name } = self;
        drop(file);
        uninterrupted(|| fs::rename(&name.path, to))?;
        name.is_gone = true;
        Ok(())
    }

    /// Closes and removes it, even if it was to be kept.
    pub(crate) fn remove(mut self) {
        self.name.is_kept = false;
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if !self.is_gone && !self.is_kept {
            // Nobody is left to tell, and a temporary file that stays is only in the way.
            let _ = uninterrupted(|| fs::remove_file(&self.path));
        }
    }
}

/// Gives an open file another name, which must be free. `false`: it cannot have it, as one on another file system.
fn link(from: &File, to: &Path) -> io::Result<bool> {
    // By its path another file might be found.
    let path = format!("/proc/self/fd/{}", from.as_raw_fd());
    let linked =
        rustix::io::retry_on_intr(|| rustix::fs::linkat(CWD, &*path, CWD, to, AtFlags::SYMLINK_FOLLOW));
    match linked.map_err(io::Error::from) {
        Ok(()) => Ok(true),
        Err(error) if is_refused(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_refused(error: &io::Error) -> bool {
    use io::ErrorKind as Io;
    let kinds = [Io::CrossesDevices, Io::PermissionDenied, Io::Unsupported, Io::TooManyLinks, Io::NotFound];
    kinds.contains(&error.kind()) || os::is_refusal(error)
}

/// Removes a name that may be gone.
fn remove_if_there(path: &Path) -> io::Result<()> {
    match uninterrupted(|| fs::remove_file(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
