// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {HeaderProof} from "./Types.sol";

/// @notice A contract that waits for tasks' results.
interface ITaskConsumer {
    /// @notice A task has this outcome. Called with {ITaskResults.CALLBACK_GAS} at most; what it returns is ignored, and if
    /// it reverts, the result stands and the call can be repeated.
    /// @dev Check that `msg.sender` is the {ITaskResults} contract and that the task is one that you asked for.
    function onTaskResult(bytes32 task, bytes32 outcome) external;
}

/// @notice Tasks' results on Ethereum, each verified once, either way:
///
/// (a) {certify}, at once, by a certificate of an epoch's *whole* operator set. A service that only part of the operators
/// serve has certificates of that part, whose membership isn't on Ethereum; its results come by (b).
/// (b) {prove}, against an anchored checkpoint or an earlier one.
interface ITaskResults {
    /// @notice Somebody on Ethereum asks for a task.
    /// @param index The request's number, from 0, without gaps.
    event TaskRequested(uint64 indexed index, bytes32 indexed service, address indexed requester, bytes input);
    /// @notice A task's outcome was verified.
    /// @param certified Whether by a certificate; else by proof.
    event TaskResult(bytes32 indexed task, bytes32 outcome, bool certified);
    /// @notice A consumer was told of a result.
    /// @param taken Whether it returned without a revert.
    event ConsumerNotified(bytes32 indexed task, address indexed consumer, bool taken);

    /// @notice Another outcome of the task was verified before.
    error OtherOutcome(bytes32 task, bytes32 verified);
    /// @notice The outcome's digest is zero.
    error NoOutcome();
    /// @notice The checkpoint's tree of results doesn't have this.
    error ResultNotProven(bytes32 task);
    /// @notice The task has no verified result.
    error UnknownTask(bytes32 task);
    /// @notice The consumer took the result before.
    error AlreadyTaken(bytes32 task, address consumer);
    /// @notice The transaction has too little gas to give the consumer its share.
    error TooLittleGas();
    /// @notice The input of a request is too long.
    error InputTooLong(uint256 length);
    /// @notice Certificates count while their checkpoints are open only.
    error NotOpen();

    /// @notice Asks for a task of `service`. Whether a service takes requests from Ethereum, and from whom, is its own
    /// matter.
    /// @return index The request's number.
    function request(bytes32 service, bytes calldata input) external returns (uint64 index);

    /// @notice Verifies a task's outcome by a certificate of the epoch's whole set.
    /// @param absent Who of the whole set did *not* sign, as {Certificate.absent}.
    /// @param signature The sum of the signatures on `sha256(tag ‖ chain ‖ epoch ‖ task ‖ outcome)`, as EIP-2537 encodes it.
    /// @param consumer Who is told; nobody if zero.
    function certify(
        uint64 epoch,
        bytes32 task,
        bytes32 outcome,
        uint256[] calldata absent,
        bytes32[8] calldata signature,
        address consumer
    ) external;

    /// @notice Verifies a task's outcome by proof.
    /// @param left Bit `i` (the lowest is 0) is set if the `i`-th sibling is on the left.
    /// @param siblings Siblings from the leaf upwards, at most 32.
    /// @param proof Of the checkpoint that recorded the result.
    /// @param consumer Who is told; nobody if zero.
    function prove(
        bytes32 task,
        bytes32 outcome,
        uint32 left,
        bytes32[] calldata siblings,
        HeaderProof calldata proof,
        address consumer
    ) external;

    /// @notice Tells a consumer a verified result, if it hasn't taken it yet. Anyone may.
    function notify(bytes32 task, address consumer) external;

    /// @notice The verified outcome of a task; zero if there's none.
    function outcomeOf(bytes32 task) external view returns (bytes32);

    /// @notice Whether the consumer has taken the result.
    function hasTaken(bytes32 task, address consumer) external view returns (bool);

    /// @notice How many requests there have been.
    function requestCount() external view returns (uint64);

    /// @notice What a callback may use, at most.
    function CALLBACK_GAS() external view returns (uint256);
}
