//! [`Wire`]: how requests of the library of object stores travel: by the same agent as those of the hub, each in a thread.

use std::io::{ErrorKind, Read};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use ureq::http::{Method, Request, Response, header};
use ureq::{Agent, Proxy};

use crate::cancel::Cancel;
use crate::storage::http::agent::{Manners, agent};
use crate::storage::http::tries::Patience;

/// Times that a request is sent on to where an answer says.
const REDIRECTS_MOST: u32 = 5;
/// The most bytes of an answer that wait together, beside those that its reader has.
const PIECE_BYTES: usize = 32 << 10;
/// The most bytes of an answer that is no range of an object: a list of a thousand names has less than one.
const WHOLE_MOST: u64 = 8 << 20;

/// What gives the library the clients that it asks for.
#[derive(Debug)]
pub(crate) struct Wire {
    /// What ends all requests: that nobody is left who waits for them.
    pub(crate) ends: Cancel,
    /// How long nothing may come.
    pub(crate) patience: Patience,
}

impl HttpConnector for Wire {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let text = |key| options.get_config_value(&key).filter(|text| !text.is_empty());
        let is_set = |key| text(key).is_some_and(|text| text == "true");
        let proxy = text(ClientConfigKey::ProxyUrl).map(|url| Proxy::new(&url)).transpose();
        let proxy =
            proxy.map_err(|cause| object_store::Error::Generic { store: "proxy", source: cause.into() })?;
        let manners = Manners {
            redirects: REDIRECTS_MOST,
            is_secure: !is_set(ClientConfigKey::AllowHttp),
            trusts_all: is_set(ClientConfigKey::AllowInvalidCertificates),
            proxy,
        };
        Ok(HttpClient::new(Requests(agent(manners, self.patience, &self.ends))))
    }
}

/// What makes requests.
#[derive(Debug)]
struct Requests(Agent);

#[async_trait]
impl HttpService for Requests {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (give, given) = oneshot::channel();
        let agent = self.0.clone();
        spawn_blocking(move || exchange(&agent, request, give));
        given.await.map_err(|gone| HttpError::new(HttpErrorKind::Unknown, gone))?
    }
}

/// Makes a request and gives its answer: that of a range as it begins, and then its bytes as they come and are taken; any other when
/// it is whole, so that the library asks again for one that breaks off.
fn exchange(agent: &Agent, request: HttpRequest, give: oneshot::Sender<Result<HttpResponse, HttpError>>) {
    let is_range = request.headers().contains_key(header::RANGE);
    let (head, mut body) = match ask(agent, request) {
        Ok(answer) => answer.into_parts(),
        Err(cause) => {
            // Nobody may wait for it any more; so below.
            let _ = give.send(Err(failed(cause)));
            return;
        }
    };
    if !is_range {
        let whole = body.with_config().limit(WHOLE_MOST).read_to_vec();
        let whole = whole.map(|whole| Response::from_parts(head, whole.into()));
        let _ = give.send(whole.map_err(|cause| HttpError::new(HttpErrorKind::Interrupted, cause)));
        return;
    }
    let (more, pieces) = mpsc::channel(1);
    let answer = Response::from_parts(head, HttpResponseBody::new(Pieces(pieces)));
    if give.send(Ok(answer)).is_ok() {
        let mut body = body.into_reader();
        while let Some(piece) = next_piece(&mut body) {
            let is_last = piece.is_err();
            if more.blocking_send(piece).is_err() || is_last {
                return;
            }
        }
    }
}

/// The answer to a request, as soon as it begins.
fn ask(agent: &Agent, request: HttpRequest) -> Result<Response<ureq::Body>, ureq::Error> {
    let (mut head, body) = request.into_parts();
    // It is said of what is sent here.
    head.headers.remove(header::CONTENT_LENGTH);
    let all = whole(body);
    // One that is empty has a length, too, where it could have another.
    if !all.is_empty() || [Method::POST, Method::PUT].contains(&head.method) {
        agent.run(Request::from_parts(head, &all[..]))
    } else {
        agent.run(Request::from_parts(head, ()))
    }
}

/// What is to be sent; it is copied only where it is in several pieces, as no part of an object is.
fn whole(body: HttpRequestBody) -> Bytes {
    let (mut body, mut context) = (pin!(body), Context::from_waker(Waker::noop()));
    let mut pieces = Vec::new();
    while let Poll::Ready(Some(Ok(frame))) = body.as_mut().poll_frame(&mut context) {
        pieces.extend(frame.into_data().ok());
    }
    match pieces.len() {
        1 => pieces.remove(0),
        _ => Bytes::from(pieces.concat()),
    }
}

