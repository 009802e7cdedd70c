"""What `selfinstruct doctor` looks at: can the notebooks run here, and what to do where they cannot."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ..files import PROJECT_ROOT, EndpointError, shown_path

KEY_VARIABLE = "OPENAI_API_KEY"
INSTALL = "run `make .venv`, or `pip install -e .` in your own environment"


@dataclass(frozen=True)
class Check:
    """One line of the doctor: what it looked at, whether it is well, and what to do if not."""

    name: str
    ok: bool
    says: str
    remedy: str = ""
    essential: bool = True

    def line(self) -> str:
        """The check as the terminal shows it."""
        mark = "ok" if self.ok else "MISSING" if self.essential else "note"
        return f"{mark:8} {self.name:15} {self.says}" + (f"\n{'':24} -> {self.remedy}" if self.remedy else "")


def examine() -> Iterator[Check]:
    """Every check, in the order of a newcomer's questions; the rows that are not `ok` say what to do."""
    yield _python()
    yield _packages()
    yield _kernel()
    yield _weights()
    yield _spacy_model()
    yield _outputs()
    yield _key()


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    return Check("Python", good, f"{version} at {sys.executable}", "" if good else "install Python 3.11 or newer")


def _packages() -> Check:
    """The installed versions against the requirements that the kit declares."""
    from packaging.requirements import Requirement

    declared = [Requirement(line) for line in metadata.requires("selfinstruct") or ()]
    wrong = []
    for needed in declared:
        if needed.marker and not needed.marker.evaluate({"extra": ""}):
            continue
        version = _version(needed.name)
        if version is None or version not in needed.specifier:
            wrong.append(f"{needed.name} {version or 'missing'} (needs {needed.specifier or 'any'})")
    shown = ", ".join(f"{name} {_version(name)}" for name in ("selfinstruct", "openai", "papermill", "jupyterlab"))
    return Check("packages", not wrong, "; ".join(wrong) or shown, INSTALL if wrong else "")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _kernel() -> Check:
    """Notebooks ask for the kernel named python3; it must start this interpreter, not another one's."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        program = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        return Check("kernel", False, "no Jupyter kernel named python3", INSTALL)
    # jupyter replaces a bare name by the interpreter that runs; a path is taken as it stands
    if Path(program).name == program or _same_place(program, sys.executable):
        return Check("kernel", True, "python3 starts this interpreter")
    remedy = "JupyterLab would use that one; remove it: jupyter kernelspec remove python3"
    return Check("kernel", False, f"python3 starts {program}", remedy, essential=False)


def _same_place(one: str, other: str) -> bool:
    return Path(one).parent.resolve() == Path(other).parent.resolve()


def _weights() -> Check:
    from ..models.embedded import WEIGHTS_COMMAND, find_weights

    if importlib.util.find_spec("xllamacpp") is None:
        return Check("embedded model", False, "xllamacpp is not installed, so nothing can serve it", INSTALL)
    try:
        weights = find_weights()
    except EndpointError as error:
        return Check("embedded model", False, str(error).split(";")[0], WEIGHTS_COMMAND)
    return Check("embedded model", True, f"{weights.name}, {weights.stat().st_size / 1e6:.0f} MB")


def _spacy_model() -> Check:
    from ..analysis.verbs import INSTALL_MODEL, MODELS

    found = [name for name in MODELS if importlib.util.find_spec(name)]
    says = found[0] if found else "no English model; notebook 11 needs it"
    return Check("spaCy model", bool(found), says, "" if found else INSTALL_MODEL)


def _outputs() -> Check:
    folder = PROJECT_ROOT / "outputs"
    try:
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return Check("outputs folder", True, f"{shown_path(folder)}/ can be written")
    except OSError as error:
        remedy = "make it writable, or give another folder with --run-dir and -p store"
        return Check("outputs folder", False, f"{shown_path(folder)}/: {error.strerror}", remedy)


def _key() -> Check:
    present = bool(os.environ.get(KEY_VARIABLE))
    says = f"{KEY_VARIABLE} is {'set' if present else 'not set'}"
    remedy = "" if present else "only needed for a paid endpoint; the embedded model needs none"
    return Check("API key", present, says, remedy, essential=False)
