"""Weights in and out of GGUF files: what is loaded is what transformers loads, and what is served is what torch computes."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from helpers.tiny_model import write_tiny_gguf

torch = pytest.importorskip("torch")

from selfinstruct.files import EndpointError, InputError, ParameterError, write_json  # noqa: E402
from selfinstruct.training import weights  # noqa: E402
from selfinstruct.training.cost import measure_sizes  # noqa: E402
from selfinstruct.training.gguf_files import read_tensors, write_merged_gguf  # noqa: E402
from selfinstruct.training.lora import train_adapter  # noqa: E402


def read(path):
    import gguf

    return dict(read_tensors(gguf.GGUFReader(path)))


def test_our_loader_equals_that_of_transformers_bit_for_bit(tiny, loaded):
    theirs = weights._load_foreign(tiny).state_dict()
    ours = loaded[0].state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_weights_are_unpacked_once(tiny, loaded, monkeypatch):
    monkeypatch.setattr(weights, "_unpack", lambda *_: pytest.fail("unpacked again"))
    assert (weights.unpack_weights(tiny) / "model.safetensors").is_file()


def test_a_folder_loads_as_its_file_does(tiny, loaded):
    model, tokenizer = weights.load_model(weights.unpack_weights(tiny))
    assert torch.equal(model.lm_head.weight, loaded[0].lm_head.weight)
    assert tokenizer.encode("thin") == loaded[1].encode("thin")


def test_another_architecture_goes_through_transformers(tiny, tmp_path, train_file):
    """A file of qwen2, which has biases that the llama layout has not: loaded, trained, and its adapter named as in the file."""
    file = write_tiny_gguf(tmp_path / "qwen.gguf", architecture="qwen2")
    train_adapter(file, train_file, tmp_path / "out/1", steps=2, rank=2)
    assert {name.rsplit(".", 1)[0] for name in read(tmp_path / "out/1/adapter.gguf")} <= set(read(file))


def test_a_layout_that_nobody_loads_is_refused(tiny, tmp_path):
    import gguf

    path = tmp_path / "odd.gguf"
    writer = gguf.GGUFWriter(path, "rwkv6")
    writer.add_tensor("x.weight", np.zeros((2, 2), "float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(
        EndpointError, match=r"the architecture rwkv6 cannot be loaded for training .*choose other weights"
    ):
        weights.load_model(path)


def test_a_model_without_linear_layers_is_refused(loaded):
    class Bare(torch.nn.Module):
        config = type("Config", (), {"model_type": "bare"})

        def get_output_embeddings(self):
            return None

    with pytest.raises(EndpointError, match="no linear layer to adapt in the architecture bare"):
        weights.find_targets(Bare())
    assert weights.find_targets(loaded[0])[:2] == ["down_proj", "gate_proj"] and "lm_head" not in weights.find_targets(
        loaded[0]
    )


def test_the_f16_copy_is_the_same_weights_and_is_made_once(tiny):
    assert weights.convert_to_f16(tiny) == tiny  # F32 serves as it is


def test_a_quantised_file_is_converted(tiny, tmp_path):
    import gguf
    from gguf import GGMLQuantizationType, quants

    from selfinstruct.training.gguf_files import copy_header

    path, reader = tmp_path / "q8.gguf", gguf.GGUFReader(tiny)
    writer = gguf.GGUFWriter(path, "llama")
    copy_header(reader, writer)
    for name, values in read_tensors(reader):
        kind = GGMLQuantizationType.Q8_0 if values.ndim > 1 else GGMLQuantizationType.F32
        writer.add_tensor(name, quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    converted = weights.convert_to_f16(path)
    assert converted != path and weights.convert_to_f16(path) == converted
    before, after = read(path), read(converted)
    assert before.keys() == after.keys()
    assert all(np.allclose(before[name], after[name], atol=2e-3) for name in before)


def test_what_is_no_weights_is_refused(tmp_path):
    with pytest.raises(ParameterError, match=r"base_model: .*no GGUF file and no folder with config\.json"):
        weights.find_base(str(tmp_path))
    with pytest.raises(EndpointError, match="no such file"):
        weights.find_base(str(tmp_path / "missing.gguf"))


@pytest.mark.parametrize("kept", [50, 3000, -2000], ids=["header", "names", "tensors"])
def test_half_a_download_is_refused_in_a_sentence_before_anything_is_loaded(tiny, tmp_path, kept):
    path = tmp_path / "half.gguf"
    path.write_bytes(tiny.read_bytes()[:kept])
    for use in (measure_sizes, weights.load_tokenizer, weights.load_model, weights.convert_to_f16):
        with pytest.raises(EndpointError, match=r"half\.gguf: not a whole GGUF file.*; download it again$") as caught:
            use(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "tensors"),
    [("{}", b""), ("[]", b"abc"), ('{"model_type": "llama"}', b"abc"), ("{}", b"\x02" + b"\0" * 7 + b"{}")],
)
def test_a_folder_without_weights_is_refused_in_a_sentence(tmp_path, config, tensors):
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "model.safetensors").write_bytes(tensors)
    with pytest.raises(InputError, match=r"no weights that can be read; expected the config\.json and \*\.safetensors"):
        measure_sizes(tmp_path)
    for load in (weights.load_tokenizer, weights.load_model):
        with pytest.raises(EndpointError, match=r"transformers cannot load it \(.*\); choose other weights") as caught:
            load(tmp_path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("architecture", "why"),
    [("bert", "not supported"), ("gpt2", ""), ("mamba", r"\d+ weights are not in the file, the first ")],
)
def test_an_architecture_that_cannot_be_trained_is_refused_before_training(tmp_path, architecture, why, monkeypatch):
    """Of tensors under other names transformers would make random ones, and say nothing."""
    monkeypatch.setattr(weights, "CACHE", tmp_path / "cache")
    path = write_tiny_gguf(tmp_path / "foreign.gguf", architecture=architecture)
    words = rf"foreign\.gguf: the architecture {architecture} cannot be loaded for training \(.*{why}.*\); choose other"
    with pytest.raises(EndpointError, match=words):
        weights.load_tokenizer(path)
    assert not list((tmp_path / "cache").glob("[0-9a-f]*"))


def test_a_name_that_the_hub_does_not_give(monkeypatch):
    import huggingface_hub

    def refuse(*_, **__):
        raise OSError("offline\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(
        EndpointError, match=r"someone/some-model is not on this machine, and the hub does not give it \(offline\)"
    ):
        weights.find_base("someone/some-model")


def test_missing_torch_is_one_sentence_with_the_command(monkeypatch):
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(EndpointError, match="not installed here, and needed: torch; run: make finetune"):
        weights.check_libraries()


def test_a_gpu_is_used_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert weights.choose_device() == "cuda"


def test_an_adapter_of_other_weights_is_refused(tiny, tmp_path, train_file, loaded):
    other = write_tiny_gguf(tmp_path / "other.gguf", random_seed=1)
    out = tmp_path / "run_data/42"
    train_adapter(tiny, train_file, out, steps=1, rank=2, load=lambda: loaded)
    assert weights.check_adapter(out, tiny)["steps"] == 1
    with pytest.raises(InputError, match=r"made for other weights \(tiny\.gguf, not other\.gguf\)"):
        weights.check_adapter(out, other)


def test_an_adapter_of_another_shape_is_refused(tiny, tmp_path, train_file, loaded):
    out = tmp_path / "run_data/42"
    train_adapter(tiny, train_file, out, steps=1, rank=2, load=lambda: loaded)
    config = json.loads((out / "peft/adapter_config.json").read_text())
    write_json(out / "peft/adapter_config.json", {**config, "r": 5})
    model, _ = weights.load_model(tiny)
    with pytest.raises(InputError, match="made for other weights"):
        weights.load_adapter(model, out / "peft")
    with pytest.raises(InputError, match="no adapter in this folder; 06_finetune_model writes it"):
        weights.load_adapter(model, tmp_path)


def greedy(model, tokenizer, prompt, tokens=12):
    ids = tokenizer.encode(prompt)
    for _ in range(tokens):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] in (0, 2):
            break
    return ids[len(tokenizer.encode(prompt)) :]


SERVE = """
import json, os, sys, urllib.request
import xllamacpp as x
weights, adapter, prompt = sys.argv[1:]
p = x.CommonParams(); p.model.path = weights; p.n_parallel = 1; p.n_ctx = 256; p.ui = False; p.verbosity = -1; p.port = 0
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1; p.cache_prompt = False
if adapter: p.lora_adapters = [x.CommonAdapterLoraInfo(adapter, 1.0)]
s = x.Server(p); answers = []
for scale in (1.0, 0.0):
    body = {"prompt": prompt, "temperature": 0, "n_predict": 12, "return_tokens": True}
    if adapter: body["lora"] = [{"id": 0, "scale": scale}]
    request = urllib.request.Request(s.listening_address + "/completion", json.dumps(body).encode(), {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    answers.append(json.load(opener.open(request, timeout=60))["tokens"])
print(json.dumps(answers)); sys.stdout.flush(); os._exit(0)
"""


def serve(weights_file, adapter, prompt):
    """The greedy tokens of a llama.cpp server: with the adapter at scale 1 and at 0."""
    command = [sys.executable, "-c", SERVE, str(weights_file), str(adapter or ""), prompt]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr[-600:]
    return [[token for token in one if token not in (0, 2)] for one in json.loads(answer.stdout.splitlines()[-1])]


@pytest.mark.slow
def test_served_the_adapter_and_the_merged_file_say_what_torch_says(tiny, tmp_path, train_file):
    """The whole local path: train, write, serve, ask; at scale 0 the base answers."""
    out, prompt = tmp_path / "run_data/42", "Say 3.\nOutput:"
    train_adapter(tiny, train_file, out, steps=30, learning_rate=1e-2, rank=4, batch_rows=8, precision="float32")
    write_merged_gguf(tiny, out / "adapter.gguf", tmp_path / "merged.gguf")
    model, tokenizer = weights.load_model(tiny)
    before = greedy(model, tokenizer, prompt)
    after = greedy(weights.load_adapter(model, out / "peft"), tokenizer, prompt)
    kept = [[token for token in one if token not in (0, 2)] for one in (after, before)]
    assert before != after
    assert serve(tiny, out / "adapter.gguf", prompt) == kept
    assert serve(tmp_path / "merged.gguf", None, prompt)[0] == kept[0]
