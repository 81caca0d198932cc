//! What is called while contracts are set up.
#![allow(missing_docs, reason = "the contracts' own names; they document them")]
#![allow(clippy::too_many_arguments, reason = "generated from Solidity")]

alloy_sol_types::sol! {
    struct EpochSettings {
        uint64 firstEpoch;
        uint16 consensusOperatorsMax;
        uint32 epochSecondsMin;
        uint32 stakeBlocks;
    }
    struct Settings { EpochSettings epochs; uint32 anchorAgeMax; uint32 exitDelay; }
    struct Strategy { address strategy; uint96 weiPerShareE18; }

    function setOpen(bool open) external;
    function isOpen() external view returns (bool);
    function setStrategies(Strategy[] strategies, uint64 stakeGweiMin) external;
    function pause() external;
    function chain() external view returns (bytes32);
    function authority() external view returns (address);

    // AccessManager.
    function execute(address target, bytes data) external payable returns (uint32);
    function setTargetFunctionRole(address target, bytes4[] selectors, uint64 role) external;
    function grantRole(uint64 role, address account, uint32 executionDelay) external;
    function renounceRole(uint64 role, address account) external;
    function hasRole(uint64 role, address account) external view returns (bool isMember, uint32 executionDelay);

    // EigenLayer v1.4.
    struct CreateSetParams { uint32 operatorSetId; address[] strategies; }
    function updateAVSMetadataURI(address avs, string uri) external;
    function setAVSRegistrar(address avs, address registrar) external;
    function getAVSRegistrar(address avs) external view returns (address registrar);
    function createOperatorSets(address avs, CreateSetParams[] sets) external;
    function setAppointee(address account, address appointee, address target, bytes4 selector) external;
    struct SlashingParams {
        address operator;
        uint32 operatorSetId;
        address[] strategies;
        uint256[] wadsToSlash;
        string description;
    }
    function slashOperator(address avs, SlashingParams params) external;
}
