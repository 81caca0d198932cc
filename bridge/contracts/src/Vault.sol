// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {BitMaps} from "@openzeppelin/contracts/utils/structs/BitMaps.sol";
import {LimitedPause} from "./LimitedPause.sol";
import {ICheckpoints} from "./interfaces/ICheckpoints.sol";
import {IVault} from "./interfaces/IVault.sol";
import {Header, HeaderProof} from "./interfaces/Types.sol";
import {KeccakTrees} from "./libraries/KeccakTrees.sol";
import {StateTree} from "./libraries/StateTree.sol";

/// @notice See {IVault}.
///
/// In exit mode holders leave by three ways that don't overlap: a claim that the last anchor's tree has, what its state says
/// that an account has besides, and deposits in blocks which it hadn't followed yet.
contract Vault is IVault, LimitedPause, ReentrancyGuard {
    using BitMaps for BitMaps.BitMap;
    using SafeERC20 for IERC20;

    /// @notice Gas that comes with a payment in ether: enough for a wallet that is a contract, too little to starve a batch.
    uint256 public constant PAYMENT_GAS = 50_000;

    /// @notice The checkpoints that claims are proven against.
    ICheckpoints public immutable checkpoints;

    /// @inheritdoc IVault
    uint64 public depositCount;
    /// @inheritdoc IVault
    mapping(bytes32 asset => uint256) public reserve;
    /// @inheritdoc IVault
    mapping(address recipient => mapping(bytes32 asset => uint256)) public keptFor;
    /// @inheritdoc IVault
    mapping(address account => mapping(bytes32 asset => bool)) public hasExited;

    /// @dev Hashes of deposits, so that those can be paid back which no checkpoint credits.
    mapping(uint64 index => bytes32) private _deposits;
    BitMaps.BitMap private _paid;

    /// @param authority The AccessManager.
    /// @param checkpoints_ The checkpoints that claims are proven against.
    constructor(address authority, ICheckpoints checkpoints_) AccessManaged(authority) {
        checkpoints = checkpoints_;
    }

    /// @inheritdoc IVault
    function depositEther(address account) external payable nonReentrant whenNotPaused returns (uint64 index) {
        return _deposit(account, 0, msg.value);
    }

    /// @inheritdoc IVault
    function deposit(IERC20 token, uint256 amount, address account)
        external
        nonReentrant
        whenNotPaused
        returns (uint64 index)
    {
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        return _deposit(account, _word(token), token.balanceOf(address(this)) - before);
    }

    /// @inheritdoc IVault
    function withdraw(Claim[] calldata claims, HeaderProof calldata proof) external nonReentrant whenNotPaused {
        checkpoints.verifyHeader(proof);
        bytes32 root = proof.headers[0].claims;
        for (uint256 i = 0; i < claims.length; ++i) {
            _payClaim(claims[i], root);
        }
    }

    /// @inheritdoc IVault
    function exit(address account, bytes32 asset, uint128 amount, Header calldata header, bytes32[] calldata siblings)
        external
        nonReentrant
    {
        _checkExitHeader(header);
        if (hasExited[account][asset]) revert AlreadyExited();
        bytes memory key = StateTree.balanceKey(account, asset);
        if (!StateTree.has(header.state, key, StateTree.balanceValue(amount), siblings)) revert BalanceNotProven();
        hasExited[account][asset] = true;
        emit Exited(account, asset, amount);
        _pay(account, asset, amount);
    }

    /// @inheritdoc IVault
    function returnDeposit(Deposit calldata made, Header calldata header) external nonReentrant {
        if (checkpoints.mode() != ICheckpoints.Mode.Exit) revert NotInExit();
        if (checkpoints.exitHeader() != 0) {
            _checkExitHeader(header);
            if (made.blockNumber <= header.ethereumNumber) revert DepositCredited(made.index);
        }
        if (_deposits[made.index] != _depositHash(made)) revert UnknownDeposit(made.index);
        delete _deposits[made.index];
        emit DepositReturned(made.index, made.account, made.asset, made.amount);
        _pay(made.account, made.asset, made.amount);
    }

    /// @inheritdoc IVault
    function collect(bytes32 asset, address to) external nonReentrant {
        uint256 amount = keptFor[msg.sender][asset];
        keptFor[msg.sender][asset] = 0;
        if (amount == 0 || !_send(to, asset, amount, gasleft())) revert NothingCollected();
        emit Collected(msg.sender, asset, amount, to);
    }

    /// @inheritdoc IVault
    function isPaid(uint64 index) external view returns (bool) {
        return _paid.get(index);
    }

    function _deposit(address account, bytes32 asset, uint256 amount) private returns (uint64 index) {
        if (checkpoints.mode() != ICheckpoints.Mode.Open) revert DepositsClosed();
        if (account == address(0)) revert NoAccount();
        if (amount == 0) revert NothingDeposited();
        uint256 held = reserve[asset] + amount;
        if (held > type(uint128).max) revert AmountTooLarge();
        reserve[asset] = held;
        index = depositCount++;
        _deposits[index] = _depositHash(
            Deposit({
                index: index, account: account, asset: asset, amount: uint128(amount), blockNumber: uint64(block.number)
            })
        );
        emit Deposited(index, account, asset, uint128(amount), msg.sender);
    }

    function _payClaim(Claim calldata claim, bytes32 root) private {
        (uint64 index, address recipient, bytes32 asset, uint128 amount) =
            (claim.index, claim.recipient, claim.asset, claim.amount);
        if (_paid.get(index)) revert AlreadyPaid(index);
        if (!KeccakTrees.hasClaim(root, index, recipient, asset, amount, claim.siblings)) {
            revert ClaimNotProven(index);
        }
        _paid.set(index);
        emit ClaimPaid(index, recipient, asset, amount);
        _pay(recipient, asset, amount);
    }

    /// @dev Pays, or keeps the payment for a recipient that doesn't take it.
    function _pay(address recipient, bytes32 asset, uint128 amount) private {
        uint256 held = reserve[asset];
        if (amount > held) revert InsufficientReserve(asset, held, amount);
        reserve[asset] = held - amount;
        if (_send(recipient, asset, amount, PAYMENT_GAS)) return;
        keptFor[recipient][asset] += amount;
        emit PaymentKept(recipient, asset, amount);
    }

    /// @dev Whether the payment arrived. No bytes that the recipient returns are copied.
    function _send(address to, bytes32 asset, uint256 amount, uint256 gasLimit) private returns (bool sent) {
        if (asset != 0) return _token(asset).trySafeTransfer(to, amount);
        assembly ("memory-safe") {
            sent := call(gasLimit, to, amount, 0, 0, 0, 0)
        }
    }

    function _checkExitHeader(Header calldata header) private view {
        if (checkpoints.mode() != ICheckpoints.Mode.Exit) revert NotInExit();
        bytes32 id = checkpoints.headerId(header);
        if (id != checkpoints.exitHeader()) revert WrongExitHeader(id);
    }

    function _depositHash(Deposit memory made) private pure returns (bytes32) {
        return keccak256(abi.encode(made));
    }

    function _word(IERC20 token) private pure returns (bytes32) {
        return bytes32(1 << 160 | uint256(uint160(address(token))));
    }

    function _token(bytes32 asset) private pure returns (IERC20) {
        if (uint256(asset) >> 160 != 1) revert UnknownAsset(asset);
        return IERC20(address(uint160(uint256(asset))));
    }
}
