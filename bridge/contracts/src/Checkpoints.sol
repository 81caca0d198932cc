// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Epochs} from "./Epochs.sol";
import {ICheckpoints} from "./interfaces/ICheckpoints.sol";
import {IAllocationManager} from "./interfaces/IEigenLayer.sol";
import {IRegistrar} from "./interfaces/IRegistrar.sol";
import {Certificate, Header, HeaderProof} from "./interfaces/Types.sol";
import {BLS12381} from "./libraries/BLS12381.sol";
import {History} from "./libraries/History.sol";
import {OperatorSets} from "./libraries/OperatorSets.sol";
import {Signing} from "./libraries/Signing.sol";

/// @notice See {ICheckpoints}.
///
/// A certificate binds epoch, height, round and header id, so an anchor is one word: the id. The words of the ring are written
/// once when the contract is created, after which an anchor overwrites one (5,000 gas) instead of taking a new one (22,100).
contract Checkpoints is ICheckpoints, Epochs {
    /// @notice What is fixed when the contract is created.
    struct Settings {
        EpochSettings epochs;
        /// @dev How long after its snapshot an epoch's operators can sign anchors, in seconds: less than their stake takes to
        /// leave EigenLayer.
        uint32 anchorAgeMax;
        /// @dev How long after the last anchor exit mode can be opened, in seconds.
        uint32 exitDelay;
    }

    /// @dev All that an anchor changes besides its own word, in one word.
    struct Tip {
        uint64 height;
        uint64 epoch;
        uint40 time;
        Mode mode;
        /// @dev For refunds, in wei. So many bits hold 1.2 million ether.
        uint80 potWei;
    }

    /// @notice Heights whose anchors are kept.
    uint256 public constant ANCHORS_KEPT = 256;
    /// @notice Most gas of an anchor that can be refunded: what one takes with 1,000 operators, a third of them absent.
    uint256 public constant REFUND_GAS_MAX = 600_000;

    /// @inheritdoc ICheckpoints
    uint256 public immutable anchorAgeMax;
    /// @inheritdoc ICheckpoints
    uint256 public immutable exitDelay;

    /// @inheritdoc ICheckpoints
    bytes32 public exitHeader;
    /// @inheritdoc ICheckpoints
    mapping(address submitter => uint256) public refundOf;

    Tip private _tip;
    RefundPolicy private _policy;
    /// @dev Of each height (modulo {ANCHORS_KEPT}) the header's id. What's no header's id stands for none.
    bytes32[ANCHORS_KEPT] private _anchors;

    /// @param authority The AccessManager.
    /// @param registrar_ Who is registered, with which keys.
    /// @param allocationManager_ EigenLayer's AllocationManager.
    /// @param settings What is fixed from now on.
    constructor(
        address authority,
        IRegistrar registrar_,
        IAllocationManager allocationManager_,
        Settings memory settings
    ) AccessManaged(authority) Epochs(registrar_, allocationManager_, settings.epochs) {
        BLS12381.selfTest();
        (anchorAgeMax, exitDelay) = (settings.anchorAgeMax, settings.exitDelay);
        _tip.time = uint40(block.timestamp);
        for (uint256 i = 0; i < ANCHORS_KEPT; ++i) {
            _anchors[i] = bytes32(uint256(1));
        }
    }

    /// @inheritdoc ICheckpoints
    function submit(
        uint64 certificateEpoch,
        uint64 height,
        uint32 round,
        bytes32 header,
        uint256[] calldata absent,
        bytes32[8] calldata signature
    ) external {
        if (_anchors[height % ANCHORS_KEPT] == header) return;
        if (header == 0) revert NoHeader();
        Tip memory tip = _loadTip();
        if (tip.mode != Mode.Open) revert NotOpen(tip.mode);
        if (height <= tip.height) revert HeightPassed(height, tip.height);
        if (certificateEpoch < tip.epoch) revert EpochPassed(certificateEpoch, tip.epoch);
        bytes32 message = Signing.precommit(chain, certificateEpoch, height, round, header);
        OperatorSets.checkQuorum(_freshConsensus(certificateEpoch, anchorAgeMax), absent, signature, message);

        uint256 refundWei = _refund(tip);
        if (refundWei != 0) {
            tip.potWei -= uint80(refundWei);
            refundOf[msg.sender] += refundWei;
        }
        (tip.height, tip.epoch, tip.time) = (height, certificateEpoch, uint40(block.timestamp));
        _storeTip(tip);
        _anchors[height % ANCHORS_KEPT] = header;
        emit Anchored(height, header, certificateEpoch, round, msg.sender, refundWei);
    }

    /// @inheritdoc ICheckpoints
    function freeze(Certificate calldata first, Certificate calldata second) external {
        if (_tip.mode != Mode.Open) revert NotOpen(_tip.mode);
        bool conflict = first.height == second.height && first.header != second.header;
        if (!conflict || first.header == 0 || second.header == 0) revert NoConflict();
        _checkCertificate(first);
        _checkCertificate(second);
        _tip.mode = Mode.Frozen;
        emit FrozenAt(first.height, first.header, second.header);
    }

    /// @inheritdoc ICheckpoints
    function openExit() external {
        Tip memory tip = _tip;
        if (tip.mode != Mode.Open) revert NotOpen(tip.mode);
        if (block.timestamp <= tip.time + exitDelay) revert ExitTooEarly(tip.time + exitDelay);
        _exitBy(tip.height, latest().header);
    }

    /// @inheritdoc ICheckpoints
    function resolve(uint64 height, bytes32 header) external restricted {
        if (_tip.mode != Mode.Frozen) revert NotFrozen();
        if (!isAnchored(height, header)) revert NotAnchored(header);
        _exitBy(height, header);
    }

    /// @inheritdoc ICheckpoints
    function fund() external payable {
        _tip.potWei += SafeCast.toUint80(msg.value);
        emit Funded(msg.sender, msg.value, _tip.potWei);
    }

    /// @inheritdoc ICheckpoints
    function collectRefund(address payable to) external {
        uint256 amountWei = refundOf[msg.sender];
        refundOf[msg.sender] = 0;
        (bool sent,) = to.call{value: amountWei}("");
        if (amountWei == 0 || !sent) revert NothingCollected();
        emit RefundCollected(msg.sender, to, amountWei);
    }

    /// @inheritdoc ICheckpoints
    function setRefundPolicy(RefundPolicy calldata policy) external restricted {
        if (policy.gas > REFUND_GAS_MAX || policy.intervalSeconds == 0) revert InvalidRefundPolicy();
        _policy = policy;
        emit RefundPolicySet(policy);
    }

    /// @inheritdoc ICheckpoints
    function mode() external view returns (Mode) {
        return _tip.mode;
    }

    /// @inheritdoc ICheckpoints
    function headerId(Header calldata header) external view returns (bytes32) {
        return Signing.headerId(chain, header);
    }

    /// @inheritdoc ICheckpoints
    function verifyHeader(HeaderProof calldata proof) external view returns (bytes32 header) {
        uint256 count = proof.headers.length;
        if (count == 0 || count > 2) revert MalformedHeaderProof();
        header = Signing.headerId(chain, proof.headers[0]);
        if (count == 1) {
            if (proof.siblings.length != 0) revert MalformedHeaderProof();
            _checkAnchor(proof.headers[0].height, header);
            return header;
        }
        Header calldata anchor = proof.headers[1];
        _checkAnchor(anchor.height, Signing.headerId(chain, anchor));
        if (!History.has(anchor.history, anchor.height, proof.headers[0].height, header, proof.siblings)) {
            revert NotInHistory(header);
        }
    }

    /// @inheritdoc ICheckpoints
    function potWei() external view returns (uint256) {
        return _tip.potWei;
    }

    /// @inheritdoc ICheckpoints
    function refundPolicy() external view returns (RefundPolicy memory) {
        return _policy;
    }

    /// @inheritdoc ICheckpoints
    function latest() public view returns (Anchor memory) {
        Tip memory tip = _tip;
        bytes32 header = tip.height == 0 ? bytes32(0) : _anchors[tip.height % ANCHORS_KEPT];
        return Anchor({header: header, height: tip.height, epoch: tip.epoch, time: tip.time});
    }

    /// @inheritdoc ICheckpoints
    function isAnchored(uint64 height, bytes32 header) public view returns (bool) {
        return height != 0 && height <= _tip.height && _anchors[height % ANCHORS_KEPT] == header;
    }

    /// @dev Writes all fields at once, which the compiler does one by one.
    function _storeTip(Tip memory tip) private {
        uint256 word = uint256(tip.height) | uint256(tip.epoch) << 64 | uint256(tip.time) << 128;
        word |= uint256(tip.mode) << 168 | uint256(tip.potWei) << 176;
        assembly ("memory-safe") {
            sstore(_tip.slot, word)
        }
    }

    /// @dev Reads them at once.
    function _loadTip() private view returns (Tip memory tip) {
        uint256 word;
        assembly ("memory-safe") {
            word := sload(_tip.slot)
        }
        (tip.height, tip.epoch, tip.time) = (uint64(word), uint64(word >> 64), uint40(word >> 128));
        (tip.mode, tip.potWei) = (Mode(uint8(word >> 168)), uint80(word >> 176));
    }

    function _exitBy(uint64 height, bytes32 header) private {
        _tip.mode = Mode.Exit;
        exitHeader = header;
        emit ExitOpened(height, header);
    }

    /// @dev What the next anchor's submitter gets.
    function _refund(Tip memory tip) private view returns (uint256) {
        if (tip.potWei == 0) return 0;
        RefundPolicy memory policy = _policy;
        if (block.timestamp < uint256(tip.time) + policy.intervalSeconds) return 0;
        uint256 price = block.basefee + policy.priorityFeeMax;
        if (tx.gasprice < price) price = tx.gasprice;
        if (price > policy.gasPriceMax) price = policy.gasPriceMax;
        uint256 refundWei = price * policy.gas;
        return refundWei < tip.potWei ? refundWei : tip.potWei;
    }

    function _checkCertificate(Certificate calldata certificate) private view {
        bytes32 message =
            Signing.precommit(chain, certificate.epoch, certificate.height, certificate.round, certificate.header);
        Set memory set = _freshConsensus(certificate.epoch, anchorAgeMax);
        OperatorSets.checkQuorum(set, certificate.absent, certificate.signature, message);
    }

    function _checkAnchor(uint64 height, bytes32 header) private view {
        Mode mode_ = _tip.mode;
        if (mode_ == Mode.Frozen) revert NotOpen(mode_);
        bool holds = mode_ == Mode.Open ? isAnchored(height, header) : header == exitHeader;
        if (!holds) revert NotAnchored(header);
    }
}
