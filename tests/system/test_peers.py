"""The comparison with timm's components and Lightning's Trainer, in small."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from benchmarks import peers

SMALL = ["--model=test_resnet", "--size=32", "--batch_size=4", "--steps=2", "--repeats=2",
         "--images=60", "--workers=0", "--threads=1"]  # fmt: skip


def test_ours_and_timm_take_turns_and_ratios_are_of_one_turn(tmp_path, capsys):
    out = tmp_path / "peers.json"
    peers.main([*SMALL, "--ways", "ours", "timm", f"--out={out}", "--beside=nothing"])
    found = json.loads(out.read_text())
    setting = "test_resnet, batch 4, 32 pixels, float32, 0 workers"
    numbers = {n["name"].removeprefix(f"{setting}: "): n for n in found["numbers"]}
    assert numbers.keys() == {"ours", "timm", "ours over timm"}
    assert all(n["repeats"] == 2 and n["least"] > 0 for n in numbers.values())
    assert found["machine"]["beside"] == "nothing" and found["machine"]["threads"] == 1
    assert "ours over timm" in capsys.readouterr().out


def test_ratios_are_of_rates_measured_one_after_the_other():
    setting = peers.Setting("data", "cpu")
    *_, ratio = peers.lines(setting, {"ours": [4.0, 9.0, 2.0], "timm": [2.0, 3.0, 4.0]})
    assert (ratio["value"], ratio["least"], ratio["most"]) == (2.0, 0.5, 3.0)
    assert [
        line["name"].rpartition(": ")[2] for line in peers.lines(setting, {"timm": [1.0]})
    ] == ["timm"]


def test_the_first_steps_do_not_count(monkeypatch):
    times = iter([10.0, 14.0])
    monkeypatch.setattr(peers.time, "perf_counter", lambda: next(times))
    clock = peers._Clock(peers.Setting("data", "cpu", batch_size=8, steps=4, warm=3))
    for _ in range(7):
        clock()
    assert clock.rate() == 8.0


def test_files_are_the_images_of_the_shards(shards, tmp_path):
    setting = peers.Setting(str(shards), "cpu", size=24, batch_size=8, steps=3, warm=1)
    files = peers._write(setting, tmp_path)
    split = peers.open_split(shards, "train")
    assert len(files) == 32
    for number in (0, 31):
        assert np.array_equal(np.load(files[number]), split.images()[number].astype(np.float32))
        assert files[number].stem == f"{number}-{split.targets()[number]}"
    data = peers._Files(files, 16, images=100)
    image, target = data[33]
    assert image.shape == (1, 16, 16) and target == split.targets()[1]
    assert len(data) == 100


def test_timm_normalises_on_the_device_as_the_others_do(shards, tmp_path, monkeypatch):
    """Its prefetcher scales by 255; what the network sees is (x - mean) / deviation."""
    setting = peers.Setting(str(shards), "cpu", "test_resnet", 24, 8, steps=1, warm=1, workers=0)
    file = tmp_path / "0-2.npy"
    np.save(file, np.full((1, 24, 24), 0.3, np.float32))
    monkeypatch.setattr(peers, "_Files", Plain)
    seen = []
    monkeypatch.setattr(peers.Setting, "laid_out", lambda _, images: seen.append(images) or images)
    peers._timm(setting, [file])(peers._Clock(setting))
    expected = (0.3 - peers._MEAN) / peers._STD
    assert torch.allclose(seen[0], torch.tensor(expected)), seen[0].mean()


class Plain(peers._Files):
    """Images as they are in the files."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.change = torch.nn.Identity()
        return super().__getitem__(index)


def test_lightning_takes_every_step(shards, tmp_path):
    pytest.importorskip("lightning")
    setting = peers.Setting(str(shards), "cpu", "test_resnet", 24, 8, steps=2, warm=1, workers=0)
    rates = peers.compare(setting, ["ours", "lightning"], repeats=1)
    assert all(len(values) == 1 and values[0] > 0 for values in rates.values())


def test_without_lightning_one_sentence_says_so(monkeypatch, capsys):
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        peers.main(SMALL)
    assert str(ended.value) == (
        "Lightning is not installed here: pip install lightning; "
        "--ways ours timm measures without it"
    )
