"""Ask a running server for the price of hotels, by both models, over the Open Inference Protocol.

python examples/hotels/ask.py 0.3,4.6 7.3,4.6 19.4,4.8
"""

import argparse
import os

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

MODELS = ("hotels_linear", "hotels_network")


def main() -> None:
    """One request a model, whatever the number of hotels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hotels", nargs="+", type=hotel, metavar="MILES,STARS", help="distance from the centre, rating")
    parser.add_argument(
        "--address",
        default=os.environ.get("TRIPTYCH_ADDRESS", "localhost:8001"),
        metavar="HOST:PORT",
        help="default: $TRIPTYCH_ADDRESS, else localhost:8001",
    )
    options = parser.parse_args()
    features = np.array(options.hotels, np.float32)  # [N, 2]
    tensor = InferInput("features", list(features.shape), "FP32")
    tensor.set_data_from_numpy(features)
    try:
        with InferenceServerClient(options.address) as client:
            prices = [client.infer(model, [tensor]).as_numpy("price")[:, 0] for model in MODELS]
    except InferenceServerException as error:
        raise SystemExit(f"error: {options.address}: {error.message()}") from None

    print("miles  stars  " + "  ".join(f"{model:>14}" for model in MODELS))
    for (miles, stars), *answers in zip(features, *prices, strict=True):
        print(f"{miles:5.1f}  {stars:5.1f}  " + "  ".join(f"{answer:10.2f} USD" for answer in answers))


def hotel(text: str) -> tuple[float, float]:
    """Two numbers with a comma between."""
    miles, stars = map(float, text.split(","))
    return miles, stars


if __name__ == "__main__":
    main()
