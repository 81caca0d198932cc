//! What one node asks of another: on connecting, and every [`crate::Config::sync_interval`] of a random peer.
//!
//! Gossip is quick but forgets: a node that was away asks for open tasks and what was attested on them or observed for them.
//! Of a task that was certified without it, it asks for the certificate, then for the request that tells what that's judged
//! by, then for the outcome. Services aren't asked of peers: the ledger has them.

use std::collections::BTreeSet;

use lamina_p2p::{
    CERTIFIED_MAX, Gossip, IDS_MAX, ITEMS_MAX, Offence, Request, Response, TaskEvidence,
};
use lamina_types::{List, Outcome, PeerKey, SignedTaskRequest, TaskId};
use rand_core::Rng as _;

use crate::questions::Question;
use crate::task::Task;
use crate::{Action, Node, TaskStatus};

impl Node {
    pub(crate) fn handle_connected(&mut self, peer: PeerKey) {
        if self.peers.insert(peer) {
            self.remember_score(peer);
            self.ask(peer, Question::Inventory, Request::Inventory);
            self.ask_for_evidence(peer);
            self.ask_for_observations(peer);
            self.retry_downloads();
            if let Some(ledger) = &mut self.ledger {
                ledger.connected(self.now, peer);
            }
        }
    }

    pub(crate) fn sync_with_someone(&mut self) {
        self.retry_downloads();
        if self.peers.is_empty() {
            return;
        }
        let pick = self.rng.next_u64() % self.peers.len() as u64;
        let peer = self.peers.iter().nth(usize::try_from(pick).expect("below a length")).copied();
        if let Some(peer) = peer {
            self.ask(peer, Question::Inventory, Request::Inventory);
            self.ask_for_evidence(peer);
            self.ask_for_observations(peer);
            self.ask_for_outcomes(peer);
            if let Some(ledger) = &mut self.ledger {
                ledger.sync_with(self.now, peer);
            }
        }
    }

    pub(crate) fn handle_request(&mut self, _from: PeerKey, id: u64, request: Request) {
        let response = match request {
            Request::Inventory => Response::Inventory {
                open_tasks: List::truncated(self.open.iter().rev().map(|(_, id)| *id)),
                certified_tasks: List::truncated(self.certified_tasks().map(|(id, _)| id)),
            },
            Request::Tasks(ids) => {
                let known = ids.as_slice().iter().filter_map(|id| self.tasks.get(id));
                Response::Tasks(List::truncated(known.map(|task| task.request.clone())))
            }
            Request::Evidence(ids) => {
                let known = ids.as_slice().iter().filter_map(|id| self.tasks.get(id));
                Response::Evidence(List::truncated(known.map(|task| task.evidence())))
            }
            Request::Outcome(id) => Response::Outcome(
                self.tasks.get(&id).and_then(|task| task.certified_outcome().cloned()),
            ),
            Request::Blob { digest, offset } => {
                self.act(Action::AnswerBlob { id, digest, offset });
                return;
            }
            Request::Observations { task, operators } => {
                self.observations_of(&task, operators.as_slice())
            }
            Request::Ledger
            | Request::Checkpoints { .. }
            | Request::Lanes(_)
            | Request::Changes(_)
            | Request::Snapshot { .. }
            | Request::Handovers { .. } => {
                // A node without a ledger leaves such questions open, as one that's busy.
                if let Some(ledger) = &mut self.ledger {
                    ledger.answer(id, request);
                }
                return;
            }
        };
        self.act(Action::Answer(id, response));
    }

    pub(crate) fn handle_response(&mut self, from: PeerKey, id: u64, response: Option<Response>) {
        let Some((peer, question)) = self.questions.end(id) else { return };
        assert_eq!(peer, from, "the shell gives the answer of the peer that was asked");
        self.ask_waiting(peer);
        match (question, response) {
            (Question::Ledger(question), response) => {
                if response.is_none() && self.peers.contains(&from) {
                    self.charge(from, Offence::NoAnswer);
                }
                if let Some(ledger) = &mut self.ledger {
                    ledger.response(self.now, from, &question, response);
                }
            }
            (question, None) => {
                if self.peers.contains(&from) {
                    self.charge(from, Offence::NoAnswer);
                }
                if let Question::Blob(service, blob) = question {
                    self.handle_blob(from, service, blob, None);
                }
            }
            (Question::Inventory, Some(Response::Inventory { open_tasks, certified_tasks })) => {
                self.handle_tasks_known(from, open_tasks.as_slice(), certified_tasks.as_slice());
            }
            (Question::Tasks(asked), Some(Response::Tasks(list))) => {
                self.handle_tasks(from, &asked, list.into_vec());
            }
            (Question::Evidence(asked), Some(Response::Evidence(list))) => {
                for evidence in list.into_vec() {
                    self.handle_evidence(from, &asked, evidence);
                }
                self.ask_for_requests(from, &asked);
            }
            (Question::Outcome(task), Some(Response::Outcome(outcome))) => {
                self.handle_outcome(from, task, outcome);
            }
            (Question::Blob(service, blob), Some(Response::Blob(part))) => {
                self.handle_blob(from, service, blob, part);
            }
            (
                Question::Observations(task, asked),
                Some(Response::Observations { set, observations }),
            ) => {
                let set = set.map(|set| *set);
                self.handle_observations(from, task, &asked, set, observations.into_vec());
            }
            (question, Some(_)) => {
                self.charge(from, Offence::WrongAnswer);
                if let Question::Blob(service, blob) = question {
                    self.handle_blob(from, service, blob, None);
                }
            }
        }
    }

