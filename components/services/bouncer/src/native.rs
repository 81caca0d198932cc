use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use crate::Host;
use crate::model::{Blob, Error};

/// A host without WebAssembly, for tests, measurements and `embed-exemplars`: parameters in memory, blobs in files.
#[derive(Debug, Clone, Default)]
pub struct Native {
    /// The parameters.
    pub parameters: BTreeMap<String, String>,
    /// Where each blob's file is.
    pub blobs: BTreeMap<String, PathBuf>,
}

impl Host for Native {
    type Blob = File;

    fn parameter(&self, name: &str) -> Option<String> {
        self.parameters.get(name).cloned()
    }

    fn blob(&self, name: &str) -> Option<File> {
        File::open(self.blobs.get(name)?).ok()
    }
}

impl Native {
    /// The models that `models.toml` names, in [`models()`]: `None` if one isn't there.
    #[must_use]
    pub fn with_models() -> Option<Self> {
        let path = |(name, file): (&str, &str)| (name.to_owned(), models().join(file));
        let blobs: BTreeMap<_, _> = FILES.into_iter().map(path).collect();
        let complete = blobs.values().all(|path| path.is_file());
        complete.then(|| Self { blobs, parameters: BTreeMap::new() })
    }
}

/// The folder of the models' files: `LAMINA_MODELS`, or else `~/.cache/lamina/models`.
#[must_use]
pub fn models() -> PathBuf {
    let set = std::env::var_os("LAMINA_MODELS").map(PathBuf::from);
    set.unwrap_or_else(|| {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        home.unwrap_or_default().join(".cache/lamina/models")
    })
}

impl Blob for File {
    fn size(&self) -> u64 {
        self.metadata().map_or(0, |metadata| metadata.len())
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let mut file = self;
        let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(buffer));
        read.map_err(|error| Error::Read {
            offset,
            length: buffer.len() as u64,
            reason: error.to_string(),
        })
    }
}

/// Each blob's file, as in `service.toml`.
const FILES: [(&str, &str); 3] = [
    ("minilm", "model.safetensors"),
    ("vocabulary", "vocab.txt"),
    ("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
];
