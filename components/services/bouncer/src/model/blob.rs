/// A model's file, of which parts are read.
pub trait Blob {
    /// Its size in bytes.
    fn size(&self) -> u64;

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`Error::Read`] if there are fewer, or if they can't be read.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error>;
}

impl<B: Blob + ?Sized> Blob for &B {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        (**self).read(offset, buffer)
    }
}

impl<B: Blob + ?Sized> Blob for Box<B> {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        (**self).read(offset, buffer)
    }
}

impl Blob for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let end = check(self, offset, buffer.len() as u64)?;
        let range = to_usize(offset)?..to_usize(end)?;
        buffer.copy_from_slice(&self[range]);
        Ok(())
    }
}

/// Why a model's file is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file ends too early, or its bytes couldn't be had.
    #[error("reading {length} bytes at {offset}: {reason}")]
    Read {
        /// Where they begin.
        offset: u64,
        /// How many.
        length: u64,
        /// What went wrong.
        reason: String,
    },
    /// The file isn't of its format.
    #[error("{format}: {reason}")]
    Malformed {
        /// The format.
        format: &'static str,
        /// What's wrong.
        reason: String,
    },
    /// The file is of another model: it lacks a tensor or has it in another form.
    #[error("tensor {name}: {reason}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What's wrong with it.
        reason: String,
    },
}

/// The `length` bytes from `offset` on. Nothing is allocated for bytes that the blob doesn't have.
pub(crate) fn bytes<B: Blob + ?Sized>(
    blob: &B,
    offset: u64,
    length: u64,
) -> Result<Vec<u8>, Error> {
    check(blob, offset, length)?;
    let mut bytes = vec![0; to_usize(length)?];
    blob.read(offset, &mut bytes)?;
    Ok(bytes)
}

/// The `count` little-endian numbers in single precision from `offset` on.
pub(crate) fn floats<B: Blob + ?Sized>(
    blob: &B,
    offset: u64,
    count: usize,
) -> Result<Vec<f32>, Error> {
    let length = 4 * count as u64;
    let end = check(blob, offset, length)?;
    let mut floats = Vec::with_capacity(count);
    let mut at = offset;
    while at < end {
        let piece = bytes(blob, at, (end - at).min(PIECE_BYTES))?;
        let (numbers, _) = piece.as_chunks();
        floats.extend(numbers.iter().map(|number| f32::from_le_bytes(*number)));
        at += piece.len() as u64;
    }
    Ok(floats)
}

/// Where the range ends, if it lies in the blob.
fn check<B: Blob + ?Sized>(blob: &B, offset: u64, length: u64) -> Result<u64, Error> {
    let end = offset.checked_add(length).filter(|end| *end <= blob.size());
    end.ok_or_else(|| Error::Read {
        offset,
        length,
        reason: format!("the file has {} bytes", blob.size()),
    })
}

fn to_usize(number: u64) -> Result<usize, Error> {
    usize::try_from(number).map_err(|_| Error::Read {
        offset: number,
        length: 0,
        reason: "beyond this machine's memory".to_owned(),
    })
}

/// Read at once, so that bytes and numbers of a large tensor aren't both in memory. As much as one call of the host gives.
const PIECE_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_beyond_the_end_is_refused() {
        let blob: &[u8] = &[1, 2, 3];
        assert_eq!(bytes(blob, 1, 2), Ok(vec![2, 3]));
        assert!(matches!(bytes(blob, 2, 2), Err(Error::Read { offset: 2, length: 2, .. })));
        assert!(bytes(blob, u64::MAX, 1).is_err());
        assert!(bytes(blob, 0, u64::MAX).is_err());
    }

    #[test]
    fn floats_are_little_endian() {
        let blob: &[u8] = &[9, 0, 0, 128, 63];
        assert_eq!(floats(blob, 1, 1), Ok(vec![1.0]));
    }
}
