use lamina_types::Digest;

use crate::Request;

/// Largest part of a blob in one answer, in bytes: a component of 32 MiB takes 37 answers.
pub const CHUNK_BYTES_MAX: usize = 896 * 1024;

/// A blob on its way: parts are asked for one after the other from one peer, and the whole is checked by its hash.
///
/// A peer that lies shows only at the end, and then the blob begins anew with another one. What that costs is bounded: by
/// the size, which the manifest names and the owner signed.
#[derive(Debug, Clone)]
pub struct Download {
    digest: Digest,
    size: u32,
    bytes: Vec<u8>,
}

/// What a part did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// More is needed: ask for [`Download::next_request`].
    Partial,
    /// All is there, and has the right hash.
    Complete(Vec<u8>),
    /// The peer sent something else; all of it is dropped.
    Wrong,
}

impl Download {
    /// A blob of `size` bytes, of which nothing is there.
    #[must_use]
    pub const fn new(digest: Digest, size: u32) -> Self {
        Self { digest, size, bytes: Vec::new() }
    }

    /// What to ask for next.
    ///
    /// # Panics
    /// Never: what's there is at most `size`.
    #[must_use]
    pub fn next_request(&self) -> Request {
        let offset = u32::try_from(self.bytes.len()).expect("at most `size`, which is a u32");
        Request::Blob { digest: self.digest, offset }
    }

    /// Takes the answer to [`Self::next_request`].
    pub fn insert(&mut self, part: &[u8]) -> Progress {
        let left = self.size as usize - self.bytes.len();
        if part.len() != left.min(CHUNK_BYTES_MAX) {
            self.bytes = Vec::new();
            return Progress::Wrong;
        }
        self.bytes.extend_from_slice(part);
        if self.bytes.len() < self.size as usize {
            return Progress::Partial;
        }
        let bytes = std::mem::take(&mut self.bytes);
        if Digest::of(&bytes) == self.digest { Progress::Complete(bytes) } else { Progress::Wrong }
    }

    /// Drops what's there, to begin with another peer.
    pub fn restart(&mut self) {
        self.bytes = Vec::new();
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
        assert_eq!(download.insert(&blob[CHUNK_BYTES_MAX..]), Progress::Complete(blob.clone()));
    }

    #[test]
    fn other_bytes_are_dropped_and_the_download_begins_anew() {
        let (blob, mut download) = (blob(), download());
        assert_eq!(download.insert(&blob[..CHUNK_BYTES_MAX]), Progress::Partial);
        assert_eq!(download.insert(&[0; 10]), Progress::Wrong);
        assert_eq!(download.next_request(), Request::Blob { digest: Digest::of(&blob), offset: 0 });
        assert_eq!(download.insert(&blob[..CHUNK_BYTES_MAX]), Progress::Partial);
    }

    #[test]
    fn short_empty_and_long_parts_are_wrong() {
        for part in [&b""[..], &[0; 5], &vec![0; CHUNK_BYTES_MAX + 10]] {
            assert_eq!(download().insert(part), Progress::Wrong);
        }
    }
}
