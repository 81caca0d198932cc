use std::collections::BTreeMap;

use lamina_types::signing::{Domain, Preimage};
use lamina_types::{Address, ChainId, Digest, EpochNumber, OperatorIndex, PeerKey, signing};
use serde::{Deserialize, Serialize};

use crate::SignerBitmap;
use crate::bls::{KeySum, PublicKey, SecretKey, Signature};

/// Most operators in a set. Bounds every bitmap and message that grows with the set.
pub const OPERATORS_MAX: usize = 10_000;

/// Most operators that finalise checkpoints. A certificate of so many is verified on chain for about 220k gas, and their votes
/// on one checkpoint are about 20,000 messages in a full mesh.
pub const CONSENSUS_OPERATORS_MAX: usize = 100;

/// What an operator says of itself, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorRecord {
    /// Its Ethereum account.
    pub address: Address,
    /// Its node's ed25519 key.
    pub peer_key: PeerKey,
    /// Its BLS12-381 public key: compressed, hexadecimal.
    pub bls_public_key: Hex<48>,
    /// Its signature on [`signing::proof_of_possession`]: compressed, hexadecimal.
    pub proof_of_possession: Hex<96>,
    /// Its stake, in gwei.
    pub stake_gwei: u64,
}

impl OperatorRecord {
    /// The record of an operator whose keys come from a genesis file that names no registrar.
    #[must_use]
    pub fn new(
        chain: &ChainId,
        address: Address,
        peer_key: PeerKey,
        bls: &SecretKey,
        stake_gwei: u64,
    ) -> Self {
        Self::for_registrar(chain, &NO_REGISTRAR, address, peer_key, bls, stake_gwei)
    }

    /// The record of an operator whose keys a registrar knows, on Ethereum.
    #[must_use]
    pub fn for_registrar(
        chain: &ChainId,
        registrar: &Address,
        address: Address,
        peer_key: PeerKey,
        bls: &SecretKey,
        stake_gwei: u64,
    ) -> Self {
        let key = bls.public_key().to_bytes();
        let message = signing::proof_of_possession(chain, &address, registrar, &key);
        let proof = bls.sign(&message);
        Self {
            address,
            peer_key,
            bls_public_key: Hex(key),
            proof_of_possession: Hex(proof.to_bytes()),
            stake_gwei,
        }
    }

    fn check(
        &self,
        chain: &ChainId,
        registrar: &Address,
        index: OperatorIndex,
    ) -> Result<Operator, Error> {
        if self.stake_gwei == 0 {
            return Err(Error::NoStake { index });
        }
        let bls = PublicKey::from_bytes(&self.bls_public_key.0)
            .map_err(|_| Error::InvalidKey { index })?;
        let key = &self.bls_public_key.0;
        let message = signing::proof_of_possession(chain, &self.address, registrar, key);
        match Signature::from_bytes(&self.proof_of_possession.0) {
            Ok(proof) if bls.verifies(&message, &proof) => Ok(Operator {
                address: self.address,
                peer_key: self.peer_key,
                bls,
                stake_gwei: self.stake_gwei,
            }),
            _ => Err(Error::NoPossession { index }),
        }
    }
}

/// In the place of a registrar where Ethereum has none.
pub const NO_REGISTRAR: Address = Address([0; 20]);

/// Fixed bytes that are written as `0x…` in JSON and TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hex<const N: usize>(pub [u8; N]);

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("0x{}", hex::encode(self.0)))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; N];
        hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(&text), &mut bytes)
            .map_err(|e| serde::de::Error::custom(format!("expected {N} bytes: {e}")))?;
        Ok(Self(bytes))
    }
}

/// A member of a set; its keys are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Its Ethereum account.
    pub address: Address,
    /// Its node's ed25519 key.
    pub peer_key: PeerKey,
    /// Its BLS12-381 key.
    pub bls: PublicKey,
    /// Its stake, in gwei.
    pub stake_gwei: u64,
}

