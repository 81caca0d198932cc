//! What this node knows of Ethereum's finalised chain, after the block that the tip names.
//!
//! A checkpoint names a block whose number is a multiple of the network's stride, never one before its predecessor's, and
//! credits what came in with the blocks in between; the last operator set that was snapshotted in them signs from the next
//! checkpoint on. A proposer names the last one that it has known for a while. Who
//! doesn't have that block yet waits for it, as for changes; who has another hash for it votes against it.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use lamina_certificate::OperatorSet;
use lamina_ledger::state::claims::Credit;
use lamina_types::{Digest, EpochNumber, EthereumBlock, Timestamp};

/// Most strides by which one checkpoint goes on.
const STRIDES_MAX: usize = 256;
/// Most deposits that one checkpoint credits, but for those of its first stride, which are taken together.
const DEPOSITS_MAX: usize = 4_096;
/// Strides and deposits that a node holds in memory: more than a checkpoint takes, so that it knows what any may name. Beyond,
/// it takes no more for now.
const STRIDES_HELD_MAX: usize = 2 * STRIDES_MAX;
const DEPOSITS_HELD_MAX: usize = 4 * DEPOSITS_MAX;

/// Blocks of Ethereum's finalised chain, up to one whose number is a multiple of the network's stride.
#[derive(Debug, Clone)]
pub struct EthereumStride {
    /// The last block.
    pub block: EthereumBlock,
    /// What came in with these blocks, in order: each deposit's identifier, and what it's credited as.
    pub deposits: Vec<(Digest, Credit)>,
    /// The last operator set that was snapshotted with these blocks.
    pub operators: Option<Arc<OperatorSet>>,
}

/// What to think of a block that a checkpoint names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    /// It's the tip's, or one that may come next.
    Right,
    /// This node hasn't got it yet.
    Missing,
    /// It isn't one that may come next.
    Wrong,
}

#[derive(Debug)]
pub(super) struct Ethereum {
    /// `None` if the network has nothing to do with Ethereum.
    stride: Option<NonZeroU64>,
    /// How long a block is known before this node proposes it.
    settling: Duration,
    /// Strides after the tip's block, without gaps, by the last block's number.
    strides: BTreeMap<u64, Known>,
    /// Deposits in all of them.
    deposits: usize,
}

/// Operators that will sign.
#[derive(Debug)]
struct Coming {
    set: Arc<OperatorSet>,
    /// Those of them who finalise: messages are compared with them.
    consensus: OperatorSet,
}

#[derive(Debug)]
struct Known {
    hash: Digest,
    deposits: Vec<(Digest, Credit)>,
    operators: Option<Coming>,
    /// From when on this node proposes it.
    settled: Timestamp,
}

impl Ethereum {
    pub(super) const fn new(stride: Option<NonZeroU64>, settling: Duration) -> Self {
        Self { stride, settling, strides: BTreeMap::new(), deposits: 0 }
    }

    /// Takes strides in the order of the chain; those up to the tip's block aren't needed any more. Operators of `epoch`, which
    /// signs the next checkpoint, or of earlier ones, are no news.
    ///
    /// # Errors
    /// The block that has another hash than the tip says.
    pub(super) fn take(
        &mut self,
        now: Timestamp,
        tip: &EthereumBlock,
        epoch: EpochNumber,
        strides: Vec<EthereumStride>,
    ) -> Result<(), EthereumBlock> {
        for EthereumStride { block, deposits, operators } in strides {
            if block.number == tip.number && block.hash != tip.hash {
                return Err(block);
            }
            if block.number <= tip.number || self.strides.contains_key(&block.number) {
                continue;
            }
            self.deposits += deposits.len();
            let coming = |set: Arc<OperatorSet>| Coming { consensus: set.consensus_set(), set };
            let operators = operators.filter(|set| set.epoch() > epoch).map(coming);
            let settled = now + self.settling;
            let known = Known { hash: block.hash, deposits, operators, settled };
            self.strides.insert(block.number, known);
        }
        Ok(())
    }

    /// Forgets what the tip has credited.
    pub(super) fn forget_to(&mut self, tip: &EthereumBlock) {
        let later = self.strides.split_off(&tip.number.saturating_add(1));
        let forgotten = std::mem::replace(&mut self.strides, later);
        self.deposits -= forgotten.values().map(|known| known.deposits.len()).sum::<usize>();
    }

