"""What `selfinstruct doctor` looks at: can the notebooks run here, and what to do if they cannot."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from ..files import PROJECT_ROOT, EndpointError, show_path
from ..servers.credentials import read_key

KEY_VARIABLE = "OPENAI_API_KEY"
INSTALL = "run `make .venv`, or `pip install -e .` in your own environment"


class Check(NamedTuple):
    """One line of the doctor: what it looked at, what it found, and what to do if that is not well."""

    name: str
    ok: bool
    says: str
    remedy: str = ""
    essential: bool = True

    def line(self) -> str:
        """The check as the terminal shows it; the remedy only if there is something to do."""
        mark = "ok" if self.ok else "MISSING" if self.essential else "note"
        return f"{mark:8} {self.name:15} {self.says}" + ("" if self.ok else f"\n{'':24} -> {self.remedy}")


def examine_machine() -> Iterator[Check]:
    """Every check, in the order of a newcomer's questions."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check("Python", True, f"{version} at {sys.executable}")  # an older one could not import the kit
    yield check_packages()
    yield check_kernel()
    yield check_weights()
    yield check_spacy_model()
    yield check_outputs()
    yield check_key()


def check_key() -> Check:
    """The key of a paid endpoint, which nothing else here needs; nothing of it is printed."""
    remedy = "only needed for a paid endpoint; the embedded model needs none"
    try:
        present = bool(read_key(KEY_VARIABLE))
        return Check(
            "API key", present, f"{KEY_VARIABLE} is {'set' if present else 'not set'}", remedy, essential=False
        )
    except EndpointError as error:
        fault, _, remedy = str(error).partition("; ")
        return Check("API key", False, fault, remedy, essential=False)


def check_packages() -> Check:
    """The installed versions against the requirements that the kit declares."""
    from packaging.requirements import Requirement

    wrong = []
    for needed in map(Requirement, metadata.requires("selfinstruct") or ()):
        version = _find_version(needed.name)
        applies = not needed.marker or needed.marker.evaluate({"extra": ""})
        if applies and (version is None or version not in needed.specifier):
            wrong.append(f"{needed.name} {version or 'missing'} (needs {needed.specifier or 'any'})")
    versions = (f"{name} {_find_version(name)}" for name in ("selfinstruct", "openai", "papermill", "jupyterlab"))
    return Check("packages", not wrong, "; ".join(wrong) or ", ".join(versions), INSTALL)


def _find_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def check_kernel() -> Check:
    """Notebooks ask for the kernel named python3; it must start this interpreter, not another one's."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        program = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        return Check("kernel", False, "no Jupyter kernel named python3", INSTALL)
    # Jupyter replaces a bare name by the interpreter that runs, and starts a path as it is
    if Path(program).name == program or Path(program).parent.resolve() == Path(sys.executable).parent.resolve():
        return Check("kernel", True, "python3 starts this interpreter")
    remedy = "JupyterLab would use that one; remove it: jupyter kernelspec remove python3"
    return Check("kernel", False, f"python3 starts {program}", remedy, essential=False)


def check_weights() -> Check:
    """The embedded model's weights; its server is one of the packages."""
    from ..models.embedded import WEIGHTS_COMMAND, find_weights

    try:
        weights = find_weights()
    except EndpointError as error:
        return Check("embedded model", False, str(error).split(";")[0], WEIGHTS_COMMAND)
    return Check("embedded model", True, f"{weights.name}, {weights.stat().st_size / 1e6:.0f} MB")


def check_spacy_model() -> Check:
    """The parser of notebook 11, under one of its two names."""
    from ..analysis.verbs import INSTALL_MODEL, MODELS

    found = [name for name in MODELS if importlib.util.find_spec(name)]
    says = found[0] if found else "no English model; notebook 11 needs it"
    return Check("spaCy model", bool(found), says, INSTALL_MODEL)


def check_outputs() -> Check:
    """The folder that runs are written to."""
    folder = PROJECT_ROOT / "outputs"
    try:
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return Check("outputs folder", True, f"{show_path(folder)}/ can be written")
    except OSError as error:
        remedy = "make it writable, or give another folder with --run-dir and -p store"
        return Check("outputs folder", False, f"{show_path(folder)}/: {error.strerror}", remedy)
