use proptest::prelude::*;
use tokio::io::{DuplexStream, duplex};
use tokio::time::{sleep, timeout};

use super::*;

const MAX: usize = 1 << 20;

fn pipe(capacity: usize) -> (DuplexStream, FrameReader<DuplexStream>) {
    let (near, far) = duplex(capacity);
    (near, FrameReader::new(far, MAX))
}

fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap();
    [&length.to_le_bytes()[..], body].concat()
}

async fn read_all(bytes: &[u8], bytes_max: usize) -> Result<Vec<Vec<u8>>, FrameError> {
    let mut reader = FrameReader::new(bytes, bytes_max);
    let mut frames = Vec::new();
    while let Some(frame) = reader.read_bytes().await? {
        frames.push(frame);
    }
    Ok(frames)
}

#[tokio::test]
async fn a_stream_that_is_cut_anywhere_but_between_frames_is_truncated() {
    let bytes = [framed(b"first"), framed(b"second")].concat();
    for cut in 0..=bytes.len() {
        let read = read_all(&bytes[..cut], MAX).await;
        match cut {
            0 => assert!(read.unwrap().is_empty()),
            9 => assert_eq!(read.unwrap(), [b"first"]),
            _ if cut == bytes.len() => assert_eq!(read.unwrap().len(), 2),
            _ => assert!(matches!(read, Err(FrameError::Truncated)), "cut at {cut}"),
        }
    }
}

#[tokio::test]
async fn a_length_of_zero_or_over_the_limit_is_a_violation() {
    let empty = read_all(&[0; 4], MAX).await.unwrap_err();
    assert!(matches!(empty, FrameError::Empty));
    assert_eq!(empty.violation(), Some(CloseCode::Violation));
    for length in [6, u32::MAX] {
        let error = read_all(&length.to_le_bytes(), 5).await.unwrap_err();
        assert_eq!(error.violation(), Some(CloseCode::Violation));
        assert!(
            matches!(error, FrameError::TooLong { bytes, bytes_max: 5 } if bytes == length.into()),
            "{error:?}"
        );
    }
    assert_eq!(read_all(&framed(b"fives"), 5).await.unwrap(), [b"fives"]);
}

#[tokio::test(start_paused = true)]
async fn a_promised_length_takes_no_memory_before_its_bytes_arrive() {
    let (mut near, mut reader) = pipe(1 << 10);
    near.write_all(&framed(&vec![0; MAX])[..100]).await.unwrap();
    let waiting = timeout(Duration::from_secs(1), reader.read_bytes()).await;
    assert!(waiting.is_err(), "the frame is not whole");
    assert!(reader.buffer.capacity() <= 2 * GROWTH_BYTES_MIN);
}

