//! Follows Ethereum for the ledger: keeps what it's told of the finalised chain, and hands it to the node.
//!
//! What came in, who the operators of the next epoch are, and the cursor from which to go on, are written in one transaction before the node hears of it. What the
//! last checkpoint has credited is deleted: the ledger's state has it. A ledger that begins again has the chain read again.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use borsh::{BorshDeserialize, BorshSerialize};
use lamina_certificate::{Genesis, OperatorSet};
use lamina_ethereum::Endpoints;
use lamina_ethereum_core::{Config, Cursor, Fact, FinalBlock, Output};
use lamina_ledger::state::claims::Credit;
use lamina_ledger::state::operators::Member;
use lamina_node_core::EthereumStride;
use lamina_types::{Canonical as _, ChainId, Digest, EpochNumber, EthereumBlock, Height};
use redb::{
    AccessGuard, Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
    TableDefinition,
};
use tokio::sync::{mpsc, watch};

use super::anchors::Anchor;
use super::ledger::Archive;
use super::store::Error;
use crate::config;

/// What the follower tells that waits. When it's full it waits, and asks nobody.
const OUTPUTS_MAX: usize = 1;
/// What waits for the node. When it's full, the follower waits in the end.
const STRIDES_MAX: usize = 1;

/// What was followed that isn't the ledger's affair: anchors and epochs.
#[derive(Debug, Clone)]
pub(crate) struct Followed {
    facts: Arc<Facts>,
    changes: watch::Receiver<()>,
}

impl Followed {
    /// Waits until more was followed; false if there will be no more.
    pub(crate) async fn changed(&mut self) -> bool {
        self.changes.changed().await.is_ok()
    }

    /// Anchors of later heights than this, ascending.
    pub(crate) fn anchors_after(&self, height: Height) -> Result<Vec<(Height, Anchor)>, Error> {
        let read = self.facts.database.begin_read()?;
        let table = read.open_table(ANCHORS)?;
        let later = table.range(height.0.saturating_add(1)..)?;
        later.map(|entry| anchor(&entry?)).collect()
    }

    /// The first anchor of this height or a later one: it proves the checkpoint of this height.
    pub(crate) fn anchor_of(&self, height: Height) -> Result<Option<(Height, Anchor)>, Error> {
        let read = self.facts.database.begin_read()?;
        let table = read.open_table(ANCHORS)?;
        table.range(height.0..)?.next().map(|entry| anchor(&entry?)).transpose()
    }

    /// The last anchor.
    pub(crate) fn last_anchor(&self) -> Result<Option<(Height, Anchor)>, Error> {
        let read = self.facts.database.begin_read()?;
        let table = read.open_table(ANCHORS)?;
        table.last()?.map(|entry| anchor(&entry)).transpose()
    }

    /// The last epoch that was snapshotted.
    pub(crate) fn last_epoch(&self) -> Result<Option<EpochNumber>, Error> {
        let read = self.facts.database.begin_read()?;
        let meta = read.open_table(META)?;
        let epoch = meta.get("epoch")?.map(|bytes| number(bytes.value())).transpose()?;
        Ok(epoch.map(EpochNumber))
    }
}

