use tokio::net::UdpSocket;

use super::*;
use crate::{DialError, Dialer};

const DEADLINE: Duration = Duration::from_secs(20);

fn source_key() -> SecretKey {
    SecretKey::from_seed(&[1; 32])
}

fn listen() -> Listener {
    Listener::bind("127.0.0.1:0".parse().unwrap(), &source_key(), &[7; 32]).unwrap()
}

async fn dial(addr: SocketAddr, deadline: Duration) -> Result<Link, DialError> {
    let dialer = Dialer::new(&SecretKey::from_seed(&[2; 32]));
    let pinned = source_key().public();
    dialer
        .dial(&addr.to_string(), Alpn::Node, &pinned, deadline)
        .await
}

/// Begins a handshake that its dialler never goes on with.
async fn mute_peer(listener: &Listener) -> (Pending, UdpSocket) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    let mut packet = vec![0; 2_000];
    let length = tokio::select! {
        // Nothing goes on after either arm.
        dialled = dial(addr, DEADLINE) => panic!("nobody listens there: {dialled:?}"),
        length = socket.recv(&mut packet) => length.unwrap(),
    };
    socket
        .send_to(&packet[..length], listener.local_addr().unwrap())
        .await
        .unwrap();
    (listener.accept().await.unwrap(), socket)
}

#[tokio::test]
async fn a_peer_that_goes_silent_in_its_handshake_keeps_nobody_waiting() {
    let listener = listen();
    let (mute, _socket) = mute_peer(&listener).await;
    let addr = listener.local_addr().unwrap();
    let (dialled, accepted) = tokio::join!(dial(addr, DEADLINE), async {
        listener.accept().await.unwrap().handshake(DEADLINE).await
    });
    dialled.unwrap();
    accepted.unwrap();
    let error = mute.handshake(Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, AcceptError::TimedOut), "{error:?}");
    assert_eq!(listener.strangers.available_permits(), HANDSHAKES_MAX);
}

#[tokio::test]
async fn a_handshake_keeps_its_place_from_its_first_packet_until_it_is_over() {
    let listener = listen();
    let (mute, _socket) = mute_peer(&listener).await;
    assert_eq!(listener.strangers.available_permits(), HANDSHAKES_MAX - 1);
    let mut handshake = Box::pin(mute.handshake(DEADLINE));
    let begun = timeout(Duration::ZERO, &mut handshake).await;
    assert!(begun.is_err(), "the peer is mute");
    assert_eq!(listener.strangers.available_permits(), HANDSHAKES_MAX - 1);
    drop(handshake);
    assert_eq!(listener.strangers.available_permits(), HANDSHAKES_MAX);
}

#[tokio::test]
async fn beyond_the_bound_a_peer_gets_in_by_proving_its_address() {
    let listener = listen();
    let addr = listener.local_addr().unwrap();
    listener.strangers.forget_permits(HANDSHAKES_MAX);
    let (dialled, accepted) = tokio::join!(dial(addr, DEADLINE), async {
        listener.accept().await.unwrap().handshake(DEADLINE).await
    });
    dialled.unwrap();
    accepted.unwrap();
    assert_eq!(listener.retried.available_permits(), HANDSHAKES_MAX);
}

#[tokio::test]
async fn beyond_both_bounds_a_peer_is_refused_and_may_come_back() {
    let listener = listen();
    let addr = listener.local_addr().unwrap();
    listener.strangers.forget_permits(HANDSHAKES_MAX);
    listener.retried.forget_permits(HANDSHAKES_MAX);
    let error = tokio::select! {
        // Nothing goes on after either arm.
        dialled = dial(addr, DEADLINE) => dialled.unwrap_err(),
        accepted = listener.accept() => panic!("{accepted:?}"),
    };
    assert!(matches!(error, DialError::Closed { .. }), "{error:?}");
    assert!(error.is_retryable());
}
