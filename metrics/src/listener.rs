//! The HTTP listener: three pages, for a monitoring system and for probes. It takes no input but the
//! name of a page, serves few at once, and lets nobody keep it waiting.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

/// How many are served at once; one more is turned away.
const CONNECTIONS_MAX: usize = 16;
/// How long a caller may take to say what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may live.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the daemon may take for a page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(8);
/// How long to wait when the system gives no more descriptors.
const ACCEPT_DELAY: Duration = Duration::from_millis(100);
/// Most bytes of a request, its headers together.
const REQUEST_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
const METRICS_TEXT: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD");

/// What the pages are made of.
pub trait Pages: Clone + Send + Sync + 'static {
    /// Returns the metrics, or why there are none now.
    fn metrics(&self) -> impl Future<Output = Result<String, String>> + Send;

    /// Returns whether the daemon works, with `ready` whether it is of use; or why not.
    fn health(&self, ready: bool) -> impl Future<Output = Result<(), String>> + Send;
}

/// The listener cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve metrics on TCP `{address}`")]
pub struct BindError {
    /// Where it should have been.
    pub address: SocketAddr,
    /// Why it cannot.
    #[source]
    pub source: io::Error,
}

/// Listens, and serves the pages.
#[derive(Debug)]
pub struct MetricsListener {
    socket: TcpListener,
    address: SocketAddr,
    places: Arc<Semaphore>,
}

impl MetricsListener {
    /// Binds the address. Needs a running tokio runtime.
    ///
    /// # Errors
    /// When it is taken, or is none of this host's.
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let bound = std::net::TcpListener::bind(address).and_then(|socket| {
            socket.set_nonblocking(true)?;
            let socket = TcpListener::from_std(socket)?;
            Ok((socket.local_addr()?, socket))
        });
        let (address, socket) = bound.map_err(|source| BindError { address, source })?;
        Ok(Self {
            socket,
            address,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        })
    }

    /// Returns where it is bound.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves each caller in a task of its own until the daemon stops.
    pub async fn serve(self, tasks: TaskTracker, stop: CancellationToken, pages: impl Pages) {
        loop {
            // Cancel-safe: `accept` loses no caller when dropped.
            let (stream, place) = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.accept() => accepted,
            };
            tasks.spawn(serve_one(stream, place, stop.clone(), pages.clone()));
        }
    }

    /// Waits for the next caller for whom there is a place. Cancel-safe.
    async fn accept(&self) -> (TcpStream, OwnedSemaphorePermit) {
        loop {
            // Cancel-safe: `accept` loses no connection when dropped, and neither does the wait.
            let stream = match self.socket.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "metrics listener cannot accept");
                    tokio::time::sleep(ACCEPT_DELAY).await;
                    continue;
                }
            };
            match Arc::clone(&self.places).try_acquire_owned() {
                Ok(place) => return (stream, place),
                Err(_) => {
                    warn!("metrics listener turned a caller away: it serves as many as it may");
                }
            }
        }
    }
}

async fn serve_one(
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
    stop: CancellationToken,
    pages: impl Pages,
) {
    let service = service_fn(move |request: Request<_>| {
        let pages = pages.clone();
        async move {
            let page = page(&pages, request.method(), request.uri().path());
            let page = timeout(PAGE_TIMEOUT, page).await;
            let late = || {
                plain(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the daemon does not answer",
                )
            };
            Ok::<_, Infallible>(page.unwrap_or_else(|_elapsed| late()))
        }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(REQUEST_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // What is dropped is only an answer.
        () = stop.cancelled() => {}
        served = timeout(CONNECTION_TIMEOUT, connection) => match served {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "caller of the metrics listener went away"),
            Err(_elapsed) => debug!("caller of the metrics listener is too slow"),
        },
    }
}

async fn page(pages: &impl Pages, method: &Method, path: &str) -> Response<Full<Bytes>> {
    if !matches!(path, "/metrics" | "/healthz" | "/readyz") {
        return plain(
            StatusCode::NOT_FOUND,
            "there are /metrics, /healthz and /readyz",
        );
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "this can only be read");
        refused.headers_mut().insert(ALLOW, ALLOWED);
        return refused;
    }
    if path == "/metrics" {
        return match pages.metrics().await {
            Ok(text) => {
                let mut page = Response::new(Full::from(text));
                page.headers_mut().insert(CONTENT_TYPE, METRICS_TEXT);
                page
            }
            Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, &why),
        };
    }
    match pages.health(path == "/readyz").await {
        Ok(()) => plain(StatusCode::OK, "ok"),
        Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut page = Response::new(Full::from(format!("{text}\n")));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, PLAIN_TEXT);
    page
}

#[cfg(test)]
mod tests;
