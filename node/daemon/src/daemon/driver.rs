//! The loop that drives the node's core: each branch makes one event, one `match` carries out actions.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lamina_node_core::{
    Action, Command, CommandError, EthereumStride, Event, Execution, LedgerEvent, LedgerWork, Node,
    Notice, Reply,
};
use lamina_p2p::{BAN, Response, Topic};
use lamina_p2p_net::{
    DeliveryId, Event as NetworkEvent, Handle, HandleError, InboundId, RequestError,
};
use lamina_types::{Digest, PeerKey, Timestamp};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::executor::Executor;
use super::ledger::Archive;
use super::now;
use super::signer::ToSign;
use super::store::Write;

/// Requests of the API that wait. When it's full, callers wait.
const MAILBOX_MAX: usize = 256;
/// Notices that a slow listener may lag behind; then it's told how many it missed.
const NOTICES_MAX: usize = 1024;
/// Events that are handled before the node is polled: enough to batch signatures, few enough to stay responsive.
const BATCH_MAX: usize = 64;
/// Bytes of gossip that wait because they take long to verify. Beyond, they're handled at once, and everything else waits.
const BULK_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How often peers' addresses are written, if they changed.
const ADDRESSES_INTERVAL: Duration = Duration::from_secs(1);

/// How the API reaches the node.
#[derive(Debug, Clone)]
pub(crate) struct Mailbox {
    messages: mpsc::Sender<Message>,
    notices: broadcast::Sender<Notice>,
}

/// What waits in a [`Mailbox`].
pub(crate) enum Message {
    Command(Command, oneshot::Sender<Result<Reply, CommandError>>),
    Query(Box<dyn FnOnce(&Node) + Send>),
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Command(..) => "Command",
            Self::Query(_) => "Query",
        })
    }
}

impl Mailbox {
    /// A mailbox, and the ends of it that the driver holds.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Message>) {
        let (messages, receiver) = mpsc::channel(MAILBOX_MAX);
        let (notices, _) = broadcast::channel(NOTICES_MAX);
        (Self { messages, notices }, receiver)
    }

    /// Has the node do something; the answer comes when what it promises is on disk.
    pub(crate) async fn command(
        &self,
        command: Command,
    ) -> Result<Result<Reply, CommandError>, Stopped> {
        let (sender, receiver) = oneshot::channel();
        self.messages.send(Message::Command(command, sender)).await.map_err(|_| Stopped)?;
        receiver.await.map_err(|_| Stopped)
    }

    /// Reads the node's state.
    pub(crate) async fn query<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Node) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (sender, receiver) = oneshot::channel();
        let query = Message::Query(Box::new(move |node| {
            let _ = sender.send(read(node));
        }));
        self.messages.send(query).await.map_err(|_| Stopped)?;
        receiver.await.map_err(|_| Stopped)
    }

    /// What happens from now on.
    pub(crate) fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }
}

/// The node has stopped.
#[derive(Debug, thiserror::Error)]
#[error("the node has stopped")]
pub(crate) struct Stopped;

/// The node's core with all that it acts on.
pub(crate) struct Driver {
    pub(crate) node: Node,
    pub(crate) network: Handle,
    pub(crate) network_events: mpsc::Receiver<NetworkEvent>,
    pub(crate) mailbox: Mailbox,
    pub(crate) messages: mpsc::Receiver<Message>,
    /// What the node's own threads did. As bounded as what they are given.
    pub(crate) results: mpsc::UnboundedReceiver<Event>,
    pub(crate) done: mpsc::UnboundedSender<Event>,
    pub(crate) writes: mpsc::Sender<Write>,
    pub(crate) signatures: mpsc::Sender<ToSign>,
    pub(crate) executions: mpsc::Sender<Execution>,
    pub(crate) executor: Arc<Executor>,
    pub(crate) ledger: Archive,
    pub(crate) ledger_work: mpsc::Sender<LedgerWork>,
    /// What was followed of Ethereum, if the network has to do with it.
    pub(crate) ethereum: Option<mpsc::Receiver<Vec<EthereumStride>>>,
    pub(crate) waiting: Waiting,
    pub(crate) bulk: Bulk,
}

/// Gossip that takes long to verify: changes of books with hundreds of signatures each. It waits until there's nothing else
/// to do, so that votes and timeouts are never late because many write at once.
#[derive(Debug, Default)]
pub(crate) struct Bulk {
    events: VecDeque<Event>,
    bytes: usize,
}

