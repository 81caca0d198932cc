// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @notice Why a signature or a certificate isn't taken. Every contract that verifies some has these errors.
interface ICertificateErrors {
    /// @notice Bytes that aren't a point: a coordinate isn't below the modulus, its padding isn't zero, it is off the curve
    /// or outside the group.
    error MalformedPoint();
    /// @notice The point at infinity stands for a key or a signature.
    error PointAtInfinity();
    /// @notice The signature isn't that of these signers on this, on this network.
    error InvalidSignature();
    /// @notice The bitmap is of a set of another size.
    error WrongBitmapLength(uint256 words, uint256 expected);
    /// @notice The bitmap has bits beyond the set.
    error BitmapOutsideSet();
    /// @notice The signers don't have more than two thirds of the stake.
    error NoQuorum(uint256 stakeGwei, uint256 ofGwei);
    /// @notice A precompile of EIP-2537 (or SHA-256, or modular exponentiation) is missing or answers wrongly.
    error PrecompileFailed(uint256 precompile);
}