fn anchor(
    (height, bytes): &(AccessGuard<'_, u64>, AccessGuard<'_, &'static [u8]>),
) -> Result<(Height, Anchor), Error> {
    let anchor = borsh::from_slice(bytes.value());
    let anchor = anchor.map_err(|e| Error::Corrupt { table: "anchors", reason: e.to_string() })?;
    Ok((Height(height.value()), anchor))
}

/// Starts to follow; what comes, comes in order, the kept first. `None` if the network has nothing to do with Ethereum. The
/// channel's end is that of the node: without Ethereum it can't tell what checkpoints come to.
pub(crate) fn start(
    config: &config::Ethereum,
    genesis: &Genesis,
    folder: &Path,
    archive: Archive,
) -> anyhow::Result<Option<(mpsc::Receiver<Vec<EthereumStride>>, Followed)>> {
    let Some(ethereum) = &genesis.ethereum else { return Ok(None) };
    let endpoints = Endpoints::new(&config.rpc).context(
        "the network credits deposits on Ethereum, so its nodes follow that chain: name endpoints with `ethereum.rpc`",
    )?;
    let stride = ethereum.stride.get();
    let follower = Config {
        chain: genesis.chain_id.clone(),
        ethereum_chain: genesis.ethereum_chain_id,
        contracts: ethereum.contracts,
        start: ethereum.start,
        first_epoch: ethereum.first_epoch.0,
        stride,
        agreement: config.agreement,
        poll: config.poll,
    };
    let facts = Arc::new(Facts::open(folder, &genesis.chain_id)?);
    let (cursor, kept) = facts.resume(credited(&archive)?)?;
    let chain = genesis.chain_id.clone();
    let kept = kept.into_iter().map(|row| row.into_stride(&chain)).collect::<Result<_, _>>()?;
    let (sender, outputs) = mpsc::channel(OUTPUTS_MAX);
    tokio::spawn(lamina_ethereum::follow(follower, endpoints, cursor, sender));
    let (sender, strides) = mpsc::channel(STRIDES_MAX);
    let (changed, changes) = watch::channel(());
    let followed = Followed { facts: facts.clone(), changes };
    tokio::spawn(async move {
        let keeper = Keeper { facts, stride, chain, archive, changed };
        if sender.send(kept).await.is_ok()
            && let Err(error) = keeper.keep(outputs, &sender).await
        {
            tracing::error!(%error, "what Ethereum says can't be kept; the node stops");
        }
    });
    Ok(Some((strides, followed)))
}

/// Keeps what the follower tells, then tells the node.
struct Keeper {
    facts: Arc<Facts>,
    stride: u64,
    chain: ChainId,
    archive: Archive,
    changed: watch::Sender<()>,
}

impl Keeper {
    /// Until the node listens no more.
    async fn keep(
        self,
        mut outputs: mpsc::Receiver<Output>,
        node: &mpsc::Sender<Vec<EthereumStride>>,
    ) -> anyhow::Result<()> {
        let keeper = Arc::new(self);
        loop {
            let output = tokio::select! {
                () = node.closed() => return Ok(()),
                output = outputs.recv() => output.context("the follower has ended")?,
            };
            // Notices are logged where they come from.
            let Output::Followed { blocks, cursor } = output else { continue };
            let keep = keeper.clone();
            let kept = tokio::task::spawn_blocking(move || keep.add(blocks, &cursor)).await??;
            keeper.changed.send_replace(());
            if node.send(kept).await.is_err() {
                return Ok(());
            }
        }
    }

    fn add(&self, blocks: Vec<FinalBlock>, cursor: &Cursor) -> anyhow::Result<Vec<EthereumStride>> {
        let anchors: Vec<_> = blocks.iter().flat_map(anchors).collect();
        let rows = strides(self.stride, blocks);
        self.facts.add(credited(&self.archive)?, &rows, &anchors, cursor)?;
        let strides = rows.into_iter().map(|row| row.into_stride(&self.chain));
        Ok(strides.collect::<Result<_, _>>()?)
    }
}

/// The anchors in a block.
fn anchors(FinalBlock { block, facts }: &FinalBlock) -> impl Iterator<Item = (Height, Anchor)> {
    let block = block.number;
    facts.iter().filter_map(move |fact| match *fact {
        Fact::Anchored { height, header, epoch, submitter, transaction } => {
            Some((height, Anchor { header, epoch, submitter, transaction, block }))
        }
        _ => None,
    })
}

/// The block that the last checkpoint names.
fn credited(archive: &Archive) -> anyhow::Result<EthereumBlock> {
    let tip = archive.store().tip()?;
    Ok(tip.map(|decision| decision.header.ethereum).unwrap_or_default())
}

/// What blocks brought in, by the strides that they belong to. The last one ends a stride.
fn strides(stride: u64, blocks: Vec<FinalBlock>) -> Vec<Stride> {
    let (mut strides, mut content) = (Vec::new(), Content::default());
    for FinalBlock { block, facts } in blocks {
        for fact in facts {
            content.take(fact);
        }
        if block.number.is_multiple_of(stride) {
            strides.push(Stride { block, content: std::mem::take(&mut content) });
        }
    }
    strides
}

/// Blocks up to one that ends a stride, and what they brought in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stride {
    block: EthereumBlock,
    content: Content,
}

/// What the ledger needs of some blocks; as it's kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct Content {
    deposits: Vec<(Digest, Credit)>,
    /// The last epoch that was snapshotted, with its operators.
    epoch: Option<(EpochNumber, Vec<Member>)>,
}

