// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ICertificateErrors} from "../src/interfaces/ICertificateErrors.sol";
import {IEpochs} from "../src/interfaces/IEpochs.sol";
import {ISlasher} from "../src/interfaces/ISlasher.sol";
import {ITaskConsumer, ITaskResults} from "../src/interfaces/ITaskResults.sol";
import {Header, HeaderProof} from "../src/interfaces/Types.sol";
import {Signing} from "../src/libraries/Signing.sol";
import {Network} from "./support/Network.sol";
import {Signer} from "./support/Signer.sol";

/// @dev Does with a result what its mode says.
contract Consumer is ITaskConsumer {
    enum Mode {
        Take,
        Refuse,
        Burn,
        Flood,
        Enter
    }

    Mode public mode;
    bytes32 public outcome;

    function set(Mode mode_) external {
        mode = mode_;
    }

    function onTaskResult(bytes32 task, bytes32 outcome_) external {
        require(mode != Mode.Refuse, "refused");
        if (mode == Mode.Burn) while (true) {}
        if (mode == Mode.Flood) {
            assembly {
                return(0, 100000)
            }
        }
        if (mode == Mode.Enter) ITaskResults(msg.sender).notify(task, address(this));
        outcome = outcome_;
    }
}

contract ResultsTest is Network {
    uint256 private constant COUNT = 7;
    bytes32 private constant TASK = keccak256("task");
    bytes32 private constant OUTCOME = keccak256("outcome");
    Consumer private consumer;

    function setUp() external {
        start(COUNT, 4);
        uint256[] memory best = new uint256[](1);
        best[0] = 0x78;
        checkpoints.roll(best);
        consumer = new Consumer();
    }

    function test_a_certificate_of_the_whole_set_counts() external {
        (uint256[] memory absent, bytes32[8] memory signature) = _certificate(2, TASK, OUTCOME);
        results.certify(1, TASK, OUTCOME, absent, signature, address(consumer));
        eq(results.outcomeOf(TASK), OUTCOME, "outcome");
        eq(consumer.outcome(), OUTCOME, "told");
        yes(results.hasTaken(TASK, address(consumer)), "taken");
        vm.expectRevert(abi.encodeWithSelector(ITaskResults.AlreadyTaken.selector, TASK, address(consumer)));
        results.notify(TASK, address(consumer));
        vm.expectRevert(abi.encodeWithSelector(ITaskResults.OtherOutcome.selector, TASK, OUTCOME));
        results.certify(1, TASK, TASK, absent, signature, address(0));
    }

    function test_forged_stale_and_small_certificates_are_refused() external {
        (uint256[] memory absent, bytes32[8] memory signature) = _certificate(0, TASK, OUTCOME);
        vm.expectRevert(ICertificateErrors.InvalidSignature.selector);
        results.certify(1, OUTCOME, OUTCOME, absent, signature, address(0));
        vm.expectRevert(ITaskResults.NoOutcome.selector);
        results.certify(1, TASK, 0, absent, signature, address(0));
        absent[0] = 0x07;
        vm.expectPartialRevert(ICertificateErrors.NoQuorum.selector);
        results.certify(1, TASK, OUTCOME, absent, signature, address(0));
        vm.expectRevert(abi.encodeWithSelector(IEpochs.UnknownEpoch.selector, 2));
        results.certify(2, TASK, OUTCOME, absent, signature, address(0));
        vm.warp(vm.getBlockTimestamp() + ANCHOR_AGE + 1);
        vm.expectRevert(abi.encodeWithSelector(IEpochs.StaleEpoch.selector, 1));
        results.certify(1, TASK, OUTCOME, absent, signature, address(0));
        checkpoints.openExit();
        vm.expectRevert(ITaskResults.NotOpen.selector);
        results.certify(1, TASK, OUTCOME, absent, signature, address(0));
    }

    function test_results_are_proven_against_a_checkpoint() external {
        bytes32 sibling = keccak256("sibling");
        bytes32 leaf = keccak256(abi.encodePacked(bytes1(0), TASK, OUTCOME));
        Header memory header = headerAt(3);
        header.results = keccak256(abi.encodePacked(bytes1(0x01), sibling, leaf));
        (uint256[] memory absent,) = attendance(4, 0);
        uint256 secret = 0;
        for (uint256 i = 3; i < 7; ++i) {
            secret = addmod(secret, Signer.secret(i), Signer.ORDER);
        }
        bytes32 id = checkpoints.headerId(header);
        checkpoints.submit(1, 3, 0, id, absent, Signer.sign(secret, Signing.precommit(CHAIN, 1, 3, 0, id)));
        HeaderProof memory proof = proofOf(header);
        bytes32[] memory siblings = new bytes32[](1);
        siblings[0] = sibling;
        vm.expectRevert(abi.encodeWithSelector(ITaskResults.ResultNotProven.selector, TASK));
        results.prove(TASK, OUTCOME, 0, siblings, proof, address(0));
        vm.expectRevert(abi.encodeWithSelector(ITaskResults.ResultNotProven.selector, TASK));
        results.prove(TASK, OUTCOME, 3, siblings, proof, address(0));
        results.prove(TASK, OUTCOME, 1, siblings, proof, address(consumer));
        eq(consumer.outcome(), OUTCOME, "told");
    }

    function test_no_consumer_blocks_or_enters() external {
        (uint256[] memory absent, bytes32[8] memory signature) = _certificate(0, TASK, OUTCOME);
        for (uint8 mode = 1; mode < 5; ++mode) {
            if (mode == uint8(Consumer.Mode.Flood)) continue;
            consumer.set(Consumer.Mode(mode));
            uint256 before = gasleft();
            results.certify(1, TASK, OUTCOME, absent, signature, address(consumer));
            yes(before - gasleft() < 700_000, "bounded gas");
            eq(results.outcomeOf(TASK), OUTCOME, "the result stands");
            yes(!results.hasTaken(TASK, address(consumer)), "not taken");
        }
        results.notify(TASK, address(0xdead));
        yes(!results.hasTaken(TASK, address(0xdead)), "no contract");
        vm.expectRevert(ITaskResults.TooLittleGas.selector);
        results.notify{gas: 340_000}(TASK, address(consumer));
        consumer.set(Consumer.Mode.Flood);
        uint256 gasBefore = gasleft();
        results.notify(TASK, address(consumer));
        yes(gasBefore - gasleft() < 150_000, "what it returns isn't copied");
        yes(results.hasTaken(TASK, address(consumer)), "taken");
    }

    function test_unknown_tasks_are_told_to_nobody() external {
        vm.expectRevert(abi.encodeWithSelector(ITaskResults.UnknownTask.selector, TASK));
        results.notify(TASK, address(consumer));
    }

    function test_requests_are_numbered() external {
        eq(results.request(TASK, "input"), 0, "first");
        eq(results.request(TASK, ""), 1, "second");
        bytes memory long = new bytes(16_385);
        vm.expectRevert(abi.encodeWithSelector(ITaskResults.InputTooLong.selector, 16_385));
        results.request(TASK, long);
    }

    function test_two_precommits_are_slashed_once() external {
        ISlasher.Signed memory first = _precommit(2, OUTCOME);
        ISlasher.Signed memory second = _precommit(2, 0);
        slasher.slashPrecommits(1, 9, 4, 2, first, second);
        eq(eigenLayer.shares(account(2), STRATEGY), 51 ether, "half is left");
        bytes32 offence = Signing.precommitOffence(CHAIN, account(2), 1, 9, 4);
        yes(slasher.isSlashed(offence), "offence");
        vm.expectRevert(abi.encodeWithSelector(ISlasher.AlreadySlashed.selector, offence));
        slasher.slashPrecommits(1, 9, 4, 2, second, first);
    }

    function test_two_outcomes_are_slashed() external {
        ISlasher.Signed memory first = _attested(1, OUTCOME);
        ISlasher.Signed memory second = _attested(1, TASK);
        vm.expectRevert(ISlasher.SameContent.selector);
        slasher.slashAttestations(1, TASK, 1, first, first);
        vm.expectRevert(ICertificateErrors.InvalidSignature.selector);
        slasher.slashAttestations(1, TASK, 2, first, second);
        vm.expectRevert(ICertificateErrors.InvalidSignature.selector);
        slasher.slashAttestations(1, OUTCOME, 1, first, second);
        vm.expectRevert(abi.encodeWithSelector(IEpochs.UnknownMember.selector, COUNT));
        slasher.slashAttestations(1, TASK, COUNT, first, second);
        vm.expectRevert(ICertificateErrors.InvalidSignature.selector);
        slasher.slashPrecommits(1, 9, 4, 1, first, second);
        slasher.slashAttestations(1, TASK, 1, first, second);
        eq(eigenLayer.shares(account(1), STRATEGY), 50.5 ether, "half is left");
    }

    function test_old_evidence_and_wrong_shares_are_refused() external {
        ISlasher.Signed memory first = _attested(1, OUTCOME);
        ISlasher.Signed memory second = _attested(1, TASK);
        vm.expectRevert(abi.encodeWithSelector(ISlasher.InvalidWad.selector, 0));
        slasher.setWad(ISlasher.Kind.Attestations, 0);
        vm.expectRevert(abi.encodeWithSelector(ISlasher.InvalidWad.selector, 1e18 + 1));
        slasher.setWad(ISlasher.Kind.Attestations, 1e18 + 1);
        slasher.setWad(ISlasher.Kind.Attestations, 1e18);
        vm.warp(vm.getBlockTimestamp() + ANCHOR_AGE + 1);
        vm.expectRevert(abi.encodeWithSelector(ISlasher.StaleEvidence.selector, 1));
        slasher.slashAttestations(1, TASK, 1, first, second);
    }

    function _certificate(uint256 absentCount, bytes32 task, bytes32 outcome)
        private
        view
        returns (uint256[] memory absent, bytes32[8] memory signature)
    {
        uint256 secret;
        (absent, secret) = attendance(COUNT, absentCount);
        signature = Signer.sign(secret, Signing.attestation(CHAIN, 1, task, outcome));
    }

    function _precommit(uint256 seed, bytes32 header) private view returns (ISlasher.Signed memory signed) {
        signed.content = header;
        signed.signature = Signer.sign(Signer.secret(seed), Signing.precommit(CHAIN, 1, 9, 4, header));
    }

    function _attested(uint256 seed, bytes32 outcome) private view returns (ISlasher.Signed memory signed) {
        signed.content = outcome;
        signed.signature = Signer.sign(Signer.secret(seed), Signing.attestation(CHAIN, 1, TASK, outcome));
    }
}
