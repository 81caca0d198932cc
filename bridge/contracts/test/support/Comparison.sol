// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {DataContract} from "../../src/libraries/DataContract.sol";

/// @dev What the schemes below share with {Checkpoints}: the statement (a digest of height and header), what is kept of an
/// anchor, the quorum, and the bitmap of those absent. They are minimal, and for comparison only.
abstract contract Scheme {
    struct Tip {
        uint64 height;
        uint64 epoch;
        uint40 time;
        uint88 pot;
    }

    event Anchored(
        uint64 indexed height, bytes32 indexed header, uint64 epoch, uint32 round, address submitter, uint256 refundWei
    );

    address internal data;
    uint16 internal size;
    uint64 internal totalGwei;
    Tip private _tip;
    bytes32[256] private _anchors;

    constructor() {
        _tip.time = uint40(block.timestamp);
        for (uint256 i = 0; i < 256; ++i) {
            _anchors[i] = bytes32(uint256(1));
        }
    }

    function digest(uint64 height, bytes32 header) public pure returns (bytes32) {
        return sha256(abi.encodePacked(bytes32("lamina/precommit/v1"), bytes32("lamina-test-1"), height, header));
    }

    function _keep(uint64 height, bytes32 header) internal {
        require(height > _tip.height, "height");
        (_tip.height, _tip.epoch, _tip.time) = (height, 1, uint40(block.timestamp));
        _anchors[height % 256] = header;
        emit Anchored(height, header, 1, 0, msg.sender, 0);
    }

    function _isAbsent(uint256[] calldata absent, uint256 i) internal pure returns (bool) {
        return absent[i / 256] >> (i % 256) & 1 == 1;
    }
}

/// @dev m of n ECDSA signatures: of each present operator one, in the set's order, compact (EIP-2098).
contract EcdsaScheme is Scheme {
    /// @dev Where the members from the 500th on stand: a data contract holds 877.
    address private _second;

    /// @dev Members: account (20 bytes), stake (8).
    constructor(address[] memory accounts, uint64 stakeGwei) {
        bytes memory members = new bytes(28 * accounts.length + 32);
        for (uint256 i = 0; i < accounts.length; ++i) {
            address account = accounts[i];
            assembly ("memory-safe") {
                mstore(add(add(members, 0x20), mul(28, i)), or(shl(96, account), shl(32, stakeGwei)))
            }
        }
        (data, size) = (_split(members, accounts.length), uint16(accounts.length));
        totalGwei = uint64(stakeGwei * accounts.length);
    }

    function _split(bytes memory members, uint256 count) private returns (address first) {
        uint256 half = 500;
        if (count <= half) {
            assembly ("memory-safe") {
                mstore(members, mul(28, count))
            }
            return DataContract.write(members);
        }
        bytes memory part = new bytes(28 * (count - half));
        assembly ("memory-safe") {
            mcopy(add(part, 0x20), add(add(members, 0x20), mul(28, half)), mload(part))
            mstore(members, mul(28, half))
        }
        _second = DataContract.write(part);
        return DataContract.write(members);
    }

    function submit(uint64 height, bytes32 header, uint256[] calldata absent, bytes32[2][] calldata signatures)
        external
    {
        bytes32 message = digest(height, header);
        uint256 count = size;
        bytes memory members = new bytes(28 * count + 32);
        {
            (address first, address second) = (data, count > 500 ? _second : address(0));
            assembly ("memory-safe") {
                extcodecopy(first, add(members, 0x20), 1, mul(28, 500))
                if second { extcodecopy(second, add(add(members, 0x20), 14000), 1, mul(28, sub(count, 500))) }
            }
        }
        uint256 signedGwei = 0;
        uint256 next = 0;
        for (uint256 i = 0; i < count; ++i) {
            if (_isAbsent(absent, i)) continue;
            uint256 word;
            assembly ("memory-safe") {
                word := mload(add(add(members, 0x20), mul(28, i)))
            }
            bytes32[2] calldata signature = signatures[next++];
            uint256 vs = uint256(signature[1]);
            address signer = ecrecover(message, uint8(27 + (vs >> 255)), signature[0], bytes32(vs << 1 >> 1));
            require(signer != address(0) && signer == address(uint160(word >> 96)), "signature");
            signedGwei += uint64(word >> 32);
        }
        require(3 * signedGwei > 2 * uint256(totalGwei), "quorum");
        _keep(height, header);
    }
}

