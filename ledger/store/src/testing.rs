//! For tests and benchmarks: a ledger of one node without a network, whose checkpoints nobody agreed on.

use std::path::Path;

use lamina_certificate::{CheckpointCertificate, Genesis, SecretKey, SignerBitmap};
use lamina_ledger::state::{CheckpointInput, Executed, Machine, Receipt, Writes, machine};
use lamina_ledger::{Decision, Finalised};
use lamina_types::account::SigningContext;
use lamina_types::{
    CheckpointHeader, Cut, EpochNumber, EthereumBlock, HeaderId, Height, SignedOperation, Timestamp,
};

use crate::{Config, Store};

/// A state machine and the disk that it works on.
#[derive(Debug)]
pub struct Solo {
    store: Store,
    machine: Machine,
    context: SigningContext,
}

impl Solo {
    /// Opens a ledger, or begins it.
    ///
    /// # Panics
    /// If the disk fails or the genesis doesn't hold, as all of these functions.
    #[must_use]
    pub fn open(path: &Path, genesis: &Genesis, config: Config) -> Self {
        let context = genesis.signing_context();
        let store = Store::open(path, &context.chain, config).expect("a ledger");
        let solo = Self { store, machine: machine(genesis, Vec::new()), context };
        if solo.store.tip().expect("a disk").is_none() {
            let reader = solo.store.reader().expect("a state");
            let executed = solo.machine.genesis(&reader, genesis).expect("the genesis holds");
            solo.commit(Height(0), HeaderId::default(), Timestamp(0), executed);
        }
        solo
    }

    /// The disk.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Carries operations out, whose signatures nobody looks at, and commits the checkpoint. Returns what was written and
    /// what became of the operations.
    ///
    /// # Panics
    /// See [`Self::open`].
    pub fn advance(
        &self,
        time: Timestamp,
        operations: &[SignedOperation],
    ) -> (Writes, Vec<Receipt>) {
        let tip = self.store.tip().expect("a disk").expect("genesis").header;
        let with_id =
            |signed: &SignedOperation| (signed.operation.id(&self.context), signed.clone());
        let input = CheckpointInput {
            height: Height(tip.height.0 + 1),
            previous: tip.id(&self.context.chain),
            time,
            epoch: EpochNumber(0),
            ethereum: EthereumBlock::default(),
            deposits: Vec::new(),
            operators: None,
            operations: operations.iter().map(with_id).collect(),
            system: Writes::default(),
        };
        let reader = self.store.reader().expect("a state");
        let executed = self.machine.execute(&reader, &input).expect("a disk");
        let done = (executed.writes.clone(), executed.receipts.clone());
        self.commit(input.height, input.previous, time, executed);
        done
    }

    fn commit(&self, height: Height, previous: HeaderId, time: Timestamp, executed: Executed) {
        let cut = Cut::default();
        let header = CheckpointHeader {
            epoch: EpochNumber(0),
            height,
            previous,
            history: Default::default(),
            cut: cut.digest(),
            state: executed.state,
            claims: executed.claims,
            results: executed.results,
            ethereum: EthereumBlock::default(),
            time,
            operators: Default::default(),
            next_operators: Default::default(),
        };
        // The store doesn't check signatures.
        let certificate = (height > Height(0)).then(|| CheckpointCertificate {
            epoch: header.epoch,
            height,
            round: 0,
            header: header.id(&self.context.chain),
            signers: SignerBitmap::empty(1),
            signature: SecretKey::derive(&[1; 32]).sign(&header.cut),
        });
        let finalised = Finalised {
            decision: Decision { header, certificate, cut },
            executed,
            opened: Vec::new(),
            changes: Vec::new(),
            closed: Vec::new(),
            dropped: Vec::new(),
            history_nodes: Vec::new(),
            handover: None,
        };
        self.store.commit(&finalised).expect("a disk");
    }
}
