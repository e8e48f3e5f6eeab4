//! [`ReadAhead`]: a stream of pieces of a file that are read before they are asked for, some at a time.
//!
//! One stream serves all files of a store, as its files are read one after the other. It follows the reads that continue
//! it and moves to where a large read begins; small reads elsewhere (scales beside codes, a header) leave it where it is. How far it
//! reads ahead doubles with each read that continues, as what follows may never be asked for.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, PoisonError};

use crate::storage::interrupted::uninterrupted;
use crate::storage::io::block::{AlignedPiece, PieceLayout, block_start};
use crate::storage::io::way::{FileReader, Refusal};
use crate::storage::os;
use crate::threads::Mutex;
use crate::threads::channel::{Receiver, Sender, bounded};
use crate::threads::thread::{Builder, JoinHandle};

/// A read of this part of a piece moves the stream.
const MOVING_PART: usize = 4;
/// So does one of so many bytes, however large pieces are.
const MOVING_MOST: usize = 192 << 10;

/// What a stream reads: a file of the file system, or one of another store.
pub(crate) trait Readable: Send + Sync + 'static {
    /// Reads some bytes from `offset` on, as many as one call gives; none at the end.
    ///
    /// # Errors
    /// What the system or the server says. Whoever wants the bytes asks again, and hears it then.
    fn read_some(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl Readable for File {
    fn read_some(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        uninterrupted(|| self.read_at(buf, offset))
    }
}

/// Opens a file again, as the stream reads it.
pub(crate) type Opener<F = File> = fn(&Arc<F>) -> io::Result<Arc<F>>;

/// A stream over the files of a store.
pub(crate) struct ReadAhead<F: Readable + ?Sized = File> {
    cut: PieceLayout,
    /// Bytes of a read that moves the stream.
    moving_bytes: usize,
    open: Opener<F>,
    refusal: Refusal,
    /// None before the first read, and for good where it cannot be had.
    stream: Mutex<Option<ReadStream<F>>>,
}

impl<F: Readable + ?Sized> ReadAhead<F> {
    /// A stream with `window` bytes of memory.
    pub(crate) fn new(window: u64, open: Opener<F>, refusal: &Refusal) -> ReadAhead<F> {
        let cut = PieceLayout::of(window);
        let moving_bytes = (cut.bytes / MOVING_PART).min(MOVING_MOST);
        ReadAhead { cut, moving_bytes, open, refusal: refusal.clone(), stream: Mutex::default() }
    }

    /// The same where reads that are elsewhere move it too, however small they are.
    pub(crate) fn following_every_read(self) -> ReadAhead<F> {
        ReadAhead { moving_bytes: 0, ..self }
    }

    /// Reads some bytes, if they are in the stream or it moves there; else none are read.
    pub(crate) fn read(&self, file: &Arc<F>, buf: &mut [u8], offset: u64) -> Option<usize> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        if stream.is_none() && !self.refusal.is_set() {
            *stream = ReadStream::begin(self.cut).inspect_err(|_| self.refusal.set()).ok();
        }
        let stream = stream.as_mut()?;
        if stream.reaches(file, offset) {
            stream.depth = (2 * stream.depth).min(stream.cut.count);
        } else if buf.len() >= self.moving_bytes {
            stream.move_to(file, self.open, (offset, buf.len()));
        } else {
            return None;
        }
        let some = stream.read(buf, offset);
        if stream.is_refused {
            self.refusal.set();
        }
        some
    }
}

/// Reads the files of a store through a stream.
pub(crate) struct AheadReader(pub(crate) ReadAhead);

impl FileReader for AheadReader {
    fn read(&self, file: &Arc<File>, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        // Whatever the stream cannot give is read as if there were none: that also says why it cannot.
        match self.0.read(file, buf, offset) {
            Some(bytes) => Ok(bytes),
            None => file.read_at(buf, offset),
        }
    }
}

/// A piece to fill.
struct ReadJob<F: Readable + ?Sized> {
    serial: u64,
    file: Arc<F>,
    offset: u64,
    piece: AlignedPiece,
}

/// A piece that was filled, and with how many bytes.
struct Filled {
    serial: u64,
    piece: AlignedPiece,
    bytes: io::Result<usize>,
}

