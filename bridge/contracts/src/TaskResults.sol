// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {LimitedPause} from "./LimitedPause.sol";
import {ICertificateErrors} from "./interfaces/ICertificateErrors.sol";
import {ICheckpoints} from "./interfaces/ICheckpoints.sol";
import {IEpochs} from "./interfaces/IEpochs.sol";
import {ITaskConsumer, ITaskResults} from "./interfaces/ITaskResults.sol";
import {HeaderProof} from "./interfaces/Types.sol";
import {BLS12381} from "./libraries/BLS12381.sol";
import {KeccakTrees} from "./libraries/KeccakTrees.sol";
import {OperatorSets} from "./libraries/OperatorSets.sol";
import {Signing} from "./libraries/Signing.sol";

/// @notice See {ITaskResults}.
contract TaskResults is ITaskResults, ICertificateErrors, LimitedPause, ReentrancyGuard {
    /// @inheritdoc ITaskResults
    uint256 public constant CALLBACK_GAS = 300_000;
    /// @notice Longest input of a request, in bytes.
    uint256 public constant INPUT_BYTES_MAX = 16_384;
    /// @dev What is left to do after a callback, and what EIP-150 holds back, at most.
    uint256 private constant CALLBACK_SPARE_GAS = 50_000;

    /// @notice The checkpoints that results are proven against, and the operator sets that certify them.
    ICheckpoints public immutable checkpoints;
    /// @notice How long after its snapshot an epoch's operators can certify, in seconds.
    uint256 public immutable certificateAgeMax;
    bytes32 private immutable _chain;

    /// @inheritdoc ITaskResults
    uint64 public requestCount;
    /// @inheritdoc ITaskResults
    mapping(bytes32 task => bytes32) public outcomeOf;
    /// @inheritdoc ITaskResults
    mapping(bytes32 task => mapping(address consumer => bool)) public hasTaken;

    /// @param authority The AccessManager.
    /// @param checkpoints_ The checkpoints that results are proven against.
    constructor(address authority, ICheckpoints checkpoints_) AccessManaged(authority) {
        BLS12381.selfTest();
        checkpoints = checkpoints_;
        (certificateAgeMax, _chain) = (checkpoints_.anchorAgeMax(), checkpoints_.chain());
    }

    /// @inheritdoc ITaskResults
    function request(bytes32 service, bytes calldata input) external whenNotPaused returns (uint64 index) {
        if (input.length > INPUT_BYTES_MAX) revert InputTooLong(input.length);
        index = requestCount++;
        emit TaskRequested(index, service, msg.sender, input);
    }

    /// @inheritdoc ITaskResults
    function certify(
        uint64 epoch,
        bytes32 task,
        bytes32 outcome,
        uint256[] calldata absent,
        bytes32[8] calldata signature,
        address consumer
    ) external nonReentrant whenNotPaused {
        if (_isNew(task, outcome)) {
            if (checkpoints.mode() != ICheckpoints.Mode.Open) revert NotOpen();
            IEpochs.Epoch memory snapshot = checkpoints.epoch(epoch);
            if (block.timestamp > snapshot.time + certificateAgeMax) revert IEpochs.StaleEpoch(epoch);
            bytes32 message = Signing.attestation(_chain, epoch, task, outcome);
            OperatorSets.checkQuorum(snapshot.whole, absent, signature, message);
            outcomeOf[task] = outcome;
            emit TaskResult(task, outcome, true);
        }
        if (consumer != address(0)) _notify(task, outcome, consumer);
    }

    /// @inheritdoc ITaskResults
    function prove(
        bytes32 task,
        bytes32 outcome,
        uint32 left,
        bytes32[] calldata siblings,
        HeaderProof calldata proof,
        address consumer
    ) external nonReentrant whenNotPaused {
        if (_isNew(task, outcome)) {
            checkpoints.verifyHeader(proof);
            bytes32 root = proof.headers[0].results;
            if (!KeccakTrees.hasResult(root, task, outcome, left, siblings)) revert ResultNotProven(task);
            outcomeOf[task] = outcome;
            emit TaskResult(task, outcome, false);
        }
        if (consumer != address(0)) _notify(task, outcome, consumer);
    }

    /// @inheritdoc ITaskResults
    function notify(bytes32 task, address consumer) external nonReentrant whenNotPaused {
        bytes32 outcome = outcomeOf[task];
        if (outcome == 0) revert UnknownTask(task);
        _notify(task, outcome, consumer);
    }

    /// @dev Whether the outcome isn't verified yet.
    function _isNew(bytes32 task, bytes32 outcome) private view returns (bool) {
        if (outcome == 0) revert NoOutcome();
        bytes32 verified = outcomeOf[task];
        if (verified != 0 && verified != outcome) revert OtherOutcome(task, verified);
        return verified == 0;
    }

    function _notify(bytes32 task, bytes32 outcome, address consumer) private {
        if (hasTaken[task][consumer]) revert AlreadyTaken(task, consumer);
        bytes memory data = abi.encodeCall(ITaskConsumer.onTaskResult, (task, outcome));
        // A call gets at most 63/64 of what's left (EIP-150), and a callback that fails for want of gas would look as if the
        // consumer refused.
        if (gasleft() * 63 / 64 < CALLBACK_GAS + CALLBACK_SPARE_GAS) revert TooLittleGas();
        bool taken = consumer.code.length != 0;
        assembly ("memory-safe") {
            taken := and(taken, call(CALLBACK_GAS, consumer, 0, add(data, 0x20), mload(data), 0, 0))
        }
        if (taken) hasTaken[task][consumer] = true;
        emit ConsumerNotified(task, consumer, taken);
    }
}
