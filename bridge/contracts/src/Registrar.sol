// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {ICertificateErrors} from "./interfaces/ICertificateErrors.sol";
import {IRegistrar} from "./interfaces/IRegistrar.sol";
import {BLS12381} from "./libraries/BLS12381.sol";
import {DataContract} from "./libraries/DataContract.sol";
import {OperatorSets} from "./libraries/OperatorSets.sol";
import {Signing} from "./libraries/Signing.sol";

/// @notice See {IRegistrar}.
///
/// A key waits in storage until {pack} moves it into a data contract of up to 255 keys, from which certificates read it. The
/// last chunk is written anew as it grows; earlier snapshots keep the address of the one they were made with.
contract Registrar is IRegistrar, ICertificateErrors, AccessManaged {
    /// @dev An operator, but for its BLS key.
    struct Record {
        address account;
        bool active;
        bytes32 peerKey;
    }

    /// @dev Most registrations: a snapshot has two bytes for an index.
    uint256 private constant REGISTRATIONS_MAX = 1 << 16;
    /// @dev Bytes of an encoded {Registration}, all of which are fixed.
    uint256 private constant REGISTRATION_BYTES = 15 * 32;

    /// @notice EigenLayer's AllocationManager, which alone registers operators.
    address public immutable allocationManager;
    /// @inheritdoc IRegistrar
    address public immutable avs;
    /// @inheritdoc IRegistrar
    uint32 public immutable operatorSetId;
    /// @inheritdoc IRegistrar
    bytes32 public immutable chain;

    /// @inheritdoc IRegistrar
    bool public isOpen;
    /// @inheritdoc IRegistrar
    mapping(address operator => bool) public isAdmitted;
    /// @inheritdoc IRegistrar
    uint256 public packed;

    Record[] private _records;
    /// @dev Keys that aren't packed yet, without padding.
    mapping(uint256 index => bytes32[3]) private _waiting;
    address[] private _chunks;
    /// @dev One more than the index of a registered operator.
    mapping(address operator => uint256) private _numbers;
    mapping(bytes32 hash => bool) private _blsKeyTaken;
    mapping(bytes32 key => bool) private _peerKeyTaken;

    /// @param authority The AccessManager.
    /// @param allocationManager_ EigenLayer's AllocationManager.
    /// @param avs_ The account that is the service for EigenLayer: it makes this contract its registrar.
    /// @param operatorSetId_ The operator set that secures Lamina.
    /// @param chain_ The Lamina network: its name, padded with zeros.
    constructor(address authority, address allocationManager_, address avs_, uint32 operatorSetId_, bytes32 chain_)
        AccessManaged(authority)
    {
        BLS12381.selfTest();
        (allocationManager, avs, operatorSetId, chain) = (allocationManager_, avs_, operatorSetId_, chain_);
    }

    modifier onlyAllocationManager() {
        if (msg.sender != allocationManager) revert NotAllocationManager(msg.sender);
        _;
    }

    /// @notice EigenLayer registers an operator. `data` is an encoded {IRegistrar.Registration}.
    function registerOperator(address account, address avs_, uint32[] calldata operatorSetIds, bytes calldata data)
        external
        onlyAllocationManager
    {
        _checkOperatorSet(avs_, operatorSetIds);
        if (!isOpen && !isAdmitted[account]) revert NotAdmitted(account);
        if (_numbers[account] != 0) revert AlreadyRegistered(account);
        if (_records.length == REGISTRATIONS_MAX) revert RegistrarFull();
        if (data.length != REGISTRATION_BYTES) revert MalformedRegistration();
        Registration calldata registration;
        assembly ("memory-safe") {
            registration := data.offset
        }
        bytes memory key = _takeKeys(account, registration);

        uint256 index = _records.length;
        _records.push(Record({account: account, active: true, peerKey: registration.peerKey}));
        _numbers[account] = index + 1;
        _waiting[index] = abi.decode(key, (bytes32[3]));
        emit OperatorRegistered(account, index, registration.peerKey, key, registration.peerProof);
    }

    /// @notice EigenLayer tells that an operator left.
    function deregisterOperator(address account, address avs_, uint32[] calldata operatorSetIds)
        external
        onlyAllocationManager
    {
        _checkOperatorSet(avs_, operatorSetIds);
        uint256 index = indexOf(account);
        _records[index].active = false;
        delete _numbers[account];
        emit OperatorDeregistered(account, index);
    }

    /// @inheritdoc IRegistrar
    function pack() external returns (uint256 end) {
        (uint256 start, uint256 count_) = (packed, _records.length);
        if (start == count_) revert NothingToPack();
        uint256 chunk = start / OperatorSets.CHUNK_KEYS;
        uint256 first = chunk * OperatorSets.CHUNK_KEYS;
        end = first + OperatorSets.CHUNK_KEYS;
        if (end > count_) end = count_;

        bytes memory data = new bytes((end - first) * OperatorSets.KEY_BYTES);
        if (start > first) _copy(_chunks[chunk], data, (start - first) * OperatorSets.KEY_BYTES);
        for (uint256 index = start; index < end; ++index) {
            _moveKey(index, data, (index - first) * OperatorSets.KEY_BYTES);
        }
        address written = DataContract.write(data);
        if (start > first) _chunks[chunk] = written;
        else _chunks.push(written);
        packed = end;
        emit KeysPacked(first, end, written);
    }

    /// @inheritdoc IRegistrar
    function setOpen(bool open) external restricted {
        isOpen = open;
        emit OpenSet(open);
    }

    /// @inheritdoc IRegistrar
    function admit(address account, bool admitted) external restricted {
        isAdmitted[account] = admitted;
        emit Admitted(account, admitted);
    }

    /// @notice Whether this is the registrar of `avs_`.
    function supportsAVS(address avs_) external view returns (bool) {
        return avs_ == avs;
    }

    /// @inheritdoc IRegistrar
    function count() external view returns (uint256) {
        return _records.length;
    }

    /// @inheritdoc IRegistrar
    function keys(uint256 chunk) external view returns (address data) {
        if (chunk >= _chunks.length) revert UnknownIndex(chunk * OperatorSets.CHUNK_KEYS);
        return _chunks[chunk];
    }

    /// @inheritdoc IRegistrar
    function operator(uint256 index) external view returns (Operator memory) {
        if (index >= _records.length) revert UnknownIndex(index);
        Record storage record = _records[index];
        return Operator({account: record.account, active: record.active, peerKey: record.peerKey, blsKey: _key(index)});
    }

    /// @inheritdoc IRegistrar
    function accounts(uint256 first, uint256 end) external view returns (address[] memory found) {
        if (end > _records.length || first > end) revert UnknownIndex(end);
        found = new address[](end - first);
        for (uint256 i = 0; i < found.length; ++i) {
            Record storage record = _records[first + i];
            if (record.active) found[i] = record.account;
        }
    }

    /// @inheritdoc IRegistrar
    function records(uint256[] calldata indices)
        external
        view
        returns (address[] memory foundAccounts, bytes32[] memory peerKeys)
    {
        foundAccounts = new address[](indices.length);
        peerKeys = new bytes32[](indices.length);
        for (uint256 i = 0; i < indices.length; ++i) {
            Record storage record = _records[indices[i]];
            foundAccounts[i] = record.account;
            peerKeys[i] = record.peerKey;
        }
    }

    /// @inheritdoc IRegistrar
    function proofOfPossessionDigest(address account, bytes32[4] calldata blsKey) external view returns (bytes32) {
        return _possessionDigest(account, blsKey);
    }

    /// @inheritdoc IRegistrar
    function indexOf(address account) public view returns (uint256 index) {
        uint256 number = _numbers[account];
        if (number == 0) revert NotRegistered(account);
        return number - 1;
    }

    /// @dev Checks both keys, and that nobody had them. Returns the BLS key without padding.
    function _takeKeys(address account, Registration calldata registration) private returns (bytes memory key) {
        bytes32[4] memory point = registration.blsKey;
        key = BLS12381.packG1(point);
        bytes32 hash = keccak256(key);
        if (_blsKeyTaken[hash]) revert BlsKeyTaken();
        if (registration.peerKey == 0 || _peerKeyTaken[registration.peerKey]) revert PeerKeyTaken();
        _blsKeyTaken[hash] = true;
        _peerKeyTaken[registration.peerKey] = true;
        bytes32 digest = _possessionDigest(account, point);
        if (!BLS12381.verifies(point, registration.proofOfPossession, digest)) revert NoPossession();
    }

    /// @dev Moves a waiting key into `data`.
    function _moveKey(uint256 index, bytes memory data, uint256 offset) private {
        bytes32[3] memory key = _waiting[index];
        assembly ("memory-safe") {
            mcopy(add(add(data, 0x20), offset), key, 0x60)
        }
        delete _waiting[index];
    }

    function _checkOperatorSet(address avs_, uint32[] calldata operatorSetIds) private view {
        bool same = avs_ == avs && operatorSetIds.length == 1 && operatorSetIds[0] == operatorSetId;
        if (!same) revert WrongOperatorSet();
    }

    function _possessionDigest(address account, bytes32[4] memory blsKey) private view returns (bytes32) {
        return Signing.proofOfPossession(chain, account, address(this), BLS12381.compressG1(blsKey));
    }

    function _key(uint256 index) private view returns (bytes memory) {
        if (index >= packed) return abi.encodePacked(_waiting[index]);
        uint256 chunk = index / OperatorSets.CHUNK_KEYS;
        uint256 offset = (index - chunk * OperatorSets.CHUNK_KEYS) * OperatorSets.KEY_BYTES;
        return DataContract.read(_chunks[chunk], offset, OperatorSets.KEY_BYTES);
    }

    /// @dev Copies the first bytes of a chunk.
    function _copy(address chunk, bytes memory data, uint256 length) private view {
        assembly ("memory-safe") {
            extcodecopy(chunk, add(data, 0x20), 1, length)
        }
    }
}
