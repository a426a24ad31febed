//! What holds at every moment. The oracle goes by its own books, and by what the agents truly hold
//! and run. Of the machine it takes only what that made durable: who is a member, and of which wave.

use std::collections::BTreeSet;

use super::super::{
    Canary, Command, OnBroken, Output, RequireOnline, Rollout, Saved, Standing, Step, Wave,
};
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
        match output {
            Output::Save(next) => self.check_save(next),
            Output::Ask { node, command } => self.check_ask(node, *command),
            Output::Started(_) => self.check_everyone_is_there(),
            Output::Ended(outcome) => {
                if !outcome.live && outcome.wave > 1 {
                    self.saw("broken in a later wave");
                }
                if !outcome.live && outcome.wave < outcome.waves {
                    self.saw("broken with waves to come");
                }
            }
            Output::HeldBack(_) | Output::Quarantined { .. } | Output::LiveMoved(_) => {}
        }
    }

    fn check_everyone_is_there(&mut self) {
        if self.policy.require_online == RequireOnline::All {
            let needed = |agent: &&Agent| !self.is_held(&agent.name);
            for agent in self.agents.iter().filter(needed) {
                let there = self.books.heard.get(&agent.name).is_some_and(|h| h.online);
                assert!(there, "a step without {}", agent.name);
            }
            self.saw("waits for an absent one");
        }
    }

    fn has_staged(&self, node: &NodeName, release: ReleaseId) -> bool {
        let mut agents = self.agents.iter();
        agents.any(|agent| agent.name == *node && agent.held.contains(&release))
    }

    /// A person holds the node, as far as the source could know.
    fn is_held(&self, node: &NodeName) -> bool {
        let heard = self.books.heard.get(node);
        heard.is_some_and(|heard| heard.held_on.is_some())
    }

    /// All members stage before the first activates, waves are what the policy says, and none
    /// begins before the one before it has ended.
    fn check_save(&mut self, next: &Saved) {
        for lived in &next.lived {
            let known = next.quarantined.iter().any(|q| q.release == lived.release);
            assert!(!known, "a quarantined release in the line of live ones");
        }
        self.check_live(next);
        if next.rollout != self.saved.rollout {
            self.books.moves(self.now);
        }
        self.check_stop(next);
        let Some(rollout) = &next.rollout else { return };
        let release = rollout.target.release;
        let before = self.saved.rollout.as_ref();
        let before = before.filter(|before| before.target.release == release);
        let before = before.map(|before| before.step.clone());
        let goes_on = matches!(before, Some(Step::Stage | Step::Activate { .. }));
        if !goes_on && !matches!(rollout.step, Step::Return { .. }) {
            self.books.begin(release);
        }
        let Step::Activate { wave } = rollout.step else {
            if matches!(before, Some(Step::Activate { .. })) {
                self.books.on_broken = Some(self.policy.on_broken);
            }
            return;
        };
        if before.as_ref() == Some(&rollout.step) {
            return;
        }
        self.check_everyone_is_there();
        if wave == 0 {
            let planned: BTreeSet<&NodeName> = rollout.waves.iter().flatten().collect();
            for node in self.books.certain() {
                assert!(planned.contains(node), "{node} was left out");
            }
            for node in planned {
                assert!(!self.is_held(node), "{node} is held, and made a member");
                let holds = self.has_staged(node, release);
                assert!(holds, "{node} has not staged when others activate");
            }
            self.check_plan(&rollout.waves);
            self.books.activate(&rollout.waves);
        }
        self.check_waves_before(wave, rollout.waves.as_slice());
    }

    /// Notes where a rollout was to stop. Once live has moved there is a better place to be.
    fn check_stop(&mut self, next: &Saved) {
        let live = |saved: &Saved| saved.lived.last().map(|lived| lived.release);
        if live(next) != live(&self.saved) {
            self.books.stopped.clear();
        }
        let activating = self.saved.rollout.as_ref().filter(|rollout| {
            let found = next.quarantined.iter().map(|q| q.release);
            matches!(rollout.step, Step::Activate { .. })
                && found.clone().any(|found| found == rollout.target.release)
        });
        if self.policy.on_broken == OnBroken::Stop {
            let stopped = activating.map(|rollout| rollout.target.release);
            self.books.stopped.extend(stopped);
        }
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
        let may_wait = all && self.agents.iter().any(is_away);
        let runs = self.saved.rollout.as_ref();
        if let Some(rollout) = runs.filter(|rollout| !may_wait || goes_back(rollout))
            && let Some(at) = self.books.moved_at
            && self.machine.is_some()
        {
            let patience = STEP_TIMEOUT + self.policy.verify_timeout;
            assert!(self.now <= at + patience, "it stands still: {rollout:?}");
        }
    }

    fn check_waves_before(&self, wave: usize, left: &[BTreeSet<NodeName>]) {
        for (number, earlier) in self.books.waves.iter().enumerate().take(wave) {
            for node in earlier {
                let gone = left.get(number).is_none_or(|wave| !wave.contains(node));
                let may_go = self.books.heard.get(node).is_none_or(|h| h.may_have_left);
                let ended = self.books.has_ended(node, &self.policy, self.now);
                assert!(
                    ended || (gone && may_go),
                    "{node} is not done with its wave"
                );
            }
        }
    }

    fn check_plan(&mut self, waves: &[BTreeSet<NodeName>]) {
        let members: usize = waves.iter().map(BTreeSet::len).sum();
        let bare = |node: &NodeName| self.agents.iter().any(|a| a.bare && a.name == *node);
        let all_bare = waves.iter().flatten().all(bare);
        let sizes: Vec<usize> = waves.iter().map(BTreeSet::len).collect();
        let canary = match self.policy.canary {
            Canary::Nodes(nodes) => nodes.min(members),
            // Of a bare node that has not said so, a server must be expected.
            Canary::Auto if all_bare => usize::from(sizes.first() == Some(&1)),
            Canary::Auto => members.min(1),
        };
        let size = match self.policy.wave {
            Wave::All => members.max(1),
            Wave::Nodes(nodes) => nodes,
            Wave::Percent(percent) => (members * usize::from(percent)).div_ceil(100).max(1),
        };
        let mut expected = Vec::from_iter((canary > 0).then_some(canary));
        let mut left = members - canary;
        while left > 0 {
            expected.push(left.min(size));
            left -= left.min(size);
        }
        assert_eq!(
            sizes, expected,
            "waves of another size than {:?}",
            self.policy
        );
        match (sizes.len(), canary) {
            (1, _) => self.saw("one wave"),
            (3.., _) => self.saw("more than two waves"),
            _ => {}
        }
        if self.policy.canary == Canary::Auto && members > 1 {
            self.saw(if canary == 1 {
                "a canary of one"
            } else {
                "no canary without code servers"
            });
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
        let alone = self.saved.broken.values().any(|nodes| nodes.contains(node));
        let mut told = self.books.touched.iter().filter(|(_, n)| n == node);
        let touched = alone
            || active.is_some_and(quarantined)
            || told.any(|(release, _)| quarantined(*release));
        assert!(touched, "{node} is touched, and was not before");
        let back = self.saved.rollout.as_ref().filter(|r| {
            let back = matches!(r.step, Step::Return { .. });
            // Since live has moved there is a better place to be.
            let stays = self.books.stopped.contains(&r.target.release);
            back && stays && !r.waves.is_empty() && Some(r.target.release) == active
        });
        if back.is_some() && self.books.on_broken == Some(OnBroken::Stop) {
            let heard = self.books.heard.get(node);
            let good = heard.is_some_and(|heard| {
                !heard.may_have_left
                    && matches!(heard.verdict, Some(Standing::Proven | Standing::Good))
            });
            assert!(!good, "{node} found it good, and is made to return");
        }
    }

    /// Live moves forward only when no member found it broken, and each has ended or left.
    fn check_live(&mut self, next: &Saved) {
        let live = |saved: &Saved| saved.lived.last().map(|lived| lived.release);
        let Some(release) = live(next).filter(|_| live(next) != live(&self.saved)) else {
            return;
        };
        let rollout = self.saved.rollout.as_ref();
        let goes_on = |rollout: &&Rollout| {
            rollout.target.release == release && !matches!(rollout.step, Step::Return { .. })
        };
        if !rollout.as_ref().is_some_and(goes_on) {
            // Back to an older one; or a rollout without members, begun and ended in one call, perhaps
            // of a release that was tried anew when it had just been taken back.
            let back = self.saved.lived.iter().any(|l| l.release == release);
            let mut heard = self.books.heard.values();
            let nobody = !heard.any(|heard| heard.online && heard.held_on.is_none());
            assert!(back || nobody, "live moves without a rollout");
            return;
        }
        self.check_everyone_is_there();
        let broken = &self.books.broken;
        assert!(broken.is_empty(), "{broken:?} found broken what is live");
        for node in self.books.certain() {
            let ended = self.books.has_ended(node, &self.policy, self.now);
            assert!(ended, "{node} has not verified what is live");
        }
    }
}
