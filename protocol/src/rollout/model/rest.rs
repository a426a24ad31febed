//! What holds when the faults have stopped and nothing moves any more: everyone is where they are
//! to be, and no broken release is active where there is a better one.

use super::super::{Lived, Machine, Standing};
use super::agent::{Agent, truth};
use super::world::World;
use crate::id::ReleaseId;

impl World {
    pub(super) fn check_rest(&mut self) {
        let machine = self.machine.as_ref().expect("the source runs");
        let saved = machine.saved();
        assert_eq!(saved, &self.saved, "unsaved at rest");
        assert_eq!(self.live_told, machine.live(), "untold at rest");
        assert_eq!(saved.rollout, None, "a rollout that never ends");
        assert_eq!(machine.view().waits_for, [], "it waits for nobody");
        let frozen = saved.frozen.is_some();
        assert!(
            saved.waiting.iter().all(|w| frozen && !w.wanted),
            "forgotten"
        );
        assert_eq!(machine.poll_timeout(), None, "it never comes to rest");
        let quarantined =
            |release: ReleaseId| saved.quarantined.iter().any(|q| q.release == release);
        let mut seen = Vec::new();
        for (number, agent) in self.agents.iter().enumerate() {
            let name = &agent.name;
            let known = &machine.nodes[name];
            assert_eq!(
                known.active, agent.active,
                "{name} is elsewhere than thought"
            );
            let active = agent.active;
            if is_held_as_known(agent, machine) {
                seen.push("held at rest");
                continue;
            }
            let stays = active.is_some_and(|active| machine.stays_on(name, active));
            let broken = |release| machine.is_broken_on(name, release);
            let better =
                |lived: &Lived| agent.held.contains(&lived.release) && !broken(lived.release);
            let on_quarantined = active.is_some_and(quarantined);
            if on_quarantined && !stays {
                let nowhere = !saved.lived.iter().any(better);
                assert!(nowhere, "{name} stays on a quarantined one");
            }
            if stays {
                seen.push("stays after a stop");
                let stopped = active.is_some_and(|active| self.books.stopped.contains(&active));
                assert!(
                    stopped,
                    "{name} stays where no rollout stopped since live moved"
                );
                let standing = active.map(|active| truth(number, agent, active));
                assert_ne!(
                    standing,
                    Some(Standing::Broken),
                    "{name} stays on a broken one"
                );
            } else if machine.live().is_some_and(broken) {
                let stuck = active == machine.live() && !known.returned;
                let nowhere = !saved.lived.iter().any(better);
                assert!(!stuck || nowhere, "{name} stays on a broken one");
                seen.push("failed alone");
            } else if let Some(live) = machine.live() {
                assert_eq!(active, Some(live), "{name} is not on live");
            } else if on_quarantined {
                seen.push("failed and stays");
            }
        }
        seen.into_iter().for_each(|what| self.saw(what));
    }
}

/// Whether a person holds the agent, which the source then knows; it has staged what is live.
fn is_held_as_known(agent: &Agent, machine: &Machine) -> bool {
    let (name, known) = (&agent.name, machine.saved().holds.get(&agent.name));
    assert_eq!(known, agent.hold.as_ref(), "{name}: is it held?");
    let staged = machine.live().is_none_or(|live| agent.held.contains(&live));
    assert!(known.is_none() || staged, "{name} lacks what is live");
    known.is_some()
}
