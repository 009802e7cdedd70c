"""A process that has loaded what notebooks load and forks their kernels, so that each of them starts at once.

    server = ForkServer()                          # starts it; it loads numpy, pandas, matplotlib and the kit, once
    manager = ForkedKernelManager(server=server, kernel_name="python3")
    server.close()

A forked kernel is an ordinary ipykernel in the folder and with the environment it is given; what it would import is there
already. No cell ever runs in the server, so nothing passes from one notebook to the next. The server ends when its stdin
does, whatever ended the runner, and kernels end when they find their server gone. Linux only (`can_fork`): on macOS loaded
libraries do not survive a fork, and Windows has none.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TextIO

import psutil
import traitlets
from jupyter_client.manager import AsyncKernelManager

LAUNCHER = "ipykernel_launcher"  # what the command of a kernel runs
# what two or more of the main notebooks use; nothing that asks while it loads if this is a notebook, as tqdm.auto does
LOADED = (
    "ipykernel.kernelapp", "ipykernel.zmqshell", "matplotlib.backends.backend_agg", "matplotlib.pyplot", "pandas",
    "selfinstruct.analysis", "selfinstruct.data", "selfinstruct.models", "selfinstruct.steps", "selfinstruct.similarity",
)  # fmt: skip

KERNELS_BEFORE_MORE = 2  # so many are forked before the server loads what only a later notebook needs


def can_fork() -> bool:
    """True if what is loaded here survives a fork."""
    return sys.platform == "linux"


class ForkedKernel(psutil.Process):
    """A kernel of the server as jupyter_client wants a process to be; it is the server's child, not ours."""

    stdin = stdout = stderr = None

    def poll(self) -> int | None:
        with suppress(psutil.NoSuchProcess):
            if self.is_running() and self.status() != psutil.STATUS_ZOMBIE:
                return None
        return 0

    def send_signal(self, sig: int) -> None:
        with suppress(psutil.NoSuchProcess):
            super().send_signal(sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The server as the runner has it."""

    def __init__(self) -> None:
        answers, theirs = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs)], stdin=subprocess.PIPE, text=True, pass_fds=[theirs],
            start_new_session=True,  # Ctrl-C in the terminal is for the runner
        )  # fmt: skip
        os.close(theirs)
        self._answers = os.fdopen(answers)

    def fork(self, command: Sequence[str], env: Mapping[str, str], cwd: str | None) -> ForkedKernel | None:
        """The kernel that `command` would start; None if it is another kind of command, or the server has ended."""
        if list(command[:3]) != [sys.executable, "-m", LAUNCHER]:
            return None
        order = {"arguments": command[3:], "env": dict(env), "cwd": str(cwd or os.getcwd())}
        try:
            print(json.dumps(order), file=self._process.stdin, flush=True)
            return ForkedKernel(int(self._answers.readline()))
        except (OSError, ValueError, psutil.NoSuchProcess):
            return None

    def close(self) -> None:
        """End the server; kernels that still run end within a second."""
        with suppress(OSError):
            self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._answers.close()


class ForkedKernelManager(AsyncKernelManager):
    """A kernel manager that has its kernel forked; without a server, or if that cannot do it, it starts it as any other."""

    server = traitlets.Instance(ForkServer, allow_none=True)

    async def _async_launch_kernel(self, kernel_cmd: list[str], **kw: Any) -> None:
        kernel = self.server and self.server.fork(kernel_cmd, kw["env"], kw.get("cwd"))
        if kernel is None:
            return await super()._async_launch_kernel(kernel_cmd, **kw)
        local = self.provisioner
        local.process, local.pid, local.pgid, local.cwd = kernel, kernel.pid, kernel.pid, kw.get("cwd")
        self._reconcile_connection_info(local.connection_info)


def serve(answers: TextIO) -> None:
    """Be the server: load, then fork a kernel for each line of stdin. Returns in the server at the end of stdin, and in a
    kernel when that has ended.
    """
    del sys.path[0]  # the folder in which the runner was started; a kernel does not have it
    load()
    gc.collect()
    gc.freeze()  # or each kernel's collector would touch, and so copy, everything that is loaded
    signal.signal(signal.SIGCHLD, reap)
    forked = 0
    while order := sys.stdin.readline():
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # there are threads: of numpy's BLAS, which knows of forks
            pid = os.fork()
        if not pid:
            answers.close()
            return become_kernel(**json.loads(order))
        print(pid, file=answers, flush=True)
        forked += 1
        if forked == KERNELS_BEFORE_MORE:
            load_parser()


def load_parser() -> None:
    """Load spaCy and its model, for notebook 11, while the first notebooks run."""
    with suppress(Exception), warnings.catch_warnings():  # its libraries add filters of their own
        from ..analysis.verbs import load_parser as load

        load()
        gc.collect()
        gc.freeze()


def load() -> None:
    """Import what most notebooks need. What cannot be imported is for the notebook that needs it to say."""
    os.environ["JPY_PARENT_PID"] = str(os.getpid())  # whose end is a kernel's end; ipykernel reads it at its import
    os.environ["MPLBACKEND"] = (
        "module://matplotlib_inline.backend_inline"  # ipykernel's choice, read at matplotlib's import
    )
    for name in LOADED:
        with suppress(Exception):
            importlib.import_module(name)
    with suppress(Exception):  # the compiled functions come from numba's cache when they are first called
        from ..similarity import InstructionPool

        InstructionPool(["Name a river.", "Add two numbers."]).admit(["Write a poem.", "List three birds."])


def reap(*_: object) -> None:
    """Take note of the kernels that have ended, or they stay in the system's table."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def become_kernel(arguments: list[str], env: dict[str, str], cwd: str) -> None:
    """Run ipykernel as its command line would, in a session of its own; returns when the kernel has ended."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(env, JPY_PARENT_PID=str(os.getppid()))
    os.chdir(cwd)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()  # `random` does so itself; or all notebooks would draw the same numbers
    sys.argv = [LAUNCHER, *arguments]
    runpy.run_module(LAUNCHER, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve(os.fdopen(int(sys.argv[1]), "w"))
