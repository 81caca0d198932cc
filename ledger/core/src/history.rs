//! The history of checkpoints: a Merkle mountain range over their headers' identifiers, whose root stands in the next header.
//! With one trusted header, any earlier one is proven by at most 64 hashes.
//!
//! A leaf is `sha256(0x00 ‖ header id)`, a node `sha256(0x01 ‖ left ‖ right)`. Peaks are joined from right to left, which
//! makes the root that of RFC 6962 (§2.1), and an inclusion proof one of §2.1.1. Before the first header the root is zero.
//! Only peaks are kept in memory; [`Mmr::append`] returns the nodes that are new, for whoever stores them and makes proofs.

use std::io;

use borsh::{BorshDeserialize, BorshSerialize};
use lamina_types::{Canonical, Digest, Hasher, HeaderId, List};
use serde::{Deserialize, Serialize};

use crate::StorageError;

/// Most peaks: one for each bit of the number of leaves.
const PEAKS_MAX: usize = 64;

/// The accumulator of all headers so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, BorshSerialize)]
pub struct Mmr {
    leaves: u64,
    peaks: List<Digest, PEAKS_MAX>,
}

/// Where a node is: it's over the leaves `index << level` up to `(index + 1) << level` (exclusive).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct Position {
    /// How high: 0 for a leaf.
    pub level: u8,
    /// Its place in the row, from 0.
    pub index: u64,
}

impl Position {
    /// The position as one number, by which nodes are stored.
    #[must_use]
    pub const fn number(self) -> u64 {
        (self.level as u64) << 56 | self.index
    }
}

impl Mmr {
    /// Adds the next header. Returns the nodes that it completes: its leaf, and whatever has two children now.
    ///
    /// # Panics
    /// After 2⁶⁴ headers.
    pub fn append(&mut self, header: &HeaderId) -> Vec<(Position, Digest)> {
        let mut peaks = std::mem::take(&mut self.peaks).into_vec();
        let mut new = vec![(Position { level: 0, index: self.leaves }, leaf(header))];
        for level in 1..=self.leaves.trailing_ones() {
            let left = peaks.pop().expect("there's a peak for each bit that's set");
            let (below, right) = new[new.len() - 1];
            let position = Position { level: narrow(level), index: below.index / 2 };
            new.push((position, node(&left, &right)));
        }
        peaks.push(new[new.len() - 1].1);
        self.peaks = List::new(peaks).expect("there's a peak for each bit that's set");
        self.leaves = self.leaves.checked_add(1).expect("checkpoints end before numbers do");
        new
    }

    /// The nodes that it's made of, which the next headers build on.
    #[must_use]
    pub fn nodes(&self) -> Vec<(Position, Digest)> {
        let levels = (0..64u8).rev().filter(|level| self.leaves >> level & 1 == 1);
        let positions = levels.map(|level| {
            // What's left of it are the leaves of the higher peaks.
            let before = self.leaves.checked_shr(u32::from(level) + 1).unwrap_or(0) << 1;
            Position { level, index: before }
        });
        positions.zip(self.peaks.as_slice().iter().copied()).collect()
    }

    /// How many headers there are.
    #[must_use]
    pub const fn leaves(&self) -> u64 {
        self.leaves
    }

    /// The roots of the perfect trees, the largest first: one for each bit that's set in the number of leaves.
    #[must_use]
    pub fn peaks(&self) -> &[Digest] {
        self.peaks.as_slice()
    }

    /// The one digest of all headers so far; zero if there are none.
    #[must_use]
    pub fn root(&self) -> Digest {
        bag(self.peaks()).unwrap_or_default()
    }
}

impl BorshDeserialize for Mmr {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        let (leaves, peaks): (u64, List<Digest, PEAKS_MAX>) =
            BorshDeserialize::deserialize_reader(reader)?;
        if peaks.as_slice().len() != leaves.count_ones() as usize {
            return Err(io::Error::other("there's a peak for each bit that's set"));
        }
        Ok(Self { leaves, peaks })
    }
}

impl Canonical for Mmr {
    const BYTES_MAX: usize = 8 + 4 + 32 * PEAKS_MAX;
}

/// Proof that a header is the one with its number.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct HistoryProof {
    /// The siblings on the way from the leaf to the root.
    pub siblings: List<Digest, PEAKS_MAX>,
}

