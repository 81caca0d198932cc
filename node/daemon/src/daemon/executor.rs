//! Compiles services' components and runs tasks on threads of their own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use lamina_components::{Engine, Log, Observed, Service, Task};
use lamina_node_core::{Event, Execution};
use lamina_types::{Digest, Manifest, ServiceId, TaskId};
use tokio::sync::mpsc;

use super::blobs::Blobs;

/// Runs what the node asks for.
#[derive(Debug)]
pub(crate) struct Executor {
    engine: Engine,
    blobs: Blobs,
    /// By service and by the manifest that it runs by: parameters change, and tasks keep those of their height.
    services: RwLock<BTreeMap<(ServiceId, Digest), Service>>,
}

impl Executor {
    pub(crate) fn new(engine: Engine, blobs: Blobs) -> Self {
        Self { engine, blobs, services: RwLock::default() }
    }

    /// Where components' bytes are.
    pub(crate) fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Checks and compiles a component; takes seconds for a large one.
    pub(crate) fn check(&self, bytes: &[u8]) -> Result<(), lamina_components::Error> {
        self.engine.load(bytes, &Digest::of(bytes)).map(|_| ())
    }

    /// Whether this operator can run what `manifest` describes: its limits are admitted, its component is here.
    pub(crate) fn check_manifest(&self, manifest: &Manifest) -> Result<(), String> {
        self.engine.admit(manifest).map_err(|error| error.to_string())?;
        self.check_blob("the component", &manifest.component, manifest.component_bytes)?;
        for (name, blob) in &manifest.blobs {
            self.check_blob(&format!("the blob {name}"), &blob.digest, blob.bytes)?;
        }
        Ok(())
    }

    fn check_blob(&self, what: &str, digest: &Digest, bytes: u32) -> Result<(), String> {
        match self.blobs.size(digest).map_err(|error| error.to_string())? {
            Some(size) if size == u64::from(bytes) => Ok(()),
            Some(size) => Err(format!("{what} has {size} bytes, the manifest says {bytes}")),
            None => Err(format!("{what} ({digest}) isn't here; upload it first")),
        }
    }

    /// Makes a service ready to run; the answer is the event that tells how that went.
    pub(crate) fn prepare(&self, id: ServiceId, manifest: &Manifest) -> Event {
        let version = manifest.digest();
        match self.service(manifest) {
            Ok(service) => {
                let mut services = self.services.write().unwrap_or_else(PoisonError::into_inner);
                services.insert((id, version), service);
                Event::Prepared(id, version, Ok(()))
            }
            Err(Unprepared::Missing(digest)) => Event::BlobMissing(id, digest),
            Err(Unprepared::Refused(reason)) => Event::Prepared(id, version, Err(reason)),
        }
    }

    /// Drops a version that no task needs any more.
    pub(crate) fn forget(&self, id: ServiceId, version: Digest) {
        let mut services = self.services.write().unwrap_or_else(PoisonError::into_inner);
        services.remove(&(id, version));
    }

    fn service(&self, manifest: &Manifest) -> Result<Service, Unprepared> {
        let refused = |error: lamina_components::Error| Unprepared::Refused(error.to_string());
        let disk = |error: std::io::Error| Unprepared::Refused(format!("reading a blob: {error}"));
        self.engine.admit(manifest).map_err(refused)?;
        let digest = &manifest.component;
        let bytes = self.blobs.read(digest).map_err(disk)?;
        let bytes = bytes.ok_or(Unprepared::Missing(*digest))?;
        let mut blobs = lamina_components::Blobs::default();
        for (name, blob) in &manifest.blobs {
            let file = self.blobs.open_blob(&blob.digest).map_err(disk)?;
            let file = file.ok_or(Unprepared::Missing(blob.digest))?;
            blobs.insert(name.clone(), file).map_err(disk)?;
        }
        let component = self.engine.load(&bytes, digest).map_err(refused)?;
        component.serve(manifest, blobs).map_err(refused)
    }

