"""A process that has loaded what notebooks load and forks their kernels, so that each of them starts at once.

    server = ForkServer()                          # starts it; it loads numpy, pandas, matplotlib and the kit, once
    manager = ForkedKernelManager(server=server, kernel_name="python3")
    server.close()

A forked kernel is an ordinary ipykernel in the folder and with the environment it is given; what it would import is there
already. No cell ever runs in the server, so nothing passes from one notebook to the next. After the first kernels a fork of the
server, its successor, loads spaCy and then takes over. Both end when their stdin does, whatever ended the runner, and each takes
the kernels that it has forked with it. Linux only (`can_fork`): on macOS loaded libraries do not survive a fork, and Windows has
none.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import gc
import importlib
import itertools
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from queue import Empty
from typing import Any, NoReturn, TextIO

import psutil
import traitlets
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager

LAUNCHER = "ipykernel_launcher"  # what the command of a kernel runs
# what two or more of the main notebooks use; nothing that asks while it loads if this is a notebook, as tqdm.auto does
LOADED = (
    "ipykernel.kernelapp", "ipykernel.zmqshell", "matplotlib.backends.backend_agg", "matplotlib.pyplot", "pandas",
    "selfinstruct.analysis", "selfinstruct.data", "selfinstruct.models", "selfinstruct.steps", "selfinstruct.similarity",
)  # fmt: skip

KERNELS_BEFORE_MORE = 2  # so many are forked before a successor loads what only a later notebook needs
PR_SET_PDEATHSIG = 1  # of Linux's prctl: the signal at the end of one's parent


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
        if self._answers.closed or list(command[:3]) != [sys.executable, "-m", LAUNCHER]:
            return None
        order = {"arguments": command[3:], "env": dict(env), "cwd": str(cwd or os.getcwd())}
        try:
            print(json.dumps(order), file=self._process.stdin, flush=True)
            return ForkedKernel(int(self._answers.readline()))
        except (OSError, ValueError, psutil.NoSuchProcess):
            self._answers.close()  # it is not asked again: nobody may be left to read that
            return None

    def close(self) -> None:
        """End the server and its successor; kernels that still run, in sessions of their own, end with them."""
        with suppress(OSError):
            self._process.stdin.close()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._answers.close()


class OnlyClient(AsyncKernelClient):
    """The only client of its kernel. Jupyter's waits 0.2 s at the start of a notebook for what others may have asked for."""

    async def wait_for_ready(self, timeout: float | None = None) -> None:
        """Return when the kernel answers and what it sends is received. Raises DeadKernelError if it ends before, or hangs."""
        from nbclient.exceptions import DeadKernelError

        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while await self.is_alive():
                    self.kernel_info()
                    with suppress(Empty):
                        await self.get_shell_msg(timeout=1)
                        await self.get_iopub_msg(timeout=0.2)
                        return
        raise DeadKernelError("the kernel ended or hung before it answered")


class ForkedKernelManager(AsyncKernelManager):
    """A kernel manager that has its kernel forked; without a server, or if that cannot do it, it starts it as any other."""

    client_factory = traitlets.Type(OnlyClient)
    server = traitlets.Instance(ForkServer, allow_none=True)

    async def _async_launch_kernel(self, kernel_cmd: list[str], **kw: Any) -> None:
        kernel = self.server and self.server.fork(kernel_cmd, kw["env"], kw.get("cwd"))
        if kernel is None:
            return await super()._async_launch_kernel(kernel_cmd, **kw)
        local = self.provisioner
        local.process, local.pid, local.pgid, local.cwd = kernel, kernel.pid, kernel.pid, kw.get("cwd")
        self._reconcile_connection_info(local.connection_info)


def serve(answers: TextIO) -> None:
    """Be the server: load, then fork a kernel for each line of stdin. Returns in the servers at the end of stdin."""
    del sys.path[0]  # the folder in which the runner was started; a kernel does not have it
    load()
    gc.collect()
    gc.freeze()  # or each kernel's collector would touch, and so copy, everything that is loaded
    signal.signal(signal.SIGCHLD, reap)
    if not fork_kernels(answers, KERNELS_BEFORE_MORE):
        return
    ours, theirs = socket.socketpair()
    if not fork():
        ours.close()
        return take_over(answers, theirs)
    theirs.close()
    if not fork_kernels(answers, until=ours):
        return
    if not ours.recv(1):  # the successor has died, out of memory perhaps
        fork_kernels(answers)
        return
    answers.close()  # from here on the runner waits for the successor alone
    with suppress(OSError):
        ours.send(b"!")
    wait_for_end()


def take_over(answers: TextIO, server: socket.socket) -> None:
    """Be the successor: load spaCy, then fork the kernels instead of the server, once that has stopped."""
    load_parser()
    try:
        server.send(b"loaded")
        mine = server.recv(1)
    except OSError:  # the server has ended meanwhile
        return
    if mine:
        fork_kernels(answers)


def fork_kernels(answers: TextIO, most: int | None = None, until: socket.socket | None = None) -> bool:
    """Fork kernels until `most` were forked, something can be read from `until`, or stdin ends: only then False."""
    waited_for, server = [sys.stdin, *filter(None, [until])], os.getpid()
    for _ in itertools.count() if most is None else range(most):
        if until in select.select(waited_for, [], [])[0]:
            return True
        if not (order := sys.stdin.readline()):  # the runner waits for an answer to each: none is in the buffer
            return False
        if not (pid := fork()):
            answers.close()
            become_kernel(server, **json.loads(order))
        print(pid, file=answers, flush=True)
    return True


def wait_for_end() -> None:
    """Return when the runner has closed stdin or ended: the kernels forked here would end with this process."""
    waiting = select.poll()
    waiting.register(sys.stdin, 0)  # not for orders, which are the successor's
    waiting.poll()


def fork() -> int:
    """os.fork, without its warning of threads: they are those of numpy's BLAS, which knows of forks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def load_parser() -> None:
    """Load spaCy and its model, for notebook 11."""
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


def become_kernel(server: int, arguments: list[str], env: dict[str, str], cwd: str) -> NoReturn:
    """Run ipykernel as its command line would, in a session of its own, and end with it; or with the server, whose pid is given."""
    end_with(server)
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(env, JPY_PARENT_PID=str(server))
    os.chdir(cwd)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()  # `random` does so itself; or all notebooks would draw the same numbers
    sys.argv = [LAUNCHER, *arguments]
    runpy.run_module(LAUNCHER, run_name="__main__", alter_sys=True)
    end_kernel()


def end_with(parent: int) -> None:
    """Have the system end this process when its parent ends. ipykernel's own look at its parent misses the end of one that it did
    not know at its import, where orphans get another parent than process 1, as on most desktops.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        os._exit(1)


def end_kernel() -> NoReturn:
    """End as Python does, but leave the objects to the system: to free all that was loaded takes longer than some notebooks.

    ipykernel does not close what it holds either: in one of 25 kernels that waited for a thread which never ended.
    """
    from ipykernel.kernelapp import IPKernelApp

    threading._shutdown()
    atexit.unregister(IPKernelApp.instance().close)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    serve(os.fdopen(int(sys.argv[1]), "w"))
