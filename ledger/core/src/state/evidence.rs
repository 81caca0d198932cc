//! Evidence: operators who signed two different things where they may sign one, proven and slashed once.
//!
//! The proof is checked against the operator set of its epoch (`lamina-certificate`). An offence is known by the operator
//! and the place of what it signed, so other signatures at the same place change nothing more.

use std::fmt;
use std::sync::Arc;

use lamina_certificate::Evidence as Proof;
use lamina_types::{Action, Address, Canonical as _};

use super::operators::{self, Offence, Sets};
use super::{Env, Module, Origin, Refusal, Scope, Stop};

/// How many epochs back evidence counts. What it can take has to be bound for longer.
pub const EVIDENCE_EPOCHS_MAX: u64 = 2;

/// Takes from what stands behind an operator.
pub trait Slashing: fmt::Debug + Send + Sync {
    /// An offence of this operator is proven for the first time.
    ///
    /// # Errors
    /// On a refusal the offence isn't noted either.
    fn slash(&self, scope: &mut Scope<'_>, env: &Env<'_>, operator: Address) -> Result<(), Stop>;
}

/// The module that takes evidence.
#[derive(Debug)]
pub struct Evidence {
    slashing: Box<dyn Slashing>,
    sets: Arc<Sets>,
}

impl Evidence {
    /// The module; `slashing` is told of each offence once, `sets` can be shared.
    #[must_use]
    pub fn new(slashing: Box<dyn Slashing>, sets: Arc<Sets>) -> Self {
        Self { slashing, sets }
    }
}

impl Module for Evidence {
    fn name(&self) -> &'static str {
        "evidence"
    }

    fn handles(&self, action: &Action) -> bool {
        matches!(action, Action::SubmitEvidence { .. })
    }

    fn apply(
        &self,
        scope: &mut Scope<'_>,
        env: &Env<'_>,
        origin: &Origin,
        action: &Action,
    ) -> Result<(), Stop> {
        let Action::SubmitEvidence { evidence } = action else {
            return Err(Refusal::invalid("not evidence").into());
        };
        let refusal = |e: &dyn fmt::Display| Refusal::invalid(&format!("the evidence: {e}"));
        // Not in the decoder's words: receipts don't change with its version.
        let proof =
            Proof::from_bytes(evidence.as_slice()).map_err(|_| refusal(&"the bytes are none"))?;
        let epoch = proof.epoch();
        if env.epoch.0.saturating_sub(epoch.0) > EVIDENCE_EPOCHS_MAX {
            return Err(refusal(&"its epoch is too long ago").into());
        }
        let set = self.sets.of_epoch(scope, epoch)?;
        let operator = proof.verify(|_| set.clone()).map_err(|e| refusal(&e))?;
        let offence = Offence {
            kind: proof.kind(),
            epoch,
            height: env.height,
            reporter: origin.account,
            operation: origin.operation,
        };
        let place = proof.place(&env.context.chain, &operator);
        operators::put_offence(scope, operator, &place, &offence)?;
        self.slashing.slash(scope, env, operator)
    }
}
