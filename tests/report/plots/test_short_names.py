"""Names of models in figures: short, and different from each other."""

from __future__ import annotations

from deeplense_batch.report.plots.short_names import (
    cut,
    in_legend,
    named_networks,
    setting_texts,
    short_names,
)

FROZEN = ["cls_token", "pos_embed", "patch_embed", "blocks", "norm"]


def test_a_long_list_is_said_by_its_first_entry_and_how_many_more():
    texts = setting_texts([FROZEN, [], None, 0.1])
    assert texts == ["cls_token and 4 more", "none", "None", "0.1"]
    assert setting_texts([["stem"], "a"]) == ["['stem']", "a"]  # short enough to be whole


def test_lists_that_would_be_alike_stay_whole():
    other = [*FROZEN[:-1], "head"]
    assert setting_texts([FROZEN, other]) == [str(FROZEN), str(other)]
    assert setting_texts([FROZEN, FROZEN]) == ["cls_token and 4 more"] * 2


def test_names_that_fit_are_left_alone():
    assert short_names(["resnet18 train.lr=0.1", "vit"]) == ["resnet18 train.lr=0.1", "vit"]


def test_numbers_that_follow_from_other_settings_go_first():
    names = [
        f"test_vit data.train={train}, train.init={init}, train.epochs={epochs}, "
        f"train.lr={lr}, train.freeze={frozen}"
        for train, epochs in (("train", 8), ("train[:10%]", 20), ("train[:3%]", 40))
        for init in ("m/masked", "None")
        for lr, frozen in ((0.0003, "none"), (0.03, "blocks"))
    ]
    short = short_names(names)
    assert short[0] == "test_vit train=train, init=m/masked, freeze=none #1"
    assert short[-1] == "test_vit train=train[:3%], init=None, freeze=blocks #12"


def test_long_values_lose_their_middles_before_names_do():
    rest = "train.init=masked_small/masked_autoencoder, train.freeze=cls_token and 4 more"
    names = [f"test_vit data.train=train[:{share}%], {rest}" for share in (3, 10)]
    (few, many) = short_names(names)
    assert few.startswith("test_vit train=train[:3%], init=mask")
    assert ", freeze=cls_" in few and few.endswith("more #1") and len(few) <= 68
    assert many.startswith("test_vit train=train[:10%], init=mask")


def test_a_number_that_tells_names_apart_stays():
    tail = ", task.options.widths=" + "x" * 60
    names = [f"net train.lr={lr}{tail}" for lr in (0.1, 0.01)]
    assert [name[:11] for name in short_names(names)] == ["net lr=0.1,", "net lr=0.01"]


def test_a_first_number_that_is_dropped_leaves_no_comma():
    tail = "y" * 50
    names = [f"net train.lr={lr}, train.init={init}{tail}" for lr, init in ((1, "a"), (2, "b"))]
    assert [name[:11] for name in short_names(names)] == ["net init=ay", "net init=by"]


def test_what_is_still_too_long_loses_its_middle_and_keeps_its_place():
    names = ["x" * 200, "x" * 201, "short"]
    short = short_names(names)
    assert [name[-2:] for name in short[:2]] == ["#1", "#2"] and short[2] == "short"
    assert all("…" in name and len(name) == 68 for name in short[:2])
    assert cut("abcdefghij", 7) == "abc…hij" and cut("abc", 3) == "abc"


def test_lines_of_a_legend_that_would_be_alike_are_numbered():
    same = ["a" * 90 + f"{i}" + "b" * 90 for i in range(2)]
    labels = in_legend(same)
    assert len(set(labels)) == 2 and max(map(len, labels)) <= 96
    assert in_legend(["a", "b"]) == ["a", "b"]


def test_networks_say_what_of_them_is_trained():
    runs = [
        {"model": "vit", "settings": {"train.freeze": frozen, "train.init": "m/a",
                                      "train.epochs": 3, "train.lr": 0.1}}
        for frozen in ([], FROZEN)
    ]  # fmt: skip
    assert named_networks(runs, but=["train.init"]) == [
        "vit whole network, train.lr=0.1", "vit frozen cls_token and 4 more, train.lr=0.1",
    ]  # fmt: skip
    assert named_networks([{"model": "vit"}]) == ["vit"]