impl HistoryProof {
    /// Whether, of the `leaves` headers that `root` is over, the one with number `index` is `header`. A checkpoint's header
    /// has the root over as many headers as its height says.
    #[must_use]
    pub fn verify(&self, root: &Digest, leaves: u64, index: u64, header: &HeaderId) -> bool {
        let Some(route) = Route::new(leaves, index) else { return false };
        let mut siblings = self.siblings.as_slice().iter();
        let mut hash = leaf(header);
        for left in route.sides() {
            let Some(sibling) = siblings.next() else { return false };
            hash = if left { node(sibling, &hash) } else { node(&hash, sibling) };
        }
        siblings.next().is_none() && hash == *root
    }
}

impl Canonical for HistoryProof {
    const BYTES_MAX: usize = 4 + 32 * PEAKS_MAX;
}

/// Proof of the header with number `index` among the first `leaves` ones, from the nodes that [`Mmr::append`] returned.
/// `None` if `index` isn't below `leaves`.
///
/// # Errors
/// [`StorageError`] of `read`, or if it has no node where there must be one.
pub fn prove(
    leaves: u64,
    index: u64,
    read: impl Fn(Position) -> Result<Option<Digest>, StorageError>,
) -> Result<Option<HistoryProof>, StorageError> {
    let Some(route) = Route::new(leaves, index) else { return Ok(None) };
    let node = |position| {
        let missing = || StorageError(format!("the history has no node at {position:?}"));
        read(position)?.ok_or_else(missing)
    };
    let in_mountain = (0..route.mountain().level)
        .map(|level| Position { level, index: (index >> level) ^ 1 })
        .map(node);
    let mut siblings: Vec<_> = in_mountain.collect::<Result<_, _>>()?;
    let after: Vec<_> = route.after().iter().copied().map(node).collect::<Result<_, _>>()?;
    siblings.extend(bag(&after));
    for position in route.before().iter().rev() {
        siblings.push(node(*position)?);
    }
    let siblings = List::new(siblings).expect("there are as many as a number has bits, at most");
    Ok(Some(HistoryProof { siblings }))
}

/// The way from a leaf to the root.
struct Route {
    peaks: Vec<Position>,
    /// Which of the peaks the leaf is under.
    mountain: usize,
    index: u64,
}

impl Route {
    fn new(leaves: u64, index: u64) -> Option<Self> {
        let peaks = peaks(leaves);
        let mountain = peaks.iter().position(|peak| index >> peak.level == peak.index)?;
        Some(Self { peaks, mountain, index })
    }

    fn mountain(&self) -> Position {
        self.peaks[self.mountain]
    }

    fn before(&self) -> &[Position] {
        &self.peaks[..self.mountain]
    }

    fn after(&self) -> &[Position] {
        &self.peaks[self.mountain + 1..]
    }

    /// For each step whether the sibling is on the left: up the mountain, then all peaks after it at once, then those
    /// before it.
    fn sides(&self) -> impl Iterator<Item = bool> {
        let climb = (0..self.mountain().level).map(|level| self.index >> level & 1 == 1);
        let after = (!self.after().is_empty()).then_some(false);
        climb.chain(after).chain(self.before().iter().map(|_| true))
    }
}

/// Where the peaks are, the largest first.
fn peaks(leaves: u64) -> Vec<Position> {
    let set = (0..u64::BITS).rev().filter(|level| leaves >> level & 1 == 1);
    // The tree of a set bit begins where those of the higher bits end.
    set.map(|level| Position { level: narrow(level), index: leaves >> level ^ 1 }).collect()
}

/// Peaks joined from right to left.
fn bag(peaks: &[Digest]) -> Option<Digest> {
    let (last, before) = peaks.split_last()?;
    Some(before.iter().rev().fold(*last, |right, left| node(left, &right)))
}

fn leaf(header: &HeaderId) -> Digest {
    hash(&[&[0], &header.0])
}

fn node(left: &Digest, right: &Digest) -> Digest {
    hash(&[&[1], &left.0, &right.0])
}

fn hash(parts: &[&[u8]]) -> Digest {
    let mut hasher = Hasher::default();
    for part in parts {
        hasher.update(part);
    }
    hasher.digest()
}

