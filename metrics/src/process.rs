//! What the kernel says of this process. What it does not say is left out.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::exposition::Exposition;
use crate::family::{
    PROCESS_CPU, PROCESS_MAX_FDS, PROCESS_OPEN_FDS, PROCESS_RESIDENT, PROCESS_START,
    PROCESS_VIRTUAL,
};

/// Writes the families of the process.
pub fn write(text: &mut Exposition) {
    text.family(&PROCESS_CPU)
        .value(&[], seconds(ClockId::ProcessCPUTime));
    let stat = fs::read_to_string("/proc/self/stat").ok();
    if let Some(start) = stat.as_deref().and_then(started) {
        text.family(&PROCESS_START).value(&[], start);
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (family, key) in [(PROCESS_RESIDENT, "VmRSS:"), (PROCESS_VIRTUAL, "VmSize:")] {
        if let Some(bytes) = bytes(&status, key) {
            text.family(&family).count(&[], bytes);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is the look itself.
        let open = open.count().saturating_sub(1);
        text.family(&PROCESS_OPEN_FDS).count(&[], open as u64);
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        text.family(&PROCESS_MAX_FDS).count(&[], most);
    }
}

fn seconds(clock: ClockId) -> f64 {
    let now = clock_gettime(clock);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Returns when the process was started: how long ago by the clock that runs since the boot, counted
/// back from the time of day.
fn started(stat: &str) -> Option<f64> {
    let ticks: u64 = start_ticks(stat)?;
    let since_boot = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(now.as_secs_f64() - (seconds(ClockId::Boottime) - since_boot))
}

/// Returns the 22nd field. The second one, the program's name, may hold spaces and brackets.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

/// Returns a size of `/proc/self/status`, which counts in KiB.
fn bytes(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(number << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(start_ticks(stat), Some(4242));
        let status = "Name:\tcodevol\nVmSize:\t   2048 kB\nVmRSS:\t     12 kB\n";
        assert_eq!(bytes(status, "VmRSS:"), Some(12 << 10));
        assert_eq!(bytes(status, "VmSwap:"), None);
    }

    #[test]
    fn this_process_was_started_a_short_while_ago() {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let age = now.as_secs_f64() - started(&stat).unwrap();
        assert!((-1.0..3_600.0).contains(&age), "{age}");
    }

    #[test]
    fn all_that_is_asked_of_the_kernel_is_there() {
        let mut text = Exposition::default();
        write(&mut text);
        let text = text.finish();
        for family in [
            PROCESS_CPU,
            PROCESS_START,
            PROCESS_RESIDENT,
            PROCESS_VIRTUAL,
        ] {
            assert!(text.contains(&format!("\n{} ", family.name)), "{text}");
        }
    }
}
