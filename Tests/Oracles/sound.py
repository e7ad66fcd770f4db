"""Samples of a real clip's 5.1 sound as the reference's loader gives them: torchaudio's `load` is torchcodec's decoder.

Needs torchcodec and numpy; run: `python Tests/Oracles/sound.py CLIPS`, where CLIPS holds the clips of Scripts/test-media.
"""

import json
import sys
from pathlib import Path

import torchcodec
from torchcodec.decoders import AudioDecoder

TARGET = Path(__file__).resolve().parent.parent / "Fixtures" / "sound.json"
STEP = 4999


def main() -> None:
    sound = AudioDecoder(str(Path(sys.argv[1]) / "bigbuckbunny.mp4")).get_all_samples()
    samples = sound.data.numpy()
    about = {
        "source": f"torchcodec {torchcodec.__version__}", "clip": "bigbuckbunny.mp4", "rate": sound.sample_rate,
        "count": samples.shape[1], "step": STEP, "channels": [[float(v) for v in c[::STEP]] for c in samples],
    }
    TARGET.write_text(json.dumps(about) + "\n")


if __name__ == "__main__":
    main()