/// The operators of one epoch, in a fixed order, with their stake.
#[derive(Debug, Clone)]
pub struct OperatorSet {
    chain: ChainId,
    epoch: EpochNumber,
    operators: Vec<Operator>,
    by_peer: BTreeMap<PeerKey, OperatorIndex>,
    stake_gwei: u64,
    key_sum: KeySum,
}

impl OperatorSet {
    /// Checks all records, made for no registrar; takes about a millisecond each.
    ///
    /// # Errors
    /// The first record that doesn't hold, see [`Error`].
    pub fn new(
        chain: ChainId,
        epoch: EpochNumber,
        records: &[OperatorRecord],
    ) -> Result<Self, Error> {
        Self::for_registrar(chain, &NO_REGISTRAR, epoch, records)
    }

    /// The same of records that were made for this registrar.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn for_registrar(
        chain: ChainId,
        registrar: &Address,
        epoch: EpochNumber,
        records: &[OperatorRecord],
    ) -> Result<Self, Error> {
        if records.is_empty() || records.len() > OPERATORS_MAX {
            return Err(Error::Size { count: records.len() });
        }
        let check = |(index, record): (u16, &OperatorRecord)| {
            record.check(&chain, registrar, OperatorIndex(index))
        };
        let operators = (0..).zip(records).map(check).collect::<Result<Vec<_>, _>>()?;
        Self::of_operators(chain, epoch, operators)
    }

    /// A set of operators whose keys were checked before.
    ///
    /// # Errors
    /// See [`Error`]; never of keys or proofs.
    pub fn of_operators(
        chain: ChainId,
        epoch: EpochNumber,
        operators: Vec<Operator>,
    ) -> Result<Self, Error> {
        if operators.is_empty() || operators.len() > OPERATORS_MAX {
            return Err(Error::Size { count: operators.len() });
        }
        let mut set = Self {
            chain,
            epoch,
            operators: Vec::with_capacity(operators.len()),
            by_peer: BTreeMap::new(),
            stake_gwei: 0,
            key_sum: KeySum::default(),
        };
        let (mut addresses, mut keys) = (BTreeMap::new(), BTreeMap::new());
        for (index, operator) in (0..).map(OperatorIndex).zip(operators) {
            let earlier = [
                addresses.insert(operator.address, index),
                keys.insert(operator.bls.to_bytes(), index),
                set.by_peer.insert(operator.peer_key, index),
            ];
            if let Some(first) = earlier.into_iter().flatten().next() {
                return Err(Error::Repeated { first, second: index });
            }
            set.stake_gwei =
                set.stake_gwei.checked_add(operator.stake_gwei).ok_or(Error::StakeOverflow)?;
            set.key_sum.add(&operator.bls);
            set.operators.push(operator);
        }
        Ok(set)
    }

    /// The operators who finalise checkpoints: the [`CONSENSUS_OPERATORS_MAX`] of highest stake (of equal ones those that
    /// come first), in this set's order.
    ///
    /// # Panics
    /// Never: a part of a set is a set.
    #[must_use]
    pub fn consensus_set(&self) -> Self {
        let mut ranked: Vec<_> = self.iter().collect();
        ranked.sort_by_key(|(index, operator)| (std::cmp::Reverse(operator.stake_gwei), *index));
        ranked.truncate(CONSENSUS_OPERATORS_MAX);
        ranked.sort_by_key(|(index, _)| *index);
        let operators = ranked.into_iter().map(|(_, operator)| operator.clone()).collect();
        Self::of_operators(self.chain.clone(), self.epoch, operators).expect("a part of a set")
    }

    /// The set's root: a hash of its epoch and of each operator's account, keys and stake, in order.
    #[must_use]
    pub fn root(&self) -> Digest {
        let head = Preimage::new(Domain::OperatorSet, &self.chain)
            .number(self.epoch.0)
            .number(self.operators.len() as u64);
        let member = |preimage: Preimage, operator: &Operator| {
            preimage
                .fixed(&operator.address.0)
                .fixed(&operator.peer_key.0)
                .fixed(&operator.bls.to_bytes())
                .number(operator.stake_gwei)
        };
        self.operators.iter().fold(head, member).digest()
    }

    /// The network.
    #[must_use]
    pub const fn chain(&self) -> &ChainId {
        &self.chain
    }

    /// The epoch.
    #[must_use]
    pub const fn epoch(&self) -> EpochNumber {
        self.epoch
    }

    /// The operators in their order, with their indices.
    pub fn iter(&self) -> impl Iterator<Item = (OperatorIndex, &Operator)> {
        (0..).map(OperatorIndex).zip(&self.operators)
    }

    /// The operator at `index`.
    #[must_use]
    pub fn get(&self, index: OperatorIndex) -> Option<&Operator> {
        self.operators.get(usize::from(index.0))
    }

    /// Which operator's node has this key.
    #[must_use]
    pub fn index_of_peer(&self, key: &PeerKey) -> Option<OperatorIndex> {
        self.by_peer.get(key).copied()
    }

    /// How many operators there are.
    ///
    /// # Panics
    /// Never: a set has at most [`OPERATORS_MAX`].
    #[must_use]
    pub fn size(&self) -> u16 {
        u16::try_from(self.operators.len()).expect("bounded by OPERATORS_MAX")
    }

    /// Everyone's stake, in gwei.
    #[must_use]
    pub const fn stake_gwei(&self) -> u64 {
        self.stake_gwei
    }

    /// The stake of `signers`, in gwei. Bits beyond the set count nothing.
    #[must_use]
    pub fn stake_of(&self, signers: &SignerBitmap) -> u64 {
        signers.iter().filter_map(|i| self.get(i)).map(|operator| operator.stake_gwei).sum()
    }

    /// Whether `stake_gwei` is a quorum: more than two thirds of everyone's.
    #[must_use]
    pub const fn is_quorum(&self, stake_gwei: u64) -> bool {
        stake_gwei as u128 * 3 > self.stake_gwei as u128 * 2
    }

    /// The sum of the signers' keys: of those present, or of all less those absent, whichever are fewer.
    pub(crate) fn aggregate_key(&self, signers: &SignerBitmap) -> Option<PublicKey> {
        let mut sum;
        if signers.count() * 2 < self.operators.len() {
            sum = KeySum::default();
            signers.iter().filter_map(|i| self.get(i)).for_each(|o| sum.add(&o.bls));
        } else {
            sum = self.key_sum;
            self.iter()
                .filter(|(i, _)| !signers.contains(*i))
                .for_each(|(_, o)| sum.subtract(&o.bls));
        }
        sum.key()
    }

    /// What operators sign to attest an outcome, in this epoch on this network.
    #[must_use]
    pub fn attestation_message(&self, task: &lamina_types::TaskId, outcome: &Digest) -> Digest {
        signing::attestation(&self.chain, self.epoch, task, outcome)
    }
}

