//! [`WriteBehind`]: pieces of a new file that are written while the next are filled.
//!
//! The file has its length already and its blocks are reserved, so that pieces may be written in any order. Its last bytes,
//! which fill no block, go through the page cache.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::storage::at_byte::at_byte;
use crate::storage::interrupted::uninterrupted;
use crate::storage::io::block::{AlignedPiece, BLOCK, PieceLayout};
use crate::storage::io::way::{FileWriter, Refusal};
use crate::storage::os;
use crate::threads::channel::{Receiver, Sender, bounded};
use crate::threads::thread::{Builder, JoinHandle};

/// A new file that is written in order.
pub(crate) struct WriteBehind {
    /// The file through the page cache, for what fills no block.
    file: Arc<File>,
    /// None once the writer is dropped, so that the threads end.
    jobs: Option<Sender<WriteJob>>,
    written: Receiver<Written>,
    threads: Vec<JoinHandle<()>>,
    /// The piece that is filled; none while it is waited for.
    piece: Option<AlignedPiece>,
    /// Bytes in it.
    filled: usize,
    /// Where it belongs.
    offset: u64,
    spare: Vec<AlignedPiece>,
    /// Pieces on their way.
    under_way: usize,
}

/// The first `bytes` of a piece to write: whole blocks.
struct WriteJob {
    piece: AlignedPiece,
    bytes: usize,
    offset: u64,
}

/// A piece that was written or could not be.
struct Written {
    piece: AlignedPiece,
    result: io::Result<()>,
}

/// The file as the threads write it.
#[derive(Clone)]
struct DirectFile {
    direct: Arc<File>,
    cached: Arc<File>,
    refusal: Refusal,
}

impl WriteBehind {
    /// Writes `file`, which is `direct` past the page cache, in such pieces.
    ///
    /// # Errors
    /// No memory or no threads.
    pub(crate) fn begin(
        file: &Arc<File>,
        direct: File,
        cut: PieceLayout,
        refusal: &Refusal,
    ) -> io::Result<WriteBehind> {
        let (jobs, to_write) = bounded::<WriteJob>(cut.count);
        let (give, written) = bounded(cut.count);
        let direct = DirectFile { direct: Arc::new(direct), cached: file.clone(), refusal: refusal.clone() };
        let mut threads = Vec::new();
        for _ in 1..cut.count {
            let (to_write, give, direct) = (to_write.clone(), give.clone(), direct.clone());
            threads.push(Builder::new().spawn(move || direct.write_all(&to_write, &give))?);
        }
        Ok(WriteBehind {
            file: file.clone(),
            jobs: Some(jobs),
            written,
            threads,
            piece: None,
            filled: 0,
            offset: 0,
            spare: cut.pieces()?,
            under_way: 0,
        })
    }

    /// Goes on behind the first `from` bytes of the file. Those of the block that they end in are written again with it.
    ///
    /// # Errors
    /// What reading them says.
    pub(crate) fn go_on_at(&mut self, from: u64) -> io::Result<()> {
        let tail = (from % BLOCK as u64) as usize;
        let start = from - tail as u64;
        let file = self.file.clone();
        file.read_exact_at(&mut self.piece()?[..tail], start)?;
        (self.offset, self.filled) = (start, tail);
        Ok(())
    }

    /// The piece to fill.
    fn piece(&mut self) -> io::Result<&mut AlignedPiece> {
        if self.piece.is_none() && self.spare.is_empty() {
            self.receive()?;
        }
        let piece = self.piece.take().or_else(|| self.spare.pop());
        Ok(self.piece.insert(piece.ok_or_else(threads_gone)?))
    }

    /// Sends the whole blocks of what is filled.
    fn send(&mut self, bytes: usize) -> io::Result<()> {
        let Some(piece) = self.piece.take() else { return Ok(()) };
        let job = WriteJob { piece, bytes, offset: self.offset };
        let jobs = self.jobs.as_ref().ok_or_else(threads_gone)?;
        jobs.send(job).map_err(|_| threads_gone())?;
        self.under_way += 1;
        self.offset += bytes as u64;
        self.filled = 0;
        Ok(())
    }

    /// Waits for a piece to be written.
    fn receive(&mut self) -> io::Result<()> {
        let Written { piece, result } = self.written.recv().map_err(|_| threads_gone())?;
        self.under_way -= 1;
        self.spare.push(piece);
        result
    }
}

impl FileWriter for WriteBehind {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let filled = self.filled;
            let room = &mut self.piece()?[filled..];
            let (now, later) = rest.split_at(rest.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            let is_full = now.len() == room.len();
            self.filled += now.len();
            if is_full {
                self.send(self.filled)?;
            }
            rest = later;
        }
        Ok(())
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        if self.filled > 0 {
            self.send(self.filled)?;
        }
        self.offset += bytes;
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        let whole = self.filled / BLOCK * BLOCK;
        let mut tail = [0; BLOCK];
        let tail = &mut tail[..self.filled - whole];
        if let Some(piece) = &self.piece {
            tail.copy_from_slice(&piece[whole..self.filled]);
        }
        if whole > 0 {
            self.send(whole)?;
        }
        while self.under_way > 0 {
            self.receive()?;
        }
        self.file.write_all_at(tail, self.offset)?;
        // What follows is written with it, as a whole block.
        self.piece()?[..tail.len()].copy_from_slice(tail);
        self.filled = tail.len();
        Ok(())
    }

    fn forget(&mut self) {
        os::drop_cache(&self.file, 0, None);
    }
}

