import numpy as np
import pytest
from tree_pairs import pairs_of_tree

from interalign.training.packing.batches import TreeCollator, grouped, lay_out, pairs_of
from interalign.training.packing.parts import parts
from interalign.training.packing.trie import NO_LABEL, TrieRow, build_trie


def row(ids, learnt_from):
    return TrieRow(np.array(ids), np.arange(len(ids)) >= learnt_from)


def test_the_last_shared_token_stands_once_for_each_way_on_and_has_that_way_as_its_label():
    trie = build_trie([row([1, 2, 3, 4], 2), row([1, 2, 5], 2)])

    assert trie.tokens.tolist() == [1, 2, 3, 4, 2, 5]
    assert trie.depth.tolist() == [0, 1, 2, 3, 1, 2]
    assert trie.end.tolist() == [6, 4, 4, 4, 6, 6]
    assert trie.labels.tolist() == [NO_LABEL, 3, 4, NO_LABEL, 5, NO_LABEL]
    assert [path.tolist() for path in trie.paths] == [[0, 1, 2, 3], [0, 4, 5]]


def test_a_row_that_another_begins_with_ends_in_a_node_of_its_own():
    trie = build_trie([row([1, 2], 1), row([1, 2, 3], 1)])

    assert trie.tokens.tolist() == [1, 2, 2, 3]
    assert [path.tolist() for path in trie.paths] == [[0, 1], [0, 2, 3]]


def test_equal_rows_are_read_once_and_what_one_of_them_learns_is_a_label():
    trie = build_trie([row([1, 2, 3], 3), row([1, 2, 3], 2)])

    assert trie.tokens.tolist() == [1, 2, 3]
    assert trie.labels.tolist() == [NO_LABEL, 3, NO_LABEL]


def test_rows_that_share_nothing_are_trees_of_their_own():
    assert build_trie([row([1, 2], 1), row([3, 4], 1)]).end.tolist() == [2, 2, 4, 4]


@pytest.mark.parametrize("shape", ["caterpillar", "binary", "ternary", "uneven"])
@pytest.mark.parametrize("limit", [None, 60, 1])
def test_every_row_is_spelt_by_its_path_and_every_target_is_the_label_of_the_node_before(shape, limit):
    rows = [
        row([*pair["prompt_ids"], *pair[side]], len(pair["prompt_ids"]))
        for pair in pairs_of_tree("t", shape)
        for side in ("chosen_ids", "rejected_ids")
    ]
    found = parts([range(len(rows))], rows, limit)

    seen = [place for part in found for place in part.rows]
    assert sorted(seen) == list(range(len(rows)))
    for part in found:
        assert limit is None or part.trie.size <= limit or len(part.rows) == 1
        for place, path in zip(part.rows, part.trie.paths, strict=True):
            ids, targets = rows[place]
            assert part.trie.tokens[path].tolist() == ids.tolist()
            assert part.trie.depth[path].tolist() == list(range(len(ids)))
            assert part.trie.labels[path[:-1]][targets[1:]].tolist() == ids[1:][targets[1:]].tolist()
            # every node's ancestors are those before it on its path
            nodes = np.arange(part.trie.size)
            for depth, node in enumerate(path):
                above = nodes[(nodes <= node) & (node < part.trie.end)]
                assert above.tolist() == path[: depth + 1].tolist()


def test_two_large_trees_never_share_a_part_and_small_ones_do():
    big = [row(range(start, start + 600), 1) for start in (1000, 2000)]
    small = [row(range(start, start + 100), 1) for start in (3000, 4000)]

    assert [part.rows for part in parts([[0], [1]], big, None)] == [(0,), (1,)]
    assert [part.rows for part in parts([[0], [1]], small, None)] == [(0, 1)]


def test_a_layout_names_no_place_where_nothing_is_learnt():
    layout = lay_out([[0, 1]], [row([1, 2, 3, 4], 2), row([1, 2, 5], 2)], None)

    assert layout.place.tolist() == [[-1, 1, 2], [-1, 4, -1]]
    assert layout.tokens == 6


PAIR = {"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4]}


def test_pairs_are_grouped_by_their_tree_and_come_back_as_they_were():
    pairs = [{**PAIR, "tree": "a"}, {**PAIR, "tree": "b"}, {**PAIR, "prompt_ids": [9], "tree": "a"}]
    items = grouped(pairs)

    assert [item["pairs"] for item in items] == [2, 1]
    assert pairs_of(items[0]) == [PAIR, {**PAIR, "prompt_ids": [9]}]
    assert [item["length"] for item in items] == [10, 6]


def test_pairs_without_a_tree_belong_together_where_their_prompts_begin_with_the_same_first_prompt():
    prompts = [[1, 2, 3, 9], [1, 2], [1, 3], [1, 2, 4], [1, 3, 5, 6]]
    items = grouped([{**PAIR, "prompt_ids": prompt} for prompt in prompts])

    assert [item["prompt_ids"] for item in items] == [[[1, 2, 3, 9], [1, 2], [1, 2, 4]], [[1, 3], [1, 3, 5, 6]]]


def test_a_tree_that_is_null_counts_as_none():
    assert len(grouped([{**PAIR, "tree": None}, {**PAIR, "tree": None}])) == 1
    assert len(grouped([{**PAIR, "tree": None}, {**PAIR, "tree": "None"}])) == 2


@pytest.mark.train
def test_a_batch_is_trls_own_with_the_layout_besides():
    pytest.importorskip("trl")
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    collate = DataCollatorForPreference(pad_token_id=0)
    pairs = [{**PAIR, "tree": "a"}, {**PAIR, "prompt_ids": [1, 2, 3, 7], "tree": "a"}, {**PAIR, "tree": "b"}]
    batch = TreeCollator(collate, None)(grouped(pairs))
    packed = batch.pop("packed")

    for name, expected in collate([{k: v for k, v in pair.items() if k != "tree"} for pair in pairs]).items():
        assert batch[name].tolist() == expected.tolist()
    assert packed["place"].shape == (6, 4)