    /// Whether there's room for more strides.
    pub(super) fn has_room(&self) -> bool {
        self.strides.len() < STRIDES_HELD_MAX && self.deposits < DEPOSITS_HELD_MAX
    }

    /// The last block that this node would name by now.
    pub(super) fn latest(&self, now: Timestamp, tip: &EthereumBlock) -> EthereumBlock {
        let settled = self.within_reach().take_while(|(_, known)| known.settled <= now);
        let last = settled.last();
        last.map_or(*tip, |(number, known)| EthereumBlock { number: *number, hash: known.hash })
    }

    /// What to think of a checkpoint after `tip` that names `block`.
    pub(super) fn judge(&self, tip: &EthereumBlock, block: &EthereumBlock) -> Named {
        if block == tip {
            return Named::Right;
        }
        let follows = |stride: NonZeroU64| {
            block.number > tip.number && block.number.is_multiple_of(stride.get())
        };
        if !self.stride.is_some_and(follows) {
            return Named::Wrong;
        }
        let mut within_reach = self.within_reach();
        match self.strides.last_key_value() {
            Some((last, _)) if block.number <= *last => {
                let is_it = |(number, known): (&u64, &Known)| {
                    *number == block.number && known.hash == block.hash
                };
                if within_reach.any(is_it) { Named::Right } else { Named::Wrong }
            }
            // All that may come next is here.
            _ if !self.has_room() => Named::Wrong,
            _ => Named::Missing,
        }
    }

    /// What a checkpoint that names this block credits.
    pub(super) fn deposits_to(&self, block: &EthereumBlock) -> Vec<(Digest, Credit)> {
        let strides = self.strides.range(..=block.number);
        strides.flat_map(|(_, known)| known.deposits.iter().copied()).collect()
    }

    /// The operators that sign after a checkpoint that names this block, if they aren't the ones before: the last that were
    /// snapshotted since the tip's block.
    pub(super) fn operators_to(&self, block: &EthereumBlock) -> Option<&Arc<OperatorSet>> {
        let strides = self.strides.range(..=block.number);
        strides.rev().find_map(|(_, known)| Some(&known.operators.as_ref()?.set))
    }

    /// All sets that were snapshotted since the tip's block, each with those who finalise.
    pub(super) fn operators(&self) -> impl Iterator<Item = (&Arc<OperatorSet>, &OperatorSet)> {
        let coming = self.strides.values().filter_map(|known| known.operators.as_ref());
        coming.map(|Coming { set, consensus }| (set, consensus))
    }

    /// Whether the network has to do with Ethereum: then nobody knows the operators of the checkpoint after the next.
    pub(super) const fn is_followed(&self) -> bool {
        self.stride.is_some()
    }

    /// Whether it's worth a checkpoint to get as far as this block: something came in, or it's as far as one can go.
    pub(super) fn is_reason(&self, block: &EthereumBlock) -> bool {
        self.reason().is_some_and(|(number, _)| number <= block.number)
    }

    /// When this node would propose something that's worth a checkpoint.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.reason().map(|(_, known)| known.settled)
    }

    /// The first stride that's worth a checkpoint.
    fn reason(&self) -> Option<(u64, &Known)> {
        let strides = self.strides.iter().take(STRIDES_MAX).enumerate();
        let is_reason = |i: usize, known: &Known| known.is_eventful() || i + 1 == STRIDES_MAX;
        let mut reasons = strides.filter(|(i, (_, known))| is_reason(*i, known));
        reasons.next().map(|(_, (number, known))| (*number, known))
    }

    /// The strides up to which the next checkpoint may go.
    fn within_reach(&self) -> impl Iterator<Item = (&u64, &Known)> {
        let mut deposits = 0;
        let fits = move |(i, (_, known)): &(usize, (&u64, &Known))| {
            deposits += known.deposits.len();
            *i == 0 || (*i < STRIDES_MAX && deposits <= DEPOSITS_MAX)
        };
        self.strides.iter().enumerate().take_while(fits).map(|(_, stride)| stride)
    }
}

impl Known {
    /// Whether something came in that's worth a checkpoint.
    const fn is_eventful(&self) -> bool {
        !self.deposits.is_empty() || self.operators.is_some()
    }
}

#[cfg(test)]
mod tests {
    use lamina_types::{Address, Amount, Asset};

    use super::*;

    const SETTLING: Duration = Duration::from_secs(5);

