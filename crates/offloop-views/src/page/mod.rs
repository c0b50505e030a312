//! The live page: one HTML page, and the events that keep it of now.
//!
//! ```text
//! GET /            the page        GET /document   one document
//! GET /events      documents and records, one each half second, for as long as they are read;
//!                  between them what each loop does, ten times a second while one is blocked
//! POST /kill_call, POST /cancel_task    only where actions are allowed
//! ```
//!
//! Shape:      `access.rs` which requests are answered · `feed.rs` the events · `timed.rs` a
//!             connection that may not stand still · `page.html` what a browser runs.
//! Invariants: 1. A request is answered only if `Access` lets it pass.
//!             2. Connections, headers and all waits have limits, which stand here.
//! Threads:    the engine's.

mod access;
mod feed;
mod timed;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Either;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use offloop::Runtime;
use offloop::recorder::{Recorder, Recording};
use offloop_sys::fork::ForkGuard;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::access::{Access, value_of};
use self::feed::{Feed, Place};
use self::timed::Timed;
use crate::answers::Answers;

/// Connections at once: a page has one, and a second one for a moment.
const CONNECTIONS_MAX: usize = 64;
/// How long the headers of a request may take.
const HEADERS: Duration = Duration::from_secs(5);
/// How many there may be, and how many bytes they may have.
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 16 << 10;
/// How long nothing is accepted after the system had no descriptor for it.
const PAUSE: Duration = Duration::from_millis(200);

/// What a browser runs. It stands between two marks in which a number is put that is used once.
const PAGE: &str = include_str!("page.html");
const NONCE_MARK: &str = "{{nonce}}";
const ACTIONS_MARK: &str = "{{actions}}";

/// How the page is to be.
#[derive(Clone, Debug)]
pub struct PageOptions {
    /// The address to listen at.
    pub host: IpAddr,
    /// The port; 0 for any.
    pub port: u16,
    /// Whether a viewer may end calls and tasks.
    pub actions: bool,
}

/// A page that is bound.
pub(crate) struct Bound {
    listener: StdListener,
    guard: ForkGuard,
    access: Access,
    recording: Option<Recording>,
}

/// Binds the page of this process: its address, with the token.
///
/// # Errors
/// The system's, as when the port is taken.
pub(crate) fn bind(
    options: &PageOptions,
    runtime: Option<&Runtime>,
) -> io::Result<(String, Bound)> {
    let listener = StdListener::bind(SocketAddr::new(options.host, options.port))?;
    listener.set_nonblocking(true)?;
    let guard = ForkGuard::new(listener.as_fd())?;
    let at = listener.local_addr()?;
    let token = access::random()?;
    let mut shown = at;
    if at.ip().is_unspecified() {
        // It listens at every address of the machine, and this one is no address to go to.
        shown.set_ip(match at.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let url = format!("http://{shown}/?token={token}");
    let bound = Bound {
        listener,
        guard,
        access: Access {
            token,
            actions: options.actions,
        },
        // What happens is recorded from now on: the page has a past when it is opened.
        recording: runtime.map(|runtime| Recording::begin(runtime.recorder())),
    };
    Ok((url, bound))
}

struct Site {
    access: Access,
    answers: Arc<Answers>,
    recording: Option<Recording>,
}

impl Site {
    fn recorder(&self) -> Option<Arc<Recorder>> {
        let recording = self.recording.as_ref();
        recording.map(|recording| Arc::clone(recording.recorder()))
    }
}

/// Answers until it is dropped.
pub(crate) async fn serve(bound: Bound, answers: Arc<Answers>) {
    let Bound {
        listener,
        guard: _guard,
        access,
        recording,
    } = bound;
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    let site = Arc::new(Site {
        access,
        answers,
        recording,
    });
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        // One beyond the limit is closed at once.
        if connections.len() < CONNECTIONS_MAX {
            connections.spawn(attend(stream, Arc::clone(&site)));
        }
    }
}

async fn attend(stream: TcpStream, site: Arc<Site>) {
    let Ok(_guard) = ForkGuard::new(stream.as_fd()) else {
        return;
    };
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .keep_alive(false);
    let service = service_fn(|request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(answer(request, &site).await) }
    });
    let connection = http.serve_connection(TokioIo::new(Timed::new(stream)), service);
    // What goes wrong is the viewer's to see.
    let _ = connection.await;
}

