//! What the machine itself allows, so that the other figures mean something elsewhere.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::net::UdpSocket;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::sample::Sample;

const ROUNDS: usize = 200;
const PAGE: [u8; 4_096] = [7; 4_096];

/// Times making 4 KB of a file durable.
pub(crate) fn fdatasync(dir: &Path) -> Result<Sample> {
    let mut file = File::create(dir.join("floor"))?;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        file.rewind()?;
        file.write_all(&PAGE)?;
        let began = Instant::now();
        file.sync_data().context("cannot sync")?;
        times.push(began.elapsed());
    }
    Ok(Sample::of_durations(times))
}

/// Times what a durable file costs at least: written anew, made durable, named, its name made
/// durable. A release takes several in a row.
pub(crate) fn durable_file(dir: &Path) -> Result<Sample> {
    let (next, name) = (dir.join("floor.new"), dir.join("floor.named"));
    let parent = File::open(dir)?;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let mut file = File::create(&next)?;
        file.write_all(&PAGE)?;
        file.sync_all()?;
        std::fs::rename(&next, &name)?;
        parent.sync_all()?;
        times.push(began.elapsed());
    }
    Ok(Sample::of_durations(times))
}

/// Times making a link name something else, by rename.
pub(crate) fn symlink_flip(dir: &Path) -> Result<Sample> {
    let (next, current) = (dir.join("floor.next"), dir.join("floor.current"));
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let began = Instant::now();
        symlink(round.to_string(), &next)?;
        std::fs::rename(&next, &current)?;
        times.push(began.elapsed());
    }
    Ok(Sample::of_durations(times))
}

/// Times a datagram to another thread and back.
pub(crate) fn udp_round_trip() -> Result<Sample> {
    let (here, there) = (
        UdpSocket::bind("127.0.0.1:0")?,
        UdpSocket::bind("127.0.0.1:0")?,
    );
    here.connect(there.local_addr()?)?;
    there.connect(here.local_addr()?)?;
    for socket in [&here, &there] {
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    }
    let echo = std::thread::spawn(move || -> std::io::Result<()> {
        let mut buffer = [0; 100];
        for _ in 0..ROUNDS {
            let length = there.recv(&mut buffer)?;
            there.send(buffer.get(..length).unwrap_or_default())?;
        }
        Ok(())
    });
    let mut times = Vec::new();
    let mut buffer = [0; 100];
    for _ in 0..ROUNDS {
        let began = Instant::now();
        here.send(&[1; 100])?;
        here.recv(&mut buffer)?;
        times.push(began.elapsed());
    }
    echo.join()
        .map_err(|_panic| anyhow::anyhow!("the echo failed"))??;
    Ok(Sample::of_durations(times))
}
