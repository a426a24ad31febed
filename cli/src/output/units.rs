//! Amounts as people read them. JSON carries plain numbers instead.

use std::time::Duration;

/// Returns how long something took: `4 ms`, `1.2s`, `2m 05s`, `3h 10m`.
#[must_use]
pub fn elapsed(duration: Duration) -> String {
    let ms = duration.as_millis();
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{}.{}s", seconds, duration.subsec_millis() / 100),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// Returns how long ago something was: `now`, `40s ago`, `14m ago`, `2h ago`, `3d ago`.
#[must_use]
pub fn ago(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => "now".to_owned(),
        10..60 => format!("{seconds}s ago"),
        60..3_600 => format!("{}m ago", seconds / 60),
        3_600..86_400 => format!("{}h ago", seconds / 3_600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// Returns a size: `412 B`, `2.1 KiB`, `4.0 GiB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = u128::from(bytes) * 10;
    let mut shown = "B";
    for unit in UNITS {
        shown = unit;
        tenths = (tenths + 512) / 1024;
        if tenths < 10_240 {
            break;
        }
    }
    format!("{}.{} {shown}", tenths / 10, tenths % 10)
}

/// Returns a count with its noun: `1 file`, `3 files`.
#[must_use]
pub fn count(number: usize, one: &str, many: &str) -> String {
    let noun = if number == 1 { one } else { many };
    format!("{number} {noun}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short_and_have_a_unit() {
        let shown = [0, 4, 999, 1_000, 1_290, 59_999, 60_000, 125_000, 11_400_000]
            .map(|ms| elapsed(Duration::from_millis(ms)));
        assert_eq!(
            shown.join(", "),
            "0 ms, 4 ms, 999 ms, 1.0s, 1.2s, 59.9s, 1m 00s, 2m 05s, 3h 10m"
        );
    }

    #[test]
    fn times_past_are_told_in_their_largest_unit() {
        let shown = [0, 9, 10, 59, 60, 840, 7_200, 259_200].map(|s| ago(Duration::from_secs(s)));
        assert_eq!(
            shown.join(", "),
            "now, now, 10s ago, 59s ago, 1m ago, 14m ago, 2h ago, 3d ago"
        );
    }

    #[test]
    fn sizes_never_show_1024_of_a_unit() {
        let shown = [
            0,
            412,
            1_023,
            1_024,
            2_150,
            (1 << 20) - 1,
            1 << 20,
            4 << 30,
            u64::MAX,
        ]
        .map(bytes);
        assert_eq!(
            shown.join(", "),
            "0 B, 412 B, 1023 B, 1.0 KiB, 2.1 KiB, 1.0 MiB, 1.0 MiB, 4.0 GiB, 16384.0 PiB"
        );
    }

    #[test]
    fn one_is_singular() {
        assert_eq!(count(1, "entry", "entries"), "1 entry");
        assert_eq!(count(0, "entry", "entries"), "0 entries");
    }
}
