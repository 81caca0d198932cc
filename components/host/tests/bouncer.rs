//! The service `bouncer`, built from its source: what it says in WebAssembly is what it says natively, to the last bit.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs::File;
use std::path::Path;

use bouncer::Native;
use lamina_component_build::build_guest;
use lamina_components::{Blobs, Config, Engine, ManifestSource, Task};
use lamina_types::testing::skip;
use lamina_types::{Address, Height, Input, TaskId, Text};

#[test]
fn wasm_and_native_agree_to_the_bit() {
    let Some(mut native) = Native::with_models() else {
        let reason = "the models are absent; `cargo xtask models` fetches them";
        return skip("wasm_and_native_agree_to_the_bit", reason);
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../services/bouncer");
    let guest = build_guest(&folder, None).unwrap_or_else(|e| panic!("{e}"));
    let source = ManifestSource::read(&folder.join("service.toml")).unwrap();
    let mut manifest = source.into_manifest(Address([1; 20]), &guest.bytes).unwrap();
    let engine = Engine::new(Config { pooled: false, ..Config::default() }).unwrap();
    let component = engine.load(&guest.bytes, &manifest.component).unwrap();
    let messages = [
        ("Thanks for the warm welcome, see you at the harbour!", "off"),
        ("Y0u are a w0rthless 1diot. Have a nice day!", "off"),
        ("İyi günler — ça va? 你好", "off"),
        ("Get lost.", "on"),
    ];
    for (message, opinion) in messages {
        let name = "opinion".to_owned().try_into().unwrap();
        manifest.parameters.insert(name, Text::truncated(opinion));
        for (name, value) in &manifest.parameters {
            native.parameters.insert(name.to_string(), value.to_string());
        }
        let mut blobs = Blobs::default();
        for name in manifest.blobs.keys() {
            blobs.insert(name.clone(), File::open(&native.blobs[name.as_str()]).unwrap()).unwrap();
        }
        let service = component.clone().serve(&manifest, blobs).unwrap();
        let input = serde_json::json!({ "message": message }).to_string();
        let expected = bouncer::run(input.as_bytes(), &native).unwrap();
        let input = Input::new(input).unwrap();
        let run = service.run(&Task::new(TaskId([7; 32]), Height(0), &input));
        let outcome = run.verdict.unwrap();
        let limit = manifest.limits.memory_bytes;
        println!(
            "{message}: fuel {}, memory {} of {limit}",
            outcome.fuel_used, run.memory_bytes_peak
        );
        assert_eq!(outcome.result.unwrap().as_slice(), expected, "{message}");
    }
}
