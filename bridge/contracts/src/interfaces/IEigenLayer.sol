// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @notice An operator set of EigenLayer.
struct OperatorSet {
    /// @dev The service that it belongs to.
    address avs;
    /// @dev Its number there.
    uint32 id;
}

/// @notice The few functions of EigenLayer's AllocationManager (v1.4) that Lamina's contracts call.
interface IAllocationManager {
    /// @notice A slashing. Strategies ascend by address.
    struct SlashingParams {
        address operator;
        uint32 operatorSetId;
        address[] strategies;
        /// @dev Shares of the allocation to slash, 1e18 is all of it.
        uint256[] wadsToSlash;
        string description;
    }

    /// @notice Takes a share of what the operator has allocated to an operator set. The caller must be `avs` or
    /// appointed by it in EigenLayer's PermissionController.
    function slashOperator(address avs, SlashingParams calldata params) external;

    /// @notice Of each operator and strategy the shares that stay slashable by the operator set until `futureBlock`.
    function getMinimumSlashableStake(
        OperatorSet calldata operatorSet,
        address[] calldata operators,
        address[] calldata strategies,
        uint32 futureBlock
    ) external view returns (uint256[][] memory slashableStake);
}

/// @notice What EigenLayer's AllocationManager (v1.4) calls when operators come and go.
interface IAVSRegistrar {
    /// @notice An operator registers for operator sets of `avs`; reverts if it mayn't.
    function registerOperator(address operator, address avs, uint32[] calldata operatorSetIds, bytes calldata data)
        external;

    /// @notice An operator leaves operator sets of `avs`.
    function deregisterOperator(address operator, address avs, uint32[] calldata operatorSetIds) external;

    /// @notice Whether this is the registrar of `avs`.
    function supportsAVS(address avs) external view returns (bool);
}
