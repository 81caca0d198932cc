// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IAVSRegistrar} from "./IEigenLayer.sol";

/// @notice Who operates, with which keys: the registrar that EigenLayer calls for Lamina's operator set.
///
/// Every registration has an index, from 0, ascending, for good. A BLS key and a node key each register once, ever. At first
/// only admitted operators can register.
interface IRegistrar is IAVSRegistrar {
    /// @notice What an operator hands to EigenLayer's `registerForOperatorSets` as `data`: `abi.encode` of this.
    struct Registration {
        /// @dev BLS12-381 public key: a point of G1 as EIP-2537 encodes it (x, y, each two words).
        bytes32[4] blsKey;
        /// @dev The key's signature on {proofOfPossessionDigest}: a point of G2 as EIP-2537 encodes it.
        bytes32[8] proofOfPossession;
        /// @dev The node's ed25519 public key.
        bytes32 peerKey;
        /// @dev That key's signature (R, S) on `sha256(peer possession tag ‖ chain ‖ operator ‖ peerKey)`. Ethereum
        /// can't verify it: it is emitted, and who reads it checks it.
        bytes32[2] peerProof;
    }

    /// @notice An operator as it registered.
    struct Operator {
        /// @dev Its account.
        address account;
        /// @dev Whether it is still registered, with this index.
        bool active;
        /// @dev Its node's ed25519 public key.
        bytes32 peerKey;
        /// @dev Its BLS12-381 public key without padding: x (48 bytes), y (48 bytes).
        bytes blsKey;
    }

    /// @notice An operator registered.
    /// @param blsKey x (48 bytes) ‖ y (48 bytes).
    event OperatorRegistered(
        address indexed operator, uint256 indexed index, bytes32 indexed peerKey, bytes blsKey, bytes32[2] peerProof
    );
    /// @notice An operator left; the registration with this index is over.
    event OperatorDeregistered(address indexed operator, uint256 indexed index);
    /// @notice The keys of registrations from `first` to `end` (exclusive) stand in `data` now.
    event KeysPacked(uint256 indexed first, uint256 end, address data);
    /// @notice Whether anyone may register, or admitted operators only.
    event OpenSet(bool open);
    /// @notice An operator may register while registration isn't open, or no longer.
    event Admitted(address indexed operator, bool admitted);

    /// @notice The caller isn't EigenLayer's AllocationManager.
    error NotAllocationManager(address caller);
    /// @notice The registration is for another service or operator set than Lamina's.
    error WrongOperatorSet();
    /// @notice Registration isn't open and the operator isn't admitted.
    error NotAdmitted(address operator);
    /// @notice The operator is registered.
    error AlreadyRegistered(address operator);
    /// @notice The operator isn't registered.
    error NotRegistered(address operator);
    /// @notice The BLS key was registered before, by whomever.
    error BlsKeyTaken();
    /// @notice The node key was registered before, by whomever, or is zero.
    error PeerKeyTaken();
    /// @notice The proof of possession doesn't hold for this operator, contract and network: a rogue or stolen key.
    error NoPossession();
    /// @notice `data` isn't an encoded {Registration}.
    error MalformedRegistration();
    /// @notice There are as many registrations as a snapshot can name: 2¹⁶.
    error RegistrarFull();
    /// @notice All keys are packed.
    error NothingToPack();
    /// @notice There's no registration with this index.
    error UnknownIndex(uint256 index);

    /// @notice Moves the keys of the last chunk that isn't packed yet to a data contract. Anyone may; an epoch counts
    /// packed operators only.
    /// @return end The number of packed registrations.
    function pack() external returns (uint256 end);

    /// @notice Lets anyone register (true) or admitted operators only. Restricted.
    function setOpen(bool open) external;

    /// @notice Admits an operator, or no longer. Restricted. Who is registered stays.
    function admit(address operator, bool admitted) external;

    /// @notice How many registrations there have been.
    function count() external view returns (uint256);

    /// @notice Of how many the keys are packed.
    function packed() external view returns (uint256);

    /// @notice Whether anyone may register.
    function isOpen() external view returns (bool);

    /// @notice Whether the operator may register while registration isn't open.
    function isAdmitted(address operator) external view returns (bool);

    /// @notice The data contract with the keys of registrations from `255 × chunk` on: a zero byte, then 96 bytes each.
    function keys(uint256 chunk) external view returns (address data);

    /// @notice The registration with this index.
    function operator(uint256 index) external view returns (Operator memory);

    /// @notice The index under which the operator is registered.
    function indexOf(address operator) external view returns (uint256 index);

    /// @notice The accounts of registrations from `first` to `end` (exclusive), zero for those that are over.
    function accounts(uint256 first, uint256 end) external view returns (address[] memory);

    /// @notice Accounts and node keys of the registrations with these indices, whether they are over or not.
    function records(uint256[] calldata indices)
        external
        view
        returns (address[] memory accounts, bytes32[] memory peerKeys);

    /// @notice What `blsKey` must sign so that `operator` can register it:
    /// `sha256(tag ‖ chain ‖ operator ‖ this contract ‖ compressed key)`.
    function proofOfPossessionDigest(address operator, bytes32[4] calldata blsKey) external view returns (bytes32);

    /// @notice The Lamina network: its name, padded with zeros.
    function chain() external view returns (bytes32);

    /// @notice The account that is the service (AVS) for EigenLayer.
    function avs() external view returns (address);

    /// @notice The service's operator set that secures Lamina.
    function operatorSetId() external view returns (uint32);
}
