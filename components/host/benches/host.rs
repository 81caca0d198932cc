//! What the host adds to wasmtime: one task in a fresh instance, through the host and bare, with the same bounds.

#![allow(missing_docs, reason = "criterion's macros generate the entry point")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lamina_components::{Blobs, Cache, CacheKey, Config, Engine, Task};
use lamina_types::{Address, Digest, Height, Input, Limits, Manifest, TaskId, Text};
use wasmtime::component::{Component, Linker};
use wasmtime::{PoolingAllocationConfig, Store, StoreLimits, StoreLimitsBuilder};

const LIMITS: Limits = Limits {
    fuel: 1_000_000,
    memory_bytes: 1 << 20,
    input_bytes: 1024,
    output_bytes: 1024,
    state_bytes: 0,
};

/// Returns its input.
const ECHO: &str = r#"(component
    (core module $module
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
        (func (export "run") (param $ptr i32) (param $len i32) (result i32)
            (i32.store (i32.const 4) (local.get $ptr))
            (i32.store (i32.const 8) (local.get $len))
            (i32.const 0)))
    (core instance $instance (instantiate $module))
    (func (export "run") (param "input" (list u8)) (result (result (list u8) (error string)))
        (canon lift (core func $instance "run")
            (memory (core memory $instance "memory")) (realloc (core func $instance "realloc")))))"#;

fn host(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("host");
    let bytes = wat::parse_str(ECHO).expect("it's valid");
    let input = Input::new(*b"hello").expect("it's short");

    let engine = Engine::new(Config::default()).expect("a pool of the default size");
    let component = engine.load(&bytes, &Digest::of(&bytes)).expect("it's a service");
    let service = component.serve(&manifest(&bytes), Blobs::default()).expect("it's admitted");
    group.throughput(Throughput::Elements(1));
    group.bench_function("call", |bencher| {
        bencher.iter(|| {
            let run = service.run(&Task::new(TaskId([7; 32]), Height(0), black_box(&input)));
            run.verdict.expect("it ends").result.expect("it returns")
        });
    });

    let bare = Bare::new(&bytes);
    group.bench_function("bare", |bencher| bencher.iter(|| bare.call(black_box(input.as_slice()))));
    group.finish();
}

/// From the component's bytes to the first output, as after a restart: with what was compiled before, and without.
fn start(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("start");
    let bytes = wat::parse_str(ECHO).expect("it's valid");
    let input = Input::new(*b"hello").expect("it's short");
    let folder = tempfile::tempdir().expect("a folder");
    let cache = Cache::open(folder.path(), CacheKey::derive(b"secret"), 1 << 30).expect("a cache");
    let engine = Engine::new(Config::default()).expect("a pool of the default size");
    let first = |engine: &Engine| {
        let component = engine.load(&bytes, &Digest::of(&bytes)).expect("it's a service");
        let service = component.serve(&manifest(&bytes), Blobs::default()).expect("it's admitted");
        let run = service.run(&Task::new(TaskId([7; 32]), Height(0), black_box(&input)));
        run.verdict.expect("it ends").result.expect("it returns")
    };
    group.bench_function("compiled", |bencher| bencher.iter(|| first(&engine)));
    drop(engine);
    let cached = Engine::new(Config::default()).expect("a pool of the default size");
    let cached = cached.with_cache(cache);
    group.bench_function("cached", |bencher| bencher.iter(|| first(&cached)));
    group.finish();
}

fn manifest(component: &[u8]) -> Manifest {
    Manifest {
        owner: Address([1; 20]),
        name: "echo".to_owned().try_into().expect("a name"),
        description: Text::default(),
        component: Digest::of(component),
        component_bytes: u32::try_from(component.len()).expect("it's small"),
        limits: LIMITS,
        parameters: [].into(),
        blobs: [].into(),
        oracle: None,
    }
}

/// wasmtime as one would use it first: pooling, fuel, epochs and its own limits.
struct Bare {
    engine: wasmtime::Engine,
    instance: wasmtime::component::InstancePre<StoreLimits>,
}

impl Bare {
    fn new(bytes: &[u8]) -> Self {
        let mut pool = PoolingAllocationConfig::new();
        pool.max_memory_size(usize::try_from(Config::default().memory_bytes_max).expect("64 bits"));
        let mut config = wasmtime::Config::new();
        config.consume_fuel(true).epoch_interruption(true).cranelift_nan_canonicalization(true);
        config.allocation_strategy(pool);
        let engine = wasmtime::Engine::new(&config).expect("a pool of the default size");
        let component = Component::new(&engine, bytes).expect("it's valid");
        let instance = Linker::new(&engine).instantiate_pre(&component).expect("no imports");
        Self { engine, instance }
    }

    fn call(&self, input: &[u8]) -> Vec<u8> {
        let memory_bytes = usize::try_from(LIMITS.memory_bytes).expect("64 bits");
        let limits = StoreLimitsBuilder::new().memory_size(memory_bytes).build();
        let mut store = Store::new(&self.engine, limits);
        store.limiter(|limits| limits);
        store.set_fuel(LIMITS.fuel).expect("fuel is on");
        store.set_epoch_deadline(1000);
        let instance = self.instance.instantiate(&mut store).expect("there's room");
        let run = instance
            .get_typed_func::<(&[u8],), (Result<Vec<u8>, String>,)>(&mut store, "run")
            .expect("it's there");
        run.call(&mut store, (input,)).expect("it ends").0.expect("it returns")
    }
}

criterion_group!(benches, host, start);
criterion_main!(benches);
