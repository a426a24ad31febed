//! A source and its agents.

use std::sync::Arc;

use crate::{
    Agent, CodeServer, Dagster, Defines, FleetStatus, Network, Place, Slot, Source, Start, project,
    wait_until,
};

/// A source and its agents, each with a code server or none.
#[derive(Debug)]
pub struct Fleet {
    /// The source.
    pub source: Source,
    /// The agents `dag-01`, `dag-02`, ...
    pub agents: Vec<Agent>,
    /// Their code servers, in the same order; none where there is no Dagster.
    pub servers: Vec<CodeServer>,
    // Last: given back when all is gone.
    _slot: Option<Slot>,
}

impl Fleet {
    /// Starts a fleet without code servers, and waits until r1 is live everywhere.
    #[must_use]
    pub fn start(agents: usize) -> Self {
        Self::start_with(agents, |_source| {})
    }

    /// Starts a source that has no agents yet.
    #[must_use]
    pub fn without_agents() -> Self {
        Self::start(0)
    }

    /// The same; `prepare` sees the source before it is started.
    #[must_use]
    pub fn start_with(agents: usize, prepare: impl FnOnce(&mut Source)) -> Self {
        Self::start_in(Place::new(), agents, prepare)
    }

    /// The same, in this place.
    #[must_use]
    pub fn start_in(place: Place, agents: usize, prepare: impl FnOnce(&mut Source)) -> Self {
        let place = Arc::new(place);
        let mut source = Source::init(&place);
        project(&source, &Defines::asset("first"));
        prepare(&mut source);
        source.start();
        let agents = (1..=agents).map(|n| Agent::join_and_start(&source, &name(n), None));
        let fleet = Self {
            agents: agents.collect(),
            source,
            servers: Vec::new(),
            _slot: None,
        };
        let begins = |status: &FleetStatus| status.head() == 0 || status.is_live_everywhere(1);
        fleet
            .source
            .wait("what the source begins with is live", |status| {
                fleet
                    .agents
                    .iter()
                    .all(|agent| !status.node(agent.name()).is_null())
                    && begins(status)
            });
        fleet
    }

    /// Starts a fleet in which each agent has a real code server, and waits until r1 is live
    /// everywhere. Nothing where there is no Dagster: that was said then.
    #[must_use]
    pub fn with_dagster(agents: usize) -> Option<Self> {
        let place = Arc::new(Place::new());
        Self::serving(agents, Start::Module, Source::init(&place))
    }

    /// The same on a network, where each host has an address of its own. Nothing, too, where no
    /// network can be made.
    #[must_use]
    pub fn with_dagster_on_network(agents: usize) -> Option<Self> {
        let place = Arc::new(Place::new());
        let network = Network::new(&place)?;
        Self::serving(agents, Start::Socket, Source::init_on(&place, &network))
    }

    fn serving(agents: usize, start: Start, mut source: Source) -> Option<Self> {
        let dagster = Dagster::find()?;
        let slot = Slot::take();
        project(&source, &Defines::asset("first"));
        source.start();
        let mut fleet = Self {
            source,
            agents: Vec::new(),
            servers: Vec::new(),
            _slot: Some(slot),
        };
        for n in 1..=agents {
            fleet.add(&dagster, &name(n), start);
        }
        for server in &mut fleet.servers {
            server.wait();
        }
        fleet.source.wait_live_everywhere(1);
        Some(fleet)
    }

    /// Adds an agent and its code server, which was started when r1 was there.
    pub fn add(&mut self, dagster: &Dagster, name: &str, start: Start) {
        let mut server = CodeServer::new(dagster, self.source.place(), name, start);
        let agent = Agent::join_and_start(&self.source, name, Some(server.address()));
        wait_until("a release stands on the agent", || {
            agent.current().is_some()
        });
        server.spawn(agent.root());
        self.agents.push(agent);
        self.servers.push(server);
    }

    /// Returns the one agent of a fleet of one.
    ///
    /// # Panics
    /// When there is none.
    pub fn agent(&mut self) -> &mut Agent {
        self.agents.first_mut().expect("the fleet has an agent")
    }
}

fn name(n: usize) -> String {
    format!("dag-{n:02}")
}
