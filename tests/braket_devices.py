"""Devices of Amazon Braket that do not exist, as they tell of themselves."""

QPU = "arn:aws:braket:eu-north-1::device/qpu/nobody/Line"
SIMULATOR = "arn:aws:braket:::device/quantum-simulator/amazon/sv9"
LABELS = (1, 2, 3, 5, 8)


def header(name, version="1"):
    return {"name": f"braket.{name}", "version": version}


def capabilities(sets):
    """What the device says of itself: a line of five qubits with gaps in their labels."""
    pairs = list(zip(LABELS[:-1], LABELS[1:], strict=True))
    program = {
        "actionType": "braket.ir.openqasm.program",
        "version": ["1"],
        "supportedOperations": ["cz", "cnot", "rz", "v", "x", "i", "h", "prx"],
        "supportPhysicalQubits": True,
        "supportedResultTypes": [],
    }
    bundle = {"actionType": "braket.ir.openqasm.program_set", "version": ["1"]}
    bundle |= {"maximumExecutables": 12, "maximumTotalShots": 20_000}
    times = {"T1": {"value": 30.0, "unit": "us"}, "T2": {"value": 2e-05, "unit": "S"}}
    benchmarks = [_fidelity("RANDOMIZED_BENCHMARKING", 0.999), _fidelity("READOUT", 0.97)]
    two = {"twoQubitGateFidelity": [{"gateName": "CZ", **_fidelity("INTERLEAVED", 0.98)}]}
    return {
        "braketSchemaHeader": header("device_schema.iqm.iqm_device_capabilities"),
        "service": {
            "braketSchemaHeader": header("device_schema.device_service_properties"),
            "executionWindows": [],
            "shotsRange": [1, 5_000],
            "updatedAt": "2026-01-02T03:04:05",
        },
        "action": {"braket.ir.openqasm.program": program}
        | ({"braket.ir.openqasm.program_set": bundle} if sets else {}),
        "paradigm": {
            "braketSchemaHeader": header("device_schema.gate_model_qpu_paradigm_properties"),
            "qubitCount": len(LABELS),
            "nativeGateSet": ["cz", "prx"],
            "connectivity": {
                "fullyConnected": False,
                "connectivityGraph": {str(a): [str(b)] for a, b in pairs},
            },
        },
        "deviceParameters": {},
        "standardized": {
            "braketSchemaHeader": header("device_schema.standardized_gate_model_qpu_device_properties"),
            "oneQubitProperties": {str(one): {**times, "oneQubitFidelity": benchmarks} for one in LABELS},
            "twoQubitProperties": {f"{a}-{b}": two for a, b in pairs},
        },
    }


def _fidelity(name, value):
    return {"fidelityType": {"name": name}, "fidelity": value}


def simulator():
    """What a simulator of AWS says: no couplings, no program sets."""
    said = capabilities(sets=False)
    said["action"]["braket.ir.openqasm.program"]["supportPhysicalQubits"] = False
    del said["standardized"]
    said["paradigm"] = {"qubitCount": 20}
    return said
