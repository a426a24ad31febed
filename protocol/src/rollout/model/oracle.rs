//! What holds at every moment. The oracle goes by its own books, and by what the agents truly hold
//! and run. Of the machine it takes only what that made durable: who is a member, and of which wave.

use super::super::{Command, Outcome, Output, RequireOnline, Rollout, Step};
use super::agent::Agent;
use super::world::World;
use crate::id::ReleaseId;
use crate::limits::STEP_TIMEOUT;
use crate::name::NodeName;

impl World {
    /// Checks what the machine asks for, before it is carried out.
    pub(super) fn check(&mut self, output: &Output) {
        let now = self.now;
        self.books.pass(now);
        self.queue.check(output);
        match output {
            Output::Save(next) => self.check_save(next),
            Output::Ask { node, command } => self.check_ask(node, *command),
            Output::Started(_) => self.check_everyone_is_there(),
            Output::Ended(outcome) => self.check_ended(outcome),
            Output::HeldBack(_) | Output::Quarantined { .. } | Output::LiveMoved(_) => {}
        }
    }

    /// A release that was taken back is active nowhere, but where there is no way back, and where a node
    /// has left or stays.
    fn check_ended(&mut self, outcome: &Outcome) {
        let release = outcome.release;
        let on_it = |agent: &&Agent| {
            let heard = self.books.heard.get(&agent.name);
            let heard = heard.filter(|heard| heard.online && heard.held_on.is_none());
            heard.is_some_and(|heard| heard.runs == Some(release))
        };
        let back = outcome.broken_on.is_some();
        let nobody = !self.agents.iter().any(|agent| on_it(&agent));
        assert_eq!(outcome.returned, back && nobody, "was it taken back?");
        let stopped = self.books.stopped.contains(&release);
        for agent in self
            .agents
            .iter()
            .filter(on_it)
            .filter(|_| back && !stopped)
        {
            let heard = &self.books.heard[&agent.name];
            let mut lived = self.saved.lived.iter().map(|lived| lived.release);
            let nowhere = !lived.any(|to| {
                let alone = self.saved.broken.get(&to);
                let broken = alone.is_some_and(|nodes| nodes.contains(&agent.name));
                heard.holds.contains(&to) && !broken
            });
            let may_stay = self.books.may_have_left(&agent.name, release) || nowhere;
            assert!(may_stay, "{} was not taken back", agent.name);
        }
        if !outcome.live && outcome.wave > 1 {
            self.saw("broken in a later wave");
        }
        if !outcome.live && outcome.wave < outcome.waves {
            self.saw("broken with waves to come");
        }
    }

    pub(super) fn check_everyone_is_there(&mut self) {
        if self.policy.require_online == RequireOnline::All {
            let needed = |agent: &&Agent| agent.enrolled && !self.is_held(&agent.name);
            for agent in self.agents.iter().filter(needed) {
                let there = self.books.heard.get(&agent.name).is_some_and(|h| h.online);
                assert!(there, "a step without {}", agent.name);
            }
            self.saw("waits for an absent one");
        }
    }

    /// It did, whatever has become of that since: a source can only know what was said.
    pub(super) fn has_staged(&self, node: &NodeName, release: ReleaseId) -> bool {
        let mut agents = self.agents.iter();
        agents.any(|agent| agent.name == *node && agent.staged.contains(&release))
    }

    /// A person holds the node, as far as the source could know.
    pub(super) fn is_held(&self, node: &NodeName) -> bool {
        let heard = self.books.heard.get(node);
        heard.is_some_and(|heard| heard.held_on.is_some())
    }

    /// No rollout stands still for longer than a step and a verdict may take, whatever a node keeps to
    /// itself; unless one is away that it must wait for.
    pub(super) fn check_it_moves(&self) {
        let all = self.policy.require_online == RequireOnline::All;
        let is_away = |agent: &Agent| {
            let heard = self.books.heard.get(&agent.name);
            heard.is_none_or(|heard| !heard.online && heard.held_on.is_none())
        };
        let goes_back = |rollout: &Rollout| matches!(rollout.step, Step::Return { .. });
        let may_wait = all && self.agents.iter().filter(|a| a.enrolled).any(is_away);
        let runs = self.saved.rollout.as_ref();
        if let Some(rollout) = runs.filter(|rollout| !may_wait || goes_back(rollout))
            && let Some(at) = self.books.moved_at
            && self.machine.is_some()
        {
            let patience = STEP_TIMEOUT + self.policy.verify_timeout;
            assert!(self.now <= at + patience, "it stands still: {rollout:?}");
        }
    }

