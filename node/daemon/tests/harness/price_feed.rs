//! The price feed, with sources on loopback.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use lamina_component_build::build_guest;
use serde_json::{Value, json};

/// What it's asked for.
pub const PAIR: &str = r#"{"pair":"ETH/USD"}"#;

/// A price on loopback that's another one each time it's asked for.
pub struct Source {
    pub origin: String,
    served: Arc<Mutex<BTreeSet<u32>>>,
}

impl Source {
    fn start(cents: impl Fn(u32) -> u32 + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let served = Arc::new(Mutex::new(BTreeSet::new()));
        let told = served.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for (asked, stream) in (0..).zip(listener.incoming()) {
                let mut stream = stream.unwrap();
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                let cents = cents(asked);
                told.lock().unwrap().insert(cents);
                let body = format!("{{\"price\":\"{}.{:02}\"}}", cents / 100, cents % 100);
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                     Connection: close\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        Self { origin, served }
    }
}

/// Three sources, and the price feed with a manifest that names them.
pub struct PriceFeed {
    pub sources: Vec<Source>,
    pub manifest: PathBuf,
    pub component: PathBuf,
}

impl PriceFeed {
    pub fn new(folder: &Path) -> Self {
        let sources: Vec<_> = (0..3_u32)
            .map(|source| Source::start(move |asked| 200_000 + source * 31 + asked * 7 % 900))
            .collect();
        let folder = folder.join("price-feed");
        fs::create_dir(&folder).unwrap();
        let list: String = sources
            .iter()
            .map(|source| {
                format!("[[\"ETH/USD\"]]\nurl = \"{}/spot\"\nprice = \"/price\"\n", source.origin)
            })
            .collect();
        fs::write(folder.join("sources.toml"), list).unwrap();
        let origins: Vec<_> = sources.iter().map(|source| format!("{:?}", source.origin)).collect();
        let own = services().join("price-feed/service.toml");
        let own = fs::read_to_string(own).unwrap();
        let (before, _) = own.split_once("[oracle]").unwrap();
        let manifest = folder.join("service.toml");
        let oracle = format!("{before}[oracle]\norigins = [{}]\n", origins.join(", "));
        fs::write(&manifest, oracle).unwrap();
        let component = build_guest(&services().join("price-feed"), None).unwrap().path;
        Self { sources, manifest, component }
    }

    /// What operators must allow to observe here.
    pub fn allowed(&self) -> Value {
        let origins: Vec<_> = self.sources.iter().map(|source| &source.origin).collect();
        json!({ "components": { "http": { "origins": "any", "private_origins": origins } } })
    }

    /// The lowest and the highest price that any operator was told, in cents.
    pub fn range(&self) -> (u32, u32) {
        let served = self.sources.iter().map(|source| source.served.lock().unwrap().clone());
        let all: BTreeSet<u32> = served.flatten().collect();
        (*all.first().unwrap(), *all.last().unwrap())
    }
}

/// Where the services' folders are.
pub fn services() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../components/services")
}

/// A price as its text has it, in cents.
pub fn cents(price: &str) -> u32 {
    let (whole, parts) = price.split_once('.').unwrap();
    whole.parse::<u32>().unwrap() * 100 + parts[..2].parse::<u32>().unwrap()
}
