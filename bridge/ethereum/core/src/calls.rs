//! What Lamina's contracts are called with, from the project's own types.

use alloy_primitives::{B256, U256};
use alloy_sol_types::{SolCall as _, SolValue as _};
use lamina_certificate::{
    CheckpointCertificate, PublicKey, SecretKey, Signature, SignedTwice, SignerBitmap,
};
use lamina_types::{
    Address, Amount, Asset, ChainId, CheckpointHeader, Digest, EpochNumber, HeaderId, Height,
    PeerKey, TaskId, signing,
};

use crate::abi;
use crate::points::{key_words, signature_words};

/// What `registerForOperatorSets` of EigenLayer hands to the registrar: the keys, with proofs that the operator has them.
///
/// `peer_proof` is the node key's signature on [`signing::peer_possession`].
#[must_use]
pub fn registration(
    chain: &ChainId,
    operator: &Address,
    registrar: &Address,
    bls: &SecretKey,
    peer_key: &PeerKey,
    peer_proof: &[u8; 64],
) -> Vec<u8> {
    let key: PublicKey = bls.public_key();
    let message = signing::proof_of_possession(chain, operator, registrar, &key.to_bytes());
    let (r, s) = peer_proof.split_at(32);
    abi::Registration {
        blsKey: key_words(&key),
        proofOfPossession: signature_words(&bls.sign(&message)),
        peerKey: peer_key.0.into(),
        peerProof: [B256::from_slice(r), B256::from_slice(s)],
    }
    .abi_encode()
}

/// Anchors a checkpoint.
#[must_use]
pub fn anchor(certificate: &CheckpointCertificate) -> Vec<u8> {
    abi::Checkpoints::submitCall {
        certificateEpoch: certificate.epoch.0,
        height: certificate.height.0,
        round: certificate.round,
        header: certificate.header.0.into(),
        absent: absent(&certificate.signers),
        signature: signature_words(&certificate.signature),
    }
    .abi_encode()
}

/// Stops the contracts: two certificates at one height.
#[must_use]
pub fn freeze(first: &CheckpointCertificate, second: &CheckpointCertificate) -> Vec<u8> {
    abi::Checkpoints::freezeCall {
        first: solidity_certificate(first),
        second: solidity_certificate(second),
    }
    .abi_encode()
}

/// Snapshots the operator set of the next epoch. `consensus` has the members of the consensus set among the whole one;
/// `None` if that is everyone.
#[must_use]
pub fn roll(consensus: Option<&SignerBitmap>) -> Vec<u8> {
    let consensus = consensus.map(|members| bits(members, true)).unwrap_or_default();
    abi::Checkpoints::rollCall { consensus }.abi_encode()
}

/// A claim that the vault owes, with its siblings in the tree of claims, from the leaf upwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProvenClaim {
    /// Its place in the tree.
    pub index: u64,
    /// Who is paid.
    pub recipient: Address,
    /// In what.
    pub asset: Asset,
    /// How much.
    pub amount: Amount,
    /// What proves it.
    pub siblings: [Digest; 32],
}

/// How a header is shown to be a checkpoint's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderProof {
    /// The header.
    pub header: CheckpointHeader,
    /// Unless it's anchored itself: the anchored header after it, and the siblings of the header in that one's history.
    pub through: Option<(CheckpointHeader, Vec<Digest>)>,
}

/// Pays claims.
#[must_use]
pub fn withdraw(claims: &[ProvenClaim], proof: &HeaderProof) -> Vec<u8> {
    let claims = claims.iter().map(|claim| abi::Vault::Claim {
        index: claim.index,
        recipient: claim.recipient.0.into(),
        asset: claim.asset.to_word().into(),
        amount: claim.amount.0,
        siblings: claim.siblings.map(|sibling| sibling.0.into()),
    });
    let proof = header_proof(proof);
    abi::Vault::withdrawCall { claims: claims.collect(), proof }.abi_encode()
}

/// Slashes for two precommits of one round. `member` is the operator's index in the epoch's whole set.
#[must_use]
pub fn slash_precommits(
    epoch: EpochNumber,
    height: Height,
    round: u32,
    member: u16,
    votes: &SignedTwice<Option<HeaderId>, Signature>,
) -> Vec<u8> {
    let content = |header: &Option<HeaderId>| header.map_or([0; 32], |id| id.0);
    abi::Slasher::slashPrecommitsCall {
        epoch: epoch.0,
        height: height.0,
        round,
        member: U256::from(member),
        first: signed(content(&votes.first), &votes.first_signature),
        second: signed(content(&votes.second), &votes.second_signature),
    }
    .abi_encode()
}

