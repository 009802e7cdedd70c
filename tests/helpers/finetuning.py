"""The files and fine-tuning jobs of a provider, on loopback: what arrived is counted, and any call can fail or get lost."""

from __future__ import annotations

import json
import re
from typing import Any

from helpers.scripted import Reply

TUNED = "ft:scripted:kit:1"


class FineTuningApi:
    """A route for `ScriptedServer`. `replies[call]` are answered first, in turn; an answer to a call in `lost` never arrives.

    A call is "POST files", "GET files", "POST jobs", "GET jobs", "GET job" or "GET events". `statuses` are those of the job at each look, the
    last one for good.
    """

    def __init__(self, *statuses: str, error: dict[str, Any] | None = None):
        self.statuses, self.error = list(statuses or ("succeeded",)), error
        self.files: dict[str, tuple[str, bytes]] = {}  # id -> name, content
        self.jobs: dict[str, dict[str, Any]] = {}
        self.events: list[str] = []
        self.replies: dict[str, list[Reply]] = {}
        self.lost: list[str] = []
        self.calls: list[str] = []

    def __call__(self, method: str, path: str, raw: bytes) -> Reply | None:
        parts = path.split("?")[0].removeprefix("/v1/").split("/")
        if parts[0] not in ("files", "fine_tuning"):
            return None
        call = f"{method} {('files' if parts[0] == 'files' else ('jobs', 'job', 'events')[len(parts) - 2])}"
        self.calls.append(call)
        if self.replies.get(call):
            return self.replies[call].pop(0)
        answer = {"POST files": self._upload, "POST jobs": self._create}.get(call, lambda raw: self._show(call, parts))(
            raw
        )
        if call in self.lost:
            self.lost.remove(call)
            return Reply(reset=True)
        return answer

    def _upload(self, raw: bytes) -> Reply:
        name = re.search(rb'filename="([^"]+)"', raw)[1].decode()
        content = re.search(rb'filename="[^"]+".*?\r\n\r\n(.*?)\r\n--', raw, re.DOTALL)[1]
        assert b'name="purpose"\r\n\r\nfine-tune' in raw
        id = f"file-{len(self.files) + 1}"
        self.files[id] = (name, content)
        return Reply(body=self._file(id))

    def _file(self, id: str) -> dict[str, Any]:
        name, content = self.files[id]
        return {
            "id": id,
            "object": "file",
            "filename": name,
            "bytes": len(content),
            "purpose": "fine-tune",
            "created_at": 1,
        }

    def _create(self, raw: bytes) -> Reply:
        asked = json.loads(raw)
        id = f"ftjob-{len(self.jobs) + 1}"
        common = {"object": "fine_tuning.job", "created_at": 1, "hyperparameters": {}, "organization_id": "o"}
        self.jobs[id] = {"id": id, **common, "result_files": [], "status": "queued", **asked}
        return Reply(body=self.jobs[id])

    def _show(self, call: str, parts: list[str]) -> Reply:
        lists = {"GET files": [self._file(id) for id in self.files], "GET jobs": list(self.jobs.values())}
        if call in lists:
            return Reply(body={"object": "list", "data": lists[call], "has_more": False})
        job = self.jobs.get(parts[2])
        if job is None:
            return Reply(404, {"error": {"message": f"no job {parts[2]}"}})
        if call == "GET events":
            data = [
                {"id": "e", "object": "fine_tuning.job.event", "created_at": 1, "level": "info", "message": m}
                for m in self.events
            ]
            return Reply(body={"object": "list", "data": data, "has_more": False})
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        done = {"fine_tuned_model": TUNED, "trained_tokens": 1234} if status == "succeeded" else {}
        job |= {"status": status, **done, "error": self.error if status == "failed" else None}
        return Reply(body=job)
