use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hmac::{Hmac, KeyInit as _, Mac as _};
use lamina_types::Digest;
use sha2::Sha256;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::runtime::WASMTIME_VERSION;

/// Compiled components on disk, so that a restart needn't compile them again.
///
/// What's loaded is machine code, which could do anything: so each file carries a message authentication code under the
/// host's own key, over the component's digest and the code. A file that another program wrote, or that the disk bent, or
/// that another version made, isn't used; the component is compiled again and the file replaced.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    key: CacheKey,
    bytes_max: u64,
}

/// The host's own key. Whoever knows it can have the host run any code: derive it from a secret that only the host holds.
#[derive(Clone)]
pub struct CacheKey([u8; 32]);

impl CacheKey {
    /// The key that belongs to `secret`, and tells nothing about it. HMAC-SHA256.
    #[must_use]
    pub fn derive(secret: &[u8]) -> Self {
        let mac = keyed(secret).chain_update(b"lamina/component-cache/v1");
        Self(mac.finalize().into_bytes().into())
    }
}

impl std::fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CacheKey(…)")
    }
}

impl Cache {
    /// Opens or creates the folder, which is the host's alone. Beyond `bytes_max`, what was used longest ago is deleted.
    ///
    /// # Errors
    /// If the folder can't be created.
    pub fn open(folder: &Path, key: CacheKey, bytes_max: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned(), key, bytes_max })
    }

    /// The compiled component, if it's there and was made here.
    pub(crate) fn load(&self, engine: &Engine, digest: &Digest) -> Option<Component> {
        let path = self.path(digest);
        let bytes = fs::read(&path).ok()?;
        let (tag, code) = bytes.split_first_chunk::<TAG_BYTES>()?;
        if self.mac(digest, code).verify(tag.into()).is_err() {
            tracing::warn!(component = %digest.short(), "a cached component isn't ours; it's compiled again");
            return None;
        }
        let component = deserialize(engine, code).ok()?;
        // When it was last used; only a hint of what to delete.
        let _ = fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Some(component)
    }

    /// Keeps a compiled component. A failure costs time at the next start, no more: it's logged.
    pub(crate) fn store(&self, digest: &Digest, component: &Component) {
        if let Err(error) = self.try_store(digest, component) {
            tracing::warn!(%error, component = %digest.short(), "a compiled component isn't cached");
        }
    }

    fn try_store(&self, digest: &Digest, component: &Component) -> io::Result<()> {
        let code = component.serialize().map_err(|error| io::Error::other(format!("{error:#}")))?;
        let bytes = (code.len() + TAG_BYTES) as u64;
        if bytes > self.bytes_max {
            return Ok(());
        }
        self.make_room(bytes)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(&self.mac(digest, &code).finalize().into_bytes())?;
        file.write_all(&code)?;
        file.persist(self.path(digest)).map_err(|error| error.error)?;
        Ok(())
    }

    /// Deletes what was used longest ago until `bytes` more fit.
    fn make_room(&self, bytes: u64) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file() && entry.path().extension().is_some_and(|e| e == EXTENSION) {
                files.push((metadata.modified()?, metadata.len(), entry.path()));
            }
        }
        files.sort();
        let mut used: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, size, path) in files {
            if used + bytes <= self.bytes_max {
                break;
            }
            fs::remove_file(path)?;
            used -= size;
        }
        Ok(())
    }

    fn mac(&self, digest: &Digest, code: &[u8]) -> Hmac<Sha256> {
        keyed(&self.key.0).chain_update(digest.0).chain_update(code)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{digest}-{WASMTIME_VERSION}.{EXTENSION}"))
    }
}

/// Length of a code, in bytes.
const TAG_BYTES: usize = 32;
const EXTENSION: &str = "cwasm";

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("a key may have any length")
}

#[expect(unsafe_code, reason = "wasmtime can't tell whether machine code is what it made")]
fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the code's MAC was checked under a key that only this host holds, so it's what `Component::serialize` gave
    // to it; wasmtime itself refuses code of other versions, settings and machines.
    unsafe { Component::deserialize(engine, code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    fn cache(folder: &Path, secret: &[u8], bytes_max: u64) -> Cache {
        Cache::open(folder, CacheKey::derive(secret), bytes_max).unwrap()
    }

    fn only_file(folder: &Path) -> PathBuf {
        let mut entries = fs::read_dir(folder).unwrap();
        let path = entries.next().unwrap().unwrap().path();
        assert!(entries.next().is_none());
        path
    }

    #[test]
    fn only_what_was_made_here_is_loaded() {
        let (folder, engine) = (tempfile::tempdir().unwrap(), Engine::default());
        let digest = Digest::of(EMPTY);
        let component = Component::new(&engine, EMPTY).unwrap();
        let ours = cache(folder.path(), b"ours", 1 << 20);
        assert!(ours.load(&engine, &digest).is_none());
        ours.store(&digest, &component);
        assert!(ours.load(&engine, &digest).is_some());
        assert!(cache(folder.path(), b"theirs", 1 << 20).load(&engine, &digest).is_none());

        // Under the name of another component it's worth nothing, either.
        let (path, other) = (only_file(folder.path()), Digest([7; 32]));
        fs::copy(&path, ours.path(&other)).unwrap();
        assert!(ours.load(&engine, &other).is_none());
    }

    #[test]
    fn no_changed_byte_is_loaded() {
        let (folder, engine) = (tempfile::tempdir().unwrap(), Engine::default());
        let digest = Digest::of(EMPTY);
        let cache = cache(folder.path(), b"secret", 1 << 20);
        cache.store(&digest, &Component::new(&engine, EMPTY).unwrap());
        let path = only_file(folder.path());
        let bytes = fs::read(&path).unwrap();
        for at in (0..bytes.len()).step_by(bytes.len() / 97 + 1) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            fs::write(&path, changed).unwrap();
            assert!(cache.load(&engine, &digest).is_none(), "byte {at}");
        }
        fs::write(&path, &bytes[..10]).unwrap();
        assert!(cache.load(&engine, &digest).is_none());
    }

    #[test]
    fn what_was_used_longest_ago_makes_room() {
        let (folder, engine) = (tempfile::tempdir().unwrap(), Engine::default());
        let component = Component::new(&engine, EMPTY).unwrap();
        let bytes = component.serialize().unwrap().len() + TAG_BYTES;
        let cache = cache(folder.path(), b"secret", 2 * bytes as u64 + 1);
        let digests = [1, 2, 3].map(|byte| Digest([byte; 32]));
        let old = SystemTime::now() - std::time::Duration::from_secs(60);
        for (age, digest) in [2, 1].into_iter().zip(&digests) {
            cache.store(digest, &component);
            let file = fs::File::open(cache.path(digest)).unwrap();
            file.set_modified(old - std::time::Duration::from_secs(age)).unwrap();
        }
        assert!(cache.load(&engine, &digests[0]).is_some());
        cache.store(&digests[2], &component);
        let kept = digests.map(|digest| cache.load(&engine, &digest).is_some());
        assert_eq!(kept, [true, false, true]);
    }
}
