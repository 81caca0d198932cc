// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import {IAccessManager} from "@openzeppelin/contracts/access/manager/IAccessManager.sol";
import {LimitedPause} from "../src/LimitedPause.sol";
import {EigenLayer} from "./support/EigenLayer.sol";
import {Network} from "./support/Network.sol";

/// @dev The roles as README.md has them: guardians pause at once, administrators act after a delay.
contract AuthorityTest is Network {
    uint64 private constant ADMIN = 0;
    uint64 private constant GUARDIAN = 1;
    uint32 private constant DELAY = 2 days;
    address private constant GOVERNOR = address(0x90e);
    address private constant WATCH = address(0x3a7c);

    function setUp() external {
        start(0, 4);
        bytes4[] memory pauses = new bytes4[](1);
        pauses[0] = LimitedPause.pause.selector;
        manager.setTargetFunctionRole(address(vault), pauses, GUARDIAN);
        manager.grantRole(GUARDIAN, WATCH, 0);
        manager.grantRole(ADMIN, GOVERNOR, DELAY);
        manager.renounceRole(ADMIN, address(this));
    }

    function test_guardians_pause_at_once_and_do_nothing_else() external {
        LimitedPause paused = LimitedPause(address(vault));
        vm.prank(WATCH);
        paused.pause();
        yes(paused.paused(), "paused");
        vm.prank(WATCH);
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, WATCH));
        paused.unpause();
        vm.prank(WATCH);
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, WATCH));
        registrar.setOpen(false);
    }

    function test_administrators_act_after_their_delay() external {
        bytes memory call_ = abi.encodeCall(registrar.setOpen, (false));
        vm.prank(GOVERNOR);
        vm.expectPartialRevert(IAccessManager.AccessManagerNotScheduled.selector);
        registrar.setOpen(false);
        vm.prank(GOVERNOR);
        manager.schedule(address(registrar), call_, 0);
        vm.warp(vm.getBlockTimestamp() + DELAY - 1);
        vm.prank(GOVERNOR);
        vm.expectPartialRevert(IAccessManager.AccessManagerNotReady.selector);
        manager.execute(address(registrar), call_);
        vm.warp(vm.getBlockTimestamp() + 1);
        vm.prank(GOVERNOR);
        manager.execute(address(registrar), call_);
        yes(!registrar.isOpen(), "closed");
    }

    /// @dev The authority is the service's account: it makes EigenLayer's administrative calls, whatever they are.
    function test_eigenlayer_is_administered_as_the_service() external {
        bytes memory call_ = abi.encodeCall(EigenLayer.appoint, (WATCH));
        vm.prank(GOVERNOR);
        manager.schedule(address(eigenLayer), call_, 0);
        vm.warp(vm.getBlockTimestamp() + DELAY);
        vm.prank(GOVERNOR);
        manager.execute(address(eigenLayer), call_);
        yes(eigenLayer.appointed(WATCH), "appointed");
        eq(registrar.avs(), address(manager), "service");
        vm.prank(WATCH);
        vm.expectPartialRevert(IAccessManager.AccessManagerUnauthorizedCall.selector);
        manager.execute(address(eigenLayer), call_);
    }
}
