"""Records on the wire: Avro schemas, codec, packed arrays, ids, errors."""
