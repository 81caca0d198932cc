// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @dev A token; takes a fee of each transfer, and refuses some recipients.
contract Token is ERC20 {
    uint256 public immutable feePercent;
    mapping(address recipient => bool) public refused;

    constructor(uint256 feePercent_) ERC20("Token", "T") {
        feePercent = feePercent_;
    }

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function refuse(address recipient) external {
        refused[recipient] = true;
    }

    function _update(address from, address to, uint256 amount) internal override {
        require(!refused[to], "refused");
        if (from == address(0) || to == address(0)) return super._update(from, to, amount);
        uint256 fee = amount * feePercent / 100;
        super._update(from, address(0), fee);
        super._update(from, to, amount - fee);
    }
}
