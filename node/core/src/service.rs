//! Services: from a registration to a component that can be run.

use std::collections::BTreeSet;

use lamina_p2p::{Download, Gossip, Offence, Progress, Verdict};
use lamina_types::{Bytes, Digest, PeerKey, ServiceId, ServiceRegistration};
use rand_core::Rng as _;

use crate::node::CommandResult;
use crate::questions::Question;
use crate::{Action, CommandError, Node, Notice, Record, Reply, ServiceStatus, ServiceView};

#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) registration: ServiceRegistration,
    pub(crate) status: ServiceStatus,
    /// The component or a blob on its way, and who was asked for it in vain.
    download: Option<(Download, BTreeSet<PeerKey>)>,
    /// Who sent the part that's being written.
    source: Option<PeerKey>,
}

impl Service {
    pub(crate) fn view(&self, id: ServiceId) -> ServiceView {
        ServiceView {
            id,
            manifest: self.registration.manifest.clone(),
            status: self.status.clone(),
        }
    }
}

impl Node {
    pub(crate) fn judge_service(
        &mut self,
        registration: ServiceRegistration,
    ) -> Result<Verdict, Offence> {
        let id = registration.verify(&self.context).map_err(|_| Offence::WrongSignature)?;
        if self.services.contains_key(&id) || self.has_no_room_for(&registration).is_some() {
            return Ok(Verdict::Ignore);
        }
        let record = self.add_service(id, registration);
        self.store(vec![record], None);
        Ok(Verdict::Accept)
    }

    pub(crate) fn register_service(&mut self, registration: ServiceRegistration) -> CommandResult {
        let id = registration
            .verify(&self.context)
            .map_err(|e| CommandError::Registration(e.to_string()))?;
        if self.services.contains_key(&id) {
            return Ok((Reply::Service(id), Vec::new()));
        }
        if registration.manifest.limits.state_bytes > 0 {
            return Err(CommandError::Stateful);
        }
        if let Some(error) = self.has_no_room_for(&registration) {
            return Err(error);
        }
        self.act(Action::Publish(Box::new(Gossip::Service(Box::new(registration.clone())))));
        let record = self.add_service(id, registration);
        Ok((Reply::Service(id), vec![record]))
    }

    /// Keeps a registration whose signature holds, and has its component made ready.
    fn add_service(&mut self, id: ServiceId, registration: ServiceRegistration) -> Record {
        let record = Record::Service(id, Box::new(registration.clone()));
        self.restore_service(id, registration);
        record
    }

    pub(crate) fn restore_service(&mut self, id: ServiceId, registration: ServiceRegistration) {
        if registration.manifest.limits.state_bytes > 0 {
            let status = ServiceStatus::Refused(CommandError::Stateful.to_string());
            let service = Service { registration, status, download: None, source: None };
            self.services.insert(id, service);
            return;
        }
        let manifest = Box::new(registration.manifest.clone());
        let status = ServiceStatus::Preparing;
        self.services.insert(id, Service { registration, status, download: None, source: None });
        self.act(Action::Prepare(id, manifest));
    }

    pub(crate) fn handle_prepared(&mut self, id: ServiceId, result: Result<(), String>) {
        let Some(service) = self.services.get_mut(&id) else { return };
        service.download = None;
        match result {
            Ok(()) => {
                service.status = ServiceStatus::Ready;
                self.act(Action::Notify(Notice::ServiceReady(id)));
            }
            Err(reason) => service.status = ServiceStatus::Refused(reason),
        }
        self.settle_tasks_of(id);
    }

    pub(crate) fn fetch_blob(&mut self, id: ServiceId, digest: &Digest) {
        let Some(service) = self.services.get_mut(&id) else { return };
        let manifest = &service.registration.manifest;
        let mut blobs = manifest.blobs.values().map(|blob| (blob.digest, blob.bytes));
        let component = (manifest.component, manifest.component_bytes);
        let named = std::iter::once(component).chain(&mut blobs).find(|(named, _)| named == digest);
        let Some((digest, bytes)) = named else { return };
        service.status = ServiceStatus::Fetching;
        service.download = Some((Download::new(digest, bytes), BTreeSet::new()));
        self.ask_for_blob(id);
    }

    pub(crate) fn handle_blob(
        &mut self,
        from: PeerKey,
        id: ServiceId,
        part: Option<Bytes<{ lamina_p2p::CHUNK_BYTES_MAX }>>,
    ) {
        let Some(service) = self.services.get_mut(&id) else { return };
        let Some((download, asked)) = &mut service.download else { return };
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
        if let Err(reason) = result {
            return self.handle_prepared(id, Err(reason));
        }
        match (&service.download, service.source.take()) {
            (Some((download, _)), Some(peer)) if !download.is_complete() => {
                let request = download.next_request();
                if self.peers.contains(&peer) {
                    return self.ask(peer, Question::Blob(id), request);
                }
                self.handle_blob(peer, id, None);
            }
            _ => {
                service.download = None;
                service.status = ServiceStatus::Preparing;
                let manifest = Box::new(service.registration.manifest.clone());
                self.act(Action::Prepare(id, manifest));
            }
        }
    }

    /// Asks those again who didn't have what's still missing.
    pub(crate) fn retry_downloads(&mut self) {
        let asked_for = self.questions.blobs();
        let stalled: Vec<ServiceId> = self
            .services
            .iter()
            .filter(|(id, service)| {
                service.status == ServiceStatus::Fetching
                    && service.download.is_some()
                    && service.source.is_none()
                    && !asked_for.contains(id)
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
        let request = download.next_request();
        let candidates: Vec<PeerKey> = self.peers.difference(asked).copied().collect();
        if candidates.is_empty() {
            return;
        }
        let pick = self.rng.next_u64() % candidates.len() as u64;
        let peer = candidates[usize::try_from(pick).expect("below a length")];
        self.ask(peer, Question::Blob(id), request);
    }

    fn has_no_room_for(&mut self, registration: &ServiceRegistration) -> Option<CommandError> {
        let owner = registration.manifest.owner;
        let of_owner =
            self.services.values().filter(|s| s.registration.manifest.owner == owner).count();
        let error = if self.services.len() >= self.config.services_max {
            CommandError::Full { what: "services", max: self.config.services_max }
        } else if of_owner >= self.config.services_per_owner_max {
            let max = self.config.services_per_owner_max;
            CommandError::Full { what: "services of one owner", max }
        } else {
            return None;
        };
        self.metrics.dropped_full += 1;
        Some(error)
    }
}
