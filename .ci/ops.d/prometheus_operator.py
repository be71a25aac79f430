"""Manifests by the models of the Prometheus operator: prometheus_operator.py FILE..."""

import sys

import yaml
from cloudcoil.models.prometheus_operator import v1


def unknown(given, understood, path=""):
    """The models let unknown fields pass and forget them: what is not there afterwards was not understood."""
    if isinstance(given, dict):
        for key, value in given.items():
            if not isinstance(understood, dict) or key not in understood:
                yield f"{path}.{key}"
            else:
                yield from unknown(value, understood[key], f"{path}.{key}")
    elif isinstance(given, list):
        for index, value in enumerate(given):
            yield from unknown(value, understood[index], f"{path}[{index}]")


for file in sys.argv[1:]:
    with open(file, encoding="utf-8") as text:
        manifest = yaml.safe_load(text)
    model = getattr(v1, manifest["kind"]).model_validate(manifest)
    fields = list(unknown(manifest, model.model_dump(by_alias=True, exclude_unset=True, mode="json")))
    if fields:
        sys.exit(f"{file}: the schema does not know {', '.join(fields)}")
