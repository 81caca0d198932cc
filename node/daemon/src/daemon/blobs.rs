//! Components' bytes on disk, one file for each, named by its SHA-256.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use lamina_p2p::CHUNK_BYTES_MAX;
use lamina_types::{Bytes, Digest};

/// A folder of blobs.
#[derive(Debug)]
pub(crate) struct Blobs {
    folder: PathBuf,
    bytes_max: u64,
    /// Held while a blob is written, so that two writers don't both take the last of the room.
    bytes: Mutex<u64>,
}

impl Blobs {
    /// Opens or creates the folder; what a crash left half written is deleted.
    pub(crate) fn open(data: &Path, bytes_max: u64) -> io::Result<Self> {
        let folder = data.join("blobs");
        fs::create_dir_all(&folder)?;
        let mut bytes = 0;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().parse::<Digest>().is_ok() {
                bytes += entry.metadata()?.len();
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { folder, bytes_max, bytes: Mutex::new(bytes) })
    }

    /// The whole blob, if it's there.
    pub(crate) fn read(&self, digest: &Digest) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(digest)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The blob's size in bytes, if it's there.
    pub(crate) fn size(&self, digest: &Digest) -> io::Result<Option<u64>> {
        match fs::metadata(self.path(digest)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The part that begins at `offset`, if the blob is there and reaches so far.
    pub(crate) fn part(&self, digest: &Digest, offset: u32) -> Option<Bytes<CHUNK_BYTES_MAX>> {
        let file = File::open(self.path(digest)).ok()?;
        let left = file.metadata().ok()?.len().checked_sub(offset.into())?;
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES_MAX);
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, offset.into()).ok()?;
        Bytes::new(bytes).ok().filter(|part| !part.as_slice().is_empty())
    }

    /// Keeps a blob. It's whole or not there, whenever the machine stops.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        let mut used = self.bytes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let path = self.path(&digest);
        if path.exists() {
            return Ok(digest);
        }
        if *used + bytes.len() as u64 > self.bytes_max {
            return Err(Error::Full { max: self.bytes_max });
        }
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|error| error.error)?;
        File::open(&self.folder)?.sync_all()?;
        *used += bytes.len() as u64;
        Ok(digest)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }
}

/// Why a blob isn't kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("components take {max} bytes on disk already, the most that this operator allows")]
    Full { max: u64 },
    #[error("writing the component to disk")]
    Io(#[from] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_end_with_the_blob() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path(), 1 << 20).unwrap();
        let bytes = vec![7; CHUNK_BYTES_MAX + 5];
        let digest = blobs.write(&bytes).unwrap();
        let chunk = u32::try_from(CHUNK_BYTES_MAX).unwrap();
        let length = |offset| blobs.part(&digest, offset).map(|part| part.as_slice().len());
        assert_eq!(length(0), Some(CHUNK_BYTES_MAX));
        assert_eq!(length(chunk), Some(5));
        assert_eq!(length(chunk + 5), None);
        assert_eq!(length(u32::MAX), None);
        assert_eq!(blobs.part(&Digest([0; 32]), 0), None);
    }

    #[test]
    fn room_is_bounded_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path(), 10).unwrap();
        blobs.write(b"123456").unwrap();
        assert!(matches!(blobs.write(b"abcdef"), Err(Error::Full { max: 10 })));
        let blobs = Blobs::open(folder.path(), 10).unwrap();
        assert!(matches!(blobs.write(b"abcdef"), Err(Error::Full { max: 10 })));
        assert!(blobs.write(b"123456").is_ok());
    }
}
