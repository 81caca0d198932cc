//! Safetensors: the length of a JSON header, the header, the tensors' bytes.
//!
//! <https://huggingface.co/docs/safetensors/index>, "Format".

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Error;
use super::blob::{self, Blob};

/// Where the tensors of a file are.
#[derive(Debug)]
pub(super) struct Tensors<B> {
    blob: B,
    /// Where tensors' bytes begin.
    data: u64,
    entries: BTreeMap<String, Entry>,
}

impl<B: Blob> Tensors<B> {
    /// Reads the header.
    pub(super) fn open(blob: B) -> Result<Self, Error> {
        let mut length = [0; 8];
        blob.read(0, &mut length)?;
        let length = u64::from_le_bytes(length);
        if length > HEADER_BYTES_MAX {
            return Err(malformed(format!("its header has {length} bytes")));
        }
        let header = blob::bytes(&blob, 8, length)?;
        let mut header: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(&header).map_err(|error| malformed(error.to_string()))?;
        header.remove("__metadata__");
        let entry = |(name, value)| {
            let entry = serde_json::from_value(value);
            Ok((name, entry.map_err(|error| malformed(error.to_string()))?))
        };
        let entries = header.into_iter().map(entry).collect::<Result<_, Error>>()?;
        Ok(Self { blob, data: 8 + length, entries })
    }

    /// A tensor of that shape.
    pub(super) fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        blob::floats(&self.blob, self.find(name, shape)?, shape.iter().product())
    }

    /// Row `index` of the matrix that [`Self::find`] found at `offset`.
    pub(super) fn row(&self, offset: u64, width: usize, index: u32) -> Result<Vec<f32>, Error> {
        blob::floats(&self.blob, offset + 4 * width as u64 * u64::from(index), width)
    }

    /// Where the numbers of a tensor of that shape begin in the file.
    pub(super) fn find(&self, name: &str, shape: &[usize]) -> Result<u64, Error> {
        let wrong = |reason: String| Error::Tensor { name: name.to_owned(), reason };
        let entry = self.entries.get(name).ok_or_else(|| wrong("it's missing".to_owned()))?;
        if entry.dtype != "F32" || entry.shape != shape {
            let Entry { dtype, shape: found, .. } = entry;
            return Err(wrong(format!("{dtype} {found:?} instead of F32 {shape:?}")));
        }
        let (start, end) = entry.data_offsets;
        let bytes = 4 * shape.iter().product::<usize>() as u64;
        let offset = self.data.checked_add(start).filter(|_| end.checked_sub(start) == Some(bytes));
        let offset =
            offset.filter(|at| at.checked_add(bytes).is_some_and(|e| e <= self.blob.size()));
        offset.ok_or_else(|| wrong(format!("it can't lie at {start}..{end}")))
    }
}

#[derive(Debug, Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

fn malformed(reason: String) -> Error {
    Error::Malformed { format: "safetensors", reason }
}

/// A guess; that of `MiniLM` has 11 KB.
const HEADER_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    const HEADER: &str = r#"{"__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [4, 12]}}"#;

    #[test]
    fn tensor_is_found_by_its_name() {
        let file = file(HEADER, &[0, 0, 0, 0, 0, 0, 128, 63, 0, 0, 0, 64]);
        let tensors = Tensors::open(&file[..]).unwrap();
        assert_eq!(tensors.floats("a", &[2, 1]), Ok(vec![1.0, 2.0]));
        let offset = tensors.find("a", &[2, 1]).unwrap();
        assert_eq!(tensors.row(offset, 1, 1), Ok(vec![2.0]));
    }

    #[test]
    fn missing_and_misshapen_tensors_are_refused() {
        let file = file(HEADER, &[0; 11]);
        let tensors = Tensors::open(&file[..]).unwrap();
        for (name, shape) in [("b", [2, 1]), ("a", [1, 2]), ("a", [2, 1])] {
            assert!(matches!(tensors.find(name, &shape), Err(Error::Tensor { .. })));
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Tensors::open(&bytes[..]);
        }

        #[test]
        fn foreign_headers_never_panic(start: u64, end: u64, header in ".{0,99}") {
            let _ = Tensors::open(&file(&header, &[])[..]);
            let entry = format!(
                r#"{{"a": {{"dtype": "F32", "shape": [2], "data_offsets": [{start}, {end}]}}}}"#
            );
            if let Ok(tensors) = Tensors::open(&file(&entry, &[0; 8])[..]) {
                let _ = tensors.floats("a", &[2]);
            }
        }
    }
}
