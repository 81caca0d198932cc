// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IVault} from "../../src/interfaces/IVault.sol";

/// @dev The ledger's tree of claims: depth 32, filled from the left.
contract ClaimsTree {
    bytes32[] private _leaves;

    function append(address recipient, bytes32 asset, uint128 amount) external returns (uint64 index) {
        index = uint64(_leaves.length);
        _leaves.push(
            keccak256(abi.encodePacked(bytes1(0x00), abi.encode(uint256(index), recipient, asset, uint256(amount))))
        );
    }

    function root() external view returns (bytes32 node) {
        (node,) = _climb(0);
    }

    function claim(uint64 index, address recipient, bytes32 asset, uint128 amount)
        external
        view
        returns (IVault.Claim memory made)
    {
        (made.index, made.recipient, made.asset, made.amount) = (index, recipient, asset, amount);
        (, made.siblings) = _climb(index);
    }

    function _climb(uint256 index) private view returns (bytes32 node, bytes32[32] memory siblings) {
        bytes32[] memory row = _leaves;
        bytes32 empty = 0;
        for (uint256 level = 0; level < 32; ++level) {
            siblings[level] = (index ^ 1) < row.length ? row[index ^ 1] : empty;
            bytes32[] memory above = new bytes32[]((row.length + 1) / 2);
            for (uint256 i = 0; i < above.length; ++i) {
                above[i] = _join(row[2 * i], 2 * i + 1 < row.length ? row[2 * i + 1] : empty);
            }
            (row, empty, index) = (above, _join(empty, empty), index / 2);
        }
        node = row.length == 0 ? empty : row[0];
    }

    function _join(bytes32 left, bytes32 right) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes1(0x01), left, right));
    }
}
