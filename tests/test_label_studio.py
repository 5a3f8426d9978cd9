"""The ML backend of docs/label_studio.md, asked over HTTP as Label Studio asks it."""

import json
import threading
from http.server import ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image

from local_server import serve
from test_docs import blocks, photos

__all__ = ["photos"]  # the fixture
CONFIG = """<View>
  <Image name="photo" value="$scan"/>
  <BrushLabels name="brush" toName="photo"><Label value="object"/></BrushLabels>
</View>"""


def unpacked(packed: list[int]) -> np.ndarray:
    """Label Studio's run lengths, whose runs are of one value, or value by value."""
    bits, place = "".join(f"{byte:08b}" for byte in packed), 0

    def number(count: int) -> int:
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    size, width = number(32), number(5) + 1
    lengths = [number(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < size:
        same, count = number(1), number(lengths[number(2)]) + 1
        values += count * [number(width)] if same else [number(width) for _ in range(count)]
    return np.array(values, np.uint8)


def asked(address: str, content: object = None) -> Any:  # noqa: ANN401 - JSON
    data = None if content is None else json.dumps(content).encode()
    with urlopen(Request(address, data, {"Content-Type": "application/json"})) as answer:
        return json.load(answer)


@pytest.fixture
def example(tmp_path: Path, photos: None, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the page's file defines, started beside ``support``."""
    monkeypatch.chdir(tmp_path)
    ((_, source),) = blocks("docs/label_studio.md")
    defined: dict[str, Any] = {}
    exec(compile(source, "backend.py", "exec"), defined)
    return defined


def test_a_task_gets_its_mask(tmp_path: Path, example: dict[str, Any]) -> None:
    query = sorted((tmp_path / "query").iterdir())[0]
    with (
        serve({"data/upload/1.png": query.read_bytes()}) as studio,
        ThreadingHTTPServer(("127.0.0.1", 0), example["Backend"]) as backend,
    ):
        example["studio"] = studio.address
        thread = threading.Thread(target=backend.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{backend.server_address[1]}"
            assert asked(f"{address}/health") == {"status": "UP"}
            assert asked(f"{address}/setup", {"project": "1", "schema": CONFIG}) == {"model_version": "mshnet_pl"}
            tasks = [{"id": 1, "data": {"scan": "/data/upload/1.png"}}]
            (answer,) = asked(f"{address}/predict", {"tasks": tasks, "label_config": CONFIG})["results"]
        finally:
            backend.shutdown()
            thread.join()
    (found,) = answer["result"]
    assert (found["from_name"], found["to_name"], found["value"]["brushlabels"]) == ("brush", "photo", ["object"])
    shape = found["original_height"], found["original_width"]
    mask = example["segmenter"].predict(Image.open(BytesIO(query.read_bytes())))
    assert mask.any() and shape == mask.shape
    assert np.array_equal(unpacked(found["value"]["rle"]).reshape(*shape, 4), np.repeat(255 * mask[..., None], 4, 2))


def test_long_runs(example: dict[str, Any]) -> None:
    mask = np.zeros((300, 400), bool)
    mask[100:250] = True
    assert np.array_equal(unpacked(example["run_lengths"](mask)), np.repeat(255 * mask, 4))
