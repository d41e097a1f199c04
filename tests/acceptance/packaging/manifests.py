"""What the manifests of packaging/kubernetes say of the pods: nothing that a pod need not have.

    manifests.py FOLDER OUT     writes the files of the ConfigMap into OUT, and prints what each container runs
"""

import pathlib
import re
import sys

import yaml

SECRETIVE = re.compile("KEY|SECRET|TOKEN|PASSWORD")


def documents(folder):
    for file in sorted(pathlib.Path(folder).glob("*.yaml")):
        yield from yaml.safe_load_all(file.read_text())


def pod_of(document):
    spec = document["spec"]
    if document["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return spec["template"]["spec"]


def check_pod(pod, claims, files):
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    context = pod["securityContext"]
    assert context["runAsNonRoot"] and context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] == 65532
    assert context["seccompProfile"]["type"] == "RuntimeDefault"
    volumes = {volume["name"]: volume for volume in pod["volumes"]} | {claim: {} for claim in claims}
    for container in pod["containers"]:
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"] and rights["allowPrivilegeEscalation"] is False
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"] and "cpu" in container["resources"]["requests"]
        for variable in container.get("env", []):
            assert "value" in variable and not SECRETIVE.search(variable["name"]), variable
            assert ":" not in variable["value"].partition("@")[0].removeprefix("postgres://"), "a password in a URL"
        assert not container.get("envFrom")
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        assert set(mounts) == {"/etc/healthex-sync", "/var/lib/healthex-sync"}
        assert mounts["/etc/healthex-sync"]["readOnly"] and not mounts["/var/lib/healthex-sync"].get("readOnly")
        assert all(mount["name"] in volumes for mount in mounts.values())
    projected = volumes["configuration"]["projected"]
    assert projected["defaultMode"] == 0o440
    for source in projected["sources"]:
        ((_, named),) = source.items()
        assert named["name"] in files, named


def main(folder, out):
    found = list(documents(folder))
    by_kind = {}
    for document in found:
        by_kind.setdefault(document["kind"], []).append(document)
    (configuration,) = by_kind["ConfigMap"]
    files = {document["metadata"]["name"] for document in by_kind["ConfigMap"] + by_kind["Secret"]}
    for secret in by_kind["Secret"]:
        assert not any(secret["stringData"].values()), "a secret that is filled in"
    (workers,) = by_kind["StatefulSet"]
    claims = [claim["metadata"]["name"] for claim in workers["spec"]["volumeClaimTemplates"]]
    # The ledger of purges lies in it.
    assert claims == ["state"]
    assert set(workers["spec"]["persistentVolumeClaimRetentionPolicy"].values()) == {"Retain"}
    for document in by_kind["StatefulSet"] + by_kind["Job"] + by_kind["CronJob"]:
        pod = pod_of(document)
        check_pod(pod, claims if document is workers else [], files)
        owner = "healthex-sync-owner" in str(pod["volumes"])
        assert owner == (document is not workers), "the owner's password is the owner's jobs' alone"
        for container in pod["containers"]:
            print(container["image"].rpartition(":")[2], *container["args"])
    (container,) = pod_of(workers)["containers"]
    probes = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ["startup", "liveness", "readiness"]}
    assert probes == {"startup": "/healthz?alive", "liveness": "/healthz?alive", "readiness": "/healthz"}, probes
    labels = workers["spec"]["template"]["metadata"]["labels"]
    selectors = [workers["spec"]["selector"]["matchLabels"], by_kind["Service"][0]["spec"]["selector"]]
    selectors += [budget["spec"]["selector"]["matchLabels"] for budget in by_kind["PodDisruptionBudget"]]
    assert all(selector.items() <= labels.items() for selector in selectors)
    assert workers["spec"]["serviceName"] == by_kind["Service"][0]["metadata"]["name"]
    port = container["ports"][0]["containerPort"]
    assert f':{port}"' in configuration["data"]["healthex-sync.toml"], "it listens elsewhere"
    for name, text in configuration["data"].items():
        pathlib.Path(out, name).write_text(text)


main(*sys.argv[1:])
