use lamina_types::{Digest, Hasher};

use crate::Request;

/// Largest part of a blob in one answer, in bytes: a component of 32 MiB takes 37 answers.
pub const CHUNK_BYTES_MAX: usize = 896 * 1024;

/// A blob on its way: parts are asked for one after the other from one peer, and the whole is checked by its hash.
///
/// The parts themselves are for the caller to keep. A peer that lies shows only at the end, and then the blob begins anew
/// with another one. What that costs is bounded: by the size, which the manifest names and the owner signed.
#[derive(Debug, Clone)]
pub struct Download {
    digest: Digest,
    size: u32,
    offset: u32,
    hasher: Hasher,
}

/// What a part did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Keep the part, then ask for [`Download::next_request`].
    Partial,
    /// Keep the part: with it all is there, and has the right hash.
    Complete,
    /// The peer sent something else; the blob begins anew.
    Wrong,
}

impl Download {
    /// A blob of `size` bytes, of which nothing is there.
    #[must_use]
    pub fn new(digest: Digest, size: u32) -> Self {
        Self { digest, size, offset: 0, hasher: Hasher::default() }
    }

    /// SHA-256 of the blob.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Where the next part begins, in bytes.
    #[must_use]
    pub const fn offset(&self) -> u32 {
        self.offset
    }

    /// Whether all is there.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.offset == self.size
    }

    /// What to ask for next.
    #[must_use]
    pub const fn next_request(&self) -> Request {
        Request::Blob { digest: self.digest, offset: self.offset }
    }

    /// Takes the answer to [`Self::next_request`].
    pub fn insert(&mut self, part: &[u8]) -> Progress {
        let left = self.size - self.offset;
        let length = u32::try_from(part.len()).ok();
        let expected = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES_MAX);
        let Some(length) = length.filter(|_| part.len() == expected) else {
            self.restart();
            return Progress::Wrong;
        };
        self.hasher.update(part);
        self.offset += length;
        if self.offset < self.size {
            return Progress::Partial;
        }
        if std::mem::take(&mut self.hasher).digest() == self.digest {
            return Progress::Complete;
        }
        self.restart();
        Progress::Wrong
    }

    /// Begins anew, with another peer.
    pub fn restart(&mut self) {
        self.offset = 0;
        self.hasher = Hasher::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob() -> Vec<u8> {
        (0..CHUNK_BYTES_MAX + 10).map(|i| u8::try_from(i % 251).unwrap()).collect()
    }

    fn download() -> Download {
        Download::new(Digest::of(&blob()), u32::try_from(blob().len()).unwrap())
    }

    #[test]
    fn parts_make_the_whole() {
        let (blob, mut download) = (blob(), download());
        assert_eq!(download.insert(&blob[..CHUNK_BYTES_MAX]), Progress::Partial);
        let offset = u32::try_from(CHUNK_BYTES_MAX).unwrap();
        assert_eq!(download.next_request(), Request::Blob { digest: Digest::of(&blob), offset });
        assert_eq!(download.insert(&blob[CHUNK_BYTES_MAX..]), Progress::Complete);
    }

    #[test]
    fn other_bytes_begin_the_download_anew() {
        let (blob, mut download) = (blob(), download());
        assert_eq!(download.insert(&blob[..CHUNK_BYTES_MAX]), Progress::Partial);
        assert_eq!(download.insert(&[0; 10]), Progress::Wrong);
        assert_eq!(download.next_request(), Request::Blob { digest: Digest::of(&blob), offset: 0 });
        assert_eq!(download.insert(&blob[..CHUNK_BYTES_MAX]), Progress::Partial);
        assert_eq!(download.insert(&blob[CHUNK_BYTES_MAX..]), Progress::Complete);
    }

    #[test]
    fn short_empty_and_long_parts_are_wrong() {
        for part in [&b""[..], &[0; 5], &vec![0; CHUNK_BYTES_MAX + 10]] {
            assert_eq!(download().insert(part), Progress::Wrong);
        }
    }
}
