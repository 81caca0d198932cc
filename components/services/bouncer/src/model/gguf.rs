//! GGUF, version 3: metadata, the tensors' names and shapes, the tensors' bytes.
//!
//! <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>

use std::collections::BTreeMap;

use super::Error;
use super::blob::{self, Blob};

/// What a file says about itself, and where its tensors are.
#[derive(Debug)]
pub(super) struct Gguf<B> {
    blob: B,
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Tensor>,
    /// Where tensors' bytes begin.
    data: u64,
}

/// A value of the metadata, of the types that a language model's file has.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// An integer that isn't negative.
    Integer(u64),
    Float(f32),
    Text(String),
    Texts(Vec<String>),
    Integers(Vec<u64>),
    /// One that isn't read.
    Other,
}

/// How a tensor's numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// In single precision.
    F32,
    /// Blocks of 32 with a scale and a smallest value in half precision, then 16 bytes of two numbers each.
    Q4_1,
    /// Blocks of 32 with a scale in half precision, then 32 bytes of one number each.
    Q8_0,
}

/// Numbers of a quantised block.
pub(super) const BLOCK: usize = 32;

impl Encoding {
    /// How many bytes so many numbers have; of whole blocks.
    pub(super) fn bytes(self, count: usize) -> usize {
        match self {
            Self::F32 => 4 * count,
            Self::Q4_1 => 20 * (count / BLOCK),
            Self::Q8_0 => 34 * (count / BLOCK),
        }
    }

    fn code(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::Q4_1 => 3,
            Self::Q8_0 => 8,
        }
    }
}

#[derive(Debug)]
struct Tensor {
    /// Widths, the innermost first.
    shape: Vec<u64>,
    code: u32,
    offset: u64,
}

impl<B: Blob> Gguf<B> {
    /// Reads all but the tensors' bytes.
    pub(super) fn open(blob: B) -> Result<Self, Error> {
        let mut reader = Reader { blob: &blob, window: Vec::new(), at: 0, next: 0 };
        if reader.array()? != *b"GGUF" {
            return Err(malformed("it doesn't begin with GGUF"));
        }
        let version = reader.u32()?;
        if version != 3 {
            return Err(malformed(&format!("version {version} instead of 3")));
        }
        let (tensor_count, value_count) = (reader.u64()?, reader.u64()?);
        let mut metadata = BTreeMap::new();
        for _ in 0..value_count {
            let name = reader.text()?;
            let code = reader.u32()?;
            metadata.insert(name, reader.value(code)?);
        }
        let mut tensors = BTreeMap::new();
        for _ in 0..tensor_count {
            let name = reader.text()?;
            tensors.insert(name, reader.tensor()?);
        }
        let end = reader.position();
        let alignment = match metadata.get("general.alignment") {
            Some(Value::Integer(alignment)) if *alignment > 0 => *alignment,
            _ => 32,
        };
        let data = end.checked_next_multiple_of(alignment);
        let data = data.ok_or_else(|| malformed("its alignment is too large"))?;
        Ok(Self { blob, metadata, tensors, data })
    }

    /// A value of the metadata.
    pub(super) fn value(&self, name: &str) -> Result<&Value, Error> {
        self.metadata.get(name).ok_or_else(|| malformed(&format!("it has no value {name}")))
    }

    /// The texts of a list.
    pub(super) fn texts(&self, name: &str) -> Result<&[String], Error> {
        match self.value(name)? {
            Value::Texts(texts) => Ok(texts),
            _ => Err(malformed(&format!("{name} isn't a list of texts"))),
        }
    }

    /// The integers of a list.
    pub(super) fn integers(&self, name: &str) -> Result<&[u64], Error> {
        match self.value(name)? {
            Value::Integers(integers) => Ok(integers),
            _ => Err(malformed(&format!("{name} isn't a list of integers"))),
        }
    }

    /// The bytes of a tensor of `rows` rows of `width` numbers.
    pub(super) fn bytes(
        &self,
        name: &str,
        encoding: Encoding,
        rows: usize,
        width: usize,
    ) -> Result<Vec<u8>, Error> {
        let shape = [width as u64, rows as u64];
        let offset = self.find(name, encoding, &shape)?;
        blob::bytes(&self.blob, offset, encoding.bytes(rows * width) as u64)
    }

    /// A vector in single precision.
    pub(super) fn floats(&self, name: &str, width: usize) -> Result<Vec<f32>, Error> {
        blob::floats(&self.blob, self.find(name, Encoding::F32, &[width as u64])?, width)
    }

    fn find(&self, name: &str, encoding: Encoding, shape: &[u64]) -> Result<u64, Error> {
        let wrong = |reason: String| Error::Tensor { name: name.to_owned(), reason };
        let tensor = self.tensors.get(name).ok_or_else(|| wrong("it's missing".to_owned()))?;
        if tensor.code != encoding.code() || tensor.shape != shape {
            let Tensor { code, shape: found, .. } = tensor;
            return Err(wrong(format!("type {code} {found:?} instead of {encoding:?} {shape:?}")));
        }
        let offset = self.data.checked_add(tensor.offset);
        offset.ok_or_else(|| wrong(format!("it can't lie at {}", tensor.offset)))
    }
}

/// Reads a file from its beginning.
struct Reader<'a, B> {
    blob: &'a B,
    window: Vec<u8>,
    /// The next byte in the window.
    at: usize,
    /// Where the window's end is in the file.
    next: u64,
}

