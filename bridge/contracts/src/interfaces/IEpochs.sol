// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @notice The operator set of each epoch, taken from EigenLayer's slashable stake.
///
/// An epoch has two sets. The *whole set*: all registered operators with stake, ascending by registration index. The
/// *consensus set*: those of highest stake among them (of equal ones those that come first), at most
/// {consensusOperatorsMax}, in the same order; it signs checkpoints. A snapshot is taken by {extend} (any number of
/// pages) and {finish}, or by {roll} at once; anyone may.
interface IEpochs {
    /// @notice A snapshot of one set of an epoch.
    struct Set {
        /// @dev A data contract: a zero byte, the sum of all keys (x, y; 96 bytes), the stake in all (8), the size (2), of
        /// each member its stake in gwei (8) and its registration index (2); then the addresses (20 each) of the
        /// {IRegistrar.keys} chunks. Integers are big-endian.
        address data;
        /// @dev How many members there are.
        uint16 size;
    }

    /// @notice An epoch.
    struct Epoch {
        /// @dev All operators with stake.
        Set whole;
        /// @dev Those that sign checkpoints.
        Set consensus;
        /// @dev When the snapshot was completed, in seconds since 1970.
        uint40 time;
        /// @dev `sha256(tag ‖ chain ‖ epoch ‖ size ‖ members)` of the whole set, a member being account (20 bytes), node
        /// key (32), compressed BLS key (48), stake in gwei (8).
        bytes32 root;
        /// @dev The same of the consensus set.
        bytes32 consensusRoot;
    }

    /// @notice A strategy of EigenLayer that counts as stake.
    struct Strategy {
        /// @dev The strategy's contract. Strategies ascend by address.
        address strategy;
        /// @dev Wei of stake that 1e18 shares count for.
        uint96 weiPerShareE18;
    }

    /// @notice An epoch's snapshot was taken; {members} tells the rest.
    event EpochStarted(
        uint64 indexed epoch, bytes32 root, bytes32 consensusRoot, uint16 size, uint16 consensusSize, uint64 stakeGwei
    );
    /// @notice A snapshot has got as far as the registration `cursor` (exclusive) of `limit`.
    event EpochExtended(uint64 indexed epoch, uint256 cursor, uint256 limit);
    /// @notice What counts as stake from the next snapshot on.
    event StrategiesSet(Strategy[] strategies, uint64 stakeGweiMin);

    /// @notice The epoch's snapshot hasn't been taken.
    error UnknownEpoch(uint64 epoch);
    /// @notice The epoch's snapshot is too old to sign by.
    error StaleEpoch(uint64 epoch);
    /// @notice The next epoch can't begin before `time`.
    error EpochTooEarly(uint256 time);
    /// @notice The snapshot isn't complete.
    error EpochIncomplete(uint256 cursor, uint256 limit);
    /// @notice The page can't be added: it is empty, or all are there.
    error NothingToExtend();
    /// @notice No operator has enough stake.
    error EmptySet();
    /// @notice More operators than a set can have.
    error TooManyOperators(uint256 count);
    /// @notice The consensus set given isn't the one of highest stake.
    error WrongConsensusSet();
    /// @notice Strategies don't ascend by address, are none or too many, or one counts nothing.
    error InvalidStrategies();
    /// @notice There's no member with this index.
    error UnknownMember(uint256 member);

    /// @notice Takes the stakes of the next `count` registrations; begins a snapshot if there's none in the making, or
    /// the one in the making has grown too old. A new one first packs the keys that wait, of one chunk at most.
    function extend(uint256 count) external;

    /// @notice Completes the snapshot.
    /// @param consensus The consensus set: bit `i % 256` of word `i / 256` is member `i` of the whole set. Empty if that is
    /// everyone, as it must be where the whole set isn't larger than {consensusOperatorsMax}.
    function finish(uint256[] calldata consensus) external;

    /// @notice Takes a snapshot at once. Reverts with out-of-gas where there are too many operators for one transaction.
    function roll(uint256[] calldata consensus) external;

    /// @notice Sets what counts as stake. Restricted.
    /// @param stakeGweiMin Least stake that puts an operator into a set, at least 1.
    function setStrategies(Strategy[] calldata strategies, uint64 stakeGweiMin) external;

    /// @notice The epoch's snapshot; reverts with {UnknownEpoch} if there's none.
    function epoch(uint64 number) external view returns (Epoch memory);

    /// @notice The number of the next epoch.
    function nextEpoch() external view returns (uint64);

    /// @notice The snapshot in the making: registrations up to `cursor` of `limit` are in, `size` of them with stake.
    function draft() external view returns (uint256 cursor, uint256 limit, uint256 size);

    /// @notice The member of the epoch's whole set: its registration index and its stake.
    function member(uint64 number, uint256 index) external view returns (uint256 registration, uint64 stakeGwei);

    /// @notice All members of the epoch's whole set (or of its consensus set): registration indices and stakes.
    function members(uint64 number, bool consensus)
        external
        view
        returns (uint256[] memory registrations, uint64[] memory stakesGwei);

    /// @notice What counts as stake.
    function strategies() external view returns (Strategy[] memory, uint64 stakeGweiMin);

    /// @notice The Lamina network: its name, padded with zeros.
    function chain() external view returns (bytes32);

    /// @notice Most members of a consensus set.
    function consensusOperatorsMax() external view returns (uint256);
}
