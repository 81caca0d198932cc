// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ICertificateErrors} from "../src/interfaces/ICertificateErrors.sol";
import {Header} from "../src/interfaces/Types.sol";
import {BLS12381} from "../src/libraries/BLS12381.sol";
import {History} from "../src/libraries/History.sol";
import {KeccakTrees} from "../src/libraries/KeccakTrees.sol";
import {Signing} from "../src/libraries/Signing.sol";
import {StateTree} from "../src/libraries/StateTree.sol";
import {Signer} from "./support/Signer.sol";
import {Test} from "./support/Test.sol";

/// @dev The libraries' functions as calls, whose reverts can be caught.
contract Libraries {
    bytes32 private constant CHAIN = "lamina-test-1";

    function verifies(bytes32[4] memory key, bytes32[8] memory signature, bytes32 message)
        external
        view
        returns (bool)
    {
        return BLS12381.verifies(key, signature, message);
    }

    function addG1(bytes calldata input) external view returns (bytes memory) {
        (bytes32[4] memory a, bytes32[4] memory b) = abi.decode(input, (bytes32[4], bytes32[4]));
        return abi.encode(BLS12381.addG1(a, b));
    }

    function addG2(bytes calldata input) external view returns (bytes memory) {
        (bytes32[8] memory a, bytes32[8] memory b) = abi.decode(input, (bytes32[8], bytes32[8]));
        return abi.encode(BLS12381.addG2(a, b));
    }

    function mapToG2(bytes calldata input) external view returns (bytes memory) {
        return abi.encode(BLS12381.mapToG2(abi.decode(input, (bytes32[4]))));
    }

    function pairing(bytes calldata input) external view returns (bytes memory) {
        return abi.encode(BLS12381.pairing(input));
    }

    function headerId(Header calldata header) external pure returns (bytes32) {
        return Signing.headerId(CHAIN, header);
    }

    function inHistory(bytes32 root, uint64 leaves, uint64 index, bytes32 leaf, bytes32[] calldata siblings)
        external
        pure
        returns (bool)
    {
        return History.has(root, leaves, index, leaf, siblings);
    }

    function inState(bytes32 root, address account, bytes32 asset, uint128 amount, bytes32[] calldata siblings)
        external
        pure
        returns (bool)
    {
        return StateTree.has(root, StateTree.balanceKey(account, asset), StateTree.balanceValue(amount), siblings);
    }

    function hasResult(bytes32 root, bytes32 task, bytes32 outcome, uint32 left, bytes32[] calldata siblings)
        external
        pure
        returns (bool)
    {
        return KeccakTrees.hasResult(root, task, outcome, left, siblings);
    }
}

