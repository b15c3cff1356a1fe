"""Mutated recipes: each loads and comes back as it was, or is refused in one sentence.

A script: ``python tests/fuzz_recipes.py COUNT SEED``. It stops at the first that does neither
within its time and memory, and prints it.
"""

from __future__ import annotations

import random
import resource
import signal
import sys
import tempfile
from pathlib import Path

from deeplense_batch.core.job import JobError
from deeplense_batch.core.recipe import load_jobs, parse_value

JOBS = sorted((Path(__file__).parent.parent / "jobs").glob("*.yaml"))
SECONDS, BYTES = 20, 8 << 30
VALUES = """010|1:2:3|1_000|0o17|0x1f|.inf|-.inf|.nan|~|null|yes|on|2020-01-01|1e999|1e-400|-0|+1
""|'\\0'|"\\0"|"\\ud800"|!!set {a}|!!binary aGk=|!!python/name:os.system|!!int x|!!float 1:2|!a b
&a [*a]|*nowhere|{<<: 1}|[[[[]]]]|{a: {b: {c: 1}}}|{1: 2}|{a: 1, a: 2}|[1, [2]]|{? [a]: b}|=
99999999999999999999|1.0|true|[]|{}|[0, 1]|../../x|a b|'#'|%x|@x|`x`|- x|? x|: x|\t|é|🌌|a\tb
&b {x: &c [1, 2]}|!!omap [a: 1]|!!timestamp 2020-01-01|!!null x|!!str [1]|!!map [1]|1e5|"1e5"
""".replace("\n", "|").split("|")


def mutated(text: str, chance: random.Random) -> bytes:
    """A recipe with one to three things wrong, or none."""
    lines = text.split("\n")
    for _ in range(chance.randint(1, 3)):
        i = chance.randrange(len(lines))
        kind = chance.randrange(8)
        if kind <= 2 and ":" in lines[i]:
            lines[i] = lines[i].partition(":")[0] + ": " + chance.choice(VALUES)
        elif kind == 3:
            lines.insert(i, chance.choice(lines))
        elif kind == 4:
            lines[i] = " " * chance.randint(0, 5) + lines[i].strip()
        elif kind == 5:
            del lines[i]
            lines = lines or [""]
        elif kind == 6:
            lines.insert(i, f"{chance.choice(VALUES)}: {chance.choice(VALUES)}")
        else:
            lines.append("grid: {" + f"train.lr: {chance.choice(VALUES)}" + "}")
    raw = bytearray("\n".join(lines).encode())
    if chance.random() < 0.2 and raw:
        for _ in range(chance.randint(1, 4)):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
    if chance.random() < 0.1:
        del raw[chance.randrange(len(raw) + 1) :]
    return bytes(raw)


def nasty(chance: random.Random) -> bytes:
    """A recipe made by hand to exhaust whoever reads it."""
    head = "model: {name: test_resnet}\ndata: {root: d}\n"
    n = chance.randint(5, 400)
    levels = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))
    return chance.choice(
        [
            f"{head}a0: &a0 [x]\n{levels}".encode(),
            f"{head}task: {'[' * n}{']' * n}".encode(),
            f"{head}task: {'{a: ' * n}{'}' * n}".encode(),
            (head + "\n" + "- " * n).encode(),
            head.encode("utf-16"),
            head.encode("utf-32"),
            f"{head}seed: {'9' * n}".encode(),
            f"{head}name: {'x' * n * 1000}".encode(),
            f"{head}grid: {{{', '.join(f'train.x{i}: [1, 2]' for i in range(n))}}}".encode(),
            f"{head}task: &t {{options: *t}}".encode(),
            bytes(chance.randrange(256) for _ in range(n)),
            b"",
            b"\xef\xbb\xbf" + head.encode(),
        ]
    )


def tried(path: Path, overrides: dict[str, object]) -> str:
    """``loads`` or ``refused``.

    Raises:
        AssertionError: It loads as something else the second time, or the error is no sentence.
    """
    try:
        jobs = load_jobs(path, overrides)
    except JobError as error:  # exit 3, or 2 of an override
        assert str(error).strip() and "\n" not in str(error), error
        return "refused"
    for job in jobs[:3]:
        again = path.with_name("again.yaml")
        again.write_text(job.to_yaml(), encoding="utf-8")
        assert load_jobs(again) == [job], "comes back as another"
    return "loads"


def fuzz(count: int, seed: int, folder: Path) -> dict[str, int]:
    """Try so many recipes; how many loaded, and how many were refused."""
    told = {"loads": 0, "refused": 0}
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError("too slow")))
    for i in range(count):
        chance = random.Random(seed * 1_000_003 + i)
        text = chance.choice(JOBS).read_text()
        raw = nasty(chance) if chance.random() < 0.15 else mutated(text, chance)
        path = folder / "fuzzed.yaml"
        path.write_bytes(raw)
        signal.alarm(SECONDS)
        try:
            given = {"train.lr": chance.choice(VALUES)} if chance.random() < 0.1 else {}
            told[tried(path, {name: parse_value(value) for name, value in given.items()})] += 1
        except JobError as error:  # a value of the command line
            assert "\n" not in str(error), error
            told["refused"] += 1
        except BaseException:
            print(f"recipe {i} of seed {seed}:\n{raw[:3000]!r}", file=sys.stderr)
            raise
        finally:
            signal.alarm(0)
    return told


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    with tempfile.TemporaryDirectory() as made:
        print(fuzz(int(sys.argv[1]), int(sys.argv[2]), Path(made)))
