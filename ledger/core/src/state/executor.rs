//! The state machine: what a checkpoint's operations come to.
//!
//! A checkpoint begins with its modules' beginnings, deposits from Ethereum and the timers that are due; then come its
//! operations, in an order that nobody chooses: places are sorted by SHA-256 of the previous header's identifier and the
//! operation's, and an account's operations take its places by sequence number. The fee is reserved before anything is done.
//! An operation that can't pay changes nothing; one that's refused later costs its fee and its number. Each gets a receipt,
//! but for those that wait for the one before them.
//!
//! An operation can come again in a later checkpoint, and then gets another receipt. It says what became of it by now, except
//! that "sequence used" says nothing new of an operation that has one: its own use may be meant.
//!
//! The same operations, in any order and any number of times, come to the same state. The caller has verified their
//! signatures and computed their identifiers; who signed how is no part of what's agreed on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use lamina_certificate::{FeeSchedule, Genesis, OperatorSet};
use lamina_types::account::SigningContext;
use lamina_types::{
    Action, Address, Amount, Digest, EpochNumber, EthereumBlock, Hasher, HeaderId, Height,
    Operation, OperationId, SignedOperation, Timestamp,
};

use super::accounts::{self, Submitted};
use super::bank::{self, Holder};
use super::claims::{self, Credit};
use super::scope::TIMERS;
use super::{
    Env, Executed, Module, Origin, Receipt, Refusal, Scope, Stop, Writes, operators, results, tree,
};
use crate::{StateReader, StorageError};

/// Most timers that one checkpoint runs. The rest is due in the next one.
pub const TIMERS_MAX: usize = 1_000;

/// Carries checkpoints out, by the rules of its modules.
#[derive(Debug)]
pub struct Machine {
    context: SigningContext,
    fees: FeeSchedule,
    modules: Vec<Box<dyn Module>>,
}

/// What the state follows from, beside the state before.
#[derive(Debug, Clone)]
pub struct CheckpointInput {
    /// The checkpoint's number.
    pub height: Height,
    /// The header before it.
    pub previous: HeaderId,
    /// Its time.
    pub time: Timestamp,
    /// The operator set that signs it.
    pub epoch: EpochNumber,
    /// The finalised block of Ethereum that it names.
    pub ethereum: EthereumBlock,
    /// What came in on Ethereum with the blocks after the one that the header before names, up to this one's: each deposit's
    /// identifier, and what it's credited as. In Ethereum's order.
    pub deposits: Vec<(Digest, Credit)>,
    /// The operators that Ethereum's snapshot of a later epoch has, if one came with these blocks: they sign from the next
    /// checkpoint on.
    pub operators: Option<Arc<OperatorSet>>,
    /// What is new in its cut, with verified signatures and their identifiers. Order and repetitions don't matter.
    pub operations: Vec<(OperationId, SignedOperation)>,
    /// What the ledger keeps of itself ([`crate::system`]).
    pub system: Writes,
}

impl Machine {
    /// The machine of a network. An action that no module handles is refused.
    ///
    /// # Panics
    /// If two modules have one name.
    #[must_use]
    pub fn new(context: SigningContext, fees: FeeSchedule, modules: Vec<Box<dyn Module>>) -> Self {
        let names: BTreeSet<_> = modules.iter().map(|module| module.name()).collect();
        assert_eq!(names.len(), modules.len(), "modules have names of their own");
        Self { context, fees, modules }
    }

    /// The state of checkpoint 0. `reader` is empty: it has no tree.
    ///
    /// # Errors
    /// [`StorageError`]; also if the genesis file gives out more than there can be.
    ///
    /// # Panics
    /// If `reader` isn't empty.
    pub fn genesis<R: StateReader>(
        &self,
        reader: &R,
        genesis: &Genesis,
    ) -> Result<Executed, StorageError> {
        assert!(tree::root(reader, Height(0))?.is_none(), "a genesis is the first checkpoint");
        let beginning = Current {
            height: Height(0),
            time: genesis.ledger.time,
            epoch: EpochNumber(0),
            ethereum: EthereumBlock::default(),
        };
        let mut run = Run::new(self, reader, &beginning);
        run.scope.write(CHAIN_KEY.to_vec(), &genesis.chain_id.as_str());
        run.deposit(genesis)?;
        for module in &self.modules {
            let done = module.genesis(&mut run.scope, genesis);
            let refused = |refusal| StorageError(format!("the genesis file: {refusal}"));
            run.settle(done)?.map_err(refused)?;
        }
        run.begin(&beginning)?;
        run.finish(reader)
    }

