"""cluster.yaml and every block of docs/cluster.md are what Ray, KubeRay and bash take."""

from __future__ import annotations

import copy
import importlib.resources
import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[1]
FILE, PAGE = ROOT / "cluster.yaml", ROOT / "docs" / "cluster.md"
SCHEMA = json.loads(importlib.resources.files("ray.autoscaler").joinpath("ray-schema.json").read_text())

# What AWS and GCP take in a node_config, as far as it is used here (boto3 create_instances, compute.instances.insert).
NODE_CONFIG = {
    "aws": {"InstanceType", "BlockDeviceMappings", "InstanceMarketOptions", "IamInstanceProfile"},
    "gcp": {"machineType", "disks", "metadata", "scheduling", "serviceAccounts"},
}

# KubeRay's published fields (its API reference for ray.io/v1, and Kubernetes' for pods), as far as they are used here:
# a table of fields, a list of one for an array, a type, the values that it may have, or what a key's value must be.
_POD = {
    "spec": {
        "serviceAccountName": str,
        "containers": [
            {"name": str, "image": str, "resources": {"limits": {"cpu": str, "memory": str, "nvidia.com/gpu": str}}}
        ],
    }
}
_START = {"num-cpus": str}  # KubeRay takes strings only
RAY_JOB = {
    "apiVersion": {"ray.io/v1"},
    "kind": {"RayJob"},
    "metadata": {"name": str},
    "spec": {
        "entrypoint": str,
        "submissionMode": {"K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"},
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "backoffLimit": int,
        "rayClusterSpec": {
            "rayVersion": str,
            "authOptions": {"mode": {"token", "disabled"}},
            "headGroupSpec": {"rayStartParams": _START, "template": _POD},
            "workerGroupSpecs": [
                {
                    "groupName": str,
                    "replicas": int,
                    "minReplicas": int,
                    "maxReplicas": int,
                    "rayStartParams": _START,
                    "template": _POD,
                }
            ],
        },
    },
}


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def launcher_files():
    """Name -> each file for `ray up`: the GCP block takes the place of cluster.yaml's own keys."""
    aws = yaml.safe_load(FILE.read_text())
    gcp, own, _ = (yaml.safe_load(block) for block in blocks("yaml"))
    return {"aws": aws, "gcp": aws | gcp, "local": own}


def kuberay():
    return yaml.safe_load(blocks("yaml")[2])


