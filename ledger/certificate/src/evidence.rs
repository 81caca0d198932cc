//! Proof that an operator signed two different things where it may sign one.
//!
//! Evidence stands by itself: whoever has the operator set of its epoch can check it, from signatures alone. It names a
//! *place* (a vote's height, round and step; a change's number in its lane; a task) and two contents with a signature on
//! each. What an operator did at one place is one offence however many pairs of signatures show it: [`Evidence::place`].

use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use lamina_types::signing::{Domain, Preimage};
use lamina_types::{
    Address, BookId, Canonical, ChainId, ChangeHead, Digest, EpochNumber, HeaderId, Height,
    OperatorIndex, TaskId, signing,
};
use serde::{Deserialize, Serialize};

use crate::bls::Signature;
use crate::{Operator, OperatorSet, verify_peer_signature};

/// Two contents with a signature on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SignedTwice<T, S> {
    /// One content.
    pub first: T,
    /// The offender's signature on it.
    pub first_signature: S,
    /// The other content.
    pub second: T,
    /// The offender's signature on that.
    pub second_signature: S,
}

/// What the proposer of a round signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ProposedHeader {
    /// The round in which the header had a quorum's prevotes.
    pub valid_round: Option<u32>,
    /// The header.
    pub header: HeaderId,
}

/// An operator signed what it mustn't.
///
/// Bytes: [Borsh](https://borsh.io), in the order of the fields.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Evidence {
    /// Two precommits of one round.
    Precommits {
        /// The operator set.
        epoch: EpochNumber,
        /// The checkpoint's number.
        height: Height,
        /// The round.
        round: u32,
        /// Who signed, in [`OperatorSet::consensus_set`].
        operator: OperatorIndex,
        /// What: [`signing::precommit`].
        votes: SignedTwice<Option<HeaderId>, Signature>,
    },
    /// Two prevotes of one round.
    Prevotes {
        /// The operator set.
        epoch: EpochNumber,
        /// The checkpoint's number.
        height: Height,
        /// The round.
        round: u32,
        /// Who signed, in [`OperatorSet::consensus_set`].
        operator: OperatorIndex,
        /// What: [`signing::prevote`].
        votes: SignedTwice<Option<HeaderId>, [u8; 64]>,
    },
    /// Two proposals of one round.
    Proposals {
        /// The operator set.
        epoch: EpochNumber,
        /// The checkpoint's number.
        height: Height,
        /// The round.
        round: u32,
        /// Who signed, in [`OperatorSet::consensus_set`].
        operator: OperatorIndex,
        /// What: [`signing::checkpoint_proposal`].
        proposals: SignedTwice<ProposedHeader, [u8; 64]>,
    },
    /// Two changes with one number in one lane.
    Changes {
        /// An operator set that the author belongs to: changes name none.
        epoch: EpochNumber,
        /// What: [`ChangeHead::id`].
        changes: SignedTwice<ChangeHead, [u8; 64]>,
    },
    /// Two outcomes of one task.
    Attestations {
        /// The operator set.
        epoch: EpochNumber,
        /// The task.
        task: TaskId,
        /// Who signed, in the epoch's whole set, whichever part of it serves the service: signatures name no index.
        operator: OperatorIndex,
        /// What: the outcomes' digests, see [`signing::attestation`].
        outcomes: SignedTwice<Digest, Signature>,
    },
}

/// What an operator signed twice.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[borsh(use_discriminant = false)]
pub enum OffenceKind {
    /// Precommits.
    Precommits,
    /// Prevotes.
    Prevotes,
    /// Proposals.
    Proposals,
    /// Changes of a book.
    Changes,
    /// Outcomes of a task.
    Attestations,
}

impl Evidence {
    /// The operator set that it's checked against.
    #[must_use]
    pub const fn epoch(&self) -> EpochNumber {
        match self {
            Self::Precommits { epoch, .. }
            | Self::Prevotes { epoch, .. }
            | Self::Proposals { epoch, .. }
            | Self::Changes { epoch, .. }
            | Self::Attestations { epoch, .. } => *epoch,
        }
    }

