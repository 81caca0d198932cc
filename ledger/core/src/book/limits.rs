use lamina_types::CHANGE_BYTES_MAX;

/// How much of what authors write is kept, and when a volume ends.
///
/// All nodes of a network must have the same: quotas and the rotation mark decide what is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Final operations at which a volume is closed. Automerge slows down in proportion to the document; up to about
    /// 4,000 operations it's quick, and one cut may bring many.
    pub volume_operations: u64,
    /// Changes that one author may write into a volume. As many as operations, so that it's never reached by writing
    /// singly at an honest pace before the volume is full.
    pub lane_changes: u64,
    /// Bytes that one author may write into a volume. 2,000 operations of 300 bytes are far below; 16 MiB leave room for
    /// manifests and are read within a second.
    pub lane_bytes: u64,
    /// Changes of a lane that are kept while they aren't final: some minutes of an honest author's.
    pub pending_changes: u64,
    /// Bytes of a lane that are kept while they aren't final.
    pub pending_bytes: u64,
    /// Books in which one author may have changes that aren't final. A guess; it bounds what a flooder costs in memory.
    pub author_books: usize,
    /// Documents that are kept. A guess: those that people look at.
    pub documents: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            volume_operations: 2000,
            lane_changes: 2000,
            lane_bytes: 16 << 20,
            pending_changes: 256,
            pending_bytes: 4 << 20,
            author_books: 64,
            documents: 32,
        }
    }
}

impl Limits {
    /// Whether the volume has to end since a lane of it may not get any further.
    pub(super) fn ends_lane(&self, changes: u64, bytes: u64) -> bool {
        let next = bytes.saturating_add(CHANGE_BYTES_MAX as u64);
        changes >= self.lane_changes || next > self.lane_bytes
    }
}