    fn block(number: u64) -> EthereumBlock {
        EthereumBlock { number, hash: Digest([u8::try_from(number % 251).unwrap(); 32]) }
    }

    fn stride(number: u64, deposits: usize) -> EthereumStride {
        let credit = Credit { account: Address([1; 20]), asset: Asset::Ether, amount: Amount(1) };
        EthereumStride {
            block: block(number),
            deposits: vec![(Digest::default(), credit); deposits],
            operators: None,
        }
    }

    /// Strides of 10, with so many deposits each, taken at time 0.
    fn known(deposits: &[usize]) -> Ethereum {
        let mut ethereum = Ethereum::new(NonZeroU64::new(10), SETTLING);
        let strides = (1..).zip(deposits).map(|(i, count)| stride(i * 10, *count)).collect();
        let (tip, epoch) = (EthereumBlock::default(), EpochNumber(0));
        ethereum.take(Timestamp(0), &tip, epoch, strides).unwrap();
        ethereum
    }

    #[test]
    fn a_block_is_proposed_once_it_has_settled() {
        let ethereum = known(&[0, 1, 0]);
        let tip = EthereumBlock::default();
        assert_eq!(ethereum.latest(Timestamp(0), &tip), tip);
        let settled = Timestamp(0) + SETTLING;
        assert_eq!(ethereum.latest(settled, &tip), block(30));
        assert_eq!(ethereum.due(), Some(settled));
        assert_eq!(ethereum.deposits_to(&block(20)).len(), 1);
        assert!(!ethereum.is_reason(&block(10)) && ethereum.is_reason(&block(20)));
    }

    #[test]
    fn only_blocks_of_the_chain_that_come_next_are_right() {
        let ethereum = known(&[0, 0]);
        let tip = EthereumBlock::default();
        assert_eq!(ethereum.judge(&tip, &tip), Named::Right);
        assert_eq!(ethereum.judge(&tip, &block(20)), Named::Right);
        assert_eq!(ethereum.judge(&tip, &block(30)), Named::Missing);
        assert_eq!(ethereum.judge(&tip, &block(25)), Named::Wrong);
        assert_eq!(ethereum.judge(&block(20), &block(10)), Named::Wrong);
        let other = EthereumBlock { hash: Digest([255; 32]), ..block(20) };
        assert_eq!(ethereum.judge(&tip, &other), Named::Wrong);
        assert_eq!(Ethereum::new(None, SETTLING).judge(&tip, &block(10)), Named::Wrong);
    }

    #[test]
    fn a_checkpoint_takes_few_deposits_but_one_stride_at_least() {
        let tip = EthereumBlock::default();
        let ethereum = known(&[DEPOSITS_MAX + 1, 1]);
        assert_eq!(ethereum.latest(Timestamp(0) + SETTLING, &tip), block(10));
        assert_eq!(ethereum.judge(&tip, &block(20)), Named::Wrong);
        let ethereum = known(&[DEPOSITS_MAX, 0, 1]);
        assert_eq!(ethereum.latest(Timestamp(0) + SETTLING, &tip), block(20));
    }

    #[test]
    fn who_holds_enough_takes_no_more_and_yet_knows_what_may_come_next() {
        let tip = EthereumBlock::default();
        let mut ethereum = known(&[0; STRIDES_HELD_MAX]);
        assert!(!ethereum.has_room());
        let furthest = block(STRIDES_MAX as u64 * 10);
        assert_eq!(ethereum.latest(Timestamp(0) + SETTLING, &tip), furthest);
        assert!(ethereum.is_reason(&furthest));
        assert_eq!(ethereum.judge(&tip, &block(1_000_000)), Named::Wrong);
        ethereum.forget_to(&furthest);
        assert!(ethereum.has_room());
        assert_eq!(ethereum.judge(&furthest, &block(1_000_000)), Named::Missing);
    }

    #[test]
    fn another_hash_than_the_tip_s_is_told() {
        let mut ethereum = known(&[1]);
        let other = EthereumBlock { hash: Digest([255; 32]), ..block(20) };
        let strides = vec![stride(20, 0)];
        let taken = ethereum.take(Timestamp(0), &other, EpochNumber(0), strides);
        assert_eq!(taken, Err(block(20)));
        ethereum.forget_to(&block(10));
        assert_eq!(ethereum.deposits, 0);
    }
}
