"""What PyYAML makes of scalars, and pydantic of those, as the official trainer reads its configuration with them.

    venv/bin/python Tests/Oracles/yaml_scalars.py

writes Tests/Fixtures/yaml-scalars.json. Needs pyyaml and pydantic.
"""

import json
import math
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError

SCALARS = """
1 1.0 1.5 '1' ' 1 ' '1.0' '1.00' '1.5' '1.' '.0' '1_000' 1_000 '1__0' 1__0 '_1' '1_' '01' '+1' +1 -1 '-1' -0 '1e3' 1e3
1E-4 1e-4 1.0e-4 1.0e+3 1.0e3 1.e3 1.e+3 true True tRue yes YES on y n off no 'yes' 'true' 't' 'off' 'no' 'oN' 'F' null
Null nULL ~ '' 0x10 '0x10' 0x -0x1F 010 0o10 09 0_7 0b11 0b -0b1 1:30 1:30.5 -1:30 12:60 12:5 190:20:30.15 .5 -.5 '.5' '5.'
.5_ ._5 2001-01-01 2001-1-1 2001-12-14t21:59:43.10-05:00 '2001-01-01' 9223372036854775807 1e400 '1e400' .inf -.inf +.inf
.Inf 'inf' 'Infinity' '-inf' 'iNf' .nan .NAN 'nan' '+nan' '1_000.5' '1_0.0' '1,5' '1e' '0.0' 0.0 0.5 2 '2' a 'a' + _1 . ..
1.2.3 1-2 1a '1_.5' '+_1' '1e_5' '._5' '1.0_' '1_.0'
""".split()
# A space in quotes splits the words above.
SCALARS = [s for s in SCALARS if s.count("'") != 1] + ["' 1 '", "'- 1'", "' true '", "'1 0'"]


def lax(kind, value):
    try:
        return {"value": shown(TypeAdapter(kind).validate_python(value))}
    except ValidationError:
        return None


def shown(value):
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


rows = []
for text in SCALARS:
    value = yaml.safe_load(f"x: {text}")["x"]
    rows.append(
        {
            "text": text,
            "type": type(value).__name__,
            **{kind.__name__: lax(kind, value) for kind in (int, float, bool, str)},
        }
    )
path = Path(__file__).parent.parent / "Fixtures" / "yaml-scalars.json"
path.write_text("[\n" + ",\n".join(json.dumps(r, ensure_ascii=False) for r in rows) + "\n]\n")
print(len(rows), "scalars in", path)
