"""Draw test digits in the terminal, with what a running server takes them for and how sure it is.

python examples/digits/draw.py --data DIR 0 1 8
"""

import argparse
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

GREYS = " .:-=+*#%@"


def main() -> None:
    """One request for all digits asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", type=int, metavar="ROW", help="of the 10,000 test digits, 0 the first")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of mnist.npz, Keras's file; default: $TRIPTYCH_DATA"
    )
    parser.add_argument(
        "--address",
        default=os.environ.get("TRIPTYCH_ADDRESS", "localhost:8001"),
        metavar="HOST:PORT",
        help="default: $TRIPTYCH_ADDRESS, else localhost:8001",
    )
    options = parser.parse_args()
    images, truth = read(options.data, options.rows)
    pixels = InferInput("pixels", list(images.shape), "UINT8")
    pixels.set_data_from_numpy(images)
    best = InferRequestedOutput("probability", class_count=1)  # the server sorts, and knows the labels
    try:
        with InferenceServerClient(options.address) as client:
            answers = client.infer("digits", [pixels], outputs=[best]).as_numpy("probability")  # [N, 1]
    except InferenceServerException as error:
        raise SystemExit(f"error: {options.address}: {error.message()}") from None

    for row, image, [answer], label in zip(options.rows, images, answers, truth, strict=True):
        probability, _, digit = answer.decode().split(":")
        verdict = "right" if digit == str(label) else f"wrong: it is a {label}"
        print(f"{drawn(image)}\ntest digit {row}: {digit}, {float(probability):.1%} sure, {verdict}\n")


def read(folder: Path | None, rows: list[int]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """uint8 [N, 28, 28] and uint8 [N]: these test digits, and what they are."""
    named = folder or os.environ.get("TRIPTYCH_DATA")
    if not named:
        raise SystemExit("error: where is mnist.npz? Name its folder with --data or TRIPTYCH_DATA.")
    path = Path(named) / "mnist.npz"
    if not path.is_file():
        raise SystemExit(f"error: mnist.npz is missing: looked in {named}")
    with np.load(path) as file:
        images, labels = file["x_test"], file["y_test"]
    if not all(0 <= row < len(images) for row in rows):
        raise SystemExit(f"error: no such test digit: expected 0 to {len(images) - 1}")
    return images[rows], labels[rows]


def drawn(image: npt.NDArray[np.uint8]) -> str:
    """Lines of characters, the darker the more ink; two rows become one, for characters are taller than wide."""
    squat = image.reshape(14, 2, 28).mean(axis=1)
    lines = ["".join(GREYS[int(grey) * len(GREYS) // 256] for grey in line).rstrip() for line in squat]
    return "\n".join(lines).strip("\n")


if __name__ == "__main__":
    main()
