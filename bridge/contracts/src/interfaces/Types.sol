// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @notice What the consensus set agrees on: everything up to here. Its id is
/// `sha256(tag ‖ chain ‖ the fields, packed, in this order)`, see {Signing}.
struct Header {
    /// @dev The operator set that signs it.
    uint64 epoch;
    /// @dev Its number; genesis is 0.
    uint64 height;
    /// @dev The id of the header before it; zero for genesis.
    bytes32 previous;
    /// @dev Root (RFC 6962, SHA-256) over the ids of the `height` headers before it; zero for genesis.
    bytes32 history;
    /// @dev SHA-256 of the cut.
    bytes32 cut;
    /// @dev Root of the state tree: a Jellyfish Merkle tree of SHA-256.
    bytes32 state;
    /// @dev Root of the Keccak tree of claims, which only grows.
    bytes32 claims;
    /// @dev Root of the Keccak tree of the task results that this checkpoint recorded; zero for none.
    bytes32 results;
    /// @dev The finalised Ethereum block up to which deposits are credited.
    uint64 ethereumNumber;
    /// @dev Its hash.
    bytes32 ethereumHash;
    /// @dev Microseconds since 1970.
    uint64 time;
    /// @dev Root of the epoch's operator set.
    bytes32 operators;
    /// @dev Root of the operator set that signs the next checkpoint.
    bytes32 nextOperators;
}

/// @notice Proof that a header is a checkpoint's.
struct HeaderProof {
    /// @dev The header; and after it, unless it is anchored itself, the anchored header whose history has it.
    Header[] headers;
    /// @dev Siblings on the way from the header to the anchored one's `history`, from the leaf upwards (RFC 6962,
    /// §2.1.1). Empty if there is one header.
    bytes32[] siblings;
}

/// @notice A quorum's precommits on a checkpoint, added up.
struct Certificate {
    /// @dev The operator set whose consensus set signed.
    uint64 epoch;
    /// @dev The checkpoint's number.
    uint64 height;
    /// @dev The round that decided.
    uint32 round;
    /// @dev The header's id.
    bytes32 header;
    /// @dev Who of the consensus set did *not* sign: bit `i % 256` (the lowest is 0) of word `i / 256` is member `i`.
    /// ⌈size / 256⌉ words, bits beyond the set are zero.
    uint256[] absent;
    /// @dev The signatures' sum: a point of G2 as EIP-2537 encodes it (x.c0, x.c1, y.c0, y.c1, each two words).
    bytes32[8] signature;
}
