"""SecretFlow SPU as a peer: `(X @ q) > t` under ABY3, three simulated parties in one process.

Runs in a virtual environment of its own (SPU pins old versions of numpy and jax). Its simulator shares the gallery anew
at every call, so that cost is taken out: time for five probes less time for one, by four.
"""

import json
import statistics
import subprocess
import sys
import venv
from pathlib import Path

VERSION = "0.9.5"
_FURTHER = 4


def ms_a_probe(rows: int, dim: int, cache: Path) -> float:
    """Milliseconds of each further probe; installs SPU below `cache` the first time."""
    home = cache / f"spu-{VERSION}"
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", f"spu=={VERSION}"], check=True)
    run = subprocess.run([python, __file__, str(rows), str(dim)], check=True, capture_output=True, text=True)
    return float(json.loads(run.stdout.splitlines()[-1])["further_ms"])


def _time_in_here(rows: int, dim: int) -> None:
    import time

    import numpy as np
    import spu  # type: ignore[import-not-found]
    import spu.utils.simulation as simulation  # type: ignore[import-not-found]

    config = spu.RuntimeConfig(protocol=spu.ProtocolKind.ABY3, field=spu.FieldType.FM32)
    simulator = simulation.Simulator(3, config)
    rng = np.random.default_rng(0)
    gallery = rng.standard_normal((rows, dim)).astype(np.float32)
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    compare = simulation.sim_jax(simulator, lambda x, q: (x @ q) > 0.5)

    def median(probes: int) -> float:
        times = []
        for _ in range(4):
            started = time.perf_counter()
            compare(gallery, np.ascontiguousarray(gallery[:probes].T))
            times.append(time.perf_counter() - started)
        return statistics.median(times[1:])

    one, several = median(1), median(1 + _FURTHER)
    print(json.dumps({"further_ms": (several - one) / _FURTHER * 1e3, "first_ms": one * 1e3}))


if __name__ == "__main__":
    _time_in_here(int(sys.argv[1]), int(sys.argv[2]))
