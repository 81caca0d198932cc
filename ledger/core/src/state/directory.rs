use std::fmt::Debug;

use lamina_types::{Address, ServiceChange, ServiceId};

use super::{Env, Scope, Stop};
use crate::StorageError;

/// What the modules of value ask of those that know services and operators.
pub trait Directory: Debug + Send + Sync {
    /// The service's owner; `None` if there's no such service.
    ///
    /// # Errors
    /// [`StorageError`].
    fn service_owner(
        &self,
        scope: &Scope<'_>,
        service: ServiceId,
    ) -> Result<Option<Address>, StorageError>;

    /// Whether the operator serves the service.
    ///
    /// # Errors
    /// [`StorageError`].
    fn serves(
        &self,
        scope: &Scope<'_>,
        service: ServiceId,
        operator: Address,
    ) -> Result<bool, StorageError>;

    /// Carries out what a service's voters decided. On a refusal, what it did is undone.
    ///
    /// # Errors
    /// [`Stop::Refused`] if the change doesn't fit the service as it is now; [`Stop::Fault`].
    fn apply_change(
        &self,
        scope: &mut Scope<'_>,
        env: &Env<'_>,
        service: ServiceId,
        change: &ServiceChange,
    ) -> Result<(), Stop>;
}
