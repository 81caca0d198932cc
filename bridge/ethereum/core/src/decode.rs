//! What an endpoint says happened, checked as far as it can be and made into facts.

use std::collections::BTreeMap;

use alloy_primitives::U256;
use alloy_sol_types::SolEvent;
use lamina_certificate::{Operator, OperatorSet, PublicKey, verify_peer_signature};
use lamina_types::{
    Address, Amount, Asset, Digest, EpochNumber, EthereumBlock, HeaderId, Height, List, PeerKey,
    ServiceId, TaskId, signing,
};

use crate::abi::{Checkpoints, Registrar, Slasher, TaskResults, Vault};
use crate::points::compress_key;
use crate::{
    Config, Cursor, Deposit, Fact, FinalBlock, LOGS_MAX, Log, Registered, Registration, Snapshot,
};

/// What an endpoint says that can't be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Lie {
    /// More events than asked for.
    #[error("{count} events in an answer")]
    TooManyLogs {
        /// How many.
        count: usize,
    },
    /// Not the blocks that were asked for.
    #[error("other blocks than those asked for")]
    OtherBlocks,
    /// An event of another contract, outside the blocks asked for, or before the one before it.
    #[error("event {index} of block {block} isn't in its place")]
    Misplaced {
        /// Its block.
        block: u64,
        /// Its place.
        index: u64,
    },
    /// A block with two hashes.
    #[error("block {block} has two hashes")]
    TwoHashes {
        /// Which one.
        block: u64,
    },
    /// An event that its contract can't have made.
    #[error("event {index} of block {block} is malformed")]
    Malformed {
        /// Its block.
        block: u64,
        /// Its place.
        index: u64,
    },
    /// Numbered events with a gap.
    #[error("{what} {found} comes where {expected} is next")]
    Gap {
        /// What is numbered.
        what: &'static str,
        /// The number that must come next.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// Members that aren't those of the epoch's root.
    #[error("the members of epoch {epoch} don't have its root")]
    WrongMembers {
        /// Which epoch.
        epoch: EpochNumber,
    },
}

/// Facts of a span of blocks, as one endpoint tells them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// Blocks at which the span can be cut, and those with facts, ascending.
    pub(crate) blocks: Vec<FinalBlock>,
    /// The cursor after it.
    pub(crate) cursor: Cursor,
}

/// An account in the making: epochs still lack their members.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    blocks: Vec<FinalBlock>,
    cursor: Cursor,
    registrations: Vec<Registered>,
    epochs: Vec<PendingEpoch>,
}

#[derive(Debug, Clone)]
struct PendingEpoch {
    block: usize,
    fact: usize,
}

impl Draft {
    /// `boundaries` are the blocks at which the span can be cut, the last of them its end. There's one at least.
    pub(crate) fn new(
        config: &Config,
        cursor: &Cursor,
        boundaries: &[EthereumBlock],
        logs: &[Log],
    ) -> Result<Self, Lie> {
        if logs.len() > LOGS_MAX {
            return Err(Lie::TooManyLogs { count: logs.len() });
        }
        let mut blocks: BTreeMap<u64, FinalBlock> = boundaries
            .iter()
            .map(|block| (block.number, FinalBlock { block: *block, facts: Vec::new() }))
            .collect();
        let end = boundaries[boundaries.len() - 1];
        let first = cursor.last.map_or(config.start, |last| last.number + 1);
        let mut reader = Reader {
            config,
            cursor: cursor.clone(),
            registrations: cursor.registrations.clone().into_vec(),
        };
        let mut before = None;
        for log in logs {
            let place = (log.block.number, log.index);
            let is_inside = (first..=end.number).contains(&log.block.number);
            if !is_inside || before.is_some_and(|before| before >= place) {
                return Err(Lie::Misplaced { block: place.0, index: place.1 });
            }
            before = Some(place);
            let block = blocks
                .entry(log.block.number)
                .or_insert_with(|| FinalBlock { block: log.block, facts: Vec::new() });
            if block.block != log.block {
                return Err(Lie::TwoHashes { block: log.block.number });
            }
            block.facts.extend(reader.read(log)?);
        }
        let Reader { mut cursor, registrations, .. } = reader;
        cursor.last = Some(end);
        let blocks: Vec<_> = blocks.into_values().collect();
        let mut epochs = Vec::new();
        for (i, block) in blocks.iter().enumerate() {
            for (j, fact) in block.facts.iter().enumerate() {
                if matches!(fact, Fact::EpochStarted(_)) {
                    epochs.push(PendingEpoch { block: i, fact: j });
                }
            }
        }
        epochs.reverse();
        Ok(Self { blocks, cursor, registrations, epochs })
    }