/// The bytes of an answer that come next; none at its end, nor behind an error.
fn next_piece(body: &mut impl Read) -> Option<Result<Bytes, HttpError>> {
    let mut piece = vec![0; PIECE_BYTES];
    match body.read(&mut piece) {
        Ok(0) => None,
        Ok(count) => {
            piece.truncate(count);
            Some(Ok(piece.into()))
        }
        Err(cause) => Some(Err(HttpError::new(HttpErrorKind::Interrupted, cause))),
    }
}

/// The bytes of an answer, of which a thread waits for the next.
#[derive(Debug)]
struct Pieces(mpsc::Receiver<Result<Bytes, HttpError>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

/// What the library makes of a request without an answer: whether it may be made again.
fn failed(cause: ureq::Error) -> HttpError {
    let kind = match &cause {
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => HttpErrorKind::Connect,
        ureq::Error::Io(error) if error.kind() == ErrorKind::TimedOut => HttpErrorKind::Timeout,
        // Whoever keeps connections learns so that one was closed meanwhile, as a rule before anything was done.
        ureq::Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => HttpErrorKind::Request,
        ureq::Error::Io(_) | ureq::Error::Protocol(_) => HttpErrorKind::Interrupted,
        _ => HttpErrorKind::Unknown,
    };
    HttpError::new(kind, cause)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    use object_store::PutPayload;
    use tokio::runtime::Builder;

    use super::*;

    /// What a server was sent with one request, and what came of its answer.
    fn exchange(
        method: Method,
        sent: HttpRequestBody,
        range: Option<&str>,
        answer: &'static str,
    ) -> (String, Result<Bytes, HttpError>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let uri = format!("http://{}/a%20key?uploads", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut stream = BufReader::new(stream);
            let (mut head, mut length) = (String::new(), 0);
            while !head.ends_with("\r\n\r\n") {
                let start = head.len();
                stream.read_line(&mut head).unwrap();
                let line = head[start..].to_ascii_lowercase();
                length =
                    line.strip_prefix("content-length: ").map_or(length, |text| text.trim().parse().unwrap());
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
            head + str::from_utf8(&body).unwrap()
        });
        let request = Request::builder().method(method).uri(uri).header("content-length", "7");
        let request = range.into_iter().fold(request, |request, range| request.header("range", range));
        let request = request.body(sent).unwrap();
        let came = asked(request, "true");
        (server.join().unwrap(), came)
    }

    fn asked(request: HttpRequest, allow_http: &str) -> Result<Bytes, HttpError> {
        let patience = Patience { stall: Duration::from_secs(2), ..Patience::default() };
        let wire = Wire { ends: Cancel::default(), patience };
        let options = ClientOptions::new().with_config(ClientConfigKey::AllowHttp, allow_http);
        let client = wire.connect(&options).unwrap();
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { client.execute(request).await?.into_body().bytes().await })
    }

    #[test]
    fn what_is_sent_has_its_length() {
        const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthere";
        let pieces: PutPayload = ["ab", "", "cd"].map(Bytes::from).into_iter().collect();
        for (method, body, length, sent) in [
            (Method::PUT, HttpRequestBody::from(pieces), Some("4"), "abcd"),
            (Method::PUT, HttpRequestBody::from("one".to_owned()), Some("3"), "one"),
            (Method::POST, HttpRequestBody::empty(), Some("0"), ""),
            (Method::GET, HttpRequestBody::empty(), None, ""),
            (Method::DELETE, HttpRequestBody::empty(), None, ""),
        ] {
            let (seen, came) = exchange(method.clone(), body, None, OK);
            assert_eq!(came.unwrap(), "there");
            assert!(seen.starts_with(&format!("{method} /a%20key?uploads HTTP/1.1\r\n")), "{seen}");
            assert!(seen.ends_with(&format!("\r\n\r\n{sent}")), "{seen}");
            let lower = seen.to_ascii_lowercase();
            let lengths: Vec<&str> =
                lower.lines().filter_map(|line| line.strip_prefix("content-length: ")).collect();
            assert_eq!(lengths, Vec::from_iter(length), "{seen}");
        }
    }

    #[test]
    fn what_breaks_off_or_never_came_may_be_asked_for_again() {
        let cut = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nthere";
        for range in [None, Some("bytes=0-8")] {
            let came = exchange(Method::GET, HttpRequestBody::empty(), range, cut).1;
            assert_eq!(came.unwrap_err().kind(), HttpErrorKind::Interrupted, "{range:?}");
        }
        // Of the kinds of failure this alone is made again where a request changes something.
        let (_, came) = exchange(Method::POST, HttpRequestBody::empty(), None, "");
        assert_eq!(came.unwrap_err().kind(), HttpErrorKind::Request);
    }

    #[test]
    fn without_tls_nothing_is_asked_unless_that_is_allowed() {
        let request = Request::get("http://127.0.0.1:9/").body(HttpRequestBody::empty()).unwrap();
        let refused = asked(request, "false").unwrap_err();
        assert!(format!("{refused:?}").contains("RequireHttpsOnly"), "{refused:?}");
    }
}
