//! What a code server serves, by its own account: the names of its assets, over its gRPC service.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic_prost::ProstCodec;

/// Where a code server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `host:port`
    Tcp(String),
    /// The path of a socket.
    Unix(PathBuf),
}

/// Why it cannot be told what a code server serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unserved {
    /// It did not answer.
    Silent(String),
    /// It answered with the error that its code made.
    Error(String),
}

impl Unserved {
    /// Returns whether somebody answered.
    #[must_use]
    pub const fn is_answer(&self) -> bool {
        matches!(self, Self::Error(_))
    }
}

impl fmt::Display for Unserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(why) => write!(f, "no answer: {why}"),
            Self::Error(what) => write!(f, "an error: {what}"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host_port) => f.write_str(host_port),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `ExternalRepositoryRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Request {
    #[prost(string, tag = "1")]
    origin: String,
    #[prost(bool, tag = "2")]
    defer_snapshots: bool,
}

/// `ExternalRepositoryReply`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Reply {
    #[prost(string, tag = "1")]
    repository: String,
}

/// Asks which assets are defined, over a connection of its own, and returns their names, sorted.
///
/// # Errors
/// Nobody answers, or the code that is served does not load.
pub fn served(address: &Address) -> Result<Vec<String>, Unserved> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime starts");
    let silent = |error: &dyn fmt::Display| Unserved::Silent(error.to_string());
    let reply = runtime.block_on(async {
        let asking = async {
            match address {
                Address::Tcp(host_port) => {
                    let stream = TcpStream::connect(host_port).await;
                    ask(stream.map_err(|error| silent(&error))?).await
                }
                Address::Unix(path) => {
                    let stream = UnixStream::connect(path).await;
                    ask(stream.map_err(|error| silent(&error))?).await
                }
            }
        };
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, asking).await;
        asked.unwrap_or_else(|elapsed| Err(silent(&elapsed)))
    })?;
    let repository: Value =
        serde_json::from_str(&reply.repository).map_err(|error| silent(&error))?;
    let Some(assets) = repository["external_asset_graph_data"].as_array() else {
        return Err(Unserved::Error(reply.repository));
    };
    let name = |asset: &Value| asset["asset_key"]["path"][0].as_str().map(str::to_owned);
    let mut names: Vec<String> = assets.iter().filter_map(name).collect();
    names.sort();
    Ok(names)
}

const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// A `RemoteRepositoryOrigin`, under the names that it bears on the wire.
const ORIGIN: &str = r#"{"__class__": "ExternalRepositoryOrigin", "repository_location_origin": {"__class__": "RegisteredRepositoryLocationOrigin", "location_name": "x"}, "repository_name": "__repository__"}"#;

async fn ask<S>(stream: S) -> Result<Reply, Unserved>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_: Uri| {
        std::future::ready(stream.take().ok_or(std::io::ErrorKind::NotConnected))
    });
    let connector = tower::ServiceExt::map_err(connector, std::io::Error::from);
    let channel: Channel = Endpoint::from_static("http://codevol.invalid")
        .connect_with_connector(connector)
        .await
        .map_err(|error| Unserved::Silent(error.to_string()))?;
    let mut grpc = Grpc::new(channel)
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(100 << 20);
    let lost = |error: &dyn fmt::Display| Unserved::Silent(error.to_string());
    grpc.ready().await.map_err(|error| lost(&error))?;
    let request = Request {
        origin: ORIGIN.to_owned(),
        defer_snapshots: true,
    };
    let path = PathAndQuery::from_static("/api.DagsterApi/ExternalRepository");
    let codec: ProstCodec<Request, Reply> = ProstCodec::default();
    let answered = grpc.unary(tonic::Request::new(request), path, codec).await;
    answered
        .map(tonic::Response::into_inner)
        .map_err(|status| lost(&status))
}
