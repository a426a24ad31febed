//! The listener over loopback, asked by hand.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::*;

const DEADLINE: Duration = Duration::from_secs(30);

/// A daemon that counts, and is not ready.
#[derive(Clone)]
struct Unready;

impl Pages for Unready {
    async fn metrics(&self) -> Result<String, String> {
        Ok("up 1\n".to_owned())
    }

    async fn health(&self, ready: bool) -> Result<(), String> {
        if ready {
            Err("volume `pipes` was not scanned yet".to_owned())
        } else {
            Ok(())
        }
    }
}

/// A daemon that never answers.
#[derive(Clone)]
struct Stuck;

impl Pages for Stuck {
    async fn metrics(&self) -> Result<String, String> {
        std::future::pending().await
    }

    async fn health(&self, _ready: bool) -> Result<(), String> {
        std::future::pending().await
    }
}

struct Bench {
    address: SocketAddr,
    tasks: TaskTracker,
    stop: CancellationToken,
}

fn serve(pages: impl Pages) -> Bench {
    let listener = MetricsListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let address = listener.address();
    tasks.spawn(listener.serve(tasks.clone(), stop.clone(), pages));
    Bench {
        address,
        tasks,
        stop,
    }
}

impl Bench {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Returns all that is answered to these bytes.
    async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        answer(stream).await
    }

    async fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n"))
            .await
    }
}

/// Reads until the other side closes; a reset is an end as well.
async fn answer(mut stream: TcpStream) -> String {
    let mut said = Vec::new();
    let read = timeout(DEADLINE, stream.read_to_end(&mut said)).await;
    drop(read.expect("it closes in time"));
    String::from_utf8(said).unwrap()
}

#[tokio::test]
async fn each_page_is_served_and_nothing_else_is() {
    let bench = serve(Unready);
    let metrics = bench.get("/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
    assert!(metrics.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert!(metrics.ends_with("\r\n\r\nup 1\n"), "{metrics}");
    assert!(bench.get("/healthz").await.starts_with("HTTP/1.1 200 "));
    let unready = bench.get("/readyz").await;
    assert!(unready.starts_with("HTTP/1.1 503 "), "{unready}");
    assert!(unready.ends_with("volume `pipes` was not scanned yet\n"));
    assert!(bench.get("/metrics?x=1").await.starts_with("HTTP/1.1 200 "));
    for path in ["/", "/metrics/", "//metrics", "/../metrics", "/favicon.ico"] {
        assert!(bench.get(path).await.starts_with("HTTP/1.1 404 "), "{path}");
    }
    let head = bench
        .ask("HEAD /metrics HTTP/1.1\r\nHost: here\r\n\r\n")
        .await;
    assert!(
        head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let request = format!("{method} /metrics HTTP/1.1\r\nHost: here\r\n\r\n");
        let refused = bench.ask(&request).await;
        assert!(refused.starts_with("HTTP/1.1 405 "), "{refused}");
        assert!(refused.contains("allow: GET, HEAD\r\n"), "{refused}");
    }
}

#[tokio::test]
async fn what_is_no_request_is_turned_away() {
    let bench = serve(Unready);
    let long = format!(
        "GET /{} HTTP/1.1\r\n\r\n",
        "x".repeat(2 * REQUEST_BYTES_MAX)
    );
    let many = format!(
        "GET /metrics HTTP/1.1\r\n{}\r\n",
        "a: b\r\n".repeat(HEADERS_MAX + 1)
    );
    for bytes in [
        "\u{1}\u{2}\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &long,
        &many,
    ] {
        let said = bench.ask(bytes).await;
        assert!(!said.contains(" 200 "), "{said}");
    }
    assert!(bench.get("/healthz").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn one_more_than_may_be_is_turned_away_and_finds_a_place_later() {
    let bench = serve(Unready);
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        silent.push(bench.connect().await);
    }
    // Connections are accepted in their order.
    assert_eq!(bench.get("/healthz").await, "");
    drop(silent);
    let served = async {
        while !bench.get("/healthz").await.starts_with("HTTP/1.1 200 ") {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, served)
        .await
        .expect("places are given back");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_says_nothing_loses_its_place() {
    let bench = serve(Unready);
    assert_eq!(answer(bench.connect().await).await, "");
    let mut half = bench.connect().await;
    half.write_all(b"GET /metrics HTTP/1.1\r\nHost:")
        .await
        .unwrap();
    let said = answer(half).await;
    assert!(!said.contains(" 200 "), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_does_not_answer_is_unavailable() {
    let bench = serve(Stuck);
    for path in ["/metrics", "/healthz", "/readyz"] {
        let late = bench.get(path).await;
        assert!(late.starts_with("HTTP/1.1 503 "), "{late}");
    }
}

#[tokio::test]
async fn the_stop_ends_all_that_wait() {
    let bench = serve(Stuck);
    let mut waiting = JoinSet::new();
    for _ in 0..3 {
        let mut stream = bench.connect().await;
        let request = b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n";
        stream.write_all(request).await.unwrap();
        waiting.spawn(answer(stream));
    }
    bench.stop.cancel();
    bench.tasks.close();
    timeout(DEADLINE / 6, bench.tasks.wait()).await.unwrap();
    for said in waiting.join_all().await {
        assert!(!said.contains(" 200 "), "{said}");
    }
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let bench = serve(Unready);
    let taken = MetricsListener::bind(bench.address).unwrap_err();
    let expected = format!("cannot serve metrics on TCP `{}`", bench.address);
    assert_eq!(taken.to_string(), expected);
}
