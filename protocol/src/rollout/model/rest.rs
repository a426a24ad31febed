//! What holds when the faults have stopped and nothing moves any more: everyone is where they are
//! to be, and no broken release is active where there is a better one.

use super::super::{Lived, Machine, Standing};
use super::agent::{Agent, truth};
use super::world::World;

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
        for number in 0..self.agents.len() {
            if !self.agents[number].enrolled {
                let name = &self.agents[number].name;
                let nodes = &self.machine.as_ref().expect("the source runs").nodes;
                assert!(!nodes.contains_key(name), "{name} is no member");
            } else if let Some(what) = self.check_agent_at_rest(number) {
                self.saw(what);
            }
        }
    }

    /// Returns what is to be said of it.
    fn check_agent_at_rest(&self, number: usize) -> Option<&'static str> {
        let machine = self.machine.as_ref().expect("the source runs");
        let agent = &self.agents[number];
        let (name, active) = (&agent.name, agent.active);
        let known = &machine.nodes[name];
        assert_eq!(known.active, active, "{name} is elsewhere than thought");
        let found = (known.standing, agent.standing);
        assert_eq!(found.0, found.1, "{name} stands otherwise than thought");
        if is_held_as_known(agent, machine) {
            return Some("held at rest");
        }
        let stays = active.is_some_and(|active| machine.stays_on(name, active));
        let broken = |release| machine.is_broken_on(name, release);
        let quarantined = active.is_some_and(|active| machine.is_quarantined(active));
        let better = |lived: &Lived| agent.held.contains(&lived.release) && !broken(lived.release);
        let nowhere = !machine.saved().lived.iter().any(better);
        if quarantined && !stays {
            assert!(nowhere, "{name} stays on a quarantined one");
        }
        if agent.standing == Standing::Broken && machine.live().is_some() {
            let found = quarantined || active.is_some_and(broken);
            assert!(found, "{name} found it broken, and nothing came of it");
        }
        if stays {
            let stopped = active.is_some_and(|active| self.books.stopped.contains(&active));
            assert!(stopped, "{name} stays where no rollout stopped since");
            let standing = active.map(|active| truth(number, agent, active));
            assert_ne!(standing, Some(Standing::Broken), "{name} stays on it");
            Some("stays after a stop")
        } else if machine.live().is_some_and(broken) {
            let stuck = active == machine.live() && !known.returned;
            assert!(!stuck || nowhere, "{name} stays on a broken one");
            Some("failed alone")
        } else if machine.live().is_some() {
            assert_eq!(active, machine.live(), "{name} is not on live");
            None
        } else {
            quarantined.then_some("failed and stays")
        }
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
