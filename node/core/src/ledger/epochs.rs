use std::collections::BTreeSet;
use std::sync::Arc;

use lamina_certificate::OperatorSet;
use lamina_types::{Digest, EpochNumber, Height, PeerKey};

/// The operator sets of all epochs that are known, each from the first checkpoint that it signs.
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
    /// Epochs in ascending order; the first begins at height 0.
    pub(crate) fn new(epochs: Vec<(Height, OperatorSet)>) -> Self {
        assert!(epochs.first().is_some_and(|(from, _)| from.0 == 0), "epoch 0 begins at genesis");
        let epoch = |(from, set): (Height, OperatorSet)| {
            let (consensus, root) = (Arc::new(set.consensus_set()), set.root());
            Epoch { from, set: Arc::new(set), consensus, root }
        };
        Self(epochs.into_iter().map(epoch).collect())
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

    fn index(&self, height: Height) -> usize {
        self.0.partition_point(|epoch| epoch.from <= height) - 1
    }
}
