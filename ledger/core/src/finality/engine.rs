use std::fmt;
use std::sync::Arc;

use lamina_certificate::{Checkpoint, OperatorSet, PublicKey, Signature};
use lamina_types::{ChainId, Cut, Digest, HeaderId, Height, OperatorIndex, PeerKey, Timestamp};
use rand_chacha::ChaCha20Rng;

use super::ahead::Ahead;
use super::config::Config;
use super::desk::Office;
use super::equivocation::Equivocation;
use super::instance::Instance;
use super::log::LogEntry;
use super::message::{ConsensusMessage, Value};

/// Signs as this node's operator.
pub trait Signer: Send {
    /// The public part of the operator's BLS key.
    fn bls_public_key(&self) -> PublicKey;
    /// With the operator's BLS key.
    fn bls(&self, message: &Digest) -> Signature;
    /// With the node's ed25519 key.
    fn ed25519(&self, message: &Digest) -> [u8; 64];
}

/// What the world did.
#[derive(Debug)]
pub enum Input {
    /// A peer sent, or passed on, a message.
    Message {
        /// The peer.
        from: PeerKey,
        /// The message.
        message: ConsensusMessage,
    },
    /// The application answers [`Output::Propose`].
    Value {
        /// The height that was asked for.
        height: Height,
        /// The round that was asked for.
        round: u32,
        /// What to propose.
        value: Box<Value>,
    },
    /// The application answers [`Output::Judge`].
    Judged {
        /// Of which value.
        header: HeaderId,
        /// Whether it's right.
        valid: bool,
    },
    /// The deadline has come.
    Tick,
}

/// What is to be done, and what is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Make a value for this round, and answer with [`Input::Value`]. A late answer is dropped.
    Propose {
        /// The checkpoint's number.
        height: Height,
        /// The round.
        round: u32,
    },
    /// Is this right? Answer with [`Input::Judged`]. Asked at most once per value and height; again after a restart, if
    /// the answer wasn't logged.
    Judge {
        /// What was proposed.
        value: Box<Value>,
        /// By whom first.
        proposer: OperatorIndex,
    },
    /// To be on disk, synced, before anything that comes after it in this queue leaves the node.
    Log(LogEntry),
    /// To all.
    Publish(ConsensusMessage),
    /// The peer sent, or passed on, what cannot be right.
    Offence(PeerKey, &'static str),
    /// An operator signed two things of which it may sign one.
    Equivocation(Equivocation),
    /// The height's checkpoint.
    Decided {
        /// With a quorum's signature.
        checkpoint: Box<Checkpoint>,
        /// The cut that it names.
        cut: Box<Cut>,
    },
}

/// One node's part in the consensus: of an operator with a [`Signer`], of an observer without.
///
/// It works on one height at a time, from [`Engine::start`] on; after [`Output::Decided`] it still says its votes again for
/// those who are late, until the next start. Those who are later still need the checkpoint itself: the engine doesn't
/// keep earlier heights.
///
/// Rounds further ahead than Malachite's core looks (10) are ignored, vote by vote, so that an operator who votes in a
/// million rounds takes memory for ten. Who is further behind gets there all the same: everyone repeats the certificate
/// with which it entered its round, and one with the votes of more than a third is taken whatever its round.
pub struct Engine {
    office: Office,
    ahead: Ahead,
    instance: Option<Instance>,
}

impl Engine {
    /// An engine of the node with `key`. `rng` weights batches of signatures: what it yields must be unknown to others.
    #[must_use]
    pub fn new(
        config: Config,
        chain: ChainId,
        key: PeerKey,
        signer: Option<Box<dyn Signer>>,
        rng: ChaCha20Rng,
    ) -> Self {
        let now = Timestamp(0);
        let outputs = std::collections::VecDeque::new();
        let office = Office { config, chain, key, signer, rng, now, outputs };
        Self { office, ahead: Ahead::default(), instance: None }
    }

    /// Begins a height. `set` is the consensus set of its epoch; `log` is what was logged for this height before a crash,
    /// in order: the engine comes to the same votes again and signs nothing that contradicts them. Everything of earlier
    /// heights is dropped, outputs that weren't polled, too.
    ///
    /// # Panics
    /// If `set` is of another network, or larger than a consensus set.
    pub fn start(
        &mut self,
        now: Timestamp,
        height: Height,
        set: Arc<OperatorSet>,
        log: Vec<LogEntry>,
    ) {
        self.office.now = now;
        self.office.outputs.clear();
        let mut instance = Instance::start(&mut self.office, height, set, log);
        for (from, message) in self.ahead.take(height) {
            instance.message(&mut self.office, from, message);
        }
        instance.tick(&mut self.office);
        self.instance = Some(instance);
    }

    /// Tells it what happened. Before the first start nothing has an effect.
    ///
    /// # Panics
    /// If [`Input::Value`] isn't of the height and its epoch, or its header doesn't name its cut.
    pub fn handle(&mut self, now: Timestamp, input: Input) {
        self.office.now = self.office.now.max(now);
        let (Some(instance), office) = (&mut self.instance, &mut self.office) else { return };
        match input {
            Input::Message { from, message } if message.height() == instance.height() => {
                instance.message(office, from, message);
            }
            Input::Message { from, message } if message.height() == next(instance.height()) => {
                self.ahead.push(from, message);
            }
            Input::Value { height, round, value } if height == instance.height() => {
                instance.value(office, round, value);
            }
            Input::Judged { header, valid } => instance.judged(office, header, valid),
            Input::Message { .. } | Input::Value { .. } | Input::Tick => {}
        }
        instance.tick(office);
    }

    /// The next thing to do, until `None`.
    pub fn poll(&mut self) -> Option<Output> {
        self.office.outputs.pop_front()
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.instance.as_ref()?.next_deadline()
    }

    /// The height that it works on; 0 before the first start.
    #[must_use]
    pub fn height(&self) -> Height {
        self.instance.as_ref().map_or(Height(0), Instance::height)
    }

    /// The round that it's in.
    #[must_use]
    pub fn round(&self) -> u32 {
        self.instance.as_ref().map_or(0, Instance::round)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, height, round) = (self.office.key, self.height(), self.round());
        write!(f, "Engine({} at {height:?}, round {round})", key.short())
    }
}

const fn next(height: Height) -> Height {
    Height(height.0.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It's moved between a runtime's threads.
    #[test]
    fn an_engine_is_send() {
        const fn is_send<T: Send>() {}
        is_send::<Engine>();
    }
}