impl Drop for WriteBehind {
    fn drop(&mut self) {
        drop(self.jobs.take());
        for thread in self.threads.drain(..) {
            // One that panicked wrote nothing that counts: its piece never came back.
            let _ = thread.join();
        }
    }
}

impl DirectFile {
    /// Writes pieces until nobody sends more.
    fn write_all(&self, jobs: &Receiver<WriteJob>, written: &Sender<Written>) {
        for WriteJob { piece, bytes, offset } in jobs {
            // Whoever hears of it is further on.
            let result = self.write(&piece[..bytes], offset).map_err(|cause| at_byte(cause, offset));
            if written.send(Written { piece, result }).is_err() {
                return;
            }
        }
    }

    /// Writes whole blocks; what direct I/O refuses, or leaves short of a block, goes through the page cache.
    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() && done.is_multiple_of(BLOCK) {
            match uninterrupted(|| self.direct.write_at(&bytes[done..], offset + done as u64)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(some) => done += some,
                Err(error) if os::is_refusal(&error) => {
                    self.refusal.set();
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        let rest = &bytes[done..];
        if rest.is_empty() {
            return Ok(());
        }
        let (from, len) = (offset + done as u64, rest.len() as u64);
        self.cached.write_all_at(rest, from)?;
        // The pages would pile up.
        if os::finish_write_back(&self.cached, from, len)? {
            os::drop_cache(&self.cached, from, Some(from + len));
        }
        Ok(())
    }
}

fn threads_gone() -> io::Error {
    io::Error::other("the threads that write have ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(blocks: usize) -> PieceLayout {
        PieceLayout { count: 8, bytes: blocks * BLOCK }
    }

    #[test]
    fn the_file_is_what_was_written_whatever_the_sizes() {
        let folder = tempfile::tempdir().unwrap();
        for len in [0, 1, 4095, 4096, 4097, 16_384, 100_003] {
            let content: Vec<u8> = (0..len).map(|i| (i / 256 * 7 + i) as u8).collect();
            for step in [1000, 4096, 50_000] {
                let path = folder.path().join(format!("{len}-{step}"));
                let file = Arc::new(File::create(&path).unwrap());
                file.set_len(len as u64).unwrap();
                let direct = os::open_direct(&file, true).unwrap();
                let mut writer = WriteBehind::begin(&file, direct, blocks(2), &Refusal::default()).unwrap();
                for bytes in content.chunks(step) {
                    writer.write(bytes).unwrap();
                    // In between, too: then what is there so far can be kept.
                    if step == 50_000 {
                        writer.finish().unwrap();
                    }
                }
                writer.finish().unwrap();
                assert!(std::fs::read(&path).unwrap() == content, "{len} bytes in steps of {step}");
            }
        }
    }

    #[test]
    fn a_file_goes_on_at_any_byte() {
        let folder = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..50_003).map(|i| (i / 256 * 7 + i) as u8).collect();
        for from in [0, 1, 4095, 4096, 4097, 30_001, 50_003] {
            let path = folder.path().join(from.to_string());
            std::fs::write(&path, &content[..from]).unwrap();
            let file = File::options().read(true).write(true).open(&path).unwrap();
            let file = Arc::new(file);
            file.set_len(content.len() as u64).unwrap();
            let direct = os::open_direct(&file, true).unwrap();
            let mut writer = WriteBehind::begin(&file, direct, blocks(2), &Refusal::default()).unwrap();
            writer.go_on_at(from as u64).unwrap();
            writer.write(&content[from..]).and_then(|()| writer.finish()).unwrap();
            assert!(std::fs::read(&path).unwrap() == content, "from {from}");
        }
    }

    #[test]
    fn an_error_is_told_at_the_latest_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let file = Arc::new(File::create(&path).unwrap());
        // A file that is open for reading only stands for a disk that fails.
        let direct = File::open(&path).unwrap();
        let mut writer = WriteBehind::begin(&file, direct, blocks(1), &Refusal::default()).unwrap();
        let written = (0..10).map(|_| writer.write(&[7; BLOCK])).collect::<Vec<_>>();
        assert!(written.iter().any(Result::is_err) || writer.finish().is_err());
    }

    #[test]
    fn what_direct_writes_refuse_goes_through_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let file = Arc::new(File::create(&path).unwrap());
        // A pipe cannot be written at an offset: one of the numbers that mean "not here".
        let (_end, pipe) = std::io::pipe().unwrap();
        let refusal = Refusal::default();
        let direct = File::from(std::os::fd::OwnedFd::from(pipe));
        let mut writer = WriteBehind::begin(&file, direct, blocks(1), &refusal).unwrap();
        writer.write(&[7; 3 * BLOCK + 5]).and_then(|()| writer.finish()).unwrap();
        assert!(refusal.is_set());
        assert!(std::fs::read(&path).unwrap() == [7; 3 * BLOCK + 5]);
    }
}
