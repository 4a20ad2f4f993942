"""Regenerates what is generated in the repository; tests fail when it is stale. Writes files.

``make docs``: the topic definitions in deploy/kafka.
"""

from __future__ import annotations

import json
import pathlib

from shotbus.broker.config import Config
from shotbus.broker.connect import KAFKA_PARTITIONS
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


def generated() -> dict[pathlib.Path, str]:
    """Return what each generated file should contain."""
    return {ROOT / "deploy" / "kafka" / "topics.json": topic_definitions()}


def main() -> None:
    """Write every generated file."""
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
