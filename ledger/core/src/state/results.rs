//! What a checkpoint's results are made of, as it stands in the state: [`lamina_certificate::results`] is their tree.

use lamina_types::{Digest, Height, TaskId};

use super::Scope;
use crate::StorageError;

/// What was recorded in the checkpoint of this height, ascending by task.
///
/// # Errors
/// [`StorageError`].
pub(super) fn recorded(
    scope: &Scope<'_>,
    height: Height,
) -> Result<Vec<(TaskId, Digest)>, StorageError> {
    let prefix = [RESULTS, &height.0.to_be_bytes()].concat();
    let entries = scope.range(&prefix, None, usize::MAX)?;
    let read = |(key, value): (Vec<u8>, Vec<u8>)| {
        let task = key.get(prefix.len()..).and_then(|task| task.try_into().ok());
        let (task, outcome) = task.zip(value.try_into().ok())?;
        Some((TaskId(task), Digest(outcome)))
    };
    let outcomes: Option<_> = entries.into_iter().map(read).collect();
    outcomes.ok_or_else(|| StorageError("a task's result has another form".to_owned()))
}

/// The key under which a task's outcome is recorded; its value is the outcome's digest, 32 bytes.
#[must_use]
pub fn result_key(height: Height, task: &TaskId) -> Vec<u8> {
    [RESULTS, &height.0.to_be_bytes(), &task.0].concat()
}

/// What keys of results begin with; height (8 bytes, big-endian) and task follow.
const RESULTS: &[u8] = b"results/";