/// The stream, and the threads that fill its pieces.
struct ReadStream<F: Readable + ?Sized> {
    cut: PieceLayout,
    /// None once the stream is dropped, so that the threads end.
    jobs: Option<Sender<ReadJob<F>>>,
    filled: Receiver<Filled>,
    threads: Vec<JoinHandle<()>>,
    /// The file that is read, and the same as the stream reads it; none where that was refused.
    file: Option<(Arc<F>, Option<Arc<F>>)>,
    /// Whether such reads of a file were refused.
    is_refused: bool,
    /// Pieces that lie behind each other in the file, the first the one that is read now.
    pieces: VecDeque<Ahead>,
    spare: Vec<AlignedPiece>,
    /// Number of the next job.
    serial: u64,
    /// Where the next piece begins.
    next: u64,
    /// Pieces to have asked for.
    depth: usize,
}

/// A piece of the stream.
struct Ahead {
    serial: u64,
    offset: u64,
    /// The bytes, once they are there, and how many.
    bytes: Option<(AlignedPiece, usize)>,
}

impl<F: Readable + ?Sized> ReadStream<F> {
    /// A stream that is nowhere yet.
    fn begin(cut: PieceLayout) -> io::Result<ReadStream<F>> {
        let (jobs, to_fill) = bounded::<ReadJob<F>>(cut.count);
        let (give, filled) = bounded(cut.count);
        let mut threads = Vec::new();
        for _ in 1..cut.count {
            let (to_fill, give) = (to_fill.clone(), give.clone());
            threads.push(Builder::new().spawn(move || fill_all(&to_fill, &give))?);
        }
        Ok(ReadStream {
            cut,
            jobs: Some(jobs),
            filled,
            threads,
            file: None,
            is_refused: false,
            pieces: VecDeque::with_capacity(cut.count),
            spare: cut.pieces()?,
            serial: 0,
            next: 0,
            depth: 1,
        })
    }

    /// Whether a read there continues what was read.
    fn reaches(&self, file: &Arc<F>, offset: u64) -> bool {
        let start = self.pieces.front().map_or(self.next, |piece| piece.offset);
        let is_same = self.file.as_ref().is_some_and(|(own, _)| Arc::ptr_eq(own, file));
        is_same && (start..=self.next).contains(&offset)
    }

    /// Turns to another place, with as many pieces as are wanted at once.
    fn move_to(&mut self, file: &Arc<F>, open: Opener<F>, (offset, bytes): (u64, usize)) {
        if !self.file.as_ref().is_some_and(|(own, _)| Arc::ptr_eq(own, file)) {
            let streamed = open(file).ok();
            self.is_refused |= streamed.is_none();
            self.file = Some((file.clone(), streamed));
        }
        while let Some(piece) = self.pieces.pop_front() {
            self.spare.extend(piece.bytes.map(|(piece, _)| piece));
        }
        self.next = block_start(offset);
        self.depth = bytes.div_ceil(self.cut.bytes).clamp(1, self.cut.count);
    }

    /// Copies bytes that are in the stream, and asks for those that follow.
    fn read(&mut self, buf: &mut [u8], offset: u64) -> Option<usize> {
        let is_past = |piece: &mut Ahead| piece.offset + self.cut.bytes as u64 <= offset;
        while let Some(piece) = self.pieces.pop_front_if(is_past) {
            self.spare.extend(piece.bytes.map(|(piece, _)| piece));
        }
        self.ask()?;
        while self.pieces.front()?.bytes.is_none() {
            self.receive()?;
        }
        let Ahead { offset: start, bytes, .. } = self.pieces.front()?;
        let (piece, filled) = bytes.as_ref()?;
        let from = &piece[..*filled];
        let from = from.get((offset - start) as usize..).filter(|rest| !rest.is_empty())?;
        let some = from.len().min(buf.len());
        buf[..some].copy_from_slice(&from[..some]);
        Some(some)
    }

    /// Asks for pieces until as many are there or on their way as there should be.
    fn ask(&mut self) -> Option<()> {
        let file = self.file.as_ref()?.1.clone()?;
        while self.pieces.len() < self.depth {
            // Pieces of an earlier place may still be on their way.
            while self.spare.is_empty() && self.pieces.is_empty() {
                self.receive()?;
            }
            let Some(piece) = self.spare.pop() else { break };
            let (serial, offset) = (self.serial, self.next);
            self.jobs.as_ref()?.send(ReadJob { serial, file: file.clone(), offset, piece }).ok()?;
            self.pieces.push_back(Ahead { serial, offset, bytes: None });
            self.serial += 1;
            self.next += self.cut.bytes as u64;
        }
        Some(())
    }

    /// Waits for the next piece that was filled.
    fn receive(&mut self) -> Option<()> {
        let Filled { serial, piece, bytes } = self.filled.recv().ok()?;
        if let Err(error) = &bytes
            && os::is_refusal(error)
            && let Some((_, streamed)) = &mut self.file
        {
            (*streamed, self.is_refused) = (None, true);
        }
        match self.pieces.iter_mut().find(|ahead| ahead.serial == serial) {
            Some(ahead) => ahead.bytes = Some((piece, bytes.unwrap_or(0))),
            None => self.spare.push(piece),
        }
        Some(())
    }
}

