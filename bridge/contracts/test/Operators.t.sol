// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ICertificateErrors} from "../src/interfaces/ICertificateErrors.sol";
import {IEpochs} from "../src/interfaces/IEpochs.sol";
import {IRegistrar} from "../src/interfaces/IRegistrar.sol";
import {BLS12381} from "../src/libraries/BLS12381.sol";
import {Signing} from "../src/libraries/Signing.sol";
import {Network} from "./support/Network.sol";
import {Signer} from "./support/Signer.sol";

/// @dev Registrations and epochs.
contract OperatorsTest is Network {
    function setUp() external {
        start(0, 4);
    }

    function test_an_operator_is_found_as_it_registered() external {
        register(3);
        IRegistrar.Operator memory found = registrar.operator(0);
        eq(found.account, account(3), "account");
        eq(found.peerKey, keccak256(abi.encode("peer", 3)), "node key");
        eq(found.blsKey, BLS12381.packG1(Signer.publicKey(Signer.secret(3))), "BLS key");
        yes(found.active, "active");
        registrar.pack();
        eq(registrar.operator(0).blsKey, found.blsKey, "packed key");
        eq(registrar.indexOf(account(3)), 0, "index");
    }

    function test_a_key_without_its_secret_is_refused() external {
        register(1);
        // Another's key with another's proof: the proof names the account.
        IRegistrar.Registration memory stolen = registration(2);
        _fails(account(3), stolen, _noPossession());
        // A key made from another's so that the sum is known: nobody can sign for it.
        IRegistrar.Registration memory rogue = registration(4);
        rogue.blsKey = BLS12381.addG1(rogue.blsKey, BLS12381.negateG1(Signer.publicKey(Signer.secret(1))));
        bytes32 digest = registrar.proofOfPossessionDigest(account(4), rogue.blsKey);
        rogue.proofOfPossession = Signer.sign(Signer.secret(4), digest);
        _fails(account(4), rogue, _noPossession());
    }

    function test_a_proof_for_another_contract_or_network_is_refused() external {
        IRegistrar.Registration memory made = registration(1);
        bytes memory key = BLS12381.compressG1(made.blsKey);
        bytes32 digest = Signing.proofOfPossession(CHAIN, account(1), address(1), key);
        made.proofOfPossession = Signer.sign(Signer.secret(1), digest);
        _fails(account(1), made, _noPossession());
        digest = Signing.proofOfPossession("lamina-test-2", account(1), address(registrar), key);
        made.proofOfPossession = Signer.sign(Signer.secret(1), digest);
        _fails(account(1), made, _noPossession());
    }

    function test_infinity_and_other_encodings_of_keys_are_refused() external {
        IRegistrar.Registration memory made = registration(1);
        bytes32[4] memory right = made.blsKey;
        bytes32[4] memory none;
        made.blsKey = none;
        _fails(account(1), made, abi.encodeWithSelector(ICertificateErrors.PointAtInfinity.selector));
        made.blsKey = right;
        made.blsKey[0] |= bytes32(uint256(1) << 200);
        _fails(account(1), made, abi.encodeWithSelector(ICertificateErrors.MalformedPoint.selector));
        made.blsKey[0] = right[0];
        made.blsKey[3] = bytes32(uint256(right[3]) ^ 1);
        _fails(account(1), made, abi.encodeWithSelector(ICertificateErrors.MalformedPoint.selector));
        bytes memory short = new bytes(479);
        vm.expectRevert(IRegistrar.MalformedRegistration.selector);
        eigenLayer.register(registrar, account(1), address(manager), SET_ID, short);
    }

    function test_keys_register_once_ever() external {
        register(1);
        IRegistrar.Registration memory again = registration(1);
        _fails(account(1), again, abi.encodeWithSelector(IRegistrar.AlreadyRegistered.selector, account(1)));
        eigenLayer.deregister(registrar, account(1), address(manager), SET_ID);
        yes(!registrar.operator(0).active, "over");
        _fails(account(1), again, abi.encodeWithSelector(IRegistrar.BlsKeyTaken.selector));
        _fails(account(2), again, abi.encodeWithSelector(IRegistrar.BlsKeyTaken.selector));
        IRegistrar.Registration memory other = registration(2);
        other.peerKey = again.peerKey;
        _fails(account(2), other, abi.encodeWithSelector(IRegistrar.PeerKeyTaken.selector));
        other.peerKey = 0;
        _fails(account(2), other, abi.encodeWithSelector(IRegistrar.PeerKeyTaken.selector));
        vm.expectRevert(abi.encodeWithSelector(IRegistrar.NotRegistered.selector, account(1)));
        eigenLayer.deregister(registrar, account(1), address(manager), SET_ID);
    }

    function test_only_eigenlayer_registers_and_only_for_this_set() external {
        bytes memory data = abi.encode(registration(1));
        uint32[] memory ids = new uint32[](1);
        ids[0] = SET_ID;
        vm.expectRevert(abi.encodeWithSelector(IRegistrar.NotAllocationManager.selector, address(this)));
        registrar.registerOperator(account(1), address(manager), ids, data);
        vm.expectRevert(IRegistrar.WrongOperatorSet.selector);
        eigenLayer.register(registrar, account(1), address(manager), SET_ID + 1, data);
        vm.expectRevert(IRegistrar.WrongOperatorSet.selector);
        eigenLayer.register(registrar, account(1), address(1), SET_ID, data);
        yes(registrar.supportsAVS(address(manager)) && !registrar.supportsAVS(address(1)), "service");
    }

    function test_admission() external {
        registrar.setOpen(false);
        _fails(account(1), registration(1), abi.encodeWithSelector(IRegistrar.NotAdmitted.selector, account(1)));
        registrar.admit(account(1), true);
        register(1);
        vm.prank(address(0xbad));
        vm.expectRevert();
        registrar.admit(account(2), true);
    }

    function test_chunks_are_packed_as_they_fill() external {
        for (uint256 i = 0; i < 258; ++i) {
            register(i);
            if (i == 100) eq(registrar.pack(), 101, "first part");
        }
        eq(registrar.pack(), 255, "first chunk");
        eq(registrar.pack(), 258, "second chunk");
        vm.expectRevert(IRegistrar.NothingToPack.selector);
        registrar.pack();
        for (uint256 i = 0; i < 258; i += 43) {
            bytes memory key = BLS12381.packG1(Signer.publicKey(Signer.secret(i)));
            eq(registrar.operator(i).blsKey, key, "key");
        }
        vm.expectRevert(abi.encodeWithSelector(IRegistrar.UnknownIndex.selector, 258));
        registrar.operator(258);
    }

    function test_a_snapshot_leaves_out_who_has_nothing_and_who_left() external {
        _operators(6);
        setStake(1, 0);
        setStake(2, 0.9e9);
        eigenLayer.deregister(registrar, account(4), address(manager), SET_ID);
        checkpoints.roll(new uint256[](0));
        (uint256[] memory found, uint64[] memory stakes) = checkpoints.members(1, false);
        eq(found.length, 3, "size");
        eq(found[0] << 16 | found[1] << 8 | found[2], 0x000305, "registrations");
        eq(stakes[1], 103e9, "stake in gwei");
        eq(checkpoints.epoch(1).root, _root(1, found, stakes), "root");
        eq(checkpoints.epoch(1).consensusRoot, checkpoints.epoch(1).root, "all finalise");
        eq(checkpoints.nextEpoch(), 2, "next epoch");
    }

    function test_pages_make_the_same_snapshot() external {
        _operators(9);
        uint256[] memory best = new uint256[](1);
        best[0] = 0x78; // 103, 104, 105, 106
        checkpoints.roll(best);
        vm.warp(vm.getBlockTimestamp() + EPOCH_SECONDS);
        checkpoints.extend(4);
        vm.expectRevert(abi.encodeWithSelector(IEpochs.EpochIncomplete.selector, 4, 9));
        checkpoints.finish(best);
        checkpoints.extend(1);
        (uint256 cursor, uint256 limit, uint256 size) = checkpoints.draft();
        eq(cursor << 16 | limit << 8 | size, 0x050905, "draft");
        checkpoints.extend(100);
        vm.expectRevert(IEpochs.NothingToExtend.selector);
        checkpoints.extend(1);
        checkpoints.finish(best);
        IEpochs.Epoch memory rolled = checkpoints.epoch(1);
        IEpochs.Epoch memory paged = checkpoints.epoch(2);
        eq(rolled.whole.data.codehash, paged.whole.data.codehash, "whole set");
        eq(rolled.consensus.data.codehash, paged.consensus.data.codehash, "consensus set");
        (uint256[] memory found, uint64[] memory stakes) = checkpoints.members(2, true);
        eq(paged.consensusRoot, _root(2, found, stakes), "consensus root");
    }

    function test_the_consensus_set_has_the_highest_stakes() external {
        _operators(9);
        uint256[] memory picks = new uint256[](1);
        // Stakes are 100 to 106, 100, 101; of the equal ones the first ones come first.
        uint256[6] memory wrong = [uint256(0x3c), 0x70, 0xf8, 0x178, 0x7a, 0x278];
        for (uint256 i = 0; i < wrong.length; ++i) {
            picks[0] = wrong[i];
            vm.expectRevert(IEpochs.WrongConsensusSet.selector);
            checkpoints.roll(picks);
        }
        vm.expectRevert(IEpochs.WrongConsensusSet.selector);
        checkpoints.roll(new uint256[](0));
        setStake(6, 101 ether);
        setStake(5, 101 ether);
        picks[0] = 0x1e; // 102, 103, 104, and the first of four with 101
        checkpoints.roll(picks);
        (uint256[] memory found,) = checkpoints.members(1, true);
        eq(found.length, 4, "size");
    }

    function testFuzz_only_the_right_selection_is_taken(uint256[8] memory stakes, uint8 picks) external {
        _operators(8);
        for (uint256 i = 0; i < 8; ++i) {
            stakes[i] = 1 + stakes[i] % 4;
            setStake(i, stakes[i] * 1e9);
        }
        uint256 right = 0;
        for (uint256 i = 0; i < 8; ++i) {
            uint256 better = 0;
            for (uint256 j = 0; j < 8; ++j) {
                if (stakes[j] > stakes[i] || (stakes[j] == stakes[i] && j < i)) ++better;
            }
            if (better < 4) right |= 1 << i;
        }
        uint256[] memory bitmap = new uint256[](1);
        bitmap[0] = picks;
        if (picks != right) {
            if (picks == 0) bitmap[0] = 0x100;
            vm.expectRevert(IEpochs.WrongConsensusSet.selector);
            checkpoints.roll(bitmap);
        }
        bitmap[0] = right;
        checkpoints.roll(bitmap);
    }

    function test_epochs_have_a_least_length_and_a_set() external {
        vm.expectRevert(IEpochs.NothingToExtend.selector);
        checkpoints.roll(new uint256[](0));
        _operators(1);
        setStake(0, 0);
        vm.expectRevert(IEpochs.EmptySet.selector);
        checkpoints.roll(new uint256[](0));
        setStake(0, 1 ether);
        checkpoints.roll(new uint256[](0));
        vm.expectRevert(abi.encodeWithSelector(IEpochs.EpochTooEarly.selector, vm.getBlockTimestamp() + EPOCH_SECONDS));
        checkpoints.roll(new uint256[](0));
        vm.expectRevert(abi.encodeWithSelector(IEpochs.UnknownEpoch.selector, 2));
        checkpoints.epoch(2);
        vm.expectRevert(abi.encodeWithSelector(IEpochs.UnknownMember.selector, 1));
        checkpoints.member(1, 1);
    }

    function test_a_snapshot_in_the_making_grows_too_old() external {
        _operators(3);
        checkpoints.extend(3);
        vm.warp(vm.getBlockTimestamp() + 1 days + 1);
        vm.expectPartialRevert(IEpochs.EpochIncomplete.selector);
        checkpoints.finish(new uint256[](0));
        setStake(0, 1 ether);
        checkpoints.roll(new uint256[](0));
        (, uint64[] memory stakes) = checkpoints.members(1, false);
        eq(stakes[0], 1e9, "stake of now");
    }

    function test_stake_is_bounded_and_strategies_are_checked() external {
        _operators(2);
        setStake(0, 1e38);
        checkpoints.roll(new uint256[](0));
        (, uint64[] memory stakes) = checkpoints.members(1, false);
        eq(stakes[0], (1 << 50) - 1, "bounded stake");
        IEpochs.Strategy[] memory two = new IEpochs.Strategy[](2);
        (two[0], two[1]) = (IEpochs.Strategy(address(2), 1), IEpochs.Strategy(address(1), 1));
        vm.expectRevert(IEpochs.InvalidStrategies.selector);
        checkpoints.setStrategies(two, 1);
        vm.expectRevert(IEpochs.InvalidStrategies.selector);
        checkpoints.setStrategies(new IEpochs.Strategy[](0), 1);
        vm.prank(address(0xbad));
        vm.expectRevert();
        checkpoints.setStrategies(two, 1);
    }

    /// @dev The set's root, member by member.
    function _root(uint64 epoch, uint256[] memory found, uint64[] memory stakes) private view returns (bytes32) {
        bytes memory preimage = abi.encodePacked(bytes32("lamina/operator-set/v1"), CHAIN, epoch, uint64(found.length));
        for (uint256 i = 0; i < found.length; ++i) {
            IRegistrar.Operator memory member = registrar.operator(found[i]);
            bytes memory key = BLS12381.compressG1(BLS12381.unpackG1(member.blsKey));
            preimage = bytes.concat(preimage, abi.encodePacked(member.account, member.peerKey, key, stakes[i]));
        }
        return sha256(preimage);
    }

    function _operators(uint256 count) private {
        for (uint256 i = 0; i < count; ++i) {
            register(i);
            setStake(i, (100 + i % 7) * 1 ether);
        }
    }

    function _fails(address operator, IRegistrar.Registration memory made, bytes memory reason) private {
        bytes memory data = abi.encode(made);
        vm.expectRevert(reason);
        eigenLayer.register(registrar, operator, address(manager), SET_ID, data);
    }

    function _noPossession() private pure returns (bytes memory) {
        return abi.encodeWithSelector(IRegistrar.NoPossession.selector);
    }
}
