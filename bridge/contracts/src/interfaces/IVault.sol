// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Header, HeaderProof} from "./Types.sol";

/// @notice Holds what is deposited, and pays what leaves the ledger.
///
/// An asset is a word: zero for ether, `1 << 160 | token` for an ERC-20 token. Amounts fit 128 bits. Whatever a proof says,
/// no more of an asset is paid than was deposited of it.
interface IVault {
    /// @notice A claim with its proof.
    struct Claim {
        /// @dev Its place in the tree of claims, below 2³².
        uint64 index;
        /// @dev Who is paid.
        address recipient;
        /// @dev In what.
        bytes32 asset;
        /// @dev How much.
        uint128 amount;
        /// @dev Siblings from the leaf upwards.
        bytes32[32] siblings;
    }

    /// @notice A deposit, as {Deposited} told it.
    struct Deposit {
        /// @dev Its number, from 0.
        uint64 index;
        /// @dev Who is credited.
        address account;
        /// @dev With what.
        bytes32 asset;
        /// @dev How much.
        uint128 amount;
        /// @dev The block that has it.
        uint64 blockNumber;
    }

    /// @notice An account is to be credited on the ledger.
    /// @param index The deposit's number, from 0, without gaps.
    /// @param from Who paid.
    event Deposited(uint64 indexed index, address indexed account, bytes32 indexed asset, uint128 amount, address from);
    /// @notice A claim was paid.
    event ClaimPaid(uint64 indexed index, address indexed recipient, bytes32 indexed asset, uint128 amount);
    /// @notice An account left with its balance.
    event Exited(address indexed account, bytes32 indexed asset, uint128 amount);
    /// @notice A deposit that no checkpoint had credited was paid back.
    event DepositReturned(uint64 indexed index, address indexed account, bytes32 indexed asset, uint128 amount);
    /// @notice A payment didn't arrive; its recipient can {collect} it.
    event PaymentKept(address indexed recipient, bytes32 indexed asset, uint128 amount);
    /// @notice A payment that had been kept was collected.
    event Collected(address indexed recipient, bytes32 indexed asset, uint256 amount, address to);

    /// @notice Nothing was deposited.
    error NothingDeposited();
    /// @notice More was deposited of an asset than 128 bits hold.
    error AmountTooLarge();
    /// @notice The account is the zero address.
    error NoAccount();
    /// @notice Deposits are closed: the checkpoints are frozen or in exit mode.
    error DepositsClosed();
    /// @notice The header's tree doesn't have the claim.
    error ClaimNotProven(uint64 index);
    /// @notice The claim is paid.
    error AlreadyPaid(uint64 index);
    /// @notice The word names no asset of Ethereum.
    error UnknownAsset(bytes32 asset);
    /// @notice The vault holds less of the asset: what's claimed was never deposited.
    error InsufficientReserve(bytes32 asset, uint256 reserve, uint256 amount);
    /// @notice The checkpoints aren't in exit mode.
    error NotInExit();
    /// @notice The header isn't the one by which holders leave.
    error WrongExitHeader(bytes32 header);
    /// @notice The header's state doesn't have the balance.
    error BalanceNotProven();
    /// @notice The account has left with this asset, or the deposit was paid back.
    error AlreadyExited();
    /// @notice The deposit isn't this one, or none.
    error UnknownDeposit(uint64 index);
    /// @notice The checkpoint by which holders leave has credited the deposit.
    error DepositCredited(uint64 index);
    /// @notice There's nothing to collect, or it can't be sent there.
    error NothingCollected();

    /// @notice Deposits ether for `account`.
    /// @return index The deposit's number.
    function depositEther(address account) external payable returns (uint64 index);

    /// @notice Deposits `amount` of an ERC-20 token, which the caller has approved, for `account`. Credited is what
    /// arrives. Tokens whose balances change by themselves aren't for this vault.
    /// @return index The deposit's number.
    function deposit(IERC20 token, uint256 amount, address account) external returns (uint64 index);

    /// @notice Pays claims, each once, against a checkpoint's tree of claims. Anyone may call it, for anyone. A recipient
    /// that doesn't take its payment leaves the others theirs, and can {collect} it.
    function withdraw(Claim[] calldata claims, HeaderProof calldata proof) external;

    /// @notice Exit mode: pays an account's balance as of the last anchor.
    /// @param header The header with the id {ICheckpoints.exitHeader}.
    /// @param siblings Siblings in its state tree, from the leaf upwards, empty subtrees included.
    function exit(address account, bytes32 asset, uint128 amount, Header calldata header, bytes32[] calldata siblings)
        external;

    /// @notice Exit mode: pays back a deposit that was made after the block which the last anchor had followed.
    /// @param header The header with the id {ICheckpoints.exitHeader}; anything if that is zero.
    function returnDeposit(Deposit calldata made, Header calldata header) external;

    /// @notice Sends what was kept for the caller to `to`.
    function collect(bytes32 asset, address to) external;

    /// @notice How many deposits there have been.
    function depositCount() external view returns (uint64);

    /// @notice Whether the claim is paid.
    function isPaid(uint64 index) external view returns (bool);

    /// @notice What was deposited of the asset and hasn't left; what is kept for recipients isn't counted.
    function reserve(bytes32 asset) external view returns (uint256);

    /// @notice What is kept for a recipient that didn't take its payment.
    function keptFor(address recipient, bytes32 asset) external view returns (uint256);

    /// @notice Whether the account has left with this asset.
    function hasExited(address account, bytes32 asset) external view returns (bool);
}
