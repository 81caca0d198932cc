// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Header} from "../interfaces/Types.sol";

/// @notice What is hashed and signed: `sha256(tag ‖ chain ‖ fields)`, byte for byte as in the ledger (`lamina-types`,
/// `signing`). Tag and chain fill 32 bytes, integers are big-endian and have 8 bytes.
library Signing {
    bytes32 internal constant ATTESTATION = "lamina/attestation/v1";
    bytes32 internal constant PROOF_OF_POSSESSION = "lamina/proof-of-possession/v1";
    bytes32 internal constant CHECKPOINT = "lamina/checkpoint/v1";
    bytes32 internal constant PRECOMMIT = "lamina/precommit/v1";
    bytes32 internal constant OPERATOR_SET = "lamina/operator-set/v1";
    bytes32 internal constant OFFENCE = "lamina/offence/v1";

    /// @notice What an operator signs to show that it holds the BLS key (compressed, 48 bytes) that it registers.
    function proofOfPossession(bytes32 chain, address operator, address registrar, bytes memory key)
        internal
        pure
        returns (bytes32)
    {
        return sha256(abi.encodePacked(PROOF_OF_POSSESSION, chain, operator, registrar, key));
    }

    /// @notice The vote that finalises a checkpoint; `header` is zero for a vote on none.
    function precommit(bytes32 chain, uint64 epoch, uint64 height, uint32 round, bytes32 header)
        internal
        pure
        returns (bytes32)
    {
        return sha256(abi.encodePacked(PRECOMMIT, chain, epoch, height, uint64(round), header != 0, header));
    }

    /// @notice The signature on a task's outcome.
    function attestation(bytes32 chain, uint64 epoch, bytes32 task, bytes32 outcome) internal pure returns (bytes32) {
        return sha256(abi.encodePacked(ATTESTATION, chain, epoch, task, outcome));
    }

    /// @notice A header's id.
    function headerId(bytes32 chain, Header calldata header) internal pure returns (bytes32) {
        bytes memory first = abi.encodePacked(
            header.epoch,
            header.height,
            header.previous,
            header.history,
            header.cut,
            header.state,
            header.claims,
            header.results
        );
        return sha256(
            abi.encodePacked(
                CHECKPOINT,
                chain,
                first,
                header.ethereumNumber,
                header.ethereumHash,
                header.time,
                header.operators,
                header.nextOperators
            )
        );
    }

    /// @notice What begins the preimage of an operator set's root; the members follow.
    function operatorSetHead(bytes32 chain, uint64 epoch, uint64 size) internal pure returns (bytes memory) {
        return abi.encodePacked(OPERATOR_SET, chain, epoch, size);
    }

    /// @notice The offence of two precommits of one round.
    function precommitOffence(bytes32 chain, address operator, uint64 epoch, uint64 height, uint32 round)
        internal
        pure
        returns (bytes32)
    {
        return sha256(abi.encodePacked(OFFENCE, chain, operator, uint8(0), epoch, height, uint64(round)));
    }

    /// @notice The offence of two outcomes of one task.
    function attestationOffence(bytes32 chain, address operator, uint64 epoch, bytes32 task)
        internal
        pure
        returns (bytes32)
    {
        return sha256(abi.encodePacked(OFFENCE, chain, operator, uint8(4), epoch, task));
    }
}
