// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @notice Bytes kept as a contract's code, behind a zero byte that stops whoever calls it: cheaper to write than storage from
/// two words on, and very much cheaper to read.
library DataContract {
    /// @notice Most bytes that one holds: the longest code (EIP-170), less the zero byte.
    uint256 internal constant BYTES_MAX = 24_575;

    /// @notice The contract couldn't be created.
    error NotWritten();

    /// @notice Creates a contract that holds `data`, of at most {BYTES_MAX} bytes.
    function write(bytes memory data) internal returns (address written) {
        // PUSH2 size, DUP1, PUSH1 10, RETURNDATASIZE (0), CODECOPY, RETURNDATASIZE, RETURN; then the code
        bytes memory creation = abi.encodePacked(hex"61", uint16(data.length + 1), hex"80600a3d393df300", data);
        assembly ("memory-safe") {
            written := create(0, add(creation, 0x20), mload(creation))
        }
        if (written == address(0)) revert NotWritten();
    }

    /// @notice The `length` bytes at `offset`; zeros beyond the end.
    function read(address from, uint256 offset, uint256 length) internal view returns (bytes memory data) {
        data = new bytes(length);
        assembly ("memory-safe") {
            extcodecopy(from, add(data, 0x20), add(offset, 1), length)
        }
    }
}
