"""Which classes of the benchmarks occur in ImageNet-1k: a backbone that was trained on it has seen those with labels."""

OCCURRING = {
    "aeroplane": "airliner", "bicycle": "mountain bike", "bird": "robin", "boat": "speedboat", "bottle": "water bottle",
    "bus": "school bus", "car": "sports car", "cat": "tabby", "chair": "folding chair", "cow": "ox",
    "diningtable": "dining table", "dog": "beagle", "horse": "sorrel", "motorbike": "moped", "pottedplant": "pot",
    "sheep": "ram", "sofa": "studio couch", "train": "bullet train", "tvmonitor": "television",
    "airplane": "airliner", "apple": "Granny Smith", "backpack": "backpack", "banana": "banana", "bear": "brown bear",
    "bed": "four-poster", "bench": "park bench", "book": "comic book", "bowl": "soup bowl", "broccoli": "broccoli",
    "cell phone": "cellular telephone", "clock": "wall clock", "couch": "studio couch", "cup": "cup",
    "dining table": "dining table", "elephant": "African elephant", "hair drier": "hand blower", "handbag": "purse",
    "hot dog": "hotdog", "keyboard": "computer keyboard", "knife": "cleaver", "laptop": "laptop",
    "microwave": "microwave", "motorcycle": "moped", "mouse": "mouse", "orange": "orange", "oven": "stove",
    "parking meter": "parking meter", "pizza": "pizza", "potted plant": "pot", "refrigerator": "refrigerator",
    "remote": "remote control", "sandwich": "cheeseburger", "sink": "washbasin", "skis": "ski", "spoon": "wooden spoon",
    "sports ball": "soccer ball", "stop sign": "street sign", "teddy bear": "teddy", "tennis racket": "racket",
    "tie": "Windsor tie", "toaster": "toaster", "toilet": "toilet seat", "traffic light": "traffic light",
    "truck": "trailer truck", "tv": "television", "umbrella": "umbrella", "vase": "vase", "wine glass": "goblet",
    "zebra": "zebra",
}  # fmt: skip
"""A category of ImageNet-1k by the class of PASCAL VOC or COCO that it shows; the other classes have none."""
_DATA = ("Pascal5i", "Coco20i")


def occurs(data: str, name: str) -> str:
    """``yes`` or ``no``; ``-`` for data sets other than PASCAL-5i and COCO-20i."""
    return ("yes" if name in OCCURRING else "no") if data in _DATA else "-"
