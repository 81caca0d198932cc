//! Who sees all that's published and committed, and says when two things contradict each other.

use std::collections::BTreeMap;

use lamina_ledger::Decision;
use lamina_ledger::finality::{ConsensusMessage, Step};
use lamina_ledger::testing::MemoryState;
use lamina_p2p::Gossip;
use lamina_types::{
    Amount, Canonical as _, ChainId, Change, ChangeId, CheckpointHeader, Cut, HeaderId, Height,
    PeerKey, VolumeId,
};

use super::Disk;

/// A host's vote at a height, in a round, in a step.
type Ballot = (usize, Height, u32, Step);

#[derive(Debug, Default)]
pub struct Witness {
    headers: BTreeMap<Height, CheckpointHeader>,
    votes: BTreeMap<Ballot, Option<HeaderId>>,
    proposals: BTreeMap<(usize, Height, u32), (HeaderId, Option<u32>)>,
    changes: BTreeMap<(VolumeId, PeerKey, u64), ChangeId>,
    /// The cuts of all proposals of honest nodes.
    cuts: BTreeMap<HeaderId, Cut>,
    /// How many rounds heights took, less one.
    pub rounds: BTreeMap<Height, u32>,
}

impl Witness {
    /// One header at each height, and so one state.
    pub fn committed(&mut self, host: usize, chain: &ChainId, decision: &Decision) {
        let header = &decision.header;
        let first = self.headers.entry(header.height).or_insert_with(|| header.clone());
        assert_eq!(first, header, "host {host} has another checkpoint at {}", header.height);
        let certificate = decision.certificate.as_ref().unwrap();
        assert_eq!(certificate.header, header.id(chain));
        self.rounds.insert(header.height, certificate.round);
    }

    /// What an honest node says, with this on its disk.
    pub fn published(&mut self, host: usize, disk: &Disk, chain: &ChainId, message: &Gossip) {
        match message {
            Gossip::Change(change) => self.change(chain, change),
            Gossip::Consensus(_, bytes) => {
                match ConsensusMessage::from_bytes(bytes.as_slice()).unwrap() {
                    ConsensusMessage::Vote(vote) => {
                        let cut = vote.header.and_then(|header| self.cuts.get(&header));
                        cut.into_iter().for_each(|cut| assert_on_disk(host, disk, cut));
                        let ballot = (host, vote.height, vote.round, vote.step());
                        let first = *self.votes.entry(ballot).or_insert(vote.header);
                        assert_eq!(first, vote.header, "host {host} votes twice: {ballot:?}");
                    }
                    ConsensusMessage::Proposal(proposal) => {
                        let place = (host, proposal.height, proposal.round);
                        let what = (proposal.value.header.id(chain), proposal.valid_round);
                        assert_on_disk(host, disk, &proposal.value.cut);
                        self.cuts.insert(what.0, proposal.value.cut);
                        let first = *self.proposals.entry(place).or_insert(what);
                        assert_eq!(first, what, "host {host} proposes twice: {place:?}");
                    }
                    ConsensusMessage::Polka(_) | ConsensusMessage::Rounds(_) => {}
                }
            }
            _ => {}
        }
    }

    /// A change of an honest author.
    pub fn change(&mut self, chain: &ChainId, change: &Change) {
        let place = (change.volume, change.author, change.number);
        let id = change.head().id(chain);
        let first = *self.changes.entry(place).or_insert(id);
        assert_eq!(first, id, "two changes at {place:?}");
    }

    /// The times of the checkpoints from this height on.
    pub fn headers_from(&self, height: u64) -> Vec<&CheckpointHeader> {
        self.headers.range(Height(height)..).map(|(_, header)| header).collect()
    }
}

/// Whoever votes for a cut could be the only one left who has its changes.
fn assert_on_disk(host: usize, disk: &Disk, cut: &Cut) {
    for book in cut.books.as_slice() {
        let volume = VolumeId { book: book.book, volume: book.volume };
        for head in book.lanes.as_slice() {
            let (mut number, mut id) = (head.number, head.change);
            while number > 0 && !disk.changes.contains_key(&(volume, head.author, number)) {
                let change = disk.pending.get(&id);
                let change = change.unwrap_or_else(|| panic!("{host} lacks number {number}"));
                (number, id) = (number - 1, change.previous);
            }
        }
    }
}

/// All balances of an asset are its supply, and the supply is what there was and what came in.
pub fn assert_conserved(state: &MemoryState, came_in: u128) {
    let sum = |prefix: &[u8]| -> u128 {
        let found = state.entries().iter().filter(|(key, _)| key.starts_with(prefix));
        found.map(|(_, value)| borsh::from_slice::<Amount>(value).unwrap().0).sum()
    };
    let deposits = u128::from(super::ACCOUNTS) * super::DEPOSIT + came_in;
    assert_eq!((sum(b"bank/balances/"), sum(b"bank/supply/")), (deposits, deposits));
}
