"""The kernels of one command: what they inherit, how long they may take to end, and the one that waits for the next notebook.

    with kernel_environment() as kernels:
        papermill.execute_notebook(source, copy, **kernels.arguments(another=True))

Starting a kernel and importing takes longer than most notebooks do when the store answers. With `another`, kernels are
forked from a process that has imported already, and the next one starts behind the notebook that runs. Whatever ends the
command ends them too; after kill -9 they find their parent gone within a second.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from ..session import OWNER_VARIABLE

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager

    from .forkserver import ForkServer

IN_FLIGHT_SECONDS = 90.0
JUPYTERS_SECONDS = 5.0  # its default for `shutdown_wait_time`
LONGEST_SOCKET = 105  # bytes of a socket's path; Linux takes 107, and "-1" to "-5" are added
NO_HISTORY = "--HistoryManager.hist_file=:memory:"  # as nbclient starts kernels


@contextmanager
def kernel_environment() -> Iterator[Kernels]:
    """Set the variables that kernels inherit: one model server for all, and nothing of the user's own Jupyter settings."""
    with tempfile.TemporaryDirectory(prefix="selfinstruct-", ignore_cleanup_errors=True) as own:
        profile = Path(own) / "profile_default"
        profile.mkdir()
        # or each kernel warns of the signal that ends it, and of its port, where it has one, that it is not encrypted
        (profile / "ipython_kernel_config.py").write_text("get_config().IPKernelApp.log_level = 50\n")
        ours = {
            OWNER_VARIABLE: os.environ.get(OWNER_VARIABLE, str(os.getpid())),
            "IPYTHONDIR": own,
            "JUPYTER_RUNTIME_DIR": own,
            "JUPYTER_PREFER_ENV_PATH": "1",  # this interpreter's kernel, not one of the same name in the home folder
            "JUPYTER_PLATFORM_DIRS": "1",  # or every kernel prints a warning about it
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        kernels = Kernels(Path(own))
        with patch.dict(os.environ, ours):
            os.environ.pop("MPLBACKEND", None)  # inline, or the executed copies would have no figures
            try:
                yield kernels
            finally:
                kernels.close()


class Kernels:
    """The kernel that works, the one that waits, and the server that forks them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = itertools.count()
        self._server: ForkServer | None = None
        self._working: AsyncKernelManager | None = None
        self._waiting: AsyncKernelManager | None = None

    def arguments(self, another: bool = False) -> dict[str, Any]:
        """Arguments for papermill: the kernel to use, how long it may take to end, and if `another` is to be started behind it.

        Long in the middle of a cell, since answers may be in flight: they are paid for, and Jupyter's own five seconds, half
        of them before SIGTERM, are shorter than a slow model's answer. A second Ctrl-C ends that wait, too. Between cells
        nothing is in flight: there the five seconds hold, or a kernel that hangs at its end would delay the run.
        """
        from jupyter_client.manager import AsyncKernelManager

        from .forkserver import ForkServer, can_fork

        if another and self._server is None and can_fork():
            self._server = ForkServer()

        class Kernel(AsyncKernelManager):
            """What papermill makes; it gets one that may have been started, which it then does not start again."""

            def __new__(cls, **given: Any) -> AsyncKernelManager:
                return self._choose(given)

        return {
            "kernel_manager_class": Kernel,
            "on_cell_execute": self._set_wait(2 * IN_FLIGHT_SECONDS),
            "on_cell_executed": self._set_wait(JUPYTERS_SECONDS),
            **({"on_notebook_start": self._start_another} if another else {}),
        }

    def _choose(self, given: dict[str, Any]) -> AsyncKernelManager:
        self._working, self._waiting = self._waiting, None
        if self._working is None or not _is_running(self._working):
            self._working = self._make(**given)
        return self._working

    def _make(self, **given: Any) -> AsyncKernelManager:
        from .forkserver import ForkedKernelManager, can_fork

        name = str(self._folder / f"kernel{next(self._made)}")
        if can_fork() and len(os.fsencode(name)) <= LONGEST_SOCKET:
            given |= {"transport": "ipc", "ip": name}  # a port could be taken by another before the kernel binds it
        return ForkedKernelManager(server=self._server, **given)

    def _set_wait(self, seconds: float) -> Callable[..., None]:
        def set_wait(**_: Any) -> None:
            self._working.shutdown_wait_time = seconds

        return set_wait

    async def _start_another(self, **_: Any) -> None:
        self._waiting = self._make(kernel_name="python3")
        with suppress(OSError):  # the notebook that needs it starts it then, and says why it cannot
            await self._waiting.start_kernel(extra_arguments=[NO_HISTORY])

    def close(self) -> None:
        """End the kernel that waits, in which nothing runs, and the server."""
        if self._waiting is not None and _is_running(self._waiting):
            process = self._waiting.provisioner.process
            process.kill()
            process.wait()
        if self._server is not None:
            self._server.close()
        self._waiting = self._server = None


def _is_running(kernel: AsyncKernelManager) -> bool:
    return kernel.has_kernel and kernel.provisioner.process.poll() is None
