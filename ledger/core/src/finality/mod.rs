//! Finality: the consensus on checkpoints.
