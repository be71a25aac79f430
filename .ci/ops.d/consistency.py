"""What the files in ops/ say of one another and of the service: consistency.py OPS FOLDER

Writes the dashboards' queries as rules into FOLDER, for promtool.
"""

import json
import re
import sys
from pathlib import Path

import yaml

OPS, TOOLS = Path(sys.argv[1]), Path(sys.argv[2])
ROOT = Path(__file__).resolve().parents[2]
SERVICE = ROOT / "examples/email_dispatch"
faults = []


def require(holds, fault):
    if not holds:
        faults.append(fault)


class Strict(yaml.SafeLoader):
    """Refuses a key that is there twice."""


def mapping(loader, node):
    keys = [key.value for key, _ in node.value]
    for key in {key for key in keys if keys.count(key) > 1}:
        raise yaml.YAMLError(f"{key} is there twice, {node.start_mark}")
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)


def parsed(file):
    text = file.read_text(encoding="utf-8")
    try:
        return [json.loads(text)] if file.suffix == ".json" else list(yaml.load_all(text, Strict))
    except (ValueError, yaml.YAMLError) as error:
        sys.exit(f"{file}: {error}")


FILES = {
    file.relative_to(OPS).as_posix(): parsed(file)
    for file in sorted(OPS.rglob("*"))
    if file.suffix in {".yaml", ".yml", ".json"}
}


def only(name):
    require(name in FILES, f"{name} is missing")
    return FILES.get(name, [{}])[0]


# --- the image and compose

COMPOSE = only("compose.yaml")
DOCKERFILE = (OPS / "Dockerfile").read_text(encoding="utf-8")
PLACES = {
    path for path in re.findall(r'\.route\("([^"]+)"', "".join(f.read_text() for f in SERVICE.glob("src/**/*.rs")))
}


def pinned(image, where):
    require(re.search(r":v?\d[^:]*$", image), f"{where}: the image {image} has no version")


def image_and_compose():
    for image in re.findall(r"^FROM (\S+)", DOCKERFILE, re.M):
        pinned(image, "Dockerfile")
    users = re.findall(r"^USER (\d+)", DOCKERFILE, re.M)
    require(users and users[-1] != "0", "Dockerfile: the last USER must be a number other than 0")
    require("\nHEALTHCHECK" in DOCKERFILE, "Dockerfile: there is no HEALTHCHECK")
    for path in re.findall(r"127\.0\.0\.1:8080(/[\w/]+)", DOCKERFILE):
        require(path in PLACES, f"Dockerfile: nothing is served at {path}")
    example = (OPS / ".env.example").read_text(encoding="utf-8")
    require(not re.search(r"^\w+=.", example, re.M), ".env.example: values are for whoever copies it")
    named = set(re.findall(r"^(\w+)=", example, re.M))
    text = (OPS / "compose.yaml").read_text(encoding="utf-8")
    asked = set(re.findall(r"\$\{(\w+):\?", text))
    require(
        asked == named,
        f".env.example: it and compose.yaml must ask for the same, and do not for {sorted(asked ^ named)}",
    )
    require("/ops/.env" in (ROOT / ".gitignore").read_text().split(), ".gitignore: ops/.env must be in it")
    services = COMPOSE.get("services", {})
    for name, service in services.items():
        pinned(service["image"], f"compose.yaml, {name}")
        require("healthcheck" in service or "build" in service, f"compose.yaml, {name}: there is no healthcheck")
        for other, how in service.get("depends_on", {}).items():
            require(
                how.get("condition") == "service_healthy",
                f"compose.yaml, {name}: it must wait until {other} is healthy",
            )
        for port in service.get("ports", []):
            require(port.startswith("127.0.0.1:"), f"compose.yaml, {name}: port {port} is open to everybody")
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN|SECRET|KEYS", variable) or re.search(r"://[^/@]+:[^/@]+@", value):
                require("${" in value, f"compose.yaml, {name}: {variable} must come from .env")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            where = OPS / source if source.startswith(".") else None
            there = where.exists() if where else source in COMPOSE.get("volumes", {})
            require(there, f"compose.yaml, {name}: there is no {source}")
    require(
        {"email-dispatch", "kafka", "postgres", "mailpit", "prometheus", "grafana"} <= set(services),
        "compose.yaml: a service is missing",
    )


# --- Kubernetes

MANIFESTS = [doc for name, docs in FILES.items() if name.startswith("kubernetes/") for doc in docs if "kind" in doc]