type Body = Either<Full<Bytes>, Feed>;

async fn answer(request: Request<Incoming>, site: &Arc<Site>) -> Response<Body> {
    let (parts, _unread) = request.into_parts();
    if let Err(refusal) = site.access.check(&parts) {
        return text(refusal.status, refusal.words);
    }
    match (&parts.method, parts.uri.path()) {
        (&Method::GET | &Method::HEAD, "/") => page(site),
        (&Method::GET | &Method::HEAD, "/document") => {
            let document = site.answers.document(number(&parts, "after")).await;
            whole(StatusCode::OK, "application/json", document)
        }
        (&Method::GET, "/events") => {
            let feed = Feed::new(Arc::clone(&site.answers), site.recorder(), place(&parts));
            events(Either::Right(feed))
        }
        (&Method::HEAD, "/events") => events(Either::Left(Full::default())),
        (&Method::POST, "/kill_call") => {
            let pid = value_of(&parts.uri, "pid").and_then(|pid| pid.parse().ok());
            let done = match pid {
                Some(pid) => site.answers.kill_call(pid),
                None => {
                    return text(
                        StatusCode::BAD_REQUEST,
                        "kill_call needs the pid of a worker",
                    );
                }
            };
            whole(StatusCode::OK, "application/json", done)
        }
        (&Method::POST, "/cancel_task") => {
            let text_of = |name| value_of(&parts.uri, name).unwrap_or_default();
            let (task, name) = (text_of("task"), text_of("name"));
            let done = site.answers.cancel_task(task, name).await;
            whole(StatusCode::OK, "application/json", done)
        }
        (_, "/" | "/document" | "/events") => another_method("GET, HEAD"),
        (_, "/kill_call" | "/cancel_task") => another_method("POST"),
        _ => text(StatusCode::NOT_FOUND, "there is nothing at this path"),
    }
}

fn another_method(allowed: &'static str) -> Response<Body> {
    let mut response = text(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path has another method",
    );
    let allowed = HeaderValue::from_static(allowed);
    response.headers_mut().insert(ALLOW, allowed);
    response
}

fn events(body: Body) -> Response<Body> {
    let mut response = with_headers(StatusCode::OK, "text/event-stream", body);
    // A proxy would keep events until it has many.
    let name = HeaderName::from_static("x-accel-buffering");
    response
        .headers_mut()
        .insert(name, HeaderValue::from_static("no"));
    response
}

/// The last event that a viewer has: it goes on behind it.
fn place(parts: &Parts) -> Place {
    let header = parts.headers.get("last-event-id");
    let header = header.and_then(|value| value.to_str().ok()?.parse().ok());
    let asked = || value_of(&parts.uri, "after")?.parse().ok();
    header.or_else(asked).unwrap_or_default()
}

fn number(parts: &Parts, name: &str) -> u64 {
    let value = value_of(&parts.uri, name);
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn page(site: &Site) -> Response<Body> {
    let Ok(nonce) = access::random() else {
        return text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the system gives no random numbers",
        );
    };
    let actions = if site.access.actions { "yes" } else { "no" };
    let html = PAGE
        .replace(NONCE_MARK, &nonce)
        .replace(ACTIONS_MARK, actions);
    let mut response = whole(
        StatusCode::OK,
        "text/html; charset=utf-8",
        html.into_bytes(),
    );
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        let name = hyper::header::CONTENT_SECURITY_POLICY;
        response.headers_mut().insert(name, policy);
    }
    response
}

fn text(status: StatusCode, words: &'static str) -> Response<Body> {
    whole(
        status,
        "text/plain; charset=utf-8",
        format!("{words}\n").into_bytes(),
    )
}

fn whole(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Body> {
    with_headers(status, kind, Either::Left(Full::new(Bytes::from(body))))
}

/// Headers that every answer has: nothing is kept, framed, guessed or told to another site.
const HEADERS_OF_ALL: [(&str, &str); 7] = [
    ("cache-control", "no-store"),
    (
        "content-security-policy",
        "default-src 'none'; frame-ancestors 'none'",
    ),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
];

fn with_headers(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in HEADERS_OF_ALL {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    headers.insert(hyper::header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
