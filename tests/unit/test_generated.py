"""What is generated in the repository is what the code would generate now."""

import importlib.util
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_generated_files_are_fresh():
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "deploy/tools/generate_docs.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    for path, text in tool.generated().items():
        assert path.read_text() == text, f"{path} is stale: make docs"
