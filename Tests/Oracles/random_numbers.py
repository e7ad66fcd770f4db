"""Makes Tests/Fixtures/torch/random.json: numbers that PyTorch draws from a generator with a known seed.

Run with PyTorch 2.x:  python Tests/Oracles/random_numbers.py
"""

import json
from pathlib import Path

import torch


def main() -> None:
    generator = torch.Generator().manual_seed(42)
    numbers = {
        "torch": torch.__version__,
        "seed": 42,
        # bfloat16 is left out: 2.13 draws other numbers than 2.11, which swift-ltx runs on.
        # In this order from one generator. 20 numbers take libtorch's vectorised path, 5 the other one.
        "normalVectorised": torch.randn(20, generator=generator).tolist(),
        "normalScalar": torch.randn(5, generator=generator).tolist(),
        "uniform": torch.rand(7, generator=generator).tolist(),
        "permutation": torch.randperm(10, generator=generator).tolist(),
        "normalDoubles": torch.randn(3, generator=generator, dtype=torch.float64).tolist(),
    }
    path = Path(__file__).parent.parent / "Fixtures" / "torch" / "random.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main()