#[tokio::test]
async fn a_frame_that_is_no_message_does_not_decode() {
    let mut reader = FrameReader::new(&b"\x02\0\0\0\x01\x02"[..], MAX);
    assert!(matches!(
        reader.read::<u8>().await,
        Err(FrameError::Decode(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_trickles_or_stops_in_a_frame_is_too_slow() {
    // (bytes at a time, seconds between): a byte each ten seconds, a burst and then nothing, and a
    // steady rate below the slowest one.
    for (bytes, pause) in [(1, 10), (MAX / 2, 3_600), (4 << 10, 10)] {
        let (mut near, mut reader) = pipe(MAX);
        let frame = framed(&vec![7; MAX]);
        let begun = Instant::now();
        let trickle = async {
            for part in frame.chunks(bytes) {
                near.write_all(part).await.unwrap();
                sleep(Duration::from_secs(pause)).await;
            }
        };
        let error = tokio::select! {
            // Nothing goes on after either arm.
            () = trickle => panic!("the trickle of {bytes} bytes was read to its end"),
            read = reader.read_bytes() => read.unwrap_err(),
        };
        assert!(matches!(error, FrameError::Slow), "{error:?}");
        assert!(begun.elapsed() <= PROGRESS_TIMEOUT + Duration::from_secs(10));
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_peer_above_the_slowest_rate_is_waited_for_and_so_is_the_next_frame() {
    let (mut near, mut reader) = pipe(MAX);
    let body = vec![7; MAX];
    let frame = framed(&body);
    let write = async {
        for _ in 0..2 {
            for part in frame.chunks(80 << 10) {
                near.write_all(part).await.unwrap();
                sleep(Duration::from_secs(15)).await;
            }
            // Between frames there is no deadline.
            sleep(Duration::from_secs(3_600)).await;
        }
        drop(near);
    };
    let read = async {
        assert_eq!(reader.read_bytes().await.unwrap().as_ref(), Some(&body));
        assert_eq!(reader.read_bytes().await.unwrap().as_ref(), Some(&body));
        assert_eq!(reader.read_bytes().await.unwrap(), None);
    };
    tokio::join!(write, read);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_cancelled_after_every_byte_loses_nothing() {
    let (mut near, mut reader) = pipe(64);
    let mut frames = Vec::new();
    for byte in [framed(b"one"), framed(b"two")].concat() {
        near.write_all(&[byte]).await.unwrap();
        if let Ok(read) = timeout(Duration::ZERO, reader.read_bytes()).await {
            frames.push(read.unwrap().unwrap());
        }
    }
    assert_eq!(frames, [b"one", b"two"]);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_there_already_are_read_however_late_the_reader_comes_back() {
    let (mut near, mut reader) = pipe(64);
    let frame = framed(b"late");
    near.write_all(&frame[..5]).await.unwrap();
    let begun = timeout(Duration::ZERO, reader.read_bytes()).await;
    assert!(begun.is_err(), "the frame is not whole");
    near.write_all(&frame[5..]).await.unwrap();
    sleep(PROGRESS_TIMEOUT * 3).await;
    assert_eq!(
        reader.read_bytes().await.unwrap().as_deref(),
        Some(&b"late"[..])
    );
}

#[tokio::test(start_paused = true)]
async fn a_writer_whose_peer_does_not_read_gives_up_and_writes_no_more() {
    let (near, _far) = duplex(64);
    let mut writer = FrameWriter::new(near, MAX);
    let stalled = writer.write_bytes(&[0; 100]).await;
    assert!(matches!(stalled, Err(FrameError::Slow)), "{stalled:?}");
    let torn = writer.write_bytes(b"next").await;
    assert!(matches!(torn, Err(FrameError::Torn)), "{torn:?}");
    let torn = writer.finish().await;
    assert!(matches!(torn, Err(FrameError::Torn)), "{torn:?}");
}

#[tokio::test]
async fn a_frame_that_the_peer_would_refuse_is_not_written() {
    let mut wire = Vec::new();
    let mut writer = FrameWriter::new(&mut wire, 5);
    let empty = writer.write_bytes(b"").await;
    assert!(matches!(empty, Err(FrameError::Empty)), "{empty:?}");
    let long = writer.write_bytes(b"sixsix").await;
    assert!(matches!(long, Err(FrameError::TooLong { .. })), "{long:?}");
    writer.write_bytes(b"fives").await.unwrap();
    assert_eq!(wire, framed(b"fives"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn frames_read_back_as_they_were_written_whatever_their_sizes_and_the_pipe(
        lengths in prop::collection::vec(1_usize..40_000, 0..8),
        capacity in 1_usize..20_000,
    ) {
        let frames: Vec<Vec<u8>> = (0_u8..)
            .zip(&lengths)
            .map(|(fill, length)| vec![fill; *length])
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let read = runtime.block_on(async {
            let (near, mut reader) = pipe(capacity);
            let mut writer = FrameWriter::new(near, MAX);
            let write = async {
                for frame in &frames {
                    writer.write_bytes(frame).await.unwrap();
                }
                writer.finish().await.unwrap();
            };
            let read = async {
                let mut read = Vec::new();
                while let Some(frame) = reader.read_bytes().await.unwrap() {
                    read.push(frame);
                }
                read
            };
            tokio::join!(write, read).1
        });
        prop_assert!(read == frames);
    }

    #[test]
    fn no_bytes_make_the_reader_panic_or_take_more_than_the_limit(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        if let Ok(frames) = runtime.block_on(read_all(&bytes, 32)) {
            prop_assert!(frames.iter().all(|frame| (1..=32).contains(&frame.len())));
            prop_assert_eq!(frames.iter().map(|frame| framed(frame)).collect::<Vec<_>>().concat(), bytes);
        }
    }
}
