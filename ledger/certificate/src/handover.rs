use borsh::{BorshDeserialize, BorshSerialize};
use lamina_types::{Address, Canonical, EpochNumber, Height, List, PeerKey, canonical};

use crate::{
    CertificateError, Checkpoint, Genesis, GenesisError, Operator, OperatorSet, OperatorSetError,
    PublicKey,
};

/// Most operators of a set that comes from Ethereum: what the contracts hold.
pub const HANDOVER_OPERATORS_MAX: usize = 1_900;
/// Most handovers in one [`HandoverFile`]: daily ones of a hundred years.
const HANDOVERS_MAX: usize = 36_525;
/// Longest [`HandoverFile`], in bytes: ten years of daily epochs with 150 operators take about 64 MB.
pub const HANDOVER_FILE_BYTES_MAX: usize = 256 << 20;

/// How one epoch's operators hand over to the next ones: the last checkpoint that the former signed, whose header names the
/// latter by their set's root.
///
/// From the genesis file on, each handover shows the next set to whoever trusts the one before. That's no help against
/// operators who left long ago and whose keys are for sale: who can, compares with the snapshots on Ethereum.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Handover {
    /// The last checkpoint of the epoch before.
    pub checkpoint: Checkpoint,
    /// The new epoch's number.
    pub epoch: EpochNumber,
    operators: List<Keys, HANDOVER_OPERATORS_MAX>,
}

/// An operator, its BLS key not yet decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct Keys {
    address: Address,
    peer_key: PeerKey,
    bls: [u8; 48],
    stake_gwei: u64,
}

impl Handover {
    /// What shows that `set` follows `checkpoint`.
    ///
    /// # Errors
    /// [`HandoverError::Malformed`]: the set has more operators than one on Ethereum can have.
    pub fn new(checkpoint: Checkpoint, set: &OperatorSet) -> Result<Self, HandoverError> {
        let keys = |operator: &Operator| Keys {
            address: operator.address,
            peer_key: operator.peer_key,
            bls: operator.bls.to_bytes(),
            stake_gwei: operator.stake_gwei,
        };
        let operators: Vec<Keys> = set.iter().map(|(_, operator)| keys(operator)).collect();
        Ok(Self { checkpoint, epoch: set.epoch(), operators: List::new(operators)? })
    }

    /// The first checkpoint that the new set signs.
    #[must_use]
    pub const fn first(&self) -> Height {
        Height(self.checkpoint.header.height.0.saturating_add(1))
    }

    /// The new set, if the operators of `set` handed over to it. Takes about 50 µs an operator.
    ///
    /// That the new operators have their keys is what `set` vouches for: Ethereum's contract checked it.
    ///
    /// # Errors
    /// [`HandoverError`] names what doesn't hold.
    pub fn verify(&self, set: &OperatorSet) -> Result<OperatorSet, HandoverError> {
        if self.epoch <= set.epoch() {
            return Err(HandoverError::Order { epoch: self.epoch, after: set.epoch() });
        }
        self.checkpoint.verify(&set.consensus_set())?;
        let operator = |keys: &Keys| {
            let bls = PublicKey::from_bytes(&keys.bls).map_err(|_| HandoverError::Key)?;
            let Keys { address, peer_key, stake_gwei, .. } = *keys;
            Ok(Operator { address, peer_key, bls, stake_gwei })
        };
        let operators =
            self.operators.as_slice().iter().map(operator).collect::<Result<_, HandoverError>>()?;
        let next = OperatorSet::of_operators(set.chain().clone(), self.epoch, operators)?;
        if next.root() == self.checkpoint.header.next_operators {
            Ok(next)
        } else {
            Err(HandoverError::OtherSet { epoch: self.epoch })
        }
    }
}

impl Canonical for Handover {
    const BYTES_MAX: usize = Checkpoint::BYTES_MAX + 8 + 4 + HANDOVER_OPERATORS_MAX * 108;
}

/// All handovers of a network since its genesis: with the genesis file, what later epochs' certificates are verified by.
///
/// Bytes: `LAMINAHO`, version (1), then the handovers in [Borsh](https://borsh.io), ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HandoverFile(List<Handover, HANDOVERS_MAX>);

const MAGIC: &[u8] = b"LAMINAHO\x01";

#[derive(BorshSerialize, BorshDeserialize)]
struct Content(List<Handover, HANDOVERS_MAX>);

impl Canonical for Content {
    const BYTES_MAX: usize = HANDOVER_FILE_BYTES_MAX;
}

impl HandoverFile {
    /// Puts handovers together, which ascend.
    ///
    /// # Errors
    /// [`HandoverError::Malformed`]: too many.
    pub fn new(handovers: Vec<Handover>) -> Result<Self, HandoverError> {
        Ok(Self(List::new(handovers)?))
    }

    /// Reads a file; whether it holds is for [`Self::epochs`] to tell.
    ///
    /// # Errors
    /// [`HandoverError::OtherKind`], [`HandoverError::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HandoverError> {
        let content = bytes.strip_prefix(MAGIC).ok_or(HandoverError::OtherKind)?;
        Ok(Self(Content::from_bytes(content)?.0))
    }

    /// The file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [MAGIC, &Content(self.0.clone()).to_bytes()].concat()
    }

    /// The operator sets of all epochs, each with the first checkpoint that it signs, ascending: those of the genesis file,
    /// then those that were handed over to.
    ///
    /// # Errors
    /// [`HandoverError`] names what doesn't hold.
    pub fn epochs(&self, genesis: &Genesis) -> Result<Vec<(Height, OperatorSet)>, HandoverError> {
        let mut epochs = genesis.epochs()?;
        for handover in self.0.as_slice() {
            let (before, set) = epochs.last().expect("a genesis file has an epoch");
            let first = handover.first();
            if first <= *before {
                return Err(HandoverError::Order { epoch: handover.epoch, after: set.epoch() });
            }
            let next = handover.verify(set)?;
            epochs.push((first, next));
        }
        Ok(epochs)
    }
}

/// Why a handover doesn't hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandoverError {
    /// Not such a file, or of another version.
    #[error("not a file of handovers of version 1")]
    OtherKind,
    /// Doesn't decode, or is out of bounds.
    #[error("malformed: {0}")]
    Malformed(#[from] canonical::Error),
    /// The genesis file doesn't hold.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// It isn't of a later epoch.
    #[error("a handover to epoch {epoch} after epoch {after}")]
    Order {
        /// Its epoch.
        epoch: EpochNumber,
        /// The one that hands over.
        after: EpochNumber,
    },
    /// The checkpoint isn't one of the epoch before.
    #[error("the checkpoint that hands over doesn't hold: {0}")]
    Certificate(#[from] CertificateError),
    /// A BLS key is no point of its group.
    #[error("an operator's BLS key isn't one")]
    Key,
    /// The operators don't make a set.
    #[error("the new operators don't make a set: {0}")]
    Operators(#[from] OperatorSetError),
    /// The checkpoint names other operators.
    #[error("the checkpoint hands over to other operators than those given for epoch {epoch}")]
    OtherSet {
        /// The new epoch.
        epoch: EpochNumber,
    },
}
