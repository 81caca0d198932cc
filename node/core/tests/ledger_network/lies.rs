//! Operators who lie: a node that means well, and a tongue that doesn't.

use lamina_certificate::Attestation;
use lamina_ledger::finality::{ConsensusMessage, Proposal, Signer as _, Vote, VoteSignature};
use lamina_p2p::{Gossip, Response, Second};
use lamina_types::{
    Bytes, Canonical as _, Change, CheckpointHeader, Cut, Digest, EpochNumber, HeaderId, Height,
    List, signing,
};

use super::{Host, Network};

/// How an operator behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    Honest,
    /// Signs a second change with the number of each, and shows one to hosts with even, one to those with odd numbers.
    WritesTwice,
    /// Keeps its changes for itself, and names them in its proposals.
    Withholds,
    /// Signs a vote for nothing with each of its votes.
    VotesTwice,
    /// Signs two proposals with each.
    ProposesTwice,
    /// Proposes what doesn't hold.
    Proposes(Flaw),
    /// Attests another outcome with each of a task.
    AttestsTwice,
    /// Says that it's far ahead, and has nothing to show.
    Boasts,
    /// Its node's messages are kept back: the test speaks for it.
    Silent,
}

/// What's wrong with a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    State,
    History,
    Past,
    Future,
    Epoch,
    Empty,
    Claims,
    /// A block of Ethereum that nobody else will ever see.
    Block,
    /// A block of Ethereum with another hash.
    BlockHash,
}

impl Network {
    /// What a host says to whom, when its node means this.
    pub(super) fn lies(&self, index: usize, message: Gossip) -> Vec<(usize, Gossip)> {
        let host = &self.hosts[index];
        let others = (0..self.hosts.len()).filter(move |other| *other != index);
        let all = |message: &Gossip| -> Vec<_> {
            others.clone().map(|to| (to, message.clone())).collect()
        };
        match (host.conduct, &message) {
            (Conduct::WritesTwice, Gossip::Change(change)) => {
                let twin = Gossip::Change(Box::new(self.twin(host, change)));
                let of =
                    |to: usize| if to.is_multiple_of(2) { message.clone() } else { twin.clone() };
                others.map(|to| (to, of(to))).collect()
            }
            (Conduct::Withholds, Gossip::Change(_)) | (Conduct::Silent, _) => Vec::new(),
            (Conduct::VotesTwice, Gossip::Consensus(second, bytes)) => {
                let mut said = all(&message);
                if let Ok(ConsensusMessage::Vote(vote)) =
                    ConsensusMessage::from_bytes(bytes.as_slice())
                {
                    let header = vote.header.is_none().then_some(HeaderId([7; 32]));
                    let vote = self.signed(host, Vote { header, ..vote });
                    said.extend(all(&consensus(*second, &ConsensusMessage::Vote(vote))));
                }
                said
            }
            (Conduct::ProposesTwice | Conduct::Proposes(_), Gossip::Consensus(second, bytes)) => {
                let Ok(ConsensusMessage::Proposal(proposal)) =
                    ConsensusMessage::from_bytes(bytes.as_slice())
                else {
                    return all(&message);
                };
                let flaw = match host.conduct {
                    Conduct::Proposes(flaw) => flaw,
                    _ => Flaw::State,
                };
                let flawed = self.flawed(host, *proposal, flaw);
                let flawed = consensus(*second, &ConsensusMessage::Proposal(Box::new(flawed)));
                let mut said = all(&flawed);
                if host.conduct == Conduct::ProposesTwice {
                    said.extend(all(&message));
                }
                said
            }
            (Conduct::AttestsTwice, Gossip::Attestation(attestation)) => {
                let set = self.genesis.operator_set().unwrap();
                let (operator, task) = (attestation.operator, attestation.task);
                let key = &host.keys.bls;
                let other = Attestation::sign(&set, operator, key, task, Digest([7; 32]));
                [all(&Gossip::Attestation(other)), all(&message)].concat()
            }
            _ => all(&message),
        }
    }

    /// Another change at the same place.
    pub fn twin(&self, host: &Host, change: &Change) -> Change {
        let operations = change.operations.as_slice();
        // In another order, or another one: the place stays.
        let kept = operations[1..].iter().chain(&operations[..1]).cloned();
        let mut twin = Change { operations: List::truncated(kept), ..change.clone() };
        if operations.len() == 1 {
            let mut other = operations[0].clone();
            other.operation.account = super::address(super::ACCOUNTS - 1);
            other.operation.sequence = 0;
            let context = self.genesis.signing_context();
            let key = super::account(super::ACCOUNTS - 1);
            twin.operations = List::truncated([other.operation.sign(&key, &context)]);
        }
        self.sign_change(host, twin)
    }

    pub fn sign_change(&self, host: &Host, mut change: Change) -> Change {
        let id = change.head().id(&self.genesis.chain_id);
        change.signature = host.keys.ed25519(&Digest(id.0));
        change
    }

    /// The vote, signed as it is now.
    pub fn signed(&self, host: &Host, mut vote: Vote) -> Vote {
        let digest = vote.digest(&self.genesis.chain_id, EpochNumber(0));
        vote.signature = match vote.signature {
            VoteSignature::Prevote(_) => VoteSignature::Prevote(host.keys.ed25519(&digest)),
            VoteSignature::Precommit(_) => {
                VoteSignature::Precommit(host.keys.bls(&digest).to_bytes())
            }
        };
        vote
    }

    fn flawed(&self, host: &Host, mut proposal: Proposal, flaw: Flaw) -> Proposal {
        let header: &mut CheckpointHeader = &mut proposal.value.header;
        match flaw {
            Flaw::State => header.state = Digest([7; 32]),
            Flaw::Claims => header.claims = Digest([7; 32]),
            Flaw::History => header.history = Digest([7; 32]),
            Flaw::Past => header.time.0 -= 30_000_000,
            Flaw::Future => header.time.0 += 30_000_000,
            Flaw::Block => {
                header.ethereum.number += 1_000 * super::STRIDE;
                header.ethereum.hash = Digest([7; 32]);
            }
            Flaw::BlockHash => {
                header.ethereum.number = header.ethereum.number.max(super::STRIDE);
                header.ethereum.hash = Digest([7; 32]);
            }
            Flaw::Epoch => header.epoch = EpochNumber(1),
            Flaw::Empty => {
                proposal.value.cut = Cut::default();
                header.cut = proposal.value.cut.digest();
            }
        }
        let header = proposal.value.header.id(&self.genesis.chain_id);
        let Proposal { height, round, valid_round, .. } = proposal;
        let digest = signing::checkpoint_proposal(
            &self.genesis.chain_id,
            EpochNumber(0),
            height,
            round,
            valid_round,
            &header,
        );
        proposal.signature = host.keys.ed25519(&digest);
        proposal
    }
}

/// What a peer answers that claims to be ahead of everyone.
pub fn boast(response: Response) -> Response {
    match response {
        Response::Ledger(mut status) => {
            status.height = Height(u64::MAX);
            Response::Ledger(status)
        }
        Response::Checkpoints(_) => Response::Checkpoints(List::default()),
        other => other,
    }
}

pub fn consensus(second: Second, message: &ConsensusMessage) -> Gossip {
    Gossip::Consensus(second, Bytes::new(message.to_bytes()).unwrap())
}
