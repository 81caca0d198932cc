//! One change, checked by itself.
//!
//! What holds of a change doesn't depend on what else a node has, so all honest nodes take it or none. Whether its place
//! in the lane is free is [`super::Books`]' matter.

use std::collections::BTreeSet;

use ed25519_dalek::{Signature, VerifyingKey};
use lamina_types::account::SigningContext;
use lamina_types::{
    BookId, CHANGE_BYTES_MAX, Change, ChangeHead, ChangeId, Digest, List, OperationId, PeerKey,
    SignedOperation, VolumeId, operation,
};

/// A change whose signatures and form hold. Only [`verify`] and [`verify_with`] make it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedChange {
    change: Change,
    id: ChangeId,
    operations: Vec<OperationId>,
    bytes: usize,
}

impl VerifiedChange {
    /// The change.
    #[must_use]
    pub const fn change(&self) -> &Change {
        &self.change
    }

    /// Its identifier.
    #[must_use]
    pub const fn id(&self) -> ChangeId {
        self.id
    }

    /// Its operations with their identifiers, in its order.
    pub fn operations(&self) -> impl Iterator<Item = (OperationId, &SignedOperation)> {
        self.operations.iter().copied().zip(self.change.operations.as_slice())
    }

    /// Its operations' identifiers, in its order.
    #[must_use]
    pub fn operation_ids(&self) -> &[OperationId] {
        &self.operations
    }

    /// Length of its canonical bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The change, by value.
    #[must_use]
    pub fn into_change(self) -> Change {
        self.change
    }

    /// What its author signed, and the signature: half of a proof of equivocation.
    #[must_use]
    pub fn signed_head(&self) -> (ChangeHead, [u8; 64]) {
        (self.change.head(), self.change.signature)
    }
}

/// Checks a change: its author's signature, and that it does nothing but insert rightly signed operations of its book.
///
/// Takes about 0.1 ms for each operation.
///
/// # Errors
/// [`ChangeError`].
pub fn verify(change: Change, context: &SigningContext) -> Result<VerifiedChange, ChangeError> {
    verify_with(change, context, &|_, _| false)
}

/// As [`verify`], without checking the signatures of operations that `known` says to be verified with the very signature
/// that they have.
///
/// # Errors
/// [`ChangeError`].
pub fn verify_with(
    change: Change,
    context: &SigningContext,
    known: &dyn Fn(&OperationId, &SignedOperation) -> bool,
) -> Result<VerifiedChange, ChangeError> {
    if change.number == 0 || (change.number == 1) != (change.previous == ChangeId::default()) {
        return Err(ChangeError::Place);
    }
    if change.operations.as_slice().is_empty() {
        return Err(ChangeError::Empty);
    }
    let bytes = borsh::object_length(&change).expect("counting bytes doesn't fail");
    if bytes > CHANGE_BYTES_MAX {
        return Err(ChangeError::TooLong { bytes });
    }
    let id = change.head().id(&context.chain);
    check_author(&change, &id)?;
    let operations = check_operations(&change, context, known)?;
    Ok(VerifiedChange { change, id, operations, bytes })
}

fn check_author(change: &Change, id: &ChangeId) -> Result<(), ChangeError> {
    let key = VerifyingKey::from_bytes(&change.author.0).map_err(|_| ChangeError::Signature)?;
    let signature = Signature::from_bytes(&change.signature);
    key.verify_strict(&id.0, &signature).map_err(|_| ChangeError::Signature)
}

/// The identifiers. What costs little is checked of all first.
fn check_operations(
    change: &Change,
    context: &SigningContext,
    known: &dyn Fn(&OperationId, &SignedOperation) -> bool,
) -> Result<Vec<OperationId>, ChangeError> {
    let operations = change.operations.as_slice();
    if let Some(index) = operations.iter().position(|o| book_of(o) != change.volume.book) {
        return Err(ChangeError::ForeignBook { index });
    }
    let ids: Vec<_> = operations.iter().map(|signed| signed.operation.id(context)).collect();
    let mut seen = BTreeSet::new();
    if let Some(index) = ids.iter().position(|id| !seen.insert(id)) {
        return Err(ChangeError::Twice { index });
    }
    for (index, (id, signed)) in ids.iter().zip(operations).enumerate() {
        if !known(id, signed) {
            signed.verify(context).map_err(|source| ChangeError::Operation { index, source })?;
        }
    }
    Ok(ids)
}

/// The book in which an operation stands.
pub(super) fn book_of(signed: &SignedOperation) -> BookId {
    signed.operation.action.service().map_or(BookId::Network, BookId::Service)
}

/// A change to be signed by its author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// In which volume.
    pub volume: VolumeId,
    /// Who signs it.
    pub author: PeerKey,
    /// Its place in the lane, from 1.
    pub number: u64,
    /// The author's change before it in this volume; zero for the first.
    pub previous: ChangeId,
    /// What it inserts.
    pub operations: List<SignedOperation, { lamina_types::CHANGE_OPERATIONS_MAX }>,
}

impl Draft {
    /// The change, signed by `key`, which is given the digest that the author's ed25519 key signs.
    ///
    /// Whoever signs must have the change on disk before it leaves the node: two with one number prove equivocation.
    pub fn sign(self, context: &SigningContext, key: &dyn Fn(&Digest) -> [u8; 64]) -> Change {
        let Self { volume, author, number, previous, operations } = self;
        let mut change =
            Change { volume, author, number, previous, operations, signature: [0; 64] };
        change.signature = key(&Digest(change.head().id(&context.chain).0));
        change
    }
}

/// Why a change is refused, with all that depends on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// Numbers count from 1, and only the first change has none before it.
    #[error("its number and its previous change don't fit together")]
    Place,
    /// Nothing in it.
    #[error("no operations")]
    Empty,
    /// Longer than [`CHANGE_BYTES_MAX`].
    #[error("{bytes} bytes, at most {CHANGE_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not signed by its author.
    #[error("the author's signature doesn't hold")]
    Signature,
    /// An operation of another book.
    #[error("operation {index} belongs into another book")]
    ForeignBook {
        /// Which one, from 0.
        index: usize,
    },
    /// An operation that is in it already.
    #[error("operation {index} is in it twice")]
    Twice {
        /// The second one, from 0.
        index: usize,
    },
    /// An operation that doesn't hold.
    #[error("operation {index}")]
    Operation {
        /// Which one, from 0.
        index: usize,
        /// Why.
        #[source]
        source: operation::Error,
    },
}
