"""Files: what this process may use, and JSON lines that a kill cut short."""

import os
from pathlib import Path

from selfinstruct.files import usable_cpus


def test_a_container_counts_its_share_of_the_machine(tmp_path: Path):
    quota, allowed = tmp_path / "cpu.max", len(os.sched_getaffinity(0))
    quota.write_text("50000 100000\n")
    assert usable_cpus(quota) == 0.5
    quota.write_text("max 100000\n")
    assert usable_cpus(quota) == usable_cpus(tmp_path / "absent") == allowed