def manifest(kind, name=None):
    found = [doc for doc in MANIFESTS if doc["kind"] == kind and name in (None, doc["metadata"]["name"])]
    require(len(found) == 1, f"kubernetes: there must be one {kind} {name or ''}, not {len(found)}")
    return found[0] if found else {}


def seconds(time):
    number, unit = re.fullmatch(r"(\d+)(s|m)", time).groups()
    return int(number) * {"s": 1, "m": 60}[unit]


def kubernetes():
    pod = manifest("Deployment")["spec"]["template"]
    spec, labels = pod["spec"], pod["metadata"]["labels"]
    container = spec["containers"][0]
    environment = manifest("ConfigMap", "email-dispatch-environment")["data"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        path = container[probe]["httpGet"]["path"]
        require(path in PLACES, f"deployment.yaml: nothing is served at {path}, where the {probe} looks")
    for kind in ("Service", "PodDisruptionBudget", "ServiceMonitor", "Deployment"):
        wanted = manifest(kind)["spec"]["selector"]
        wanted = wanted.get("matchLabels", wanted)
        on = manifest("Service")["metadata"]["labels"] if kind == "ServiceMonitor" else labels
        require(wanted.items() <= on.items(), f"kubernetes: the {kind} selects {wanted}, and there is {on}")
    port = manifest("Service")["spec"]["ports"][0]
    ports = {p["name"] for p in container["ports"]}
    require(port["targetPort"] in ports, f"service.yaml: the Pod has no port {port['targetPort']}")
    endpoint = manifest("ServiceMonitor")["spec"]["endpoints"][0]
    require(endpoint["port"] == port["name"], f"servicemonitor.yaml: the Service has no port {endpoint['port']}")
    notice, limit = (seconds(environment[f"EMAIL_DISPATCH_SHUTDOWN_{name}"]) for name in ("NOTICE", "TIME_LIMIT"))
    needed = max(notice, limit) + 20 + limit
    grace = spec["terminationGracePeriodSeconds"]
    require(
        grace >= needed,
        f"deployment.yaml: terminationGracePeriodSeconds is {grace}, and shutting down may take {needed} s",
    )
    grace = COMPOSE["services"]["email-dispatch"]["stop_grace_period"]
    require(seconds(grace) >= 80, f"compose.yaml: stop_grace_period is {grace}, and shutting down may take 80 s")
    user = str(spec["securityContext"]["runAsUser"])
    require(f"\nUSER {user}:" in DOCKERFILE, f"deployment.yaml: runAsUser {user} is not the Dockerfile's")
    for source in container["envFrom"]:
        kind = "ConfigMap" if "configMapRef" in source else "Secret"
        manifest(kind, next(iter(source.values()))["name"])
    for volume in spec["volumes"]:
        if "configMap" in volume:
            manifest("ConfigMap", volume["configMap"]["name"])
    require(
        {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in spec["volumes"]},
        "deployment.yaml: volumes and mounts must be the same",
    )
    require(not any("subPath" in m for m in container["volumeMounts"]), "deployment.yaml: a subPath is never updated")
    for name, value in manifest("Secret")["stringData"].items():
        require(value == "CHANGE-ME", f"secret.yaml: {name} must be a placeholder")
    settings = manifest("ConfigMap", "email-dispatch-policies")["data"]["resilience4j.yaml"]
    require(
        settings == (OPS / "settings/resilience4j.yaml").read_text(),
        "configmap.yaml: the policies must be those of settings/resilience4j.yaml",
    )
    require(
        manifest("PrometheusRule")["spec"] == only("prometheus/rules.yml"),
        "prometheusrule.yaml: the rules must be those of prometheus/rules.yml",
    )
    listed = set(only("kubernetes/kustomization.yaml")["resources"])
    there = {Path(name).name for name in FILES if name.startswith("kubernetes/")} - {
        "kustomization.yaml",
        "prometheus-adapter-values.yaml",
    }
    require(listed == there, f"kustomization.yaml: it must list all manifests, and does not {sorted(listed ^ there)}")
    scaled = manifest("HorizontalPodAutoscaler")["spec"]
    require(
        scaled["scaleTargetRef"]["name"] == manifest("Deployment")["metadata"]["name"],
        "hpa.yaml: it scales something else",
    )
    wanted = {m["pods"]["metric"]["name"] for m in scaled["metrics"] if m["type"] == "Pods"}
    served = {rule["name"]["as"] for rule in only("kubernetes/prometheus-adapter-values.yaml")["rules"]["custom"]}
    require(wanted and wanted <= served, f"hpa.yaml: the adapter has no {sorted(wanted - served)}")


def environment():
    readme = (SERVICE / "README.md").read_text(encoding="utf-8")
    used = set(COMPOSE["services"]["email-dispatch"]["environment"])
    for doc in (manifest("ConfigMap", "email-dispatch-environment").get("data"), manifest("Secret").get("stringData")):
        used |= set(doc)
    used |= set(re.findall(r"\b(EMAIL_DISPATCH_[A-Z_]+)=", DOCKERFILE))
    known = set(re.findall(r"\b[A-Z][A-Z_]+\b", readme))
    require(used <= known, f"the service's README knows no {sorted(used - known)}")


# --- Prometheus and Grafana

RULES = [rule for group in only("prometheus/rules.yml")["groups"] for rule in group["rules"]]
DASHBOARDS = {name: docs[0] for name, docs in FILES.items() if name.startswith("grafana/dashboards/")}
WORDS = {
    "and",
    "or",
    "unless",
    "bool",
    "offset",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "by",
    "without",
    "Inf",
    "NaN",
}
TARGET_LABELS = {"job", "instance", "namespace", "pod", "__name__"}


def selected(query):
    """The series of a query, each with the labels that it is selected by."""
    query = re.sub(r"\[[^]]*\]", "", query)
    found = []

    def take(match):
        name, labels = match.groups()
        found.append((name, set(re.findall(r"(\w+)\s*[=!]", re.sub(r'"[^"]*"', '""', labels)))))
        return " "

    query = re.sub(r'([a-zA-Z_:][\w:]*)?\{((?:[^"}]|"[^"]*")*)\}', take, query)
    query = re.sub(r'"[^"]*"', '""', query)
    query = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", query)
    query = re.sub(r"\b\d[\w.]*", " ", query)
    found += [(name, set()) for name in re.findall(r"[a-zA-Z_:][\w:]*(?!\s*\()(?![\w:])", query) if name not in WORDS]
    return found


def queries():
    """Every query there is, and where it is."""
    for rule in RULES:
        yield "rules.yml, " + rule.get("record", rule.get("alert")), rule["expr"]
    for name, board in DASHBOARDS.items():
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                yield f"{name}, {panel['title']}", target["expr"]
        for variable in board["templating"]["list"]:
            values = re.fullmatch(r"label_values\((.*), \w+\)", variable.get("definition", ""))
            if values:
                yield f"{name}, ${variable['name']}", values[1]
    for test in only("prometheus/rules.test.yml")["tests"]:
        for series in test["input_series"]:
            yield f"rules.test.yml, {test['name']}", series["series"]
    for rule in only("kubernetes/prometheus-adapter-values.yaml")["rules"]["custom"]:
        yield "prometheus-adapter-values.yaml", rule["seriesQuery"]


def exported():
    """Every series there is, with its labels, `None` for any; nothing where the list of the crate's is missing."""
    names = {rule["record"]: None for rule in RULES if "record" in rule}
    counters = (SERVICE / "src/counters.rs").read_text(encoding="utf-8")
    labels = set(re.findall(r'"(\w+)" =>', counters))
    names |= {name: labels for name in re.findall(r'describe_\w+!\("(\w+)"', counters)}
    file = ROOT / "tests/metrics_names.txt"
    if not file.exists():
        return None
    for line in file.read_text(encoding="utf-8").splitlines():
        name, _, labels, _ = line.split(" ", 3)
        names[name] = set(labels.split(","))
    return names


def series():
    names = exported()
    if names is None:
        print("skipped: the names of series, since there is no tests/metrics_names.txt")
        return
    for where, query in queries():
        for name, labels in selected(query):
            if not name:
                continue
            require(name in names, f"{where}: nothing exports {name}")
            extra = labels - TARGET_LABELS - (names.get(name) or labels)
            require(not extra, f"{where}: {name} has no label {', '.join(sorted(extra))}")


def alerts():
    tests = [t for test in only("prometheus/rules.test.yml")["tests"] for t in test.get("alert_rule_test", [])]
    for alert in (rule for rule in RULES if "alert" in rule):
        fired = {bool(t["exp_alerts"]) for t in tests if t["alertname"] == alert["alert"]}
        require(fired == {True, False}, f"rules.test.yml: {alert['alert']} must be seen to fire and not to fire")
        require(
            {"summary", "description"} <= set(alert["annotations"]), f"rules.yml: {alert['alert']} must say what to do"
        )
        require("severity" in alert["labels"], f"rules.yml: {alert['alert']} has no severity")


def thresholds():
    """A breaker's threshold in the rules is that of the settings."""
    breakers = only("settings/resilience4j.yaml")["resilience4j"]["circuitbreaker"]
    rule = next(r["expr"] for r in RULES if r.get("record") == "resile:circuitbreaker_failure_rate_threshold:percent")
    ruled = [
        (pattern or ".*", int(percent))
        for pattern, percent in re.findall(r'failure_rate(?:\{name=~"([^"]+)"\})?\) \* (\d+)', rule)
    ]
    for name, instance in breakers["instances"].items():
        config, settings = instance.get("base-config", "default"), instance
        while "failure-rate-threshold" not in settings:
            settings = breakers["configs"][config]
            config = settings.get("base-config", "default")
        at = next(percent for pattern, percent in ruled if re.fullmatch(pattern, name))
        require(
            at == settings["failure-rate-threshold"],
            f"rules.yml: the threshold of {name} is {at}, in the settings it is {settings['failure-rate-threshold']}",
        )


STATES = {"closed", "open", "half_open", "forced_open", "disabled", "metrics_only"}


def dashboards():
    sources = {d["type"] for d in only("grafana/provisioning/datasources/prometheus.yaml")["datasources"]}
    require("prometheus" in sources, "grafana: there is no data source for the dashboards")
    folder = only("grafana/provisioning/dashboards/dashboards.yaml")["providers"][0]["options"]["path"]
    mounts = COMPOSE["services"]["grafana"]["volumes"]
    require(f"./grafana/dashboards:{folder}:ro" in mounts, f"compose.yaml: the dashboards are not at {folder}")
    require(
        len({board["uid"] for board in DASHBOARDS.values()}) == len(DASHBOARDS), "grafana: two dashboards have one uid"
    )
    for name, board in DASHBOARDS.items():
        variables = {v["name"] for v in board["templating"]["list"]}
        panels = board["panels"]
        require(len({p["id"] for p in panels}) == len(panels), f"{name}: two panels have one id")
        taken = set()
        for panel in panels:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            require(
                at["x"] + at["w"] <= 24 and not cells & taken,
                f"{name}, {panel['title']}: it lies over another, or too far right",
            )
            taken |= cells
            text = json.dumps(panel)
            for variable in set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval"}:
                require(variable in variables, f"{name}, {panel['title']}: there is no variable {variable}")
            for target in panel.get("targets", []):
                require(
                    target["datasource"]["uid"] == "${datasource}",
                    f"{name}, {panel['title']}: it has a data source of its own",
                )
    board = DASHBOARDS.get("grafana/dashboards/resile.json", {"panels": []})
    rows = [i for i, p in enumerate(board["panels"]) if p["type"] == "row" and p.get("repeat") == "breaker"]
    require(len(rows) == 1, "resile.json: there must be one row that is repeated for each breaker")
    tiles = [p for p in board["panels"][rows[0] + 1 :] if p["type"] == "stat"] if rows else []
    shown = [set(re.findall(r'state="(\w+)"', p["targets"][0]["expr"])) for p in tiles]
    require(
        len(shown) == 6 and set().union(*shown) == STATES,
        "resile.json: each breaker must have a tile for each of its six states",
    )


def queries_as_rules():
    """The dashboards' queries, for promtool to parse. What Grafana puts in is put in."""
    rules, boards = [], [(w, q) for w, q in queries() if ".json" in w and "$breaker" not in w.split(", ")[-1]]
    for index, (_, query) in enumerate(boards):
        rules.append({"record": f"query:{index}", "expr": query.replace("$__rate_interval", "5m")})
    (TOOLS / "dashboards.yml").write_text(
        yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}), encoding="utf-8"
    )


for part in (image_and_compose, kubernetes, environment, series, alerts, thresholds, dashboards, queries_as_rules):
    try:
        part()
    except (KeyError, IndexError, TypeError, AttributeError, StopIteration) as error:
        faults.append(f"{part.__name__}: something is missing: {error!r}")
print("\n".join(dict.fromkeys(faults)))
sys.exit(bool(faults))