impl Content {
    fn take(&mut self, fact: Fact) {
        match fact {
            Fact::Deposited(deposit) => {
                let (account, asset, amount) = (deposit.account, deposit.asset, deposit.amount);
                self.deposits.push((deposit.id(), Credit { account, asset, amount }));
            }
            Fact::EpochStarted(snapshot) => {
                let operators = snapshot.operators.iter().map(Member::from);
                self.epoch = Some((snapshot.epoch, operators.collect()));
            }
            _ => {}
        }
    }
}

impl Stride {
    /// The same as the node takes it.
    fn into_stride(self, chain: &ChainId) -> Result<EthereumStride, Error> {
        let Self { block, content: Content { deposits, epoch } } = self;
        let corrupt = |reason: String| Error::Corrupt { table: "strides", reason };
        let set = |(epoch, members): (EpochNumber, Vec<Member>)| {
            let operators: Option<Vec<_>> = members.iter().map(Member::operator).collect();
            let operators = operators.ok_or_else(|| corrupt("a key of an operator".to_owned()))?;
            let set = OperatorSet::of_operators(chain.clone(), epoch, operators);
            set.map(Arc::new).map_err(|error| corrupt(error.to_string()))
        };
        Ok(EthereumStride { block, deposits, operators: epoch.map(set).transpose()? })
    }
}

/// `version`, `chain`; `cursor`, from where to go on; `forgotten`, the block up to which strides were deleted; `epoch`, the
/// last one that was snapshotted.
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// By the last block's number: its hash, and what came in.
const STRIDES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("strides");
/// By height: anchors, the last [`ANCHORS_MAX`] of them.
const ANCHORS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("anchors");
/// Anchors that are kept: at one in ten minutes those of two years, some 12 MB.
const ANCHORS_MAX: u64 = 100_000;
const VERSION: &[u8] = b"2";

/// The file of what Ethereum said.
#[derive(Debug)]
struct Facts {
    database: Database,
}

/// What a stride's row holds.
type Row = (Digest, Content);

impl Facts {
    fn open(folder: &Path, chain: &ChainId) -> Result<Self, Error> {
        let path = folder.join("ethereum.redb");
        let database = Database::create(&path)
            .map_err(|source| Error::Open { path: path.display().to_string(), source })?;
        let write = database.begin_write()?;
        {
            let mut meta = write.open_table(META)?;
            for (key, value) in [("version", VERSION), ("chain", chain.as_str().as_bytes())] {
                let found = meta.insert(key, value)?.map(|found| found.value().to_vec());
                if let Some(found) = found.filter(|found| found != value) {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let (found, expected) = (text(&found), text(value));
                    return Err(Error::Foreign { key, found, expected });
                }
            }
            write.open_table(STRIDES)?;
            write.open_table(ANCHORS)?;
        }
        write.commit()?;
        Ok(Self { database })
    }

    /// Where to go on, and what's kept of the time after `credited`. If some of that was deleted, all begins anew.
    fn resume(&self, credited: EthereumBlock) -> Result<(Cursor, Vec<Stride>), Error> {
        let read = self.database.begin_read()?;
        let meta = read.open_table(META)?;
        let forgotten = match meta.get("forgotten")? {
            Some(bytes) => number(bytes.value())?,
            None => 0,
        };
        let cursor = match meta.get("cursor")? {
            Some(bytes) if forgotten <= credited.number => Cursor::from_bytes(bytes.value())
                .map_err(|e| Error::Corrupt { table: "meta", reason: e.to_string() })?,
            _ => {
                self.clear()?;
                return Ok((Cursor::start(), Vec::new()));
            }
        };
        let mut strides = Vec::new();
        // Its own block, too: its hash is compared with the checkpoint's.
        for entry in read.open_table(STRIDES)?.range(credited.number..)? {
            let (number, bytes) = entry?;
            let (hash, content): Row = borsh::from_slice(bytes.value())
                .map_err(|e| Error::Corrupt { table: "strides", reason: e.to_string() })?;
            let block = EthereumBlock { number: number.value(), hash };
            strides.push(Stride { block, content });
        }
        Ok((cursor, strides))
    }