impl<F: Readable + ?Sized> Drop for ReadStream<F> {
    fn drop(&mut self) {
        drop(self.jobs.take());
        for thread in self.threads.drain(..) {
            // One that panicked has nothing that is still wanted.
            let _ = thread.join();
        }
    }
}

/// Fills pieces until nobody asks for more.
fn fill_all<F: Readable + ?Sized>(jobs: &Receiver<ReadJob<F>>, filled: &Sender<Filled>) {
    for ReadJob { serial, file, offset, mut piece } in jobs {
        let bytes = file.read_some(&mut piece, offset);
        if filled.send(Filled { serial, piece, bytes }).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of bytes that tell their place, some of whose reads are made through a stream.
    fn file(bytes: usize) -> (tempfile::TempDir, Arc<File>, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..bytes).map(|i| (i / 256 * 7 + i) as u8).collect();
        let path = folder.path().join("f");
        std::fs::write(&path, &content).unwrap();
        (folder, Arc::new(File::open(path).unwrap()), content)
    }

    fn direct(file: &Arc<File>) -> io::Result<Arc<File>> {
        os::open_direct(file, false).map(Arc::new)
    }

    /// All of `buf`, and how much of it came from the stream.
    fn read_all(ahead: &ReadAhead, file: &Arc<File>, buf: &mut [u8], offset: u64) -> usize {
        let (mut done, mut streamed) = (0, 0);
        while done < buf.len() {
            let at = offset + done as u64;
            let some = ahead.read(file, &mut buf[done..], at).inspect(|some| streamed += some);
            done += some.unwrap_or_else(|| file.read_at(&mut buf[done..], at).unwrap());
        }
        streamed
    }

    #[test]
    fn what_is_read_is_what_the_file_holds_wherever_and_however_long() {
        let (_folder, file, content) = file(300_001);
        for open in [direct as Opener, |file| Ok(file.clone())] {
            reads_what_is_there(&file, &content, open);
        }
    }

    fn reads_what_is_there(file: &Arc<File>, content: &[u8], open: Opener) {
        let refusal = Refusal::default();
        let ahead = ReadAhead::new(64 << 10, open, &refusal);
        // In order, with gaps, back, across the end of pieces, to the end of the file.
        let reads =
            [(0, 5_000), (5_000, 70_000), (75_003, 9), (80_001, 20_000), (3, 16_384), (250_000, 50_001)];
        for (offset, len) in reads {
            let mut buf = vec![0; len];
            read_all(&ahead, file, &mut buf, offset as u64);
            assert!(buf == content[offset..offset + len], "{len} bytes at {offset}");
        }
        assert!(!refusal.is_set());
    }

    #[test]
    fn small_reads_elsewhere_leave_the_stream_where_it_is() {
        let (_folder, file, content) = file(400_000);
        let ahead = ReadAhead::new(64 << 10, direct, &Refusal::default());
        let mut at = 0;
        for i in 0..10 {
            let mut buf = vec![0; 20_000];
            assert_eq!(read_all(&ahead, &file, &mut buf, at as u64), buf.len(), "read {i} is the stream's");
            assert!(buf == content[at..at + 20_000]);
            at += 20_000;
            let mut scales = [0; 100];
            assert_eq!(read_all(&ahead, &file, &mut scales, 399_000 - 100 * i), 0);
        }
    }

    #[test]
    fn a_stream_that_follows_every_read_moves_to_small_ones_too() {
        let (_folder, file, content) = file(400_000);
        let ahead = ReadAhead::new(64 << 10, direct, &Refusal::default()).following_every_read();
        for at in [0, 100, 300_000, 300_100, 7] {
            let mut buf = [0; 100];
            assert_eq!(read_all(&ahead, &file, &mut buf, at as u64), buf.len(), "at {at}");
            assert!(buf == content[at..at + 100]);
        }
    }

    #[test]
    fn a_file_that_ends_early_is_left_to_whoever_can_say_so() {
        let (_folder, file, _) = file(10_000);
        let ahead = ReadAhead::new(16 << 10, direct, &Refusal::default());
        let mut buf = vec![0; 8_000];
        assert_eq!(ahead.read(&file, &mut buf, 8_000), Some(192), "up to the end of a piece");
        assert_eq!(ahead.read(&file, &mut buf, 8_192), Some(1_808), "up to the end of the file");
        assert_eq!(ahead.read(&file, &mut buf, 10_000), None);
    }
}