    /// What was signed twice.
    #[must_use]
    pub const fn kind(&self) -> OffenceKind {
        match self {
            Self::Precommits { .. } => OffenceKind::Precommits,
            Self::Prevotes { .. } => OffenceKind::Prevotes,
            Self::Proposals { .. } => OffenceKind::Proposals,
            Self::Changes { .. } => OffenceKind::Changes,
            Self::Attestations { .. } => OffenceKind::Attestations,
        }
    }

    /// Checks that one operator signed both contents, that they differ and that their place is one; tells who did. Takes
    /// about 2 ms at most.
    ///
    /// # Errors
    /// [`Error`] names what doesn't hold.
    pub fn verify(
        &self,
        sets: impl Fn(EpochNumber) -> Option<Arc<OperatorSet>>,
    ) -> Result<Address, Error> {
        let set = self.set(sets)?;
        self.check_contents()?;
        let offender = self.offender(&set)?;
        self.check_signatures(&offender, set.chain())?;
        Ok(offender.address)
    }

    /// Whom it accuses, rightly or not: nothing is checked.
    ///
    /// # Errors
    /// [`Error::UnknownEpoch`], [`Error::UnknownOperator`].
    pub fn accused(
        &self,
        sets: impl Fn(EpochNumber) -> Option<Arc<OperatorSet>>,
    ) -> Result<Address, Error> {
        let set = self.set(sets)?;
        self.offender(&set).map(|offender| offender.address)
    }

    fn set(
        &self,
        sets: impl Fn(EpochNumber) -> Option<Arc<OperatorSet>>,
    ) -> Result<Arc<OperatorSet>, Error> {
        let set = sets(self.epoch()).filter(|set| set.epoch() == self.epoch());
        set.ok_or_else(|| Error::UnknownEpoch { epoch: self.epoch() })
    }

    fn check_contents(&self) -> Result<(), Error> {
        let same = match self {
            Self::Precommits { votes, .. } => votes.first == votes.second,
            Self::Prevotes { votes, .. } => votes.first == votes.second,
            Self::Proposals { proposals, .. } => proposals.first == proposals.second,
            Self::Attestations { outcomes, .. } => outcomes.first == outcomes.second,
            Self::Changes { changes: SignedTwice { first, second, .. }, .. } => {
                let place = |head: &ChangeHead| (head.volume, head.author, head.number);
                if place(first) != place(second) {
                    return Err(Error::OtherPlace);
                }
                first == second
            }
        };
        if same { Err(Error::Same) } else { Ok(()) }
    }

    fn offender(&self, set: &OperatorSet) -> Result<Operator, Error> {
        let found = match self {
            Self::Precommits { operator, .. }
            | Self::Prevotes { operator, .. }
            | Self::Proposals { operator, .. } => set.consensus_set().get(*operator).cloned(),
            Self::Attestations { operator, .. } => set.get(*operator).cloned(),
            Self::Changes { changes, .. } => {
                set.index_of_peer(&changes.first.author).and_then(|i| set.get(i)).cloned()
            }
        };
        found.ok_or(Error::UnknownOperator)
    }

    fn check_signatures(&self, offender: &Operator, chain: &ChainId) -> Result<(), Error> {
        let bls =
            |message: Digest, signature: &Signature| offender.bls.verifies(&message, signature);
        let peer = |message: Digest, signature: &[u8; 64]| {
            verify_peer_signature(&offender.peer_key, &message, signature)
        };
        match self {
            Self::Precommits { epoch, height, round, votes, .. } => {
                votes.check(|vote, signature| {
                    bls(
                        signing::precommit(chain, *epoch, *height, *round, vote.as_ref()),
                        signature,
                    )
                })
            }
            Self::Prevotes { epoch, height, round, votes, .. } => votes.check(|vote, signature| {
                peer(signing::prevote(chain, *epoch, *height, *round, vote.as_ref()), signature)
            }),
            Self::Proposals { epoch, height, round, proposals, .. } => {
                proposals.check(|ProposedHeader { valid_round, header }, signature| {
                    let at = (*epoch, *height, *round);
                    let message =
                        signing::checkpoint_proposal(chain, at.0, at.1, at.2, *valid_round, header);
                    peer(message, signature)
                })
            }
            Self::Changes { changes, .. } => {
                changes.check(|head, signature| peer(Digest(head.id(chain).0), signature))
            }
            Self::Attestations { epoch, task, outcomes, .. } => outcomes
                .check(|outcome, s| bls(signing::attestation(chain, *epoch, task, outcome), s)),
        }
    }

