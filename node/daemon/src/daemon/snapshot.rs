//! A snapshot on its way to disk: into a file beside the ledger's, which takes its place once all is there and right.

use std::path::{Path, PathBuf};

use lamina_ledger::system::{self, FinalVolume};
use lamina_ledger::{Decision, FinalChange, Record};
use lamina_ledger_store::{Chunk, Config, Error, Restore, Store};
use lamina_node_core::{SnapshotPart, SnapshotProgress};
use lamina_p2p::LaneRange;
use lamina_types::{Canonical as _, ChainId, Digest, LaneHead, VolumeId};

/// The file, and the checkpoint that it's to hold.
#[derive(Debug)]
pub(crate) struct Snapshot {
    path: PathBuf,
    chain: ChainId,
    store: Store,
    decision: Decision,
}

/// What a part came to.
#[derive(Debug)]
pub(crate) enum Step {
    /// There's more to come, or it's wrong.
    Progress(SnapshotProgress),
    /// All is there.
    Ready,
}

impl Snapshot {
    /// Begins a snapshot of this checkpoint for the ledger at `ledger`; goes on with what was begun of the same one.
    pub(crate) fn begin(
        ledger: &Path,
        chain: &ChainId,
        config: Config,
        decision: Decision,
    ) -> Result<Self, Error> {
        let path = ledger.with_extension("snapshot");
        let store = Store::open(&path, chain, config)?;
        Ok(Self { path, chain: chain.clone(), store, decision })
    }

    /// Which checkpoint it's of.
    pub(crate) const fn decision(&self) -> &Decision {
        &self.decision
    }

    /// Takes a part. What's wrong changes nothing.
    pub(crate) fn add(&self, part: SnapshotPart) -> Result<Step, Error> {
        let added = match part {
            SnapshotPart::State(bytes) => self.add_state(&bytes),
            SnapshotPart::Changes(changes) => self.add_changes(changes),
        };
        match added {
            Ok(()) => self.progress(),
            Err(Error::Chunk(_) | Error::Mismatch { .. }) => {
                Ok(Step::Progress(SnapshotProgress::Wrong))
            }
            Err(error) => Err(error),
        }
    }

    /// Puts the snapshot in the ledger's place, with `kept` of what was there.
    pub(crate) fn finish(self, kept: Vec<Record>, ledger: &Path) -> Result<Store, Error> {
        let restore = self.restore()?;
        let mut history = system::history(&restore.reader()?)?;
        let mut nodes = history.nodes();
        nodes.extend(history.append(&self.decision.header.id(&self.chain)));
        let nodes: Vec<(u64, Digest)> =
            nodes.into_iter().map(|(position, node)| (position.number(), node)).collect();
        restore.finish(&self.decision, &nodes)?;
        self.store.write(kept)?;
        std::fs::rename(&self.path, ledger).map_err(|error| Error::corrupt("snapshot", error))?;
        Ok(self.store)
    }

    fn restore(&self) -> Result<Restore<'_>, Error> {
        let header = &self.decision.header;
        Restore::begin(&self.store, header.height, header.state)
    }

    fn add_state(&self, bytes: &[u8]) -> Result<(), Error> {
        let mut restore = self.restore()?;
        // A part that comes late, or twice.
        if restore.progress().complete {
            return Ok(());
        }
        let chunk = Chunk::from_bytes(bytes).map_err(|error| Error::Chunk(error.to_string()))?;
        restore.add(&chunk)?;
        if restore.progress().complete {
            let volumes: Vec<VolumeId> = volumes(&restore)?.iter().map(|(id, _)| *id).collect();
            restore.add_changes(&volumes, Vec::new())?;
        }
        Ok(())
    }

    fn add_changes(&self, changes: Vec<FinalChange>) -> Result<(), Error> {
        let restore = self.restore()?;
        let volumes = volumes(&restore)?;
        // Peers send what comes after the checkpoint, too.
        let wanted = |change: &FinalChange| {
            let change = &change.change;
            let lanes = volumes.iter().filter(|(id, _)| *id == change.volume).flat_map(|(_, l)| l);
            lanes
                .into_iter()
                .any(|head| head.author == change.author && change.number <= head.number)
        };
        let mut changes: Vec<FinalChange> = changes.into_iter().filter(wanted).collect();
        changes.sort_by_key(|change| change.change.number);
        let opened: Vec<VolumeId> = volumes.iter().map(|(id, _)| *id).collect();
        restore.add_changes(&opened, changes)
    }

    fn progress(&self) -> Result<Step, Error> {
        let restore = self.restore()?;
        if !restore.progress().complete {
            return Ok(Step::Progress(SnapshotProgress::After(restore.after())));
        }
        let open = self.store.open_volumes()?;
        let mut lacks = Vec::new();
        for (volume, lanes) in volumes(&restore)? {
            let here = open.iter().find(|open| open.volume == volume);
            for head in lanes {
                let end = here.and_then(|o| o.lanes.iter().find(|l| l.author == head.author));
                let after = end.map_or(0, |end| end.number);
                if after < head.number {
                    lacks.push(LaneRange { volume, author: head.author, after });
                } else if end != Some(&head) {
                    // A branch that didn't become final.
                    return Ok(Step::Progress(SnapshotProgress::Wrong));
                }
            }
        }
        let done = lacks.is_empty();
        Ok(if done { Step::Ready } else { Step::Progress(SnapshotProgress::Lacks(lacks)) })
    }
}

/// The open volumes with their lanes' ends, as the restored state has them.
fn volumes(restore: &Restore<'_>) -> Result<Vec<(VolumeId, Vec<LaneHead>)>, Error> {
    let books = system::books(&restore.reader()?)?.into_iter();
    let volume = |(book, FinalVolume { volume, lanes }): (_, FinalVolume)| {
        (VolumeId { book, volume }, lanes.into_iter().map(|lane| lane.head).collect())
    };
    Ok(books.map(volume).collect())
}
