//! Who does what, without asking anybody: rendezvous hashing. Pure.

use sha2::{Digest as _, Sha256};

/// Of all nodes, the one that weighs most for this name. Where nodes come and go, only their own share moves.
pub fn chosen(name: &str, nodes: &[u64]) -> Option<u64> {
    let weight = |node: u64| {
        let digest = Sha256::new()
            .chain_update(name)
            .chain_update(node.to_be_bytes())
            .finalize();
        <[u8; 32]>::from(digest)
    };
    nodes.iter().copied().max_by_key(|node| weight(*node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shared_out_and_only_a_lost_nodes_share_moves() {
        let ids: Vec<String> = (0..300).map(|number| format!("j{number}")).collect();
        let count = |node| {
            ids.iter()
                .filter(|id| chosen(id, &[1, 2, 3]) == Some(node))
                .count()
        };
        assert!([1, 2, 3].iter().all(|node| count(*node) > 60));
        for id in &ids {
            let before = chosen(id, &[1, 2, 3]);
            if before != Some(2) {
                assert_eq!(chosen(id, &[1, 3]), before);
            }
        }
        assert_eq!(chosen("j1", &[]), None);
    }
}
