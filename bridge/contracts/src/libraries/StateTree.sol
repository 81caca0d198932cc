// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @notice Proofs from the ledger's state tree: a Jellyfish Merkle tree of SHA-256 (Rust's `jmt` 0.12), seen as the binary tree
/// that it is. A key's path are the bits of its SHA-256, the highest one at the root.
library StateTree {
    /// @notice The path's length, and so the most siblings.
    uint256 internal constant DEPTH = 256;

    /// @notice Whether the tree with this root has `value` under `key`.
    /// @param siblings From the leaf upwards; empty subtrees are `SPARSE_MERKLE_PLACEHOLDER_HASH__`.
    function has(bytes32 root, bytes memory key, bytes memory value, bytes32[] calldata siblings)
        internal
        pure
        returns (bool)
    {
        uint256 length = siblings.length;
        if (length > DEPTH) return false;
        bytes32 path = sha256(key);
        bytes32 hash = sha256(abi.encodePacked("JMT::LeafNode", path, sha256(value)));
        for (uint256 i = 0; i < length; ++i) {
            // The lowest sibling stands as deep as there are siblings.
            bool isRight = uint256(path) >> (DEPTH - length + i) & 1 == 1;
            (bytes32 left, bytes32 right) = isRight ? (siblings[i], hash) : (hash, siblings[i]);
            hash = sha256(abi.encodePacked("JMT::IntrnalNode", left, right));
        }
        return hash == root;
    }

    /// @notice The key of what an account has of an asset (`bank::balance_key`).
    function balanceKey(address account, bytes32 asset) internal pure returns (bytes memory) {
        return abi.encodePacked("bank/balances/", uint8(0), account, asset);
    }

    /// @notice An amount as the ledger keeps it: 16 bytes, little-endian.
    function balanceValue(uint128 amount) internal pure returns (bytes memory value) {
        value = new bytes(16);
        for (uint256 i = 0; i < 16; ++i) {
            value[i] = bytes1(uint8(amount >> (8 * i)));
        }
    }
}
