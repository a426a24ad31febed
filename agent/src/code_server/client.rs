//! Dagster's gRPC surface, as far as it is needed: five calls, each with a deadline, over one
//! connection that is never re-made, so that all its answers come from the same process.

use std::fmt;
use std::io;
use std::time::Duration;

use codevol_protocol::name::Text;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::config::Address;

/// One connection to a code server.
#[derive(Debug)]
pub(super) struct Client {
    grpc: Grpc<Channel>,
}

/// Why a call brought no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CallError {
    /// No connection came about: nobody listens there.
    NotReached(Text),
    /// The connection broke, or what came over it could not be read.
    Lost(Text),
    /// Nothing came in time.
    Deadline,
    /// The server answered with this status.
    Status(Code, Text),
}

/// An empty message: `Empty`, and each request that has no fields we set.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Empty {}

/// `PingRequest`, and as much of `PingReply`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Echo {
    #[prost(string, tag = "1")]
    pub(super) echo: String,
}

/// `GetServerIdReply`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct ServerId {
    #[prost(string, tag = "1")]
    pub(super) server_id: String,
}

/// `ListRepositoriesReply`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Repositories {
    #[prost(string, tag = "1")]
    pub(super) response_or_error: String,
}

impl Client {
    /// Connects anew.
    pub(super) async fn connect(address: &Address, deadline: Instant) -> Result<Self, CallError> {
        let deadline = deadline.min(Instant::now() + CALL_TIMEOUT);
        let connecting = async {
            match address {
                Address::Tcp(host_port) => {
                    let stream = TcpStream::connect(host_port).await.map_err(not_reached)?;
                    // Else each call waits for the peer's delayed acknowledgement.
                    stream.set_nodelay(true).map_err(not_reached)?;
                    handshake(stream).await
                }
                Address::Unix(path) => {
                    let stream = UnixStream::connect(path).await.map_err(not_reached)?;
                    handshake(stream).await
                }
            }
        };
        let channel = timeout_at(deadline, connecting)
            .await
            .unwrap_or(Err(CallError::Deadline))?;
        // Dagster compresses its answers even when it is not asked to, and a client that does not
        // take gzip sees each of them as `Unimplemented`.
        let grpc = Grpc::new(channel)
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self { grpc })
    }

    /// Asks whether anybody is there.
    pub(super) async fn ping(&mut self, deadline: Instant) -> Result<(), CallError> {
        let echo = Echo {
            echo: "codevol".to_owned(),
        };
        self.short::<_, Echo>("Ping", echo, deadline)
            .await
            .map(drop)
    }

    /// Asks for the id of the process that answers for the code.
    pub(super) async fn server_id(&mut self, deadline: Instant) -> Result<String, CallError> {
        let reply: ServerId = self.short("GetServerId", Empty {}, deadline).await?;
        if reply.server_id.len() > SERVER_ID_BYTES_MAX {
            return Err(CallError::Lost(Text::cut("its server id is too long")));
        }
        Ok(reply.server_id)
    }

    /// Asks for what was loaded: JSON, a response or an error.
    pub(super) async fn list_repositories(
        &mut self,
        deadline: Instant,
    ) -> Result<String, CallError> {
        let deadline = deadline.min(Instant::now() + LIST_TIMEOUT);
        let reply: Repositories = self.call("ListRepositories", Empty {}, deadline).await?;
        Ok(reply.response_or_error)
    }

    /// Asks it to load the code again. The answer proves nothing; a deadline that passes does not
    /// call the reload off.
    pub(super) async fn reload_code(&mut self, deadline: Instant) -> Result<(), CallError> {
        self.call::<_, Empty>("ReloadCode", Empty {}, deadline)
            .await
            .map(drop)
    }

    /// Asks for the runs in flight, which only `dagster api grpc` itself can tell.
    pub(super) async fn current_runs(&mut self, deadline: Instant) -> Result<(), CallError> {
        self.short::<_, Empty>("GetCurrentRuns", Empty {}, deadline)
            .await
            .map(drop)
    }

    async fn short<Q, A>(
        &mut self,
        method: &'static str,
        request: Q,
        deadline: Instant,
    ) -> Result<A, CallError>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let deadline = deadline.min(Instant::now() + CALL_TIMEOUT);
        self.call(method, request, deadline).await
    }

    async fn call<Q, A>(
        &mut self,
        method: &'static str,
        request: Q,
        deadline: Instant,
    ) -> Result<A, CallError>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let path = PathAndQuery::try_from(format!("/api.DagsterApi/{method}"))
            .map_err(|error| lost(&error))?;
        let answer = async {
            self.grpc.ready().await.map_err(|error| lost(&error))?;
            self.grpc
                .unary(Request::new(request), path, ProstCodec::default())
                .await
                .map_err(|status| CallError::from(&status))
        };
        timeout_at(deadline, answer)
            .await
            .unwrap_or(Err(CallError::Deadline))
            .map(tonic::Response::into_inner)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReached(why) => write!(f, "{why}"),
            Self::Lost(why) => write!(f, "{why}"),
            Self::Deadline => f.write_str("no answer in time"),
            Self::Status(code, text) => write!(f, "{code:?}: {text}"),
        }
    }
}

impl From<&Status> for CallError {
    fn from(status: &Status) -> Self {
        // tonic makes a status of its own out of a broken connection: those have a source.
        match std::error::Error::source(status) {
            Some(source) => lost(source),
            None => Self::Status(status.code(), shown(status.message())),
        }
    }
}

/// The longest of the short calls: what a busy server needs for an answer that costs nothing.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Listing waits for a child that still imports.
const LIST_TIMEOUT: Duration = Duration::from_secs(20);
/// Dagster's own bound on a message.
const MESSAGE_BYTES_MAX: usize = 100 << 20;
const SERVER_ID_BYTES_MAX: usize = 256;
/// How much of a status text is worth showing.
const STATUS_BYTES_MAX: usize = 2_048;

/// Speaks HTTP/2 over a stream that is used once: when it breaks, the channel stays broken.
async fn handshake<S>(stream: S) -> Result<Channel, CallError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_: Uri| {
        std::future::ready(stream.take().ok_or(io::ErrorKind::NotConnected))
    });
    // The name is only what the requests bear as their authority.
    let connector = tower::ServiceExt::map_err(connector, io::Error::from);
    Endpoint::from_static("http://codevol.invalid")
        .connect_with_connector(connector)
        .await
        .map_err(|error| lost(&error))
}

fn not_reached(error: io::Error) -> CallError {
    let text = error.to_string();
    // The number of a system's error says nothing that its words do not.
    let words = text
        .split_once(" (os error ")
        .map_or(&*text, |(words, _)| words);
    CallError::NotReached(Text::cut(words))
}

fn lost(error: &dyn std::error::Error) -> CallError {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    CallError::Lost(shown(&text))
}

fn shown(text: &str) -> Text {
    Text::cut(&text[..text.floor_char_boundary(STATUS_BYTES_MAX)])
}
