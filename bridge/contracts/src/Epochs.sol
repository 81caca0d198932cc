// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {ICertificateErrors} from "./interfaces/ICertificateErrors.sol";
import {IAllocationManager, OperatorSet} from "./interfaces/IEigenLayer.sol";
import {IEpochs} from "./interfaces/IEpochs.sol";
import {IRegistrar} from "./interfaces/IRegistrar.sol";
import {BLS12381} from "./libraries/BLS12381.sol";
import {DataContract} from "./libraries/DataContract.sol";
import {OperatorSets} from "./libraries/OperatorSets.sol";
import {Signing} from "./libraries/Signing.sol";

/// @notice See {IEpochs}. {Checkpoints} is built on it, so that an anchor reads its set without a call.
abstract contract Epochs is IEpochs, ICertificateErrors, AccessManaged {
    /// @notice What is fixed when the contract is created.
    struct EpochSettings {
        /// @dev The first epoch's number: one more than the last that a genesis file names.
        uint64 firstEpoch;
        /// @dev Most members of a consensus set, at least 1.
        uint16 consensusOperatorsMax;
        /// @dev Least time from one snapshot to the next, in seconds.
        uint32 epochSecondsMin;
        /// @dev For how many blocks stake must stay slashable to count. EigenLayer counts less the further ahead it looks.
        uint32 stakeBlocks;
    }

    /// @dev A snapshot, its first word being what an anchor reads.
    struct Snapshot {
        address consensusData;
        uint16 consensusSize;
        uint40 time;
        address wholeData;
        uint16 wholeSize;
        bytes32 root;
        bytes32 consensusRoot;
    }

    /// @dev A snapshot in the making. Each page is a data contract: the sum of the keys so far (96 bytes), then its members.
    struct Draft {
        uint32 cursor;
        uint32 limit;
        uint40 began;
        uint16 size;
        uint64 stakeGwei;
        address[] pages;
    }

    /// @notice Most operators of a set: what one data contract holds.
    uint256 public constant OPERATORS_MAX = 1_900;
    /// @notice Most strategies that count as stake.
    uint256 public constant STRATEGIES_MAX = 8;
    /// @notice Longest time from a snapshot's first page to its last, in seconds.
    uint256 public constant DRAFT_SECONDS_MAX = 1 days;
    /// @notice Most that one operator counts for, in gwei; so {OPERATORS_MAX} of them fit 64 bits. About a million ether.
    uint256 public constant STAKE_GWEI_MAX = (1 << 50) - 1;

    /// @notice Who is registered, with which keys.
    IRegistrar public immutable registrar;
    /// @notice EigenLayer's AllocationManager, which knows the stakes.
    IAllocationManager public immutable allocationManager;
    /// @inheritdoc IEpochs
    bytes32 public immutable chain;
    /// @inheritdoc IEpochs
    uint256 public immutable consensusOperatorsMax;
    /// @notice Least time from one snapshot to the next, in seconds.
    uint256 public immutable epochSecondsMin;
    /// @notice For how many blocks stake must stay slashable to count.
    uint256 public immutable stakeBlocks;
    address private immutable _avs;
    uint32 private immutable _operatorSetId;

    /// @inheritdoc IEpochs
    uint64 public nextEpoch;
    /// @notice When the last snapshot was completed, in seconds since 1970.
    uint40 public lastEpochTime;
    uint64 private _stakeGweiMin = 1;
    Strategy[] private _strategies;
    Draft private _draft;
    mapping(uint64 number => Snapshot) private _snapshots;

    constructor(IRegistrar registrar_, IAllocationManager allocationManager_, EpochSettings memory settings) {
        (registrar, allocationManager) = (registrar_, allocationManager_);
        (chain, _avs, _operatorSetId) = (registrar_.chain(), registrar_.avs(), registrar_.operatorSetId());
        (consensusOperatorsMax, epochSecondsMin) = (settings.consensusOperatorsMax, settings.epochSecondsMin);
        (stakeBlocks, nextEpoch) = (settings.stakeBlocks, settings.firstEpoch);
    }

    /// @inheritdoc IEpochs
    function extend(uint256 count) external {
        _extend(count);
    }

    /// @inheritdoc IEpochs
    function finish(uint256[] calldata consensus) external {
        _finish(consensus);
    }

    /// @inheritdoc IEpochs
    function roll(uint256[] calldata consensus) external {
        if (_draft.limit == 0 || _isStale(_draft) || _draft.cursor < _draft.limit) _extend(type(uint32).max);
        _finish(consensus);
    }

    /// @inheritdoc IEpochs
    function setStrategies(Strategy[] calldata strategies_, uint64 stakeGweiMin) external restricted {
        if (strategies_.length == 0 || strategies_.length > STRATEGIES_MAX || stakeGweiMin == 0) {
            revert InvalidStrategies();
        }
        delete _strategies;
        address last = address(0);
        for (uint256 i = 0; i < strategies_.length; ++i) {
            if (strategies_[i].strategy <= last || strategies_[i].weiPerShareE18 == 0) revert InvalidStrategies();
            last = strategies_[i].strategy;
            _strategies.push(strategies_[i]);
        }
        _stakeGweiMin = stakeGweiMin;
        delete _draft;
        emit StrategiesSet(strategies_, stakeGweiMin);
    }

    /// @inheritdoc IEpochs
    function draft() external view returns (uint256 cursor, uint256 limit, uint256 size) {
        return (_draft.cursor, _draft.limit, _draft.size);
    }

    /// @inheritdoc IEpochs
    function member(uint64 number, uint256 index) external view returns (uint256 registration, uint64 stakeGwei) {
        Set memory whole = epoch(number).whole;
        if (index >= whole.size) revert UnknownMember(index);
        return OperatorSets.member(whole, index);
    }

    /// @inheritdoc IEpochs
    function members(uint64 number, bool consensus)
        external
        view
        returns (uint256[] memory registrations, uint64[] memory stakesGwei)
    {
        Epoch memory found = epoch(number);
        Set memory set = consensus ? found.consensus : found.whole;
        registrations = new uint256[](set.size);
        stakesGwei = new uint64[](set.size);
        for (uint256 i = 0; i < set.size; ++i) {
            (registrations[i], stakesGwei[i]) = OperatorSets.member(set, i);
        }
    }

    /// @inheritdoc IEpochs
    function strategies() external view returns (Strategy[] memory, uint64 stakeGweiMin) {
        return (_strategies, _stakeGweiMin);
    }

    /// @inheritdoc IEpochs
    function epoch(uint64 number) public view returns (Epoch memory) {
        Snapshot storage snapshot = _snapshots[number];
        if (snapshot.time == 0) revert UnknownEpoch(number);
        return Epoch({
            whole: Set({data: snapshot.wholeData, size: snapshot.wholeSize}),
            consensus: Set({data: snapshot.consensusData, size: snapshot.consensusSize}),
            time: snapshot.time,
            root: snapshot.root,
            consensusRoot: snapshot.consensusRoot
        });
    }

    /// @dev The consensus set of an epoch whose snapshot is at most `secondsMax` old.
    function _freshConsensus(uint64 number, uint256 secondsMax) internal view returns (Set memory) {
        Snapshot storage snapshot = _snapshots[number];
        uint256 word;
        // The first three fields at once, which the compiler reads one by one.
        assembly ("memory-safe") {
            word := sload(snapshot.slot)
        }
        uint256 time = uint40(word >> 176);
        if (time == 0) revert UnknownEpoch(number);
        if (block.timestamp > time + secondsMax) revert StaleEpoch(number);
        return Set({data: address(uint160(word)), size: uint16(word >> 160)});
    }

    function _extend(uint256 count) private {
        Draft storage made = _draft;
        if (made.limit == 0 || _isStale(made)) _begin();
        (uint256 from, uint256 to) = (made.cursor, made.limit);
        if (count < to - from) to = from + count;
        if (from == to) revert NothingToExtend();

        (bytes memory page, uint256 added, uint256 stakeGwei) = _page(from, to);
        uint256 size = made.size + added;
        if (size > OPERATORS_MAX) revert TooManyOperators(size);
        made.pages.push(DataContract.write(page));
        made.cursor = uint32(to);
        made.size = uint16(size);
        made.stakeGwei += uint64(stakeGwei);
        emit EpochExtended(nextEpoch, to, made.limit);
    }

    function _begin() private {
        uint256 earliest = lastEpochTime + epochSecondsMin;
        if (block.timestamp < earliest) revert EpochTooEarly(earliest);
        if (registrar.packed() < registrar.count()) registrar.pack();
        delete _draft;
        _draft.limit = uint32(registrar.packed());
        _draft.began = uint40(block.timestamp);
    }

    function _isStale(Draft storage made) private view returns (bool) {
        return block.timestamp > made.began + DRAFT_SECONDS_MAX;
    }

    /// @dev The page of the registrations from `from` to `to`: the sum of the keys so far, and members.
    function _page(uint256 from, uint256 to) private view returns (bytes memory page, uint256 size, uint256 totalGwei) {
        uint256[] memory stakesGwei = _stakes(registrar.accounts(from, to));
        bytes32[8] memory points;
        _loadSum(points);
        page = new bytes(OperatorSets.KEY_BYTES + OperatorSets.MEMBER_BYTES * (to - from) + 32);
        (uint256 chunkIndex, address chunk) = (type(uint256).max, address(0));
        for (uint256 index = from; index < to; ++index) {
            uint256 stakeGwei = stakesGwei[index - from];
            if (stakeGwei == 0) continue;
            if (index / OperatorSets.CHUNK_KEYS != chunkIndex) {
                chunkIndex = index / OperatorSets.CHUNK_KEYS;
                chunk = registrar.keys(chunkIndex);
            }
            OperatorSets.addKey(points, chunk, index % OperatorSets.CHUNK_KEYS);
            OperatorSets.putMember(page, OperatorSets.KEY_BYTES, size++, stakeGwei, index);
            totalGwei += stakeGwei;
        }
        OperatorSets.putKey(page, points);
        assembly ("memory-safe") {
            // 96 for the sum, 10 for each member.
            mstore(page, add(96, mul(size, 10)))
        }
    }

    /// @dev The sum of the keys of the draft's pages so far.
    function _loadSum(bytes32[8] memory points) private view {
        uint256 pages = _draft.pages.length;
        if (pages == 0) return;
        OperatorSets.loadKey(points, _draft.pages[pages - 1], 0);
        assembly ("memory-safe") {
            mcopy(points, add(points, 0x80), 0x80)
        }
    }

    /// @dev What accounts count for, in gwei; none for zero accounts and for those with too little.
    function _stakes(address[] memory accounts) private view returns (uint256[] memory stakesGwei) {
        stakesGwei = new uint256[](accounts.length);
        (address[] memory active, uint256[] memory places) = _active(accounts);
        (uint256 count, uint256 least) = (_strategies.length, _stakeGweiMin);
        if (count == 0) revert InvalidStrategies();
        address[] memory addresses = new address[](count);
        uint256[] memory weiPerShareE18 = new uint256[](count);
        for (uint256 i = 0; i < count; ++i) {
            (addresses[i], weiPerShareE18[i]) = (_strategies[i].strategy, _strategies[i].weiPerShareE18);
        }
        uint256[][] memory shares = allocationManager.getMinimumSlashableStake(
            OperatorSet({avs: _avs, id: _operatorSetId}), active, addresses, uint32(block.number + stakeBlocks)
        );
        for (uint256 i = 0; i < active.length; ++i) {
            uint256 stakeE36 = 0;
            for (uint256 j = 0; j < count; ++j) {
                stakeE36 += shares[i][j] * weiPerShareE18[j];
            }
            // From 10⁻¹⁸ wei to gwei.
            uint256 stakeGwei = stakeE36 / 1e27;
            if (stakeGwei > STAKE_GWEI_MAX) stakeGwei = STAKE_GWEI_MAX;
            if (stakeGwei >= least) stakesGwei[places[i]] = stakeGwei;
        }
    }

    /// @dev The accounts that aren't zero, and where they stand.
    function _active(address[] memory accounts)
        private
        pure
        returns (address[] memory active, uint256[] memory places)
    {
        (active, places) = (new address[](accounts.length), new uint256[](accounts.length));
        uint256 count = 0;
        for (uint256 i = 0; i < accounts.length; ++i) {
            if (accounts[i] == address(0)) continue;
            (active[count], places[count]) = (accounts[i], i);
            ++count;
        }
        assembly ("memory-safe") {
            mstore(active, count)
            mstore(places, count)
        }
    }

    function _finish(uint256[] calldata consensus) private {
        Draft storage made = _draft;
        if (made.limit == 0 || made.cursor < made.limit || _isStale(made)) {
            revert EpochIncomplete(made.cursor, made.limit);
        }
        uint256 size = made.size;
        if (size == 0) revert EmptySet();
        (uint64 number, address[] memory chunks) = (nextEpoch, _chunks(made.limit));
        bytes memory entries = _entries(made.pages, size);
        bytes32[8] memory points;
        _loadSum(points);

        Snapshot storage snapshot = _snapshots[number];
        uint64 stakeGwei = made.stakeGwei;
        address data = OperatorSets.write(points, stakeGwei, entries, chunks);
        (snapshot.wholeData, snapshot.wholeSize) = (data, uint16(size));
        bytes32 root = _root(number, entries, chunks);
        (snapshot.root, snapshot.time) = (root, uint40(block.timestamp));
        if (consensus.length == 0) {
            if (size > consensusOperatorsMax) revert WrongConsensusSet();
            (snapshot.consensusData, snapshot.consensusSize, snapshot.consensusRoot) = (data, uint16(size), root);
        } else {
            _finishConsensus(number, OperatorSets.select(entries, consensus, consensusOperatorsMax), chunks);
        }
        (nextEpoch, lastEpochTime) = (number + 1, uint40(block.timestamp));
        delete _draft;
        emit EpochStarted(number, root, snapshot.consensusRoot, uint16(size), snapshot.consensusSize, stakeGwei);
    }

    /// @dev Writes the set that signs checkpoints, where it's a part of the whole.
    function _finishConsensus(uint64 number, bytes memory entries, address[] memory chunks) private {
        Snapshot storage snapshot = _snapshots[number];
        bytes32[8] memory points;
        uint256 stakeGwei = 0;
        uint256 size = entries.length / OperatorSets.MEMBER_BYTES;
        for (uint256 i = 0; i < size; ++i) {
            (uint256 registration, uint256 stake) = OperatorSets.memberOf(entries, i);
            stakeGwei += stake;
            (uint256 chunk, uint256 position) =
                (registration / OperatorSets.CHUNK_KEYS, registration % OperatorSets.CHUNK_KEYS);
            OperatorSets.addKey(points, chunks[chunk], position);
        }
        snapshot.consensusData = OperatorSets.write(points, uint64(stakeGwei), entries, chunks);
        snapshot.consensusSize = uint16(size);
        snapshot.consensusRoot = _root(number, entries, chunks);
    }

    /// @dev The chunks that hold the keys of registrations up to `limit`.
    function _chunks(uint256 limit) private view returns (address[] memory chunks) {
        chunks = new address[]((limit + OperatorSets.CHUNK_KEYS - 1) / OperatorSets.CHUNK_KEYS);
        for (uint256 i = 0; i < chunks.length; ++i) {
            chunks[i] = registrar.keys(i);
        }
    }

    /// @dev The members of all pages.
    function _entries(address[] storage pages, uint256 size) private view returns (bytes memory entries) {
        entries = new bytes(OperatorSets.MEMBER_BYTES * size);
        uint256 end;
        assembly ("memory-safe") {
            end := add(entries, 0x20)
        }
        for (uint256 i = 0; i < pages.length; ++i) {
            address page = pages[i];
            assembly ("memory-safe") {
                // Past the zero byte and the sum of the keys.
                let length := sub(extcodesize(page), 97)
                extcodecopy(page, end, 97, length)
                end := add(end, length)
            }
        }
    }

    /// @dev The set's root as the ledger has it (`OperatorSet::root`).
    function _root(uint64 number, bytes memory entries, address[] memory chunks) private view returns (bytes32) {
        uint256 size = entries.length / OperatorSets.MEMBER_BYTES;
        uint256[] memory registrations = new uint256[](size);
        for (uint256 i = 0; i < size; ++i) {
            (registrations[i],) = OperatorSets.memberOf(entries, i);
        }
        (address[] memory accounts, bytes32[] memory peerKeys) = registrar.records(registrations);
        bytes memory head = Signing.operatorSetHead(chain, number, uint64(size));
        // A word longer, since members are written as words; so is every buffer of members.
        bytes memory preimage = new bytes(head.length + 108 * size + 32);
        uint256 end;
        assembly ("memory-safe") {
            mcopy(add(preimage, 0x20), add(head, 0x20), mload(head))
            end := add(add(preimage, 0x20), mload(head))
        }
        bytes32[8] memory points;
        for (uint256 i = 0; i < size; ++i) {
            (uint256 registration, uint256 stakeGwei) = OperatorSets.memberOf(entries, i);
            OperatorSets.loadKey(
                points, chunks[registration / OperatorSets.CHUNK_KEYS], registration % OperatorSets.CHUNK_KEYS
            );
            uint256 flags = BLS12381.compressedFlags(uint256(points[6]), uint256(points[7]));
            (address account, bytes32 peerKey) = (accounts[i], peerKeys[i]);
            assembly ("memory-safe") {
                mstore(end, shl(96, account))
                mstore(add(end, 20), peerKey)
                mstore(add(end, 52), shl(128, or(mload(add(points, 0x80)), flags)))
                mstore(add(end, 68), mload(add(points, 0xa0)))
                mstore(add(end, 100), shl(192, stakeGwei))
                end := add(end, 108)
            }
        }
        assembly ("memory-safe") {
            mstore(preimage, sub(end, add(preimage, 0x20)))
        }
        return sha256(preimage);
    }
}
