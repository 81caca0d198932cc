//! Tasks: certified ones that are written down, and those that are asked for in the ledger's order.
//!
//! A task is recorded once, with the first certificate that holds for the service set of the height that it's pinned to.
//! What it came to goes into the results tree of that checkpoint (keys `results/<height><task>`, which the machine reads and
//! which are gone with the next one), and everyone who signed is credited: here by a count, and by [`Participation`].
//!
//! Whoever records a task chooses which certificate, if there are several, and with it who of the signers is credited
//! beyond the quorum. The fuel that a record names is bound by no signature, as the outcome is known by its hash only:
//! so it's not kept.

use std::fmt;
use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use lamina_certificate::{OperatorSet, SignerBitmap, TaskCertificate};
use lamina_types::{
    Action, Address, Canonical as _, Digest, EpochNumber, Height, Input, OperationId, ServiceId,
    TaskId, TaskRecord,
};
use serde::{Deserialize, Serialize};

use super::operators::{self, SERVICE_SET_HEIGHTS_MAX, Sets};
use super::{Env, Module, Origin, Refusal, Scope, Stop, services};
use crate::StorageError;

/// Credits operators who took part in a task.
pub trait Participation: fmt::Debug + Send + Sync {
    /// These operators of `service` signed the certificate of a task that is recorded now for the first time.
    ///
    /// # Errors
    /// On a refusal the task isn't recorded either.
    fn record(
        &self,
        scope: &mut Scope<'_>,
        env: &Env<'_>,
        service: ServiceId,
        operators: &[Address],
    ) -> Result<(), Stop>;
}

/// The module that records tasks and takes requests for them.
#[derive(Debug)]
pub struct Tasks {
    participation: Box<dyn Participation>,
    sets: Arc<Sets>,
}

/// A task that was recorded.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct RecordedTask {
    /// The checkpoint that it was recorded in.
    pub height: Height,
    /// The operation that has the certificate.
    pub operation: OperationId,
    /// The service that was run.
    pub service: ServiceId,
    /// Who asked.
    pub requester: Address,
    /// The checkpoint that it's pinned to.
    pub pinned: Height,
    /// Digest of its outcome.
    pub outcome: Digest,
    /// The operator set of that height.
    pub epoch: EpochNumber,
    /// Who signed, of that epoch's whole set (the certificate's bitmap is of the service set).
    pub signers: SignerBitmap,
}

/// A task that was asked for in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct LedgerTask {
    /// Who asked.
    pub requester: Address,
    /// What it's run on.
    pub input: Input,
    /// The checkpoint that it came with.
    pub height: Height,
    /// The operation that asked.
    pub operation: OperationId,
}

impl Tasks {
    /// The module; `participation` is told who took part, `sets` can be shared.
    #[must_use]
    pub fn new(participation: Box<dyn Participation>, sets: Arc<Sets>) -> Self {
        Self { participation, sets }
    }

    fn record(
        &self,
        scope: &mut Scope<'_>,
        env: &Env<'_>,
        origin: &Origin,
        record: &TaskRecord,
    ) -> Result<(), Stop> {
        check_height(scope, env, record)?;
        let task = record.verify(env.context).map_err(|e| Refusal::invalid(&e.to_string()))?;
        if scope.get(&record_key(&task))?.is_some() {
            return Err(Refusal::exists("task").into());
        }
        let set = self.sets.service_set(scope, record.service, record.height)?;
        let set = set.ok_or_else(|| Refusal::unknown("operator set"))?;
        let certificate = certificate(record, &task, &set)?;
        let signers: Vec<_> = certificate
            .signers
            .iter()
            .filter_map(|index| set.get(index))
            .map(|operator| operator.address)
            .collect();
        let recorded = RecordedTask {
            height: env.height,
            operation: origin.operation,
            service: record.service,
            requester: record.requester,
            pinned: record.height,
            outcome: certificate.outcome,
            epoch: set.epoch(),
            signers: self.of_epoch(scope, set.epoch(), &signers)?,
        };
        scope.write(record_key(&task), &recorded);
        scope.write(result_key(env.height, &task), &certificate.outcome);
        for operator in &signers {
            operators::count_participation(scope, record.service, *operator)?;
        }
        self.participation.record(scope, env, record.service, &signers)
    }

    /// The same operators in the epoch's whole set.
    fn of_epoch(
        &self,
        scope: &Scope<'_>,
        epoch: EpochNumber,
        signers: &[Address],
    ) -> Result<SignerBitmap, StorageError> {
        let missing = || StorageError(format!("operator set of epoch {epoch}"));
        let all = self.sets.of_epoch(scope, epoch)?.ok_or_else(missing)?;
        let mut bitmap = SignerBitmap::empty(all.size());
        for signer in signers {
            bitmap.insert(operators::index_of(scope, epoch, *signer)?.ok_or_else(missing)?);
        }
        Ok(bitmap)
    }
}

/// The task has to be pinned to a checkpoint that was there, as was the service, and whose service set is still known.
fn check_height(scope: &Scope<'_>, env: &Env<'_>, record: &TaskRecord) -> Result<(), Stop> {
    let service = services::record(scope, record.service)?.ok_or_else(services::unknown)?;
    if record.height >= env.height {
        return Err(Refusal::invalid("the task is of a checkpoint that's yet to come").into());
    }
    if record.height < service.registered {
        return Err(Refusal::invalid("the service wasn't there at the task's checkpoint").into());
    }
    if env.height.0 - record.height.0 > SERVICE_SET_HEIGHTS_MAX {
        return Err(Refusal::invalid("the task's checkpoint is too long ago").into());
    }
    Ok(())
}

