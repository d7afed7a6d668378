"""Write `kubernetes_schemas.json`: of Kubernetes' own schemas those that `ops/kubernetes` needs.

    python tests/ops/take_kubernetes_schemas.py FOLDER

FOLDER is `kubernetes-json-schema/v1.36.0-local-strict` of the package kubernetes-validate, which
has 17,000 files for what are seven kinds here. Descriptions are left out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

KINDS: Final = {
    "apps/v1 Deployment": "deployment-apps-v1",
    "batch/v1 CronJob": "cronjob-batch-v1",
    "networking.k8s.io/v1 NetworkPolicy": "networkpolicy-networking-v1",
    "policy/v1 PodDisruptionBudget": "poddisruptionbudget-policy-v1",
    "v1 PersistentVolumeClaim": "persistentvolumeclaim-v1",
    "v1 Service": "service-v1",
    "v1 ServiceAccount": "serviceaccount-v1",
}
_DEFINED: Final = "#/$defs/"


def main(folder: Path) -> None:
    definitions = json.loads((folder / "_definitions.json").read_text())["$defs"]
    kinds = {kind: json.loads((folder / f"{n}.json").read_text()) for kind, n in KINDS.items()}
    taken: dict[str, Any] = {}

    def cut(value: Any) -> Any:
        if isinstance(value, list):
            return [cut(each) for each in value]
        if not isinstance(value, dict):
            return value
        found = {}
        for name, each in value.items():
            if name == "$ref" and isinstance(each, str):
                wanted = each.partition(_DEFINED)[2]
                if wanted not in taken:
                    taken[wanted] = None
                    taken[wanted] = cut(definitions[wanted])
                found[name] = f"{_DEFINED}{wanted}"
            elif name != "description" or not isinstance(each, str):
                found[name] = cut(each)
        return {name: each for name, each in found.items() if name not in ("$id", "$schema")}

    cut_kinds = {kind: cut(schema) for kind, schema in kinds.items()}
    told = {"from": f"Kubernetes {folder.name}", "kinds": cut_kinds, "$defs": taken}
    file = Path(__file__).with_name("kubernetes_schemas.json")
    file.write_text(json.dumps(told, sort_keys=True, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
