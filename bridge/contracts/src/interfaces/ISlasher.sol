// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @notice Slashes, through EigenLayer, operators that signed two different things where they may sign one. Each offence
/// once, whoever shows it, by whatever pair of signatures.
interface ISlasher {
    /// @notice Kinds of offences, numbered as in the ledger (`OffenceKind`); prevotes, proposals and changes are ed25519,
    /// which Ethereum can't verify.
    enum Kind {
        Precommits,
        Attestations
    }

    /// @notice A content and the operator's BLS signature on it.
    struct Signed {
        /// @dev A header's id (zero is a vote for none), or an outcome's digest.
        bytes32 content;
        /// @dev A point of G2 as EIP-2537 encodes it.
        bytes32[8] signature;
    }

    /// @notice An operator was slashed.
    /// @param offence The place where it signed twice: `Evidence::place` of the ledger.
    event Slashed(address indexed operator, bytes32 indexed offence, Kind kind, uint64 epoch, uint256 wad);
    /// @notice What an offence costs from now on.
    event WadSet(Kind kind, uint256 wad);

    /// @notice The two contents are one.
    error SameContent();
    /// @notice The offence was punished.
    error AlreadySlashed(bytes32 offence);
    /// @notice The epoch's snapshot is too old: what was at stake then may have left.
    error StaleEvidence(uint64 epoch);
    /// @notice Not a share of the stake: above 1e18, or zero.
    error InvalidWad(uint256 wad);

    /// @notice Two precommits of one round.
    /// @param member The operator's index in the epoch's whole set.
    function slashPrecommits(
        uint64 epoch,
        uint64 height,
        uint32 round,
        uint256 member,
        Signed calldata first,
        Signed calldata second
    ) external;

    /// @notice Two outcomes of one task.
    /// @param member The operator's index in the epoch's whole set.
    function slashAttestations(
        uint64 epoch,
        bytes32 task,
        uint256 member,
        Signed calldata first,
        Signed calldata second
    ) external;

    /// @notice Sets the share of its allocation (1e18 is all) that an offence costs. Restricted.
    function setWad(Kind kind, uint256 wad) external;

    /// @notice Whether the offence was punished.
    function isSlashed(bytes32 offence) external view returns (bool);

    /// @notice The share of its allocation that an offence costs.
    function wadOf(Kind kind) external view returns (uint256);

    /// @notice Oldest snapshot whose operators can be slashed, in seconds.
    function evidenceAgeMax() external view returns (uint256);
}