    /// What a checkpoint comes to, given the state of the one before.
    ///
    /// # Errors
    /// [`StorageError`].
    ///
    /// # Panics
    /// If `reader` isn't at the checkpoint before this one.
    pub fn execute<R: StateReader>(
        &self,
        reader: &R,
        checkpoint: &CheckpointInput,
    ) -> Result<Executed, StorageError> {
        let next = reader.version().checked_add(1);
        assert_eq!(next, Some(checkpoint.height.0), "checkpoints follow each other");
        if tree::root(reader, Height(reader.version()))?.is_none() {
            return Err(StorageError("the state tree before the checkpoint is missing".to_owned()));
        }
        let CheckpointInput { height, time, epoch, ethereum, .. } = *checkpoint;
        let current = Current { height, time, epoch, ethereum };
        let mut run = Run::new(self, reader, &current);
        run.scope.put(checkpoint.system.clone());
        run.begin(&current)?;
        run.credit(&checkpoint.deposits)?;
        if let Some(set) = &checkpoint.operators {
            operators::begin_epoch(&mut run.scope, Height(height.0.saturating_add(1)), set);
            run.scope.accept();
        }
        run.timers()?;
        for submitted in in_order(&checkpoint.previous, &checkpoint.operations) {
            run.submit(submitted)?;
        }
        run.finish(reader)
    }

    /// Whether an operation would take effect on the state as it is, at a time that isn't before the state's own. One whose
    /// predecessors aren't there yet is looked at as far as it can be.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn precheck<R: StateReader>(
        &self,
        reader: &R,
        id: OperationId,
        signed: &SignedOperation,
        now: Timestamp,
    ) -> Result<Result<(), Refusal>, StorageError> {
        self.try_out(reader, Submitted { id, operation: signed.operation.clone() }, now)
    }

    /// Whether an account's next operation would take effect if it did this, at a time as [`Self::precheck`] takes it; and the
    /// operation's number.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn rehearse<R: StateReader>(
        &self,
        reader: &R,
        account: Address,
        action: Action,
        now: Timestamp,
    ) -> Result<(u64, Result<(), Refusal>), StorageError> {
        let sequence = accounts::next_sequence(&Scope::new(reader), account)?;
        let (valid_until, fee_max) = (Timestamp(u64::MAX), Amount(u128::MAX));
        let operation = Operation { account, sequence, valid_until, fee_max, action };
        let submitted = Submitted { id: OperationId::default(), operation };
        Ok((sequence, self.try_out(reader, submitted, now)?))
    }

    /// What would become of an operation. Others of its account that wait for it are none of its business.
    fn try_out<R: StateReader>(
        &self,
        reader: &R,
        submitted: Submitted,
        now: Timestamp,
    ) -> Result<Result<(), Refusal>, StorageError> {
        let missing = || StorageError("the state has no checkpoint".to_owned());
        let mut current: Current = Scope::new(reader).read(CURRENT_KEY)?.ok_or_else(missing)?;
        current.height = Height(current.height.0 + 1);
        current.time = current.time.max(now);
        let mut run = Run::new(self, reader, &current);
        let id = submitted.id;
        run.submit(submitted)?;
        let receipt = run.receipts.into_iter().find(|receipt| receipt.operation == id);
        Ok(receipt.and_then(|receipt| receipt.refusal).map_or(Ok(()), Err))
    }

    fn apply(
        &self,
        scope: &mut Scope<'_>,
        env: &Env<'_>,
        submitted: &Submitted,
    ) -> Result<(), Stop> {
        let Operation { account, action, .. } = &submitted.operation;
        let mut able = self.modules.iter().filter(|module| module.handles(action));
        let unknown = || Refusal::invalid(&format!("this network doesn't know {}", action.name()));
        let module = able.next().ok_or_else(unknown)?;
        debug_assert!(able.next().is_none(), "two modules handle {}", action.name());
        let origin = Origin { operation: submitted.id, account: *account };
        module.apply(scope, env, &origin, action)
    }

    fn module(&self, name: &str) -> Result<&dyn Module, StorageError> {
        let module = self.modules.iter().find(|module| module.name() == name);
        let unknown = || StorageError(format!("a timer of {name}, which isn't a module"));
        module.map(AsRef::as_ref).ok_or_else(unknown)
    }
}

