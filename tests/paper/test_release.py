"""Fetching against a loopback server: good, truncated, altered, missing, silent; mirrors, folders; and reading templates."""

import base64
import hashlib
import json
import re
import socket
import threading

import pooch
import pytest
from helpers.places import find_published
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from selfinstruct.files import InputError, ParameterError
from selfinstruct.paper import release
from selfinstruct.paper.release import (
    PublishedFile,
    fetch_published,
    find_published_file,
    git_blob_id,
    list_fetched,
    read_published_templates,
)
from selfinstruct.prompts import load_prompts

CONTENT = bytes(range(256)) * 1200  # 307,200 bytes, more than one network packet


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.fixture
def published(monkeypatch):
    """Two small files in place of the published ones."""
    files = (
        PublishedFile("data/big.bin", blob_id(CONTENT), "to test with"),
        PublishedFile("data/small.txt", blob_id(b"hello\n"), "to test with"),
    )
    monkeypatch.setattr(release, "published_files", lambda: files)
    return files


@pytest.fixture
def fetch(published, httpserver, tmp_path, monkeypatch):
    """fetch(names...) from the loopback server into tmp_path / "published", without waiting."""
    httpserver.expect_request("/data/small.txt").respond_with_data(b"hello\n")
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)

    def run(*names, source=None, out=lambda _: None):
        return fetch_published(names, source or httpserver.url_for(""), tmp_path / "published", out)

    return run


@pytest.fixture
def log(monkeypatch):
    """What pooch prints on stderr, a line each."""
    lines = []
    monkeypatch.setattr(pooch.get_logger(), "info", lambda text, *values: lines.append(text % values))
    return lines


def requests_for(httpserver, path):
    return [request for request, _ in httpserver.log if request.path == path]


def test_git_blob_id_is_gits(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "hello").write_bytes(b"hello\n")
    assert git_blob_id(tmp_path / "empty") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert git_blob_id(tmp_path / "hello") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_good_files_come_whole_and_only_once(fetch, httpserver, tmp_path):
    httpserver.expect_request("/data/big.bin").respond_with_data(CONTENT)
    paths = fetch()
    assert [path.relative_to(tmp_path / "published").as_posix() for path in paths] == ["data/big.bin", "data/small.txt"]
    assert paths[0].read_bytes() == CONTENT
    fetch()
    assert len(requests_for(httpserver, "/data/big.bin")) == 1
    assert "Apache-2.0" in (tmp_path / "published/README.md").read_text()
    assert paths[0].stat().st_mode & 0o777 == 0o644
    assert nothing_left_over(tmp_path)


def nothing_left_over(folder):
    """True if no file is there but the published ones and their README."""
    return {path.name for path in folder.rglob("*") if path.is_file()} <= {"big.bin", "small.txt", "README.md"}


def test_an_altered_file_is_refused_and_named_and_the_others_come(fetch, httpserver, tmp_path):
    wrong = CONTENT[:1000] + b"\xff" + CONTENT[1001:]
    httpserver.expect_request("/data/big.bin").respond_with_data(wrong)
    with pytest.raises(InputError, match=rf"data/big\.bin: not the published file(.|\n)*{blob_id(wrong)}") as caught:
        fetch()
    assert blob_id(CONTENT) in str(caught.value)
    assert not (tmp_path / "published/data/big.bin").exists() and nothing_left_over(tmp_path)
    assert (tmp_path / "published/data/small.txt").read_bytes() == b"hello\n"


def test_a_missing_file_is_named_and_the_others_come(fetch, httpserver, tmp_path):
    httpserver.expect_request("/data/big.bin").respond_with_data("no", status=404)
    with pytest.raises(InputError, match=r"1 of 2 files are there; 1 could not(.|\n)*data/big\.bin: 404 Client Error"):
        fetch()
    assert (tmp_path / "published/data/small.txt").exists()


def serve_in_pieces(httpserver, stops):
    """Serve CONTENT, breaking off after `stops[k]` bytes in the k-th answer; whole once the list is used up."""
    stops = list(stops)

    def answer(request: Request) -> Response:
        response = Response(CONTENT[: stops.pop(0)] if stops else CONTENT)
        response.headers["Content-Length"] = str(len(CONTENT))
        return response

    httpserver.expect_request("/data/big.bin").respond_with_handler(answer)