fn certificate(
    record: &TaskRecord,
    task: &TaskId,
    set: &OperatorSet,
) -> Result<TaskCertificate, Refusal> {
    let refusal = |e: &dyn fmt::Display| Refusal::invalid(&format!("the certificate: {e}"));
    // Not in the decoder's words: receipts don't change with its version.
    let certificate = TaskCertificate::from_bytes(record.certificate.as_slice())
        .map_err(|_| refusal(&"the bytes are none"))?;
    if certificate.task != *task {
        return Err(refusal(&"it's of another task"));
    }
    certificate.verify(set).map(|verified| verified.get().clone()).map_err(|e| refusal(&e))
}

impl Module for Tasks {
    fn name(&self) -> &'static str {
        "tasks"
    }

    fn handles(&self, action: &Action) -> bool {
        matches!(action, Action::RecordTask { .. } | Action::RequestTask { .. })
    }

    fn apply(
        &self,
        scope: &mut Scope<'_>,
        env: &Env<'_>,
        origin: &Origin,
        action: &Action,
    ) -> Result<(), Stop> {
        match action {
            Action::RecordTask { record } => self.record(scope, env, origin, record),
            Action::RequestTask { service, input } => {
                request(scope, env, origin, *service, input.clone())
            }
            _ => Err(Refusal::invalid("not about tasks").into()),
        }
    }

    /// Removes the results of the checkpoint before.
    fn begin(&self, scope: &mut Scope<'_>, _env: &Env<'_>) -> Result<(), StorageError> {
        for (key, _) in scope.range(RESULTS, None, usize::MAX)? {
            scope.remove(key);
        }
        Ok(())
    }
}

fn request(
    scope: &mut Scope<'_>,
    env: &Env<'_>,
    origin: &Origin,
    service: ServiceId,
    input: Input,
) -> Result<(), Stop> {
    let found = services::service(scope, service)?.ok_or_else(services::unknown)?;
    if found.record.paused {
        return Err(Refusal::invalid("the service is paused").into());
    }
    let max = found.manifest.limits.input_bytes;
    if input.as_slice().len() as u64 > u64::from(max) {
        let reason = format!("the service takes at most {max} bytes of input");
        return Err(Refusal::invalid(&reason).into());
    }
    let sequence = requests_count(scope, service)?;
    let next = sequence.checked_add(1).ok_or(Refusal::Overflow)?;
    let task = LedgerTask {
        requester: origin.account,
        input,
        height: env.height,
        operation: origin.operation,
    };
    scope.write(request_key(service, sequence), &task);
    scope.write(count_key(service), &next);
    Ok(())
}

/// What was recorded of a task.
///
/// # Errors
/// [`StorageError`].
pub fn recorded(scope: &Scope<'_>, task: &TaskId) -> Result<Option<RecordedTask>, StorageError> {
    scope.read(&record_key(task))
}

/// The tasks that were recorded in the checkpoint of this height, ascending, with the digests of their outcomes; nothing
/// once the next one has begun.
///
/// # Errors
/// [`StorageError`].
pub fn results(scope: &Scope<'_>, height: Height) -> Result<Vec<(TaskId, Digest)>, StorageError> {
    let prefix = [RESULTS, &height.0.to_be_bytes()].concat();
    let entry = |(key, value): (Vec<u8>, Vec<u8>)| {
        let task = key[prefix.len()..].try_into().ok().map(TaskId);
        let outcome = value.try_into().ok().map(Digest);
        task.zip(outcome).ok_or_else(|| StorageError(format!("key {}", hex::encode(&key))))
    };
    scope.range(&prefix, None, usize::MAX)?.into_iter().map(entry).collect()
}

/// How many tasks of a service were asked for in the ledger.
///
/// # Errors
/// [`StorageError`].
pub fn requests_count(scope: &Scope<'_>, service: ServiceId) -> Result<u64, StorageError> {
    Ok(scope.read(&count_key(service))?.unwrap_or(0))
}

/// The tasks of a service that were asked for in the ledger, with their numbers, from `from` on in the ledger's order; at
/// most `limit`.
///
/// # Errors
/// [`StorageError`].
pub fn requests(
    scope: &Scope<'_>,
    service: ServiceId,
    from: u64,
    limit: usize,
) -> Result<Vec<(u64, LedgerTask)>, StorageError> {
    let prefix = [REQUESTS, &service.0].concat();
    let after = from.checked_sub(1).map(|before| request_key(service, before));
    let entry = |(key, value): (Vec<u8>, Vec<u8>)| {
        let sequence = key[prefix.len()..].try_into().ok().map(u64::from_be_bytes);
        let task = borsh::from_slice(&value).ok();
        sequence.zip(task).ok_or_else(|| StorageError(format!("key {}", hex::encode(&key))))
    };
    scope.range(&prefix, after.as_deref(), limit)?.into_iter().map(entry).collect()
}

/// What the keys of results begin with; their values are 32 bytes.
pub const RESULTS: &[u8] = b"results/";
const REQUESTS: &[u8] = b"tasks/requests/";

fn result_key(height: Height, task: &TaskId) -> Vec<u8> {
    [RESULTS, &height.0.to_be_bytes(), &task.0].concat()
}

fn record_key(task: &TaskId) -> Vec<u8> {
    [b"tasks/records/".as_slice(), &task.0].concat()
}

fn request_key(service: ServiceId, sequence: u64) -> Vec<u8> {
    [REQUESTS, &service.0, &sequence.to_be_bytes()].concat()
}

fn count_key(service: ServiceId) -> Vec<u8> {
    [b"tasks/counts/".as_slice(), &service.0].concat()
}
