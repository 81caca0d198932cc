//! Compiles services' components and runs tasks on threads of their own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use lamina_components::{Component, Engine};
use lamina_node_core::{Event, Execution};
use lamina_types::{Manifest, ServiceId};
use tokio::sync::mpsc;

use super::blobs::Blobs;

/// Runs what the node asks for.
#[derive(Debug)]
pub(crate) struct Executor {
    engine: Engine,
    blobs: Blobs,
    services: RwLock<BTreeMap<ServiceId, Arc<Runnable>>>,
}

struct Runnable {
    component: Component,
    manifest: Manifest,
}

impl std::fmt::Debug for Runnable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Runnable({})", self.manifest.name)
    }
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
        self.engine.load(bytes, &lamina_types::Digest::of(bytes)).map(|_| ())
    }

    /// Whether this operator can run what `manifest` describes: its limits are admitted, its component is here.
    pub(crate) fn check_manifest(&self, manifest: &Manifest) -> Result<(), String> {
        self.engine.admit(manifest).map_err(|error| error.to_string())?;
        let component = &manifest.component;
        match self.blobs.size(component).map_err(|error| error.to_string())? {
            Some(size) if size == u64::from(manifest.component_bytes) => Ok(()),
            Some(size) => Err(format!(
                "the component has {size} bytes, the manifest says {}",
                manifest.component_bytes
            )),
            None => Err(format!("component {component} isn't here; upload it first")),
        }
    }

    /// Makes a service ready to run; the answer is the event that tells how that went.
    pub(crate) fn prepare(&self, id: ServiceId, manifest: Manifest) -> Event {
        let refuse = |reason: String| Event::Prepared(id, Err(reason));
        if let Err(error) = self.engine.admit(&manifest) {
            return refuse(error.to_string());
        }
        let bytes = match self.blobs.read(&manifest.component) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Event::BlobMissing(id),
            Err(error) => return refuse(format!("reading the component: {error}")),
        };
        match self.engine.load(&bytes, &manifest.component) {
            Ok(component) => {
                let runnable = Arc::new(Runnable { component, manifest });
                let mut services = self.services.write().unwrap_or_else(PoisonError::into_inner);
                services.insert(id, runnable);
                Event::Prepared(id, Ok(()))
            }
            Err(error) => refuse(error.to_string()),
        }
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
                        let Some(execution) = next else { return };
                        // A panic would cost the worker, and the node would wait for it forever.
                        let run = std::panic::AssertUnwindSafe(|| executor.run(&execution));
                        let event = std::panic::catch_unwind(run).unwrap_or_else(|_| {
                            let reason = "this node failed; its log tells why".to_owned();
                            Event::Executed(execution.task, Err(reason))
                        });
                        let _ = done.send(event);
                    }
                })
            })
            .collect()
    }

    fn run(&self, execution: &Execution) -> Event {
        let services = self.services.read().unwrap_or_else(PoisonError::into_inner);
        let Some(service) = services.get(&execution.service).cloned() else {
            let reason = "the service isn't ready".to_owned();
            return Event::Executed(execution.task, Err(reason));
        };
        drop(services);
        let Manifest { limits, parameters, .. } = &service.manifest;
        let run = service.component.run(limits, parameters, &execution.input);
        for line in &run.log.lines {
            tracing::debug!(
                task = %execution.task.short(),
                level = ?line.level,
                message = line.message,
                "the component logged"
            );
        }
        tracing::debug!(
            task = %execution.task.short(),
            elapsed_us = u64::try_from(run.elapsed.as_micros()).unwrap_or(u64::MAX),
            memory_bytes = run.memory_bytes_peak,
            "ran the task"
        );
        Event::Executed(execution.task, run.verdict.map_err(|abstain| abstain.to_string()))
    }
}