def test_a_download_that_breaks_off_begins_anew(fetch, httpserver, tmp_path):
    serve_in_pieces(httpserver, [100_000, 50_000])
    (path,) = fetch("big")
    assert path.read_bytes() == CONTENT and len(requests_for(httpserver, "/data/big.bin")) == 3
    assert nothing_left_over(tmp_path)


def test_a_server_that_always_breaks_off_is_given_up_and_the_others_come(fetch, httpserver, tmp_path):
    serve_in_pieces(httpserver, [1000] * 9)
    with pytest.raises(InputError, match=r"1 of 2 files are there(.|\n)*data/big\.bin: .*1000 bytes read.*, 3 times"):
        fetch()
    assert not (tmp_path / "published/data/big.bin").exists() and nothing_left_over(tmp_path)


def test_an_older_file_stays_until_the_right_one_is_there(fetch, httpserver, tmp_path):
    serve_in_pieces(httpserver, [1000] * 3)
    old = tmp_path / "published/data/big.bin"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"mine")
    with pytest.raises(InputError):
        fetch("big")
    assert old.read_bytes() == b"mine"
    assert fetch("big")[0].read_bytes() == CONTENT


def test_a_file_shorter_than_published_is_refused(fetch, httpserver):
    httpserver.expect_request("/data/big.bin").respond_with_data(CONTENT[:-1])
    with pytest.raises(InputError, match=r"307,199 bytes"):
        fetch("big")


def test_a_busy_server_is_asked_again(fetch, httpserver):
    httpserver.expect_ordered_request("/data/big.bin").respond_with_data("later", status=503)
    httpserver.expect_ordered_request("/data/big.bin").respond_with_data(CONTENT)
    assert fetch("big")[0].read_bytes() == CONTENT


def test_an_altered_file_on_disk_is_fetched_again(fetch, httpserver, tmp_path):
    (path,) = fetch("small")
    path.write_bytes(b"hullo\n")
    assert [state for _, state in list_fetched(tmp_path / "published")] == ["not fetched", "altered"]
    fetch("small")
    assert path.read_bytes() == b"hello\n"


def test_no_connection_stops_at_the_first_file(fetch):
    with pytest.raises(InputError, match=r"0 of 2 files are there; 1 could not(.|\n)*refused"):
        fetch(source="http://127.0.0.1:9")  # the discard port: nobody listens


def test_a_redirect_in_a_circle_is_one_line_and_the_others_come(fetch, httpserver, tmp_path):
    httpserver.expect_request("/data/big.bin").respond_with_data("", status=302, headers={"Location": "/data/big.bin"})
    with pytest.raises(InputError, match=r"1 of 2 files are there(.|\n)*data/big\.bin: Exceeded 30 redirects"):
        fetch()
    assert (tmp_path / "published/data/small.txt").exists()


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/x", "http://[::1", "http://" + "a" * 99 + "/x", "http:///x"])
def test_a_redirect_to_nowhere_is_one_line_and_the_others_come(fetch, httpserver, tmp_path, location):
    httpserver.expect_request("/data/big.bin").respond_with_data("", status=302, headers={"Location": location})
    with pytest.raises(InputError, match=r"1 of 2 files are there"):
        fetch()
    assert (tmp_path / "published/data/small.txt").exists()


