//! `status --json`, as a script reads it.

use serde_json::Value;

/// The document of `status --json`.
#[derive(Debug, Clone)]
pub struct FleetStatus(pub Value);

impl FleetStatus {
    /// Returns the one volume.
    #[must_use]
    pub fn volume(&self) -> &Value {
        &self.0["volumes"][0]
    }

    /// Returns the newest release.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.volume()["head"].as_u64().unwrap_or(0)
    }

    /// Returns the release that is live.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.volume()["live"].as_u64().unwrap_or(0)
    }

    /// Returns a node; null where there is none of that name.
    #[must_use]
    pub fn node(&self, name: &str) -> &Value {
        let nodes = self.volume()["nodes"].as_array();
        let mut nodes = nodes.into_iter().flatten();
        nodes
            .find(|node| node["name"] == name)
            .unwrap_or(&Value::Null)
    }

    /// Returns a node's state.
    #[must_use]
    pub fn state(&self, name: &str) -> &str {
        self.node(name)["state"].as_str().unwrap_or("unknown")
    }

    /// Returns whether `seq` is live, on each node that is enrolled.
    #[must_use]
    pub fn is_live_everywhere(&self, seq: u64) -> bool {
        let nodes = self.volume()["nodes"].as_array();
        self.live() == seq
            && nodes.is_some_and(|nodes| {
                let live = |node: &Value| node["state"] == "live" && node["release"] == seq;
                nodes.iter().all(live)
            })
    }

    /// Returns the releases that are quarantined.
    #[must_use]
    pub fn quarantined(&self) -> Vec<u64> {
        let all = self.volume()["quarantined"].as_array();
        let all = all.into_iter().flatten();
        all.filter_map(|each| each["release"].as_u64()).collect()
    }
}

impl std::fmt::Display for FleetStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.0)
    }
}