impl Bulk {
    /// Keeps an event for later, unless it isn't one of these.
    fn put_aside(&mut self, event: Event) -> Option<Event> {
        match &event {
            Event::Gossip { topic: Topic::Changes | Topic::Operations, bytes, .. } => {
                self.bytes += bytes.len();
                self.events.push_back(event);
                None
            }
            _ => Some(event),
        }
    }

    fn take(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if let Event::Gossip { bytes, .. } = &event {
            self.bytes -= bytes.len();
        }
        Some(event)
    }
}

/// What the driver keeps between events.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    replies: BTreeMap<u64, oneshot::Sender<Result<Reply, CommandError>>>,
    next_reply: u64,
    /// Messages and requests of peers by the number that the node knows them by; each gets one verdict or answer.
    deliveries: BTreeMap<u64, DeliveryId>,
    requests: BTreeMap<u64, InboundId>,
    next_handle: u64,
    addresses_changed: bool,
    addresses_written: Timestamp,
}

impl Waiting {
    const fn fresh_handle(&mut self) -> u64 {
        self.next_handle += 1;
        self.next_handle
    }
}

impl Driver {
    /// Runs until `stop` is true, or a thread that the node can't do without has ended.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            // What a restart brought up waits already.
            if !self.act().await {
                return;
            }
            let deadline = self.node.next_deadline().unwrap_or_else(now);
            let wait = deadline.since(now()).min(ADDRESSES_INTERVAL);
            let wait = if self.bulk.events.is_empty() { wait } else { Duration::ZERO };
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                Some(event) = self.results.recv() => self.node.handle(now(), event),
                Some(message) = self.messages.recv() => self.handle_message(message),
                event = self.network_events.recv() => match event {
                    Some(event) => self.handle_network(event),
                    None => return,
                },
                strides = followed(&mut self.ethereum), if self.node.takes_ethereum() => {
                    let Some(strides) = strides else { return };
                    self.node.handle(now(), Event::Ledger(LedgerEvent::Ethereum(strides)));
                }
                () = tokio::time::sleep(wait) => self.node.handle(now(), Event::Tick),
            }
            self.handle_waiting();
            self.handle_bulk();
            self.write_addresses().await;
        }
    }

    /// Handles what is there already, so that its attestations are verified together.
    fn handle_waiting(&mut self) {
        for _ in 0..BATCH_MAX {
            if let Ok(event) = self.results.try_recv() {
                self.node.handle(now(), event);
            } else if let Ok(event) = self.network_events.try_recv() {
                self.handle_network(event);
            } else {
                return;
            }
        }
    }

    /// Handles one event of those that take long, and more if there are too many.
    fn handle_bulk(&mut self) {
        while let Some(event) = self.bulk.take() {
            self.node.handle(now(), event);
            if self.bulk.bytes <= BULK_BYTES_MAX {
                return;
            }
        }
    }

    fn handle_message(&mut self, message: Message) {
        match message {
            Message::Command(command, reply) => {
                self.waiting.next_reply += 1;
                let id = self.waiting.next_reply;
                self.waiting.replies.insert(id, reply);
                self.node.handle(now(), Event::Command { id, command });
            }
            Message::Query(query) => query(&self.node),
        }
    }

    fn handle_network(&mut self, event: NetworkEvent) {
        let event = match event {
            NetworkEvent::Listening(address) => {
                tracing::info!(%address, "listening");
                return;
            }
            NetworkEvent::PeerConnected { peer, address } => {
                tracing::info!(peer = %name(&peer), %address, "peer connected");
                self.waiting.addresses_changed = true;
                Event::PeerConnected(peer)
            }
            NetworkEvent::PeerDisconnected { peer } => {
                tracing::info!(peer = %name(&peer), "peer disconnected");
                Event::PeerDisconnected(peer)
            }
            NetworkEvent::Gossip { delivery, from, topic, bytes } => {
                let id = self.waiting.fresh_handle();
                self.waiting.deliveries.insert(id, delivery);
                Event::Gossip { delivery: id, from, topic, bytes }
            }
            NetworkEvent::Request { from, id, request } => {
                let handle = self.waiting.fresh_handle();
                self.waiting.requests.insert(handle, id);
                Event::Request { from, id: handle, request }
            }
            NetworkEvent::Response { from, id, response } => {
                if let Err(error) = &response {
                    tracing::debug!(peer = %name(&from), %error, "no answer");
                }
                match response {
                    // An offence was told with it.
                    Err(
                        RequestError::TooMany | RequestError::Malformed | RequestError::Oversized,
                    ) => Event::NotAsked(id),
                    response => Event::Response { from, id, response: response.ok() },
                }
            }
            NetworkEvent::Offence { peer, offence } => Event::Offence(peer, offence),
        };
        if let Some(event) = self.bulk.put_aside(event) {
            self.node.handle(now(), event);
        }
    }

    /// Carries out what the node wants; false when it can't go on.
    async fn act(&mut self) -> bool {
        while let Some(action) = self.node.poll() {
            let result = match action {
                Action::Judge(delivery, verdict) => {
                    match self.waiting.deliveries.remove(&delivery) {
                        Some(delivery) => self.network.judge(delivery, verdict),
                        None => Ok(()),
                    }
                }
                Action::Publish(message) => {
                    let (topic, bytes) = message.encode();
                    self.network.publish(topic, bytes)
                }
                Action::Ask { peer, id, request } => {
                    let result = self.network.ask(peer, id, request);
                    if result.is_err() {
                        let _ = self.done.send(Event::NotAsked(id));
                    }
                    result
                }
                Action::Answer(id, response) => match self.waiting.requests.remove(&id) {
                    Some(id) => self.network.answer(id, response),
                    None => Ok(()),
                },
                Action::AnswerBlob { id, digest, offset } => {
                    if let Some(id) = self.waiting.requests.remove(&id) {
                        self.answer_blob(id, digest, offset);
                    }
                    Ok(())
                }
                Action::SetScore(peer, score) => {
                    tracing::debug!(peer = %name(&peer), score, "a peer's score fell");
                    self.network.set_score(peer, score)
                }
                Action::Ban(peer) => {
                    tracing::warn!(peer = %name(&peer), "peer banned");
                    self.network.ban(peer, BAN)
                }
                Action::Store(id, records) => {
                    if self.writes.send(Write::Records(id, records)).await.is_err() {
                        return false;
                    }
                    Ok(())
                }
                Action::Prepare(id, manifest) => {
                    let (executor, done) = (self.executor.clone(), self.done.clone());
                    tokio::task::spawn_blocking(move || {
                        let _ = done.send(executor.prepare(id, &manifest));
                    });
                    Ok(())
                }
                Action::Forget(id, version) => {
                    self.executor.forget(id, version);
                    Ok(())
                }
                Action::StoreBlob { service, digest, offset, part, complete } => {
                    let (executor, done) = (self.executor.clone(), self.done.clone());
                    tokio::task::spawn_blocking(move || {
                        let part = part.as_slice();
                        let blobs = executor.blobs();
                        let result = blobs.write_part(&service, &digest, offset, part, complete);
                        if complete {
                            tracing::info!(blob = %digest.short(), "fetched a component or a blob");
                        }
                        let result = result.map_err(|error| error.to_string());
                        let _ = done.send(Event::BlobStored(service, result));
                    });
                    Ok(())
                }
                Action::Execute(execution) => {
                    if self.executions.send(execution).await.is_err() {
                        return false;
                    }
                    Ok(())
                }
                Action::Observe(execution) => {
                    let (executor, done) = (self.executor.clone(), self.done.clone());
                    tokio::task::spawn_blocking(move || {
                        let _ = done.send(executor.observe(&execution));
                    });
                    Ok(())
                }
                Action::Sign(task, outcome, signer) => {
                    if self.signatures.send(ToSign::Outcome(task, outcome, signer)).await.is_err() {
                        return false;
                    }
                    Ok(())
                }
                Action::SignObservation(task, value, signer) => {
                    if self.signatures.send(ToSign::Observation(task, value, signer)).await.is_err()
                    {
                        return false;
                    }
                    Ok(())
                }
                Action::SignProposal(task, members, signer) => {
                    if self.signatures.send(ToSign::Proposal(task, members, signer)).await.is_err()
                    {
                        return false;
                    }
                    Ok(())
                }
                Action::Ledger(LedgerWork::Halt(reason)) => {
                    tracing::error!(reason, "the ledger can't go on; the node stops");
                    return false;
                }
                Action::Ledger(LedgerWork::Answer { id, request, pending }) => {
                    if let Some(id) = self.waiting.requests.remove(&id) {
                        self.ledger.answer(self.network.clone(), id, request, pending);
                    }
                    Ok(())
                }
                Action::Ledger(work) => {
                    if self.ledger_work.send(work).await.is_err() {
                        return false;
                    }
                    Ok(())
                }
                Action::Reply(id, result) => {
                    if let Some(reply) = self.waiting.replies.remove(&id) {
                        let _ = reply.send(result);
                    }
                    Ok(())
                }
                Action::Notify(notice) => {
                    log(&notice);
                    // Nobody may be listening.
                    let _ = self.mailbox.notices.send(notice);
                    Ok(())
                }
            };
            // A full queue is counted by the network. What's lost is asked for again by those who lack it.
            if !matches!(result, Ok(()) | Err(HandleError::Full)) {
                return false;
            }
        }
        true
    }

    fn answer_blob(&self, id: InboundId, digest: Digest, offset: u32) {
        let (executor, network) = (self.executor.clone(), self.network.clone());
        tokio::task::spawn_blocking(move || {
            let part = executor.blobs().part(&digest, offset);
            // Too late is as good as no answer.
            let _ = network.answer(id, Response::Blob(part));
        });
    }

    async fn write_addresses(&mut self) {
        let due = self.waiting.addresses_written + ADDRESSES_INTERVAL <= now();
        if !self.waiting.addresses_changed || !due {
            return;
        }
        if let Ok(addresses) = self.network.known_addresses().await {
            let list = addresses.iter().map(ToString::to_string).collect();
            // If the queue is full, the next change writes them.
            let _ = self.writes.try_send(Write::Addresses(list));
        }
        self.waiting.addresses_changed = false;
        self.waiting.addresses_written = now();
    }
}