/// When the next timer is due: the proposer then makes a checkpoint even if nobody writes. Earlier than now if the last
/// checkpoint left some over.
///
/// # Errors
/// [`StorageError`].
pub fn next_timer<R: StateReader>(reader: &R) -> Result<Option<Timestamp>, StorageError> {
    earliest(&Scope::new(reader))
}

/// The checkpoint that the state is of, as it stands in the state under [`CURRENT_KEY`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Current {
    /// Its number.
    pub height: Height,
    /// Its time.
    pub time: Timestamp,
    /// The operator set that signs it.
    pub epoch: EpochNumber,
    /// The finalised block of Ethereum that it names.
    pub ethereum: EthereumBlock,
}

/// The key of the network's name.
pub const CHAIN_KEY: &[u8] = b"network/chain";
/// The key of [`Current`]. It changes with each checkpoint, so that each has a version of the tree.
pub const CURRENT_KEY: &[u8] = b"network/current";
/// The key of the root of claims on Ethereum: 32 bytes. While it's absent the root is zero.
pub const CLAIMS_KEY: &[u8] = b"claims/root";

/// A checkpoint under way.
struct Run<'a> {
    machine: &'a Machine,
    env: Env<'a>,
    scope: Scope<'a>,
    receipts: Vec<Receipt>,
    /// Where each operation's receipt is.
    receipt_of: BTreeMap<OperationId, usize>,
}

impl<'a> Run<'a> {
    fn new(machine: &'a Machine, reader: &'a dyn StateReader, current: &Current) -> Self {
        let env = Env {
            height: current.height,
            time: current.time,
            epoch: current.epoch,
            ethereum: current.ethereum,
            context: &machine.context,
            fees: &machine.fees,
        };
        let (receipts, receipt_of) = (Vec::new(), BTreeMap::new());
        Self { machine, env, scope: Scope::new(reader), receipts, receipt_of }
    }

    fn deposit(&mut self, genesis: &Genesis) -> Result<(), StorageError> {
        for deposit in &genesis.ledger.deposits {
            let to = accounts::holder(deposit.account);
            let done = bank::mint(&mut self.scope, &to, deposit.asset, deposit.amount);
            let refused = |refusal| StorageError(format!("the genesis deposits: {refusal}"));
            self.settle(done)?.map_err(refused)?;
        }
        Ok(())
    }

    fn begin(&mut self, current: &Current) -> Result<(), StorageError> {
        self.scope.write(CURRENT_KEY.to_vec(), current);
        self.scope.accept();
        for module in &self.machine.modules {
            module.begin(&mut self.scope, &self.env)?;
            self.scope.accept();
        }
        Ok(())
    }

    /// Credits deposits. One that would make more of an asset than there can be is left out: nobody could hold it.
    fn credit(&mut self, deposits: &[(Digest, Credit)]) -> Result<(), StorageError> {
        for (id, Credit { account, asset, amount }) in deposits {
            let done = claims::credit_deposit(&mut self.scope, *account, *asset, *amount, id);
            let _ = self.settle(done)?;
        }
        Ok(())
    }

    /// Runs what is due, in the order of keys. What that schedules for now is due in the next checkpoint.
    fn timers(&mut self) -> Result<(), StorageError> {
        if earliest(&self.scope)?.is_none_or(|at| at > self.env.time) {
            return Ok(());
        }
        for (key, _) in self.scope.range(TIMERS, None, TIMERS_MAX)? {
            let timer = Timer::parse(&key)?;
            if timer.at > self.env.time {
                break;
            }
            // A timer before it may have taken it back.
            if self.scope.get(&key)?.is_some() {
                self.timer(&key, &timer)?;
            }
        }
        Ok(())
    }

    fn timer(&mut self, key: &[u8], timer: &Timer<'_>) -> Result<(), StorageError> {
        self.scope.remove(key.to_vec());
        self.scope.accept();
        if timer.module == accounts::NAME {
            return self.expire(timer.key);
        }
        let module = self.machine.module(timer.module)?;
        let done = module.timer(&mut self.scope, &self.env, timer.key);
        // A refusal is between the module and itself: there's no operation to give a receipt for.
        self.settle(done).map(drop)
    }

