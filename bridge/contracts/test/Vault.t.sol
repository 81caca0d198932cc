// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {LimitedPause} from "../src/LimitedPause.sol";
import {ICheckpoints} from "../src/interfaces/ICheckpoints.sol";
import {IVault} from "../src/interfaces/IVault.sol";
import {Header, HeaderProof} from "../src/interfaces/Types.sol";
import {ClaimsTree} from "./support/ClaimsTree.sol";
import {Network} from "./support/Network.sol";
import {Token} from "./support/Tokens.sol";

/// @dev Takes no ether at first, and tries to be paid again when it does.
contract Recipient {
    bool public willing;
    bytes public again;

    function agree(bytes calldata call_) external {
        (willing, again) = (true, call_);
    }

    function collect(IVault vault, bytes32 asset, address to) external {
        vault.collect(asset, to);
    }

    receive() external payable {
        require(willing, "unwilling");
        if (again.length != 0) {
            (bool ok,) = msg.sender.call(again);
            require(ok, "refused");
        }
    }
}

contract VaultTest is Network {
    uint256 private constant COUNT = 4;
    address private constant ALICE = address(0xa11ce);
    address private constant BOB = address(0xb0b);
    bytes32 private constant ETHER = 0;

    ClaimsTree private tree;
    Token private token;
    bytes32 private asset;
    uint64 private height;

    function setUp() external {
        start(COUNT, 100);
        checkpoints.roll(new uint256[](0));
        tree = new ClaimsTree();
        token = _token(0);
        asset = _word(token);
        vm.deal(address(this), 1_000 ether);
    }

    function test_deposits_are_numbered_and_held() external {
        eq(vault.depositEther{value: 2 ether}(ALICE), 0, "first");
        eq(vault.deposit(token, 5, BOB), 1, "second");
        eq(vault.reserve(ETHER), 2 ether, "ether");
        eq(vault.reserve(asset), 5, "token");
        eq(vault.depositCount(), 2, "count");
        vm.expectRevert(IVault.NothingDeposited.selector);
        vault.depositEther(ALICE);
        vm.expectRevert(IVault.NoAccount.selector);
        vault.depositEther{value: 1}(address(0));
        token.mint(address(this), uint256(1) << 128);
        vm.expectRevert(IVault.AmountTooLarge.selector);
        vault.deposit(token, 1 << 128, BOB);
    }

    function test_what_arrives_is_credited() external {
        Token costly = _token(10);
        vault.deposit(costly, 1_000, ALICE);
        eq(vault.reserve(_word(costly)), 900, "less the fee");
    }

    function test_claims_are_paid_once() external {
        vault.depositEther{value: 2 ether}(ALICE);
        vault.deposit(token, 50, ALICE);
        uint64 first = tree.append(BOB, ETHER, 1 ether);
        uint64 second = tree.append(BOB, asset, 20);
        HeaderProof memory proof = _anchor();
        IVault.Claim[] memory claims = new IVault.Claim[](2);
        claims[0] = tree.claim(first, BOB, ETHER, 1 ether);
        claims[1] = tree.claim(second, BOB, asset, 20);
        vault.withdraw(claims, proof);
        eq(BOB.balance, 1 ether, "ether");
        eq(token.balanceOf(BOB), 20, "tokens");
        yes(vault.isPaid(0) && vault.isPaid(1) && !vault.isPaid(2), "paid");
        vm.expectRevert(abi.encodeWithSelector(IVault.AlreadyPaid.selector, 0));
        vault.withdraw(claims, proof);
        // Nor against a later checkpoint.
        tree.append(ALICE, ETHER, 1);
        proof = _anchor();
        claims[0] = tree.claim(first, BOB, ETHER, 1 ether);
        vm.expectRevert(abi.encodeWithSelector(IVault.AlreadyPaid.selector, 0));
        vault.withdraw(claims, proof);
    }

    function test_claims_are_proven_in_every_field() external {
        vault.depositEther{value: 2 ether}(ALICE);
        tree.append(BOB, ETHER, 1 ether);
        HeaderProof memory proof = _anchor();
        IVault.Claim[] memory claims = new IVault.Claim[](1);
        claims[0] = tree.claim(0, BOB, ETHER, 1 ether);
        claims[0].amount = 2 ether;
        _unproven(claims, proof, 0);
        (claims[0].amount, claims[0].recipient) = (1 ether, ALICE);
        _unproven(claims, proof, 0);
        (claims[0].recipient, claims[0].asset) = (BOB, asset);
        _unproven(claims, proof, 0);
        (claims[0].asset, claims[0].index) = (ETHER, 1);
        _unproven(claims, proof, 1);
        // The same path, beyond the tree.
        claims[0].index = 1 << 32;
        _unproven(claims, proof, 1 << 32);
        claims[0].index = 0;
        claims[0].siblings[31] ^= bytes32(uint256(1));
        _unproven(claims, proof, 0);
        proof.headers[0].claims = keccak256("forged");
        vm.expectPartialRevert(ICheckpoints.NotAnchored.selector);
        vault.withdraw(claims, proof);
    }

    function test_no_more_of_an_asset_leaves_than_came() external {
        vault.depositEther{value: 1 ether}(ALICE);
        vault.deposit(token, 5, ALICE);
        tree.append(BOB, ETHER, 2 ether);
        tree.append(BOB, asset, 6);
        tree.append(BOB, bytes32(uint256(7) << 200), 0);
        HeaderProof memory proof = _anchor();
        IVault.Claim[] memory claims = new IVault.Claim[](1);
        claims[0] = tree.claim(0, BOB, ETHER, 2 ether);
        vm.expectRevert(abi.encodeWithSelector(IVault.InsufficientReserve.selector, ETHER, 1 ether, 2 ether));
        vault.withdraw(claims, proof);
        claims[0] = tree.claim(1, BOB, asset, 6);
        vm.expectRevert(abi.encodeWithSelector(IVault.InsufficientReserve.selector, asset, 5, 6));
        vault.withdraw(claims, proof);
        claims[0] = tree.claim(2, BOB, bytes32(uint256(7) << 200), 0);
        vm.expectRevert(abi.encodeWithSelector(IVault.UnknownAsset.selector, bytes32(uint256(7) << 200)));
        vault.withdraw(claims, proof);
    }

    function test_who_refuses_its_payment_holds_up_nobody() external {
        Recipient unwilling = new Recipient();
        token.refuse(address(unwilling));
        vault.depositEther{value: 2 ether}(ALICE);
        vault.deposit(token, 50, ALICE);
        tree.append(address(unwilling), ETHER, 1 ether);
        tree.append(address(unwilling), asset, 9);
        tree.append(BOB, ETHER, 1 ether);
        HeaderProof memory proof = _anchor();
        IVault.Claim[] memory claims = new IVault.Claim[](3);
        claims[0] = tree.claim(0, address(unwilling), ETHER, 1 ether);
        claims[1] = tree.claim(1, address(unwilling), asset, 9);
        claims[2] = tree.claim(2, BOB, ETHER, 1 ether);
        vault.withdraw(claims, proof);
        eq(BOB.balance, 1 ether, "the other one");
        eq(vault.keptFor(address(unwilling), ETHER), 1 ether, "kept ether");
        eq(vault.keptFor(address(unwilling), asset), 9, "kept tokens");
        vm.expectRevert(IVault.NothingCollected.selector);
        unwilling.collect(vault, ETHER, address(unwilling));
        unwilling.collect(vault, ETHER, ALICE);
        unwilling.collect(vault, asset, ALICE);
        eq(ALICE.balance, 1 ether, "collected ether");
        eq(token.balanceOf(ALICE), 9, "collected tokens");
        vm.expectRevert(IVault.NothingCollected.selector);
        unwilling.collect(vault, ETHER, ALICE);
    }

    function test_recipients_cannot_enter_again() external {
        Recipient greedy = new Recipient();
        vault.depositEther{value: 3 ether}(ALICE);
        tree.append(address(greedy), ETHER, 1 ether);
        tree.append(address(greedy), ETHER, 1 ether);
        HeaderProof memory proof = _anchor();
        IVault.Claim[] memory claims = new IVault.Claim[](1);
        claims[0] = tree.claim(1, address(greedy), ETHER, 1 ether);
        greedy.agree(abi.encodeCall(IVault.withdraw, (claims, proof)));
        claims[0] = tree.claim(0, address(greedy), ETHER, 1 ether);
        vault.withdraw(claims, proof);
        eq(address(greedy).balance, 0, "nothing arrived");
        eq(vault.keptFor(address(greedy), ETHER), 1 ether, "kept");
        yes(!vault.isPaid(1), "the other claim");
    }

    function test_holders_leave_when_anchors_stop() external {
        vault.depositEther{value: 3 ether}(ALICE);
        vm.roll(vm.getBlockNumber() + 10);
        vault.depositEther{value: 2 ether}(BOB);
        tree.append(BOB, ETHER, 1 ether);
        // Alice has 2 of 3 ether left after a claim of 1 for Bob; the state has her balance alone.
        Header memory header = headerAt(1);
        header.claims = tree.root();
        header.ethereumNumber = uint64(vm.getBlockNumber() - 1);
        header.state = _stateLeaf(ALICE, ETHER, 2 ether);
        anchor(1, header, COUNT);
        bytes32[] memory none = new bytes32[](0);
        vm.expectRevert(IVault.NotInExit.selector);
        vault.exit(ALICE, ETHER, 2 ether, header, none);
        vm.warp(vm.getBlockTimestamp() + EXIT_DELAY + 1);
        checkpoints.openExit();

        vm.expectRevert(IVault.BalanceNotProven.selector);
        vault.exit(ALICE, ETHER, 3 ether, header, none);
        Header memory other = headerAt(2);
        vm.expectPartialRevert(IVault.WrongExitHeader.selector);
        vault.exit(ALICE, ETHER, 2 ether, other, none);
        vault.exit(ALICE, ETHER, 2 ether, header, none);
        eq(ALICE.balance, 2 ether, "balance");
        vm.expectRevert(IVault.AlreadyExited.selector);
        vault.exit(ALICE, ETHER, 2 ether, header, none);

        IVault.Deposit memory credited = IVault.Deposit(0, ALICE, ETHER, 3 ether, uint64(vm.getBlockNumber() - 10));
        vm.expectRevert(abi.encodeWithSelector(IVault.DepositCredited.selector, 0));
        vault.returnDeposit(credited, header);
        IVault.Deposit memory late = IVault.Deposit(1, BOB, ETHER, 2 ether, uint64(vm.getBlockNumber()));
        late.amount = 3 ether;
        vm.expectRevert(abi.encodeWithSelector(IVault.UnknownDeposit.selector, 1));
        vault.returnDeposit(late, header);
        late.amount = 2 ether;
        vault.returnDeposit(late, header);
        eq(BOB.balance, 2 ether, "deposit");
        vm.expectRevert(abi.encodeWithSelector(IVault.UnknownDeposit.selector, 1));
        vault.returnDeposit(late, header);

        IVault.Claim[] memory claims = new IVault.Claim[](1);
        claims[0] = tree.claim(0, BOB, ETHER, 1 ether);
        vault.withdraw(claims, proofOf(header));
        eq(BOB.balance, 3 ether, "claim");
        eq(vault.reserve(ETHER), 0, "all has left");
        vm.expectRevert(IVault.DepositsClosed.selector);
        vault.depositEther{value: 1}(ALICE);
    }

    function test_deposits_return_where_no_anchor_ever_came() external {
        vault.depositEther{value: 3 ether}(ALICE);
        IVault.Deposit memory made = IVault.Deposit(0, ALICE, ETHER, 3 ether, uint64(vm.getBlockNumber()));
        Header memory none;
        vm.expectRevert(IVault.NotInExit.selector);
        vault.returnDeposit(made, none);
        vm.warp(vm.getBlockTimestamp() + EXIT_DELAY + 1);
        checkpoints.openExit();
        vault.returnDeposit(made, none);
        eq(ALICE.balance, 3 ether, "deposit");
    }

    function test_pauses_end_by_themselves() external {
        vm.prank(address(0xbad));
        vm.expectRevert();
        LimitedPause(address(vault)).pause();
        LimitedPause(address(vault)).pause();
        vm.expectRevert(Pausable.EnforcedPause.selector);
        vault.depositEther{value: 1}(ALICE);
        vm.expectPartialRevert(LimitedPause.PauseTooSoon.selector);
        LimitedPause(address(vault)).pause();
        vm.warp(vm.getBlockTimestamp() + 7 days);
        vault.depositEther{value: 1}(ALICE);
        vm.expectPartialRevert(LimitedPause.PauseTooSoon.selector);
        LimitedPause(address(vault)).pause();
        vm.warp(vm.getBlockTimestamp() + 7 days);
        LimitedPause(address(vault)).pause();
        LimitedPause(address(vault)).unpause();
        vault.depositEther{value: 1}(ALICE);
    }

    function _unproven(IVault.Claim[] memory claims, HeaderProof memory proof, uint64 index) private {
        vm.expectRevert(abi.encodeWithSelector(IVault.ClaimNotProven.selector, index));
        vault.withdraw(claims, proof);
    }

    function _anchor() private returns (HeaderProof memory) {
        Header memory header = headerAt(++height);
        header.claims = tree.root();
        anchor(height, header, COUNT);
        return proofOf(header);
    }

    /// @dev The root of a state tree of one balance.
    function _stateLeaf(address holder, bytes32 word, uint128 amount) private pure returns (bytes32) {
        bytes memory key = abi.encodePacked("bank/balances/", bytes1(0), holder, word);
        bytes memory value = new bytes(16);
        for (uint256 i = 0; i < 16; ++i) {
            value[i] = bytes1(uint8(amount >> (8 * i)));
        }
        return sha256(abi.encodePacked("JMT::LeafNode", sha256(key), sha256(value)));
    }

    function _token(uint256 feePercent) private returns (Token made) {
        made = new Token(feePercent);
        made.mint(address(this), 1_000);
        made.approve(address(vault), type(uint256).max);
    }

    function _word(Token made) private pure returns (bytes32) {
        return bytes32(1 << 160 | uint256(uint160(address(made))));
    }
}