/// Why records don't make a set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// None, or too many.
    #[error("{count} operators; a set has 1 to {OPERATORS_MAX}")]
    Size {
        /// How many records there are.
        count: usize,
    },
    /// An operator without stake.
    #[error("operator {index} has no stake")]
    NoStake {
        /// Which one.
        index: OperatorIndex,
    },
    /// A BLS key that isn't one.
    #[error("operator {index} has an invalid BLS key")]
    InvalidKey {
        /// Which one.
        index: OperatorIndex,
    },
    /// The proof of possession doesn't hold for this account on this network.
    #[error("operator {index}'s proof of possession doesn't hold on this chain")]
    NoPossession {
        /// Which one.
        index: OperatorIndex,
    },
    /// Two records share an account or a key.
    #[error("operators {first} and {second} share an account or a key")]
    Repeated {
        /// The one that came first.
        first: OperatorIndex,
        /// The one that repeats it.
        second: OperatorIndex,
    },
    /// The stakes' sum doesn't fit into 64 bits.
    #[error("the operators' stakes add up to more than 64 bits hold")]
    StakeOverflow,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> ChainId {
        "lamina-test-1".parse().unwrap()
    }

    fn record(seed: u8, stake_gwei: u64) -> OperatorRecord {
        let bls = SecretKey::derive(&[seed; 32]);
        let address = Address([seed; 20]);
        OperatorRecord::new(&chain(), address, PeerKey([seed; 32]), &bls, stake_gwei)
    }

    fn set_of(records: &[OperatorRecord]) -> Result<OperatorSet, Error> {
        OperatorSet::new(chain(), EpochNumber(0), records)
    }

    #[test]
    fn quorum_is_more_than_two_thirds() {
        let set = set_of(&[record(1, 1), record(2, 1), record(3, 1)]).unwrap();
        assert!(!set.is_quorum(2));
        assert!(set.is_quorum(3));
    }

    #[test]
    fn consensus_set_has_the_highest_stakes_in_the_set_s_order() {
        let stake = |i: u8| if i == 7 { 1 } else { 1 + u64::from(i) };
        let operators: Vec<_> = (1..=120).map(|i| record(i, stake(i))).collect();
        let set = set_of(&operators).unwrap();
        let consensus = set.consensus_set();
        assert_eq!(usize::from(consensus.size()), CONSENSUS_OPERATORS_MAX);
        let first = consensus.get(OperatorIndex(0)).unwrap();
        assert_eq!(first.stake_gwei, 22);
        assert!(
            consensus
                .iter()
                .zip(consensus.iter().skip(1))
                .all(|(a, b)| a.1.stake_gwei < b.1.stake_gwei)
        );
        assert_ne!(consensus.root(), set.root());
    }

    #[test]
    fn stakes_near_the_limit_do_not_overflow_the_quorum() {
        let set = set_of(&[record(1, u64::MAX - 1), record(2, 1)]).unwrap();
        assert!(set.is_quorum(u64::MAX - 1));
        assert!(!set.is_quorum(1));
        assert_eq!(set_of(&[record(1, u64::MAX), record(2, 1)]).unwrap_err(), Error::StakeOverflow);
    }

    #[test]
    fn a_copied_key_is_refused_without_its_secret() {
        let mut thief = record(2, 1);
        let victim = record(1, 1);
        thief.bls_public_key = victim.bls_public_key;
        thief.proof_of_possession = victim.proof_of_possession;
        let error = set_of(&[victim, thief]).unwrap_err();
        assert_eq!(error, Error::NoPossession { index: OperatorIndex(1) });
    }

    #[test]
    fn a_record_holds_for_its_registrar_alone() {
        let (registrar, other) = (Address([8; 20]), Address([9; 20]));
        let (bls, address) = (SecretKey::derive(&[1; 32]), Address([1; 20]));
        let record =
            OperatorRecord::for_registrar(&chain(), &registrar, address, PeerKey([1; 32]), &bls, 1);
        let set = |registrar: &Address| {
            let records = std::slice::from_ref(&record);
            OperatorSet::for_registrar(chain(), registrar, EpochNumber(0), records)
        };
        assert!(set(&registrar).is_ok());
        let error = Error::NoPossession { index: OperatorIndex(0) };
        assert_eq!(set(&other).unwrap_err(), error);
        assert_eq!(set(&NO_REGISTRAR).unwrap_err(), error);
    }

    #[test]
    fn repeated_operators_and_empty_stakes_are_named() {
        let repeated = Error::Repeated { first: OperatorIndex(0), second: OperatorIndex(1) };
        assert_eq!(set_of(&[record(1, 1), record(1, 1)]).unwrap_err(), repeated);
        let empty = Error::NoStake { index: OperatorIndex(0) };
        assert_eq!(set_of(&[record(1, 0)]).unwrap_err(), empty);
        assert_eq!(set_of(&[]).unwrap_err(), Error::Size { count: 0 });
    }

    #[test]
    fn key_sum_is_the_same_from_either_side() {
        let records: Vec<_> = (1..=7).map(|i| record(i, 1)).collect();
        let set = set_of(&records).unwrap();
        for count in 1..=7 {
            let mut signers = SignerBitmap::empty(7);
            let mut direct = KeySum::default();
            for i in 0..count {
                signers.insert(OperatorIndex(i));
                direct.add(&set.get(OperatorIndex(i)).unwrap().bls);
            }
            assert_eq!(set.aggregate_key(&signers), direct.key());
        }
    }
}
