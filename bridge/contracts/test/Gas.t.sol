// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ICheckpoints} from "../src/interfaces/ICheckpoints.sol";
import {ISlasher} from "../src/interfaces/ISlasher.sol";
import {IVault} from "../src/interfaces/IVault.sol";
import {Header} from "../src/interfaces/Types.sol";
import {Signing} from "../src/libraries/Signing.sol";
import {ClaimsTree} from "./support/ClaimsTree.sol";
import {Bn254Scheme, EcdsaScheme} from "./support/Comparison.sol";
import {Network} from "./support/Network.sol";
import {Signer} from "./support/Signer.sol";

/// @dev What transactions take, calldata and the 21,000 of each included (forge's `isolate`). Figures go to gas-snapshots/;
/// tools/gas.mjs compares them with gas.json. Isolated transactions have no gas price, so what a
/// refund adds is measured by itself.
contract GasTest is Network {
    /// @dev The highest gas of a transaction (EIP-7825).
    uint256 private constant TRANSACTION_GAS_MAX = 1 << 24;

    /// forge-config: default.isolate = true
    function test_anchors_of_4() external {
        _measure(4);
    }

    /// forge-config: default.isolate = true
    function test_anchors_of_100() external {
        _measure(100);
    }

    /// forge-config: default.isolate = true
    function test_anchors_of_1000() external {
        _measure(1_000);
    }

    /// @dev A network of a thousand, of whom a hundred finalise.
    ///
    /// forge-config: default.isolate = true
    function test_epochs_of_1000() external {
        start(1_000, 100);
        for (uint256 i = 0; i < 3; ++i) {
            registrar.pack();
        }
        uint256[] memory best = new uint256[](4);
        // Of stakes 100 + i % 7 the hundred highest: i % 7 = 6, as long as there are some.
        for (uint256 i = 0; i < 700; ++i) {
            if (i % 7 == 6) best[i / 256] |= 1 << (i % 256);
        }
        checkpoints.extend(500);
        vm.snapshotGasLastCall("epoch", "first 500 of 1000, without EigenLayer's part, packing a chunk");
        checkpoints.extend(500);
        vm.snapshotGasLastCall("epoch", "last 500 of 1000, without EigenLayer's part");
        checkpoints.finish(best);
        yes(vm.snapshotGasLastCall("epoch", "finish, 1000 operators, 100 finalise") < TRANSACTION_GAS_MAX, "cap");
    }

    /// forge-config: default.isolate = true
    function test_other_transactions() external {
        start(100, 101);
        register(100);
        vm.snapshotGasLastCall("other", "register, without EigenLayer's part");
        setStake(100, 100 ether);
        checkpoints.roll(new uint256[](0));
        vm.snapshotGasLastCall("epoch", "roll, 101 operators, without EigenLayer's part, packing all keys");
        vault.depositEther{value: 2 ether}(address(1));
        vault.depositEther{value: 2 ether}(address(1));
        vm.snapshotGasLastCall("other", "deposit of ether");

        ClaimsTree tree = new ClaimsTree();
        tree.append(account(1), 0, 1 ether);
        tree.append(account(2), 0, 1 ether);
        Header memory header = headerAt(1);
        header.claims = tree.root();
        anchor(1, header, 101);
        IVault.Claim[] memory claims = new IVault.Claim[](1);
        claims[0] = tree.claim(0, account(1), 0, 1 ether);
        vault.withdraw(claims, proofOf(header));
        claims[0] = tree.claim(1, account(2), 0, 1 ether);
        vault.withdraw(claims, proofOf(header));
        vm.snapshotGasLastCall("other", "withdrawal of ether, one claim");

        (uint256[] memory absent, uint256 secret) = attendance(101, 0);
        bytes32[8] memory signature = Signer.sign(secret, Signing.attestation(CHAIN, 1, "task", "outcome"));
        results.certify(1, "task", "outcome", absent, signature, address(0));
        vm.snapshotGasLastCall("other", "task certificate, 101 operators, no consumer");

        ISlasher.Signed memory first = _signed("one");
        ISlasher.Signed memory second = _signed("two");
        slasher.slashAttestations(1, "task", 3, first, second);
        vm.snapshotGasLastCall("other", "slashing, without EigenLayer's part");
    }

    /// @dev By hand, with all that the transaction touches made cold: the base, the calldata, and what the call takes. The
    /// submitter has had a refund before.
    function test_an_anchor_with_a_refund() external {
        start(100, 100);
        checkpoints.roll(new uint256[](0));
        checkpoints.setRefundPolicy(ICheckpoints.RefundPolicy(220_000, 60, 50 gwei, 2 gwei));
        vm.deal(address(this), 100 ether);
        checkpoints.fund{value: 1 ether}();
        vm.txGasPrice(1 gwei);
        vm.fee(1 gwei);
        _anchor(100, 1, 0, "");
        (uint256[] memory absent, uint256 secret) = attendance(100, 0);
        bytes32[8] memory signature = Signer.sign(secret, Signing.precommit(CHAIN, 1, 10, 0, keccak256("header")));
        bytes memory data = abi.encodeCall(ICheckpoints.submit, (1, 10, 0, keccak256("header"), absent, signature));
        address snapshot = checkpoints.epoch(1).consensus.data;
        uint256 before = checkpoints.refundOf(address(this));
        vm.warp(vm.getBlockTimestamp() + 60);
        vm.cool(snapshot);
        vm.cool(address(checkpoints));
        (bool ok,) = address(checkpoints).call(data);
        uint256 gas = vm.lastCallGas().gasTotalUsed;
        yes(ok && before != 0 && checkpoints.refundOf(address(this)) == 2 * before, "refund");
        for (uint256 i = 0; i < data.length; ++i) {
            gas += data[i] == 0 ? 4 : 16;
        }
        vm.snapshotValue("anchor", "100 operators, 0 absent, refunded", gas + 21_000);
    }

    function _signed(bytes32 outcome) private view returns (ISlasher.Signed memory signed) {
        signed.content = outcome;
        signed.signature = Signer.sign(Signer.secret(3), Signing.attestation(CHAIN, 1, "task", outcome));
    }

    function _measure(uint256 count) private {
        start(count, uint16(count));
        while (registrar.count() - registrar.packed() > 255) {
            registrar.pack();
        }
        if (count > 500) {
            checkpoints.extend(500);
            checkpoints.extend(500);
            checkpoints.finish(new uint256[](0));
        } else {
            checkpoints.roll(new uint256[](0));
        }
        _anchor(count, 1, 0, "");

        EcdsaScheme ecdsa = new EcdsaScheme(_accounts(count), 100e9);
        Bn254Scheme bn254 = new Bn254Scheme(count, 100e9);
        uint256[3] memory absentCounts = [0, count / 10, count * 33 / 100];
        for (uint256 i = 0; i < 3; ++i) {
            if (i != 0 && absentCounts[i] == absentCounts[i - 1]) continue;
            string memory name =
                string.concat(vm.toString(count), " operators, ", vm.toString(absentCounts[i]), " absent");
            uint64 height = uint64(10 + i);
            _anchor(count, height, absentCounts[i], name);
            _ecdsa(ecdsa, count, height, absentCounts[i], name);
            _bn254(bn254, count, height, absentCounts[i], name);
        }
    }

    function _anchor(uint256 count, uint64 height, uint256 absentCount, string memory name) private {
        vm.warp(vm.getBlockTimestamp() + 60);
        (uint256[] memory absent, uint256 secret) = attendance(count, absentCount);
        bytes32 header = keccak256(abi.encode("header", height));
        bytes32[8] memory signature = Signer.sign(secret, Signing.precommit(CHAIN, 1, height, 0, header));
        checkpoints.submit(1, height, 0, header, absent, signature);
        if (bytes(name).length == 0) return;
        vm.snapshotGasLastCall("anchor", name);
        checkpoints.submit(1, height, 0, header, absent, signature);
        if (absentCount == 0) vm.snapshotGasLastCall("anchor again", name);
    }

    function _ecdsa(EcdsaScheme scheme, uint256 count, uint64 height, uint256 absentCount, string memory name) private {
        (uint256[] memory absent,) = attendance(count, absentCount);
        bytes32 header = keccak256(abi.encode("header", height));
        bytes32 message = scheme.digest(height, header);
        bytes32[2][] memory signatures = new bytes32[2][](count - absentCount);
        uint256 next = 0;
        for (uint256 i = 0; i < count; ++i) {
            if (absent[i / 256] >> (i % 256) & 1 == 1) continue;
            (uint8 v, bytes32 r, bytes32 s) = vm.sign(i + 1, message);
            signatures[next++] = [r, bytes32(uint256(s) | uint256(v - 27) << 255)];
        }
        scheme.submit(height, header, absent, signatures);
        vm.snapshotGasLastCall("ecdsa", name);
    }

    function _bn254(Bn254Scheme scheme, uint256 count, uint64 height, uint256 absentCount, string memory name) private {
        (uint256[] memory absent,) = attendance(count, absentCount);
        bytes32 header = keccak256(abi.encode("header", height));
        uint256 sum = 0;
        for (uint256 i = 0; i < count; ++i) {
            if (absent[i / 256] >> (i % 256) & 1 == 0) sum += i + 1;
        }
        (uint256 x, uint256 y) = scheme.hashToG1(scheme.digest(height, header));
        (bool ok, bytes memory point) = address(7).staticcall(abi.encode(x, y, sum));
        yes(ok, "signature");
        string memory json = vm.readFile("test/vectors/lamina.json");
        bytes memory key = vm.parseJsonBytes(json, string.concat(".bn254.s", vm.toString(sum)));
        uint256[4] memory inG2 = abi.decode(key, (uint256[4]));
        scheme.submit(height, header, absent, inG2, abi.decode(point, (uint256[2])));
        vm.snapshotGasLastCall("bn254", name);
    }

    function _accounts(uint256 count) private pure returns (address[] memory accounts) {
        accounts = new address[](count);
        for (uint256 i = 0; i < count; ++i) {
            accounts[i] = vm.addr(i + 1);
        }
    }
}
