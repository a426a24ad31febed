//! A source that dies and comes back.

use tokio::runtime::Runtime;

use super::*;

/// Lets the listener's process "die": its tasks stop in the middle, and its socket closes.
fn kill(runtime: Runtime) {
    runtime.shutdown_timeout(DEADLINE);
}

#[test]
fn a_restarted_listener_ends_the_old_connection_at_its_next_packet() {
    let agent_side = Runtime::new().unwrap();
    let first_life = Runtime::new().unwrap();
    let (listener, addr) = first_life.block_on(async {
        let listener = listen();
        let addr = listener.local_addr().unwrap();
        (listener, addr)
    });
    let pinned = source_key().public();
    let peer = first_life.spawn(async move {
        let peer = accept(&listener).await;
        (peer, listener)
    });
    let agent = agent_side
        .block_on(dial(addr, Alpn::Node, &pinned))
        .unwrap();
    let first = first_life.block_on(peer).unwrap();
    kill(first_life);
    drop(first);
    assert_eq!(agent.close_reason(), None);

    let second_life = Runtime::new().unwrap();
    let _listener =
        second_life.block_on(async { Listener::bind(addr, &source_key(), &RESET_KEY).unwrap() });
    let reason = agent_side.block_on(async {
        // Where a probe of QUIC's own was first, the link has ended already: no stream, or no
        // write.
        let mut control = agent.open_control().await;
        if let Ok((writer, _)) = &mut control {
            drop(writer.write(&"are you there").await);
        }
        // Well below the idle timeout: silence would not end it in this time.
        tokio::time::timeout(Duration::from_secs(10), agent.closed()).await
    });
    assert_eq!(reason, Ok(CloseReason::Restarted));
}
