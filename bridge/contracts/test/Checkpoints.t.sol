// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import {ICertificateErrors} from "../src/interfaces/ICertificateErrors.sol";
import {ICheckpoints} from "../src/interfaces/ICheckpoints.sol";
import {IEpochs} from "../src/interfaces/IEpochs.sol";
import {Certificate, Header, HeaderProof} from "../src/interfaces/Types.sol";
import {Signing} from "../src/libraries/Signing.sol";
import {Network} from "./support/Network.sol";
import {Signer} from "./support/Signer.sol";

contract CheckpointsTest is Network {
    uint256 private constant COUNT = 7;
    bytes32 private constant HEADER = keccak256("header");
    bytes32 private constant OTHER = keccak256("other header");

    receive() external payable {}

    function setUp() external {
        start(COUNT, 100);
        checkpoints.roll(new uint256[](0));
    }

    function test_an_anchor_is_kept() external {
        Certificate memory made = _certificate(1, 5, HEADER, 2);
        _submit(made);
        yes(checkpoints.isAnchored(5, HEADER), "anchored");
        yes(!checkpoints.isAnchored(5, OTHER) && !checkpoints.isAnchored(6, HEADER), "nothing else is");
        ICheckpoints.Anchor memory latest = checkpoints.latest();
        eq(latest.header, HEADER, "header");
        eq(latest.height, 5, "height");
        eq(latest.time, vm.getBlockTimestamp(), "time");
    }

    /// @dev The contract packs and unpacks what it keeps of the last anchor by hand.
    function test_all_that_is_kept_of_an_anchor_is_read_back() external {
        checkpoints.fund{value: 3 ether}();
        uint64 height = 1 << 40;
        _submit(_certificate(1, height, HEADER, 0));
        ICheckpoints.Anchor memory latest = checkpoints.latest();
        eq(latest.height, height, "height");
        eq(latest.epoch, 1, "epoch");
        eq(latest.time, vm.getBlockTimestamp(), "time");
        eq(uint256(checkpoints.mode()), uint256(ICheckpoints.Mode.Open), "mode");
        eq(checkpoints.potWei(), 3 ether, "pot");
    }

    function test_the_same_again_changes_nothing() external {
        Certificate memory made = _certificate(1, 5, HEADER, 0);
        _submit(made);
        uint256 time = checkpoints.latest().time;
        vm.warp(vm.getBlockTimestamp() + 100);
        _submit(made);
        eq(checkpoints.latest().time, time, "time");
    }

    function test_forged_signatures_are_refused() external {
        Certificate memory made = _certificate(1, 5, HEADER, 0);
        made.header = OTHER;
        _fails(made, abi.encodeWithSelector(ICertificateErrors.InvalidSignature.selector));
        // Others than those who are said to be absent.
        made = _certificate(1, 5, HEADER, 2);
        made.absent[0] <<= 1;
        if (made.absent[0] >> COUNT != 0) made.absent[0] = (made.absent[0] & ((1 << COUNT) - 1)) | 1;
        _fails(made, abi.encodeWithSelector(ICertificateErrors.InvalidSignature.selector));
        made = _certificate(1, 5, HEADER, 0);
        ++made.round;
        _fails(made, abi.encodeWithSelector(ICertificateErrors.InvalidSignature.selector));
    }

    function test_certificates_of_other_networks_and_epochs_are_refused() external {
        (uint256[] memory absent, uint256 secret) = attendance(COUNT, 0);
        bytes32 message = Signing.precommit("lamina-test-2", 1, 5, 0, HEADER);
        Certificate memory made = Certificate(1, 5, 0, HEADER, absent, Signer.sign(secret, message));
        _fails(made, abi.encodeWithSelector(ICertificateErrors.InvalidSignature.selector));
        message = Signing.attestation(CHAIN, 1, bytes32(uint256(5)), HEADER);
        made.signature = Signer.sign(secret, message);
        _fails(made, abi.encodeWithSelector(ICertificateErrors.InvalidSignature.selector));

        vm.warp(vm.getBlockTimestamp() + EPOCH_SECONDS);
        checkpoints.roll(new uint256[](0));
        made = _certificate(1, 5, HEADER, 0);
        made.epoch = 2;
        _fails(made, abi.encodeWithSelector(ICertificateErrors.InvalidSignature.selector));
        made.epoch = 3;
        _fails(made, abi.encodeWithSelector(IEpochs.UnknownEpoch.selector, 3));
    }

    function test_two_thirds_are_no_quorum() external {
        for (uint256 i = 0; i < COUNT; ++i) {
            setStake(i, i < 3 ? 30 ether : 0);
        }
        vm.warp(vm.getBlockTimestamp() + EPOCH_SECONDS);
        checkpoints.roll(new uint256[](0));
        (uint256[] memory absent,) = attendance(3, 0);
        absent[0] = 4;
        uint256 secret = addmod(Signer.secret(0), Signer.secret(1), Signer.ORDER);
        bytes32[8] memory signature = Signer.sign(secret, Signing.precommit(CHAIN, 2, 5, 0, HEADER));
        Certificate memory made = Certificate(2, 5, 0, HEADER, absent, signature);
        _fails(made, abi.encodeWithSelector(ICertificateErrors.NoQuorum.selector, 60e9, 90e9));
        made.absent[0] = 7;
        _fails(made, abi.encodeWithSelector(ICertificateErrors.NoQuorum.selector, 0, 90e9));
    }

    function test_points_have_one_encoding() external {
        Certificate memory made = _certificate(1, 5, HEADER, 0);
        bytes32[8] memory right = made.signature;
        bytes32[8] memory none;
        made.signature = none;
        _fails(made, abi.encodeWithSelector(ICertificateErrors.PointAtInfinity.selector));
        // x + p, which is x to whoever doesn't look.
        made.signature = right;
        unchecked {
            uint256 low = uint256(right[1]) + 0x64774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab;
            uint256 carry = low < uint256(right[1]) ? 1 : 0;
            made.signature[0] = bytes32(uint256(right[0]) + 0x1a0111ea397fe69a4b1ba7b6434bacd7 + carry);
            made.signature[1] = bytes32(low);
        }
        _fails(made, abi.encodeWithSelector(ICertificateErrors.MalformedPoint.selector));
        // Padding that isn't zero.
        made.signature[0] = right[0] | bytes32(uint256(1) << 255);
        made.signature[1] = right[1];
        _fails(made, abi.encodeWithSelector(ICertificateErrors.MalformedPoint.selector));
        // c1 before c0, as Rust's libraries have it.
        made.signature = right;
        (made.signature[0], made.signature[1], made.signature[2], made.signature[3]) =
        (right[2], right[3], right[0], right[1]);
        _fails(made, abi.encodeWithSelector(ICertificateErrors.MalformedPoint.selector));
    }

    function test_bitmaps_have_one_form() external {
        Certificate memory made = _certificate(1, 5, HEADER, 0);
        made.absent = new uint256[](2);
        _fails(made, abi.encodeWithSelector(ICertificateErrors.WrongBitmapLength.selector, 2, 1));
        made.absent = new uint256[](0);
        _fails(made, abi.encodeWithSelector(ICertificateErrors.WrongBitmapLength.selector, 0, 1));
        made.absent = new uint256[](1);
        made.absent[0] = 1 << COUNT;
        _fails(made, abi.encodeWithSelector(ICertificateErrors.BitmapOutsideSet.selector));
    }

    function test_heights_and_epochs_only_rise() external {
        _submit(_certificate(1, 5, HEADER, 0));
        _fails(_certificate(1, 5, OTHER, 0), abi.encodeWithSelector(ICheckpoints.HeightPassed.selector, 5, 5));
        _fails(_certificate(1, 4, OTHER, 0), abi.encodeWithSelector(ICheckpoints.HeightPassed.selector, 4, 5));
        _fails(_certificate(1, 6, 0, 0), abi.encodeWithSelector(ICheckpoints.NoHeader.selector));
        vm.warp(vm.getBlockTimestamp() + EPOCH_SECONDS);
        checkpoints.roll(new uint256[](0));
        _submit(_certificate(2, 9, OTHER, 0));
        _fails(_certificate(1, 10, HEADER, 0), abi.encodeWithSelector(ICheckpoints.EpochPassed.selector, 1, 2));
    }

    function test_old_operator_sets_sign_nothing() external {
        vm.warp(vm.getBlockTimestamp() + ANCHOR_AGE);
        _submit(_certificate(1, 5, HEADER, 0));
        vm.warp(vm.getBlockTimestamp() + 1);
        _fails(_certificate(1, 6, OTHER, 0), abi.encodeWithSelector(IEpochs.StaleEpoch.selector, 1));
    }

    function test_two_certificates_at_one_height_stop_everything() external {
        Certificate memory first = _certificate(1, 5, HEADER, 0);
        Certificate memory second = _certificate(1, 5, OTHER, 2);
        Header memory header = headerAt(4);
        bytes32 id = anchor(4, header, COUNT);
        vm.expectRevert(ICheckpoints.NoConflict.selector);
        checkpoints.freeze(first, first);
        second.height = 6;
        vm.expectRevert(ICheckpoints.NoConflict.selector);
        checkpoints.freeze(first, second);
        second.height = 5;
        second.round = 9;
        vm.expectRevert(ICertificateErrors.InvalidSignature.selector);
        checkpoints.freeze(first, second);
        second.round = 0;
        checkpoints.freeze(first, second);

        bytes memory frozen = abi.encodeWithSelector(ICheckpoints.NotOpen.selector, ICheckpoints.Mode.Frozen);
        _fails(_certificate(1, 6, HEADER, 0), frozen);
        vm.expectRevert(frozen);
        checkpoints.verifyHeader(proofOf(header));
        vm.warp(vm.getBlockTimestamp() + EXIT_DELAY + 1);
        vm.expectRevert(frozen);
        checkpoints.openExit();

        vm.prank(address(0xbad));
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, address(0xbad)));
        checkpoints.resolve(4, id);
        vm.expectRevert(abi.encodeWithSelector(ICheckpoints.NotAnchored.selector, OTHER));
        checkpoints.resolve(4, OTHER);
        checkpoints.resolve(4, id);
        eq(checkpoints.exitHeader(), id, "header to exit by");
        eq(checkpoints.verifyHeader(proofOf(header)), id, "header");
        vm.expectRevert(ICheckpoints.NotFrozen.selector);
        checkpoints.resolve(4, id);
    }

    function test_exit_opens_when_anchors_stop() external {
        Header memory header = headerAt(4);
        bytes32 id = anchor(4, header, COUNT);
        vm.warp(vm.getBlockTimestamp() + EXIT_DELAY);
        vm.expectRevert(abi.encodeWithSelector(ICheckpoints.ExitTooEarly.selector, vm.getBlockTimestamp()));
        checkpoints.openExit();
        vm.warp(vm.getBlockTimestamp() + 1);
        checkpoints.openExit();
        eq(checkpoints.exitHeader(), id, "header");
        bytes memory exit = abi.encodeWithSelector(ICheckpoints.NotOpen.selector, ICheckpoints.Mode.Exit);
        _fails(_certificate(1, 6, HEADER, 0), exit);
        vm.expectRevert(exit);
        checkpoints.openExit();
        eq(checkpoints.verifyHeader(proofOf(header)), id, "header");
    }

    function test_earlier_headers_are_proven_by_history() external {
        Header memory early = headerAt(1);
        bytes32 id = checkpoints.headerId(early);
        // A tree of two: genesis, and this one.
        bytes32 genesis = sha256(abi.encodePacked(uint8(0), keccak256("genesis")));
        Header memory late = headerAt(2);
        late.history = sha256(abi.encodePacked(uint8(1), genesis, sha256(abi.encodePacked(uint8(0), id))));
        anchor(2, late, COUNT);
        HeaderProof memory proof;
        proof.headers = new Header[](2);
        (proof.headers[0], proof.headers[1]) = (early, late);
        proof.siblings = new bytes32[](1);
        proof.siblings[0] = genesis;
        eq(checkpoints.verifyHeader(proof), id, "header");

        proof.headers[0].state = HEADER;
        bytes32 forged = checkpoints.headerId(proof.headers[0]);
        vm.expectRevert(abi.encodeWithSelector(ICheckpoints.NotInHistory.selector, forged));
        checkpoints.verifyHeader(proof);
        proof.headers[1].history = HEADER;
        vm.expectPartialRevert(ICheckpoints.NotAnchored.selector);
        checkpoints.verifyHeader(proof);
        proof.headers = new Header[](0);
        vm.expectRevert(ICheckpoints.MalformedHeaderProof.selector);
        checkpoints.verifyHeader(proof);
        proof.headers = new Header[](1);
        proof.headers[0] = late;
        vm.expectRevert(ICheckpoints.MalformedHeaderProof.selector);
        checkpoints.verifyHeader(proof);
    }

    function test_anchors_are_overwritten_after_a_lap() external {
        Header memory first = headerAt(1);
        bytes32 id = anchor(1, first, COUNT);
        anchor(257, headerAt(257), COUNT);
        yes(!checkpoints.isAnchored(1, id), "overwritten");
        vm.expectRevert(abi.encodeWithSelector(ICheckpoints.NotAnchored.selector, id));
        checkpoints.verifyHeader(proofOf(first));
    }

    function test_submitters_are_refunded_at_a_bounded_rate() external {
        vm.expectRevert(ICheckpoints.InvalidRefundPolicy.selector);
        checkpoints.setRefundPolicy(ICheckpoints.RefundPolicy(1_000_000, 60, 1, 1));
        checkpoints.setRefundPolicy(ICheckpoints.RefundPolicy(220_000, 60, 50 gwei, 2 gwei));
        checkpoints.fund{value: 0.02 ether}();
        vm.fee(10 gwei);
        vm.txGasPrice(30 gwei);
        vm.warp(vm.getBlockTimestamp() + 60);
        _submit(_certificate(1, 5, HEADER, 0));
        // The base fee and the highest priority fee, not what was bid.
        eq(checkpoints.refundOf(address(this)), 220_000 * 12 gwei, "refund");
        vm.warp(vm.getBlockTimestamp() + 59);
        _submit(_certificate(1, 6, OTHER, 0));
        eq(checkpoints.refundOf(address(this)), 220_000 * 12 gwei, "none within the interval");
        vm.fee(100 gwei);
        vm.txGasPrice(100 gwei);
        vm.warp(vm.getBlockTimestamp() + 60);
        _submit(_certificate(1, 7, HEADER, 0));
        eq(checkpoints.refundOf(address(this)), 220_000 * 62 gwei, "at the highest price");
        vm.warp(vm.getBlockTimestamp() + 60);
        _submit(_certificate(1, 8, HEADER, 0));
        eq(checkpoints.refundOf(address(this)), 0.02 ether, "what's left");
        eq(checkpoints.potWei(), 0, "pot");
        uint256 before = address(this).balance;
        checkpoints.collectRefund(payable(address(this)));
        eq(address(this).balance - before, 0.02 ether, "collected");
        vm.expectRevert(ICheckpoints.NothingCollected.selector);
        checkpoints.collectRefund(payable(address(this)));
    }

    function testFuzz_only_signed_headers_are_anchored(bytes32 header, uint64 height, uint32 round, uint256 absent)
        external
    {
        Certificate memory made = _certificate(1, 5, HEADER, 1);
        vm.assume(header != HEADER || height != 5 || round != 0 || absent != made.absent[0]);
        vm.assume(uint256(header) > 1);
        (made.header, made.height, made.round, made.absent[0]) = (header, height, round, absent % (1 << COUNT));
        vm.assume(
            made.absent[0] != _certificate(1, 5, HEADER, 1).absent[0] || header != HEADER || height != 5 || round != 0
        );
        vm.expectRevert();
        _submit(made);
    }

    function _certificate(uint64 epoch, uint64 height, bytes32 header, uint256 absentCount)
        private
        view
        returns (Certificate memory)
    {
        (uint256[] memory absent, uint256 secret) = attendance(COUNT, absentCount);
        bytes32 message = Signing.precommit(CHAIN, epoch, height, 0, header);
        return Certificate(epoch, height, 0, header, absent, Signer.sign(secret, message));
    }

    function _fails(Certificate memory made, bytes memory reason) private {
        vm.expectRevert(reason);
        _submit(made);
    }

    function _submit(Certificate memory made) private {
        checkpoints.submit(made.epoch, made.height, made.round, made.header, made.absent, made.signature);
    }
}
