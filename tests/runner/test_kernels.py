"""How long a kernel may take to end: long in the middle of a cell, where answers may be in flight, else as Jupyter does."""

import time

import pytest
from nbformat import v4, write

from selfinstruct.runner.forkserver import OnlyClient, can_fork
from selfinstruct.runner.kernels import IN_FLIGHT_SECONDS, JUPYTERS_SECONDS, Kernels, kernel_environment


def test_patience_is_for_the_middle_of_a_cell(tmp_path):
    given = Kernels(tmp_path).arguments()
    kernel = given["kernel_manager_class"]()
    given["on_cell_execute"](cell=None, cell_index=0)
    assert kernel.shutdown_wait_time == 2 * IN_FLIGHT_SECONDS  # SIGTERM comes after half of it
    given["on_cell_executed"](cell=None, cell_index=0, execute_reply={})
    assert kernel.shutdown_wait_time == JUPYTERS_SECONDS


@pytest.mark.skipif(not can_fork(), reason="ports are used elsewhere")
@pytest.mark.parametrize(("folder", "transport"), [("short", "ipc"), ("x" * 120, "tcp"), ("é" * 60, "tcp")])
def test_in_a_folder_with_a_name_too_long_for_a_socket_a_kernel_has_ports(tmp_path, folder, transport):
    assert Kernels(tmp_path / folder).arguments()["kernel_manager_class"]().transport == transport


def test_a_kernel_has_one_client_which_knows_that_it_is_alone(tmp_path):
    assert Kernels(tmp_path).arguments()["kernel_manager_class"]().client_factory is OnlyClient


def test_a_kernel_that_does_not_end_by_itself_holds_nobody_up(tmp_path):
    import papermill

    hanging = "import threading, time\nthreading.Thread(target=time.sleep, args=(300,)).start()"
    write(v4.new_notebook(cells=[v4.new_code_cell(hanging)]), tmp_path / "a.ipynb")
    began = time.monotonic()
    with kernel_environment() as kernels:
        papermill.execute_notebook(
            tmp_path / "a.ipynb", tmp_path / "b.ipynb", kernel_name="python3", progress_bar=False, **kernels.arguments()
        )
    assert time.monotonic() - began < 60
