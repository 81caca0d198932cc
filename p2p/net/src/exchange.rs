use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use lamina_p2p::{Offence, Request, Response};
use lamina_types::{Canonical, ChainId, canonical};
use libp2p::StreamProtocol;
use libp2p::request_response;

/// The name of the protocol in which one node asks another.
pub(crate) fn protocol(chain: &ChainId) -> StreamProtocol {
    StreamProtocol::try_from_owned(format!("/lamina/{chain}/exchange/3"))
        .expect("begins with a slash")
}

/// Reads and writes one request and one response on a stream: a length of four bytes (little-endian), then as many bytes,
/// the value's canonical form.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Codec;

impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    /// Libp2p is silent about requests that can't be read, so a peer's fault is a value here.
    type Request = Result<Request, Fault>;
    type Response = Response;

    async fn read_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Result<Request, Fault>>
    where
        T: AsyncRead + Unpin + Send,
    {
        match read(io).await {
            Ok(request) => Ok(Ok(request)),
            Err(error) => fault_in(&error).cloned().map(Err).ok_or(error),
        }
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Response>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io).await
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Result<Request, Fault>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &request.map_err(io::Error::other)?).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Response,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &response).await
    }
}

/// Why what a peer sent isn't a value. Travels inside an [`io::Error`]; [`fault_in`] finds it again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("{length} bytes are announced, at most {max} are allowed")]
    Oversized { length: u32, max: usize },
    #[error("malformed")]
    Malformed(#[source] canonical::Error),
}

impl Fault {
    pub(crate) const fn offence(&self) -> Offence {
        match self {
            Self::Oversized { .. } => Offence::Oversized,
            Self::Malformed(_) => Offence::Malformed,
        }
    }
}

/// The peer's fault in an error, if it's that.
pub(crate) fn fault_in(error: &io::Error) -> Option<&Fault> {
    error.get_ref()?.downcast_ref()
}

async fn read<V: Canonical, T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<V> {
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    let length = u32::from_le_bytes(length);
    if length as usize > V::BYTES_MAX {
        return Err(io::Error::other(Fault::Oversized { length, max: V::BYTES_MAX }));
    }
    // Grows as bytes arrive: announcing a length costs the announcer nothing, so it gets nothing.
    let mut bytes = Vec::new();
    io.take(length.into()).read_to_end(&mut bytes).await?;
    if bytes.len() < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    V::from_bytes(&bytes).map_err(|error| io::Error::other(Fault::Malformed(error)))
}

async fn write<V: Canonical, T: AsyncWrite + Unpin + Send>(
    io: &mut T,
    value: &V,
) -> io::Result<()> {
    let bytes = value.to_bytes();
    let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= V::BYTES_MAX);
    let Some(length) = length else {
        tracing::error!(bytes = bytes.len(), max = V::BYTES_MAX, "own message is too long to send");
        return Err(io::ErrorKind::InvalidInput.into());
    };
    io.write_all(&length.to_le_bytes()).await?;
    io.write_all(&bytes).await?;
    io.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use futures::io::Cursor;

    fn read_request(bytes: &[u8]) -> io::Result<Request> {
        block_on(read(&mut Cursor::new(bytes)))
    }

    /// The layout that `p2p/DESIGN.md` draws, byte by byte.
    #[test]
    fn frames_are_laid_out_as_documented() {
        let request = Request::Outcome(lamina_types::TaskId([7; 32]));
        let mut bytes = Vec::new();
        block_on(write(&mut bytes, &request)).unwrap();
        assert_eq!(bytes, [&[33, 0, 0, 0, 3][..], &[7; 32]].concat());
        assert_eq!(read_request(&bytes).unwrap(), request);
    }

    #[test]
    fn announced_length_above_the_bound_is_refused_unread() {
        let error = read_request(&u32::MAX.to_le_bytes()).unwrap_err();
        assert_eq!(fault_in(&error).unwrap().offence(), Offence::Oversized);
    }

    #[test]
    fn other_bytes_are_malformed() {
        let error = read_request(&[1, 0, 0, 0, 99]).unwrap_err();
        assert_eq!(fault_in(&error).unwrap().offence(), Offence::Malformed);
    }

    #[test]
    fn what_ends_early_is_nobodys_fault() {
        for bytes in [&[][..], &[1, 0], &[5, 0, 0, 0, 4]] {
            let error = read_request(bytes).unwrap_err();
            assert_eq!((error.kind(), fault_in(&error)), (io::ErrorKind::UnexpectedEof, None));
        }
    }
}
