// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IEpochs} from "./IEpochs.sol";
import {Certificate, Header, HeaderProof} from "./Types.sol";

/// @notice Anchors: checkpoints that were submitted to Ethereum with a quorum's certificate. They prove earlier ones.
///
/// The last {ANCHORS_KEPT} heights keep their anchor (by `height % ANCHORS_KEPT`); what an overwritten one proved, the
/// later ones prove by their history.
interface ICheckpoints is IEpochs {
    /// @notice What the contract does.
    enum Mode {
        /// @dev Takes anchors.
        Open,
        /// @dev Two certificates at one height were shown. Nothing is proven any more.
        Frozen,
        /// @dev Anchors stopped, or administrators named a header after a freeze. {exitHeader} alone proves things.
        Exit
    }

    /// @notice The last anchor.
    struct Anchor {
        /// @dev The header's id; zero before the first anchor.
        bytes32 header;
        /// @dev Its height.
        uint64 height;
        /// @dev Its epoch.
        uint64 epoch;
        /// @dev When it was submitted, in seconds since 1970; when the contract was created before the first anchor.
        uint40 time;
    }

    /// @notice How submitters are refunded. At most one anchor per `intervalSeconds` is.
    struct RefundPolicy {
        /// @dev What is refunded of an anchor.
        uint32 gas;
        /// @dev Least time since the anchor before.
        uint32 intervalSeconds;
        /// @dev Highest gas price that is refunded, in wei.
        uint64 gasPriceMax;
        /// @dev Highest priority fee that is refunded, in wei.
        uint64 priorityFeeMax;
    }

    /// @notice A checkpoint was anchored.
    /// @param refundWei What the submitter may collect for it.
    event Anchored(
        uint64 indexed height, bytes32 indexed header, uint64 epoch, uint32 round, address submitter, uint256 refundWei
    );
    /// @notice Two certificates with different headers stand at one height. Nothing is accepted any more.
    event FrozenAt(uint64 indexed height, bytes32 first, bytes32 second);
    /// @notice Holders leave by proof against this header. Zero: there was no anchor.
    event ExitOpened(uint64 indexed height, bytes32 header);
    /// @notice Somebody gave ether for refunds.
    event Funded(address indexed from, uint256 amountWei, uint256 potWei);
    /// @notice A submitter collected its refunds.
    event RefundCollected(address indexed submitter, address to, uint256 amountWei);
    /// @notice How submitters are refunded from now on.
    event RefundPolicySet(RefundPolicy policy);

    /// @notice The contract doesn't take anchors: it is frozen or in exit mode.
    error NotOpen(Mode mode);
    /// @notice A later checkpoint is anchored.
    error HeightPassed(uint64 height, uint64 latest);
    /// @notice A later epoch has anchored.
    error EpochPassed(uint64 epoch, uint64 latest);
    /// @notice The header's id is zero.
    error NoHeader();
    /// @notice The header isn't anchored (or, in exit mode, isn't the one to exit by).
    error NotAnchored(bytes32 header);
    /// @notice The anchored header's history doesn't have the header.
    error NotInHistory(bytes32 header);
    /// @notice A proof has one header, or two.
    error MalformedHeaderProof();
    /// @notice The two certificates don't contradict each other.
    error NoConflict();
    /// @notice Exit mode opens at `time` if no anchor comes.
    error ExitTooEarly(uint256 time);
    /// @notice The contract isn't frozen.
    error NotFrozen();
    /// @notice There's nothing to collect, or it can't be sent there.
    error NothingCollected();
    /// @notice The policy would let a submitter earn: more gas than an anchor can take, or no interval.
    error InvalidRefundPolicy();

    /// @notice Anchors a checkpoint. Anyone may. Anchoring the same header again changes nothing.
    /// @param certificateEpoch The operator set that signed.
    /// @param height The checkpoint's number, above the last anchor's.
    /// @param round The round that decided.
    /// @param header The header's id.
    /// @param absent See {Certificate.absent}.
    /// @param signature See {Certificate.signature}.
    function submit(
        uint64 certificateEpoch,
        uint64 height,
        uint32 round,
        bytes32 header,
        uint256[] calldata absent,
        bytes32[8] calldata signature
    ) external;

    /// @notice Stops everything for good, on two certificates with different headers at one height.
    function freeze(Certificate calldata first, Certificate calldata second) external;

    /// @notice Opens exit mode, for good, if no anchor came for {exitDelay} seconds. Anyone may.
    function openExit() external;

    /// @notice After a freeze: names the header, one of those kept, by which holders leave. Restricted.
    function resolve(uint64 height, bytes32 header) external;

    /// @notice Gives ether for refunds. There's no way back: what's left when anchors end stays.
    function fund() external payable;

    /// @notice Sends the caller's refunds to `to`.
    function collectRefund(address payable to) external;

    /// @notice Sets how submitters are refunded. Restricted.
    function setRefundPolicy(RefundPolicy calldata policy) external;

    /// @notice The last anchor.
    function latest() external view returns (Anchor memory);

    /// @notice What the contract does.
    function mode() external view returns (Mode);

    /// @notice The header by which holders leave; zero unless in exit mode, or if there was no anchor.
    function exitHeader() external view returns (bytes32);

    /// @notice Whether the header is kept as an anchor.
    function isAnchored(uint64 height, bytes32 header) external view returns (bool);

    /// @notice The header's id.
    function headerId(Header calldata header) external view returns (bytes32);

    /// @notice Checks that the first header of `proof` is a checkpoint's.
    /// @return header Its id.
    function verifyHeader(HeaderProof calldata proof) external view returns (bytes32 header);

    /// @notice What a submitter may collect, in wei.
    function refundOf(address submitter) external view returns (uint256 amountWei);

    /// @notice What is left for refunds, in wei.
    function potWei() external view returns (uint256);

    /// @notice How submitters are refunded.
    function refundPolicy() external view returns (RefundPolicy memory);

    /// @notice How long after its snapshot an epoch's operators can sign anchors, in seconds.
    function anchorAgeMax() external view returns (uint256);

    /// @notice How long after the last anchor exit mode can be opened, in seconds.
    function exitDelay() external view returns (uint256);
}