/// Slashes for two outcomes of one task. `member` is the operator's index in the epoch's whole set.
#[must_use]
pub fn slash_attestations(
    epoch: EpochNumber,
    task: &TaskId,
    member: u16,
    outcomes: &SignedTwice<Digest, Signature>,
) -> Vec<u8> {
    abi::Slasher::slashAttestationsCall {
        epoch: epoch.0,
        task: task.0.into(),
        member: U256::from(member),
        first: signed(outcomes.first.0, &outcomes.first_signature),
        second: signed(outcomes.second.0, &outcomes.second_signature),
    }
    .abi_encode()
}

/// A header as the contracts have it.
#[must_use]
pub fn solidity_header(header: &CheckpointHeader) -> abi::Header {
    abi::Header {
        epoch: header.epoch.0,
        height: header.height.0,
        previous: header.previous.0.into(),
        history: header.history.0.into(),
        cut: header.cut.0.into(),
        state: header.state.0.into(),
        claims: header.claims.0.into(),
        results: header.results.0.into(),
        ethereumNumber: header.ethereum.number,
        ethereumHash: header.ethereum.hash.0.into(),
        time: header.time.0,
        operators: header.operators.0.into(),
        nextOperators: header.next_operators.0.into(),
    }
}

/// What shows that an anchor isn't needed any more: the last one is as high.
#[must_use]
pub fn is_anchored(checkpoints: Address, height: Height) -> crate::Probe {
    crate::Probe {
        contract: checkpoints,
        input: abi::Checkpoints::latestCall {}.abi_encode(),
        word: 1,
        at_least: height.0,
    }
}

/// What shows that a claim is paid.
#[must_use]
pub fn is_paid(vault: Address, index: u64) -> crate::Probe {
    let input = abi::Vault::isPaidCall { index }.abi_encode();
    crate::Probe { contract: vault, input, word: 0, at_least: 1 }
}

/// What shows that an epoch's snapshot is taken.
#[must_use]
pub fn has_started(checkpoints: Address, epoch: EpochNumber) -> crate::Probe {
    let input = abi::Checkpoints::nextEpochCall {}.abi_encode();
    crate::Probe { contract: checkpoints, input, word: 0, at_least: epoch.0 + 1 }
}

/// What shows that an offence was punished.
#[must_use]
pub fn is_slashed(slasher: Address, offence: &Digest) -> crate::Probe {
    let input = abi::Slasher::isSlashedCall { offence: offence.0.into() }.abi_encode();
    crate::Probe { contract: slasher, input, word: 0, at_least: 1 }
}

fn solidity_certificate(certificate: &CheckpointCertificate) -> abi::Certificate {
    abi::Certificate {
        epoch: certificate.epoch.0,
        height: certificate.height.0,
        round: certificate.round,
        header: certificate.header.0.into(),
        absent: absent(&certificate.signers),
        signature: signature_words(&certificate.signature),
    }
}

fn header_proof(proof: &HeaderProof) -> abi::HeaderProof {
    let through = proof.through.as_ref();
    let headers = [Some(&proof.header), through.map(|(header, _)| header)];
    let siblings = through.map(|(_, siblings)| siblings.as_slice()).unwrap_or_default();
    abi::HeaderProof {
        headers: headers.into_iter().flatten().map(solidity_header).collect(),
        siblings: siblings.iter().map(|sibling| sibling.0.into()).collect(),
    }
}

fn signed(content: [u8; 32], signature: &Signature) -> abi::Slasher::Signed {
    abi::Slasher::Signed { content: content.into(), signature: signature_words(signature) }
}

/// Who did not sign.
fn absent(signers: &SignerBitmap) -> Vec<U256> {
    bits(signers, false)
}

/// The members that are in the bitmap, or those that aren't: bit `i % 256` of word `i / 256` is member `i`.
fn bits(members: &SignerBitmap, are_in: bool) -> Vec<U256> {
    let size = members.set_size();
    let mut words = vec![U256::ZERO; usize::from(size).div_ceil(256)];
    for member in (0..size).map(lamina_types::OperatorIndex) {
        if members.contains(member) == are_in {
            words[usize::from(member.0) / 256].set_bit(usize::from(member.0) % 256, true);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use lamina_types::OperatorIndex;

    use super::*;

    #[test]
    fn the_absent_are_those_that_did_not_sign() {
        let mut signers = SignerBitmap::empty(300);
        (0..300).filter(|i| ![1, 256, 299].contains(i)).for_each(|i| {
            signers.insert(OperatorIndex(i));
        });
        let words = absent(&signers);
        assert_eq!(words, [U256::from(2), U256::from(1) | U256::from(1) << 43]);
        assert_eq!(bits(&signers, true)[0], U256::MAX ^ U256::from(2));
    }
}
