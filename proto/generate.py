"""Generate Python code from the .proto files; `--check` only compares and changes nothing.

The generator's version sets the oldest runtime that the fleet may run: grpcio-tools below 1.82
writes code that both protobuf 6 and 7 accept, later ones refuse protobuf 6.
"""

from __future__ import annotations

import filecmp
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
PACKAGE = Path("virt_preflight/v1")
# Written by hand and kept beside the generated files.
KEPT = {"__init__.py", "py.typed"}


def generate(into: Path) -> None:
    """Write the code of every .proto file below `into`. Raises RuntimeError if protoc refuses."""
    well_known = files("grpc_tools") / "_proto"
    status = protoc.main(
        [
            "protoc",
            f"-I{HERE}",
            f"-I{well_known}",
            f"--python_out={into}",
            f"--grpc_python_out={into}",
            # The plugins of this very environment, whatever PATH says.
            f"--plugin=protoc-gen-mypy={BIN / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={BIN / 'protoc-gen-mypy_grpc'}",
            f"--mypy_out=quiet:{into}",
            f"--mypy_grpc_out=quiet:{into}",
            *(str(path) for path in sorted((HERE / PACKAGE).glob("*.proto"))),
        ]
    )
    if status != 0:
        raise RuntimeError(f"protoc ended with {status}")


def differences(fresh: Path, committed: Path) -> list[str]:
    """Names of files that are missing, left over or other than what is generated now."""
    treaty = {path.name for path in committed.glob("*.proto")}
    compared = filecmp.dircmp(fresh, committed, ignore=[*KEPT, *treaty, "__pycache__"])
    _, mismatch, errors = filecmp.cmpfiles(fresh, committed, compared.common_files, shallow=False)
    return sorted([*compared.left_only, *compared.right_only, *mismatch, *errors])


def main() -> int:
    """Generate in place, or compare when called with --check; 1 when something differs."""
    committed = HERE / PACKAGE
    if sys.argv[1:] != ["--check"]:
        generate(HERE)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        different = differences(Path(scratch) / PACKAGE, committed)
    for name in different:
        print(f"{committed / name}: not what generate.py writes")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