    /// The offence's identifier: a hash of who signed twice, and where; not of what. Holds for evidence that verifies
    /// and whose offender [`Self::verify`] told.
    #[must_use]
    pub fn place(&self, chain: &ChainId, offender: &Address) -> Digest {
        let head = |kind| Preimage::new(Domain::Offence, chain).fixed(&offender.0).fixed(&[kind]);
        match self {
            Self::Precommits { epoch, height, round, .. } => {
                head(0).number(epoch.0).number(height.0).number((*round).into())
            }
            Self::Prevotes { epoch, height, round, .. } => {
                head(1).number(epoch.0).number(height.0).number((*round).into())
            }
            Self::Proposals { epoch, height, round, .. } => {
                head(2).number(epoch.0).number(height.0).number((*round).into())
            }
            // Not the epoch: a lane goes on from one to the next.
            Self::Changes { changes: SignedTwice { first, .. }, .. } => {
                let service = match first.volume.book {
                    BookId::Network => None,
                    BookId::Service(service) => Some(service),
                };
                head(3)
                    .fixed(&[u8::from(service.is_some())])
                    .fixed(&service.map_or([0; 32], |id| id.0))
                    .number(first.volume.volume.into())
                    .fixed(&first.author.0)
                    .number(first.number)
            }
            Self::Attestations { epoch, task, .. } => head(4).number(epoch.0).fixed(&task.0),
        }
        .digest()
    }
}

impl<T, S> SignedTwice<T, S> {
    fn check(&self, verifies: impl Fn(&T, &S) -> bool) -> Result<(), Error> {
        let both = verifies(&self.first, &self.first_signature)
            && verifies(&self.second, &self.second_signature);
        if both { Ok(()) } else { Err(Error::Signature) }
    }
}

impl Canonical for Evidence {
    /// Two changes are the longest: twice a head (33 + 4 + 32 + 8 + 32 + 32) and a signature (64), the epoch, the kind.
    const BYTES_MAX: usize = 2 * (33 + 4 + 32 + 8 + 32 + 32 + 64) + 8 + 1;
}