    /// Starts `workers` threads that run tasks until the sender of `executions` is dropped.
    pub(crate) fn start(
        self: &Arc<Self>,
        workers: usize,
        executions: mpsc::Receiver<Execution>,
        done: &mpsc::UnboundedSender<Event>,
    ) -> std::io::Result<Vec<JoinHandle<()>>> {
        let executions = Arc::new(Mutex::new(executions));
        (0..workers)
            .map(|i| {
                let (executor, executions) = (self.clone(), executions.clone());
                let done = done.clone();
                std::thread::Builder::new().name(format!("worker-{i}")).spawn(move || {
                    loop {
                        let next = {
                            let mut queue =
                                executions.lock().unwrap_or_else(PoisonError::into_inner);
                            queue.blocking_recv()
                        };
                        let Some(next) = next else { return };
                        // A panic would cost the worker, and the node would wait for it forever.
                        let run = std::panic::AssertUnwindSafe(|| executor.run(&next));
                        let event = std::panic::catch_unwind(run)
                            .unwrap_or_else(|_| Event::Executed(next.task, Err(FAILED.to_owned())));
                        let _ = done.send(event);
                    }
                })
            })
            .collect()
    }

    fn run(&self, execution: &Execution) -> Event {
        let refused = |reason: &str| Event::Executed(execution.task, Err(reason.to_owned()));
        let Some(service) = self.ready(execution) else { return refused(NOT_READY) };
        let task = Task::new(execution.task, execution.height, &execution.input);
        match &execution.observations {
            Some(observations) if service.is_oracle() => {
                let observed = observations.iter().map(|observed| Observed {
                    operator: observed.operator.0,
                    stake: observed.stake_gwei,
                    value: observed.value.as_slice().to_vec(),
                });
                executed(&task, service.reduce(&task, &observed.collect::<Vec<_>>()))
            }
            None if !service.is_oracle() => executed(&task, service.run(&task)),
            _ => refused(WRONG_KIND),
        }
    }

    /// Observes for an oracle's task, in a thread that may wait.
    pub(crate) fn observe(&self, execution: &Execution) -> Event {
        let refused = |reason: &str| Event::Observed(execution.task, Err(reason.to_owned()));
        let Some(service) = self.ready(execution) else { return refused(NOT_READY) };
        if !service.is_oracle() {
            return refused(WRONG_KIND);
        }
        let task = Task::new(execution.task, execution.height, &execution.input);
        let observe = std::panic::AssertUnwindSafe(|| observed(&service, &task));
        std::panic::catch_unwind(observe).unwrap_or_else(|_| refused(FAILED))
    }

    fn ready(&self, execution: &Execution) -> Option<Service> {
        let services = self.services.read().unwrap_or_else(PoisonError::into_inner);
        services.get(&(execution.service, execution.manifest)).cloned()
    }
}

/// What the node is told where this operator can't do its part.
const FAILED: &str = "this node failed; its log tells why";
const NOT_READY: &str = "the service isn't ready";
const WRONG_KIND: &str = "the service isn't of the kind that its manifest says";

fn executed(task: &Task<'_>, run: lamina_components::Run) -> Event {
    log_lines(task.id, &run.log);
    tracing::debug!(
        task = %task.id.short(),
        elapsed_us = u64::try_from(run.elapsed.as_micros()).unwrap_or(u64::MAX),
        memory_bytes = run.memory_bytes_peak,
        "ran the task"
    );
    Event::Executed(task.id, run.verdict.map_err(|abstain| abstain.to_string()))
}

fn observed(service: &Service, task: &Task<'_>) -> Event {
    let observation = service.observe(task);
    log_lines(task.id, &observation.log);
    for refusal in &observation.refusals {
        tracing::warn!(task = %task.id.short(), refusal, "the component was refused something");
    }
    if let Err(reason) = &observation.value {
        tracing::warn!(task = %task.id.short(), reason, "nothing was observed");
    }
    Event::Observed(task.id, observation.value)
}

fn log_lines(task: TaskId, log: &Log) {
    for line in &log.lines {
        tracing::debug!(
            task = %task.short(),
            level = ?line.level,
            message = line.message,
            "the component logged"
        );
    }
}

/// Why a service isn't ready to run.
enum Unprepared {
    /// The component or a blob isn't here yet.
    Missing(Digest),
    /// It can't be run here at all.
    Refused(String),
}
