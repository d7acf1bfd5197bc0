//! Which node does what, without asking anybody: rendezvous hashing. Pure.
//!
//! For each name every node has a weight, and the heaviest of those that are there has the name. A node that goes leaves
//! the others theirs; a node that comes takes its share of each.

use sha2::{Digest, Sha256};

/// How heavy a node is for a name.
pub fn weight(name: &str, node: u64) -> u64 {
    let mut hash = Sha256::new();
    hash.update(name.as_bytes());
    hash.update(node.to_be_bytes());
    let hash: [u8; 32] = hash.finalize().into();
    hash.iter()
        .take(8)
        .fold(0, |weight, byte| weight << 8 | u64::from(*byte))
}

/// The node that has a name, of those that are there.
pub fn heaviest(name: &str, nodes: impl IntoIterator<Item = u64>) -> Option<u64> {
    nodes.into_iter().max_by_key(|node| weight(name, *node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_one_node_and_each_node_its_share() {
        let names: Vec<String> = (0..300).map(|number| format!("w{number}")).collect();
        let nodes = [1, 2, 3];
        let of = |nodes: &[u64], name: &str| heaviest(name, nodes.iter().copied()).unwrap();
        for node in nodes {
            let share = names.iter().filter(|name| of(&nodes, name) == node).count();
            assert!((70..130).contains(&share), "{node} has {share}");
        }
        for name in &names {
            if of(&nodes, name) != 3 {
                assert_eq!(of(&[1, 2], name), of(&nodes, name), "{name} moved");
            }
        }
        assert_eq!(heaviest("w", []), None);
    }
}