fn log(notice: &Notice) {
    match notice {
        Notice::ServiceReady(service) => {
            tracing::info!(service = %service.short(), "service ready");
        }
        Notice::TaskAccepted(task) => tracing::debug!(task = %task.short(), "task accepted"),
        Notice::TaskCertified(task, certificate) => {
            let signers = certificate.get().signers.count();
            tracing::debug!(task = %task.short(), signers, "task certified");
        }
        Notice::TaskExpired(task) => tracing::warn!(task = %task.short(), "task expired"),
        Notice::Dissent(task) => tracing::error!(
            task = %task.short(),
            "this node's outcome isn't the certified one: compare its version and machine with others'"
        ),
        Notice::Equivocation(task, operator) => tracing::warn!(
            task = %task.short(),
            operator = operator.0,
            "an operator attested two outcomes"
        ),
        Notice::ObservationEquivocation(task, operator) => tracing::warn!(
            task = %task.short(),
            operator = operator.0,
            "an operator signed two observations"
        ),
        Notice::ProposalEquivocation(task, operator) => tracing::warn!(
            task = %task.short(),
            operator = operator.0,
            "an operator proposed two sets of observations"
        ),
        Notice::Checkpoint(height, operations) => {
            tracing::info!(height = height.0, operations, "checkpoint");
        }
        Notice::EpochBegins(epoch, operators) => {
            tracing::info!(
                epoch = epoch.0,
                operators,
                "operators of another epoch sign from now on"
            );
        }
        Notice::ForeignKey(epoch) => tracing::error!(
            epoch = epoch.0,
            "the operator is registered with another BLS key than this node's, so it signs nothing: give the node the key that \
             was registered"
        ),
        Notice::SnapshotRestored(height) => {
            tracing::info!(height = height.0, "the ledger begins from a snapshot");
        }
        Notice::ChangeEquivocation(author) => tracing::warn!(
            author = %author.short(),
            "an operator signed two changes with one number"
        ),
        Notice::VoteEquivocation(operator) => tracing::warn!(
            operator = operator.0,
            "an operator signed two votes in one step of the consensus"
        ),
        Notice::CannotPay(reason) => {
            tracing::error!(reason, "the node's account can't pay: give it some of the fee asset");
        }
    }
}

/// What was followed next; never anything where nothing is.
async fn followed(
    ethereum: &mut Option<mpsc::Receiver<Vec<EthereumStride>>>,
) -> Option<Vec<EthereumStride>> {
    match ethereum {
        Some(strides) => strides.recv().await,
        None => std::future::pending().await,
    }
}

/// A peer's name in logs: the end of its libp2p peer id.
fn name(peer: &PeerKey) -> String {
    lamina_p2p_net::peer_id(peer).map_or_else(|| peer.short(), |id| id.to_string())
}
