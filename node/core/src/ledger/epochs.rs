use std::collections::BTreeSet;
use std::sync::Arc;

use lamina_certificate::OperatorSet;
use lamina_types::{Digest, EpochNumber, Height, PeerKey};

/// Epochs before the tip's that are remembered: evidence of older ones comes too late, here as in the state.
pub(super) const PAST_EPOCHS_KEPT: usize = 16;

/// The operator sets of the epochs that are known, each from the first checkpoint that it signs.
#[derive(Debug, Clone)]
pub(crate) struct Epochs(Vec<Epoch>);

#[derive(Debug, Clone)]
struct Epoch {
    from: Height,
    set: Arc<OperatorSet>,
    consensus: Arc<OperatorSet>,
    root: Digest,
}

impl Epochs {
    /// Epochs in ascending order.
    ///
    /// # Panics
    /// If there's none.
    pub(crate) fn new(epochs: impl IntoIterator<Item = (Height, Arc<OperatorSet>)>) -> Self {
        let epochs: Vec<Epoch> =
            epochs.into_iter().map(|(from, set)| Epoch::new(from, set)).collect();
        assert!(!epochs.is_empty(), "a network has operators from the beginning");
        Self(epochs)
    }

    /// A later epoch begins, whose operators were handed over to. One that's known is left.
    pub(crate) fn begin(&mut self, from: Height, set: Arc<OperatorSet>) {
        if set.epoch() > self.last().epoch() {
            self.0.push(Epoch::new(from, set));
        }
    }

    /// Forgets what's long before this height.
    pub(crate) fn forget_before(&mut self, height: Height) {
        let past = self.index(height).saturating_sub(PAST_EPOCHS_KEPT);
        self.0.drain(..past);
    }

    /// The last epoch that's known.
    pub(crate) fn last(&self) -> &Arc<OperatorSet> {
        &self.0.last().expect("there's always one").set
    }

    /// The number of the epoch whose set signs this checkpoint.
    pub(crate) fn number(&self, height: Height) -> EpochNumber {
        self.at(height).set.epoch()
    }

    /// The operators of this epoch, if it's known.
    pub(crate) fn of(&self, number: EpochNumber) -> Option<&Arc<OperatorSet>> {
        self.0.iter().map(|epoch| &epoch.set).find(|set| set.epoch() == number)
    }

    /// All operators of the epoch.
    pub(crate) fn set(&self, height: Height) -> &Arc<OperatorSet> {
        &self.at(height).set
    }

    /// Those who finalise.
    pub(crate) fn consensus(&self, height: Height) -> &Arc<OperatorSet> {
        &self.at(height).consensus
    }

    /// The root of all operators.
    pub(crate) fn root(&self, height: Height) -> Digest {
        self.at(height).root
    }

    /// Whether this is an operator's key in the epoch of `height`, or the one before: those write to books.
    pub(crate) fn is_operator(&self, height: Height, key: &PeerKey) -> bool {
        self.written_by(height).any(|set| set.index_of_peer(key).is_some())
    }

    /// Who may write to books at `height`.
    pub(crate) fn authors(&self, height: Height) -> BTreeSet<PeerKey> {
        self.written_by(height).flat_map(|set| set.iter().map(|(_, o)| o.peer_key)).collect()
    }

    /// This epoch's set and the one before it: what those wrote last is still carried.
    fn written_by(&self, height: Height) -> impl Iterator<Item = &Arc<OperatorSet>> {
        let index = self.index(height);
        self.0[index.saturating_sub(1)..=index].iter().map(|epoch| &epoch.set)
    }

    fn at(&self, height: Height) -> &Epoch {
        &self.0[self.index(height)]
    }

    /// Of a height before all that's known, the first one.
    fn index(&self, height: Height) -> usize {
        self.0.partition_point(|epoch| epoch.from <= height).saturating_sub(1)
    }
}

impl Epoch {
    fn new(from: Height, set: Arc<OperatorSet>) -> Self {
        let (consensus, root) = (Arc::new(set.consensus_set()), set.root());
        Self { from, set, consensus, root }
    }
}
