"""Regenerates what is generated in the repository; tests fail when it is stale. Writes files.

``make docs``: the topic definitions in deploy/kafka, the diagram and the tables of docs/states.md,
the table of docs/invariants.md.
"""

from __future__ import annotations

import json
import pathlib
import re

from shotbus.broker.config import Config
from shotbus.broker.connect import KAFKA_PARTITIONS
from shotbus.broker.dispatcher.states import WORDS, mermaid
from shotbus.broker.invariants import CATALOG
from shotbus.broker.topics import Topics

ROOT = pathlib.Path(__file__).resolve().parents[2]


def topic_definitions() -> str:
    """Return the declared topics of a Kafka deployment as JSON, one line a topic."""
    config = Config()
    topics = Topics(partitions=KAFKA_PARTITIONS, classes=tuple(config.classes))
    lines = [
        json.dumps(
            {
                "name": spec.name,
                "partitions": spec.partitions,
                "cleanup": spec.cleanup,
                "retention_ms": spec.retention_ms,
                "max_record_bytes": spec.max_record_bytes,
            }
        )
        for spec in topics.specs(config.pools)
    ]
    return "[\n  " + ",\n  ".join(lines) + "\n]\n"


def states_page() -> str:
    """Return docs/states.md with its generated parts as they should be."""
    rows = [f"| {phase.value} | {words.status} | {words.sub_status} |" for phase, words in WORDS.items()]
    words = "\n".join(["| phase | status | sub_status |", "|---|---|---|", *rows])
    text = (ROOT / "docs" / "states.md").read_text(encoding="utf-8")
    return _filled(_filled(text, "diagram", f"```mermaid\n{mermaid()}```"), "words", words)


def invariants_page() -> str:
    """Return docs/invariants.md with its table as it should be."""
    rows = [
        f"| {name} | **{one.title}** | {one.judged} | {', '.join(one.needs)} | {one.beyond} |"
        for name, one in CATALOG.items()
    ]
    head = ["| | promise | judged by | needs | beyond this |", "|---|---|---|---|---|"]
    text = (ROOT / "docs" / "invariants.md").read_text(encoding="utf-8")
    return _filled(text, "invariants", "\n".join([*head, *rows]))


def _filled(text: str, name: str, content: str) -> str:
    start = f"<!-- generated: {name} -->"
    return re.sub(
        f"{start}\n.*?<!-- end -->", lambda _: f"{start}\n{content}\n<!-- end -->", text, flags=re.DOTALL
    )


def generated() -> dict[pathlib.Path, str]:
    """Return what each generated file should contain."""
    return {
        ROOT / "deploy" / "kafka" / "topics.json": topic_definitions(),
        ROOT / "docs" / "states.md": states_page(),
        ROOT / "docs" / "invariants.md": invariants_page(),
    }


def main() -> None:
    """Write every generated file."""
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
