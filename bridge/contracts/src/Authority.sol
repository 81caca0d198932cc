// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";

/// @notice Who may administer what, after which delay; and Lamina's account (AVS) on EigenLayer.
///
/// EigenLayer's administrative calls differ between its versions, so no contract of Lamina makes them: they go through
/// {AccessManager.execute}, which calls whatever an administrator scheduled, as this account. README.md lists the roles.
contract Authority is AccessManager {
    /// @param admin The first administrator, who sets up the roles and then hands over.
    constructor(address admin) AccessManager(admin) {}
}