/// Why evidence proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There's no operator set of this epoch.
    #[error("no operator set of epoch {epoch} is known")]
    UnknownEpoch {
        /// Which one.
        epoch: EpochNumber,
    },
    /// The signer isn't in the set.
    #[error("whoever signed isn't in the epoch's operator set")]
    UnknownOperator,
    /// The two are one.
    #[error("both contents are the same")]
    Same,
    /// The two stand at different places, as they may.
    #[error("the contents have different places")]
    OtherPlace,
    /// One of the signatures, or both.
    #[error("a signature doesn't hold")]
    Signature,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OperatorRecord, SecretKey};
    use ed25519_dalek::{Signer as _, SigningKey};
    use lamina_types::{ChangeId, PeerKey, ServiceId, VolumeId};
    use proptest::prelude::*;

    const EPOCH: EpochNumber = EpochNumber(0);

    fn chain() -> ChainId {
        "lamina-test-1".parse().unwrap()
    }

    fn bls(seed: u8) -> SecretKey {
        SecretKey::derive(&[seed; 32])
    }

    fn peer(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn set() -> Arc<OperatorSet> {
        let record = |seed: u8| {
            let key = PeerKey(peer(seed).verifying_key().to_bytes());
            OperatorRecord::new(&chain(), Address([seed; 20]), key, &bls(seed), 1)
        };
        Arc::new(OperatorSet::new(chain(), EPOCH, &[1, 2, 3].map(record)).unwrap())
    }

    fn verify(evidence: &Evidence) -> Result<Address, Error> {
        evidence.verify(|epoch| (epoch == EPOCH).then(set))
    }

    /// Two contents, signed by operator 2.
    fn by_peer<T: Copy>(
        contents: [T; 2],
        message: impl Fn(&T) -> Digest,
    ) -> SignedTwice<T, [u8; 64]> {
        let [first, second] = contents;
        let [first_signature, second_signature] =
            contents.map(|content| peer(2).sign(&message(&content).0).to_bytes());
        SignedTwice { first, first_signature, second, second_signature }
    }

    fn by_bls<T: Copy>(
        contents: [T; 2],
        message: impl Fn(&T) -> Digest,
    ) -> SignedTwice<T, Signature> {
        let [first, second] = contents;
        let [first_signature, second_signature] =
            contents.map(|content| bls(2).sign(&message(&content)));
        SignedTwice { first, first_signature, second, second_signature }
    }

    const HEIGHT: Height = Height(7);
    const ROUND: u32 = 3;
    const TASK: TaskId = TaskId([8; 32]);
    const OPERATOR: OperatorIndex = OperatorIndex(1);

    fn precommits(headers: [Option<HeaderId>; 2]) -> Evidence {
        let message =
            |v: &Option<_>| signing::precommit(&chain(), EPOCH, HEIGHT, ROUND, v.as_ref());
        let votes = by_bls(headers, message);
        Evidence::Precommits {
            epoch: EPOCH,
            height: HEIGHT,
            round: ROUND,
            operator: OPERATOR,
            votes,
        }
    }

    fn prevotes(headers: [Option<HeaderId>; 2]) -> Evidence {
        let message = |v: &Option<_>| signing::prevote(&chain(), EPOCH, HEIGHT, ROUND, v.as_ref());
        let votes = by_peer(headers, message);
        Evidence::Prevotes { epoch: EPOCH, height: HEIGHT, round: ROUND, operator: OPERATOR, votes }
    }

    fn proposals(headers: [ProposedHeader; 2]) -> Evidence {
        let proposals = by_peer(headers, |p: &ProposedHeader| {
            let at = (EPOCH, HEIGHT, ROUND);
            signing::checkpoint_proposal(&chain(), at.0, at.1, at.2, p.valid_round, &p.header)
        });
        Evidence::Proposals {
            epoch: EPOCH,
            height: HEIGHT,
            round: ROUND,
            operator: OPERATOR,
            proposals,
        }
    }

    fn change(operations: u8) -> ChangeHead {
        ChangeHead {
            volume: VolumeId { book: BookId::Service(ServiceId([1; 32])), volume: 4 },
            author: PeerKey(peer(2).verifying_key().to_bytes()),
            number: 5,
            previous: ChangeId([6; 32]),
            operations: Digest([operations; 32]),
        }
    }

    fn changes(heads: [ChangeHead; 2]) -> Evidence {
        let changes = by_peer(heads, |head: &ChangeHead| Digest(head.id(&chain()).0));
        Evidence::Changes { epoch: EPOCH, changes }
    }

    fn attestations(outcomes: [Digest; 2]) -> Evidence {
        let message = |outcome: &_| signing::attestation(&chain(), EPOCH, &TASK, outcome);
        let outcomes = by_bls(outcomes, message);
        Evidence::Attestations { epoch: EPOCH, task: TASK, operator: OPERATOR, outcomes }
    }

    fn header(seed: u8) -> HeaderId {
        HeaderId([seed; 32])
    }

    fn proposed(valid_round: Option<u32>, seed: u8) -> ProposedHeader {
        ProposedHeader { valid_round, header: header(seed) }
    }

    fn of_each_kind() -> [Evidence; 5] {
        [
            precommits([Some(header(1)), None]),
            prevotes([Some(header(1)), Some(header(2))]),
            proposals([proposed(None, 1), proposed(None, 2)]),
            changes([change(1), change(2)]),
            attestations([Digest([1; 32]), Digest([2; 32])]),
        ]
    }

    #[test]
    fn evidence_of_each_kind_names_the_offender() {
        for evidence in of_each_kind() {
            assert_eq!(verify(&evidence), Ok(Address([2; 20])), "{:?}", evidence.kind());
            assert_eq!(Evidence::from_bytes(&evidence.to_bytes()), Ok(evidence));
        }
    }

    #[test]
    fn two_proposals_of_one_header_with_other_valid_rounds_are_two() {
        let evidence = proposals([proposed(None, 1), proposed(Some(0), 1)]);
        assert_eq!(verify(&evidence), Ok(Address([2; 20])));
    }

    #[test]
    fn signing_the_same_again_is_no_offence() {
        let same = [
            precommits([None; 2]),
            prevotes([Some(header(1)); 2]),
            proposals([proposed(None, 1); 2]),
            changes([change(1); 2]),
            attestations([Digest([1; 32]); 2]),
        ];
        for evidence in same {
            assert_eq!(verify(&evidence), Err(Error::Same), "{:?}", evidence.kind());
        }
    }

    /// Each kind with the index (or the key) of somebody else, or another height, number or task than was signed.
    #[test]
    fn signatures_of_others_or_on_other_places_prove_nothing() {
        for mut evidence in of_each_kind() {
            match &mut evidence {
                Evidence::Precommits { operator, .. }
                | Evidence::Prevotes { operator, .. }
                | Evidence::Proposals { operator, .. }
                | Evidence::Attestations { operator, .. } => operator.0 = 0,
                Evidence::Changes { changes, .. } => {
                    let other = PeerKey(peer(1).verifying_key().to_bytes());
                    (changes.first.author, changes.second.author) = (other, other);
                }
            }
            assert_eq!(verify(&evidence), Err(Error::Signature), "{:?}", evidence.kind());
        }
        for mut evidence in of_each_kind() {
            match &mut evidence {
                Evidence::Precommits { height, .. } => height.0 += 1,
                Evidence::Prevotes { round, .. } | Evidence::Proposals { round, .. } => *round += 1,
                Evidence::Attestations { task, .. } => task.0[0] ^= 1,
                Evidence::Changes { changes, .. } => {
                    changes.first.number += 1;
                    changes.second.number += 1;
                }
            }
            assert_eq!(verify(&evidence), Err(Error::Signature), "{:?}", evidence.kind());
        }
    }

    #[test]
    fn one_signature_is_not_enough() {
        let forged = |first: bool| {
            let mut evidence = precommits([Some(header(1)), Some(header(2))]);
            if let Evidence::Precommits { votes, .. } = &mut evidence {
                let signature = bls(3).sign(&Digest([1; 32]));
                let forged =
                    if first { &mut votes.first_signature } else { &mut votes.second_signature };
                *forged = signature;
            }
            verify(&evidence)
        };
        assert_eq!([forged(true), forged(false)], [Err(Error::Signature), Err(Error::Signature)]);
    }

    #[test]
    fn changes_of_two_places_are_no_offence() {
        let places: [fn(&mut ChangeHead); 3] = [
            |head| head.number += 1,
            |head| head.volume.volume += 1,
            |head| head.volume.book = BookId::Network,
        ];
        for place in places {
            let mut second = change(2);
            place(&mut second);
            assert_eq!(verify(&changes([change(1), second])), Err(Error::OtherPlace));
        }
    }

    #[test]
    fn signers_outside_the_set_and_unknown_epochs_are_refused() {
        let mut stranger = prevotes([Some(header(1)), None]);
        if let Evidence::Prevotes { operator, .. } = &mut stranger {
            operator.0 = 3;
        }
        assert_eq!(verify(&stranger), Err(Error::UnknownOperator));
        let evidence = changes([change(1), change(2)]);
        assert_eq!(evidence.verify(|_| None), Err(Error::UnknownEpoch { epoch: EPOCH }));
        let mut later = evidence;
        if let Evidence::Changes { epoch, .. } = &mut later {
            epoch.0 = 1;
        }
        let unknown = Error::UnknownEpoch { epoch: EpochNumber(1) };
        assert_eq!(later.verify(|_| Some(set())), Err(unknown));
    }

    #[test]
    fn places_differ_by_kind_and_offender_and_not_by_contents() {
        let place = |evidence: &Evidence, seed| evidence.place(&chain(), &Address([seed; 20]));
        let mut places: std::collections::BTreeSet<_> =
            of_each_kind().iter().map(|evidence| place(evidence, 2)).collect();
        assert_eq!(places.len(), 5);
        assert!(!places.insert(place(&precommits([None, Some(header(9))]), 2)));
        assert!(!places.insert(place(&changes([change(9), change(1)]), 2)));
        assert!(places.insert(place(&precommits([None, Some(header(9))]), 1)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            if let Ok(evidence) = Evidence::from_bytes(&bytes) {
                prop_assert_eq!(evidence.to_bytes(), bytes);
                prop_assert!(verify(&evidence).is_err());
            }
        }

        #[test]
        fn one_changed_bit_never_proves_an_offence_of_another(kind in 0usize..5, bit in any::<prop::sample::Index>()) {
            let mut bytes = of_each_kind()[kind].to_bytes();
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(evidence) = Evidence::from_bytes(&bytes) {
                prop_assert!(verify(&evidence).is_err());
            }
        }
    }
}
