//! A leader whose committed configuration does not let it vote leads no more (dissertation 4.2.2).

use raft::node::{Node, RoleName};

use super::Broken;

/// How often it was checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Retirement {
    /// How often it was checked.
    pub checked: u64,
}

impl Retirement {
    /// A server is seen.
    ///
    /// # Errors
    /// It leads, and knows that the cluster has decided to do without it.
    pub fn on_seen(&mut self, node: &Node) -> Result<(), Broken> {
        let configuration = node.configuration();
        if node.role() != RoleName::Leader || configuration.is_voter(node.me()) {
            return Ok(());
        }
        self.checked += 1;
        let (index, commit) = (node.configuration_index(), node.commit());
        // Before an entry of its own term is committed it does not know what else is.
        let knows = node.term_at(commit) == Some(node.term());
        if index > commit || !knows || configuration.is_joint() {
            return Ok(());
        }
        let what = format!("{} leads term {} without a vote since {index}", node.me(), node.term());
        Err(Broken::new("a leader votes", what))
    }
}