/// @dev BLS over BN254 as EigenLayer's middleware has it: keys in G1 and G2, signatures in G1. The sum of the present keys in G1
/// comes from the contract, that in G2 from the submitter, and one pairing check with a random factor ties both.
contract Bn254Scheme is Scheme {
    uint256 private constant P = 21888242871839275222246405745257275088696311157297823662689037894645226208583;
    uint256 private constant R = 21888242871839275222246405745257275088548364400416034343698204186575808495617;

    address[] private _chunks;

    /// @dev Keys (64 bytes) in chunks, stakes (8 bytes) after the sum of all keys.
    constructor(uint256 count, uint64 stakeGwei) {
        uint256[4] memory sum;
        bytes memory keys = new bytes(64 * count);
        (uint256 x, uint256 y) = (0, 0);
        // Operator i has the secret i + 1.
        for (uint256 i = 0; i < count; ++i) {
            (x, y) = _add(x, y, 1, 2);
            (sum[0], sum[1]) = _add(sum[0], sum[1], x, y);
            assembly ("memory-safe") {
                let place := add(add(keys, 0x20), mul(64, i))
                mstore(place, x)
                mstore(add(place, 0x20), y)
            }
        }
        bytes memory head = abi.encodePacked(sum[0], sum[1]);
        for (uint256 i = 0; i < count; ++i) {
            head = bytes.concat(head, abi.encodePacked(stakeGwei));
        }
        (data, size, totalGwei) = (DataContract.write(head), uint16(count), uint64(stakeGwei * count));
        for (uint256 first = 0; first < count; first += 380) {
            uint256 end = first + 380 < count ? first + 380 : count;
            bytes memory chunk = new bytes(64 * (end - first));
            assembly ("memory-safe") {
                mcopy(add(chunk, 0x20), add(add(keys, 0x20), mul(64, first)), mload(chunk))
            }
            _chunks.push(DataContract.write(chunk));
        }
    }

    /// @param key The sum of the present keys in G2 (EIP-197: imaginary parts first).
    function submit(
        uint64 height,
        bytes32 header,
        uint256[] calldata absent,
        uint256[4] calldata key,
        uint256[2] calldata signature
    ) external {
        (uint256 x, uint256 y) = _present(absent);
        (uint256 hx, uint256 hy) = hashToG1(digest(height, header));
        uint256 factor = uint256(keccak256(abi.encode(hx, hy, x, y, key, signature))) % R;
        (x, y) = _multiply(x, y, factor);
        (x, y) = _add(signature[0], signature[1], x, y);
        (uint256 gx, uint256 gy) = _multiply(1, 2, factor);
        (hx, hy) = _add(hx, hy, gx, gy);
        // e(signature + factor · key, −generator) · e(hash + factor · generator, key in G2) = 1
        uint256[12] memory input = [
            x,
            y,
            11559732032986387107991004021392285783925812861821192530917403151452391805634,
            10857046999023057135944570762232829481370756359578518086990519993285655852781,
            P - 4082367875863433681332203403145435568316851327593401208105741076214120093531,
            P - 8495653923123431417604973247489272438418190587263600148770280649306958101930,
            hx,
            hy,
            key[0],
            key[1],
            key[2],
            key[3]
        ];
        bool ok;
        assembly ("memory-safe") {
            ok := staticcall(gas(), 0x08, input, 0x180, 0x00, 0x20)
            ok := and(ok, mload(0x00))
        }
        require(ok, "signature");
        _keep(height, header);
    }

    /// @dev Try and increment.
    function hashToG1(bytes32 message) public view returns (uint256 x, uint256 y) {
        for (x = uint256(message) % P;; x = addmod(x, 1, P)) {
            uint256 square = addmod(mulmod(mulmod(x, x, P), x, P), 3, P);
            bytes memory input = abi.encode(32, 32, 32, square, (P + 1) / 4, P);
            (bool ok, bytes memory root) = address(5).staticcall(input);
            require(ok, "modexp");
            y = abi.decode(root, (uint256));
            if (mulmod(y, y, P) == square) return (x, y);
        }
    }

    function _present(uint256[] calldata absent) private view returns (uint256 x, uint256 y) {
        uint256 count = size;
        bytes memory head = DataContract.read(data, 0, 64 + 8 * count + 24);
        uint256 absentGwei = 0;
        (uint256 chunkIndex, address chunk) = (type(uint256).max, address(0));
        for (uint256 w = 0; w < absent.length; ++w) {
            for (uint256 word = absent[w]; word != 0; word &= word - 1) {
                uint256 i;
                assembly ("memory-safe") {
                    i := add(shl(8, w), sub(255, clz(and(word, sub(0, word)))))
                    absentGwei := add(absentGwei, shr(192, mload(add(add(head, 0x60), mul(8, i)))))
                }
                if (i / 380 != chunkIndex) (chunkIndex, chunk) = (i / 380, _chunks[i / 380]);
                (uint256 kx, uint256 ky) = (0, 0);
                assembly ("memory-safe") {
                    extcodecopy(chunk, 0x00, add(1, mul(64, sub(i, mul(380, chunkIndex)))), 0x40)
                    kx := mload(0x00)
                    ky := mload(0x20)
                }
                (x, y) = _add(x, y, kx, ky);
            }
        }
        require(3 * (totalGwei - absentGwei) > 2 * uint256(totalGwei), "quorum");
        if (y != 0) y = P - y;
        (uint256 ax, uint256 ay) = (0, 0);
        assembly ("memory-safe") {
            ax := mload(add(head, 0x20))
            ay := mload(add(head, 0x40))
        }
        return _add(ax, ay, x, y);
    }

    function _add(uint256 ax, uint256 ay, uint256 bx, uint256 by) private view returns (uint256 x, uint256 y) {
        bool ok;
        assembly ("memory-safe") {
            let input := mload(0x40)
            mstore(input, ax)
            mstore(add(input, 0x20), ay)
            mstore(add(input, 0x40), bx)
            mstore(add(input, 0x60), by)
            ok := staticcall(gas(), 0x06, input, 0x80, input, 0x40)
            x := mload(input)
            y := mload(add(input, 0x20))
        }
        require(ok, "add");
    }

    function _multiply(uint256 ax, uint256 ay, uint256 factor) private view returns (uint256 x, uint256 y) {
        bool ok;
        assembly ("memory-safe") {
            let input := mload(0x40)
            mstore(input, ax)
            mstore(add(input, 0x20), ay)
            mstore(add(input, 0x40), factor)
            ok := staticcall(gas(), 0x07, input, 0x60, input, 0x40)
            x := mload(input)
            y := mload(add(input, 0x20))
        }
        require(ok, "multiply");
    }
}
