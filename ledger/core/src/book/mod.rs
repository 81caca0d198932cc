//! Books: signed operations as Automerge documents, and the cuts through them.
