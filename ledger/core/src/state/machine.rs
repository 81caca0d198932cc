use std::sync::Arc;

use lamina_certificate::Genesis;
use lamina_types::{Address, ServiceChange, ServiceId};

use super::accounts::Accounts;
use super::claims::Claims;
use super::commitments::{self, Commitments};
use super::evidence::{Evidence, Slashing};
use super::governance::{self, Governance};
use super::operators::{self, Operators, Sets};
use super::rewards::{self, Rewards};
use super::services::{self, Services};
use super::tasks::{Participation, Tasks};
use super::vaults::Vaults;
use super::{Current, Directory, Env, Machine, Scope, Stop};
use crate::StorageError;
use crate::state::CURRENT_KEY;

/// What a proven offence takes of everything committed to the operator, in millionths. A guess between what an accident
/// deserves and what makes an attack dear; EigenLayer's stake is slashed beside it.
pub const OFFENCE_PPM: u32 = 100_000;

/// The state machine of a network, with all its modules. `more` are plugged in beside them.
#[must_use]
pub fn machine(genesis: &Genesis, more: Vec<Box<dyn super::Module>>) -> Machine {
    let sets = Arc::new(Sets::default());
    let directory = || Box::new(Registry);
    let rules = commitments::Rules { asset: genesis.ledger.fees.asset };
    let mut modules: Vec<Box<dyn super::Module>> = vec![
        Box::new(Accounts),
        Box::new(Claims),
        Box::new(Services),
        Box::new(Operators),
        Box::new(Tasks::new(Box::new(Credit), Arc::clone(&sets))),
        Box::new(Evidence::new(Box::new(Penalty), sets)),
        Box::new(Commitments::new(directory(), rules)),
        Box::new(Rewards::new(directory())),
        Box::new(Vaults),
        Box::new(Governance::new(directory(), governance::Rules::default())),
    ];
    modules.extend(more);
    Machine::new(genesis.signing_context(), genesis.ledger.fees.clone(), modules)
}

/// What the modules of value want to know of services and operators.
#[derive(Debug)]
struct Registry;

impl Directory for Registry {
    fn service_owner(
        &self,
        scope: &Scope<'_>,
        service: ServiceId,
    ) -> Result<Option<Address>, StorageError> {
        services::owner(scope, service)
    }

    fn serves(
        &self,
        scope: &Scope<'_>,
        service: ServiceId,
        operator: Address,
    ) -> Result<bool, StorageError> {
        let Some(current) = scope.read::<Current>(CURRENT_KEY)? else { return Ok(false) };
        operators::serves(scope, current.epoch, service, operator)
    }

    fn apply_change(
        &self,
        scope: &mut Scope<'_>,
        env: &Env<'_>,
        service: ServiceId,
        change: &ServiceChange,
    ) -> Result<(), Stop> {
        services::apply_change(scope, env, service, change)
    }
}

/// Who took part in a task earns from it.
#[derive(Debug)]
struct Credit;

impl Participation for Credit {
    fn record(
        &self,
        scope: &mut Scope<'_>,
        env: &Env<'_>,
        service: ServiceId,
        operators: &[Address],
    ) -> Result<(), Stop> {
        rewards::participation(scope, env, service, operators)
    }
}

/// Whose offence is proven loses a part of what's committed to it, at each service that it serves.
#[derive(Debug)]
struct Penalty;

impl Slashing for Penalty {
    fn slash(&self, scope: &mut Scope<'_>, env: &Env<'_>, operator: Address) -> Result<(), Stop> {
        for service in commitments::services_of(scope, operator)? {
            commitments::slash(scope, env, service, operator, OFFENCE_PPM)?;
        }
        Ok(())
    }
}
