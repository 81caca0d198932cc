// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

/// @notice A pause that ends by itself, and can't follow the last one at once: time to react to a fault, and not a way to keep
/// what belongs to others.
abstract contract LimitedPause is Pausable, AccessManaged {
    /// @notice How long a pause lasts at most, and how long after its end the next one can begin at the earliest, in seconds.
    uint256 public constant PAUSE_SECONDS = 7 days;

    /// @notice When the last pause ends or ended, in seconds since 1970.
    uint256 public pauseEnd;

    /// @notice The next pause can't begin before `time`.
    error PauseTooSoon(uint256 time);

    /// @notice Begins a pause. Restricted.
    function pause() external restricted {
        uint256 earliest = pauseEnd == 0 ? 0 : pauseEnd + PAUSE_SECONDS;
        if (block.timestamp < earliest) revert PauseTooSoon(earliest);
        pauseEnd = block.timestamp + PAUSE_SECONDS;
        emit Paused(msg.sender);
    }

    /// @notice Ends a pause early. Restricted.
    function unpause() external restricted whenPaused {
        pauseEnd = block.timestamp;
        emit Unpaused(msg.sender);
    }

    /// @notice Whether a pause lasts.
    function paused() public view override returns (bool) {
        return block.timestamp < pauseEnd;
    }
}
