"""Kafka and Redis on this machine, for development and tests: started, found again and ended. Does I/O.

``python -m shotbus.deploy.services up|down|status [--dir DIR] [--json]``. Each service is looked for in this
order: an address in the environment, a Docker engine, a local process.
"""

from __future__ import annotations

from shotbus.deploy.services.errors import ServiceError, ServiceMissingError
from shotbus.deploy.services.kafka import KafkaBroker, start_kafka
from shotbus.deploy.services.manager import Services
from shotbus.deploy.services.process import stop
from shotbus.deploy.services.redis import start_redis

__all__ = [
    "KafkaBroker",
    "ServiceError",
    "ServiceMissingError",
    "Services",
    "start_kafka",
    "start_redis",
    "stop",
]