    fn expire(&mut self, key: &[u8]) -> Result<(), StorageError> {
        let Some(submitted) = accounts::expire(&mut self.scope, key)? else { return Ok(()) };
        self.scope.accept();
        let Operation { account, sequence, .. } = submitted.operation;
        let next = accounts::next_sequence(&self.scope, account)?;
        let ahead = Refusal::SequenceAhead { sequence, next };
        let refusal = self.expired(&submitted.operation).unwrap_or(ahead);
        self.receipt(&submitted, Amount::ZERO, Some(refusal));
        Ok(())
    }

    fn submit(&mut self, submitted: Submitted) -> Result<(), StorageError> {
        let Operation { account, sequence, .. } = submitted.operation;
        let next = accounts::next_sequence(&self.scope, account)?;
        if sequence < next {
            let refusal = Refusal::SequenceUsed { sequence, next };
            self.receipt(&submitted, Amount::ZERO, Some(refusal));
            return Ok(());
        }
        if sequence > next {
            return self.wait(submitted);
        }
        self.run(&submitted)?;
        self.run_waiting(account)
    }

    fn wait(&mut self, submitted: Submitted) -> Result<(), StorageError> {
        let done = self
            .fee(&submitted.operation)
            .and_then(|fee| accounts::wait(&mut self.scope, &self.env, submitted.clone(), fee));
        match self.settle(done)? {
            Ok(None) => {}
            Ok(Some(other)) => {
                let refusal = Refusal::exists("operation of this sequence");
                self.receipt(&other, Amount::ZERO, Some(refusal));
            }
            Err(refusal) => self.receipt(&submitted, Amount::ZERO, Some(refusal)),
        }
        Ok(())
    }

    /// Runs what waited for the account's last operation, and what waited for that, until one is missing or can't pay.
    fn run_waiting(&mut self, account: Address) -> Result<(), StorageError> {
        loop {
            let next = accounts::next_sequence(&self.scope, account)?;
            let Some(submitted) = accounts::take(&mut self.scope, account, next)? else {
                return Ok(());
            };
            self.scope.accept();
            self.run(&submitted)?;
        }
    }

    /// Runs an account's next operation.
    fn run(&mut self, submitted: &Submitted) -> Result<(), StorageError> {
        let charged = self.charge(&submitted.operation);
        match self.settle(charged)? {
            Ok(fee) => {
                let done = self.machine.apply(&mut self.scope, &self.env, submitted);
                let refusal = self.settle(done)?.err();
                self.receipt(submitted, fee, refusal);
            }
            Err(refusal) => self.receipt(submitted, Amount::ZERO, Some(refusal)),
        }
        Ok(())
    }

    fn charge(&mut self, operation: &Operation) -> Result<Amount, Stop> {
        let fee = self.fee(operation)?;
        if !fee.is_zero() {
            let payer = accounts::holder(operation.account);
            bank::transfer(&mut self.scope, &payer, &Holder::Fees, self.env.fees.asset, fee)?;
        }
        accounts::advance(&mut self.scope, operation.account)?;
        Ok(fee)
    }

    /// What the operation costs, if it can still take effect and agrees to pay that.
    fn fee(&self, operation: &Operation) -> Result<Amount, Stop> {
        if let Some(expired) = self.expired(operation) {
            return Err(expired.into());
        }
        let fee = accounts::fee(self.env.fees, operation).ok_or(Refusal::Overflow)?;
        let fee_max = operation.fee_max;
        if fee > fee_max {
            return Err(Refusal::FeeTooHigh { fee, fee_max }.into());
        }
        Ok(fee)
    }

    fn expired(&self, operation: &Operation) -> Option<Refusal> {
        let (valid_until_us, time_us) = (operation.valid_until.0, self.env.time.0);
        (valid_until_us < time_us).then_some(Refusal::Expired { valid_until_us, time_us })
    }

    /// What was done counts, or is undone if it was refused.
    fn settle<T>(&mut self, done: Result<T, Stop>) -> Result<Result<T, Refusal>, StorageError> {
        match done {
            Ok(value) => {
                self.scope.accept();
                Ok(Ok(value))
            }
            Err(Stop::Refused(refusal)) => {
                self.scope.discard();
                Ok(Err(refusal))
            }
            Err(Stop::Fault(error)) => Err(error),
        }
    }

