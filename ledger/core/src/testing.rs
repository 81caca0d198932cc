//! For tests: a state in memory, that is committed to as a node commits to its disk.

use std::collections::BTreeMap;
use std::ops::Bound;

use jmt::storage::{HasPreimage, LeafNode, Node, NodeKey, TreeReader};
use jmt::{KeyHash, OwnedValue, Version};
use lamina_certificate::Genesis;
use lamina_types::Digest;

use crate::state::{Executed, Machine, tree};
use crate::{Entries, StateReader, StorageError};

/// A state in memory, with all versions of its tree.
#[derive(Debug, Clone, Default)]
pub struct MemoryState {
    version: Option<Version>,
    root: Digest,
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    nodes: BTreeMap<NodeKey, Node>,
    values: BTreeMap<(KeyHash, Version), Option<OwnedValue>>,
    keys: BTreeMap<KeyHash, Vec<u8>>,
    /// What was written, by key and version.
    written: BTreeMap<(Vec<u8>, Version), Option<Vec<u8>>>,
}

impl MemoryState {
    /// The state of checkpoint 0.
    ///
    /// # Panics
    /// If the genesis can't be carried out.
    #[must_use]
    pub fn genesis(machine: &Machine, genesis: &Genesis) -> Self {
        let mut state = Self::default();
        let executed = machine.genesis(&state, genesis).expect("the genesis holds");
        state.commit(&executed);
        state
    }

    /// Takes over what a checkpoint comes to.
    pub fn commit(&mut self, executed: &Executed) {
        self.version = Some(self.version.map_or(0, |version| version + 1));
        self.root = executed.state;
        for (key, value) in &executed.writes {
            self.keys.insert(tree::key_hash(key), key.clone());
            let version = self.version.expect("it was set above");
            self.written.insert((key.clone(), version), value.clone());
            match value {
                Some(value) => self.entries.insert(key.clone(), value.clone()),
                None => self.entries.remove(key),
            };
        }
        let batch = &executed.tree.node_batch;
        self.nodes.extend(batch.nodes().iter().map(|(key, node)| (key.clone(), node.clone())));
        let values = batch.values().iter();
        self.values.extend(values.map(|((version, key), v)| ((*key, *version), v.clone())));
    }

    /// The root after the last checkpoint; zero before the first.
    #[must_use]
    pub const fn root(&self) -> Digest {
        self.root
    }

    /// All keys with their values.
    #[must_use]
    pub const fn entries(&self) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        &self.entries
    }
}

impl StateReader for MemoryState {
    fn version(&self) -> Version {
        self.version.unwrap_or_default()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.entries.get(key).cloned())
    }

    fn get_at(&self, key: &[u8], version: Version) -> Result<Option<Vec<u8>>, StorageError> {
        let versions = (key.to_vec(), 0)..=(key.to_vec(), version);
        Ok(self.written.range(versions).next_back().and_then(|(_, value)| value.clone()))
    }

    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Entries, StorageError> {
        if start >= end {
            return Ok(Entries::new());
        }
        let bounds = (Bound::Included(start), Bound::Excluded(end));
        let found = self.entries.range::<[u8], _>(bounds).take(limit);
        Ok(found.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

impl TreeReader for MemoryState {
    fn get_node_option(&self, key: &NodeKey) -> Result<Option<Node>, anyhow::Error> {
        Ok(self.nodes.get(key).cloned())
    }

    fn get_value_option(
        &self,
        max_version: Version,
        key: KeyHash,
    ) -> Result<Option<OwnedValue>, anyhow::Error> {
        let last = self.values.range((key, 0)..=(key, max_version)).next_back();
        Ok(last.and_then(|(_, value)| value.clone()))
    }

    fn get_rightmost_leaf(&self) -> Result<Option<(NodeKey, LeafNode)>, anyhow::Error> {
        let leaves = self.nodes.iter().filter_map(|(key, node)| match node {
            Node::Leaf(leaf) => Some((key.clone(), leaf.clone())),
            Node::Null | Node::Internal(_) => None,
        });
        Ok(leaves.max_by_key(|(_, leaf)| leaf.key_hash()))
    }
}

impl HasPreimage for MemoryState {
    fn preimage(&self, key: KeyHash) -> Result<Option<Vec<u8>>, anyhow::Error> {
        Ok(self.keys.get(&key).cloned())
    }
}