    /// Adds strides with the cursor after them, and deletes what's credited.
    fn add(
        &self,
        credited: EthereumBlock,
        strides: &[Stride],
        anchors: &[(Height, Anchor)],
        cursor: &Cursor,
    ) -> Result<(), Error> {
        let write = self.database.begin_write()?;
        {
            let mut table = write.open_table(STRIDES)?;
            for Stride { block, content } in strides {
                let row = borsh::to_vec(&(block.hash, content));
                let row = row.expect("writing to memory doesn't fail");
                table.insert(block.number, row.as_slice())?;
            }
            table.retain_in(..credited.number, |_, _| false)?;
            let mut table = write.open_table(ANCHORS)?;
            for (height, anchor) in anchors {
                let row = borsh::to_vec(anchor).expect("writing to memory doesn't fail");
                table.insert(height.0, row.as_slice())?;
            }
            while table.len()? > ANCHORS_MAX {
                table.pop_first()?;
            }
            let mut meta = write.open_table(META)?;
            meta.insert("cursor", cursor.to_bytes().as_slice())?;
            if let Some(epoch) = cursor.next_epoch.and_then(|next| next.checked_sub(1)) {
                meta.insert("epoch", epoch.to_be_bytes().as_slice())?;
            }
            meta.insert("forgotten", credited.number.to_be_bytes().as_slice())?;
        }
        write.commit()?;
        Ok(())
    }

    fn clear(&self) -> Result<(), Error> {
        let write = self.database.begin_write()?;
        write.open_table(STRIDES)?.retain(|_, _| false)?;
        write.open_table(ANCHORS)?.retain(|_, _| false)?;
        {
            let mut meta = write.open_table(META)?;
            meta.remove("cursor")?;
            meta.remove("forgotten")?;
        }
        write.commit()?;
        Ok(())
    }
}

fn number(bytes: &[u8]) -> Result<u64, Error> {
    let bytes = bytes.try_into().map_err(|_| Error::Corrupt {
        table: "meta",
        reason: format!("a block's number has {} bytes", bytes.len()),
    })?;
    Ok(u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use lamina_ethereum_core::Deposit;
    use lamina_types::{Address, Amount, Asset};

    use super::*;

    fn block(number: u64) -> EthereumBlock {
        EthereumBlock { number, hash: Digest::of(&number.to_be_bytes()) }
    }

    fn deposit(index: u64) -> Fact {
        let (account, asset, amount) = (Address([1; 20]), Asset::Ether, Amount(5));
        Fact::Deposited(Deposit { index, account, asset, amount })
    }

    /// Blocks 1 to 12, of which 3, 8 and 9 bring a deposit each.
    fn followed() -> Vec<Stride> {
        let blocks = (1..=12).map(|number| {
            let index = [3, 8, 9].iter().position(|with| *with == number);
            let facts = index.map(|index| deposit(index as u64)).into_iter().collect();
            FinalBlock { block: block(number), facts }
        });
        strides(4, blocks.collect())
    }

    fn cursor(last: u64) -> Cursor {
        Cursor { last: Some(block(last)), ..Cursor::start() }
    }

    fn open(folder: &Path, chain: &str) -> Result<Facts, Error> {
        Facts::open(folder, &chain.parse().unwrap())
    }

    #[test]
    fn deposits_belong_to_the_stride_that_ends_at_or_after_their_block() {
        let counts: Vec<_> =
            followed().iter().map(|s| (s.block.number, s.content.deposits.len())).collect();
        assert_eq!(counts, [(4, 1), (8, 1), (12, 1)]);
    }

    #[test]
    fn what_is_not_credited_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let facts = open(folder.path(), "lamina-test-1").unwrap();
        assert_eq!(facts.resume(block(0)).unwrap(), (Cursor::start(), Vec::new()));
        facts.add(block(0), &followed(), &[], &cursor(12)).unwrap();
        drop(facts);
        let facts = open(folder.path(), "lamina-test-1").unwrap();
        assert_eq!(facts.resume(block(0)).unwrap(), (cursor(12), followed()));
        assert_eq!(facts.resume(block(8)).unwrap().1, followed()[1..]);
        facts.add(block(8), &[], &[], &cursor(16)).unwrap();
        assert_eq!(facts.resume(block(8)).unwrap(), (cursor(16), followed()[1..].to_vec()));
    }

    #[test]
    fn a_ledger_that_begins_again_has_all_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let facts = open(folder.path(), "lamina-test-1").unwrap();
        facts.add(block(8), &followed(), &[], &cursor(12)).unwrap();
        assert_eq!(facts.resume(block(4)).unwrap(), (Cursor::start(), Vec::new()));
        assert_eq!(facts.resume(block(8)).unwrap(), (Cursor::start(), Vec::new()));
    }

    #[test]
    fn another_network_s_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        drop(open(folder.path(), "lamina-test-1").unwrap());
        let error = open(folder.path(), "lamina-test-2").unwrap_err();
        assert!(matches!(error, Error::Foreign { key: "chain", .. }), "{error}");
    }
}
