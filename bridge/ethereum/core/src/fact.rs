use lamina_certificate::Operator;
use lamina_types::{
    Address, Amount, Asset, Digest, EpochNumber, EthereumBlock, HeaderId, Height, PeerKey,
    ServiceId, TaskId,
};

/// A finalised block, and what happened in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalBlock {
    /// The block.
    pub block: EthereumBlock,
    /// In the order in which it happened; possibly nothing.
    pub facts: Vec<Fact>,
}

/// Something that happened in Lamina's contracts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fact {
    /// Value came in.
    Deposited(Deposit),
    /// Somebody asks for a task.
    TaskRequested {
        /// The request's number, from 0, without gaps.
        index: u64,
        /// Of which service.
        service: ServiceId,
        /// Who asks.
        requester: Address,
        /// On what; as long as the contract takes.
        input: Vec<u8>,
    },
    /// An operator registered.
    OperatorRegistered(Registration),
    /// An operator left.
    OperatorDeregistered {
        /// Its account.
        account: Address,
        /// The index of the registration that is over.
        index: u64,
    },
    /// An operator set was snapshotted.
    EpochStarted(Snapshot),
    /// A checkpoint was anchored.
    Anchored {
        /// Its number.
        height: Height,
        /// Its header.
        header: HeaderId,
        /// The epoch of its certificate.
        epoch: EpochNumber,
        /// Who submitted it.
        submitter: Address,
        /// The hash of the transaction.
        transaction: Digest,
    },
    /// A claim was paid.
    ClaimPaid {
        /// Its index in the tree of claims.
        index: u64,
        /// Who was paid.
        recipient: Address,
        /// In what.
        asset: Asset,
        /// How much.
        amount: Amount,
    },
    /// A task's outcome was verified.
    TaskResult {
        /// Which task.
        task: TaskId,
        /// The outcome's digest.
        outcome: Digest,
    },
    /// An operator was slashed.
    Slashed {
        /// Its account.
        operator: Address,
        /// The offence: `Evidence::place`.
        offence: Digest,
    },
    /// Two certificates stand at one height: everything stops.
    Frozen {
        /// Which height.
        height: Height,
        /// One header.
        first: HeaderId,
        /// The other.
        second: HeaderId,
    },
    /// Holders leave by proof.
    ExitOpened {
        /// The height of the header that proves what they have.
        height: Height,
        /// The header; zero if there was no anchor.
        header: HeaderId,
    },
}

/// Value that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deposit {
    /// Its number, from 0, without gaps.
    pub index: u64,
    /// Who is credited.
    pub account: Address,
    /// With what.
    pub asset: Asset,
    /// How much.
    pub amount: Amount,
}

impl Deposit {
    /// The identifier by which the ledger credits it once: its number as a word of 32 bytes, big-endian.
    #[must_use]
    pub fn id(&self) -> Digest {
        Self::id_of(self.index)
    }

    /// The same of the deposit with this number.
    #[must_use]
    pub fn id_of(index: u64) -> Digest {
        let mut word = [0; 32];
        word[24..].copy_from_slice(&index.to_be_bytes());
        Digest(word)
    }
}

/// An operator's registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Its index, from 0, without gaps.
    pub index: u64,
    /// Its account.
    pub account: Address,
    /// The key of its node, as it says.
    pub peer_key: PeerKey,
    /// Whether that key signed for this account, which Ethereum can't check.
    pub peer_is_proven: bool,
    /// Its BLS12-381 key, compressed; the contract checked the proof of possession.
    pub bls: [u8; 48],
}

/// An epoch's operator set, whose root was recomputed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Which epoch.
    pub epoch: EpochNumber,
    /// Its operators in order.
    pub operators: Vec<Operator>,
    /// The set's root.
    pub root: Digest,
    /// The root of its consensus set.
    pub consensus_root: Digest,
}
