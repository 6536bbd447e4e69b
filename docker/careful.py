"""Says of every container in the resolved compose file and the Kubernetes files what it has and should not, or lacks and should have."""

import json
import re
import sys

import yaml

faults = []


def must(where, what, holds):
    if not holds:
        faults.append(f"{where}: {what}")


composes = [path for path in sys.argv[1:] if path.endswith(".json")]
manifests = [path for path in sys.argv[1:] if not path.endswith(".json")]
for compose in composes:
    with open(compose) as file:
        project = json.load(file)
    services = project["services"]
    must(compose, "room, marie, anga, fabien and nats", set(services) == {"room", "marie", "anga", "fabien", "nats"})
    for name, service in services.items():
        limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
        must(name, "read_only", service.get("read_only") is True)
        must(name, "cap_drop: [ALL] and no cap_add", service.get("cap_drop") == ["ALL"] and not service.get("cap_add"))
        must(name, "no-new-privileges", "no-new-privileges:true" in service.get("security_opt", []))
        must(name, "not privileged, no devices", not service.get("privileged") and not service.get("devices"))
        must(name, "namespaces of its own", not {"pid", "ipc", "network_mode", "userns_mode"} & set(service))
        must(name, "a user that is not root", service.get("user", "0").split(":")[0] not in ("", "0", "root"))
        must(name, "limits of processors, memory and processes", {"cpus", "memory", "pids"} <= set(limits))
        must(name, "a health check", service.get("healthcheck", {}).get("test"))
        must(name, "a tmpfs on /tmp", any(mount.startswith("/tmp") for mount in service.get("tmpfs", [])))
        must(name, "no port on the host", not service.get("ports"))
        for mount in service.get("volumes", []):
            outside = mount["type"] == "bind"
            must(name, f"{mount['target']} of the host is read-only", not outside or mount.get("read_only"))
        key = "ANTHROPIC_API_KEY" in service.get("environment", {})
        must(name, "the key is the room's alone", key == (name == "room"))
        passwords = set(re.findall("p0123-([A-Z]+)", " ".join(filter(None, service.get("environment", {}).values()))))
        must(name, "no password but its own", name == "nats" or passwords <= {name.upper()})
        if name not in ("room", "nats"):
            must(name, "no way out but the room", list(service["networks"]) == ["inside"])
    # The server's monitoring asks nobody who he is: loopback, or a network where the room is and nobody else.
    nats = services["nats"]
    monitor = nats["environment"].get("PODIUM_NATS_MONITOR", "127.0.0.1:8222").split(":")[0]
    if monitor != "127.0.0.1":
        named = [name for name, how in nats["networks"].items() if monitor in ((how or {}).get("aliases") or [])]
        must("nats", f"{monitor} names it on one network", len(named) == 1)
        for network in named:
            there = {name for name, service in services.items() if network in service["networks"]}
            must("nats", f"only the room is on {network} with it", there == {"nats", "room"})
            must("nats", f"{network} has no way out", project["networks"][network].get("internal") is True)

deployments = set()
for manifest in manifests:
    with open(manifest) as file:
        for document in yaml.safe_load_all(file):
            template = document.get("spec", {}).get("template")
            if not template:
                continue
            name = document["metadata"]["name"]
            if document["kind"] == "Deployment":
                deployments.add(name)
            pod = template["spec"]
            context = pod.get("securityContext", {})
            must(name, "its own selector", document["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items())
            must(name, "runAsNonRoot", context.get("runAsNonRoot") is True and context.get("runAsUser", 0) > 0)
            must(name, "seccomp", context.get("seccompProfile", {}).get("type") == "RuntimeDefault")
            must(name, "no token of the cluster", pod.get("automountServiceAccountToken") is False)
            must(name, "no namespaces of the host", not {"hostNetwork", "hostPID", "hostIPC"} & set(pod))
            volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
            claims = {claim["metadata"]["name"] for claim in document["spec"].get("volumeClaimTemplates", [])}
            must(name, "no folder of the host", not any("hostPath" in volume for volume in volumes.values()))
            for container in pod["containers"]:
                rights = container.get("securityContext", {})
                must(name, "allowPrivilegeEscalation: false", rights.get("allowPrivilegeEscalation") is False)
                must(name, "readOnlyRootFilesystem", rights.get("readOnlyRootFilesystem") is True)
                must(name, "capabilities dropped", rights.get("capabilities") == {"drop": ["ALL"]})
                must(name, "not privileged", not rights.get("privileged"))
                resources = container.get("resources", {})
                must(name, "requests and limits", {"cpu", "memory"} <= set(resources.get("limits", {})) & set(resources.get("requests", {})))
                must(name, "probes", {"livenessProbe", "readinessProbe"} <= set(container))
                for mount in container["volumeMounts"]:
                    must(name, f"the volume {mount['name']}", mount["name"] in volumes or mount["name"] in claims)
must("kubernetes", "a Deployment for the room and each agent", deployments == {"room", "marie", "anga", "fabien"})

for fault in faults:
    print(fault, file=sys.stderr)
sys.exit(1 if faults else 0)
