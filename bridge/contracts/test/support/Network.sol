// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IAccessManager} from "@openzeppelin/contracts/access/manager/IAccessManager.sol";
import {ICheckpoints} from "../../src/interfaces/ICheckpoints.sol";
import {IEpochs} from "../../src/interfaces/IEpochs.sol";
import {IRegistrar} from "../../src/interfaces/IRegistrar.sol";
import {ISlasher} from "../../src/interfaces/ISlasher.sol";
import {ITaskResults} from "../../src/interfaces/ITaskResults.sol";
import {IVault} from "../../src/interfaces/IVault.sol";
import {Header, HeaderProof} from "../../src/interfaces/Types.sol";
import {Signing} from "../../src/libraries/Signing.sol";
import {EigenLayer} from "./EigenLayer.sol";
import {Signer} from "./Signer.sol";
import {Test} from "./Test.sol";

/// @dev All contracts, created from their artifacts, and operators.
abstract contract Network is Test {
    bytes32 internal constant CHAIN = "lamina-test-1";
    uint32 internal constant SET_ID = 7;
    uint32 internal constant EPOCH_SECONDS = 1 hours;
    uint32 internal constant ANCHOR_AGE = 7 days;
    uint32 internal constant EXIT_DELAY = 3 days;
    address internal constant STRATEGY = address(0x5742);

    EigenLayer internal eigenLayer;
    IAccessManager internal manager;
    IRegistrar internal registrar;
    ICheckpoints internal checkpoints;
    IVault internal vault;
    ITaskResults internal results;
    ISlasher internal slasher;

    /// @dev Creates the contracts; operators register until there are `count`, operator `i` with a stake of
    /// `100 + i % 7` ether, and the first epoch begins.
    function start(uint256 count, uint16 consensusMax) internal {
        vm.warp(1_800_000_000);
        vm.roll(1_000);
        eigenLayer = new EigenLayer();
        manager = IAccessManager(vm.deployCode("Authority.sol:Authority", abi.encode(address(this))));
        registrar = IRegistrar(
            vm.deployCode("Registrar.sol:Registrar", abi.encode(manager, eigenLayer, address(manager), SET_ID, CHAIN))
        );
        // The settings are static, so their encoding is that of the words in order.
        bytes memory settings = abi.encode(uint64(1), consensusMax, EPOCH_SECONDS, uint32(100), ANCHOR_AGE, EXIT_DELAY);
        checkpoints = ICheckpoints(
            vm.deployCode(
                "Checkpoints.sol:Checkpoints", bytes.concat(abi.encode(manager, registrar, eigenLayer), settings)
            )
        );
        vault = IVault(vm.deployCode("Vault.sol:Vault", abi.encode(manager, checkpoints)));
        results = ITaskResults(vm.deployCode("TaskResults.sol:TaskResults", abi.encode(manager, checkpoints)));
        slasher = ISlasher(
            vm.deployCode(
                "Slasher.sol:Slasher",
                abi.encode(manager, checkpoints, registrar, eigenLayer, uint256(ANCHOR_AGE), uint256(0.5e18))
            )
        );
        eigenLayer.appoint(address(slasher));
        registrar.setOpen(true);
        IEpochs.Strategy[] memory strategies = new IEpochs.Strategy[](1);
        strategies[0] = IEpochs.Strategy({strategy: STRATEGY, weiPerShareE18: 1e18});
        checkpoints.setStrategies(strategies, 1);
        for (uint256 i = 0; i < count; ++i) {
            register(i);
            setStake(i, (100 + i % 7) * 1 ether);
        }
    }

    function account(uint256 seed) internal pure returns (address) {
        return address(uint160(0x1000000 + seed));
    }

    function setStake(uint256 seed, uint256 shares) internal {
        eigenLayer.setShares(account(seed), STRATEGY, shares);
    }

    function register(uint256 seed) internal {
        eigenLayer.register(registrar, account(seed), address(manager), SET_ID, abi.encode(registration(seed)));
    }

    function registration(uint256 seed) internal view returns (IRegistrar.Registration memory made) {
        uint256 secret = Signer.secret(seed);
        made.blsKey = Signer.publicKey(secret);
        made.proofOfPossession = Signer.sign(secret, registrar.proofOfPossessionDigest(account(seed), made.blsKey));
        made.peerKey = keccak256(abi.encode("peer", seed));
    }

    /// @dev Of a set of operators 0 to `count`, in order: a bitmap of those whose index `absentEvery` divides, and the sum
    /// of the others' secrets. Nobody is absent if it's zero.
    function attendance(uint256 count, uint256 absentCount)
        internal
        pure
        returns (uint256[] memory absent, uint256 secret)
    {
        absent = new uint256[]((count + 255) / 256);
        for (uint256 i = 0; i < count; ++i) {
            // Spread evenly: the i-th of `count` is absent where the quotient steps.
            if ((i + 1) * absentCount / count != i * absentCount / count) absent[i / 256] |= 1 << (i % 256);
            else secret = addmod(secret, Signer.secret(i), Signer.ORDER);
        }
    }

    function anchor(uint64 height, Header memory header, uint256 count) internal returns (bytes32 id) {
        id = checkpoints.headerId(header);
        (uint256[] memory absent, uint256 secret) = attendance(count, 0);
        bytes32 message = Signing.precommit(CHAIN, header.epoch, height, 0, id);
        checkpoints.submit(header.epoch, height, 0, id, absent, Signer.sign(secret, message));
    }

    function headerAt(uint64 height) internal pure returns (Header memory header) {
        (header.epoch, header.height) = (1, height);
        header.time = 1_800_000_000_000_000 + height;
    }

    function proofOf(Header memory header) internal pure returns (HeaderProof memory proof) {
        proof.headers = new Header[](1);
        proof.headers[0] = header;
    }
}