/// @dev The libraries against published vectors, and against digests and proofs that other code made (tools/vectors.mjs).
contract LibraryTest is Test {
    bytes32 private constant CHAIN = "lamina-test-1";
    Libraries private libraries;
    string private json;

    function setUp() external {
        libraries = new Libraries();
        json = vm.readFile("test/vectors/lamina.json");
    }

    function test_selfTest() external view {
        BLS12381.selfTest();
    }

    function test_eip2537_vectors() external {
        _eip2537("add_G1_bls.json", libraries.addG1);
        _eip2537("fail-add_G1_bls.json", libraries.addG1);
        _eip2537("add_G2_bls.json", libraries.addG2);
        _eip2537("fail-add_G2_bls.json", libraries.addG2);
        _eip2537("map_fp2_to_G2_bls.json", libraries.mapToG2);
        _eip2537("fail-map_fp2_to_G2_bls.json", libraries.mapToG2);
        _eip2537("pairing_check_bls.json", libraries.pairing);
        _eip2537("fail-pairing_check_bls.json", libraries.pairing);
    }

    function test_rfc9380_vectors() external {
        bytes[] memory points = _vectors("rfc9380", "rfc9380", "BLS12381G2_XMD_SHA-256_SSWU_RO_.json");
        for (uint256 i = 0; i < points.length; i += 3) {
            eq(abi.encode(BLS12381.hashToG2(points[i], points[i + 1])), points[i + 2], "point");
        }
        string[2] memory files = ["expand_message_xmd_SHA256_38.json", "expand_message_xmd_SHA256_256.json"];
        for (uint256 f = 0; f < 2; ++f) {
            bytes[] memory tests = _vectors("expand", "rfc9380", files[f]);
            for (uint256 i = 0; i < tests.length; i += 3) {
                // A tag above 255 bytes is hashed first, which ours, of 43, never needs.
                if (tests[i + 1].length > 255) continue;
                bytes memory uniform = BLS12381.expandMessage(tests[i], tests[i + 1], tests[i + 2].length);
                eq(uniform, tests[i + 2], "uniform bytes");
            }
        }
    }

    function test_bls_vectors() external {
        bytes[] memory cases = _vectors("bls", "bls12-381", "");
        uint256 valid = 0;
        for (uint256 i = 0; i < cases.length; i += 4) {
            bytes32[4] memory key;
            for (uint256 from = 0; from < cases[i].length; from += 128) {
                key = BLS12381.addG1(key, abi.decode(_slice(cases[i], from, 128), (bytes32[4])));
            }
            bytes32[8] memory signature = abi.decode(cases[i + 1], (bytes32[8]));
            bool expected = cases[i + 3][0] != 0;
            try libraries.verifies(key, signature, bytes32(cases[i + 2])) returns (bool holds) {
                yes(holds == expected, "verification");
            } catch {
                yes(!expected, "revert of a valid signature");
            }
            if (expected) ++valid;
        }
        yes(valid >= 6, "valid cases");
    }

    function test_digests_are_those_of_other_code() external view {
        address operator = address(0x1111111111111111111111111111111111111111);
        address registrar = address(0x2222222222222222222222222222222222222222);
        bytes32 header = bytes32(uint256(type(uint256).max) / 255 * 0x33);
        bytes32 task = bytes32(uint256(type(uint256).max) / 255 * 0x44);
        bytes32 outcome = bytes32(uint256(type(uint256).max) / 255 * 0x55);
        bytes32[4] memory key = abi.decode(_bytes(".key"), (bytes32[4]));
        bytes memory compressed = BLS12381.compressG1(key);
        eq(compressed, _bytes(".compressed"), "compressed key");
        bytes memory negated = BLS12381.compressG1(BLS12381.negateG1(key));
        eq(negated[0] ^ compressed[0], bytes1(0x20), "sign of the negated key");
        eq(abi.encode(BLS12381.negateG1(key)), _bytes(".negatedKey"), "negated key");
        eq(abi.encode(Signer.publicKey(0x1234567890abcdef)), _bytes(".key"), "key of the secret");
        eq(Signing.proofOfPossession(CHAIN, operator, registrar, compressed), _word(".proofOfPossession"), "possession");
        eq(Signing.precommit(CHAIN, 3, 7, 2, header), _word(".precommit"), "precommit");
        eq(Signing.precommit(CHAIN, 3, 7, 2, 0), _word(".precommitNil"), "precommit for none");
        eq(Signing.attestation(CHAIN, 3, task, outcome), _word(".attestation"), "attestation");
        eq(Signing.precommitOffence(CHAIN, operator, 3, 7, 2), _word(".precommitOffence"), "precommit offence");
        eq(Signing.attestationOffence(CHAIN, operator, 3, task), _word(".attestationOffence"), "attestation offence");
        eq(libraries.headerId(_header()), _word(".headerId"), "header");
    }

    function test_signatures_are_those_of_other_code() external view {
        bytes32[4] memory key = abi.decode(_bytes(".key"), (bytes32[4]));
        bytes32[8] memory signature = abi.decode(_bytes(".signature"), (bytes32[8]));
        yes(libraries.verifies(key, signature, _word(".precommit")), "noble's signature");
        yes(!libraries.verifies(key, signature, _word(".precommitNil")), "of another message");
        eq(abi.encode(Signer.sign(0x1234567890abcdef, _word(".precommit"))), abi.encode(signature), "ours");
    }

    function test_infinity_is_neither_key_nor_signature() external {
        bytes32[4] memory key = abi.decode(_bytes(".key"), (bytes32[4]));
        bytes32[8] memory signature = abi.decode(_bytes(".signature"), (bytes32[8]));
        bytes32[4] memory noKey;
        bytes32[8] memory noSignature;
        vm.expectRevert(ICertificateErrors.PointAtInfinity.selector);
        libraries.verifies(noKey, noSignature, 0);
        vm.expectRevert(ICertificateErrors.PointAtInfinity.selector);
        libraries.verifies(key, noSignature, 0);
        vm.expectRevert(ICertificateErrors.PointAtInfinity.selector);
        libraries.verifies(noKey, signature, 0);
    }

    function test_history_proofs_are_those_of_rfc6962() external {
        bytes32[] memory leaves = vm.parseJsonBytes32Array(json, ".historyLeaves");
        bytes32 root = _word(".historyRoot");
        for (uint64 i = 0; i < leaves.length; ++i) {
            bytes32[] memory path = vm.parseJsonBytes32Array(json, string.concat(".historyPaths[", vm.toString(i), "]"));
            uint64 count = uint64(leaves.length);
            yes(libraries.inHistory(root, count, i, leaves[i], path), "proof");
            yes(!libraries.inHistory(root, count, i ^ 1, leaves[i], path), "at another index");
            yes(!libraries.inHistory(root, count, i, leaves[i ^ 1 < count ? i ^ 1 : 0], path), "of another header");
            yes(!libraries.inHistory(root, count, i + count, leaves[i], path), "beyond the end");
            bytes32[] memory longer = new bytes32[](path.length + 1);
            for (uint256 j = 0; j < path.length; ++j) {
                longer[j] = path[j];
            }
            yes(!libraries.inHistory(root, count, i, leaves[i], longer), "with one sibling more");
            if (path.length != 0) {
                path[0] ^= bytes32(uint256(1));
                yes(!libraries.inHistory(root, count, i, leaves[i], path), "with another sibling");
            }
        }
    }

    function test_state_proofs_are_those_of_a_jellyfish_tree() external view {
        bytes32 root = _word(".stateRoot");
        address account = address(bytes20(_bytes(".stateAccount")));
        bytes32 asset = _word(".stateAsset");
        bytes32[] memory siblings = vm.parseJsonBytes32Array(json, ".stateSiblings");
        yes(libraries.inState(root, account, asset, 1005, siblings), "balance");
        yes(!libraries.inState(root, account, asset, 1006, siblings), "another amount");
        yes(!libraries.inState(root, account, 0, 1005, siblings), "another asset");
        yes(!libraries.inState(root, address(1), asset, 1005, siblings), "another account");
        yes(!libraries.inState(root, account, asset, 1005, new bytes32[](257)), "too long");
    }

    /// @dev `penumbra-zone/jmt`, sha2_256_vectors.json, second case: one pair.
    function test_a_tree_of_one_leaf_has_the_published_root() external pure {
        bytes32 leaf = sha256(abi.encodePacked("JMT::LeafNode", sha256("hello"), sha256("world")));
        eq(leaf, 0x6b97115f56e533f2fd443f7e76e4d1ff94d34e6b2e233f2dbdf5cfd1ec39a30c, "root");
    }

    function testFuzz_results_have_proofs_for_themselves_alone(bytes32 task, bytes32 outcome, uint256 seed, uint8 depth)
        external
        view
    {
        depth = uint8(depth % 33);
        bytes32[] memory siblings = new bytes32[](depth);
        uint32 left = uint32(depth == 0 ? 0 : seed & ((1 << depth) - 1));
        bytes32 root = keccak256(abi.encodePacked(uint8(0), task, outcome));
        for (uint256 i = 0; i < depth; ++i) {
            siblings[i] = keccak256(abi.encode(seed, i));
            root = left >> i & 1 == 1
                ? keccak256(abi.encodePacked(uint8(1), siblings[i], root))
                : keccak256(abi.encodePacked(uint8(1), root, siblings[i]));
        }
        yes(libraries.hasResult(root, task, outcome, left, siblings), "proof");
        yes(!libraries.hasResult(root, outcome, ~task, left, siblings), "of another task");
        if (depth < 32) {
            yes(!libraries.hasResult(root, task, outcome, left | uint32(1 << depth), siblings), "unused bits");
        }
    }

    function testFuzz_points_compress_with_the_sign_of_y(uint256 secret) external view {
        secret = 1 + secret % (Signer.ORDER - 1);
        bytes32[4] memory key = Signer.publicKey(secret);
        bytes32[4] memory negative = BLS12381.negateG1(key);
        yes(BLS12381.isZero(BLS12381.addG1(key, negative)), "sum");
        eq(BLS12381.compressG1(key)[0] ^ BLS12381.compressG1(negative)[0], bytes1(0x20), "sign");
        eq(abi.encode(BLS12381.unpackG1(BLS12381.packG1(key))), abi.encode(key), "without padding and back");
    }

    /// @dev Compares a precompile's vectors with the library's function over it.
    function _eip2537(string memory file, function(bytes memory) external view returns (bytes memory) run) private {
        bytes[] memory cases = _vectors("eip2537", "eip2537", file);
        for (uint256 i = 0; i < cases.length; i += 2) {
            try run(cases[i]) returns (bytes memory output) {
                // Inputs of another length than a function's are cut off by the decoder of this test, or refused.
                if (cases[i + 1].length != 0) eq(output, cases[i + 1], file);
                else yes(cases[i].length % 128 != 0, file);
            } catch {
                yes(cases[i + 1].length == 0, file);
            }
        }
        yes(cases.length != 0, file);
    }

    /// @dev Published vectors, read where they are; the test is skipped if they aren't there.
    function _vectors(string memory set, string memory folder, string memory file) private returns (bytes[] memory) {
        string memory all = vm.envOr("LAMINA_VECTORS", string.concat(vm.projectRoot(), "/../../../shared/vectors"));
        folder = string.concat(all, "/", folder);
        vm.skip(!vm.isDir(folder), string.concat("no vectors in ", folder));
        string[] memory command = new string[](5);
        (command[0], command[1], command[2]) = ("node", "tools/vectors.mjs", set);
        (command[3], command[4]) = (folder, file);
        return abi.decode(vm.ffi(command), (bytes[]));
    }

    function _slice(bytes memory data, uint256 from, uint256 length) private pure returns (bytes memory slice) {
        slice = new bytes(length);
        for (uint256 i = 0; i < length; ++i) {
            slice[i] = data[from + i];
        }
    }

    function _word(string memory key) private view returns (bytes32) {
        return vm.parseJsonBytes32(json, key);
    }

    function _bytes(string memory key) private view returns (bytes memory) {
        return vm.parseJsonBytes(json, key);
    }

    function _header() private pure returns (Header memory header) {
        (header.epoch, header.height, header.ethereumNumber, header.time) = (3, 7, 8, 10);
        (header.previous, header.history, header.cut) = (_fill(1), _fill(2), _fill(3));
        (header.state, header.claims, header.results) = (_fill(4), _fill(5), _fill(6));
        (header.ethereumHash, header.operators, header.nextOperators) = (_fill(9), _fill(11), _fill(12));
    }

    function _fill(uint256 value) private pure returns (bytes32) {
        return bytes32(type(uint256).max / 255 * value);
    }
}
