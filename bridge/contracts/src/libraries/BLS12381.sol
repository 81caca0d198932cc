// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ICertificateErrors} from "../interfaces/ICertificateErrors.sol";

/// @notice BLS12-381 signatures over the precompiles of EIP-2537: public keys in G1, signatures in G2, as Ethereum's
/// consensus layer has them (`BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_`), on messages of 32 bytes.
///
/// Points are encoded as EIP-2537 says: a coordinate has 64 bytes, big-endian, the first 16 of them zero; of G2 the real
/// part comes first (Rust's libraries and compressed points have it last). The point at infinity is all zeros.
///
/// A precompile that refuses its input burns all gas it was given, so each call has a limit: four times its present price,
/// for prices change. One that doesn't exist "succeeds" without an answer, so lengths are checked, and contracts that verify
/// signatures run {selfTest} when they are created.
library BLS12381 {
    /// @dev Ciphersuite of the consensus layer's signatures.
    bytes internal constant DST = "BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";

    /// @dev Field modulus, in two words as a coordinate has them.
    uint256 private constant P_HI = 0x1a0111ea397fe69a4b1ba7b6434bacd7;
    uint256 private constant P_LO = 0x64774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab;
    /// @dev Half of the modulus, rounded down: a y above it is the "larger" one of its point's two.
    uint256 private constant HALF_HI = 0x0d0088f51cbff34d258dd3db21a5d66b;
    uint256 private constant HALF_LO = 0xb23ba5c279c2895fb39869507b587b120f55ffff58a9ffffdcff7fffffffd555;

    uint256 private constant SHA256 = 0x02;
    uint256 private constant MODEXP = 0x05;
    uint256 private constant G1_ADD = 0x0b;
    uint256 private constant G2_ADD = 0x0d;
    uint256 private constant PAIRING = 0x0f;
    uint256 private constant MAP_TO_G2 = 0x11;

    /// @dev Bytes of a point of G1 and one of G2.
    uint256 private constant PAIR_BYTES = 384;

    /// @dev Gas limits: four times the prices of EIP-2537 and EIP-7883.
    uint256 private constant G1_ADD_GAS = 4 * 375;
    uint256 private constant MODEXP_GAS = 4 * 500;
    uint256 private constant G2_ADD_GAS = 4 * 600;
    uint256 private constant PAIRING_GAS = 4 * 37_700;
    uint256 private constant PAIRING_PAIR_GAS = 4 * 32_600;
    uint256 private constant MAP_TO_G2_GAS = 4 * 23_800;

    /// @notice Whether `signature` is that of `key` on `message`. Checks that both are in their groups.
    /// Reverts with {ICertificateErrors.PointAtInfinity} or {ICertificateErrors.MalformedPoint} if either is no such point.
    function verifies(bytes32[4] memory key, bytes32[8] memory signature, bytes32 message)
        internal
        view
        returns (bool)
    {
        if (isZero(key) || isZero(signature)) revert ICertificateErrors.PointAtInfinity();
        bytes32[8] memory hash = hashToG2(abi.encodePacked(message), DST);
        // e(−generator, signature) · e(key, hash) = 1
        bytes memory pairs = new bytes(2 * PAIR_BYTES);
        assembly ("memory-safe") {
            mstore(add(pairs, 0x20), 0x17f1d3a73197d7942695638c4fa9ac0f)
            mstore(add(pairs, 0x40), 0xc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb)
            mstore(add(pairs, 0x60), 0x114d1d6855d545a8aa7d76c8cf2e21f2)
            mstore(add(pairs, 0x80), 0x67816aef1db507c96655b9d5caac42364e6f38ba0ecb751bad54dcd6b939c2ca)
            mcopy(add(pairs, 0xa0), signature, 0x100)
            mcopy(add(pairs, 0x1a0), key, 0x80)
            mcopy(add(pairs, 0x220), hash, 0x100)
        }
        return pairing(pairs);
    }

    /// @notice Whether the product of the pairings is one. Each pair is a point of G1 and one of G2, 384 bytes.
    function pairing(bytes memory pairs) internal view returns (bool) {
        uint256 gasLimit = PAIRING_GAS + PAIRING_PAIR_GAS * (pairs.length / PAIR_BYTES);
        bytes32 product;
        bool accepted;
        uint256 length;
        assembly ("memory-safe") {
            accepted := staticcall(gasLimit, PAIRING, add(pairs, 0x20), mload(pairs), 0x00, 0x20)
            length := returndatasize()
            product := mload(0x00)
        }
        _check(PAIRING, accepted, length, 0x20);
        return product == bytes32(uint256(1));
    }

    /// @notice A message's point of G2: hash_to_curve of RFC 9380 with the suite `BLS12381G2_XMD:SHA-256_SSWU_RO_`.
    function hashToG2(bytes memory message, bytes memory dst) internal view returns (bytes32[8] memory point) {
        bytes memory uniform = expandMessage(message, dst, 256);
        bytes32[4] memory first;
        bytes32[4] memory second;
        assembly ("memory-safe") {
            mcopy(first, add(uniform, 0x20), 0x80)
            mcopy(second, add(uniform, 0xa0), 0x80)
        }
        return addG2(mapToG2(_reduce(first)), mapToG2(_reduce(second)));
    }

    /// @notice Maps an element of the extension field (two coordinates) to a point of the group.
    function mapToG2(bytes32[4] memory element) internal view returns (bytes32[8] memory point) {
        bool accepted;
        uint256 length;
        assembly ("memory-safe") {
            accepted := staticcall(MAP_TO_G2_GAS, MAP_TO_G2, element, 0x80, point, 0x100)
            length := returndatasize()
        }
        _check(MAP_TO_G2, accepted, length, 0x100);
    }

    /// @notice `a + b`. Both must be on the curve (not necessarily in the group).
    function addG2(bytes32[8] memory a, bytes32[8] memory b) internal view returns (bytes32[8] memory sum) {
        bytes32[16] memory input;
        bool accepted;
        uint256 length;
        assembly ("memory-safe") {
            mcopy(input, a, 0x100)
            mcopy(add(input, 0x100), b, 0x100)
            accepted := staticcall(G2_ADD_GAS, G2_ADD, input, 0x200, sum, 0x100)
            length := returndatasize()
        }
        _check(G2_ADD, accepted, length, 0x100);
    }

    /// @notice expand_message_xmd of RFC 9380 with SHA-256: `length` (at most 8160) uniform bytes, `dst` of at most 255.
    function expandMessage(bytes memory message, bytes memory dst, uint256 length)
        internal
        view
        returns (bytes memory uniform)
    {
        bytes memory suffix = abi.encodePacked(dst, uint8(dst.length));
        bytes32 first = _sha256(abi.encodePacked(bytes32(0), bytes32(0), message, uint16(length), uint8(0), suffix));
        bytes memory input = abi.encodePacked(bytes32(0), uint8(0), suffix);
        uint256 blocks = (length + 31) / 32;
        uniform = new bytes(32 * blocks);
        bool hashed = true;
        assembly ("memory-safe") {
            let inputLength := mload(input)
            let end := add(uniform, shl(5, blocks))
            // The word before the first block counts as zero.
            let last := 0
            let i := 0
            for { let block_ := uniform } lt(block_, end) {} {
                block_ := add(block_, 0x20)
                i := add(i, 1)
                mstore(add(input, 0x20), xor(first, last))
                mstore8(add(input, 0x40), i)
                hashed := and(
                    hashed,
                    and(
                        eq(returndatasize(), 0x20),
                        staticcall(gas(), SHA256, add(input, 0x20), inputLength, block_, 0x20)
                    )
                )
                last := mload(block_)
            }
        }
        if (!hashed) revert ICertificateErrors.PrecompileFailed(SHA256);
        assembly ("memory-safe") {
            mstore(uniform, length)
        }
    }

    /// @notice `a + b`. Both must be on the curve (not necessarily in the group).
    function addG1(bytes32[4] memory a, bytes32[4] memory b) internal view returns (bytes32[4] memory sum) {
        bytes32[8] memory input;
        bool accepted;
        uint256 length;
        assembly ("memory-safe") {
            mcopy(input, a, 0x80)
            mcopy(add(input, 0x80), b, 0x80)
            accepted := staticcall(G1_ADD_GAS, G1_ADD, input, 0x100, sum, 0x80)
            length := returndatasize()
        }
        _check(G1_ADD, accepted, length, 0x80);
    }

    /// @notice `−point`, of a point with coordinates below the modulus.
    function negateG1(bytes32[4] memory point) internal pure returns (bytes32[4] memory negative) {
        (uint256 high, uint256 low) = (uint256(point[2]), uint256(point[3]));
        negative[0] = point[0];
        negative[1] = point[1];
        // No point of this curve but the one at infinity has y = 0.
        if (high | low != 0) {
            unchecked {
                negative[2] = bytes32(P_HI - high - (low > P_LO ? 1 : 0));
                negative[3] = bytes32(P_LO - low);
            }
        }
    }

    /// @notice The point as IETF's and ZCash's formats compress it: 48 bytes. Not for the point at infinity.
    function compressG1(bytes32[4] memory point) internal pure returns (bytes memory) {
        uint256 flags = compressedFlags(uint256(point[2]), uint256(point[3]));
        return abi.encodePacked(uint128(uint256(point[0]) | flags), point[1]);
    }

    /// @notice The first three bits of a compressed point with this y, as the highest of 128: compressed, not at infinity, and
    /// whether y is the larger one.
    function compressedFlags(uint256 yHigh, uint256 yLow) internal pure returns (uint256) {
        bool larger = yHigh > HALF_HI || (yHigh == HALF_HI && yLow > HALF_LO);
        return larger ? 5 << 125 : 4 << 125;
    }

    /// @notice A point of G1 without padding: 96 bytes.
    function packG1(bytes32[4] memory point) internal pure returns (bytes memory) {
        return abi.encodePacked(uint128(uint256(point[0])), point[1], uint128(uint256(point[2])), point[3]);
    }

    /// @notice A point of G1 with padding, from its 96 bytes.
    function unpackG1(bytes memory packed) internal pure returns (bytes32[4] memory point) {
        assembly ("memory-safe") {
            mstore(point, shr(128, mload(add(packed, 0x20))))
            mstore(add(point, 0x20), mload(add(packed, 0x30)))
            mstore(add(point, 0x40), shr(128, mload(add(packed, 0x50))))
            mstore(add(point, 0x60), mload(add(packed, 0x60)))
        }
    }

    /// @notice Whether this is the point at infinity.
    function isZero(bytes32[4] memory point) internal pure returns (bool) {
        return (point[0] | point[1] | point[2] | point[3]) == 0;
    }

    /// @notice Whether this is the point at infinity.
    function isZero(bytes32[8] memory point) internal pure returns (bool) {
        return (point[0] | point[1] | point[2] | point[3] | point[4] | point[5] | point[6] | point[7]) == 0;
    }

    /// @notice Tries everything on a known answer: reverts with {ICertificateErrors.PrecompileFailed} on a chain whose
    /// precompiles are missing or different.
    ///
    /// The key and the signature are `sign_case_11b8c7cad5238946` of ethereum/bls12-381-tests, uncompressed.
    function selfTest() internal view {
        bytes32[4] memory key = [
            bytes32(0x000000000000000000000000000000001301803f8b5ac4a1133581fc676dfedc),
            0x60d891dd5fa99028805e5ea5b08d3491af75d0707adab3b70c6a6a580217bf81,
            0x000000000000000000000000000000000e4efa61b558d043cd3fed5c44ac7541,
            0x5de0d032586fecb22acbb67d508cde9f9536a7609d69c1d6e60450843e4ec59a
        ];
        bytes32[8] memory signature = [
            bytes32(0x0000000000000000000000000000000000b5ef5fe72628ce4cd5e904aeaa3279),
            0x527843fae5ca9ca675f4f51ed8f83bbf7155da9ecc9663100a885d5dc6df96d9,
            0x00000000000000000000000000000000123c46be3a001c63ca711f87a005c200,
            0xcc550b9429d5f4eb38d74322144f1b63926da3388979e5321012fb1a0526bcd1,
            0x00000000000000000000000000000000199b55af87f52f69faa1b8ceae870f91,
            0x9206fbf77218650ae4361bb1b6b3e7ce3817834b9b03decee442e35d6117898a,
            0x0000000000000000000000000000000016079e54408a846394920f62ed7a29b5,
            0x75444f8d35e465752045bb9c9be36186063e2182665e54800c37b189db8bfb9e
        ];
        bool holds = verifies(key, signature, bytes32(0)) && !verifies(key, signature, bytes32(uint256(1)))
            && isZero(addG1(key, negateG1(key)));
        if (!holds) revert ICertificateErrors.PrecompileFailed(PAIRING);
    }

    /// @dev Reduces two numbers of 64 bytes modulo the field's, in place.
    function _reduce(bytes32[4] memory numbers) private view returns (bytes32[4] memory) {
        bool reduced;
        assembly ("memory-safe") {
            let input := mload(0x40)
            // number¹ mod p, of 64, 1 and 64 bytes
            mstore(input, 0x40)
            mstore(add(input, 0x20), 0x01)
            mstore(add(input, 0x40), 0x40)
            mstore8(add(input, 0xa0), 0x01)
            mstore(add(input, 0xa1), P_HI)
            mstore(add(input, 0xc1), P_LO)
            mcopy(add(input, 0x60), numbers, 0x40)
            reduced := and(eq(returndatasize(), 0x40), staticcall(MODEXP_GAS, MODEXP, input, 0xe1, numbers, 0x40))
            mcopy(add(input, 0x60), add(numbers, 0x40), 0x40)
            reduced := and(
                reduced,
                and(eq(returndatasize(), 0x40), staticcall(MODEXP_GAS, MODEXP, input, 0xe1, add(numbers, 0x40), 0x40))
            )
        }
        if (!reduced) revert ICertificateErrors.PrecompileFailed(MODEXP);
        return numbers;
    }

    /// @dev As Solidity's, which copies what it hashes.
    function _sha256(bytes memory data) private view returns (bytes32 hash) {
        bool hashed;
        assembly ("memory-safe") {
            hashed := and(
                eq(returndatasize(), 0x20),
                staticcall(gas(), SHA256, add(data, 0x20), mload(data), 0x00, 0x20)
            )
            hash := mload(0x00)
        }
        if (!hashed) revert ICertificateErrors.PrecompileFailed(SHA256);
    }

    function _check(uint256 precompile, bool accepted, uint256 length, uint256 expected) private pure {
        if (!accepted) revert ICertificateErrors.MalformedPoint();
        if (length != expected) revert ICertificateErrors.PrecompileFailed(precompile);
    }
}
