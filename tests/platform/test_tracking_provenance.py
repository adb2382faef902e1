"""Where results come from: code, versions, machine, and what their process used."""

import json

from spin_rl.platform.common import provenance as tracking_provenance
from spin_rl.platform.common.process_metrics import system_metrics
from spin_rl.platform.common.provenance import CODE, code, own_provenance


def test_provenance_names_code_versions_and_machine() -> None:
    provenance = own_provenance()
    assert len(provenance["code"].get("commit", "0" * 40)) == 40
    assert provenance["versions"]["python"].count(".") == 2
    assert provenance["machine"]["cores"] >= 1


def test_a_job_without_a_repository_knows_the_commit_it_was_sent_from(monkeypatch) -> None:
    sent = {"commit": "1" * 40, "dirty": True}
    monkeypatch.setenv(CODE, json.dumps(sent))
    monkeypatch.setattr(tracking_provenance, "_output", lambda *_command: "")
    assert code() == sent
    monkeypatch.delenv(CODE)
    assert code() == {}


class NoGPU:
    class cuda:  # noqa: N801, as torch has it
        @staticmethod
        def is_available() -> bool:
            return False


class OneGPU:
    class cuda(NoGPU.cuda):  # noqa: N801
        @staticmethod
        def is_available() -> bool:
            return True

        @staticmethod
        def mem_get_info() -> tuple[int, int]:
            return 3 * 2**30, 4 * 2**30

        @staticmethod
        def max_memory_allocated() -> int:
            return 2**29


def test_a_process_measures_its_own_usage() -> None:
    metrics = system_metrics(NoGPU)
    assert metrics["memory_gib"] > 0.01
    assert metrics["threads"] >= 1
    assert not any(name.startswith("gpu") for name in metrics)
    assert system_metrics(OneGPU).items() >= {"gpu_memory_gib": 0.5, "gpu_memory_used_percent": 25.0}.items()