    /// The next epoch whose members are to be asked for.
    pub(crate) fn pending(&self) -> Option<EpochNumber> {
        let PendingEpoch { block, fact } = *self.epochs.last()?;
        match &self.blocks[block].facts[fact] {
            Fact::EpochStarted(snapshot) => Some(snapshot.epoch),
            _ => None,
        }
    }

    /// Puts in the members of the [pending](Self::pending) epoch: registration indices and stakes in gwei.
    pub(crate) fn fill(&mut self, config: &Config, members: &[(u64, u64)]) -> Result<(), Lie> {
        let Some(PendingEpoch { block, fact }) = self.epochs.pop() else { return Ok(()) };
        let registrations = &self.registrations;
        let Fact::EpochStarted(snapshot) = &mut self.blocks[block].facts[fact] else {
            return Ok(());
        };
        let wrong = Lie::WrongMembers { epoch: snapshot.epoch };
        let operator = |(index, stake_gwei): &(u64, u64)| {
            let registered = registrations.get(usize::try_from(*index).ok()?)?;
            Some(Operator {
                address: registered.account,
                peer_key: registered.peer_key,
                bls: PublicKey::from_bytes(&registered.bls).ok()?,
                stake_gwei: *stake_gwei,
            })
        };
        let operators: Option<Vec<_>> = members.iter().map(operator).collect();
        let operators = operators.ok_or_else(|| wrong.clone())?;
        let set =
            OperatorSet::of_operators(config.chain.clone(), snapshot.epoch, operators.clone())
                .map_err(|_| wrong.clone())?;
        let roots = (set.root(), set.consensus_set().root());
        if roots != (snapshot.root, snapshot.consensus_root) {
            return Err(wrong);
        }
        snapshot.operators = operators;
        Ok(())
    }

    /// The account, once all epochs are filled.
    pub(crate) fn finish(mut self) -> Account {
        self.cursor.registrations =
            List::new(self.registrations).expect("the reader bounds them by the list's length");
        Account { blocks: self.blocks, cursor: self.cursor }
    }
}

/// Reads events one after the other, counting what is numbered.
struct Reader<'a> {
    config: &'a Config,
    cursor: Cursor,
    registrations: Vec<Registered>,
}

