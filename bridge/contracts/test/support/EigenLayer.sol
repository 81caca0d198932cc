// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IAllocationManager, IAVSRegistrar, OperatorSet} from "../../src/interfaces/IEigenLayer.sol";

/// @dev Stands in for EigenLayer's AllocationManager, of which it has what Lamina calls. The real one is exercised by the
/// project's end-to-end tests.
contract EigenLayer is IAllocationManager {
    mapping(address operator => mapping(address strategy => uint256)) public shares;
    mapping(address slasher => bool) public appointed;

    function setShares(address operator, address strategy, uint256 amount) external {
        shares[operator][strategy] = amount;
    }

    function appoint(address slasher) external {
        appointed[slasher] = true;
    }

    function register(IAVSRegistrar registrar, address operator, address avs, uint32 id, bytes calldata data) external {
        registrar.registerOperator(operator, avs, _one(id), data);
    }

    function deregister(IAVSRegistrar registrar, address operator, address avs, uint32 id) external {
        registrar.deregisterOperator(operator, avs, _one(id));
    }

    function slashOperator(address, SlashingParams calldata params) external {
        require(appointed[msg.sender], "not appointed");
        for (uint256 i = 0; i < params.strategies.length; ++i) {
            uint256 before = shares[params.operator][params.strategies[i]];
            require(before != 0, "not slashable");
            shares[params.operator][params.strategies[i]] = before - before * params.wadsToSlash[i] / 1e18;
        }
    }

    function getMinimumSlashableStake(
        OperatorSet calldata,
        address[] calldata operators,
        address[] calldata strategies,
        uint32 futureBlock
    ) external view returns (uint256[][] memory stake) {
        require(futureBlock >= block.number, "past block");
        stake = new uint256[][](operators.length);
        for (uint256 i = 0; i < operators.length; ++i) {
            stake[i] = new uint256[](strategies.length);
            for (uint256 j = 0; j < strategies.length; ++j) {
                stake[i][j] = shares[operators[i]][strategies[j]];
            }
        }
    }

    function _one(uint32 id) private pure returns (uint32[] memory ids) {
        ids = new uint32[](1);
        ids[0] = id;
    }
}
