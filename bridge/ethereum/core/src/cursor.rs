use borsh::{BorshDeserialize, BorshSerialize};
use lamina_types::{Address, Canonical, EthereumBlock, List, PeerKey};

/// Most registrations of operators, ever: their indices have two bytes in the contracts.
pub const REGISTRATIONS_MAX: usize = 1 << 16;

/// How far the chain was followed, and what is needed to go on. Whoever takes in what was emitted stores it with that.
///
/// Bytes: [Borsh](https://borsh.io), in the order of the fields.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Cursor {
    /// The block up to which facts were emitted; `None` before the first.
    pub last: Option<EthereumBlock>,
    /// How many deposits were emitted.
    pub deposits: u64,
    /// How many task requests were emitted.
    pub requests: u64,
    /// The number of the epoch that starts next; `None` before the first.
    pub next_epoch: Option<u64>,
    /// All operators that ever registered, by index.
    pub registrations: List<Registered, REGISTRATIONS_MAX>,
}

/// An operator's keys, as it registered them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Registered {
    /// Its account.
    pub account: Address,
    /// Its node's ed25519 key.
    pub peer_key: PeerKey,
    /// Its BLS12-381 key, compressed.
    pub bls: [u8; 48],
}

impl Cursor {
    /// Where nothing was emitted yet.
    #[must_use]
    pub fn start() -> Self {
        Self {
            last: None,
            deposits: 0,
            requests: 0,
            next_epoch: None,
            registrations: List::default(),
        }
    }
}

impl Canonical for Cursor {
    const BYTES_MAX: usize = 41 + 8 + 8 + 9 + 4 + REGISTRATIONS_MAX * (20 + 32 + 48);
}
