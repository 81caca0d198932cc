// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {LimitedPause} from "./LimitedPause.sol";
import {ICertificateErrors} from "./interfaces/ICertificateErrors.sol";
import {ICheckpoints} from "./interfaces/ICheckpoints.sol";
import {IAllocationManager} from "./interfaces/IEigenLayer.sol";
import {IEpochs} from "./interfaces/IEpochs.sol";
import {IRegistrar} from "./interfaces/IRegistrar.sol";
import {ISlasher} from "./interfaces/ISlasher.sol";
import {BLS12381} from "./libraries/BLS12381.sol";
import {Signing} from "./libraries/Signing.sol";

/// @notice See {ISlasher}. The service's account must appoint this contract in EigenLayer's PermissionController for
/// `slashOperator`.
contract Slasher is ISlasher, ICertificateErrors, LimitedPause {
    /// @notice The operator sets.
    ICheckpoints public immutable checkpoints;
    /// @notice The operators' keys.
    IRegistrar public immutable registrar;
    /// @notice EigenLayer's AllocationManager.
    IAllocationManager public immutable allocationManager;
    /// @inheritdoc ISlasher
    uint256 public immutable evidenceAgeMax;
    bytes32 private immutable _chain;
    address private immutable _avs;
    uint32 private immutable _operatorSetId;

    /// @inheritdoc ISlasher
    mapping(Kind kind => uint256) public wadOf;
    /// @inheritdoc ISlasher
    mapping(bytes32 offence => bool) public isSlashed;

    /// @param authority The AccessManager.
    /// @param checkpoints_ The operator sets.
    /// @param registrar_ The operators' keys.
    /// @param allocationManager_ EigenLayer's AllocationManager.
    /// @param evidenceAgeMax_ Oldest snapshot whose operators can be slashed, in seconds: less than stake takes to leave.
    /// @param wad What each offence costs at first: a share of the operator's allocation, 1e18 is all.
    constructor(
        address authority,
        ICheckpoints checkpoints_,
        IRegistrar registrar_,
        IAllocationManager allocationManager_,
        uint256 evidenceAgeMax_,
        uint256 wad
    ) AccessManaged(authority) {
        BLS12381.selfTest();
        (checkpoints, registrar, allocationManager) = (checkpoints_, registrar_, allocationManager_);
        (_chain, _avs, _operatorSetId) = (registrar_.chain(), registrar_.avs(), registrar_.operatorSetId());
        evidenceAgeMax = evidenceAgeMax_;
        _setWad(Kind.Precommits, wad);
        _setWad(Kind.Attestations, wad);
    }

    /// @inheritdoc ISlasher
    function slashPrecommits(
        uint64 epoch,
        uint64 height,
        uint32 round,
        uint256 member,
        Signed calldata first,
        Signed calldata second
    ) external whenNotPaused {
        (address operator, bytes32[4] memory key) = _offender(epoch, member, first, second);
        _checkSigned(key, first, Signing.precommit(_chain, epoch, height, round, first.content));
        _checkSigned(key, second, Signing.precommit(_chain, epoch, height, round, second.content));
        bytes32 offence = Signing.precommitOffence(_chain, operator, epoch, height, round);
        _slash(Kind.Precommits, epoch, operator, offence);
    }

    /// @inheritdoc ISlasher
    function slashAttestations(
        uint64 epoch,
        bytes32 task,
        uint256 member,
        Signed calldata first,
        Signed calldata second
    ) external whenNotPaused {
        (address operator, bytes32[4] memory key) = _offender(epoch, member, first, second);
        _checkSigned(key, first, Signing.attestation(_chain, epoch, task, first.content));
        _checkSigned(key, second, Signing.attestation(_chain, epoch, task, second.content));
        bytes32 offence = Signing.attestationOffence(_chain, operator, epoch, task);
        _slash(Kind.Attestations, epoch, operator, offence);
    }

    /// @inheritdoc ISlasher
    function setWad(Kind kind, uint256 wad) external restricted {
        _setWad(kind, wad);
    }

    function _slash(Kind kind, uint64 epoch, address operator, bytes32 offence) private {
        if (isSlashed[offence]) revert AlreadySlashed(offence);
        isSlashed[offence] = true;
        uint256 wad = wadOf[kind];
        (IEpochs.Strategy[] memory strategies,) = checkpoints.strategies();
        IAllocationManager.SlashingParams memory params;
        (params.operator, params.operatorSetId) = (operator, _operatorSetId);
        params.strategies = new address[](strategies.length);
        params.wadsToSlash = new uint256[](strategies.length);
        for (uint256 i = 0; i < strategies.length; ++i) {
            (params.strategies[i], params.wadsToSlash[i]) = (strategies[i].strategy, wad);
        }
        params.description = kind == Kind.Precommits ? "two precommits of one round" : "two outcomes of one task";
        emit Slashed(operator, offence, kind, epoch, wad);
        allocationManager.slashOperator(_avs, params);
    }

    function _setWad(Kind kind, uint256 wad) private {
        if (wad == 0 || wad > 1e18) revert InvalidWad(wad);
        wadOf[kind] = wad;
        emit WadSet(kind, wad);
    }

    /// @dev The account and the padded key of the member that is said to have signed both.
    function _offender(uint64 epoch, uint256 member, Signed calldata first, Signed calldata second)
        private
        view
        returns (address operator, bytes32[4] memory key)
    {
        if (first.content == second.content) revert SameContent();
        if (block.timestamp > checkpoints.epoch(epoch).time + evidenceAgeMax) revert StaleEvidence(epoch);
        (uint256 registration,) = checkpoints.member(epoch, member);
        IRegistrar.Operator memory found = registrar.operator(registration);
        return (found.account, BLS12381.unpackG1(found.blsKey));
    }

    function _checkSigned(bytes32[4] memory key, Signed calldata signed, bytes32 message) private view {
        if (!BLS12381.verifies(key, signed.signature, message)) revert InvalidSignature();
    }
}
