use codevol_protocol::evidence::{CodeServerKind, CodeServerState};
use codevol_protocol::hold::WentBack;
use codevol_protocol::message::{CodeServerReport, Failure};
use insta::assert_snapshot;

use super::*;
use crate::screens::sample::{HOSTILE, plain, text};

fn verification(verdict: Verdict, evidence: Evidence) -> Verification {
    let failure = (verdict != Verdict::Good).then(|| Failure {
        location: Some(text("assets/orders.py:17")),
        hint: Some(text("mend it")),
        ..Failure::new("broken", "NameError: name 'x' is not defined")
    });
    Verification {
        verdict,
        evidence,
        code_servers: vec![CodeServerReport {
            address: text("127.0.0.1:4000"),
            kind: CodeServerKind::CodeServer,
            state: CodeServerState::Good,
            server_id: None,
            load_ms: None,
        }],
        failure,
        elapsed_ms: 1_200,
    }
}

fn back(found: Option<Verification>) -> NodeWentBack {
    NodeWentBack {
        volume: "pipes".parse().unwrap(),
        node: "dag-01".parse().unwrap(),
        went: WentBack {
            from: Some(Seq(42)),
            to: Seq(41),
            active: Some(Seq(41)),
            found,
            returned: None,
        },
    }
}

#[test]
fn where_it_is_and_how_it_goes_on_are_said() {
    let proven = back(Some(verification(Verdict::Good, Evidence::Proven)));
    let unproven = back(Some(verification(Verdict::Unproven, Evidence::Activated)));
    let mut stayed = proven.clone();
    stayed.went.from = Some(Seq(41));
    let said = [
        went(&proven, false),
        went(&unproven, true),
        went(&stayed, true),
        went(&back(None), false),
    ];
    assert_snapshot!(said.join("\n\n"), @"
    dag-01 is on r41 (was on r42), proven in 1.2s
    It is held there: rollouts leave it out until `codevol thaw --node dag-01`

    dag-01 is on r41 (was on r42), unproven in 1.2s: NameError: name 'x' is not defined
    It is held there: rollouts leave it out until `codevol thaw`

    dag-01 is on r41 (where it was), proven in 1.2s
    It is held there: rollouts leave it out until `codevol thaw`

    dag-01 is on r41 (was on r42), what its code servers make of it was not waited for
    It is held there: rollouts leave it out until `codevol thaw --node dag-01`
    ");
    let exits = [&proven, &unproven, &back(None)].map(|back| Whereabouts::of(back).exit().code());
    assert_eq!(exits, [0, 3, 0]);
}

#[test]
fn one_that_is_broken_there_says_so_and_where_the_node_is_now() {
    let mut broken_there = back(Some(verification(Verdict::Broken, Evidence::Activated)));
    let stays = plain(&broken(&broken_there, false).unwrap().render());
    broken_there.went.active = Some(Seq(42));
    broken_there.went.returned = Some(verification(Verdict::Good, Evidence::Proven));
    let returned = plain(&broken(&broken_there, false).unwrap().render());
    assert_snapshot!(format!("{stays}\n{returned}"), @"
    error: r41 is broken on dag-01; it stays there: there is nothing better to go back to
      assets/orders.py:17
        NameError: name 'x' is not defined

    hint: mend it

    error: r41 is broken on dag-01; dag-01 is back on r42 (proven), and not held
      assets/orders.py:17
        NameError: name 'x' is not defined

    hint: mend it
    ");
    assert_eq!(Whereabouts::of(&broken_there).exit().code(), 1);
    assert!(!Whereabouts::of(&broken_there).is_held());
}

#[test]
fn what_a_server_says_draws_nothing() {
    let mut found = verification(Verdict::Unproven, Evidence::Activated);
    found.failure = Some(Failure::new("unproven", HOSTILE));
    let said = went(&back(Some(found)), false);
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(!said.contains('\u{1b}'), "{said:?}");
}