impl<B: Blob> Reader<'_, B> {
    fn position(&self) -> u64 {
        self.next - (self.window.len() - self.at) as u64
    }

    fn value(&mut self, code: u32) -> Result<Value, Error> {
        Ok(match code {
            // Signed integers, too: none that is read here is negative.
            0 | 1 | 7 => Value::Integer(self.array::<1>()?[0].into()),
            2 | 3 => Value::Integer(u16::from_le_bytes(self.array()?).into()),
            4 | 5 => Value::Integer(self.u32()?.into()),
            6 => Value::Float(f32::from_le_bytes(self.array()?)),
            8 => Value::Text(self.text()?),
            9 => self.list()?,
            10 | 11 => Value::Integer(self.u64()?),
            12 => {
                self.u64()?;
                Value::Other
            }
            _ => return Err(malformed(&format!("a value of type {code}"))),
        })
    }

    fn list(&mut self) -> Result<Value, Error> {
        let (code, count) = (self.u32()?, self.u64()?);
        let mut texts = Vec::new();
        let mut integers = Vec::new();
        for _ in 0..count {
            if code == 9 {
                return Err(malformed("a list of lists"));
            }
            match self.value(code)? {
                Value::Text(text) => texts.push(text),
                Value::Integer(integer) => integers.push(integer),
                _ => {}
            }
        }
        Ok(match code {
            8 => Value::Texts(texts),
            6 | 12 => Value::Other,
            _ => Value::Integers(integers),
        })
    }

    fn tensor(&mut self) -> Result<Tensor, Error> {
        let dimensions = self.u32()?;
        if dimensions > 4 {
            return Err(malformed(&format!("a tensor of {dimensions} dimensions")));
        }
        let shape = (0..dimensions).map(|_| self.u64()).collect::<Result<_, _>>()?;
        Ok(Tensor { shape, code: self.u32()?, offset: self.u64()? })
    }

    fn text(&mut self) -> Result<String, Error> {
        let length = self.u64()?;
        if length > TEXT_BYTES_MAX {
            return Err(malformed(&format!("a text of {length} bytes")));
        }
        let bytes = (0..length).map(|_| self.byte()).collect::<Result<_, _>>()?;
        String::from_utf8(bytes).map_err(|error| malformed(&error.to_string()))
    }

    fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        for byte in &mut bytes {
            *byte = self.byte()?;
        }
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, Error> {
        if self.at == self.window.len() {
            let left = self.blob.size().saturating_sub(self.next);
            // At the end, one byte more than there are: that's the error.
            self.window = blob::bytes(self.blob, self.next, left.clamp(1, WINDOW_BYTES))?;
            self.next += self.window.len() as u64;
            self.at = 0;
        }
        self.at += 1;
        Ok(self.window[self.at - 1])
    }
}

fn malformed(reason: &str) -> Error {
    Error::Malformed { format: "GGUF", reason: reason.to_owned() }
}

/// A guess; a chat template may have a few thousand.
const TEXT_BYTES_MAX: u64 = 64 << 10;
/// Read at once: large enough that calls don't matter, small enough not to.
const WINDOW_BYTES: u64 = 256 << 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
    }

    /// A value, a list of two texts, and a tensor of two numbers.
    fn file() -> Vec<u8> {
        let mut file = [&b"GGUF"[..], &3_u32.to_le_bytes()].concat();
        file.extend([1_u64.to_le_bytes(), 2_u64.to_le_bytes()].concat());
        file.extend([&text("a")[..], &4_u32.to_le_bytes(), &7_u32.to_le_bytes()].concat());
        file.extend([&text("b")[..], &9_u32.to_le_bytes(), &8_u32.to_le_bytes()].concat());
        file.extend([&2_u64.to_le_bytes()[..], &text("x"), &text("y")].concat());
        file.extend([&text("t")[..], &1_u32.to_le_bytes(), &2_u64.to_le_bytes()].concat());
        file.extend([&0_u32.to_le_bytes()[..], &0_u64.to_le_bytes()].concat());
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend([1.0_f32.to_le_bytes(), 2.0_f32.to_le_bytes()].concat());
        file
    }

    #[test]
    fn values_and_tensors_are_found_by_their_names() {
        let file = file();
        let gguf = Gguf::open(&file[..]).unwrap();
        assert_eq!(gguf.value("a"), Ok(&Value::Integer(7)));
        assert_eq!(gguf.texts("b").unwrap(), ["x", "y"]);
        assert_eq!(gguf.floats("t", 2), Ok(vec![1.0, 2.0]));
        assert!(matches!(gguf.floats("t", 3), Err(Error::Tensor { .. })));
        assert!(matches!(gguf.floats("u", 2), Err(Error::Tensor { .. })));
    }

    #[test]
    fn cut_file_is_refused_wherever_it_is_cut() {
        let file = file();
        for length in 0..file.len() {
            let refused = Gguf::open(&file[..length]).and_then(|gguf| gguf.floats("t", 2));
            assert!(refused.is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Gguf::open(&[&b"GGUF\x03\0\0\0"[..], &bytes].concat()[..]);
        }

        #[test]
        fn changed_bytes_never_panic(at in 0..file().len(), byte: u8) {
            let mut file = file();
            file[at] = byte;
            let _ = Gguf::open(&file[..]).and_then(|gguf| gguf.floats("t", 2));
        }
    }
}
