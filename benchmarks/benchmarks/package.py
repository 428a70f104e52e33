"""What gramian costs whoever depends on it, before any call: its size and the time to import it."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

# In an interpreter of its own: nothing else of asv's process has been imported there.
CLOCK = "time.process_time()"
IMPORT = f"import time, numpy; t = {CLOCK}; import gramian; print({CLOCK} - t)"


class Package:
    """Of the processor's time, not the wall's: files are in the cache from the second import on."""

    def track_import_time(self) -> float:
        command = [sys.executable, "-c", IMPORT]
        return 1e3 * min(float(subprocess.check_output(command)) for _ in range(9))

    track_import_time.unit = "ms"
    track_import_time.pretty_name = "import gramian, beyond NumPy's own import"

    def track_installed_size(self) -> float:
        """Everything that pip has written, less what Python compiles by itself."""
        files = metadata.files("gramian")
        if not files:
            raise RuntimeError("gramian is not installed, or has no record of its files")
        sizes = (f.locate().stat().st_size for f in files if f.suffix != ".pyc")
        return sum(sizes) / 1e6

    track_installed_size.unit = "MB"
    track_installed_size.pretty_name = "installed size"
