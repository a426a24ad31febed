//! How releases go through the fleet: the keys of `[volume.rollout]`, read and written.

use codevol_protocol::limits::NODES_MAX;
use codevol_protocol::rollout::{Canary, OnBroken, Policy, RequireOnline, Wave};
use toml::Value;

use crate::config::read::{VERIFY, duration};
use crate::config::reader::Reader;
use crate::config::section::Section;
use crate::config::value;

const ON_BROKEN: [(&str, OnBroken); 2] = [("return", OnBroken::Return), ("stop", OnBroken::Stop)];
const REQUIRE_ONLINE: [(&str, RequireOnline); 2] =
    [("any", RequireOnline::Any), ("all", RequireOnline::All)];

pub(super) fn policy<'a>(reader: &mut Reader<'a>, section: &mut Section<'a>) -> Option<Policy> {
    let default = Policy::default();
    let canary = reader.text_or_number(section, "canary", "auto", canary);
    let wave = reader.text_or_number(section, "wave", "all", wave);
    let on_broken = reader.text(section, "on_broken", Some("return"), |text| {
        value::one_of(text, &ON_BROKEN)
    });
    let require_online = reader.text(section, "require_online", Some("any"), |text| {
        value::one_of(text, &REQUIRE_ONLINE)
    });
    let bounds = (default.verify_timeout, VERIFY);
    let verify_timeout = duration(reader, section, "verify_timeout", bounds);
    Some(Policy {
        canary: canary?,
        wave: wave?,
        on_broken: on_broken?,
        require_online: require_online?,
        verify_timeout: verify_timeout?,
    })
}

fn canary(text: &str) -> Result<Canary, String> {
    if text == "auto" {
        return Ok(Canary::Auto);
    }
    let nodes = text.parse().ok().filter(|nodes| *nodes <= NODES_MAX);
    let nodes = nodes.map(Canary::Nodes);
    nodes.ok_or_else(|| {
        format!("`{text}` is neither `auto` nor a whole number from 0 to {NODES_MAX}")
    })
}

fn wave(text: &str) -> Result<Wave, String> {
    if text == "all" {
        return Ok(Wave::All);
    }
    let wave = match text.strip_suffix('%') {
        Some(digits) => {
            let percent = digits.parse().ok();
            percent.filter(|p| (1..=100).contains(p)).map(Wave::Percent)
        }
        None => {
            let nodes = text.parse().ok();
            nodes
                .filter(|n| (1..=NODES_MAX).contains(n))
                .map(Wave::Nodes)
        }
    };
    wave.ok_or_else(|| {
        format!("`{text}` is neither `all`, nor a whole number from 1 to {NODES_MAX}, nor `1%` to `100%`")
    })
}

/// Returns how the size of the first wave is written.
pub(super) fn canary_value(canary: Canary) -> Value {
    match canary {
        Canary::Auto => "auto".into(),
        Canary::Nodes(nodes) => value::count(nodes),
    }
}

/// Returns how the size of the later waves is written.
pub(super) fn wave_value(wave: Wave) -> Value {
    match wave {
        Wave::All => "all".into(),
        Wave::Nodes(nodes) => value::count(nodes),
        Wave::Percent(percent) => format!("{percent}%").into(),
    }
}

pub(super) const fn on_broken_text(on_broken: OnBroken) -> &'static str {
    match on_broken {
        OnBroken::Return => "return",
        OnBroken::Stop => "stop",
    }
}

pub(super) const fn require_online_text(require_online: RequireOnline) -> &'static str {
    match require_online {
        RequireOnline::Any => "any",
        RequireOnline::All => "all",
    }
}
