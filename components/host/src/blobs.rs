use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use lamina_types::{BlobName, Digest, Hasher};

/// The blobs that a component reads, by name: files whose hashes were checked when they were written.
#[derive(Debug, Default)]
pub struct Blobs(BTreeMap<BlobName, Blob>);

#[derive(Debug)]
struct Blob {
    file: File,
    bytes: u64,
}

impl Blobs {
    /// Adds an open file; it's read wherever a component asks, and mustn't change.
    ///
    /// # Errors
    /// If its size can't be told.
    pub fn insert(&mut self, name: BlobName, file: File) -> io::Result<()> {
        let bytes = file.metadata()?.len();
        self.0.insert(name, Blob { file, bytes });
        Ok(())
    }

    /// The blob's size in bytes.
    #[must_use]
    pub fn size(&self, name: &BlobName) -> Option<u64> {
        self.0.get(name).map(|blob| blob.bytes)
    }

    /// At most `length` bytes from `offset` on; fewer where the blob ends.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn read(&self, name: &BlobName, offset: u64, length: usize) -> io::Result<Option<Vec<u8>>> {
        let Some(blob) = self.0.get(name) else { return Ok(None) };
        let left = usize::try_from(blob.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(length)];
        blob.file.read_exact_at(&mut bytes, offset)?;
        Ok(Some(bytes))
    }
}

/// SHA-256 of the file at `path` and its size in bytes.
///
/// # Errors
/// If it can't be read.
pub fn digest_of_file(path: &Path) -> io::Result<(Digest, u64)> {
    let (mut file, mut hasher, mut bytes) = (File::open(path)?, Hasher::default(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((hasher.digest(), bytes));
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn ranges_end_with_the_blob() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let name: BlobName = "digits".to_owned().try_into().unwrap();
        let mut blobs = Blobs::default();
        blobs.insert(name.clone(), file).unwrap();
        let read = |offset, length| blobs.read(&name, offset, length).unwrap().unwrap();
        assert_eq!(read(2, 3), b"234");
        assert_eq!(read(8, 30), b"89");
        assert_eq!(read(10, 1), b"");
        assert_eq!(read(u64::MAX, 1), b"");
        assert_eq!(blobs.size(&name), Some(10));
        let other: BlobName = "other".to_owned().try_into().unwrap();
        assert_eq!(blobs.read(&other, 0, 1).unwrap(), None);
    }

    #[test]
    fn digest_is_that_of_the_contents() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"hello").unwrap();
        assert_eq!(digest_of_file(file.path()).unwrap(), (Digest::of(b"hello"), 5));
    }
}