impl Reader<'_> {
    fn read(&mut self, log: &Log) -> Result<Option<Fact>, Lie> {
        let contracts = &self.config.contracts;
        let contract = log.contract;
        // Two of them at one address would be a mistake of the configuration, and do no harm.
        if contract == contracts.vault {
            self.vault(log)
        } else if contract == contracts.registrar {
            self.registrar(log)
        } else if contract == contracts.checkpoints {
            self.checkpoints(log)
        } else if contract == contracts.tasks {
            self.tasks(log)
        } else if contract == contracts.slasher {
            slasher(log)
        } else {
            Err(Lie::Misplaced { block: log.block.number, index: log.index })
        }
    }

    fn vault(&mut self, log: &Log) -> Result<Option<Fact>, Lie> {
        if let Some(event) = event::<Vault::Deposited>(log)? {
            next("deposit", &mut self.cursor.deposits, event.index)?;
            return Ok(Some(Fact::Deposited(Deposit {
                index: event.index,
                account: Address(event.account.into()),
                asset: asset(log, event.asset.0)?,
                amount: Amount(event.amount),
            })));
        }
        let Some(event) = event::<Vault::ClaimPaid>(log)? else { return Ok(None) };
        Ok(Some(Fact::ClaimPaid {
            index: event.index,
            recipient: Address(event.recipient.into()),
            asset: asset(log, event.asset.0)?,
            amount: Amount(event.amount),
        }))
    }

    fn registrar(&mut self, log: &Log) -> Result<Option<Fact>, Lie> {
        if let Some(event) = event::<Registrar::OperatorRegistered>(log)? {
            let index = number(log, event.index)?;
            let mut count = self.registrations.len() as u64;
            next("registration", &mut count, index)?;
            let xy: &[u8; 96] = event.blsKey.as_ref().try_into().map_err(|_| malformed(log))?;
            let account = Address(event.operator.into());
            let peer_key = PeerKey(event.peerKey.0);
            let bls = compress_key(xy);
            let mut proof = [0; 64];
            proof[..32].copy_from_slice(&event.peerProof[0][..]);
            proof[32..].copy_from_slice(&event.peerProof[1][..]);
            let message = signing::peer_possession(&self.config.chain, &account, &peer_key);
            if self.registrations.len() >= crate::REGISTRATIONS_MAX {
                return Err(malformed(log));
            }
            self.registrations.push(Registered { account, peer_key, bls });
            return Ok(Some(Fact::OperatorRegistered(Registration {
                index,
                account,
                peer_key,
                peer_is_proven: verify_peer_signature(&peer_key, &message, &proof),
                bls,
            })));
        }
        let Some(event) = event::<Registrar::OperatorDeregistered>(log)? else { return Ok(None) };
        let account = Address(event.operator.into());
        Ok(Some(Fact::OperatorDeregistered { account, index: number(log, event.index)? }))
    }

    fn checkpoints(&mut self, log: &Log) -> Result<Option<Fact>, Lie> {
        if let Some(event) = event::<Checkpoints::EpochStarted>(log)? {
            let mut expected = self.cursor.next_epoch.unwrap_or(self.config.first_epoch);
            next("epoch", &mut expected, event.epoch)?;
            self.cursor.next_epoch = Some(expected);
            return Ok(Some(Fact::EpochStarted(Snapshot {
                epoch: EpochNumber(event.epoch),
                operators: Vec::new(),
                root: Digest(event.root.0),
                consensus_root: Digest(event.consensusRoot.0),
            })));
        }
        if let Some(event) = event::<Checkpoints::Anchored>(log)? {
            return Ok(Some(Fact::Anchored {
                height: Height(event.height),
                header: HeaderId(event.header.0),
                epoch: EpochNumber(event.epoch),
                submitter: Address(event.submitter.into()),
                transaction: log.transaction,
            }));
        }
        if let Some(event) = event::<Checkpoints::FrozenAt>(log)? {
            return Ok(Some(Fact::Frozen {
                height: Height(event.height),
                first: HeaderId(event.first.0),
                second: HeaderId(event.second.0),
            }));
        }
        let event = event::<Checkpoints::ExitOpened>(log)?;
        Ok(event.map(|event| Fact::ExitOpened {
            height: Height(event.height),
            header: HeaderId(event.header.0),
        }))
    }

    fn tasks(&mut self, log: &Log) -> Result<Option<Fact>, Lie> {
        if let Some(event) = event::<TaskResults::TaskRequested>(log)? {
            next("task request", &mut self.cursor.requests, event.index)?;
            return Ok(Some(Fact::TaskRequested {
                index: event.index,
                service: ServiceId(event.service.0),
                requester: Address(event.requester.into()),
                input: event.input.into(),
            }));
        }
        let event = event::<TaskResults::TaskResult>(log)?;
        Ok(event.map(|event| Fact::TaskResult {
            task: TaskId(event.task.0),
            outcome: Digest(event.outcome.0),
        }))
    }
}

fn slasher(log: &Log) -> Result<Option<Fact>, Lie> {
    let event = event::<Slasher::Slashed>(log)?;
    Ok(event.map(|event| Fact::Slashed {
        operator: Address(event.operator.into()),
        offence: Digest(event.offence.0),
    }))
}

/// The event, if it's of this kind.
fn event<E: SolEvent>(log: &Log) -> Result<Option<E>, Lie> {
    if log.topics.first() != Some(&E::SIGNATURE_HASH.0) {
        return Ok(None);
    }
    let topics = log.topics.iter().map(|topic| alloy_primitives::B256::from(*topic));
    E::decode_raw_log_validate(topics, &log.data).map(Some).map_err(|_| malformed(log))
}

fn asset(log: &Log, word: [u8; 32]) -> Result<Asset, Lie> {
    Asset::from_word(word).ok_or_else(|| malformed(log))
}

fn number(log: &Log, value: U256) -> Result<u64, Lie> {
    value.try_into().map_err(|_| malformed(log))
}

/// Counts on if `found` is the number that comes next.
fn next(what: &'static str, count: &mut u64, found: u64) -> Result<(), Lie> {
    match count.checked_add(1) {
        Some(after) if *count == found => {
            *count = after;
            Ok(())
        }
        _ => Err(Lie::Gap { what, expected: *count, found }),
    }
}

fn malformed(log: &Log) -> Lie {
    Lie::Malformed { block: log.block.number, index: log.index }
}
