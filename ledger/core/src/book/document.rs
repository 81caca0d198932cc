//! A volume as an Automerge document.
//!
//! The document starts with one change that all nodes make alike: actor zero, time 0, a map `operations`, and the scalars
//! `book` and `volume`, which keep documents of different volumes apart. A [`lamina_types::Change`] becomes the Automerge
//! change whose actor is the author's key, whose sequence number is the change's number, and which depends on the author's
//! change before it alone; each operation is a put of its bytes under the hexadecimal form of its identifier. So the same
//! changes make the same document with the same heads at each node, whatever the order of lanes.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use automerge::legacy::{Key, ObjectId, Op, OpId, OpType};
use automerge::{ActorId, Automerge, ChangeHash, ExpandedChange, ObjType, ScalarValue};
use lamina_types::{Canonical as _, ChangeId, PeerKey, VolumeId};

use super::VerifiedChange;

/// A volume's document and how far each lane is in it.
#[derive(Debug, Clone)]
pub struct Document {
    automerge: Automerge,
    genesis: ChangeHash,
    lanes: BTreeMap<PeerKey, Applied>,
}

/// The end of a lane in a document.
#[derive(Debug, Clone, Copy)]
struct Applied {
    number: u64,
    change: ChangeId,
    hash: ChangeHash,
    operations: u64,
}

impl Document {
    /// The document of a volume that nobody wrote into.
    ///
    /// # Panics
    /// Never: the first change is the same for all but two scalars, and applies.
    #[must_use]
    pub fn new(volume: &VolumeId) -> Self {
        let genesis = genesis(volume);
        let hash = genesis.hash();
        // The document makes no changes of its own; the actor is set since the default is random.
        let mut automerge = Automerge::new().with_actor(ActorId::from([0; 32]));
        automerge.apply_changes([genesis]).expect("the first change depends on nothing");
        Self { automerge, genesis: hash, lanes: BTreeMap::new() }
    }

    /// Adds changes, each after its author's change before it, in one batch.
    ///
    /// # Errors
    /// [`NotInLane`], and the document stays as it is.
    ///
    /// # Panics
    /// Never: a change that comes right after its lane's last one applies.
    pub fn extend<'a>(
        &mut self,
        changes: impl IntoIterator<Item = &'a VerifiedChange>,
    ) -> Result<(), NotInLane> {
        let mut lanes = self.lanes.clone();
        let batch = changes
            .into_iter()
            .map(|change| self.convert(change, &mut lanes))
            .collect::<Result<Vec<_>, _>>()?;
        if !batch.is_empty() {
            self.automerge.apply_changes(batch).expect("each follows its lane's last change");
        }
        self.lanes = lanes;
        Ok(())
    }

    fn convert(
        &self,
        verified: &VerifiedChange,
        lanes: &mut BTreeMap<PeerKey, Applied>,
    ) -> Result<automerge::Change, NotInLane> {
        let change = verified.change();
        let author = change.author;
        let last = lanes.get(&author).copied().unwrap_or(Applied {
            number: 0,
            change: NONE,
            hash: self.genesis,
            operations: 0,
        });
        if (last.number.checked_add(1), last.change) != (Some(change.number), change.previous) {
            return Err(NotInLane { author, number: change.number });
        }
        let converted = automerge_change(verified, last.operations, last.hash);
        let operations = last.operations + verified.operation_ids().len() as u64;
        let hash = converted.hash();
        let end = Applied { number: change.number, change: verified.id(), hash, operations };
        lanes.insert(author, end);
        Ok(converted)
    }

    /// The document.
    #[must_use]
    pub const fn automerge(&self) -> &Automerge {
        &self.automerge
    }

    /// Automerge's heads, ascending: the ends of the lanes.
    #[must_use]
    pub fn heads(&self) -> Vec<ChangeHash> {
        let mut heads = self.automerge.get_heads();
        heads.sort_unstable();
        heads
    }

    /// The last change of an author in it, and its number; zero and 0 if there's none.
    pub(super) fn end(&self, author: &PeerKey) -> (u64, ChangeId) {
        self.lanes.get(author).map_or((0, NONE), |end| (end.number, end.change))
    }

    /// Who wrote what is in it.
    pub(super) fn authors(&self) -> impl Iterator<Item = &PeerKey> {
        self.lanes.keys()
    }
}

/// A volume in Automerge's file format, the same bytes at each node: lanes are added by author, since the format depends on
/// the order in which changes came.
///
/// # Errors
/// [`NotInLane`]: a lane has a gap or two branches.
pub fn export<'a>(
    changes: impl IntoIterator<Item = &'a VerifiedChange>,
    volume: &VolumeId,
) -> Result<Vec<u8>, NotInLane> {
    let mut sorted: Vec<_> = changes.into_iter().collect();
    sorted.sort_by_key(|verified| (verified.change().author, verified.change().number));
    let mut document = Document::new(volume);
    document.extend(sorted)?;
    Ok(document.automerge.save())
}

/// A change that doesn't come right after its author's change before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("change {number} of {author} doesn't follow the last one of its lane")]
pub struct NotInLane {
    /// Whose.
    pub author: PeerKey,
    /// Which one.
    pub number: u64,
}

/// What comes before a lane's first change.
const NONE: ChangeId = ChangeId([0; 32]);
/// Operations of the first change: the map, then the two scalars.
const GENESIS_OPERATIONS: u64 = 3;

fn genesis(volume: &VolumeId) -> automerge::Change {
    let put = |key: &str, action| Op {
        action,
        obj: ObjectId::Root,
        key: Key::Map(key.into()),
        pred: Vec::new().into(),
        insert: false,
    };
    let book = OpType::Put(ScalarValue::Str(volume.book.to_string().into()));
    let operations = vec![
        put("operations", OpType::Make(ObjType::Map)),
        put("book", book),
        put("volume", OpType::Put(ScalarValue::Uint(volume.volume.into()))),
    ];
    expanded(ActorId::from([0; 32]), 1, NonZeroU64::MIN, Vec::new(), operations).into()
}

/// The change as Automerge has it. `operations_before` counts those of the lane before it.
fn automerge_change(
    verified: &VerifiedChange,
    operations_before: u64,
    previous: ChangeHash,
) -> automerge::Change {
    let operations = verified.operations().map(|(id, signed)| Op {
        action: OpType::Put(ScalarValue::Bytes(signed.to_bytes())),
        obj: ObjectId::Id(OpId::new(1, &ActorId::from([0; 32]))),
        key: Key::Map(hex::encode(id.0).into()),
        pred: Vec::new().into(),
        insert: false,
    });
    let start = NonZeroU64::MIN.saturating_add(GENESIS_OPERATIONS + operations_before);
    let change = verified.change();
    let actor = ActorId::from(change.author.0);
    expanded(actor, change.number, start, vec![previous], operations.collect()).into()
}

fn expanded(
    actor_id: ActorId,
    seq: u64,
    start_op: NonZeroU64,
    deps: Vec<ChangeHash>,
    operations: Vec<Op>,
) -> ExpandedChange {
    ExpandedChange {
        operations,
        actor_id,
        hash: None,
        seq,
        start_op,
        time: 0,
        message: None,
        deps,
        extra_bytes: Vec::new(),
        author: None,
    }
}

#[cfg(test)]
mod tests {
    use lamina_types::BookId;

    use super::*;

    #[test]
    fn documents_of_different_volumes_have_different_heads() {
        let heads = |volume| Document::new(&VolumeId { book: BookId::Network, volume }).heads();
        assert_eq!(heads(0), heads(0));
        assert_ne!(heads(0), heads(1));
    }
}
