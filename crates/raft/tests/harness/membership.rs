//! The commands of scripts that change who belongs to the cluster and who leads it.
//!
//! ```text
//! join 4                      a server with an empty directory, of which nobody knows
//! wipe 3                      s3 loses its directory and is started again, as s3'
//! change 1 add 4              s1 is asked to add s4 (also: learn 4, promote 4, remove 4,
//!                             replace 3 4, and replace 3 3 after wipe 3)
//! transfer 1 2 / handover 1   s1 is asked to hand over to s2, or to the best
//! members [1]                 whom the servers take for members
//! ```

use std::fmt::Write;

use raft::node::{Boot, Change, Config, Incarnation, Member, NodeId};

use super::server::Server;
use super::{Cluster, Outcome, member, render, server_id};

/// Between two lives of a server.
pub const LIFE: u64 = 100;

impl Cluster {
    pub fn join(&mut self, arguments: &[&str]) -> Outcome {
        let id = server_id(arguments.first())?;
        let number = number_of(id);
        let config = self.config(member(number))?;
        self.servers.insert(id, Server::empty(config, number));
        Ok(())
    }

    pub fn wipe(&mut self, arguments: &[&str]) -> Outcome {
        let id = server_id(arguments.first())?;
        let old = self.server(id)?.member();
        let incarnation = Incarnation(old.incarnation.0 + LIFE);
        let config = self.config(Member { id, incarnation })?;
        self.servers.insert(id, Server::empty(config, incarnation.0));
        Ok(())
    }

    fn config(&self, member: Member) -> Result<Config, String> {
        let mut config = Config::new(member, Boot(1));
        self.apply_limits(&mut config)?;
        Ok(config)
    }

    pub fn change(&mut self, arguments: &[&str], output: &mut String) -> Outcome {
        let [leader, what, rest @ ..] = arguments else {
            return Err("change needs a server and what to do".into());
        };
        let id = server_id(rest.first())?;
        let last = server_id(rest.last())?;
        let address = format!("127.0.0.1:{}", number_of(last));
        let member = self.server(last)?.member();
        let change = match *what {
            "add" => Change::AddVoter { member, address },
            "learn" => Change::AddLearner { member, address },
            "promote" => Change::Promote(id),
            "remove" => Change::Remove(id),
            "replace" => Change::Replace { old: id, member, address },
            other => return Err(format!("no change is called {other}")),
        };
        let leader = server_id(Some(leader))?;
        let _ = match self.server(leader)?.node()?.change_membership(&change) {
            Ok(index) => writeln!(output, "{leader} begins the change at {index}"),
            Err(error) => writeln!(output, "{leader} refused: {error}"),
        };
        Ok(())
    }

    pub fn transfer(&mut self, arguments: &[&str], output: &mut String) -> Outcome {
        let leader = server_id(arguments.first())?;
        let to = server_id(arguments.get(1))?;
        if let Err(error) = self.server(leader)?.node()?.transfer_leadership(to) {
            let _ = writeln!(output, "{leader} refused: {error}");
        }
        Ok(())
    }

    pub fn hand_over(&mut self, arguments: &[&str], output: &mut String) -> Outcome {
        let leader = server_id(arguments.first())?;
        if let Err(error) = self.server(leader)?.node()?.hand_over() {
            let _ = writeln!(output, "{leader} refused: {error}");
        }
        Ok(())
    }

    pub fn members(&mut self, arguments: &[&str], output: &mut String) -> Outcome {
        let only = arguments.first().map(|id| server_id(Some(id))).transpose()?;
        for (id, server) in &mut self.servers {
            if only.is_none_or(|only| only == *id)
                && let Ok(node) = server.node()
            {
                let (index, configuration) = (node.configuration_index(), node.configuration());
                let members = render::configuration(configuration);
                let _ = writeln!(output, "{id} from {index}: {members}");
            }
        }
        Ok(())
    }
}

fn number_of(id: NodeId) -> u64 {
    id.as_str().trim_start_matches('s').parse().expect("a name that member() made")
}
