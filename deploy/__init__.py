"""Topic definitions, compose files and the local Kafka and Redis runner."""
