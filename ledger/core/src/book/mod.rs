//! Books: signed operations as Automerge documents, and the cuts through them.
//!
//! An operator writes into a book by signed [`lamina_types::Change`]s, which form its lane: each names the one before it and
//! nothing else. [`verify`] looks at a change alone, so honest nodes never differ about one; [`Books`] keeps what isn't
//! final, whatever the order in which it comes, proposes cuts, checks those of others, and lets go of what is final.
//! Automerge's own bytes never come from outside: a [`Document`] is built here, from verified changes.

mod books;
mod change;
mod cut;
mod document;
mod lane;
mod limits;

pub use books::{Books, Inserted, Refused, VolumeSource};
pub use change::{ChangeError, Draft, VerifiedChange, verify, verify_with};
pub use cut::{ChangeRef, CutError, Fallen, FinalisedCut, InvalidCut};
pub use document::{Document, NotInLane, export};
pub use lane::FinalLane;
pub use limits::Limits;
