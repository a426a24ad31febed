//! Persons who have an agent stay where they want it.

use super::super::Event;
use super::world::World;
use crate::hold::{AskedAt, Hold};
use crate::id::ReleaseId;
use crate::name::Text;
use crate::release::{Seq, UnixMillis};

impl World {
    pub(super) fn report_hold(&mut self, number: usize) {
        let agent = &self.agents[number];
        let (node, hold) = (agent.name.clone(), agent.hold.clone());
        self.report(number, Event::Held { node, hold });
    }

    /// What an agent says of its hold when it connects: what follows waits for the rest of its greeting.
    pub(super) fn tell_hold(&mut self, event: &Event) {
        let (Event::Held { node, hold }, Some(machine)) = (event, &mut self.machine) else {
            return;
        };
        machine.greets(node, hold.clone());
        self.note(format_args!("greets {event:?}"));
        self.books.moves(self.now);
        self.books.hear(event, self.now);
    }

    /// A person lets an agent go on, perhaps.
    pub(super) fn let_go(&mut self, number: usize) {
        let agent = &self.agents[number];
        if agent.enrolled && agent.link.is_some() && agent.hold.is_some() && self.rng.one_in(2) {
            self.hold_or_let_go(number);
        }
    }

    /// A person has an agent go to one of the releases that it holds and stay there; or lets it go on.
    pub(super) fn hold_or_let_go(&mut self, number: usize) {
        let agent = &self.agents[number];
        let held: Vec<ReleaseId> = agent.held.iter().copied().collect();
        if agent.hold.is_some() {
            self.saw("let go");
            self.agents[number].hold = None;
            self.report_hold(number);
        } else if !held.is_empty() {
            let release = held[self.rng.index(held.len())];
            self.saw("held");
            // A person's word: it may have to leave that release once more.
            self.told_back.retain(|told| *told != (release, number));
            self.left.remove(&(release, number));
            self.restore.moved_by_hand.insert(number);
            if self.running == Some(release) {
                self.saw("held on what is rolled out");
            }
            let agent = &mut self.agents[number];
            agent.hold = Some(Hold {
                release,
                seq: Seq(0),
                why: Text::default(),
                by: Text::default(),
                at: UnixMillis(0),
                asked_at: AskedAt::Node,
            });
            let (node, moves) = (agent.name.clone(), agent.active != Some(release));
            self.report_hold(number);
            if moves {
                self.activate(number, release);
                self.agents[number].put_back = false;
                self.report(number, Event::Activated { node, release });
            }
        }
    }
}
