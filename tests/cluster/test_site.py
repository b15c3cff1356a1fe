"""The site's profile: partition, account, modules and whatever else one cluster wants."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import REPOSITORY

from deeplense_batch.cluster.site import Profile, load_profile
from deeplense_batch.core.job import JobError


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("partion: gpu", "partion: unknown; did you mean 'partition'?"),
        ("partition: 7", "partition: expected text, got 7"),
        ('account: "a\\nb"', r"account: should be one line of text, got 'a\nb'"),
        ("warn_seconds: 0", "warn_seconds: should be greater than or equal to 1, got 0"),
        ("modules: cuda", "modules: expected a list, got 'cuda'"),
        ("[gpu]", "expected fields and values, got list"),
        ("a: b: c", "line 1: not valid YAML (mapping values are not allowed"),
        ("account: a\naccount: b", "line 2: not valid YAML (key 'account' twice)"),
        ("account: &a [*a]", "an alias is inside the value that it repeats"),
        (f"setup: [{'[' * 50}{']' * 50}]", "nested more than 40 deep"),
    ],
)
def test_a_wrong_profile_is_one_sentence(tmp_path, text, sentence):
    path = tmp_path / "site.yaml"
    path.write_text(text)
    with pytest.raises(JobError) as error:
        load_profile(path)
    assert sentence in str(error.value) and str(error.value).startswith(str(path))
    assert len(str(error.value).splitlines()) == 1


def test_profiles_that_come_with_it_are_read(monkeypatch, tmp_path):
    monkeypatch.chdir(REPOSITORY)
    assert load_profile() == Profile()  # as it comes, it changes nothing
    examples = {path.stem: load_profile(path) for path in Path("slurm/examples").glob("*.yaml")}
    assert set(examples) == {"plain", "apptainer", "podman-hpc", "pyxis"}
    assert examples["apptainer"].command[:3] == ["apptainer", "exec", "--nv"]
    monkeypatch.setenv("DEEPLENSE_PROFILE", str(tmp_path / "none.yaml"))
    with pytest.raises(JobError, match=r"none\.yaml: cannot be read \(No such file"):
        load_profile()


@pytest.mark.parametrize("name", ["array", "wrap", "parsable", "test-only", "wait"])
def test_options_of_sbatch_that_submit_sets_are_refused(tmp_path, name):
    (tmp_path / "profile.yaml").write_text(f"sbatch: {{{name}: '1-9'}}\n")
    with pytest.raises(JobError, match=rf"sbatch\.{name}: {name} is set by 'submit'"):
        load_profile(tmp_path / "profile.yaml")


def test_a_fault_of_a_profile_is_told_in_its_own_words(tmp_path):
    (tmp_path / "profile.yaml").write_text("sbatch: {qos: }\n")
    with pytest.raises(JobError, match=r"sbatch\.qos: expected text, got None") as error:
        load_profile(tmp_path / "profile.yaml")
    assert "function" not in str(error.value)
