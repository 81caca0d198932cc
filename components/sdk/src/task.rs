//! The task that is being run.

use crate::host;

/// The task's identifier. Hardly predictable and the same at all operators, so it can seed a choice that needn't be secret.
///
/// # Panics
/// If the host gives anything but 32 bytes, which the contract rules out.
#[must_use]
pub fn id() -> [u8; 32] {
    host::task_id().try_into().expect("a task's identifier has 32 bytes")
}

/// The height of the checkpoint that the task is pinned to.
#[must_use]
pub fn height() -> u64 {
    host::task_height()
}
