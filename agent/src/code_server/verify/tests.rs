//! Against a scripted server; the real one is for the tests of whole processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use codevol_protocol::evidence::{CodeServerState, Evidence, Verdict};
use codevol_protocol::name::Text;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use self::fake::{Asked, Fake, Say, code_server};
use super::*;
use crate::config::Address;

mod fake;

const RELEASE: &str = "000042-3f9ac1d2";

fn expected() -> Expected {
    Expected {
        release_dir: RELEASE.into(),
        flip: 1,
        known_server_id: None,
        reload: true,
    }
}

fn listing(directory: &str) -> Say {
    Say::Text(format!(
        r#"{{"__class__": "ListRepositoriesResponse", "repository_code_pointer_dict":
            {{"r": {{"module": "defs", "working_directory": "{directory}"}}}}}}"#
    ))
}

/// A healthy stock server whose id counts its reloads.
fn stock(asked: Asked<'_>) -> Say {
    match asked.method {
        "GetServerId" => Say::Text(format!("id-{}", asked.reloads)),
        "ListRepositories" => listing("/vol/current"),
        "GetCurrentRuns" => Say::Fail(Code::Unimplemented),
        _ => Say::Text(String::new()),
    }
}

/// `dagster api grpc`.
fn api_grpc(asked: Asked<'_>) -> Say {
    match asked.method {
        "GetServerId" => Say::Text("one".into()),
        "GetCurrentRuns" => Say::Text(String::new()),
        _ => stock(asked),
    }
}

fn assert_proven(verified: &Verified) {
    assert_eq!(
        (verified.verdict, verified.evidence, verified.state),
        (Verdict::Good, Some(Evidence::Proven), CodeServerState::Good),
        "{verified:?}"
    );
}

#[tokio::test]
async fn a_reloaded_server_is_proven_through_answers_it_compressed_unasked() {
    let mut running = Fake::new(stock).start();
    let verified = running.server.verify(&expected()).await;
    assert_proven(&verified);
    assert_eq!(verified.kind, CodeServerKind::CodeServer);
    assert_eq!(verified.server_id.as_deref(), Some("id-1"));
    assert!(verified.load_ms.is_some());
    assert_eq!(running.reloads(), 1);
}

#[tokio::test]
async fn a_server_answers_over_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let mut running = Fake::new(stock).start_unix(&dir.path().join("s"));
    assert_proven(&running.server.verify(&expected()).await);
}

#[tokio::test]
async fn a_listing_of_many_megabytes_is_read() {
    let mut running = Fake::new(|asked| match asked.method {
        "ListRepositories" => listing(&format!("/vol/current/{}", "x/".repeat(3 << 20))),
        _ => stock(asked),
    })
    .start();
    assert_proven(&running.server.verify(&expected()).await);
}

#[tokio::test]
async fn a_known_process_keeps_its_evidence_without_a_reload() {
    let mut running = Fake::new(stock).start();
    let known = Expected {
        known_server_id: Some("id-0".into()),
        ..expected()
    };
    assert_proven(&running.server.verify(&known).await);
    assert_eq!(running.reloads(), 0);
    let unknown = Expected {
        known_server_id: Some("id-9".into()),
        ..expected()
    };
    assert_proven(&running.server.verify(&unknown).await);
    assert_eq!(running.reloads(), 1);
}

#[tokio::test]
async fn nothing_is_reloaded_unless_it_may_be() {
    let mut running = Fake::new(stock).start();
    let look = Expected {
        reload: false,
        ..expected()
    };
    let verified = running.server.verify(&look).await;
    assert_eq!(verified.verdict, Verdict::Unproven);
    assert_eq!(
        running.server.inspect().await.pointer,
        Some(super::super::PointsTo::Current)
    );
    assert_eq!(running.reloads(), 0);
}

#[tokio::test]
async fn a_first_look_says_what_keeps_a_server_from_following() {
    use super::super::PointsTo;
    let look = async |directory: &'static str| {
        let running = Fake::new(move |asked| match asked.method {
            "ListRepositories" => listing(directory),
            _ => stock(asked),
        })
        .start();
        let looked = running.server.inspect().await;
        assert_eq!(running.reloads(), 0);
        (looked.pointer, looked.advice)
    };
    let follow = "start it with `-d ROOT/current`";
    assert_eq!(look("/vol/current").await, (Some(PointsTo::Current), None));
    let (pointer, advice) = look("/vol/releases/000042-3f9ac1d2").await;
    assert_eq!(pointer, Some(PointsTo::Release(Text::cut(RELEASE))));
    let advice = advice.unwrap();
    assert!(advice.as_str().contains(RELEASE), "{advice}");
    assert!(advice.as_str().contains(follow), "{advice}");
    let (pointer, advice) = look("/srv/elsewhere").await;
    assert_eq!(pointer, Some(PointsTo::Outside));
    assert!(advice.unwrap().as_str().contains(follow));
}

#[tokio::test]
async fn a_server_that_cannot_reload_is_proven_once_it_was_restarted() {
    let restarted = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&restarted);
    let mut running = Fake::new(move |asked| match asked.method {
        "GetServerId" if switch.load(Ordering::SeqCst) => Say::Text("two".into()),
        _ => api_grpc(asked),
    })
    .start();
    let verified = running.server.verify(&expected()).await;
    assert_eq!(verified.verdict, Verdict::Unproven);
    assert_eq!(verified.kind, CodeServerKind::ApiGrpc);
    assert!(verified.advice.unwrap().as_str().contains("cannot reload"));

    restarted.store(true, Ordering::SeqCst);
    assert_proven(&running.server.verify(&expected()).await);
    let flipped = Expected {
        flip: 2,
        ..expected()
    };
    let verified = running.server.verify(&flipped).await;
    assert_eq!(verified.verdict, Verdict::Unproven);
}