def check_launcher(config):
    """Raise unless Ray takes the file: its schema, and what it does to a file before it starts anything."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    jsonschema.validate(config, SCHEMA)
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    known = NODE_CONFIG.get(config["provider"]["type"], set())
    for name, kind in config.get("available_node_types", {}).items():
        unknown = kind["node_config"].keys() - known
        assert not unknown, f"{name}: {unknown}"
    return prepared


def mistakes(value, rule, where="RayJob"):
    """Every place where a value is not as the table says."""
    if isinstance(rule, dict):
        if not isinstance(value, dict):
            return [f"{where}: no table"]
        unknown = [f"{where}.{key}: unknown" for key in value.keys() - rule.keys()]
        known = [mistakes(value[key], rule[key], f"{where}.{key}") for key in value.keys() & rule.keys()]
        return unknown + [mistake for found in known for mistake in found]
    if isinstance(rule, list):
        found = [mistakes(one, rule[0], f"{where}[]") for one in value] if isinstance(value, list) else [[where]]
        return [mistake for several in found for mistake in several]
    fits = value in rule if isinstance(rule, set) else type(value) is rule
    return [] if fits else [f"{where}: {value!r}"]


def test_every_block_of_the_page_is_checked_by_a_test_below():
    languages = re.findall(r"^```(\w+)$", PAGE.read_text(), re.MULTILINE)
    # The text is what commands have printed.
    assert sorted(languages) == ["bash"] * 5 + ["dockerfile", "text"] + ["yaml"] * 3
    assert len(blocks("bash")) == 5
    assert len(blocks("yaml")) == 3


@pytest.mark.parametrize("name", ["aws", "gcp", "local"])
def test_ray_takes_each_launcher_file(name):
    prepared = check_launcher(launcher_files()[name])
    assert prepared["max_workers"] == (2 if name == "local" else 8)


@pytest.mark.parametrize("name", ["aws", "gcp", "local"])
def test_a_wrong_launcher_file_is_refused(name):
    config = launcher_files()[name]
    for broken in (config | {"max_wokers": 8}, config | {"idle_timeout_minutes": "ten"}):
        with pytest.raises(jsonschema.ValidationError):
            check_launcher(broken)
    if name != "local":
        config["available_node_types"]["gpu"]["node_config"]["InstanceKind"] = "g5"
        with pytest.raises(AssertionError, match="InstanceKind"):
            check_launcher(config)
        with pytest.raises(ValueError, match="head_node_type"):
            check_launcher(launcher_files()[name] | {"head_node_type": "chief"})


@pytest.mark.parametrize("name", ["aws", "gcp", "local"])
def test_each_cluster_asks_for_the_token_and_answers_on_loopback(name):
    config = launcher_files()[name]
    starts = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    started = [command for command in starts if "ray start" in command]
    assert len(started) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in started)
    assert "--dashboard-host=127.0.0.1" in started[0]
    assert any(".ray/auth_token" in place for place in config["file_mounts"])
    assert any(re.fullmatch(r"chmod 600 \S+/\.ray/auth_token", command) for command in config["setup_commands"])


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_workers_come_for_trials_and_go_when_idle(name):
    config = launcher_files()[name]
    kinds = config["available_node_types"]
    assert (kinds["gpu"]["min_workers"], kinds["gpu"]["resources"]["GPU"]) == (0, 1)
    assert kinds[config["head_node_type"]]["resources"] == {"CPU": 0}
    assert config["idle_timeout_minutes"] > 0


def test_ray_takes_each_option_and_command_has_its_shell_syntax():
    from ray.scripts.scripts import cli

    commands = [command for config in launcher_files().values() for key, command in shell_commands(config)]
    assert len(commands) == 20
    for command in commands:
        bash_takes(command)
        for started in re.findall(r"ray start (.*)", command.replace("\n", " ")):
            options = {word.partition("=")[0] for word in shlex.split(started) if word.startswith("--")}
            assert options <= {name for option in cli.commands["start"].params for name in option.opts}


def shell_commands(config):
    for key in config:
        if key.endswith("_commands"):
            yield from ((key, command) for command in config[key])


def bash_takes(text):
    checked = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def test_bash_takes_each_block():
    for block in blocks("bash"):
        bash_takes(block)
    with pytest.raises(AssertionError, match="syntax error"):
        bash_takes(blocks("bash")[-1].replace("\nfi\n", "\n"))


def test_slurm_and_ray_take_the_batch_script():
    script = blocks("bash")[-1]
    asked = re.findall(r"^#SBATCH --([\w-]+)=", script, re.MULTILINE)
    assert asked == ["job-name", "nodes", "ntasks-per-node", "cpus-per-task", "gpus-per-task", "time"]
    from ray.scripts.scripts import cli

    own = {name for option in cli.commands["symmetric-run"].params for name in option.opts}
    started = {name for option in cli.commands["start"].params for name in option.opts}
    used = set(re.findall(r"(--[\w-]+)", script.partition("symmetric-run")[2].partition(" -- ")[0]))
    assert used == {"--address", "--min-nodes", "--num-cpus", "--num-gpus"}
    assert used <= own | started


def test_kuberay_takes_the_ray_job():
    job = kuberay()
    assert mistakes(job, RAY_JOB) == []
    bash_takes(job["spec"]["entrypoint"])
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}


def test_a_wrong_ray_job_is_refused():
    job = kuberay()
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    job["spec"]["shutdownAfterJobFinished"] = True
    job["kind"] = "RayJobs"
    assert sorted(mistakes(job, RAY_JOB)) == [
        "RayJob.kind: 'RayJobs'",
        "RayJob.spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus: 0",
        "RayJob.spec.shutdownAfterJobFinished: unknown",
    ]


def stale(text, locked):
    """Versions in a text that are not the locked ones, and how many there are."""
    found = re.findall(r"rayproject/(ray):([\d.]+)", text) + re.findall(r"(ray)Version: \"([\d.]+)\"", text)
    found += [pair for pair in re.findall(r"([\w.-]+)==([\w.]+)", text) if pair[0] in locked]
    return [pair for pair in found if locked[pair[0]] != pair[1]], len(found)


def test_pinned_versions_are_those_of_the_lock():
    locked = dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert stale(FILE.read_text(), locked) == ([], 2)
    assert stale(PAGE.read_text(), locked) == ([], 2)
    assert stale("image: rayproject/ray:2.9.0-py311", locked) == ([("ray", "2.9.0")], 1)
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tags = set(re.findall(r"rayproject/ray:[\d.]+-py(\d)(\d+)", FILE.read_text() + PAGE.read_text()))
    assert tags == {tuple(needed["requires-python"].removeprefix(">=").split("."))}
    assert set(re.findall(r"tuner:(\d[\d.]*\d)", PAGE.read_text())) == {needed["version"]}


def test_no_real_account_registry_or_key_is_named():
    text = FILE.read_text() + PAGE.read_text()
    assert not re.search(r"\b\d{12}\b|arn:|AKIA|\.dkr\.|gcr\.io|ghcr\.io|docker\.io", text)
