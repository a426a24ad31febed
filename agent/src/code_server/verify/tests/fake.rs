//! A scripted server: what it says is a function of the method, the connection and how many
//! reloads there were.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use codevol_protocol::evidence::CodeServerKind;
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::codegen::http::{HeaderValue, Request, Response};
use tonic::codegen::tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::server::{Server, TcpConnectInfo, TcpIncoming};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::super::super::CodeServer;
use super::super::super::client::Empty;
use crate::config::{Address, CodeServerConfig};

pub(super) enum Say {
    Text(String),
    Fail(Code),
    Never,
}

#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a str,
    pub(super) connection: usize,
    /// Reloads that were asked for before this call.
    pub(super) reloads: usize,
}

type Script = dyn Fn(Asked<'_>) -> Say + Send + Sync;

#[derive(Clone)]
pub(super) struct Fake {
    script: Arc<Script>,
    reloads: Arc<AtomicUsize>,
    peers: Arc<Mutex<Vec<Option<SocketAddr>>>>,
}

/// Each reply's one string has tag 1.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Reply {
    #[prost(string, tag = "1")]
    text: String,
}

pub(super) struct Running {
    pub(super) server: CodeServer,
    fake: Fake,
    _tasks: JoinSet<()>,
}

impl Fake {
    pub(super) fn new(script: impl Fn(Asked<'_>) -> Say + Send + Sync + 'static) -> Self {
        Self {
            script: Arc::new(script),
            reloads: Arc::default(),
            peers: Arc::default(),
        }
    }

    fn connection(&self, request: &Request<Body>) -> usize {
        let peer = request.extensions().get::<TcpConnectInfo>();
        let peer = peer.and_then(TcpConnectInfo::remote_addr);
        let mut peers = self.peers.lock().unwrap();
        peers
            .iter()
            .position(|known| *known == peer)
            .unwrap_or_else(|| {
                peers.push(peer);
                peers.len() - 1
            })
    }

    async fn answer(self, mut request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let connection = self.connection(&request);
        let path = request.uri().path().to_owned();
        let method = path.strip_prefix("/api.DagsterApi/").unwrap();
        let reloads = match method {
            "ReloadCode" => self.reloads.fetch_add(1, Ordering::SeqCst),
            _ => self.reloads.load(Ordering::SeqCst),
        };
        let said = (self.script)(Asked {
            method,
            connection,
            reloads,
        });
        let reply = match said {
            Say::Text(text) => Ok(tonic::Response::new(Reply { text })),
            Say::Fail(code) => Err(Status::new(code, "scripted")),
            Say::Never => std::future::pending().await,
        };
        // As Dagster does, whether the client takes it or not.
        let headers = request.headers_mut();
        headers.insert("grpc-accept-encoding", HeaderValue::from_static("gzip"));
        let mut reply = Some(reply);
        let service = tower::service_fn(move |_: tonic::Request<Empty>| {
            std::future::ready(reply.take().unwrap())
        });
        let mut grpc = tonic::server::Grpc::new(ProstCodec::<Reply, Empty>::default())
            .send_compressed(CompressionEncoding::Gzip);
        Ok(grpc.unary(service, request).await)
    }

    pub(super) fn start(self) -> Running {
        self.start_with(Duration::from_secs(20))
    }

    pub(super) fn start_with(self, verify_timeout: Duration) -> Running {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = Address::Tcp(incoming.local_addr().unwrap().to_string());
        let mut tasks = JoinSet::new();
        let fake = self.clone();
        tasks.spawn(async move {
            let service = tower::service_fn(move |request| self.clone().answer(request));
            Server::builder()
                .serve_with_incoming(service, incoming)
                .await
                .unwrap();
        });
        Running {
            server: code_server(address, verify_timeout),
            fake,
            _tasks: tasks,
        }
    }

    pub(super) fn start_unix(self, path: &Path) -> Running {
        let incoming = UnixListenerStream::new(UnixListener::bind(path).unwrap());
        let mut tasks = JoinSet::new();
        let fake = self.clone();
        tasks.spawn(async move {
            let service = tower::service_fn(move |request| self.clone().answer(request));
            Server::builder()
                .serve_with_incoming(service, incoming)
                .await
                .unwrap();
        });
        Running {
            server: code_server(Address::Unix(path.into()), Duration::from_secs(20)),
            fake,
            _tasks: tasks,
        }
    }
}

impl Running {
    pub(super) fn reloads(&self) -> usize {
        self.fake.reloads.load(Ordering::SeqCst)
    }
}

pub(super) fn code_server(address: Address, verify_timeout: Duration) -> CodeServer {
    CodeServer::new(CodeServerConfig {
        address,
        kind: CodeServerKind::Auto,
        verify_timeout,
        python: None,
    })
}