    fn check_ask(&mut self, node: &NodeName, command: Command) {
        let quarantined = |release| self.saved.quarantined.iter().any(|q| q.release == release);
        let release = match command {
            Command::Activate(release) | Command::Return(release) | Command::Push(release) => {
                assert!(!quarantined(release), "{node}: {command:?} is quarantined");
                release
            }
            Command::Cancel(_) => return,
        };
        let moves = matches!(command, Command::Activate(_) | Command::Return(_));
        assert!(
            !moves || !self.is_held(node),
            "{node} is held, and told to move"
        );
        if moves && self.restore.pending && (self.restore.by_the_book || self.saved.restored) {
            self.check_not_back(node, release);
        }
        match command {
            Command::Activate(_) => {
                self.check_activate(node, release);
                self.books.touched.insert((release, node.clone()));
            }
            Command::Return(_) => self.check_return(node, release),
            Command::Push(_) | Command::Cancel(_) => {}
        }
        // Asked again after a failure it has no more time than before.
        let heard = self.books.heard.entry(node.clone()).or_default();
        let since = heard.busy_since.filter(|(asked, _)| *asked == command);
        heard.busy_since = since.or(Some((command, self.now)));
    }

    /// Only what is live, or what every member has staged and in its own wave.
    fn check_activate(&mut self, node: &NodeName, release: ReleaseId) {
        let live = self.saved.lived.last().map(|l| l.release);
        let Some(rollout) = self
            .saved
            .rollout
            .as_ref()
            .filter(|r| r.target.release == release)
        else {
            assert_eq!(live, Some(release), "{node} activates out of turn");
            return;
        };
        let (Some(wave), Step::Activate { wave: current }) = (
            self.books.waves.iter().position(|w| w.contains(node)),
            &rollout.step,
        ) else {
            assert_eq!(live, Some(release), "{node} activates out of turn");
            return;
        };
        assert!(wave <= *current, "{node} activates before its wave");
        for member in self.books.waves.iter().flatten() {
            assert!(self.has_staged(member, release), "{member} has not staged");
        }
        self.books.asked.insert(node.clone());
    }

    /// Who was never asked to activate is not touched when others go back; nor, where the policy is
    /// to stop, is who found it good.
    fn check_return(&self, node: &NodeName, to: ReleaseId) {
        let verdict = (to, node.clone());
        assert!(
            !self.books.verdicts.contains(&verdict),
            "{node} is to return to what it found broken"
        );
        let agent = self.agents.iter().find(|agent| agent.name == *node);
        let active = agent.and_then(|agent| agent.active);
        let quarantined = |release| self.saved.quarantined.iter().any(|q| q.release == release);
        let alone = |release| {
            let nodes = self.saved.broken.get(&release);
            nodes.is_some_and(|nodes| nodes.contains(node))
        };
        let broken = |release| quarantined(release) || alone(release);
        let mut told = self.books.touched.iter().filter(|(_, n)| n == node);
        let touched = active.is_some_and(broken) || told.any(|(release, _)| broken(*release));
        assert!(touched, "{node} is touched, and was not before");
        let back = self.saved.rollout.as_ref().filter(|r| {
            let back = matches!(r.step, Step::Return { .. });
            // Since live has moved there is a better place to be.
            let stays = self.books.stopped.contains(&r.target.release);
            back && stays && !r.waves.is_empty() && Some(r.target.release) == active
        });
        if back.is_some() && self.books.staying.contains(node) {
            let heard = &self.books.heard[node];
            let good = !heard.may_have_left && heard.found_good();
            assert!(!good, "{node} found it good, and is made to return");
        }
    }
}
