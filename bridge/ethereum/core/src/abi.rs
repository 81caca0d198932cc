//! The contracts' functions and events that the project uses: see `bridge/contracts/src/interfaces`.
#![allow(missing_docs, reason = "generated from Solidity interfaces, which are documented")]
#![allow(clippy::too_many_arguments, reason = "generated from Solidity interfaces")]

alloy_sol_types::sol! {
    #[derive(Debug, PartialEq, Eq)]
    struct Header {
        uint64 epoch;
        uint64 height;
        bytes32 previous;
        bytes32 history;
        bytes32 cut;
        bytes32 state;
        bytes32 claims;
        bytes32 results;
        uint64 ethereumNumber;
        bytes32 ethereumHash;
        uint64 time;
        bytes32 operators;
        bytes32 nextOperators;
    }

    struct HeaderProof {
        Header[] headers;
        bytes32[] siblings;
    }

    struct Certificate {
        uint64 epoch;
        uint64 height;
        uint32 round;
        bytes32 header;
        uint256[] absent;
        bytes32[8] signature;
    }

    struct Registration {
        bytes32[4] blsKey;
        bytes32[8] proofOfPossession;
        bytes32 peerKey;
        bytes32[2] peerProof;
    }

    interface Registrar {
        event OperatorRegistered(
            address indexed operator, uint256 indexed index, bytes32 indexed peerKey, bytes blsKey, bytes32[2] peerProof
        );
        event OperatorDeregistered(address indexed operator, uint256 indexed index);

        function pack() external returns (uint256 end);
        function setOpen(bool open) external;
        function count() external view returns (uint256);
        function packed() external view returns (uint256);
        function indexOf(address operator) external view returns (uint256 index);
        function avs() external view returns (address);
        function operatorSetId() external view returns (uint32);
        function proofOfPossessionDigest(address operator, bytes32[4] blsKey) external view returns (bytes32);

        struct Operator {
            address account;
            bool active;
            bytes32 peerKey;
            bytes blsKey;
        }

        function operator(uint256 index) external view returns (Operator found);
    }

    interface Checkpoints {
        struct Anchor {
            bytes32 header;
            uint64 height;
            uint64 epoch;
            uint40 time;
        }

        event EpochStarted(
            uint64 indexed epoch, bytes32 root, bytes32 consensusRoot, uint16 size, uint16 consensusSize, uint64 stakeGwei
        );
        event Anchored(
            uint64 indexed height, bytes32 indexed header, uint64 epoch, uint32 round, address submitter, uint256 refundWei
        );
        event FrozenAt(uint64 indexed height, bytes32 first, bytes32 second);
        event ExitOpened(uint64 indexed height, bytes32 header);

        function submit(
            uint64 certificateEpoch,
            uint64 height,
            uint32 round,
            bytes32 header,
            uint256[] absent,
            bytes32[8] signature
        ) external;
        function freeze(Certificate first, Certificate second) external;
        function openExit() external;
        function collectRefund(address to) external;
        function fund() external payable;
        function extend(uint256 count) external;
        function finish(uint256[] consensus) external;
        function roll(uint256[] consensus) external;
        function chain() external view returns (bytes32);
        function nextEpoch() external view returns (uint64);
        function members(uint64 number, bool consensus)
            external view returns (uint256[] registrations, uint64[] stakesGwei);
        function latest() external view returns (Anchor);
        function isAnchored(uint64 height, bytes32 header) external view returns (bool);
        function verifyHeader(HeaderProof proof) external view returns (bytes32 header);
        function headerId(Header header) external view returns (bytes32);
    }

    interface Vault {
        struct Claim {
            uint64 index;
            address recipient;
            bytes32 asset;
            uint128 amount;
            bytes32[32] siblings;
        }

        event Deposited(
            uint64 indexed index, address indexed account, bytes32 indexed asset, uint128 amount, address from
        );
        event ClaimPaid(uint64 indexed index, address indexed recipient, bytes32 indexed asset, uint128 amount);

        function depositEther(address account) external payable returns (uint64 index);
        function deposit(address token, uint256 amount, address account) external returns (uint64 index);
        function withdraw(Claim[] claims, HeaderProof proof) external;
        function isPaid(uint64 index) external view returns (bool);
        function depositCount() external view returns (uint64);
    }

    interface TaskResults {
        event TaskRequested(uint64 indexed index, bytes32 indexed service, address indexed requester, bytes input);
        event TaskResult(bytes32 indexed task, bytes32 outcome, bool certified);

        function request(bytes32 service, bytes input) external returns (uint64 index);
        function certify(
            uint64 epoch,
            bytes32 task,
            bytes32 outcome,
            uint256[] absent,
            bytes32[8] signature,
            address consumer
        ) external;
        function outcomeOf(bytes32 task) external view returns (bytes32);
    }

    interface Slasher {
        struct Signed {
            bytes32 content;
            bytes32[8] signature;
        }

        event Slashed(address indexed operator, bytes32 indexed offence, uint8 kind, uint64 epoch, uint256 wad);

        function slashPrecommits(
            uint64 epoch, uint64 height, uint32 round, uint256 member, Signed first, Signed second
        ) external;
        function slashAttestations(
            uint64 epoch, bytes32 task, uint256 member, Signed first, Signed second
        ) external;
        function isSlashed(bytes32 offence) external view returns (bool);
    }

    /// What EigenLayer's core contracts (v1.4) have of what operators do.
    interface EigenLayer {
        struct OperatorSet { address avs; uint32 id; }
        struct AllocateParams { OperatorSet operatorSet; address[] strategies; uint64[] newMagnitudes; }
        struct RegisterParams { address avs; uint32[] operatorSetIds; bytes data; }
        struct DeregisterParams { address operator; address avs; uint32[] operatorSetIds; }
        struct Allocation { uint64 currentMagnitude; int128 pendingDiff; uint32 effectBlock; }

        function registerAsOperator(address approver, uint32 allocationDelay, string metadata) external;
        function isOperator(address operator) external view returns (bool);
        function depositIntoStrategy(address strategy, address token, uint256 amount) external returns (uint256 shares);
        function modifyAllocations(address operator, AllocateParams[] params) external;
        function registerForOperatorSets(address operator, RegisterParams params) external;
        function deregisterFromOperatorSets(DeregisterParams params) external;
        function isMemberOfOperatorSet(address operator, OperatorSet set) external view returns (bool);
        function getAllocation(address operator, OperatorSet set, address strategy)
            external view returns (Allocation allocation);
        function getAllocationDelay(address operator) external view returns (bool isSet, uint32 delay);
        function getAllocatableMagnitude(address operator, address strategy) external view returns (uint64);
        function getMaxMagnitude(address operator, address strategy) external view returns (uint64);
        function operatorShares(address operator, address strategy) external view returns (uint256);
        function stakerDepositShares(address staker, address strategy) external view returns (uint256);
        function sharesToUnderlyingView(uint256 shares) external view returns (uint256);
        function underlyingToSharesView(uint256 amount) external view returns (uint256);
        function underlyingToken() external view returns (address token);
    }

    interface Erc20 {
        function approve(address spender, uint256 value) external returns (bool);
        function allowance(address account, address spender) external view returns (uint256);
        function balanceOf(address account) external view returns (uint256);
        function mint(address to, uint256 value) external;
    }

    /// Why a contract refuses: of Lamina's, and what operators meet at EigenLayer's.
    #[derive(Debug)]
    interface Errors {
        error AccessManagedUnauthorized(address caller);
        error ActivelyDelegated();
        error AlreadyExited();
        error AlreadyMemberOfSet();
        error AlreadyPaid(uint64 index);
        error AlreadyRegistered(address operator);
        error AlreadySlashed(bytes32 offence);
        error AlreadyTaken(bytes32 task, address consumer);
        error AmountTooLarge();
        error BalanceExceedsMaxTotalDeposits();
        error BalanceNotProven();
        error BitmapOutsideSet();
        error BlsKeyTaken();
        error ClaimNotProven(uint64 index);
        error CurrentlyPaused();
        error DepositCredited(uint64 index);
        error DepositsClosed();
        error ERC20InsufficientAllowance(address spender, uint256 allowance, uint256 needed);
        error ERC20InsufficientBalance(address sender, uint256 balance, uint256 needed);
        error EmptySet();
        error EnforcedPause();
        error EpochIncomplete(uint256 cursor, uint256 limit);
        error EpochPassed(uint64 epoch, uint64 latest);
        error EpochTooEarly(uint256 time);
        error ExitTooEarly(uint256 time);
        error FullySlashed();
        error HeightPassed(uint64 height, uint64 latest);
        error InputTooLong(uint256 length);
        error InsufficientMagnitude();
        error InsufficientReserve(bytes32 asset, uint256 reserve, uint256 amount);
        error InvalidCaller();
        error InvalidOperator();
        error InvalidOperatorSet();
        error InvalidPermissions();
        error InvalidRefundPolicy();
        error InvalidSignature();
        error InvalidStrategies();
        error InvalidStrategy();
        error InvalidWad(uint256 wad);
        error MalformedHeaderProof();
        error MalformedPoint();
        error MalformedRegistration();
        error MaxPerDepositExceedsMax();
        error ModificationAlreadyPending();
        error NewSharesZero();
        error NoAccount();
        error NoConflict();
        error NoHeader();
        error NoOutcome();
        error NoPossession();
        error NoQuorum(uint256 stakeGwei, uint256 ofGwei);
        error NonexistentAVSMetadata();
        error NotAdmitted(address operator);
        error NotAllocationManager(address caller);
        error NotAnchored(bytes32 header);
        error NotFrozen();
        error NotInExit();
        error NotInHistory(bytes32 header);
        error NotMemberOfSet();
        error NotOpen();
        error NotOpen(uint8 mode);
        error NotRegistered(address operator);
        error NotWritten();
        error NothingCollected();
        error NothingDeposited();
        error NothingToExtend();
        error NothingToPack();
        error OperatorNotRegistered();
        error OtherOutcome(bytes32 task, bytes32 verified);
        error PauseTooSoon(uint256 time);
        error PeerKeyTaken();
        error PointAtInfinity();
        error PrecompileFailed(uint256 precompile);
        error RegistrarFull();
        error ResultNotProven(bytes32 task);
        error SafeERC20FailedOperation(address token);
        error SameContent();
        error SameMagnitude();
        error StaleEpoch(uint64 epoch);
        error StaleEvidence(uint64 epoch);
        error StrategyNotFound();
        error StrategyNotInOperatorSet();
        error StrategyNotWhitelisted();
        error TooLittleGas();
        error TooManyOperators(uint256 count);
        error TotalSharesExceedsMax();
        error UninitializedAllocationDelay();
        error UnknownAsset(bytes32 asset);
        error UnknownDeposit(uint64 index);
        error UnknownEpoch(uint64 epoch);
        error UnknownIndex(uint256 index);
        error UnknownMember(uint256 member);
        error UnknownTask(bytes32 task);
        error WrongBitmapLength(uint256 words, uint256 expected);
        error WrongConsensusSet();
        error WrongExitHeader(bytes32 header);
        error WrongOperatorSet();
    }
}