    /// An operation that waited and came again has one receipt, which says what became of it, not that its number was used.
    fn receipt(&mut self, submitted: &Submitted, fee: Amount, refusal: Option<Refusal>) {
        let place = *self.receipt_of.entry(submitted.id).or_insert(self.receipts.len());
        let receipt = Receipt {
            operation: submitted.id,
            height: self.env.height,
            account: submitted.operation.account,
            sequence: submitted.operation.sequence,
            fee,
            refusal,
        };
        match self.receipts.get_mut(place) {
            None => self.receipts.push(receipt),
            Some(_) if matches!(receipt.refusal, Some(Refusal::SequenceUsed { .. })) => {}
            Some(before) => *before = receipt,
        }
    }

    fn finish<R: StateReader>(self, reader: &R) -> Result<Executed, StorageError> {
        let outcomes = results::recorded(&self.scope, self.env.height)?;
        let claims = self.scope.read(CLAIMS_KEY)?.unwrap_or_default();
        let mut writes = self.scope.into_writes();
        let (state, tree) = tree::put(reader, self.env.height.0, &mut writes)?;
        let results = lamina_certificate::results::root(&outcomes);
        Ok(Executed { state, claims, results, writes, tree, receipts: self.receipts, outcomes })
    }
}

fn earliest(scope: &Scope<'_>) -> Result<Option<Timestamp>, StorageError> {
    let first = scope.range(TIMERS, None, 1)?;
    first.first().map(|(key, _)| Ok(Timer::parse(key)?.at)).transpose()
}

/// The operations, each once, in the order in which they're carried out.
fn in_order(previous: &HeaderId, operations: &[(OperationId, SignedOperation)]) -> Vec<Submitted> {
    let mut places = BTreeSet::new();
    let mut lanes: BTreeMap<Address, VecDeque<Submitted>> = BTreeMap::new();
    for submitted in once(operations) {
        let account = submitted.operation.account;
        places.insert((place(previous, &submitted.id), account));
        lanes.entry(account).or_default().push_back(submitted);
    }
    for lane in lanes.values_mut() {
        lane.make_contiguous().sort_by_key(|it| (it.operation.sequence, it.id));
    }
    let next = |(_, account): &(Digest, Address)| lanes.get_mut(account)?.pop_front();
    places.iter().filter_map(next).collect()
}

/// Of operations with one identifier, the one whose bytes come first: a wallet signs a digest, and should two operations
/// ever share one, all nodes still take the same.
fn once(operations: &[(OperationId, SignedOperation)]) -> impl Iterator<Item = Submitted> {
    let mut unique: BTreeMap<OperationId, &Operation> = BTreeMap::new();
    let bytes =
        |operation: &Operation| borsh::to_vec(operation).expect("writing to memory doesn't fail");
    for (id, signed) in operations {
        let operation = &signed.operation;
        let first = unique.entry(*id).or_insert(operation);
        if *first != operation && bytes(operation) < bytes(first) {
            *first = operation;
        }
    }
    unique.into_iter().map(|(id, operation)| Submitted { id, operation: operation.clone() })
}

fn place(previous: &HeaderId, id: &OperationId) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(&previous.0);
    hasher.update(&id.0);
    hasher.digest()
}

/// A timer's key, in its parts.
struct Timer<'a> {
    at: Timestamp,
    module: &'a str,
    key: &'a [u8],
}

impl<'a> Timer<'a> {
    fn parse(key: &'a [u8]) -> Result<Self, StorageError> {
        let other_form = || StorageError(format!("timer {} has another form", hex::encode(key)));
        Self::split(key).ok_or_else(other_form)
    }

    fn split(key: &'a [u8]) -> Option<Self> {
        let (at, rest) = key.strip_prefix(TIMERS)?.split_first_chunk()?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        let module = std::str::from_utf8(&rest[..end]).ok()?;
        Some(Self { at: Timestamp(u64::from_be_bytes(*at)), module, key: &rest[end + 1..] })
    }
}

#[cfg(test)]
mod tests {
    use super::super::scope::timer_key;
    use super::*;

    #[test]
    fn timers_are_read_back_from_their_keys() {
        let key = timer_key(Timestamp(7), "vaults", b"\0x\0");
        let timer = Timer::parse(&key).unwrap();
        assert_eq!((timer.at, timer.module, timer.key), (Timestamp(7), "vaults", &b"\0x\0"[..]));
    }

    #[test]
    fn what_is_no_timer_is_an_error() {
        for key in [&b"timers/"[..], b"timers/1234567", b"timers/12345678abc", b"timer/12345678a\0"]
        {
            assert!(Timer::parse(key).is_err(), "{key:?}");
        }
    }
}
