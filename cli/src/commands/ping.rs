//! `codevol ping`: how long a node takes to answer over its live connection.

use codevol_protocol::call::{Call, Pong, Reply};
use codevol_protocol::name::{NodeName, Printable};
use serde::Serialize;

use crate::commands::Context;
use crate::error::CommandError;
use crate::exit::ExitStatus;

/// The arguments of `ping`.
#[derive(Debug, clap::Args)]
pub struct PingArgs {
    /// The node
    pub node: NodeName,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    node: &'a str,
    address: &'a str,
    rtt_ms: f64,
}

/// Asks the source for a sign of life of the node.
///
/// # Errors
/// The source does not run, there is no such node, it is not connected, or it does not answer.
pub fn run(args: &PingArgs, context: &Context) -> Result<ExitStatus, CommandError> {
    let control = context.source()?;
    let node = args.node.clone();
    let Reply::Pong(pong) = control.ask(&Call::Ping { node })? else {
        return Err(control.unexpected());
    };
    if context.printer.is_json() {
        context.printer.json(&Document {
            schema: "codevol.ping/1",
            node: pong.node.as_str(),
            address: pong.address.as_str(),
            rtt_ms: milliseconds(&pong),
        })?;
    } else {
        context.printer.line(line(&pong))?;
    }
    Ok(ExitStatus::Done)
}

fn line(pong: &Pong) -> String {
    let (node, address) = (&pong.node, Printable(pong.address.as_str()));
    format!(
        "{node} at {address} answers in {:.2} ms",
        milliseconds(pong)
    )
}

fn milliseconds(pong: &Pong) -> f64 {
    pong.rtt_us as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use codevol_protocol::name::Text;

    use super::*;

    #[test]
    fn an_answer_is_one_line() {
        let pong = Pong {
            node: "dag-01".parse().unwrap(),
            address: Text::cut("192.0.2.7:51234"),
            rtt_us: 1_234,
        };
        assert_eq!(line(&pong), "dag-01 at 192.0.2.7:51234 answers in 1.23 ms");
    }
}
