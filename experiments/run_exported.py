"""Segment with an exported network and without this package (NumPy, ONNX Runtime and Pillow only).

python run_exported.py network.onnx query.jpg support.jpg support_mask.png out.png
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image

network, query, support, mask, out = sys.argv[1:]
session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
size = int(session.get_modelmeta().custom_metadata_map["image_size"])


def image(path: str) -> np.ndarray:
    """(3, size, size) float32, normalised with ImageNet's mean and standard deviation."""
    pixels = np.array(Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BILINEAR), np.float32) / 255
    return ((pixels - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])).transpose(2, 0, 1)


drawn = np.array(Image.open(mask)) > 0  # (height, width), anything but 0 is the object
rows, columns = (np.arange(size) * side // size for side in drawn.shape)
inputs = {"query": image(query)[None], "support": image(support)[None, None]}
inputs["support_mask"] = drawn[rows][:, columns][None, None].astype(np.float32)
(logits,) = session.run(None, inputs)  # (1, 2, size, size)
margin = Image.fromarray(logits[0, 1] - logits[0, 0]).resize(Image.open(query).size, Image.Resampling.BILINEAR)
Image.fromarray((np.array(margin) > 0).astype(np.uint8) * 255).save(out)
