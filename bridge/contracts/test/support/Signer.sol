// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {BLS12381} from "../../src/libraries/BLS12381.sol";

/// @dev Signs with BLS12-381 by the precompiles' multiplications, which the contracts themselves don't use.
library Signer {
    /// @dev The groups' order.
    uint256 internal constant ORDER = 0x73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001;

    /// @dev The secret key of operator `seed`.
    function secret(uint256 seed) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode("operator", seed))) % ORDER;
    }

    function publicKey(uint256 secretKey) internal view returns (bytes32[4] memory key) {
        bytes memory input = abi.encode(
            0x17f1d3a73197d7942695638c4fa9ac0f,
            0xc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb,
            0x08b3f481e3aaa0f1a09e30ed741d8ae4,
            0xfcf5e095d5d00af600db18cb2c04b3edd03cc744a2888ae40caa232946c5e7e1,
            secretKey
        );
        (bool ok, bytes memory point) = address(0x0c).staticcall(input);
        require(ok, "G1MSM");
        return abi.decode(point, (bytes32[4]));
    }

    /// @dev A signature, or that of several: with the sum of their keys.
    function sign(uint256 secretKey, bytes32 message) internal view returns (bytes32[8] memory signature) {
        bytes32[8] memory hash = BLS12381.hashToG2(abi.encodePacked(message), BLS12381.DST);
        (bool ok, bytes memory point) = address(0x0e).staticcall(abi.encode(hash, secretKey));
        require(ok, "G2MSM");
        return abi.decode(point, (bytes32[8]));
    }
}
