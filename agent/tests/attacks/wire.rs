//! A source of our own making, down to the bytes of its streams.

use std::net::SocketAddr;

use codevol_peer::{closed, frame, listening, within};
use codevol_protocol::codec;
use codevol_protocol::key::SecretKey;
use codevol_protocol::limits::CONTROL_FRAME_BYTES_MAX;
use codevol_protocol::message::{AgentHello, FromAgent, FromSource, MINOR, SourceHello};
use codevol_protocol::name::Text;
use codevol_transport::{FrameError, FrameReader};
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};

use crate::craft::{Push, SOURCE, key};

/// Where the agent dials.
#[derive(Debug)]
pub(crate) struct Source {
    endpoint: Endpoint,
}

impl Source {
    pub(crate) fn bind() -> Self {
        let config = listening(&key(SOURCE));
        let endpoint = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        Self { endpoint }
    }

    /// Holds this key from now on.
    pub(crate) fn turns_into(&self, key: &SecretKey) {
        self.endpoint.set_server_config(Some(listening(key)));
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.endpoint.local_addr().unwrap()
    }

    /// Waits for a dial, and returns how the handshake ended.
    pub(crate) async fn handshake(&self) -> Result<Connection, ConnectionError> {
        let incoming = within("dial", self.endpoint.accept()).await.unwrap();
        within("handshake", incoming.into_future()).await
    }

    /// Waits for an agent and reads its hello.
    pub(crate) async fn accept(&self) -> Conn {
        let connection = self.handshake().await.unwrap();
        let (send, receive) = within("control", connection.accept_bi()).await.unwrap();
        let mut reader = FrameReader::new(receive, CONTROL_FRAME_BYTES_MAX);
        let hello = within("hello", reader.read::<FromAgent>()).await.unwrap();
        let Some(FromAgent::Hello(hello)) = hello else {
            panic!("no hello but {hello:?}");
        };
        Conn {
            connection,
            send,
            reader,
            hello,
        }
    }
}

/// A connection of the agent.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) connection: Connection,
    pub(crate) send: SendStream,
    reader: FrameReader<RecvStream>,
    pub(crate) hello: AgentHello,
}

pub(crate) fn source_hello() -> FromSource {
    FromSource::Hello(SourceHello {
        minor: MINOR,
        build: Text::cut("hostile"),
        node: "dag-01".parse().unwrap(),
    })
}

impl Conn {
    pub(crate) async fn greet(&mut self) {
        self.say(&source_hello()).await;
    }

    /// Greets as a source that speaks no newer minor version than this one.
    pub(crate) async fn greet_by(&mut self, minor: u16) {
        let FromSource::Hello(hello) = source_hello() else {
            panic!("a greeting is one");
        };
        let hello = SourceHello { minor, ..hello };
        self.say(&FromSource::Hello(hello)).await;
    }

    pub(crate) async fn say(&mut self, message: &FromSource) {
        self.say_bytes(&frame(&codec::encode(message))).await;
    }

    /// Says anything at all. The agent may have closed already.
    pub(crate) async fn say_bytes(&mut self, bytes: &[u8]) {
        drop(self.send.write_all(bytes).await);
    }

    pub(crate) async fn hear(&mut self) -> Result<Option<FromAgent>, FrameError> {
        within("message", self.reader.read()).await
    }

    pub(crate) async fn push(&self, push: &Push) {
        self.push_bytes(&push.bytes()).await;
    }

    /// Sends a whole stream. The agent may stop it early.
    pub(crate) async fn push_bytes(&self, bytes: &[u8]) {
        let mut stream = within("stream", self.connection.open_uni()).await.unwrap();
        drop(within("push", stream.write_all(bytes)).await);
        drop(stream.finish());
    }

    /// Sends the beginning of a stream, and leaves it open.
    pub(crate) async fn push_open(&self, bytes: &[u8]) -> SendStream {
        let mut stream = within("stream", self.connection.open_uni()).await.unwrap();
        drop(stream.write_all(bytes).await);
        stream
    }

    /// Waits until the agent closes the connection, and returns its code.
    pub(crate) async fn closed(&self, what: &str) -> u64 {
        closed(&self.connection, what).await
    }
}