/// @dev Deposits, claims of all sorts (true, forged and repeated) and exits, in any order.
contract VaultHandler is Network {
    bytes32 private constant ETHER = 0;
    uint256 private constant COUNT = 4;

    ClaimsTree public tree;
    Token public token;
    bytes32 public asset;
    mapping(bytes32 asset => uint256) public paidIn;
    uint64 public height;
    Header private _header;
    IVault.Claim[] private _claims;

    constructor() {
        start(COUNT, 100);
        checkpoints.roll(new uint256[](0));
        tree = new ClaimsTree();
        token = new Token(0);
        asset = bytes32(1 << 160 | uint256(uint160(address(token))));
        token.mint(address(this), 1e30);
        token.approve(address(vault), type(uint256).max);
        vm.deal(address(this), 1e30);
    }

    receive() external payable {}

    function depositEther(uint64 amount) external {
        vault.depositEther{value: amount}(address(this));
        paidIn[ETHER] += amount;
    }

    function depositToken(uint64 amount) external {
        vault.deposit(token, amount, address(this));
        paidIn[asset] += amount;
    }

    /// @dev A claim on the ledger, which may be for more than there is.
    function claim(bool ofToken, uint64 amount, uint8 recipient) external {
        address to = address(uint160(0x77770000 + uint256(recipient)));
        bytes32 word = ofToken ? asset : ETHER;
        uint64 index = tree.append(to, word, amount);
        IVault.Claim memory made;
        (made.index, made.recipient, made.asset, made.amount) = (index, to, word, amount);
        _claims.push(made);
        _header = headerAt(++height);
        _header.claims = tree.root();
        anchor(height, _header, COUNT);
    }

    function withdraw(uint256 which, uint64 forgedAmount, bool forged) external {
        IVault.Claim memory made = _claims[which % _claims.length];
        IVault.Claim[] memory claims = new IVault.Claim[](1);
        claims[0] = tree.claim(made.index, made.recipient, made.asset, made.amount);
        if (forged) claims[0].amount = forgedAmount;
        vault.withdraw(claims, proofOf(_header));
    }

    function held(bytes32 word) external view returns (uint256 inVault, uint256 reserve) {
        inVault = word == ETHER ? address(vault).balance : token.balanceOf(address(vault));
        reserve = vault.reserve(word);
    }

    /// @dev The sum of the claims that were paid.
    function paidOut(bytes32 word) external view returns (uint256 sum) {
        for (uint256 i = 0; i < _claims.length; ++i) {
            if (_claims[i].asset == word && vault.isPaid(_claims[i].index)) sum += _claims[i].amount;
        }
    }
}

contract VaultInvariantTest is Network {
    VaultHandler private handler;

    function setUp() external {
        handler = new VaultHandler();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    /// @dev What came in is there or was paid, of each asset, and each claim was paid once.
    function invariant_the_vault_pays_what_it_took_in() external view {
        bytes32[2] memory words = [bytes32(0), handler.asset()];
        for (uint256 i = 0; i < 2; ++i) {
            (uint256 inVault, uint256 reserve) = handler.held(words[i]);
            eq(inVault, reserve, "held");
            eq(reserve + handler.paidOut(words[i]), handler.paidIn(words[i]), "in and out");
        }
    }
}
