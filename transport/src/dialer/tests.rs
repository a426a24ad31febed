use tokio::net::UdpSocket;

use super::*;
use crate::Listener;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(1)
}

async fn mute() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

fn listener(seed: u8) -> (Listener, SocketAddr) {
    let any = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind(any, &key(seed), &[7; 32]).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// Tries the addresses, whoever listens there, until `end`.
async fn race(
    addresses: &[SocketAddr],
    listeners: &[&Listener],
    end: Instant,
) -> Result<Link, Option<DialError>> {
    let dialer = Dialer::new(&key(2));
    let serve = async {
        for listener in listeners {
            let pending = listener.accept().await.unwrap();
            // Whether it comes to anything is what the dialling side says.
            drop(pending.handshake(Duration::from_secs(20)).await);
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        // Nothing goes on after either arm.
        result = dialer.race(addresses.to_vec(), Alpn::Node, key(1).public(), end) => result,
        () = serve => unreachable!(),
    }
}

/// An address that nothing can be sent to.
fn nowhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

#[tokio::test]
async fn an_address_that_is_silent_does_not_hold_up_the_next_one() {
    let (_socket, mute) = mute().await;
    let (listener, good) = listener(1);
    let end = Instant::now() + Duration::from_secs(20);
    let link = race(&[mute, good], &[&listener], end).await.unwrap();
    assert_eq!(link.remote_address(), good);
}

#[tokio::test]
async fn an_address_that_fails_makes_way_for_the_next_one() {
    let (impostor, wrong) = listener(9);
    let (listener, good) = listener(1);
    let end = Instant::now() + Duration::from_secs(20);
    let addresses = [nowhere(), wrong, good];
    let link = race(&addresses, &[&impostor, &listener], end)
        .await
        .unwrap();
    assert_eq!(link.remote_address(), good);
}

#[tokio::test]
async fn an_answer_says_more_than_silence_and_silence_more_than_no_way() {
    let (_socket, mute) = mute().await;
    let (impostor, wrong) = listener(9);
    for addresses in [[nowhere(), wrong, mute], [wrong, mute, nowhere()]] {
        let failure = race(&addresses, &[&impostor], soon()).await.unwrap_err();
        assert!(
            matches!(failure, Some(DialError::WrongKey { .. })),
            "{failure:?}"
        );
    }
    let failure = race(&[nowhere(), mute], &[], soon()).await.unwrap_err();
    assert!(failure.is_none(), "{failure:?}");
    let failure = race(&[nowhere()], &[], soon()).await.unwrap_err();
    assert!(
        matches!(failure, Some(DialError::Unreachable { .. })),
        "{failure:?}"
    );
}
