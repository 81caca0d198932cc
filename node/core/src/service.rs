//! Services: what the ledger says of them at each height, and their components, from bytes to what can be run.
//!
//! The ledger tells what changes with each checkpoint ([`Event::Checkpoint`](crate::Event::Checkpoint)). Of each service the
//! versions of the last [`HEIGHTS_KEPT`] checkpoints are kept, for requests that are pinned to them. Components are made ready
//! by manifest: the newest one at once, an older one while open tasks that this node runs are pinned to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lamina_certificate::OperatorSet;
use lamina_p2p::{Download, Offence, Progress};
use lamina_types::{Bytes, Digest, Height, Limits, Manifest, OperatorIndex, PeerKey, ServiceId};
use rand_core::Rng as _;

use crate::questions::Question;
use crate::{
    Action, CheckpointView, CommandError, Node, Notice, ServiceStatus, ServiceVersion, ServiceView,
    Signer,
};

/// How many checkpoints before the tip a request may be pinned to: about half an hour of them, at one every second or two.
/// Long against the time in which a request reaches everyone, short against what keeping their versions takes.
pub const HEIGHTS_KEPT: u64 = 1000;

#[derive(Debug, Default)]
pub(crate) struct Service {
    /// By the height from which they hold: those of the last checkpoints, and the one that held before. Never empty.
    versions: BTreeMap<Height, Version>,
    /// By digest of the manifest: the newest version's, and those that open tasks need.
    components: BTreeMap<Digest, Component>,
    /// The component or a blob on its way, and who was asked for it in vain. One at a time: others wait for it.
    download: Option<(Download, BTreeSet<PeerKey>)>,
    /// Who sent the part that's being written.
    source: Option<PeerKey>,
}

/// What holds of a service from some height on.
#[derive(Debug)]
struct Version {
    manifest: Arc<Manifest>,
    digest: Digest,
    paused: bool,
    set: Option<Arc<OperatorSet>>,
}

/// What makes a service run with one manifest.
#[derive(Debug)]
struct Component {
    manifest: Arc<Manifest>,
    status: ServiceStatus,
    /// Open tasks that this node may run with it.
    tasks: usize,
}

/// What a task's height fixes of its service: no two nodes see it differently. Ended tasks keep it, so it's small: the
/// manifest itself is with the component.
#[derive(Debug, Clone)]
pub(crate) struct Pin {
    /// Digest of the manifest.
    pub(crate) manifest: Digest,
    pub(crate) limits: Limits,
    pub(crate) is_oracle: bool,
    /// Who runs, observes, attests and proposes.
    pub(crate) set: Arc<OperatorSet>,
    /// This node's place in `set`; a node without one collects, verifies and serves.
    pub(crate) me: Option<OperatorIndex>,
}

impl Pin {
    /// As whom this node signs for the task, if it may.
    pub(crate) fn signer(&self) -> Option<Signer> {
        Some(Signer { set: self.set.clone(), operator: self.me? })
    }
}

impl Service {
    pub(crate) fn view(&self, id: ServiceId) -> ServiceView {
        let (height, version) = self.newest();
        ServiceView {
            id,
            manifest: (*version.manifest).clone(),
            status: match self.components.get(&version.digest) {
                Some(component) => component.status.clone(),
                None => ServiceStatus::Preparing,
            },
            paused: version.paused,
            height,
            operators: version.set.as_ref().map_or(0, |set| set.size()),
        }
    }

    /// Whether its component can be run with the manifest of this digest.
    pub(crate) fn status(&self, manifest: &Digest) -> Option<&ServiceStatus> {
        self.components.get(manifest).map(|component| &component.status)
    }

    fn newest(&self) -> (Height, &Version) {
        let newest = self.versions.last_key_value();
        let (height, version) = newest.expect("a service comes with its first version");
        (*height, version)
    }

    fn version_at(&self, height: Height) -> Option<&Version> {
        self.versions.range(..=height).next_back().map(|(_, version)| version)
    }

    fn insert(&mut self, since: Height, version: ServiceVersion) {
        let digest = version.manifest.digest();
        let known = self.versions.values().find(|known| known.digest == digest);
        let manifest = match known {
            Some(known) => known.manifest.clone(),
            None => Arc::from(version.manifest),
        };
        let ServiceVersion { paused, set, .. } = version;
        self.versions.insert(since, Version { manifest, digest, paused, set });
    }

