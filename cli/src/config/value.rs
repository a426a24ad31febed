//! Values as they are written: durations with a unit, addresses, one word of a few.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use codevol_agent::config::Address;
use codevol_protocol::path::{InvalidRelPath, RelPath};

/// The text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration: write a whole number and ms, s, m, h or d, as `20ms` or `15m`")]
pub struct InvalidDuration(String);

/// Parses a duration: a whole number and its unit, as `20ms`, `2s`, `15m`, `1h` or `30d`.
///
/// # Errors
/// The number or the unit is missing, unknown or too large.
pub fn duration(text: &str) -> Result<Duration, InvalidDuration> {
    let invalid = || InvalidDuration(text.to_owned());
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(invalid()),
    };
    let number: u64 = number.parse().ok().ok_or_else(invalid)?;
    number
        .checked_mul(unit_ms)
        .map(Duration::from_millis)
        .ok_or_else(invalid)
}

/// Returns a duration as it is written: in seconds where they are whole.
#[must_use]
pub fn duration_text(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_millis())
    }
}

/// Returns a number as it is written.
pub(super) fn count(number: usize) -> toml::Value {
    toml::Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

pub(super) fn duration_within(
    text: &str,
    bounds: &RangeInclusive<Duration>,
) -> Result<Duration, String> {
    let parsed = duration(text).map_err(|error| error.to_string())?;
    if bounds.contains(&parsed) {
        return Ok(parsed);
    }
    Err(format!(
        "`{text}` is not between {} and {}",
        duration_text(*bounds.start()),
        duration_text(*bounds.end())
    ))
}

/// Checks `host:port`: a name, an IPv4 address, or an IPv6 address in brackets.
///
/// # Errors
/// There is no host or no port, in words.
pub fn host_port(text: &str) -> Result<String, String> {
    let invalid = || format!("`{text}` is not `host:port`, as `src01:7443` or `[::1]:7443`");
    let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
    let bare = match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
        Some(Some(bracketed)) => bracketed.parse::<std::net::Ipv6Addr>().is_ok(),
        Some(None) => false,
        None => {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            !host.is_empty() && host.bytes().all(allowed)
        }
    };
    let port_known =
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0);
    if bare && port_known {
        Ok(text.to_owned())
    } else {
        Err(invalid())
    }
}

/// Parses where a code server answers: `host:port` or `unix:/path`.
pub(super) fn address(text: &str) -> Result<Address, String> {
    match text.strip_prefix("unix:") {
        Some(path) if Path::new(path).is_absolute() && !path.contains(char::is_control) => {
            Ok(Address::Unix(PathBuf::from(path)))
        }
        Some(_) => Err(format!("`{text}` is not `unix:` and an absolute path")),
        None => host_port(text).ok().map(Address::Tcp).ok_or_else(|| {
            format!("`{text}` is neither `host:port`, as `127.0.0.1:4000`, nor `unix:/path`")
        }),
    }
}

/// Parses one word of a few.
pub(super) fn one_of<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        let similar = nearest(text, words.iter().map(|(word, _)| *word));
        let end = similar.map_or_else(String::new, |word| format!("; did you mean `{word}`?"));
        format!("`{text}` is not one of {}{end}", known.join(", "))
    })
}

/// Returns the word that was probably meant.
pub(super) fn nearest<'a>(text: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let away = |word: &str| strsim::damerau_levenshtein(text, word);
    let near = words.into_iter().map(|word| (away(word), word));
    near.filter(|(distance, word)| *distance <= (word.len() / 3).max(1))
        .min()
        .map(|(_, word)| word)
}

/// Parses a path of the tree: relative, without `..`.
pub(super) fn tree_path(text: &str) -> Result<RelPath, String> {
    text.parse()
        .map_err(|error: InvalidRelPath| format!("`{text}` is no path of a tree: {error}"))
}

/// Makes a path absolute: relative to the folder, else to the working folder.
pub(super) fn path(text: &str, folder: Option<&PathBuf>) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("the path is empty".to_owned());
    }
    if text.contains(char::is_control) {
        return Err(format!("`{text}` has a control character"));
    }
    if text == "~" || text.starts_with("~/") {
        return Err(format!(
            "`{text}`: `~` is not expanded here, write the whole path"
        ));
    }
    let path = folder.map_or_else(|| PathBuf::from(text), |folder| folder.join(text));
    std::path::absolute(&path).map_err(|error| format!("`{text}` cannot be made absolute: {error}"))
}