    /// A question couldn't be asked; the next round does it.
    pub(crate) fn handle_not_asked(&mut self, id: u64) {
        if let Some((peer, _)) = self.questions.end(id) {
            self.ask_waiting(peer);
        }
    }

    /// Asks for the outcome of a task that was certified without this node.
    pub(crate) fn ask_for_outcome(&mut self, peer: PeerKey, task: TaskId) {
        self.ask(peer, Question::Outcome(task), Request::Outcome(task));
    }

    /// Asks for a request that this node heard of.
    pub(crate) fn ask_for_task(&mut self, peer: PeerKey, task: TaskId) {
        self.ask(peer, Question::Tasks([task].into()), Request::Tasks(List::truncated([task])));
    }

    /// Whether a task that a peer named is to be asked for.
    fn is_wanted(&self, id: &TaskId) -> bool {
        !self.tasks.contains_key(id) && !self.early.is_given_up(id)
    }

    fn handle_tasks_known(&mut self, from: PeerKey, open: &[TaskId], certified: &[TaskId]) {
        // The certificate first: with it here when the request comes, the task isn't run.
        let missed: Vec<_> =
            certified.iter().filter(|id| self.is_wanted(id)).take(IDS_MAX).copied().collect();
        if !missed.is_empty() {
            let request = Request::Evidence(List::truncated(missed.iter().copied()));
            self.ask(from, Question::Evidence(missed.into_iter().collect()), request);
        }
        let unknown: Vec<_> = open.iter().filter(|id| self.is_wanted(id)).copied().collect();
        // A few now, the rest with the next inventory: a long list mustn't fill this node's queues.
        for ids in unknown.chunks(ITEMS_MAX).take(8) {
            let request = Request::Tasks(List::truncated(ids.iter().copied()));
            self.ask(from, Question::Tasks(ids.iter().copied().collect()), request);
        }
    }

    fn handle_tasks(
        &mut self,
        from: PeerKey,
        asked: &BTreeSet<TaskId>,
        list: Vec<SignedTaskRequest>,
    ) {
        for request in list {
            let id = request.request.task_id(&self.context.chain);
            if asked.contains(&id) {
                self.judge_message(from, None, Gossip::Task(Box::new(request)));
            } else {
                self.charge(from, Offence::WrongAnswer);
            }
        }
    }

    fn handle_evidence(&mut self, from: PeerKey, asked: &BTreeSet<TaskId>, evidence: TaskEvidence) {
        match evidence {
            TaskEvidence::Certificate(certificate) => {
                self.handle_asked(from, asked, certificate.task, Gossip::Certificate(*certificate));
            }
            TaskEvidence::Attestations(list) => {
                for attestation in list.into_vec() {
                    let task = attestation.task;
                    self.handle_asked(from, asked, task, Gossip::Attestation(attestation));
                }
            }
        }
    }

    fn handle_asked(
        &mut self,
        from: PeerKey,
        asked: &BTreeSet<TaskId>,
        task: TaskId,
        message: Gossip,
    ) {
        if asked.contains(&task) {
            self.judge_message(from, None, message);
        } else {
            self.charge(from, Offence::WrongAnswer);
        }
    }

    fn handle_outcome(&mut self, from: PeerKey, task: TaskId, outcome: Option<Outcome>) {
        let Some(outcome) = outcome else { return };
        if !self.accept_outcome(task, outcome) {
            self.charge(from, Offence::WrongAnswer);
        }
    }

    /// Asks what was attested on the open tasks that are oldest here.
    fn ask_for_evidence(&mut self, peer: PeerKey) {
        let tasks: Vec<TaskId> = self.open.iter().take(IDS_MAX).map(|(_, id)| *id).collect();
        if !tasks.is_empty() {
            let request = Request::Evidence(List::truncated(tasks.iter().copied()));
            self.ask(peer, Question::Evidence(tasks.into_iter().collect()), request);
        }
    }

    /// Asks for the requests of tasks of which a peer sent a certificate or attestations.
    fn ask_for_requests(&mut self, peer: PeerKey, tasks: &BTreeSet<TaskId>) {
        let waited_for = |id: &&TaskId| self.is_wanted(id) && self.early.waits(**id, peer);
        let lacking: Vec<TaskId> = tasks.iter().filter(waited_for).copied().collect();
        for ids in lacking.chunks(ITEMS_MAX) {
            let request = Request::Tasks(List::truncated(ids.iter().copied()));
            self.ask(peer, Question::Tasks(ids.iter().copied().collect()), request);
        }
    }

    /// Asks for the outcomes of the latest tasks that were certified without this node.
    fn ask_for_outcomes(&mut self, peer: PeerKey) {
        let lacking: Vec<TaskId> = self
            .certified_tasks()
            .filter(|(_, task)| task.lacks_outcome())
            .map(|(id, _)| id)
            .take(ITEMS_MAX)
            .collect();
        for task in lacking {
            self.ask_for_outcome(peer, task);
        }
    }

    /// The latest tasks that have a certificate, as many as an inventory names.
    fn certified_tasks(&self) -> impl Iterator<Item = (TaskId, &Task)> {
        self.ended
            .iter()
            .rev()
            .filter_map(|id| Some((*id, self.tasks.get(id)?)))
            .filter(|(_, task)| task.status() == TaskStatus::Certified)
            .take(CERTIFIED_MAX)
    }
}
