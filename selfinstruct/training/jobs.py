"""A provider's fine-tuning job: export, estimate, upload, job, waiting; every start goes on where the last one ended.

    job = plan_job(run, "gpt-4o-mini-2024-07-18", training_price=3.0)
    print(job.estimate(max_cost_usd=5.0))       # nothing is sent before
    record = job.work_off(job_wait_s=3600)
    connect(record["model"], api="chat")        # the tuned model, as any other

`adapters/provider/job.json` is written before and after every call that costs anything. Where a stop, or an error of the way,
leaves open whether such a call arrived, the provider's own list is asked before it is made again: no file is uploaded
twice, and no job is created twice.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from textwrap import fill
from typing import Any

from .. import __version__
from ..data.writing import FEWEST_EXAMPLES, PROVENANCE, check_chat_file
from ..files import EndpointError, ParameterError, StoppedEarly, read_json, show_path, write_json
from ..models.endpoint import Endpoint, find_endpoint, is_embedded
from ..models.spending import Amount, Budget, Price
from ..runfolder import RunFolder
from ..servers.deadline import Deadline
from ..servers.retries import find_pause
from .lineage import export_training_rows, load_training_rows

FOLDER, JOB, RECORD, TAG = "adapters/provider", "job.json", "training.json", "selfinstruct"
ENDED = ("succeeded", "failed", "cancelled", "canceled")
POLL_S, CALL_S = 20.0, 1800.0  # between two looks at a job; for one call, files being large
LAST_EVENTS = 3
LINE = 110  # characters of a line that a page shows whole
NOT_READY, NOT_READY_PAUSE_S, NOT_READY_TRIES = ("being processed", "not ready"), 5.0, 24  # a file just uploaded
CLOSING = (
    "OpenAI is closing its self-serve fine-tuning: accounts that never trained, or have not used a tuned model for 60 days, "
    "can start no job, and by its announcement of May 2026 nobody can from 6 January 2027; other servers offer the same calls "
    '(base_url), and backend="local" needs none'
)
Tell = Callable[[str], None]


def plan_job(
    run: RunFolder, base_model: str, data: str | Path = "", base_url: str = "", epochs: int = 2, batch_size: int = 0,
    learning_rate_multiplier: float = 0.0, validation: float = 0.1, random_seed: int = 42, training_price: float = -1.0,
    tell: Tell = print,
) -> ProviderJob:  # fmt: skip
    """The job that tunes a provider's `base_model` on the rows of `run` (or `data`), exported, and not sent.

    0 leaves `batch_size` and `learning_rate_multiplier` to the provider. `training_price` is in dollars per million tokens
    trained on, which no price list has in a form that programs read: ParameterError without one (-1), and where the folder holds
    the job of other rows, settings or another provider.
    """
    if not base_model or is_embedded(base_model, base_url):
        raise ParameterError(f"base_model={base_model!r} is no provider's; name one that it tunes, or backend='local'")
    if epochs < 1 or training_price < 0:
        raise ParameterError(
            f"epochs={epochs}: at least 1"
            if epochs < 1
            else "training_price is not set, and no price list has it: give the dollars per million training tokens of "
            "your provider's page (0 where it is free)"
        )
    settings = {
        "n_epochs": epochs, "batch_size": batch_size, "learning_rate_multiplier": learning_rate_multiplier,
        "random_seed": random_seed, "validation_share": validation,
    }  # fmt: skip
    job = ProviderJob(run / FOLDER, find_endpoint(base_model, base_url, "chat"), settings, training_price, tell)
    job.open(data or run)
    return job


class ProviderJob:
    """One job and its file; see the module."""

    def __init__(
        self, folder: Path, endpoint: Endpoint, settings: dict[str, Any], training_price: float, tell: Tell = print
    ):
        self.folder, self.endpoint, self.settings, self.tell = folder, endpoint, settings, tell
        self.price = Price(prompt=training_price, completion=0)
        self.state: dict[str, Any] = {}

    # the state

    def note(self, **facts: Any) -> None:
        """Change the state, on disk before anything else happens."""
        self.state |= facts
        write_json(self.folder / JOB, self.state)

    def open(self, data: str | Path | RunFolder) -> None:
        """Go on with the job of this folder, or begin one: the rows are exported, and the tag exists before any call."""
        rows = load_training_rows(data, self.settings["random_seed"])[0]
        asked = {
            "endpoint": self.endpoint.provider.base_url, "model": self.endpoint.model, "settings": self.settings,
            "rows_sha256": hashlib.sha256("\n".join(row.id for row in rows).encode()).hexdigest(),
        }  # fmt: skip
        if (self.folder / JOB).is_file():
            self.state = read_json(self.folder / JOB)
            return self._check_same(asked)
        share, random_seed = self.settings["validation_share"], self.settings["random_seed"]
        exported = export_training_rows(data, self.folder / "data", "chat", share, random_seed)
        tag = uuid.uuid4().hex
        files = {
            name.removesuffix(".jsonl"): {"sha256": digest, "name": f"{TAG}-{tag}-{name}", "id": ""}
            for name, digest in exported["files"].items()
            if name != PROVENANCE
        }
        self.note(tag=tag, **asked, files=files, job_id="", status="new", events=[], fine_tuned_model=None)

    def _check_same(self, asked: Mapping[str, Any]) -> None:
        """Raise ParameterError where the job of this folder was asked for otherwise, or its files are not what they were."""
        changed = [name for name, value in asked.items() if self.state.get(name) != value]
        for name, file in self.state["files"].items():
            path = self.path(name)
            if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != file["sha256"]:
                changed.append(show_path(path))
        if changed:
            raise ParameterError(
                f"{show_path(self.folder / JOB)}: this job began with other values of {', '.join(changed)}; choose another "
                f"run_dir, or move {show_path(self.folder)} away to begin a new job"
            )

    def path(self, name: str) -> Path:
        """The exported file of one side: "train" or "validation"."""
        return self.folder / "data" / f"{name}.jsonl"

    # the estimate

    def estimate(self, max_cost_usd: float = 0.0) -> str:
        """What the job comes to, in words; raises StoppedEarly where the limit leaves no room. A job that exists is paid for."""
        counts = {
            name: check_chat_file(self.path(name), FEWEST_EXAMPLES if name == "train" else 1)
            for name in self.state["files"]
        }
        (examples, tokens), epochs = counts["train"], self.settings["n_epochs"]
        trained = tokens * epochs
        cost = self.price.cost(trained, 0)
        limit = Budget(max_cost_usd, price=self.price).find_limit(Amount(trained, cost))
        if limit and not self.state["job_id"]:
            raise StoppedEarly(f"{limit}; nothing was uploaded; raise it, or export fewer rows")
        self.note(
            examples=examples, tokens=tokens, estimated_tokens_trained=trained, price_per_million=self.price.prompt,
            estimated_cost_usd=round(cost, 6),
        )  # fmt: skip
        return (
            f"{examples:,} examples, about {tokens:,} tokens, {epochs} epochs: about {trained:,} tokens to train on, "
            f"${cost:,.2f} at ${self.price.prompt:g} a million.\n{fill(CLOSING, LINE)}."
        )

    # the calls

    def work_off(self, job_wait_s: float = 0.0, poll_s: float = POLL_S) -> dict[str, Any]:
        """Upload, create, wait: whatever of it is left to do; returns the record, "model" the name of the tuned one.

        Raises StoppedEarly where the job takes longer than `job_wait_s`, and EndpointError in the provider's own words where it
        refuses, or the job fails or is cancelled.
        """
        try:
            if self.state["status"] not in ENDED:
                deadline = time.monotonic() + job_wait_s
                for name in self.state["files"]:
                    self._upload(name)
                if not self.state["job_id"]:
                    self._create()
                self._wait(deadline, poll_s)
            return self._conclude()
        except KeyboardInterrupt:
            raise StoppedEarly(
                "stopped by Ctrl-C; a job that has begun goes on, the same command collects it"
            ) from None
        finally:
            self.endpoint.close()

    def _upload(self, name: str) -> None:
        file = self.state["files"][name]
        if file["id"]:
            return
        client, is_open = self.endpoint.client, file.get("sending", False)
        file["sending"] = True
        self.note()
        content = self.path(name).read_bytes()
        found = self._make_once(
            f"the upload of {self.path(name).name}",
            is_open,
            lambda: (
                one for one in client.files.list(purpose="fine-tune") if getattr(one, "filename", "") == file["name"]
            ),
            lambda once: once.files.create(file=(file["name"], content), purpose="fine-tune"),
        )
        file["id"] = found.id
        self.note(status="uploaded")
        self.tell(f"uploaded {self.path(name).name} as {found.id}")

    def _create(self) -> None:
        client, files, is_open = self.endpoint.client, self.state["files"], self.state["status"] == "creating"
        chosen = {name: self.settings[name] for name in ("n_epochs", "batch_size", "learning_rate_multiplier")}
        file = files["train"]["id"]
        asked = {
            "model": self.endpoint.model, "training_file": file, "seed": self.settings["random_seed"],
            "method": {"type": "supervised", "supervised": {"hyperparameters": {n: v for n, v in chosen.items() if v}}},
            "suffix": TAG, "metadata": {TAG: self.state["tag"]},
        }  # fmt: skip
        if "validation" in files:
            asked["validation_file"] = files["validation"]["id"]
        self.note(status="creating")
        job = self._make_once(
            "the fine-tuning job",
            is_open,
            lambda: (one for one in client.fine_tuning.jobs.list() if getattr(one, "training_file", "") == file),
            lambda once: once.fine_tuning.jobs.create(**asked),
        )
        self.note(job_id=job.id, status=_read_status(job))
        self.tell(f"created the job {job.id}")

    def _make_once(
        self, what: str, is_open: bool, find: Callable[[], Iterable[Any]], make: Callable[[Any], Any]
    ) -> Any:
        """What `make` makes, or what an earlier call made of which nobody knows if it arrived (`is_open`)."""
        import openai

        client, retries, waits = self.endpoint.client, 0, 0
        while True:
            if is_open and (found := self._call(what, lambda: next(iter(find()), None))):
                return found
            try:
                with Deadline(CALL_S):
                    return _check_form(what, make(client.with_options(max_retries=0)))
            except ValueError as error:
                raise EndpointError(f"{what}: the answer is not JSON; check base_url") from error
            except openai.OpenAIError as error:
                pause = find_pause(error, retries)
                if pause is None and _is_not_ready(error) and waits < NOT_READY_TRIES:
                    pause, waits = NOT_READY_PAUSE_S, waits + 1
                elif pause is None:
                    raise self._explain(what, error) from None
                else:
                    retries, is_open = retries + 1, True
                time.sleep(pause)

    def _call(self, what: str, call: Callable[[], Any]) -> Any:
        """A call that changes nothing, with the library's own retries; its errors explained as everywhere else."""
        import openai

        with Deadline(CALL_S):
            try:
                return call()
            except ValueError as error:
                raise EndpointError(f"{what}: the answer is not JSON; check base_url") from error
            except openai.OpenAIError as error:
                raise self._explain(what, error) from None

    def _explain(self, what: str, error: Any) -> EndpointError:
        status = getattr(error, "status_code", None)
        if status == 404:
            words = self._hide(_read_words(error))
            advice = "check base_model, base_url and the account of the key; not every server tunes models"
            return EndpointError(f"{what}: the provider does not know it (404: {words}); {advice}")
        closing = f". {CLOSING}" if status in (400, 403) and "openai.com" in self.endpoint.provider.base_url else ""
        return EndpointError(f"{what}: {self.endpoint.explain_error(error)}{closing}")

    def _wait(self, deadline: float, poll_s: float) -> None:
        """Look at the job until it has ended; raises StoppedEarly at the deadline."""
        client, id = self.endpoint.client, self.state["job_id"]
        while True:
            job = _check_form(f"job {id}", self._call(f"job {id}", lambda: client.fine_tuning.jobs.retrieve(id)))
            if (status := self._hide(_read_status(job))) != self.state["status"]:
                self.tell(f"job {id}: {status}")
            model, trained = self._hide(job.fine_tuned_model or "") or None, job.trained_tokens
            seconds = (job.finished_at or job.created_at) - job.created_at
            events = self._read_events(job) if status in ENDED else []
            self.note(status=status, fine_tuned_model=model, trained_tokens=trained, seconds=seconds, events=events)
            if status in ENDED:
                return
            if time.monotonic() >= deadline:
                raise StoppedEarly(
                    f"job {id}: {status}; it goes on at the provider: run the same command later to collect it"
                )
            time.sleep(min(poll_s, max(0.0, deadline - time.monotonic())))

    def _read_events(self, job: Any) -> list[str]:
        """What the provider says of a job that has ended: its error, and its last events."""
        list_events = self.endpoint.client.fine_tuning.jobs.list_events
        page = self._call(f"job {job.id}", lambda: list_events(job.id, limit=LAST_EVENTS))
        words = [getattr(job.error, "message", None)]
        words += [getattr(event, "message", None) for event in (getattr(page, "data", None) or [])[:LAST_EVENTS]]
        return [self._hide(str(text)) for text in dict.fromkeys(words) if text]

    def _conclude(self) -> dict[str, Any]:
        """The record of a job that succeeded, written as `training.json`; raises EndpointError for any other end."""
        id, status = self.state["job_id"], self.state["status"]
        if status != "succeeded" or not self.state["fine_tuned_model"]:
            ended = status if status != "succeeded" else "succeeded, without the name of a model"
            words = "; ".join(self.state["events"]) or "no reason given"
            advice = f"nothing is started again by itself: move {show_path(self.folder)} away for a new job"
            raise EndpointError(f"job {id}: {ended} ({words}); {advice}")
        state, train = self.state, self.state["files"]["train"]
        record = {
            "backend": "provider", "model": state["fine_tuned_model"], "job_id": id,
            "train_file": {"name": str(self.path("train").relative_to(self.folder)), "sha256": train["sha256"], "rows": state["examples"]},
            "base": {"name": state["model"], "endpoint": state["endpoint"]}, "settings": state["settings"],
            "machine": "the provider's", "versions": {"selfinstruct": __version__, "openai": metadata.version("openai")},
            "adapter": {"model": state["fine_tuned_model"]}, "trained_tokens": state["trained_tokens"],
            "estimated_cost_usd": state["estimated_cost_usd"], "seconds": state["seconds"],
        }  # fmt: skip
        write_json(self.folder / RECORD, record)
        return record

    def _hide(self, text: str) -> str:
        return self.endpoint.hide_key(text)


def _check_form(what: str, answer: Any) -> Any:
    """The answer, where it is an object of the API; a page of some other service is none."""
    if isinstance(getattr(answer, "id", None), str) and answer.id:
        return answer
    raise EndpointError(f"{what}: the answer is no such object ({str(answer)[:60]!r}); check base_url")


def _read_status(job: Any) -> str:
    return str(job.status).lower()


def _read_words(error: Any) -> str:
    body = getattr(error, "body", None)
    words = body.get("message") if isinstance(body, dict) else None
    return str(words or getattr(error, "message", error))[:300]


def _is_not_ready(error: Any) -> bool:
    """True where the provider has a file that it has not looked through yet: the same call is right a little later."""
    return getattr(error, "status_code", None) == 400 and any(word in _read_words(error) for word in NOT_READY)
