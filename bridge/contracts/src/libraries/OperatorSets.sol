// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ICertificateErrors} from "../interfaces/ICertificateErrors.sol";
import {IEpochs} from "../interfaces/IEpochs.sol";
import {BLS12381} from "./BLS12381.sol";
import {DataContract} from "./DataContract.sol";

/// @notice Snapshots of operator sets in data contracts, and the certificates of their quorums.
///
/// Layout, after the data contract's zero byte (integers big-endian):
///
///     sum of all keys (x, y)   96
///     stake in all, gwei        8
///     size                      2
///     of each member            stake in gwei (8), registration index (2)
///     of each key chunk         its address (20)
///
/// A certificate names the members that are absent. Their keys are taken from the chunks, and their sum from that of all: one
/// subtraction and one pairing check whatever the set's size, and one addition per absent member.
library OperatorSets {
    /// @dev What the absent members add up to.
    struct Absent {
        /// @dev The sum of their keys, and room for the next one.
        bytes32[8] points;
        uint256 stakeGwei;
        /// @dev The snapshot, and where its chunks' addresses begin.
        address data;
        uint256 table;
        bool failed;
    }

    /// @notice Bytes before the members.
    uint256 internal constant HEAD_BYTES = 106;
    /// @notice Bytes of a member.
    uint256 internal constant MEMBER_BYTES = 10;
    /// @notice Bytes of a key in a chunk.
    uint256 internal constant KEY_BYTES = 96;
    /// @notice Keys in a chunk.
    uint256 internal constant CHUNK_KEYS = 255;

    /// @dev The precompile that adds points of G1, and its gas limit, as in {BLS12381}.
    uint256 private constant G1_ADD = 0x0b;
    uint256 private constant G1_ADD_GAS = 4 * 375;

    /// @notice Checks that more than two thirds of the set's stake signed `message`; reverts with an error of
    /// {ICertificateErrors} otherwise.
    function checkQuorum(
        IEpochs.Set memory set,
        uint256[] calldata absent,
        bytes32[8] calldata signature,
        bytes32 message
    ) internal view {
        bytes32[4] memory key = _presentKey(set, absent);
        if (!BLS12381.verifies(key, signature, message)) revert ICertificateErrors.InvalidSignature();
    }

    /// @notice Writes a snapshot.
    /// @param points The sum of the keys; the second point is of no matter.
    function write(bytes32[8] memory points, uint64 stakeGwei, bytes memory entries, address[] memory chunks)
        internal
        returns (address)
    {
        bytes memory table = new bytes(20 * chunks.length + 32);
        for (uint256 i = 0; i < chunks.length; ++i) {
            address chunk = chunks[i];
            assembly ("memory-safe") {
                mstore(add(add(table, 0x20), mul(20, i)), shl(96, chunk))
            }
        }
        assembly ("memory-safe") {
            mstore(table, sub(mload(table), 0x20))
        }
        uint16 size = uint16(entries.length / MEMBER_BYTES);
        return DataContract.write(bytes.concat(_packed(points), abi.encodePacked(stakeGwei, size), entries, table));
    }

    /// @notice The members that the bitmap names, if they are the `count` of highest stake (of equal ones those that come
    /// first), of more than so many; reverts with {IEpochs.WrongConsensusSet} otherwise.
    function select(bytes memory entries, uint256[] calldata bitmap, uint256 count)
        internal
        pure
        returns (bytes memory selected)
    {
        uint256 size = entries.length / MEMBER_BYTES;
        if (size <= count || bitmap.length != (size + 255) / 256) revert IEpochs.WrongConsensusSet();
        selected = new bytes(MEMBER_BYTES * count + 32);
        // Ranks: the higher stake, then the lower index, is the greater one.
        (uint256 taken, uint256 lowestIn, uint256 highestOut) = (0, type(uint256).max, 0);
        for (uint256 i = 0; i < size; ++i) {
            (uint256 registration, uint256 stakeGwei) = memberOf(entries, i);
            uint256 rank = (stakeGwei << 16) | (type(uint16).max - i);
            if (bitmap[i / 256] >> (i % 256) & 1 == 0) {
                if (rank > highestOut) highestOut = rank;
                continue;
            }
            if (taken == count) revert IEpochs.WrongConsensusSet();
            if (rank < lowestIn) lowestIn = rank;
            putMember(selected, 0, taken++, stakeGwei, registration);
        }
        bool unused = size % 256 == 0 || bitmap[size / 256] >> (size % 256) == 0;
        if (taken != count || lowestIn < highestOut || !unused) revert IEpochs.WrongConsensusSet();
        assembly ("memory-safe") {
            mstore(selected, mul(count, MEMBER_BYTES))
        }
    }

    /// @notice Puts a member at its place after the first `offset` bytes of a buffer, which must be a word longer than its
    /// members.
    function putMember(bytes memory buffer, uint256 offset, uint256 index, uint256 stakeGwei, uint256 registration)
        internal
        pure
    {
        assembly ("memory-safe") {
            let at := add(add(buffer, 0x20), add(offset, mul(index, MEMBER_BYTES)))
            mstore(at, or(shl(192, stakeGwei), shl(176, registration)))
        }
    }

    /// @notice Puts the first of two points, without padding, at a buffer's beginning.
    function putKey(bytes memory buffer, bytes32[8] memory points) internal pure {
        bytes memory key = _packed(points);
        assembly ("memory-safe") {
            mcopy(add(buffer, 0x20), add(key, 0x20), KEY_BYTES)
        }
    }

    /// @notice A member in memory.
    function memberOf(bytes memory entries, uint256 index)
        internal
        pure
        returns (uint256 registration, uint256 stakeGwei)
    {
        uint256 word;
        assembly ("memory-safe") {
            word := mload(add(add(entries, 0x20), mul(index, MEMBER_BYTES)))
        }
        return (uint16(word >> 176), word >> 192);
    }

    /// @notice The member with this index, which must be below the set's size.
    function member(IEpochs.Set memory set, uint256 index)
        internal
        view
        returns (uint256 registration, uint64 stakeGwei)
    {
        address data = set.data;
        uint256 word;
        assembly ("memory-safe") {
            extcodecopy(data, 0x00, add(1, add(HEAD_BYTES, mul(index, MEMBER_BYTES))), 0x20)
            word := mload(0x00)
        }
        return (uint16(word >> 176), uint64(word >> 192));
    }

    /// @notice Adds a chunk's key at `position` to the first of two points; the second one is overwritten.
    function addKey(bytes32[8] memory points, address chunk, uint256 position) internal view {
        loadKey(points, chunk, position);
        bool added;
        assembly ("memory-safe") {
            added := and(eq(returndatasize(), 0x80), staticcall(G1_ADD_GAS, G1_ADD, points, 0x100, points, 0x80))
        }
        if (!added) revert ICertificateErrors.PrecompileFailed(G1_ADD);
    }

    /// @notice Puts a chunk's key at `position`, padded, into the second of two points.
    function loadKey(bytes32[8] memory points, address chunk, uint256 position) internal view {
        assembly ("memory-safe") {
            let key := add(points, 0x80)
            // x ends where y's padding begins: y is moved up by that, and its padding cleared.
            extcodecopy(chunk, add(key, 0x10), add(1, mul(position, KEY_BYTES)), KEY_BYTES)
            mcopy(add(key, 0x50), add(key, 0x40), 0x30)
            mstore(add(key, 0x40), shr(128, shl(128, mload(add(key, 0x40)))))
        }
    }

    /// @dev The sum of the keys of those who aren't absent, if these have a quorum.
    function _presentKey(IEpochs.Set memory set, uint256[] calldata absent)
        private
        view
        returns (bytes32[4] memory key)
    {
        (uint256 size, uint256 head) = (set.size, 0);
        bool someAbsent = _checkBitmap(absent, size);
        {
            address data = set.data;
            uint256 length = someAbsent ? HEAD_BYTES + MEMBER_BYTES * size : HEAD_BYTES;
            assembly ("memory-safe") {
                head := mload(0x40)
                // Members are read as words, which end 22 bytes after them.
                mstore(0x40, and(add(add(head, length), 0x3f), not(0x1f)))
                extcodecopy(data, head, 1, length)
            }
        }
        _unpackKey(head, key);
        if (someAbsent) {
            (bytes32[4] memory absentKey, uint256 absentGwei) = _absentKey(set, absent, head);
            uint256 totalGwei;
            assembly ("memory-safe") {
                totalGwei := shr(192, mload(add(head, KEY_BYTES)))
            }
            if (3 * (totalGwei - absentGwei) <= 2 * totalGwei) {
                revert ICertificateErrors.NoQuorum(totalGwei - absentGwei, totalGwei);
            }
            key = BLS12381.addG1(key, BLS12381.negateG1(absentKey));
        }
    }

    /// @dev Whether anyone is absent. Checks that the bitmap is of a set of this size.
    function _checkBitmap(uint256[] calldata absent, uint256 size) private pure returns (bool someAbsent) {
        uint256 words = (size + 255) / 256;
        if (absent.length != words) revert ICertificateErrors.WrongBitmapLength(absent.length, words);
        uint256 any = 0;
        for (uint256 i = 0; i < words; ++i) {
            any |= absent[i];
        }
        if (size % 256 != 0 && absent[words - 1] >> (size % 256) != 0) revert ICertificateErrors.BitmapOutsideSet();
        return any != 0;
    }

    /// @dev The sum of the keys and of the stakes of those absent; `head` is the snapshot in memory, without the chunks.
    function _absentKey(IEpochs.Set memory set, uint256[] calldata absent, uint256 head)
        private
        view
        returns (bytes32[4] memory sum, uint256 absentGwei)
    {
        Absent memory sums;
        sums.data = set.data;
        sums.table = 1 + HEAD_BYTES + MEMBER_BYTES * set.size;
        for (uint256 i = 0; i < absent.length; ++i) {
            _addWord(absent[i], head + HEAD_BYTES + 256 * MEMBER_BYTES * i, sums);
        }
        if (sums.failed) revert ICertificateErrors.PrecompileFailed(G1_ADD);
        bytes32[8] memory points = sums.points;
        absentGwei = sums.stakeGwei;
        assembly ("memory-safe") {
            mcopy(sum, points, 0x80)
        }
    }

    /// @dev Adds the members of a word of the bitmap. In one block, since it runs once for each absent operator.
    /// @param entries Where the word's members begin in memory.
    function _addWord(uint256 word, uint256 entries, Absent memory sums) private view {
        assembly ("memory-safe") {
            let points := mload(sums)
            // The first registration of the chunk at hand; none.
            let first := 0x20000
            let chunk := 0
            for {} word {} {
                let entry := mload(add(entries, mul(sub(255, clz(and(word, sub(0, word)))), MEMBER_BYTES)))
                word := and(word, sub(word, 1))
                mstore(add(sums, 0x20), add(mload(add(sums, 0x20)), shr(192, entry)))
                entry := and(shr(176, entry), 0xffff)
                if iszero(lt(sub(entry, first), CHUNK_KEYS)) {
                    chunk := div(entry, CHUNK_KEYS)
                    first := mul(chunk, CHUNK_KEYS)
                    extcodecopy(mload(add(sums, 0x40)), 0x00, add(mload(add(sums, 0x60)), mul(chunk, 20)), 0x20)
                    chunk := shr(96, mload(0x00))
                }
                // As in loadKey and addKey.
                extcodecopy(chunk, add(points, 0x90), add(1, mul(sub(entry, first), KEY_BYTES)), KEY_BYTES)
                mcopy(add(points, 0xd0), add(points, 0xc0), 0x30)
                mstore(add(points, 0xc0), shr(128, shl(128, mload(add(points, 0xc0)))))
                if iszero(
                    and(eq(returndatasize(), 0x80), staticcall(G1_ADD_GAS, G1_ADD, points, 0x100, points, 0x80))
                ) {
                    mstore(add(sums, 0x80), 1)
                    word := 0
                }
            }
        }
    }

    /// @dev The first of two points without padding.
    function _packed(bytes32[8] memory points) private pure returns (bytes memory) {
        bytes32[4] memory first;
        assembly ("memory-safe") {
            first := points
        }
        return BLS12381.packG1(first);
    }

    /// @dev Pads the 96 bytes at `from`.
    function _unpackKey(uint256 from, bytes32[4] memory key) private pure {
        assembly ("memory-safe") {
            mstore(key, shr(128, mload(from)))
            mstore(add(key, 0x20), mload(add(from, 0x10)))
            mstore(add(key, 0x40), shr(128, mload(add(from, 0x30))))
            mstore(add(key, 0x60), mload(add(from, 0x40)))
        }
    }
}
