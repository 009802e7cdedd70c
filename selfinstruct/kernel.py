"""The environment in which kernels of a run start."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .owner import OWNER_VARIABLE

IN_FLIGHT_SECONDS = 90.0
JUPYTERS_SECONDS = 5.0  # its default for `shutdown_wait_time`


@contextlib.contextmanager
def kernel_environment() -> Iterator[None]:
    """The variables kernels inherit: one model server for all of them, and nothing of the user's own Jupyter set-up."""
    with tempfile.TemporaryDirectory(prefix="selfinstruct-", ignore_cleanup_errors=True) as own:
        profile = Path(own) / "profile_default"
        profile.mkdir()
        # or each kernel warns that its loopback connection is not encrypted, and of the signal that ends it
        (profile / "ipython_kernel_config.py").write_text("get_config().IPKernelApp.log_level = 50\n")
        ours = {
            OWNER_VARIABLE: os.environ.get(OWNER_VARIABLE, str(os.getpid())),
            "IPYTHONDIR": own,
            "JUPYTER_RUNTIME_DIR": own,
            "JUPYTER_PREFER_ENV_PATH": "1",  # this interpreter's kernel, not one of the same name in the home folder
            "JUPYTER_PLATFORM_DIRS": "1",  # or every kernel prints a warning about it
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        before = dict(os.environ)
        os.environ.update(ours)
        os.environ.pop("MPLBACKEND", None)  # inline, or figures would not show in the executed copies
        try:
            yield
        finally:
            for name in [*ours, "MPLBACKEND"]:
                os.environ.pop(name, None)
                if name in before:
                    os.environ[name] = before[name]


def patience() -> dict[str, Any]:
    """Arguments for papermill: a kernel stopped in the middle of a cell has time to keep the answers in flight.

    They are paid for, and Jupyter's own five seconds, of which SIGTERM takes half, are shorter than a slow model's
    answer. A second Ctrl-C interrupts that waiting, too. Between cells nothing is in flight: there the five seconds
    hold, or a kernel that hangs at its end, as happens, would hold up the run.
    """
    from jupyter_client.manager import AsyncKernelManager

    kernels = []

    class Kernel(AsyncKernelManager):
        def __init__(self, *args: Any, **kwargs: Any):
            super().__init__(*args, **kwargs)
            kernels.append(self)

    def wait(seconds: float) -> Callable[..., None]:
        def set_wait(**_: Any) -> None:
            for kernel in kernels:
                kernel.shutdown_wait_time = seconds

        return set_wait

    return {
        "kernel_manager_class": Kernel,
        "on_cell_execute": wait(2 * IN_FLIGHT_SECONDS),
        "on_cell_executed": wait(JUPYTERS_SECONDS),
    }