fn narrow(level: u32) -> u8 {
    u8::try_from(level).expect("a number has 64 bits")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// RFC 6962, §2.1, word by word.
    fn naive(leaves: &[HeaderId]) -> Digest {
        match leaves {
            [] => Digest::default(),
            [one] => leaf(one),
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                node(&naive(&leaves[..split]), &naive(&leaves[split..]))
            }
        }
    }

    fn headers(count: u64) -> Vec<HeaderId> {
        (0..count).map(|i| HeaderId(Digest::of(&i.to_be_bytes()).0)).collect()
    }

    fn built(headers: &[HeaderId]) -> (Mmr, BTreeMap<Position, Digest>) {
        let mut mmr = Mmr::default();
        let nodes = headers.iter().flat_map(|header| mmr.append(header)).collect();
        (mmr, nodes)
    }

    #[test]
    fn peaks_are_nodes_at_their_positions() {
        for count in 0..70 {
            let (mmr, nodes) = built(&headers(count));
            assert_eq!(mmr.nodes().len(), mmr.peaks().len());
            assert!(mmr.nodes().iter().all(|(position, node)| nodes[position] == *node));
        }
    }

    #[test]
    fn root_is_that_of_the_naive_tree() {
        let headers = headers(130);
        let mut mmr = Mmr::default();
        for count in 0..headers.len() {
            assert_eq!(mmr.root(), naive(&headers[..count]), "{count} headers");
            mmr.append(&headers[count]);
        }
    }

    #[test]
    fn every_header_of_every_length_has_a_proof() {
        let headers = headers(70);
        let (_, nodes) = built(&headers);
        for count in 1..=headers.len() {
            let (root, leaves) = (naive(&headers[..count]), count as u64);
            for (index, at) in (0..).zip(0..count) {
                let proof = prove(leaves, index, |at| Ok(nodes.get(&at).copied())).unwrap();
                let proof = proof.expect("it's one of them");
                assert!(proof.verify(&root, leaves, index, &headers[at]));
                assert!(!proof.verify(&root, leaves, index ^ 1, &headers[at]));
                assert!(!proof.verify(&root, leaves, index, &headers[at ^ 1]));
                assert!(!proof.verify(&Digest([1; 32]), leaves, index, &headers[at]));
            }
        }
    }

    #[test]
    fn there_is_no_proof_beyond_the_end() {
        assert_eq!(prove(5, 5, |_| Ok(Some(Digest::default()))), Ok(None));
        assert_eq!(prove(0, 0, |_| Ok(Some(Digest::default()))), Ok(None));
        assert_eq!(prove(u64::MAX, u64::MAX, |_| Ok(Some(Digest::default()))), Ok(None));
    }

    #[test]
    fn the_longest_proof_fits() {
        for index in [0, u64::MAX / 2, u64::MAX - 1] {
            let proof = prove(u64::MAX, index, |_| Ok(Some(Digest::default()))).unwrap().unwrap();
            assert!(HistoryProof::from_bytes(&proof.to_bytes()).is_ok());
        }
    }

    #[test]
    fn a_node_that_is_lost_is_an_error() {
        assert!(prove(5, 2, |_| Ok(None)).is_err());
    }

    #[test]
    fn peaks_that_do_not_fit_the_count_are_refused() {
        let (mmr, _) = built(&headers(5));
        assert_eq!(Mmr::from_bytes(&mmr.to_bytes()), Ok(mmr.clone()));
        let mut bytes = mmr.to_bytes();
        bytes[0] = 7;
        assert!(Mmr::from_bytes(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn proofs_hold_for_their_header_alone(
            leaves in 1u64..600,
            index in 0u64..600,
            other in 0u64..600,
            flip in any::<prop::sample::Index>(),
        ) {
            prop_assume!(index < leaves && other != index);
            let headers = headers(leaves);
            let (mmr, nodes) = built(&headers);
            let proof = prove(leaves, index, |at| Ok(nodes.get(&at).copied())).unwrap().unwrap();
            let header = &headers[usize::try_from(index).unwrap()];
            prop_assert!(proof.verify(&mmr.root(), leaves, index, header));
            prop_assert!(!proof.verify(&mmr.root(), leaves, other, header));
            let mut siblings = proof.siblings.clone().into_vec();
            if !siblings.is_empty() {
                let at = flip.index(siblings.len());
                siblings[at].0[0] ^= 1;
                let forged = HistoryProof { siblings: List::new(siblings).unwrap() };
                prop_assert!(!forged.verify(&mmr.root(), leaves, index, header));
            }
        }
    }
}
