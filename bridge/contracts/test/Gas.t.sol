// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Signing} from "../src/libraries/Signing.sol";
import {Network} from "./support/Network.sol";
import {Signer} from "./support/Signer.sol";

/// @dev What an anchor takes: the whole transaction. Figures go to gas-snapshots/, which test.sh compares with gas.json.
contract GasTest is Network {
    /// forge-config: default.isolate = true
    function test_anchors_of_4() external {
        _measure(4, 0, "4 operators, 0 absent");
    }

    /// forge-config: default.isolate = true
    function test_anchors_of_100() external {
        _measure(100, 33, "100 operators, 33 absent");
    }

    function _measure(uint256 count, uint256 absentCount, string memory name) private {
        start(count, uint16(count));
        checkpoints.roll(new uint256[](0));
        (uint256[] memory absent, uint256 secret) = attendance(count, absentCount);
        bytes32 header = keccak256("header");
        bytes32[8] memory signature = Signer.sign(secret, Signing.precommit(CHAIN, 1, 300, 0, header));
        checkpoints.submit(1, 300, 0, header, absent, signature);
        vm.snapshotGasLastCall("anchor", name);
    }
}