    /// Forgets what doesn't hold at `oldest` any more.
    fn forget_before(&mut self, oldest: Height) {
        let held = self.versions.range(..=oldest).next_back().map(|(height, _)| *height);
        if let Some(held) = held.filter(|_| self.versions.len() > 1) {
            self.versions = self.versions.split_off(&held);
        }
    }

    fn fetching(&self) -> impl Iterator<Item = Digest> + '_ {
        let fetching = |component: &Component| component.status == ServiceStatus::Fetching;
        self.components.iter().filter(move |(_, c)| fetching(c)).map(|(digest, _)| *digest)
    }

    fn is_download_wanted(&self) -> bool {
        let Some((download, _)) = &self.download else { return false };
        self.components.values().any(|component| {
            component.status == ServiceStatus::Fetching
                && size_of_blob(&component.manifest, &download.digest()).is_some()
        })
    }

    /// Notes what lacks a blob; tells the blob's size, the newest manifest first, or `None` if nothing waits for it.
    fn note_missing(&mut self, blob: &Digest) -> Option<u32> {
        let newest = self.newest().1.digest;
        let mut sizes = (None, None);
        for (digest, component) in &mut self.components {
            let waits =
                matches!(component.status, ServiceStatus::Preparing | ServiceStatus::Fetching);
            let Some(bytes) = size_of_blob(&component.manifest, blob).filter(|_| waits) else {
                continue;
            };
            component.status = ServiceStatus::Fetching;
            *(if *digest == newest { &mut sizes.0 } else { &mut sizes.1 }) = Some(bytes);
        }
        sizes.0.or(sizes.1)
    }
}

/// How long a blob is that the manifest names, in bytes: the component, or one of the others.
fn size_of_blob(manifest: &Manifest, digest: &Digest) -> Option<u32> {
    let component = (manifest.component, manifest.component_bytes);
    let blobs = manifest.blobs.values().map(|blob| (blob.digest, blob.bytes));
    std::iter::once(component).chain(blobs).find(|(named, _)| named == digest).map(|(_, size)| size)
}

/// What the ledger says.
impl Node {
    /// A checkpoint is final: what it changes holds from its height on.
    pub(crate) fn handle_checkpoint(&mut self, view: CheckpointView) {
        let tip = self.tip.map(|(height, _)| height);
        if tip.is_some_and(|tip| view.height <= tip) {
            return;
        }
        let follows = tip.is_some_and(|tip| tip.0 == view.height.0 - 1);
        if !follows {
            // What held in between isn't known.
            self.first_height = view.height;
            self.services.values_mut().for_each(|service| service.versions.clear());
        }
        self.tip = Some((view.height, view.time));
        self.me = view.operators.index_of_peer(&self.key);
        self.set = view.operators;
        let changed: BTreeSet<ServiceId> = view.services.iter().map(|version| version.id).collect();
        for version in view.services {
            let since = if follows { view.height } else { version.since.min(view.height) };
            self.services.entry(version.id).or_default().insert(since, version);
        }
        self.services.retain(|_, service| !service.versions.is_empty());
        let oldest = self.oldest_height();
        self.services.values_mut().for_each(|service| service.forget_before(oldest));
        changed.into_iter().for_each(|id| self.renew_components(id));
        if tip.is_none() {
            self.restore_all();
        }
        self.judge_requests_up_to(view.height);
    }

    /// The last checkpoint that the ledger told of; genesis before any.
    pub(crate) fn tip_height(&self) -> Height {
        self.tip.map_or(Height(0), |(height, _)| height)
    }

    /// The oldest checkpoint that a request may be pinned to.
    pub(crate) fn oldest_height(&self) -> Height {
        Height(self.tip_height().0.saturating_sub(HEIGHTS_KEPT))
    }

