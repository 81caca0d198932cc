//! The tree of a checkpoint's task results, for contracts and files: Keccak-256 over (task, outcome's digest), ascending by
//! task.
//!
//! A leaf is `keccak(0x00 ‖ task ‖ outcome)`, a node `keccak(0x01 ‖ left ‖ right)`; the last of an odd row moves up as it
//! is. No tree shares a root with another one, since leaves and nodes begin differently. A checkpoint without results has
//! the root zero.

use alloy_primitives::keccak256;
use borsh::{BorshDeserialize, BorshSerialize};
use lamina_types::{Canonical, Digest, List, TaskId};
use serde::{Deserialize, Serialize};

/// Deepest tree of results: more than any checkpoint's operations could record.
const DEPTH_MAX: usize = 32;

/// Proof that a task's outcome was recorded in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ResultProof {
    /// Bit `i` (the lowest is 0) is set if the `i`-th sibling is on the left.
    pub left: u32,
    /// The siblings on the way from the leaf to the root.
    pub siblings: List<Digest, DEPTH_MAX>,
}

impl ResultProof {
    /// Whether the tree with this root has this outcome of this task.
    #[must_use]
    pub fn verify(&self, root: &Digest, task: &TaskId, outcome: &Digest) -> bool {
        let siblings = self.siblings.as_slice();
        if u64::from(self.left) >> siblings.len() != 0 {
            return false;
        }
        let mut hash = leaf(task, outcome);
        for (depth, sibling) in siblings.iter().enumerate() {
            let on_left = self.left >> depth & 1 == 1;
            hash = if on_left { node(sibling, &hash) } else { node(&hash, sibling) };
        }
        hash == *root
    }
}

impl Canonical for ResultProof {
    const BYTES_MAX: usize = 4 + 4 + 32 * DEPTH_MAX;
}

/// The root over `outcomes`, which ascend by task.
#[must_use]
pub fn root(outcomes: &[(TaskId, Digest)]) -> Digest {
    let mut row = leaves(outcomes);
    while row.len() > 1 {
        row = above(&row);
    }
    row.pop().unwrap_or_default()
}

/// Proof of a task's outcome among `outcomes`, which ascend by task; `None` if it isn't there.
#[must_use]
pub fn prove(outcomes: &[(TaskId, Digest)], task: &TaskId) -> Option<ResultProof> {
    let mut index = outcomes.binary_search_by_key(task, |(id, _)| *id).ok()?;
    let (mut left, mut siblings, mut row) = (0, Vec::new(), leaves(outcomes));
    while row.len() > 1 {
        if let Some(sibling) = row.get(index ^ 1) {
            left |= u32::from(index % 2 == 1) << siblings.len();
            siblings.push(*sibling);
        }
        (index, row) = (index / 2, above(&row));
    }
    Some(ResultProof { left, siblings: List::new(siblings).ok()? })
}

fn leaves(outcomes: &[(TaskId, Digest)]) -> Vec<Digest> {
    outcomes.iter().map(|(task, outcome)| leaf(task, outcome)).collect()
}

fn above(row: &[Digest]) -> Vec<Digest> {
    let join = |pair: &[Digest]| match pair {
        [left, right] => node(left, right),
        _ => pair[0],
    };
    row.chunks(2).map(join).collect()
}

fn leaf(task: &TaskId, outcome: &Digest) -> Digest {
    keccak(0, &task.0, &outcome.0)
}

fn node(left: &Digest, right: &Digest) -> Digest {
    keccak(1, &left.0, &right.0)
}

fn keccak(prefix: u8, a: &[u8; 32], b: &[u8; 32]) -> Digest {
    Digest(keccak256([&[prefix], a.as_slice(), b].concat()).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(count: u8) -> Vec<(TaskId, Digest)> {
        (0..count).map(|i| (TaskId([i; 32]), Digest([i ^ 0xff; 32]))).collect()
    }

    #[test]
    fn every_outcome_has_a_proof_that_holds_for_nothing_else() {
        for count in 1..20 {
            let outcomes = outcomes(count);
            let root = root(&outcomes);
            for (task, outcome) in &outcomes {
                let proof = prove(&outcomes, task).unwrap();
                assert!(proof.verify(&root, task, outcome));
                assert!(!proof.verify(&root, task, &Digest([0x55; 32])));
                assert!(!proof.verify(&root, &TaskId([0x55; 32]), outcome));
                assert!(!proof.verify(&Digest([0x55; 32]), task, outcome));
                assert_eq!(ResultProof::from_bytes(&proof.to_bytes()), Ok(proof));
            }
            assert_eq!(prove(&outcomes, &TaskId([0x77; 32])), None);
        }
    }

    #[test]
    fn no_results_have_the_root_zero() {
        assert_eq!(root(&[]), Digest([0; 32]));
    }

    #[test]
    fn bits_without_a_sibling_are_refused() {
        let outcomes = outcomes(2);
        let mut proof = prove(&outcomes, &outcomes[0].0).unwrap();
        proof.left |= 1 << 31;
        assert!(!proof.verify(&root(&outcomes), &outcomes[0].0, &outcomes[0].1));
    }

    #[test]
    fn a_node_is_no_leaf() {
        let outcomes = outcomes(4);
        let below: Vec<_> = above(&leaves(&outcomes));
        let proof = ResultProof { left: 0, siblings: List::default() };
        let (task, outcome) = (TaskId(below[0].0), below[1]);
        assert!(!proof.verify(&root(&outcomes), &task, &outcome));
    }

    /// The layout that the head of this module draws, byte by byte.
    #[test]
    fn root_of_three_is_laid_out_as_documented() {
        let hash = |prefix: u8, a: [u8; 32], b: [u8; 32]| {
            keccak256([vec![prefix], a.to_vec(), b.to_vec()].concat()).0
        };
        let [a, b, c] = [0u8, 1, 2].map(|i| hash(0, [i; 32], [i ^ 0xff; 32]));
        assert_eq!(root(&outcomes(3)), Digest(hash(1, hash(1, a, b), c)));
    }
}
