// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @notice Proofs from the two trees that the ledger makes for contracts: claims and task results. Of both, leaves begin with
/// 0x00 and nodes with 0x01, so that neither passes for the other.
library KeccakTrees {
    /// @notice Whether the tree of claims, which is 32 levels deep, has the claim.
    /// @param index Below 2³²; its bits tell which siblings are on the left.
    function hasClaim(
        bytes32 root,
        uint64 index,
        address recipient,
        bytes32 asset,
        uint128 amount,
        bytes32[32] calldata siblings
    ) internal pure returns (bool) {
        if (index >= 1 << 32) return false;
        bytes32 hash =
            keccak256(abi.encodePacked(uint8(0), uint256(index), uint256(uint160(recipient)), asset, uint256(amount)));
        for (uint256 i = 0; i < 32; ++i) {
            hash = index >> i & 1 == 0 ? _node(hash, siblings[i]) : _node(siblings[i], hash);
        }
        return hash == root;
    }

    /// @notice Whether the tree of results has this outcome of the task.
    /// @param left Bit `i` (the lowest is 0) is set if the `i`-th sibling is on the left.
    function hasResult(bytes32 root, bytes32 task, bytes32 outcome, uint32 left, bytes32[] calldata siblings)
        internal
        pure
        returns (bool)
    {
        if (siblings.length > 32 || uint256(left) >> siblings.length != 0) return false;
        bytes32 hash = keccak256(abi.encodePacked(uint8(0), task, outcome));
        for (uint256 i = 0; i < siblings.length; ++i) {
            hash = left >> i & 1 == 1 ? _node(siblings[i], hash) : _node(hash, siblings[i]);
        }
        return hash == root;
    }

    function _node(bytes32 left, bytes32 right) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(uint8(1), left, right));
    }
}