    /// What a height that has come fixes of a service's tasks.
    ///
    /// # Errors
    /// Why the service takes no requests as of then.
    pub(crate) fn pin(&self, id: ServiceId, height: Height) -> Result<Pin, CommandError> {
        let version = self.services.get(&id).and_then(|service| service.version_at(height));
        let version = version.ok_or(CommandError::UnknownService(id))?;
        if version.paused {
            return Err(CommandError::Paused(id));
        }
        if is_stateful(&version.manifest) {
            return Err(CommandError::Stateful);
        }
        let set = version.set.clone().ok_or(CommandError::Unserved(id))?;
        Ok(Pin {
            manifest: version.digest,
            limits: version.manifest.limits,
            is_oracle: version.manifest.oracle.is_some(),
            me: set.index_of_peer(&self.key),
            set,
        })
    }
}

fn is_stateful(manifest: &Manifest) -> bool {
    manifest.limits.state_bytes > 0
}

/// Making components ready.
impl Node {
    /// Has the newest manifest's component made ready, and drops those that nothing needs.
    fn renew_components(&mut self, id: ServiceId) {
        let Some(service) = self.services.get(&id) else { return };
        let newest = service.newest().1;
        let (manifest, digest) = (newest.manifest.clone(), newest.digest);
        let unused = |(known, c): &(&Digest, &Component)| **known != digest && c.tasks == 0;
        let unused: Vec<Digest> =
            service.components.iter().filter(unused).map(|(known, _)| *known).collect();
        self.prepare(id, &manifest, digest);
        unused.into_iter().for_each(|digest| self.forget_component(id, digest));
    }

    /// Begins to make a component ready, unless that was done.
    fn prepare(&mut self, id: ServiceId, manifest: &Arc<Manifest>, digest: Digest) {
        let Some(service) = self.services.get_mut(&id) else { return };
        if service.components.contains_key(&digest) {
            return;
        }
        let refusal = is_stateful(manifest).then(|| CommandError::Stateful.to_string());
        let runs = refusal.is_none();
        let status = refusal.map_or(ServiceStatus::Preparing, ServiceStatus::Refused);
        let component = Component { manifest: manifest.clone(), status, tasks: 0 };
        service.components.insert(digest, component);
        if runs {
            self.act(Action::Prepare(id, Box::new((**manifest).clone())));
        }
    }

    fn forget_component(&mut self, id: ServiceId, digest: Digest) {
        let Some(service) = self.services.get_mut(&id) else { return };
        service.components.remove(&digest);
        self.end_idle_download(id);
        self.act(Action::Forget(id, digest));
    }

    /// A task that's open now may be run with the component as of its height.
    pub(crate) fn hold_component(&mut self, id: ServiceId, height: Height, pin: &Pin) {
        if pin.me.is_none() {
            return;
        }
        let version = self.services.get(&id).and_then(|service| service.version_at(height));
        if let Some(manifest) = version.map(|version| version.manifest.clone()) {
            self.prepare(id, &manifest, pin.manifest);
        }
        let component =
            self.services.get_mut(&id).and_then(|s| s.components.get_mut(&pin.manifest));
        if let Some(component) = component {
            component.tasks += 1;
        }
    }

    /// A task that held a component isn't open any more.
    pub(crate) fn release_component(&mut self, id: ServiceId, pin: &Pin) {
        let Some(service) = self.services.get_mut(&id).filter(|_| pin.me.is_some()) else { return };
        let is_newest = service.newest().1.digest == pin.manifest;
        let Some(component) = service.components.get_mut(&pin.manifest) else { return };
        component.tasks = component.tasks.saturating_sub(1);
        if component.tasks == 0 && !is_newest {
            self.forget_component(id, pin.manifest);
        }
    }

    pub(crate) fn handle_prepared(
        &mut self,
        id: ServiceId,
        digest: Digest,
        result: Result<(), String>,
    ) {
        let component = self.services.get_mut(&id).and_then(|s| s.components.get_mut(&digest));
        let Some(component) = component else { return };
        match result {
            Ok(()) => {
                component.status = ServiceStatus::Ready;
                self.act(Action::Notify(Notice::ServiceReady(id)));
            }
            Err(reason) => component.status = ServiceStatus::Refused(reason),
        }
        self.end_idle_download(id);
        self.settle_tasks_of(id, digest);
    }

    /// Ends a download that nothing waits for any more, unless a part is being written: then it ends after that. What
    /// waited for another blob has its turn.
    fn end_idle_download(&mut self, id: ServiceId) {
        let Some(service) = self.services.get_mut(&id) else { return };
        if service.source.is_some() || service.is_download_wanted() {
            return;
        }
        if service.download.take().is_some() {
            let waiting: Vec<Digest> = service.fetching().collect();
            waiting.into_iter().for_each(|digest| self.prepare_again(id, digest));
        }
    }