#[tokio::test]
async fn an_id_that_a_reload_leaves_is_one_of_a_server_that_cannot_reload() {
    let mut running = Fake::new(|asked| match asked.method {
        "GetServerId" => Say::Text("one".into()),
        _ => stock(asked),
    })
    .start();
    let verified = running.server.verify(&expected()).await;
    assert_eq!(verified.kind, CodeServerKind::ApiGrpc);
    assert_eq!(
        (verified.verdict, verified.evidence),
        (Verdict::Unproven, None)
    );
    assert_eq!(running.reloads(), 1);
}

#[tokio::test]
async fn the_first_good_reload_after_a_crash_answers_unknown_and_is_proven() {
    let mut running = Fake::new(|asked| match (asked.method, asked.reloads) {
        ("ReloadCode", _) | ("GetServerId" | "ListRepositories" | "Ping", 0) => {
            Say::Fail(Code::Unknown)
        }
        _ => stock(asked),
    })
    .start();
    assert_proven(&running.server.verify(&expected()).await);
}

#[tokio::test]
async fn a_process_that_dies_on_import_is_broken() {
    let mut running = Fake::new(|asked| match (asked.method, asked.reloads) {
        ("GetServerId" | "ListRepositories", 1) => Say::Fail(Code::Unknown),
        _ => stock(asked),
    })
    .start();
    let verified = running.server.verify(&expected()).await;
    assert_eq!(verified.verdict, Verdict::Broken);
    assert_eq!(verified.state, CodeServerState::Broken);
}

#[tokio::test]
async fn a_server_that_is_not_ready_is_waited_for() {
    let looks = AtomicUsize::new(0);
    let mut running = Fake::new(move |asked| match (asked.method, asked.reloads) {
        ("ListRepositories", 1) if looks.fetch_add(1, Ordering::SeqCst) < 10 => {
            Say::Fail(Code::Unavailable)
        }
        _ => stock(asked),
    })
    .start();
    assert_proven(&running.server.verify(&expected()).await);
    assert_eq!(running.reloads(), 1);
}

#[tokio::test]
async fn a_hung_reload_is_stuck_and_is_not_asked_for_again_and_again() {
    let released = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&released);
    let mut running = Fake::new(move |asked| {
        let released = switch.load(Ordering::SeqCst);
        match asked.method {
            "ReloadCode" if !released => Say::Never,
            "GetServerId" if !released => Say::Text("id-0".into()),
            _ => stock(asked),
        }
    })
    .start_with(Duration::from_millis(500));
    for _ in 0..4 {
        let verified = running.server.verify(&expected()).await;
        assert_eq!(verified.verdict, Verdict::Unproven);
        assert_eq!(verified.state, CodeServerState::Stuck);
    }
    assert_eq!(running.reloads(), 2);
    let flipped = Expected {
        flip: 2,
        ..expected()
    };
    assert_eq!(
        running.server.verify(&flipped).await.state,
        CodeServerState::Stuck
    );
    assert_eq!(running.reloads(), 2);

    // What answers now may have begun before the second flip: it must be reloaded once more.
    released.store(true, Ordering::SeqCst);
    running.server.config.verify_timeout = Duration::from_secs(20);
    assert_proven(&running.server.verify(&flipped).await);
    assert_eq!(running.reloads(), 3);
}

#[tokio::test]
async fn two_servers_on_one_address_are_unproven_and_named() {
    let mut running = Fake::new(|asked| match asked.method {
        "GetServerId" if asked.connection % 2 == 1 => Say::Text("the other".into()),
        _ => stock(asked),
    })
    .start();
    let verified = running.server.verify(&expected()).await;
    assert_eq!(verified.verdict, Verdict::Unproven);
    assert_eq!(verified.server_id, None);
    assert!(verified.advice.unwrap().as_str().contains("two servers"));
}

#[tokio::test]
async fn a_server_that_only_says_it_is_healthy_is_never_good() {
    let mut running = Fake::new(|asked| match asked.method {
        "Ping" => Say::Text(String::new()),
        _ => Say::Fail(Code::Unimplemented),
    })
    .start();
    let verified = running.server.verify(&expected()).await;
    assert_eq!(
        (verified.verdict, verified.evidence),
        (Verdict::Unproven, None)
    );
}

#[tokio::test]
async fn where_nobody_listens_it_ends_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap().to_string());
    drop(listener);
    let dir = tempfile::tempdir().unwrap();
    for address in [address, Address::Unix(dir.path().join("nobody"))] {
        // The test would time out if it waited.
        let mut server = code_server(address, Duration::from_secs(3_600));
        let verified = server.verify(&expected()).await;
        assert_eq!(verified.verdict, Verdict::Unproven);
        assert_eq!(verified.server_id, None);
    }
}

#[tokio::test]
async fn a_server_that_never_answers_ends_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap().to_string());
    let mut server = code_server(address, Duration::from_millis(300));
    let begun = Instant::now();
    let verified = server.verify(&expected()).await;
    assert_eq!(verified.verdict, Verdict::Unproven);
    assert!(begun.elapsed() < CALL_TIMEOUT, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn what_speaks_another_protocol_is_unproven() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap().to_string());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer)
                .await
                .unwrap();
        }
    });
    let mut server = code_server(address, Duration::from_millis(300));
    assert_eq!(server.verify(&expected()).await.verdict, Verdict::Unproven);
}
