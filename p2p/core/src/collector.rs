use std::collections::BTreeMap;

use lamina_certificate::{OperatorSet, SignerBitmap, VerifiedAttestation, VerifiedTaskCertificate};
use lamina_types::{Digest, OperatorIndex};

/// Outcomes for which one operator's attestations are kept: its first, and a second one as evidence of equivocation.
const OUTCOMES_PER_OPERATOR: usize = 2;

/// Collects the attestations on one task until a quorum attests the same outcome.
///
/// Attestations are grouped by outcome, so an early or wrong answer poisons nothing; order and repeats don't matter. What is
/// kept is bounded: two attestations per operator. The certificate is made from the group that first has a quorum; two
/// groups can't both have one with fewer than a third of the stake at fault.
#[derive(Debug, Clone, Default)]
pub struct Collector {
    groups: BTreeMap<Digest, BTreeMap<OperatorIndex, VerifiedAttestation>>,
}

/// What an attestation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It's new.
    New,
    /// It was there.
    Known,
    /// It's new, and its operator had attested another outcome: both are kept as evidence.
    Equivocation,
    /// Its operator had attested two other outcomes already; it's dropped.
    Dropped,
}

impl Collector {
    /// Adds an attestation. All must be on one task and of one operator set; that's the caller's to see to.
    pub fn insert(&mut self, attestation: VerifiedAttestation) -> Inserted {
        let (operator, outcome) = (attestation.get().operator, attestation.get().outcome);
        if self.contains(operator, &outcome) {
            return Inserted::Known;
        }
        let before = self.groups.values().filter(|group| group.contains_key(&operator)).count();
        if before >= OUTCOMES_PER_OPERATOR {
            return Inserted::Dropped;
        }
        self.groups.entry(outcome).or_default().insert(operator, attestation);
        if before == 0 { Inserted::New } else { Inserted::Equivocation }
    }

    /// Whether this operator's attestation of this outcome is there.
    #[must_use]
    pub fn contains(&self, operator: OperatorIndex, outcome: &Digest) -> bool {
        self.groups.get(outcome).is_some_and(|group| group.contains_key(&operator))
    }

    /// The certificate of the outcome that a quorum attests, if there is one.
    #[must_use]
    pub fn certify(&self, set: &OperatorSet) -> Option<VerifiedTaskCertificate> {
        self.groups.values().find(|group| set.is_quorum(stake_of(set, group))).and_then(|group| {
            VerifiedTaskCertificate::aggregate(set, &group.values().cloned().collect::<Vec<_>>())
        })
    }

    /// All attestations, group by group.
    pub fn iter(&self) -> impl Iterator<Item = &VerifiedAttestation> {
        self.groups.values().flat_map(BTreeMap::values)
    }

    /// Who attested anything, of a set of `size` operators.
    #[must_use]
    pub fn signers(&self, size: u16) -> SignerBitmap {
        let mut signers = SignerBitmap::empty(size);
        for attestation in self.iter() {
            signers.insert(attestation.get().operator);
        }
        signers
    }

    /// The outcomes that were attested, each with the stake behind it, in gwei.
    pub fn outcomes(&self, set: &OperatorSet) -> impl Iterator<Item = (Digest, u64)> {
        self.groups.iter().map(|(outcome, group)| (*outcome, stake_of(set, group)))
    }
}

fn stake_of(set: &OperatorSet, group: &BTreeMap<OperatorIndex, VerifiedAttestation>) -> u64 {
    group.keys().filter_map(|i| set.get(*i)).map(|operator| operator.stake_gwei).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lamina_certificate::{Attestation, OperatorRecord, SecretKey};
    use lamina_types::{Address, ChainId, EpochNumber, PeerKey, TaskId};
    use proptest::prelude::*;

    const TASK: TaskId = TaskId([1; 32]);
    const RIGHT: Digest = Digest([2; 32]);
    const WRONG: Digest = Digest([3; 32]);

    fn set_of_four() -> OperatorSet {
        let chain: ChainId = "lamina-test-1".parse().unwrap();
        let records: Vec<_> = (0..4u8)
            .map(|i| {
                OperatorRecord::new(&chain, Address([i; 20]), PeerKey([i; 32]), &key(i.into()), 1)
            })
            .collect();
        OperatorSet::new(chain, EpochNumber(0), &records).unwrap()
    }

    fn key(operator: u16) -> SecretKey {
        SecretKey::derive(&[u8::try_from(operator).unwrap(); 32])
    }

    fn attest(set: &OperatorSet, operator: u16, outcome: Digest) -> VerifiedAttestation {
        Attestation::sign(set, OperatorIndex(operator), &key(operator), TASK, outcome)
            .verify(set)
            .unwrap()
    }

    #[test]
    fn a_wrong_answer_does_not_stop_the_right_certificate() {
        let set = set_of_four();
        let mut collector = Collector::default();
        assert_eq!(collector.insert(attest(&set, 3, WRONG)), Inserted::New);
        for operator in 0..3 {
            assert_eq!(collector.certify(&set), None);
            collector.insert(attest(&set, operator, RIGHT));
        }
        let certificate = collector.certify(&set).unwrap();
        assert_eq!(certificate.get().outcome, RIGHT);
        assert_eq!(certificate.get().signers.count(), 3);
    }

    #[test]
    fn what_one_operator_can_store_is_bounded() {
        let set = set_of_four();
        let mut collector = Collector::default();
        let outcomes = [1, 2, 3, 2].map(|i| Digest([i; 32]));
        let inserted = outcomes.map(|outcome| collector.insert(attest(&set, 0, outcome)));
        use Inserted::{Dropped, Equivocation, Known, New};
        assert_eq!(inserted, [New, Equivocation, Dropped, Known]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn order_and_repeats_do_not_matter(order in prop::collection::vec(0u16..4, 0..12)) {
            let set = set_of_four();
            let mut collector = Collector::default();
            for operator in &order {
                collector.insert(attest(&set, *operator, RIGHT));
            }
            let distinct: std::collections::BTreeSet<_> = order.iter().collect();
            prop_assert_eq!(collector.certify(&set).is_some(), distinct.len() >= 3);
            prop_assert_eq!(collector.signers(4).count(), distinct.len());
        }
    }
}
