//! The screen of `codevol node ls`.

use codevol_protocol::call::Member;
use codevol_protocol::release::UnixMillis;

use super::ago;
use crate::output::table::{Cell, Table};

/// Returns the screen, its last line not ended.
#[must_use]
pub fn render(members: &[Member], now: UnixMillis) -> String {
    if members.is_empty() {
        return "no node is enrolled; `codevol invite` makes a token for one".to_owned();
    }
    let mut table = Table::new(["NODE", "ROLE", "KEY", "JOINED", "SEEN"]);
    for member in members {
        let seen = match (member.online, member.last_seen_at) {
            (true, _) => "now".to_owned(),
            (false, Some(at)) => ago(at, now),
            (false, None) => "-".to_owned(),
        };
        let cells: [Cell; 5] = [
            member.name.as_str().into(),
            member.role.as_str().into(),
            member.key.short().into(),
            ago(member.joined_at, now).into(),
            seen.into(),
        ];
        table.row(cells);
    }
    table.to_string()
}
