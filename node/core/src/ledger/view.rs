use lamina_types::{Address, Digest, HeaderId, Height, OperationId, SignedOperation, Timestamp};
use serde::Serialize;

use super::Ledger;
use crate::Node;

/// How far a node's ledger is.
#[derive(Debug, Clone, Serialize)]
pub struct LedgerView {
    /// The last checkpoint.
    pub height: Height,
    /// Its header.
    pub header: HeaderId,
    /// Its time.
    pub time: Timestamp,
    /// Its state root.
    pub state: Digest,
    /// The first checkpoint that this node can send with all its changes.
    pub first: Height,
    /// Operations in books that aren't final.
    pub pending: usize,
    /// Operations that this node promised to carry until they are final.
    pub promised: usize,
    /// The highest checkpoint that a peer told of.
    pub highest: Height,
}

impl Ledger {
    fn view(&self) -> LedgerView {
        let heights = self.peers.values().map(super::sync::Peer::height);
        LedgerView {
            height: self.tip.header.height,
            header: self.tip.id,
            time: self.tip.header.time,
            state: self.tip.header.state,
            first: self.first,
            pending: self.books.pending_count(),
            promised: self.promises.len(),
            highest: heights.max().unwrap_or_default().max(self.tip.header.height),
        }
    }
}

impl Node {
    /// How far the ledger is; `None` for a node without one.
    #[must_use]
    pub fn ledger_view(&self) -> Option<LedgerView> {
        self.ledger.as_ref().map(|ledger| ledger.view())
    }

    /// The operations in books that aren't final, and those that this node promised.
    pub fn pending_operations(&self) -> impl Iterator<Item = (OperationId, SignedOperation)> {
        self.ledger.iter().flat_map(|ledger| {
            let promised = ledger.promises.iter().filter(|(id, _)| !ledger.books.contains(id));
            let promised = promised.map(|(id, signed)| (*id, signed.clone()));
            ledger.books.pending().map(|(id, signed)| (id, signed.clone())).chain(promised)
        })
    }

    /// An operation that isn't final.
    #[must_use]
    pub fn pending_operation(&self, id: &OperationId) -> Option<SignedOperation> {
        let ledger = self.ledger.as_ref()?;
        ledger.promises.get(id).or_else(|| ledger.books.pending_operation(id)).cloned()
    }

    /// The number of an account's next operation, after those that are pending, if the state expects `next`.
    #[must_use]
    pub fn next_sequence(&self, account: Address, next: u64) -> u64 {
        self.ledger.as_ref().map_or(next, |ledger| ledger.next_sequence(account, next))
    }

    /// Whether the ledger takes more of Ethereum's chain for now: otherwise the shell waits with it.
    #[must_use]
    pub fn takes_ethereum(&self) -> bool {
        self.ledger.as_ref().is_some_and(|ledger| ledger.ethereum.has_room())
    }

    /// Counters of the ledger.
    #[must_use]
    pub fn ledger_metrics(&self) -> Option<&super::LedgerMetrics> {
        self.ledger.as_ref().map(|ledger| ledger.metrics())
    }
}