    pub(crate) fn fetch_blob(&mut self, id: ServiceId, digest: &Digest) {
        let Some(service) = self.services.get_mut(&id) else { return };
        let Some(bytes) = service.note_missing(digest) else { return };
        if service.download.is_none() {
            service.download = Some((Download::new(*digest, bytes), BTreeSet::new()));
            self.ask_for_blob(id);
        }
    }

    pub(crate) fn handle_blob(
        &mut self,
        from: PeerKey,
        id: ServiceId,
        blob: Digest,
        part: Option<Bytes<{ lamina_p2p::CHUNK_BYTES_MAX }>>,
    ) {
        let Some(service) = self.services.get_mut(&id) else { return };
        let Some((download, asked)) = &mut service.download else { return };
        if download.digest() != blob {
            // That one was given up.
            return;
        }
        let Some(part) = part else {
            download.restart();
            asked.insert(from);
            return self.ask_for_blob(id);
        };
        let (digest, offset) = (download.digest(), download.offset());
        let progress = download.insert(part.as_slice());
        if progress == Progress::Wrong {
            asked.insert(from);
            self.charge(from, Offence::WrongAnswer);
            return self.ask_for_blob(id);
        }
        service.source = Some(from);
        let complete = progress == Progress::Complete;
        self.act(Action::StoreBlob { service: id, digest, offset, part, complete });
    }

    /// A part is on disk: the next one is asked for, or what's next to be made ready.
    pub(crate) fn handle_blob_stored(&mut self, id: ServiceId, result: Result<(), String>) {
        let Some(service) = self.services.get_mut(&id) else { return };
        let waiting: Vec<Digest> = service.fetching().collect();
        let is_wanted = service.is_download_wanted();
        if let Err(reason) = result {
            service.download = None;
            service.source = None;
            return waiting
                .into_iter()
                .for_each(|digest| self.handle_prepared(id, digest, Err(reason.clone())));
        }
        match (&service.download, service.source.take()) {
            (Some((download, _)), Some(peer)) if !download.is_complete() && is_wanted => {
                let (digest, request) = (download.digest(), download.next_request());
                if self.peers.contains(&peer) {
                    return self.ask(peer, Question::Blob(id, digest), request);
                }
                self.handle_blob(peer, id, digest, None);
            }
            _ => {
                service.download = None;
                waiting.into_iter().for_each(|digest| self.prepare_again(id, digest));
            }
        }
    }

    /// What was missing may be here now.
    fn prepare_again(&mut self, id: ServiceId, digest: Digest) {
        let component = self.services.get_mut(&id).and_then(|s| s.components.get_mut(&digest));
        let Some(component) = component else { return };
        component.status = ServiceStatus::Preparing;
        let manifest = Box::new((*component.manifest).clone());
        self.act(Action::Prepare(id, manifest));
    }

    /// Asks those again who didn't have what's still missing.
    pub(crate) fn retry_downloads(&mut self) {
        let asked_for = self.questions.blobs();
        let stalled: Vec<ServiceId> = self
            .services
            .iter()
            .filter(|(id, service)| {
                service.download.is_some() && service.source.is_none() && !asked_for.contains(id)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in stalled {
            if let Some(Service { download: Some((_, asked)), .. }) = self.services.get_mut(&id) {
                asked.clear();
            }
            self.ask_for_blob(id);
        }
    }

    /// Asks a random peer that wasn't asked; nobody if there is none until [`Self::retry_downloads`].
    fn ask_for_blob(&mut self, id: ServiceId) {
        let Some(Service { download: Some((download, asked)), .. }) = self.services.get(&id) else {
            return;
        };
        let (digest, request) = (download.digest(), download.next_request());
        let candidates: Vec<PeerKey> = self.peers.difference(asked).copied().collect();
        if candidates.is_empty() {
            return;
        }
        let pick = self.rng.next_u64() % candidates.len() as u64;
        let peer = candidates[usize::try_from(pick).expect("below a length")];
        self.ask(peer, Question::Blob(id, digest), request);
    }
}
