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
        function proofOfPossessionDigest(address operator, bytes32[4] blsKey) external view returns (bytes32);
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
}
