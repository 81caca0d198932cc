//! Components and blobs on disk, one file for each, named by its SHA-256.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use lamina_p2p::CHUNK_BYTES_MAX;
use lamina_types::{Bytes, Digest, Hasher, ServiceId};

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

    /// The blob, opened for reading, if it's there.
    pub(crate) fn open_blob(&self, digest: &Digest) -> io::Result<Option<File>> {
        match File::open(self.path(digest)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps a blob. It's whole or not there, whenever the machine stops.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        if self.path(&digest).exists() {
            return Ok(digest);
        }
        let mut upload = self.upload()?;
        upload.append(bytes)?;
        upload.finish()
    }

    /// A blob that comes in parts, and whose hash is known when all are there.
    pub(crate) fn upload(&self) -> Result<Upload<'_>, Error> {
        let file = tempfile::NamedTempFile::new_in(&self.folder)?;
        Ok(Upload { blobs: self, file, hasher: Hasher::default(), bytes: 0 })
    }

    /// Keeps a part of a blob that's fetched for `service`; with the last one, the blob is there.
    pub(crate) fn write_part(
        &self,
        service: &ServiceId,
        digest: &Digest,
        offset: u32,
        part: &[u8],
        complete: bool,
    ) -> Result<(), Error> {
        let name = format!("{}.{}.part", digest.short(), service.short());
        let unfinished = self.folder.join(name);
        let file =
            OpenOptions::new().create(true).write(true).truncate(offset == 0).open(&unfinished)?;
        let end = u64::from(offset) + part.len() as u64;
        let used = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if *used + end > self.bytes_max {
            fs::remove_file(&unfinished)?;
            return Err(Error::Full { max: self.bytes_max });
        }
        drop(used);
        file.write_all_at(part, offset.into())?;
        if complete {
            self.keep(&file, digest, end, || fs::rename(&unfinished, self.path(digest)))?;
        }
        Ok(())
    }

    /// Syncs a finished file and gives it its name, if there's room.
    fn keep(
        &self,
        file: &File,
        digest: &Digest,
        bytes: u64,
        rename: impl FnOnce() -> io::Result<()>,
    ) -> Result<(), Error> {
        file.sync_all()?;
        let mut used = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.path(digest).exists();
        if !known && *used + bytes > self.bytes_max {
            return Err(Error::Full { max: self.bytes_max });
        }
        rename()?;
        File::open(&self.folder)?.sync_all()?;
        if !known {
            *used += bytes;
        }
        Ok(())
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }
}

/// A blob that's being written; dropped before its end, nothing is left of it.
pub(crate) struct Upload<'a> {
    blobs: &'a Blobs,
    file: tempfile::NamedTempFile,
    hasher: Hasher,
    bytes: u64,
}

impl Upload<'_> {
    /// Writes what comes next.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.bytes += bytes.len() as u64;
        let used = *self.blobs.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if used + self.bytes > self.blobs.bytes_max {
            return Err(Error::Full { max: self.blobs.bytes_max });
        }
        self.hasher.update(bytes);
        Ok(self.file.write_all(bytes)?)
    }

    /// SHA-256 of what was written so far.
    pub(crate) fn digest(&self) -> Digest {
        self.hasher.clone().digest()
    }

    /// Keeps it under its hash.
    pub(crate) fn finish(self) -> Result<Digest, Error> {
        let digest = self.hasher.digest();
        let file = self.file.as_file().try_clone()?;
        let path = self.blobs.path(&digest);
        self.blobs.keep(&file, &digest, self.bytes, || {
            self.file.persist(path).map(drop).map_err(|error| error.error)
        })?;
        Ok(digest)
    }
}

/// Why a blob isn't kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "components and blobs would take more than {max} bytes on disk, the most that this operator allows"
    )]
    Full { max: u64 },
    #[error("writing to disk")]
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
    fn fetched_parts_are_a_blob_once_all_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path(), 20).unwrap();
        let (service, digest) = (ServiceId([1; 32]), Digest::of(b"0123456789"));
        blobs.write_part(&service, &digest, 0, b"xxxxxxx", false).unwrap();
        blobs.write_part(&service, &digest, 0, b"01234", false).unwrap();
        assert_eq!(blobs.size(&digest).unwrap(), None);
        blobs.write_part(&service, &digest, 5, b"56789", true).unwrap();
        assert_eq!(blobs.read(&digest).unwrap().unwrap(), b"0123456789");
        let full = blobs.write_part(&service, &Digest::of(b"a"), 5, b"567890", false);
        assert!(matches!(full, Err(Error::Full { max: 20 })));
        drop(Blobs::open(folder.path(), 20).unwrap());
        assert_eq!(fs::read_dir(folder.path().join("blobs")).unwrap().count(), 1);
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
