//! Connections that look every fifth of a second whether work should stop: finding a host, reaching it, waiting for its bytes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
};

use crate::cancel::Cancel;
use crate::storage::http::tries::{LOOK, Patience};

/// Finds hosts.
#[derive(Debug)]
pub(crate) struct PatientResolver {
    /// What ends the search.
    pub(crate) cancel: Cancel,
    /// How long it may take.
    pub(crate) patience: Patience,
}

impl Resolver for PatientResolver {
    fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let parts = uri.scheme().zip(uri.authority());
        let name = parts.and_then(|(scheme, authority)| DefaultResolver::host_and_port(scheme, authority));
        let name = name.ok_or_else(|| ureq::Error::BadUri("no host".to_owned()))?;
        let found = abandonable(&self.cancel, self.patience.connect, move || {
            name.to_socket_addrs().map(Iterator::collect::<Vec<SocketAddr>>)
        })?;
        let mut all = self.empty();
        // More addresses than it holds are not of use.
        found.into_iter().take(8).for_each(|address| all.push(address));
        if all.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(all) }
    }
}

/// Reaches hosts.
#[derive(Debug)]
pub(crate) struct PatientConnector {
    /// What ends the waiting.
    pub(crate) cancel: Cancel,
    /// How long it may take.
    pub(crate) patience: Patience,
}

impl<In: Transport> Connector<In> for PatientConnector {
    type Out = Either<In, PatientTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        // A proxy was reached already.
        if let Some(chained) = chained {
            return Ok(Some(Either::A(chained)));
        }
        let addresses: Vec<SocketAddr> = details.addrs.iter().copied().collect();
        let each = self.patience.connect / addresses.len().max(1) as u32;
        let stream = abandonable(&self.cancel, self.patience.connect, move || {
            let mut failed = io::Error::from(io::ErrorKind::NotFound);
            for address in addresses {
                match TcpStream::connect_timeout(&address, each) {
                    Ok(stream) => return Ok(stream),
                    Err(error) => failed = error,
                }
            }
            Err(failed)
        })?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK))?;
        stream.set_write_timeout(Some(LOOK))?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        let (cancel, stall) = (self.cancel.clone(), self.patience.stall);
        Ok(Some(Either::B(PatientTransport { stream, buffers, cancel, stall })))
    }
}

/// Does `work`, which nothing ends, in a thread that is left alone when work should stop or it takes too long.
fn abandonable<T: Send + 'static>(
    cancel: &Cancel,
    longest: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (give, given) = channel();
    thread::Builder::new().name("connect".to_owned()).spawn(move || {
        // Nobody may want it any more.
        let _ = give.send(work());
    })?;
    let started = Instant::now();
    loop {
        match given.recv_timeout(LOOK) {
            Ok(done) => return done,
            Err(RecvTimeoutError::Timeout) => look(cancel, started, longest)?,
            Err(RecvTimeoutError::Disconnected) => return Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

/// Fails if work should stop, or if nothing came for too long.
fn look(cancel: &Cancel, since: Instant, longest: Duration) -> io::Result<()> {
    if cancel.is_cancelled() {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "interrupted"));
    }
    if since.elapsed() < longest {
        return Ok(());
    }
    let text = format!("nothing came for {} seconds", longest.as_secs());
    Err(io::Error::new(io::ErrorKind::TimedOut, text))
}

/// A connection.
#[derive(Debug)]
pub(crate) struct PatientTransport {
    stream: TcpStream,
    buffers: LazyBuffers,
    cancel: Cancel,
    stall: Duration,
}

impl PatientTransport {
    /// Calls `step`, which waits for a moment, until it has done something.
    fn wait(
        (cancel, stall): (&Cancel, Duration),
        mut step: impl FnMut() -> io::Result<usize>,
    ) -> io::Result<usize> {
        let started = Instant::now();
        loop {
            match step() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                }
                done => return done,
            }
            look(cancel, started, stall)?;
        }
    }
}

impl Transport for PatientTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        let PatientTransport { stream, buffers, cancel, stall } = self;
        let mut rest = &buffers.output()[..amount];
        while !rest.is_empty() {
            let sent = Self::wait((cancel, *stall), || stream.write(rest))?;
            if sent == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            rest = &rest[sent..];
        }
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        let PatientTransport { stream, buffers, cancel, stall } = self;
        let input = buffers.input_append_buf();
        let count = Self::wait((cancel, *stall), || stream.read(input))?;
        buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        let is_silent = |stream: &TcpStream| {
            stream.set_nonblocking(true)?;
            let waiting = stream.peek(&mut [0]);
            stream.set_nonblocking(false)?;
            io::Result::Ok(matches!(waiting, Err(error) if error.kind() == io::ErrorKind::WouldBlock))
        };
        // What has come without having been asked for belongs to no request.
        is_silent(&self.stream).unwrap_or(false)
    }
}
