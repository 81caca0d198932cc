//! Large data that the manifest names by its hash: a model's weights, say.

use std::io::{self, Read, Seek, SeekFrom};

use crate::host;

/// The most bytes that one [`read`] gives: 1 MiB.
pub const READ_BYTES_MAX: u32 = 1 << 20;

/// The size of the blob `name` in bytes, or none if the manifest names no such blob.
#[must_use]
pub fn size(name: &str) -> Option<u64> {
    host::blob_size(name)
}

/// Bytes of the blob `name` from `offset` on: `length` of them, or as many as the blob has and a call carries
/// ([`READ_BYTES_MAX`]). None if the manifest names no such blob.
#[must_use]
pub fn read(name: &str, offset: u64, length: u32) -> Option<Vec<u8>> {
    host::blob_read(name, offset, length)
}

/// The whole blob. It must fit into the service's memory: [`Reader`] needs no more than a part of it at a time.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] if the manifest names no such blob.
pub fn read_all(name: &str) -> io::Result<Vec<u8>> {
    let mut reader = Reader::open(name)?;
    let mut bytes = Vec::with_capacity(usize::try_from(reader.size).unwrap_or_default());
    reader.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a blob as a file. Keeps up to 64 KiB of it, so that small reads needn't all be calls of the host.
#[derive(Debug, Clone)]
pub struct Reader {
    name: String,
    size: u64,
    position: u64,
    buffer: Vec<u8>,
    buffer_offset: u64,
}

impl Reader {
    /// Begins at the first byte of the blob `name`.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if the manifest names no such blob.
    pub fn open(name: &str) -> io::Result<Self> {
        let size = size(name).ok_or_else(|| not_found(name))?;
        Ok(Self { name: name.to_owned(), size, position: 0, buffer: Vec::new(), buffer_offset: 0 })
    }

    /// The blob's size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What's in the buffer from the position on.
    fn buffered(&self) -> &[u8] {
        let start = self.position.checked_sub(self.buffer_offset);
        let start = start.and_then(|start| usize::try_from(start).ok());
        start.and_then(|start| self.buffer.get(start..)).unwrap_or_default()
    }

    /// At least one byte from the position on, unless it's the end.
    fn fetch(&self, length: usize) -> io::Result<Vec<u8>> {
        let length = u32::try_from(length).unwrap_or(READ_BYTES_MAX).min(READ_BYTES_MAX);
        let bytes = read(&self.name, self.position, length).ok_or_else(|| not_found(&self.name))?;
        if bytes.is_empty() && self.position < self.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes)
    }
}

impl Read for Reader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() || self.position >= self.size {
            return Ok(0);
        }
        if self.buffered().is_empty() {
            if out.len() >= BUFFER_BYTES {
                let bytes = self.fetch(out.len())?;
                out[..bytes.len()].copy_from_slice(&bytes);
                self.position += bytes.len() as u64;
                return Ok(bytes.len());
            }
            self.buffer = self.fetch(BUFFER_BYTES)?;
            self.buffer_offset = self.position;
        }
        let count = self.buffered().read(out)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Reader {
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        let position = match target {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// What a small read fetches ahead: a call costs as much fuel as reading 4 KiB, so this makes calls a small part.
const BUFFER_BYTES: usize = 64 << 10;

fn not_found(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("the manifest names no blob `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn blob(bytes: usize) -> Vec<u8> {
        (0..=250).cycle().take(bytes).collect()
    }

    #[test]
    fn large_blob_is_read_whole() {
        let expected = blob(3_000_000);
        testing::set_blob("weights", expected.clone());
        assert_eq!(size("weights"), Some(3_000_000));
        assert_eq!(read("weights", 0, u32::MAX).unwrap().len(), READ_BYTES_MAX as usize);
        assert_eq!(read_all("weights").unwrap(), expected);
    }

    #[test]
    fn reader_seeks_and_reads_across_its_buffer() {
        let expected = blob(200_000);
        testing::set_blob("weights", expected.clone());
        let mut reader = Reader::open("weights").unwrap();
        for (start, length) in [(0, 10), (65_530, 20), (3, 5), (199_990, 10), (100, 70_000)] {
            let mut part = vec![0; length];
            assert_eq!(reader.seek(SeekFrom::Start(start as u64)).unwrap(), start as u64);
            reader.read_exact(&mut part).unwrap();
            assert_eq!(part, expected[start..start + length], "{start} {length}");
        }
        assert_eq!(reader.seek(SeekFrom::End(-1)).unwrap(), 199_999);
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 1);
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
        assert!(reader.seek(SeekFrom::Current(-200_001)).is_err());
    }

    #[test]
    fn absent_blob_is_named() {
        let error = read_all("weights").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(error.to_string(), "the manifest names no blob `weights`");
    }
}
