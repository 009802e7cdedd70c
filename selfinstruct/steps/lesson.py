"""What notebook 00 shows: steps 3 and 4 on one task after the other, until one survives.

trials = follow_tasks(client, records[:5], labels, prompts, settings)
raw, task = trials[-1]          # the first that survived, if any did: then task.kept has its instances
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..prompts import PromptSet
from ..records import Client, MachineInstances, MachineInstruction
from .export import ParsedTask, parse_task
from .instances import generate_instances


def follow_tasks(
    client: Client,
    records: Sequence[MachineInstruction],
    labels: dict[str, bool],
    prompts: PromptSet,
    settings: dict[str, Any],
) -> list[tuple[MachineInstances, ParsedTask]]:
    """Ask for the instances of one task after the other, and stop at the first of which step 4 keeps one.

    Every task that was asked for is there, in order, so that a reader sees what did not survive as well.
    """
    trials = []
    for record in records:
        [raw] = generate_instances(client, [record], labels, prompts, settings, desc="")
        trials.append((raw, parse_task(raw, labels[record.instruction])))
        if trials[-1][1].kept:
            break
    return trials
