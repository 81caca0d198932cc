// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @notice Inclusion proofs of RFC 6962 (§2.1.1) with SHA-256: that a header is the one with its number among those that an
/// anchored header's `history` is over.
library History {
    /// @notice Whether the tree of `leaves` leaves with this root has `leaf` at `index`.
    function has(bytes32 root, uint64 leaves, uint64 index, bytes32 leaf, bytes32[] calldata siblings)
        internal
        pure
        returns (bool)
    {
        if (index >= leaves) return false;
        // §2.1.3.2 of RFC 9162: `last` is the last node of the leaf's row, `node` the one on the way up.
        (uint256 node, uint256 last) = (index, leaves - 1);
        bytes32 hash = sha256(abi.encodePacked(uint8(0), leaf));
        for (uint256 i = 0; i < siblings.length; ++i) {
            if (last == 0) return false;
            if (node & 1 == 1 || node == last) {
                hash = sha256(abi.encodePacked(uint8(1), siblings[i], hash));
                while (node & 1 == 0 && node != 0) {
                    (node, last) = (node >> 1, last >> 1);
                }
            } else {
                hash = sha256(abi.encodePacked(uint8(1), hash, siblings[i]));
            }
            (node, last) = (node >> 1, last >> 1);
        }
        return last == 0 && hash == root;
    }
}