def test_a_server_that_takes_the_question_and_says_nothing_is_given_up_for_all_files(fetch, monkeypatch, log):
    monkeypatch.setattr(release, "SILENCE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(InputError, match=r"0 of 2 files are there; 1 could not(.|\n)*Read timed out.*, 3 times"):
            fetch(source=address)
    assert ["Will attempt the download again" in line for line in log] == [False, True, True]


def test_a_server_that_falls_silent_in_a_file_costs_that_file_alone(fetch, monkeypatch, tmp_path):
    monkeypatch.setattr(release, "SILENCE_S", 0.1)
    ended = threading.Event()

    def body():
        yield CONTENT[:1000]
        ended.wait(9)

    with HTTPServer(threaded=True) as server:  # it can answer another question before it has finished with this one
        server.expect_request("/data/big.bin").respond_with_handler(lambda _: Response(body()))
        server.expect_request("/data/small.txt").respond_with_data(b"hello\n")
        with pytest.raises(InputError, match=r"1 of 2 files are there(.|\n)*data/big\.bin: .*Read timed out"):
            fetch(source=server.url_for(""))
        ended.set()
    assert (tmp_path / "published/data/small.txt").exists()


def test_a_retry_is_said_before_half_a_minute():
    assert 10 <= release.SILENCE_S <= 15


def test_the_password_of_a_mirror_is_used_and_written_nowhere(fetch, httpserver, tmp_path, log):
    httpserver.expect_request("/data/big.bin").respond_with_data("no", status=403)
    said = []
    with pytest.raises(InputError) as error:
        fetch(source=httpserver.url_for("").replace("http://", "http://ann:s3%40cret@"), out=said.append)
    sent = requests_for(httpserver, "/data/small.txt")[0].headers["Authorization"]
    assert base64.b64decode(sent.split()[1]) == b"ann:s3@cret"
    everything = [str(error.value), *said, *log]
    everything += [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert "403" in everything[0] and not [text for text in everything if "cret" in text or "ann" in text]


@pytest.mark.parametrize("source", ["", " ", "/no/such/folder", "ftp://127.0.0.1/x", __file__])
def test_a_source_that_is_none_is_refused_once_and_never_means_github(published, tmp_path, source):
    said = []
    with pytest.raises(InputError) as error:
        fetch_published([], source, tmp_path / "published", said.append)
    assert str(error.value).endswith("neither a folder nor a web address that begins with http:// or https://")
    assert not said and not (tmp_path / "published").exists()


@pytest.mark.parametrize("source", ["http://", "http:///x", "https://u:cret@[::1", "http://a\x01b/"])
def test_an_address_that_is_none_is_refused_once(published, tmp_path, source):
    with pytest.raises(InputError) as error:
        fetch_published([], source, tmp_path / "published")
    assert "not a web address" in str(error.value) and "\n" not in str(error.value) and "cret" not in str(error.value)


def test_a_proxy_that_cannot_be_used_is_said_and_none_is_needed_for_a_folder(fetch, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "gopher://127.0.0.1")
    with pytest.raises(InputError, match="Proxy URL had unsupported scheme gopher"):
        fetch(source="https://127.0.0.1:9")
    (tmp_path / "small.txt").write_bytes(b"hello\n")
    assert fetch("small", source=str(tmp_path))


def test_the_readme_lists_what_is_there_and_no_path_of_this_machine(fetch, tmp_path):
    readme = tmp_path / "published/README.md"
    fetch("small")
    assert "| data/small.txt | Apache-2.0 | to test with |" in readme.read_text()
    assert "big.bin" not in readme.read_text()
    (tmp_path / "big.bin").write_bytes(CONTENT)
    fetch("big", source=str(tmp_path))
    text = readme.read_text()
    assert "| data/small.txt | Apache" in text and "| data/big.bin | Apache" in text and str(tmp_path) not in text


def test_from_a_folder_under_the_whole_path_or_the_name_alone(fetch, tmp_path):
    copy = tmp_path / "copy"
    (copy / "data").mkdir(parents=True)
    (copy / "data/big.bin").write_bytes(CONTENT)
    (copy / "small.txt").write_bytes(b"hello\n")
    assert [path.name for path in fetch(source=str(copy))] == ["big.bin", "small.txt"]


def test_from_a_folder_is_verified_just_the_same(fetch, tmp_path):
    (tmp_path / "small.txt").write_bytes(b"hullo\n")
    with pytest.raises(InputError, match=r"small\.txt: not the published file"):
        fetch("small", source=str(tmp_path))
    with pytest.raises(InputError, match="neither a folder nor a web address"):
        fetch("small", source=str(tmp_path / "nowhere"))


def test_an_unknown_name_lists_the_known_ones(fetch):
    with pytest.raises(ParameterError, match=r"(?s)biig: no published file.*data/small\.txt"):
        fetch("biig")


def test_the_real_list():
    files = release.published_files()
    assert len(files) == 15 and len({file.blob_id for file in files}) == 15
    assert all(re.fullmatch(r"[0-9a-f]{40}", file.blob_id) and file.purpose for file in files)
    assert release.COMMIT in release.SOURCE
    assert sum(file.path.startswith("human_eval/predictions/") for file in files) == 8


def put_templates(monkeypatch, folder, classification, instances, seed_tasks=""):
    contents = {
        "data/seed_tasks.jsonl": seed_tasks,
        "self_instruct/templates/clf_task_template.py": classification,
        "self_instruct/templates/instance_gen_template.py": instances,
    }
    for name, text in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    files = tuple(PublishedFile(name, blob_id(text.encode()), "") for name, text in contents.items())
    monkeypatch.setattr(release, "published_files", lambda: files)
    monkeypatch.setattr(release, "FOLDER", str(folder))


def test_templates_are_read_and_never_run(monkeypatch, tmp_path):
    marker = tmp_path / "ran"
    put_templates(
        monkeypatch,
        tmp_path,
        f"open({str(marker)!r}, 'w')\ntemplate_1 = '''Is it?\n\nTask: A\nIs it classification? Yes\n\nTask:'''\n",
        "output_first_template_for_clf = 'x\\n\\nTask:'\ninput_first_template_for_gen = ('y\\n\\n'\n 'Task:')\n",
    )
    assert read_published_templates(tmp_path) == {
        "classification": "Is it?\n\nTask: A\nIs it classification? Yes\n\nTask:",
        "output_first": "x\n\nTask:",
        "input_first": "y\n\nTask:",
    }
    assert not marker.exists()


def test_what_was_fetched_becomes_a_prompt_set_that_is_read_like_any_other(monkeypatch, tmp_path):
    task = {"id": "a", "name": "a", "instruction": "Name a colour.", "instances": [{"input": "", "output": "Red"}]}
    seeds = json.dumps({**task, "is_classification": False}) + "\n"
    first, second = (
        "output_first_template_for_clf = 'x\\n\\nTask:'\n",
        "input_first_template_for_gen = 'y\\n\\nTask:'\n",
    )
    put_templates(monkeypatch, tmp_path, "template_1 = 'Is it?\\n\\nTask:'\n", first + second, seeds)
    release.check_published(tmp_path)
    prompts = load_prompts(tmp_path / "prompts")
    assert prompts.instance_prompt("Name a river.", False) == "y\n\nTask: Name a river.\n"
    assert prompts.classification == "Is it?\n\nTask:"
    assert [one.instruction for one in prompts.seed_tasks] == ["Name a colour."]
    (tmp_path / "prompts" / "classification.txt").write_text("altered")
    release.check_published(tmp_path)
    assert load_prompts(tmp_path / "prompts") == prompts


def test_templates_not_fetched_or_altered_name_the_command(monkeypatch, tmp_path):
    put_templates(monkeypatch, tmp_path, "template_1 = ''", "")
    (tmp_path / "self_instruct/templates/clf_task_template.py").write_text("template_1 = 'other'")
    with pytest.raises(InputError, match=r"altered; `selfinstruct fetch clf_task_template\.py` brings it"):
        read_published_templates(tmp_path)
    with pytest.raises(InputError, match="not fetched; `selfinstruct fetch"):
        read_published_templates(tmp_path / "elsewhere")


def test_published_prompts_are_used_where_they_are_fetched():
    try:
        templates = read_published_templates()
    except InputError as error:
        pytest.skip(str(error))
    examples = {name: text.split("\nTask:")[1:-1] for name, text in templates.items()}
    labels = [text.split()[-1] for text in examples["classification"]]
    assert (labels.count("Yes"), labels.count("No")) == (12, 19)
    assert sum(text.count("Class label:") for text in examples["output_first"]) == 34
    assert len(examples["input_first"]) == 11
    prompts = load_prompts(release.write_prompt_set())
    assert prompts.classification.endswith("Task:") and len(prompts.seed_tasks) == 175


def test_fetched_files_are_what_was_published_and_can_be_copied_on(tmp_path):
    source = find_published(release.SEED_TASKS).parent
    (path,) = fetch_published(["data/seed_tasks"], str(source), tmp_path, lambda _: None)
    assert len(path.read_text(encoding="utf-8").splitlines()) == 175
    assert find_published_file(release.SEED_TASKS, tmp_path) == path
